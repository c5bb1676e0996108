//! The report's page: rules, roster, attempts, who cosigned, and what all this does not show.

use std::collections::BTreeMap;

use cairn_ledger::genesis::Chain;
use cairn_proto::v1::{self, LotteryStage};

use super::html::{Cell, Html};
use super::words::{self, Both};
use super::{attempt, caveats};
use crate::commands::lottery::history::History;
use crate::commands::lottery::record::{Record, Recorded};
use crate::exit::Failure;
use crate::output::count;

/// What the sections share.
pub struct Subject<'a> {
    pub record: &'a Record,
    pub history: &'a History<'a>,
    pub rules: &'a v1::LotteryOpen,
    /// Names of the registered authors, by key.
    names: BTreeMap<&'a [u8], &'a v1::Author>,
}

/// The report on a lottery whose record was computed again.
pub fn of(chain: &Chain, record: &Record, history: &History<'_>) -> Result<String, Failure> {
    let authors = chain.genesis.authors.iter();
    let subject = Subject {
        record,
        history,
        rules: record.lottery.rules()?,
        names: authors
            .map(|author| (&author.public_key[..], author))
            .collect(),
    };
    let mut page = Html::new(&format!("抽签事实报告 {}", subject.rules.title));
    head(&mut page, chain, &subject);
    rules(&mut page, &subject);
    tiers(&mut page, &subject);
    roster(&mut page, &subject);
    for attempt in &history.attempts {
        attempt::section(&mut page, &subject, attempt);
    }
    cosigners(&mut page, &subject);
    caveats::section(&mut page);
    Ok(page.finish())
}

impl Subject<'_> {
    /// An office's name and key.
    pub fn office(&self, key: &[u8]) -> Cell {
        let hex = hex::encode(key);
        match self.names.get(key) {
            Some(author) => Cell::Named(author.name.clone(), hex),
            None => Cell::Hash(hex),
        }
    }

    /// The names of those who signed an entry, its author first.
    pub fn signers(&self, entry: &Recorded) -> Cell {
        let name = |key: &[u8]| match self.names.get(key) {
            Some(author) => author.name.clone(),
            None => hex::encode(key),
        };
        let all = std::iter::once(&entry.author).chain(&entry.approvals);
        let names: Vec<String> = all.map(|key| name(key)).collect();
        Cell::Text(names.join("\n"))
    }
}

/// An entry's place in the log and its id.
pub fn place(entry: &Recorded) -> Cell {
    Cell::Hash(format!("{}\n{}", count(entry.leaf_index), entry.id))
}

/// A fact.
pub fn fact(zh: &str, en: &str, value: Cell) -> (Both, Cell) {
    (Both::of(zh, en), value)
}

/// A number.
pub fn number(number: impl Into<u64>) -> Cell {
    Cell::Text(count(number.into()))
}

/// A hash, or what stands where there is none.
pub fn hash(bytes: &[u8]) -> Cell {
    match bytes.is_empty() {
        true => Cell::Words(Both::of("无", "none")),
        false => Cell::Hash(hex::encode(bytes)),
    }
}

fn head(page: &mut Html, chain: &Chain, subject: &Subject<'_>) {
    let (lottery, rules) = (&subject.record.lottery, subject.rules);
    page.markup("<h1>")
        .words(Both::of("抽签事实报告", "Facts of one lottery"));
    page.markup("</h1>\n<p class=\"title\"><bdi>")
        .text(&rules.title);
    page.markup("</bdi></p>\n");
    let header = lottery.checkpoint.header();
    page.facts(&[
        fact("抽签编号", "Lottery", Cell::Hash(lottery.id.to_string())),
        fact("账本", "Ledger", Cell::Text(chain.genesis.name.clone())),
        fact("账本编号", "Chain id", Cell::Hash(chain.id.to_string())),
        fact(
            "状态",
            "Stage",
            Cell::Words(words::stage(lottery.state.stage())),
        ),
        fact("截至区块", "As of block", number(header.height)),
        fact(
            "该区块时间",
            "Time of that block",
            Cell::Time(header.timestamp_ms),
        ),
        fact(
            "至此仍为最新",
            "Latest as of",
            Cell::Time(lottery.checkpoint.latest_as_of_ms()),
        ),
    ]);
    page.markup("<div class=\"box\">");
    let drawn = match subject.history.is_drawn() {
        true => Both::of(
            "本报告的每一个数字均取自经会签的账本状态或经证明已记入账本的记录。生成本报告时，名册、骰子、\
             种子、签号、排名、分界、各批结果及递补均已重新计算，结果与账本一致。",
            "Every figure here is from a certified state of the ledger or from an entry that is proven \
             to be recorded. When this report was made, roster, dice, seed, tickets, ranking, \
             cut-offs, batches and promotions were computed again and are what the ledger says.",
        ),
        false => Both::of(
            "本报告的每一个数字均取自经会签的账本状态或经证明已记入账本的记录。抽签尚未进行。",
            "Every figure here is from a certified state of the ledger or from an entry that is proven \
             to be recorded. Nothing was drawn yet.",
        ),
    };
    page.paragraph(drawn).markup("</div>\n");
    if lottery.state.stage() == LotteryStage::Voided {
        page.markup("<div class=\"box bad\">").paragraph(Both::of(
            "最后一次抽签已作废，不再有下一次：无人中签。",
            "The last attempt was voided, and there is no other: nobody won.",
        ));
        page.markup("</div>\n");
    }
}

