//! One attempt in a report: how its seed came about, what was drawn, and what followed.

use cairn_ledger::lottery::beacon;
use cairn_proto::v1;

use super::html::{Cell, Html};
use super::page::{Subject, fact, hash, number, place};
use super::words::{self, Both};
use crate::commands::lottery::history::{Attempt, Entry, Objected};
use crate::output::count;

/// Batches that are listed one by one; of more, the first and the last are named.
const MAX_BATCHES: usize = 60;

/// Writes an attempt's section.
pub fn section(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    let (state, all) = (attempt.state, subject.rules.max_attempts);
    let number = state.attempt;
    page.section(Both::of(
        format!("第 {number} 次抽签（最多 {all} 次）"),
        format!("Attempt {number} of at most {all}"),
    ));
    void(page, subject, attempt);
    if state.contributions_close_ms > 0 {
        seed(page, subject, attempt);
        contributions(page, subject, attempt);
    } else {
        page.paragraph(Both::of(
            "种子尚未开始提交。",
            "Contributions to the seed have not begun.",
        ));
    }
    if !state.seed.is_empty() {
        results(page, subject, attempt);
        batches(page, subject, attempt);
    }
    objections(page, attempt);
    certificate(page, subject, attempt);
    promotions(page, subject, attempt);
}

fn void(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    let Some((entry, void)) = attempt.void else {
        return;
    };
    page.markup("<div class=\"box bad\">");
    page.paragraph(match attempt.state.seed.is_empty() {
        true => Both::of(
            "本次抽签在产生结果之前被成员机构作废。",
            "Members voided this attempt before it was drawn.",
        ),
        false => Both::of(
            "本次抽签在产生结果之后被成员机构作废；结果仍保留在账本上，供人比较。",
            "Members voided this attempt after it was drawn; what was drawn stays on the ledger, for \
             all to compare.",
        ),
    });
    let name = |key: &bytes::Bytes| institution(subject.rules, key);
    let mut facts = vec![
        fact("理由", "Reason", Cell::Text(void.reason.clone())),
        fact(
            "依据文件的哈希",
            "Hash of the document",
            hash(&void.evidence_hash),
        ),
        fact("签署机构", "Signed by", subject.signers(entry)),
        fact("记录位置与编号", "Leaf and entry id", place(entry)),
    ];
    if !void.absentees.is_empty() {
        let names: Vec<String> = void.absentees.iter().map(name).collect();
        facts.push(fact(
            "缺席并除名",
            "Absent, and dropped",
            Cell::Text(names.join("\n")),
        ));
    }
    page.facts(&facts).markup("</div>\n");
}

fn seed(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    let (state, rules) = (attempt.state, subject.rules);
    page.heading(Both::of("种子", "Seed"));
    let close = state.contributions_close_ms;
    let mut facts = Vec::new();
    if let Some((entry, roll)) = attempt.dice {
        let digits: Vec<String> = roll.digits.iter().map(u8::to_string).collect();
        facts.extend([
            fact("骰子点数", "Dice as thrown", Cell::Text(digits.join("  "))),
            fact(
                "掷骰录像的哈希",
                "Hash of the recording",
                hash(&roll.evidence_hash),
            ),
            fact("掷骰记录", "Leaf and entry id of the throw", place(entry)),
        ]);
    }
    let began = close.saturating_sub(rules.contribution_window_ms);
    facts.extend([
        fact("开始提交", "Contributions began", Cell::Time(began)),
        fact("提交截止", "Contributions closed", Cell::Time(close)),
    ]);
    if let Some(chain) = &rules.beacon {
        facts.extend(round(chain, attempt));
    }
    facts.push(match state.seed.is_empty() {
        true => fact("种子", "Seed", Cell::Words(Both::of("尚无", "not known"))),
        false => fact("种子", "Seed", hash(&state.seed)),
    });
    page.facts(&facts);
}