fn rules(page: &mut Html, subject: &Subject<'_>) {
    let (rules, opening) = (subject.rules, subject.history.opening);
    page.section(Both::of("规则", "Rules"));
    page.paragraph(Both::of(
        "规则自记入账本时起不可更改。",
        "From the moment they were recorded nobody could change the rules.",
    ));
    let mut facts = vec![
        fact("记录位置与编号", "Leaf and entry id", place(opening)),
        fact("主办方", "Organiser", subject.office(&opening.author)),
        fact("公证机构", "Notary", subject.office(&rules.notary)),
        fact("登记方", "Registrar", subject.office(&rules.registrar)),
        fact(
            "公布方",
            "Publishes the results",
            subject.office(&rules.institute),
        ),
        fact(
            "身份写法",
            "How identities are written",
            Cell::Text(rules.identity_rule.clone()),
        ),
        fact("名册上限", "At most so many rows", number(rules.max_rows)),
        fact("每批行数", "Rows per batch", number(rules.rows_per_batch)),
        fact(
            "公布全部名次",
            "Every rank is published",
            Cell::Words(words::yes(rules.full_ranking)),
        ),
        fact(
            "最多次数",
            "At most so many attempts",
            number(rules.max_attempts),
        ),
        fact(
            "公证员掷骰",
            "Dice",
            Cell::Words(words::yes(rules.with_dice)),
        ),
        fact(
            "提交种子期限",
            "Window for contributions",
            Cell::Duration(rules.contribution_window_ms),
        ),
    ];
    facts.extend(beacon(rules));
    let window = |ms: u64| match ms {
        0 => Cell::Words(Both::of("无", "none")),
        ms => Cell::Duration(ms),
    };
    facts.extend([
        fact(
            "异议期",
            "Window for objections",
            window(rules.objection_window_ms),
        ),
        fact(
            "兑付期",
            "Window for redemption",
            window(rules.redemption_window_ms),
        ),
        fact(
            "登记方标签密钥的承诺",
            "Commitment to the registrar's tag key",
            hash(&rules.registrar_tag_key_commitment),
        ),
        fact(
            "公证机构标签密钥的承诺",
            "Commitment to the notary's tag key",
            hash(&rules.notary_tag_key_commitment),
        ),
    ]);
    page.facts(&facts);
}

/// What completes the seed.
fn beacon(rules: &v1::LotteryOpen) -> Vec<(Both, Cell)> {
    let Some(beacon) = rules.beacon.as_ref() else {
        let closed = Both::of(
            "封闭式：须全部机构提交，无信标",
            "closed: all institutions contribute, and there is no beacon",
        );
        return vec![fact("种子方式", "What makes the seed", Cell::Words(closed))];
    };
    let open = Both::of(
        "各机构按时提交，再加公共随机信标",
        "contributions in time, and a public beacon's round",
    );
    vec![
        fact("种子方式", "What makes the seed", Cell::Words(open)),
        fact(
            "截止至信标的间隔",
            "From the close to the beacon's round",
            Cell::Duration(rules.beacon_margin_ms),
        ),
        fact("信标链", "The beacon's chain", hash(&beacon.chain_hash)),
        fact(
            "信标公钥",
            "The beacon's public key",
            hash(&beacon.public_key),
        ),
    ]
}