fn round(chain: &v1::BeaconChain, attempt: &Attempt<'_>) -> Vec<(Both, Cell)> {
    let state = attempt.state;
    let certified = match state.close_certified {
        true => Both::of("是：在信标可知之前", "yes, before the round could be known"),
        false => Both::of("否", "no"),
    };
    let mut facts = vec![
        fact(
            "截止经会签证明",
            "The close is certified",
            Cell::Words(certified),
        ),
        fact(
            "事先确定的信标轮次",
            "The beacon's round, pinned before",
            number(state.beacon_round),
        ),
    ];
    let time = beacon::round_time_ms(chain, state.beacon_round);
    facts.push(fact("该轮时间", "Time of that round", Cell::Time(time)));
    match attempt.round {
        Some((entry, round)) => {
            let randomness = <[u8; 48]>::try_from(&round.signature[..]);
            let randomness = randomness.map(|signature| beacon::randomness(&signature));
            facts.push(fact(
                "信标签名",
                "The beacon's signature",
                hash(&round.signature),
            ));
            if let Ok(randomness) = randomness {
                facts.push(fact(
                    "信标随机数",
                    "The beacon's randomness",
                    hash(&randomness),
                ));
            }
            facts.push(fact(
                "信标记录",
                "Leaf and entry id of the round",
                place(entry),
            ));
        }
        None => facts.push(fact(
            "信标记录",
            "The round",
            Cell::Words(Both::of("未记录", "not recorded")),
        )),
    }
    facts
}

fn contributions(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    let state = attempt.state;
    let row = |contributor: &v1::Contributor| {
        let key = &contributor.seed_key;
        let name = Cell::Text(contributor.institution.clone());
        let given = state.contributions.iter().find(|c| c.seed_key == key);
        let entry = attempt
            .contributions
            .iter()
            .find(|(_, c)| c.seed_key == key);
        match (given, entry) {
            (Some(given), Some((entry, _))) => vec![
                name,
                Cell::Time(given.timestamp_ms),
                place(entry),
                hash(&given.signature),
            ],
            _ => {
                let none = || Cell::Text(String::new());
                let why = match (state.dropped.contains(key), state.seed.is_empty()) {
                    (true, _) => {
                        Both::of("前次缺席，已除名", "dropped: absent in an earlier attempt")
                    }
                    (false, true) => Both::of("未提交", "did not contribute"),
                    (false, false) => Both::of("缺席", "absent"),
                };
                vec![name, Cell::Words(why), none(), none()]
            }
        }
    };
    let rows: Vec<Vec<Cell>> = subject.rules.contributors.iter().map(row).collect();
    let header = [
        Both::of("机构", "Institution"),
        Both::of("提交时间", "Contributed at"),
        Both::of("记录位置与编号", "Leaf and entry id"),
        Both::of("签名", "Signature"),
    ];
    page.heading(Both::of("各机构的提交与缺席", "Contributions and absences"));
    page.table(&header, &rows);
}

fn results(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    page.heading(Both::of("结果", "Results"));
    for (tier, result) in subject.rules.tiers.iter().zip(&attempt.state.results) {
        let mut facts = vec![
            fact("组别", "Tier", Cell::Text(tier.name.clone())),
            fact("参加行数", "Rows that entered", number(result.entrants)),
            fact("中签行数", "Rows that won", number(result.winners)),
            fact("排名根", "Root of the ranking", hash(&result.ranking_root)),
        ];
        if result.winners > 0 {
            facts.extend([
                fact(
                    "末位中签序号",
                    "Serial of the last winner",
                    number(result.cutoff_serial),
                ),
                fact(
                    "分界签号",
                    "Its ticket: the cut-off",
                    hash(&result.cutoff_ticket),
                ),
            ]);
        }
        if result.promoted_through > result.winners {
            let through = number(result.promoted_through);
            facts.push(fact("递补已至第几名", "Promotions reached rank", through));
        }
        page.facts(&facts);
    }
    if attempt.state.completed_at_ms > 0 {
        let at = Cell::Time(attempt.state.completed_at_ms);
        page.facts(&[fact("全部公布于", "All was published at", at)]);
    }
}