fn tiers(page: &mut Html, subject: &Subject<'_>) {
    let header = [
        Both::of("组别", "Tier"),
        Both::of("名额", "Places"),
        Both::of("候补", "Waiting list"),
    ];
    let tier = |tier: &v1::Tier| {
        let (quota, waiting) = (number(tier.quota), number(tier.waiting_list));
        vec![Cell::Text(tier.name.clone()), quota, waiting]
    };
    let rows: Vec<Vec<Cell>> = subject.rules.tiers.iter().map(tier).collect();
    page.heading(Both::of("组别与名额", "Tiers and places"))
        .table(&header, &rows);
    let header = [
        Both::of("种子提交机构", "Contributes to the seed"),
        Both::of("公钥", "Public key"),
    ];
    let contributor =
        |c: &v1::Contributor| vec![Cell::Text(c.institution.clone()), hash(&c.seed_key)];
    let rows: Vec<Vec<Cell>> = subject.rules.contributors.iter().map(contributor).collect();
    page.table(&header, &rows);
}

fn roster(page: &mut Html, subject: &Subject<'_>) {
    let state = &subject.record.lottery.state;
    page.section(Both::of("名册", "Roster"));
    page.paragraph(Both::of(
        "账本上没有身份信息，只有加盐承诺与去重标签。冻结之后不能增删。",
        "No identities are on the ledger, only salted commitments and tags that find duplicates. \
         After the freeze no row came or went.",
    ));
    let chunks = subject.record.chunks().count() as u64;
    let mut facts = vec![
        fact("行数", "Rows", number(state.rows)),
        fact(
            "签数（按权重）",
            "Tickets, by weight",
            number(state.tickets),
        ),
        fact("名册根", "Roster root", hash(&state.roster_root)),
        fact("登记记录数", "Entries that registered it", number(chunks)),
    ];
    match subject.history.freeze {
        Some(freeze) => facts.extend([
            fact("冻结记录", "Leaf and entry id of the freeze", place(freeze)),
            fact("冻结签署", "Frozen by", subject.signers(freeze)),
        ]),
        None => facts.push(fact(
            "冻结",
            "Freeze",
            Cell::Words(Both::of("尚未冻结", "not frozen yet")),
        )),
    }
    page.facts(&facts);
}

fn cosigners(page: &mut Html, subject: &Subject<'_>) {
    let checkpoint = &subject.record.lottery.checkpoint;
    let header = checkpoint.header();
    page.section(Both::of("会签", "Who cosigned"));
    page.paragraph(Both::of(
        "下列成员机构会签了本报告所依据的账本状态。",
        "These members cosigned the state of the ledger that this report is made from.",
    ));
    let cosignatures = checkpoint.to_proto().cosignatures;
    let rows: Vec<Vec<Cell>> = checkpoint
        .signers()
        .zip(&cosignatures)
        .map(|(member, cosignature)| {
            vec![
                Cell::Text(member.institution.clone()),
                Cell::Words(words::role(member.role())),
                Cell::Time(cosignature.cosigned_at_ms),
            ]
        })
        .collect();
    let columns = [
        Both::of("机构", "Institution"),
        Both::of("类别", "Role"),
        Both::of("会签时间（其自身时钟）", "Cosigned at, by its own clock"),
    ];
    page.table(&columns, &rows);
    page.facts(&[
        fact("区块高度", "Block", number(header.height)),
        fact(
            "区块头哈希",
            "Header hash",
            Cell::Hash(checkpoint.header_hash().to_string()),
        ),
        fact(
            "日志根",
            "Log root",
            Cell::Hash(checkpoint.log_root().to_string()),
        ),
        fact("日志记录数", "Entries in the log", number(header.tree_size)),
        fact(
            "状态根",
            "Map root",
            Cell::Hash(checkpoint.map_root().to_string()),
        ),
        fact("成员届次", "Epoch of the members", number(header.epoch)),
    ]);
    if checkpoint.detect_only() {
        page.paragraph(Both::of(
            "注意：按此账本的会签规则，单一机构可使同一高度出现另一份状态；这会被发现，但不能事先阻止。",
            "Note: under this ledger's policy a single institution could get another state certified \
             at this height; that would be detected, but not prevented.",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_is_not_there_is_said_to_be_none() {
        assert!(matches!(hash(&[]), Cell::Words(words) if words.en == "none"));
        assert!(matches!(hash(&[0xab]), Cell::Hash(hex) if hex == "ab"));
    }
}