fn batches(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    let all = &attempt.batches;
    let per_batch = u64::from(subject.rules.rows_per_batch);
    page.heading(Both::of(
        format!("已公布 {} 批", count(all.len() as u64)),
        format!("{} batches published", count(all.len() as u64)),
    ));
    let row = |(entry, batch): &Entry<'_, v1::BatchResult>| {
        let first = u64::from(batch.batch) * per_batch;
        let last = first + batch.serials.len() as u64;
        let tier = subject.rules.tiers.get(batch.tier as usize);
        vec![
            Cell::Text(tier.map(|tier| tier.name.clone()).unwrap_or_default()),
            number(u64::from(batch.batch) + 1),
            Cell::Text(format!("{}–{}", count(first + 1), count(last))),
            place(entry),
        ]
    };
    let rows: Vec<Vec<Cell>> = match all.len() > MAX_BATCHES {
        false => all.iter().map(row).collect(),
        true => all.first().into_iter().chain(all.last()).map(row).collect(),
    };
    if all.len() > MAX_BATCHES {
        page.paragraph(Both::of(
            "此处只列首批与末批；各批均在公开记录之内，并已逐一核对。",
            "Only the first and the last are listed; all of them are in the public record, and each \
             was compared.",
        ));
    }
    let header = [
        Both::of("组别", "Tier"),
        Both::of("批次", "Batch"),
        Both::of("名次", "Ranks"),
        Both::of("记录位置与编号", "Leaf and entry id"),
    ];
    page.table(&header, &rows);
}

fn objections(page: &mut Html, attempt: &Attempt<'_>) {
    if attempt.objections.is_empty() {
        return;
    }
    page.heading(Both::of("异议与裁定", "Objections and rulings"));
    for objected in &attempt.objections {
        page.facts(&objection(objected));
    }
    if attempt.state.tainted {
        page.paragraph(Both::of(
            "对整次抽签的异议成立：本次抽签只能作废。",
            "An objection against the attempt as a whole was upheld: it can only be voided.",
        ));
    }
}

fn objection(objected: &Objected<'_>) -> Vec<(Both, Cell)> {
    let (entry, objection) = objected.objection;
    let about = match objection.serials.is_empty() {
        true => Cell::Words(Both::of("整次抽签", "the attempt as a whole")),
        false => serials(&objection.serials),
    };
    let mut facts = vec![
        fact(
            "异议记录",
            "Leaf and entry id of the objection",
            place(entry),
        ),
        fact("涉及序号", "About the serials", about),
        fact(
            "异议文件的哈希",
            "Hash of the objection",
            hash(&objection.document_hash),
        ),
        fact(
            "裁定",
            "Ruling",
            Cell::Words(words::decision(objected.decision())),
        ),
    ];
    if let Some((entry, ruling)) = objected.ruling {
        facts.extend([
            fact(
                "裁定文件的哈希",
                "Hash of the ruling",
                hash(&ruling.document_hash),
            ),
            fact("裁定记录", "Leaf and entry id of the ruling", place(entry)),
        ]);
    }
    facts
}

fn promotions(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    if attempt.promotions.is_empty() {
        return;
    }
    page.heading(Both::of("递补", "Promotions from the waiting list"));
    for (entry, promotion) in &attempt.promotions {
        let tier = subject.rules.tiers.get(promotion.tier as usize);
        let tier = tier.map(|tier| tier.name.clone()).unwrap_or_default();
        page.facts(&[
            fact("组别", "Tier", Cell::Text(tier)),
            fact(
                "让出名额的序号",
                "Serials that lost their places",
                serials(&promotion.vacated),
            ),
            fact(
                "递补的序号",
                "Serials that came up",
                serials(&promotion.serials),
            ),
            fact(
                "依据文件的哈希",
                "Hash of the document",
                hash(&promotion.document_hash),
            ),
            fact("记录位置与编号", "Leaf and entry id", place(entry)),
        ]);
    }
}

fn certificate(page: &mut Html, subject: &Subject<'_>, attempt: &Attempt<'_>) {
    let Some((entry, certificate)) = attempt.certificate else {
        return;
    };
    page.heading(Both::of("公证", "The notary's certificate"));
    page.facts(&[
        fact(
            "公证时间",
            "Certified at",
            Cell::Time(attempt.state.certified_at_ms),
        ),
        fact(
            "公证书的哈希",
            "Hash of the document",
            hash(&certificate.document_hash),
        ),
        fact("签署", "Signed by", subject.signers(entry)),
        fact("记录位置与编号", "Leaf and entry id", place(entry)),
    ]);
}

fn serials(serials: &[u64]) -> Cell {
    if serials.is_empty() {
        return Cell::Words(Both::of("无", "none"));
    }
    let all: Vec<String> = serials.iter().map(|serial| count(*serial)).collect();
    Cell::Text(all.join("  "))
}

fn institution(rules: &v1::LotteryOpen, key: &[u8]) -> String {
    let mut all = rules.contributors.iter();
    let found = all.find(|c| c.seed_key == key);
    found.map_or_else(|| hex::encode(key), |c| c.institution.clone())
}
