//! A lottery's public record as a file: computed again offline, made into a report, and refused
//! where anything of it is missing. The lottery was voided once, had an objection and a promotion.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_ledger::apply::{self, Applied};
use cairn_ledger::canonical;
use cairn_ledger::checkpoint::cosign;
use cairn_ledger::entry::{Draft, compose};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::log::{self, TreeId};
use cairn_ledger::lottery::bls::SeedSecret;
use cairn_ledger::lottery::{ATTEMPT_NAMESPACE, NAMESPACE, attempt_key, index, recompute, seed};
use cairn_ledger::map;
use cairn_ledger::state::MemoryState;
use cairn_proto::v1::{self, EntryKind, Role};
use ed25519_dalek::SigningKey;
use prost::Message;

use crate::ledger::{cairn, fails, json};

const TITLE: &str = "苏州口罩 <b>Masks</b>";
const CREATED_MS: u64 = 1_700_000_000_000;
const ROWS: u8 = 8;
/// Members' cosigning keys and office keys.
const MEMBERS: [u8; 4] = [1, 2, 3, 4];
const OFFICES: [u8; 4] = [11, 12, 13, 14];
const ORGANISER: u8 = 20;
const REGISTRAR: u8 = 21;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> Bytes {
    Bytes::copy_from_slice(key(n).verifying_key().as_bytes())
}

fn bls(n: u8) -> SeedSecret {
    SeedSecret::from_key_material(&[n; 32]).unwrap()
}

fn chain() -> Chain {
    let roles = [
        Role::Notary,
        Role::Government,
        Role::Government,
        Role::Institute,
    ];
    let author = |n: u8, name: &str, role: Role| v1::Author {
        public_key: public(n),
        name: name.to_owned(),
        role: role.into(),
    };
    let mut genesis = v1::Genesis {
        name: "a test".to_owned(),
        created_at_ms: CREATED_MS,
        rules_version: 1,
        ..Default::default()
    };
    let mut members = Vec::new();
    for (n, role) in MEMBERS.into_iter().zip(roles) {
        let office = OFFICES[usize::from(n - 1)];
        members.push(v1::Member {
            raft_id: n.into(),
            institution: format!("Institution {n}"),
            role: role.into(),
            cosign_key: public(n),
            peer_id: vec![n; 38].into(),
            seed_key: bls(n).public_key().to_vec().into(),
            seed_key_proof: seed::prove_possession(&bls(n)).to_vec().into(),
            office_key: public(office),
            address: String::new(),
        });
        let name = format!("Institution {n}");
        genesis.authors.push(author(office, &name, role));
    }
    genesis.members = Some(v1::MemberSet {
        epoch: 0,
        members,
        policy: Some(v1::QuorumPolicy {
            threshold: 3,
            min_roles: 2,
            detect_only: false,
        }),
    });
    genesis.limits = Some(v1::Limits {
        max_entry_bytes: 1 << 20,
        max_block_entries: 100,
        max_block_bytes: 1 << 22,
        max_entry_lifetime_ms: 86_400_000,
        checkpoint_every_blocks: 100,
        checkpoint_every_ms: 10_000,
    });
    let others = [
        author(ORGANISER, "Organiser", Role::Organiser),
        author(REGISTRAR, "Registrar", Role::Registrar),
    ];
    genesis.authors.extend(others);
    genesis
        .authors
        .sort_by(|a, b| a.public_key.cmp(&b.public_key));
    Chain::from_bytes(&canonical::encode(&genesis)).unwrap()
}

/// A lottery on its way, one entry a block.
struct Lottery {
    chain: Chain,
    state: MemoryState,
    now: u64,
    nonce: u8,
    last: Applied,
    id: Hash,
    entries: Vec<(u64, v1::SignedEntry)>,
}

impl Lottery {
    fn open() -> Lottery {
        let chain = chain();
        let mut state = MemoryState::default();
        let last = apply::genesis_block(&chain).unwrap();
        state.commit(last.writes.clone());
        let mut lottery = Lottery {
            now: CREATED_MS,
            nonce: 0,
            last,
            id: Hash::ZERO,
            entries: Vec::new(),
            chain,
            state,
        };
        let members = &lottery.chain.members.members;
        let contributor = |member: &v1::Member| v1::Contributor {
            institution: member.institution.clone(),
            seed_key: member.seed_key.clone(),
            seed_key_proof: member.seed_key_proof.clone(),
        };
        let rules = v1::LotteryOpen {
            title: TITLE.to_owned(),
            tiers: vec![v1::Tier {
                name: "all".to_owned(),
                quota: 3,
                waiting_list: 3,
            }],
            rows_per_batch: 2,
            notary: public(OFFICES[0]),
            registrar: public(REGISTRAR),
            institute: public(OFFICES[3]),
            contributors: members.iter().map(contributor).collect(),
            contribution_window_ms: 60_000,
            max_attempts: 2,
            identity_rule: "as it stands".to_owned(),
            registrar_tag_key_commitment: vec![1; 32].into(),
            notary_tag_key_commitment: vec![2; 32].into(),
            max_rows: 100,
            seed_profile: v1::SeedProfile::Closed.into(),
            objection_window_ms: 1_000,
            ..Default::default()
        };
        let kind = EntryKind::LotteryOpen;
        lottery.submit(kind, ORGANISER, &OFFICES[..1], Bytes::new(), &rules);
        lottery.id = hash::plain(&lottery.entries[0].1.envelope);
        lottery
    }

    fn submit(
        &mut self,
        kind: EntryKind,
        author: u8,
        approvers: &[u8],
        subject: Bytes,
        body: &impl Message,
    ) {
        self.nonce += 1;
        self.now += 10;
        let draft = Draft {
            kind,
            visibility: v1::Visibility::Public,
            subject,
            nonce: [self.nonce; 16],
            not_after_ms: self.now + 60_000,
            body: canonical::encode(body),
        };
        let approvers: Vec<SigningKey> = approvers.iter().map(|n| key(*n)).collect();
        let approvers: Vec<&SigningKey> = approvers.iter().collect();
        let entry = compose(&self.chain.id, draft, &key(author), &approvers);
        let proposal = v1::Proposal {
            timestamp_ms: self.now,
            checkpoint: true,
            certificate: None,
            entries: vec![entry.clone()],
        };
        let block = apply::replay(&self.chain, &self.state, &proposal, 1).unwrap();
        let outcome = &block.outcomes[0];
        let reason = outcome.rejected();
        assert_eq!(reason, v1::RejectReason::Unspecified, "{kind:?}");
        self.entries.push((outcome.leaf_index, entry));
        self.state.commit(block.writes.clone());
        self.last = block;
    }

    fn step(&mut self, kind: EntryKind, author: u8, body: &impl Message) {
        let subject = self.id.to_bytes();
        self.submit(kind, author, &[], subject, body);
    }

    fn now_in_map(&self) -> v1::LotteryState {
        let value = map::get(&self.state, &map::map_key(NAMESPACE, self.id.as_bytes())).unwrap();
        v1::LotteryState::decode(value.unwrap()).unwrap()
    }

    fn fill_and_freeze(&mut self) {
        let column = |n: u8| (0..ROWS).flat_map(|row| [row + n; 32]).collect();
        let chunk = v1::RosterChunk {
            lottery_id: self.id.to_bytes(),
            commitments: column(0),
            tags: column(100),
            weights: (1..=u32::from(ROWS)).collect(),
            ..Default::default()
        };
        self.step(EntryKind::RosterChunk, REGISTRAR, &chunk);
        let freeze = v1::RosterFreeze {
            lottery_id: self.id.to_bytes(),
            roster_root: self.now_in_map().roster_root,
            count: ROWS.into(),
        };
        let subject = self.id.to_bytes();
        let kind = EntryKind::RosterFreeze;
        self.submit(kind, REGISTRAR, &OFFICES[..1], subject, &freeze);
    }

    fn contribute(&mut self) {
        for n in MEMBERS {
            let state = self.now_in_map();
            let message =
                recompute::contribution_message(&self.chain.id, &self.id, &state).unwrap();
            let contribution = v1::SeedContribution {
                lottery_id: self.id.to_bytes(),
                attempt: state.attempt,
                seed_key: bls(n).public_key().to_vec().into(),
                signature: seed::sign_contribution(&bls(n), &message).to_vec().into(),
            };
            self.step(EntryKind::SeedContribution, OFFICES[1], &contribution);
        }
    }

    fn ranking(&self) -> Vec<u64> {
        let attempt = self.now_in_map().attempt;
        index::ranking_slice(&self.state, &self.id, attempt, 0, 0, 100).unwrap()
    }

    fn publish(&mut self, batches: u32) {
        let ranking = self.ranking();
        for (batch, serials) in (0..batches).zip(ranking[..3].chunks(2)) {
            let body = v1::BatchResult {
                lottery_id: self.id.to_bytes(),
                attempt: self.now_in_map().attempt,
                tier: 0,
                batch,
                serials: serials.to_vec(),
            };
            self.step(EntryKind::BatchResult, OFFICES[3], &body);
        }
    }

    fn void(&mut self) {
        let document = hash::plain(b"findings");
        let evidence = v1::Evidence {
            hash: document.to_bytes(),
            title: "Findings".to_owned(),
            media_type: "text/plain".to_owned(),
            ..Default::default()
        };
        let kind = EntryKind::Evidence;
        self.submit(kind, OFFICES[1], &[], document.to_bytes(), &evidence);
        self.entries.pop();
        let void = v1::LotteryVoid {
            lottery_id: self.id.to_bytes(),
            attempt: 1,
            reason: "a person stands in it twice".to_owned(),
            evidence_hash: document.to_bytes(),
            ..Default::default()
        };
        let (kind, subject) = (EntryKind::LotteryVoid, self.id.to_bytes());
        self.submit(kind, OFFICES[0], &OFFICES[1..], subject, &void);
    }

    /// The second attempt, to its promotion.
    fn finish(&mut self) {
        self.contribute();
        self.publish(2);
        let winner = self.ranking()[0];
        let (lottery_id, document_hash) = (self.id.to_bytes(), Bytes::from(vec![7; 32]));
        let objection = v1::Objection {
            lottery_id: lottery_id.clone(),
            attempt: 2,
            serials: vec![winner],
            document_hash: document_hash.clone(),
        };
        self.step(EntryKind::Objection, OFFICES[0], &objection);
        let objection = hash::plain(&self.entries.last().unwrap().1.envelope);
        let ruling = v1::Ruling {
            lottery_id: lottery_id.clone(),
            attempt: 2,
            objection: objection.to_bytes(),
            decision: v1::RulingDecision::Upheld.into(),
            document_hash: document_hash.clone(),
        };
        self.step(EntryKind::Ruling, OFFICES[0], &ruling);
        self.now += 2_000;
        let certify = v1::LotteryCertify {
            lottery_id: lottery_id.clone(),
            attempt: 2,
            document_hash: document_hash.clone(),
        };
        self.step(EntryKind::LotteryCertify, OFFICES[0], &certify);
        let promotion = v1::Promotion {
            lottery_id,
            attempt: 2,
            tier: 0,
            vacated: vec![winner],
            serials: vec![self.ranking()[3]],
            document_hash,
        };
        self.step(EntryKind::Promotion, OFFICES[0], &promotion);
    }

    fn whole() -> Lottery {
        let mut lottery = Lottery::open();
        lottery.fill_and_freeze();
        lottery.contribute();
        lottery.publish(1);
        lottery.void();
        lottery.finish();
        lottery
    }

    fn checkpoint(&self) -> v1::Checkpoint {
        let at = self.last.header.timestamp_ms;
        let sign = |n: u8| cosign(&key(n), &self.chain.id, &self.last.header_hash, at + 1);
        let mut cosignatures: Vec<_> = MEMBERS.map(sign).into();
        cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        v1::Checkpoint {
            header: self.last.header_bytes.clone(),
            cosignatures,
        }
    }

    fn receipt(&self, namespace: &str, key: &[u8]) -> v1::MapReceipt {
        let root = Hash::from_slice(&self.last.header.map_root).unwrap();
        let proof = map::prove(&self.state, &root, &map::map_key(namespace, key)).unwrap();
        v1::MapReceipt {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(key),
            proof: Some(proof),
            checkpoint: Some(self.checkpoint()),
            epoch_changes: vec![],
        }
    }

    fn record(&self) -> v1::LotteryFile {
        let size = self.last.header.tree_size;
        let recorded = |(leaf, entry): &(u64, v1::SignedEntry)| {
            let path = log::inclusion_proof(&self.state, &TreeId::LEDGER, *leaf, size).unwrap();
            v1::RecordedEntry {
                entry: Some(entry.clone()),
                inclusion: Some(v1::InclusionProof {
                    leaf_index: *leaf,
                    path: path.into_iter().map(Hash::to_bytes).collect(),
                }),
            }
        };
        v1::LotteryFile {
            genesis: self.chain.bytes.clone(),
            lottery: Some(self.receipt(NAMESPACE, self.id.as_bytes())),
            attempts: vec![self.receipt(ATTEMPT_NAMESPACE, &attempt_key(&self.id, 1))],
            pages: vec![v1::LotteryPage {
                checkpoint: Some(self.checkpoint()),
                epoch_changes: vec![],
                entries: self.entries.iter().map(recorded).collect(),
            }],
        }
    }
}

/// Writes a record, and gives the arguments that name it and its ledger.
fn written(folder: &Path, lottery: &Lottery, record: &v1::LotteryFile) -> [String; 4] {
    let (file, genesis) = (folder.join("lottery.record"), folder.join("genesis.bin"));
    let bytes = [&b"cairn-lottery-v1\n"[..], &canonical::encode(record)].concat();
    std::fs::write(&file, bytes).unwrap();
    std::fs::write(&genesis, &lottery.chain.bytes).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    [
        "--from".to_owned(),
        text(file),
        "--genesis".to_owned(),
        text(genesis),
    ]
}

fn with<'a>(command: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    let more = more.iter().map(String::as_str);
    command.iter().copied().chain(more).collect()
}

#[test]
fn a_record_is_computed_again_offline_with_its_voided_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let lottery = Lottery::whole();
    let args = written(folder.path(), &lottery, &lottery.record());
    let value = json(&with(&["lottery", "recompute"], &args));
    assert_eq!(value["ok"], true);
    assert_eq!(value["lottery_id"], lottery.id.to_string());
    assert_eq!((&value["rows"], &value["winners"]), (&8.into(), &3.into()));
    assert_eq!(
        (&value["attempts_drawn"], &value["attempts_voided"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&value["objections"], &value["promotions"]),
        (&1.into(), &1.into())
    );
    let text = cairn(&with(&["lottery", "recompute"], &args))
        .assert()
        .success();
    let text = String::from_utf8(text.get_output().stdout.clone()).unwrap();
    assert!(text.contains("1 voided; 2 drawn"), "{text}");
}

#[test]
fn a_record_that_lacks_any_entry_or_attempt_is_exit_10() {
    let folder = tempfile::tempdir().unwrap();
    let lottery = Lottery::whole();
    let whole = lottery.record();
    for missing in 0..whole.pages[0].entries.len() {
        let mut record = whole.clone();
        let entry = record.pages[0].entries.remove(missing);
        let leaf = entry.inclusion.unwrap().leaf_index;
        let args = written(folder.path(), &lottery, &record);
        let told = fails(&with(&["lottery", "recompute"], &args), 10);
        assert!(!told.is_empty(), "without the entry at leaf {leaf}");
    }
    let record = v1::LotteryFile {
        attempts: vec![],
        ..whole
    };
    let args = written(folder.path(), &lottery, &record);
    let told = fails(&with(&["lottery", "recompute"], &args), 10);
    assert!(told.contains("0 of the 1 attempts"), "{told}");
}

#[test]
fn a_record_that_was_edited_or_is_of_another_ledger_is_exit_10() {
    let folder = tempfile::tempdir().unwrap();
    let lottery = Lottery::whole();
    let mut record = lottery.record();
    record.pages[0].entries.swap(1, 2);
    let args = written(folder.path(), &lottery, &record);
    let told = fails(&with(&["lottery", "recompute"], &args), 10);
    assert!(told.contains("not in the order of the log"), "{told}");

    let mut record = lottery.record();
    let entry = record.pages[0].entries[1].entry.as_mut().unwrap();
    let mut body = entry.body.to_vec();
    let last = body.len() - 1;
    body[last] ^= 1;
    entry.body = body.into();
    let args = written(folder.path(), &lottery, &record);
    fails(&with(&["lottery", "recompute"], &args), 10);

    let args = written(folder.path(), &lottery, &lottery.record());
    let other = hash::plain(b"another").to_string();
    let told = fails(
        &[
            "lottery",
            "recompute",
            "--from",
            &args[1],
            "--chain-id",
            &other,
        ],
        10,
    );
    assert!(told.contains("you pinned"), "{told}");
}

#[test]
fn a_report_holds_both_languages_and_no_markup_of_the_ledgers() {
    let folder = tempfile::tempdir().unwrap();
    let lottery = Lottery::whole();
    let args = written(folder.path(), &lottery, &lottery.record());
    let out = folder.path().join("report.html");
    let command = ["lottery", "report", "--out", out.to_str().unwrap()];
    assert_eq!(json(&with(&command, &args))["attempts"], 2);
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("苏州口罩 &lt;b&gt;Masks&lt;/b&gt;"));
    assert!(!page.contains("<b>"));
    let state = lottery.now_in_map();
    for expected in [
        "抽签事实报告",
        "Facts of one lottery",
        "Attempt 1 of at most 2",
        "a person stands in it twice",
        "第 2 次抽签",
        "Promotions from the waiting list",
        &hex::encode(&state.seed),
        &hex::encode(&state.results[0].cutoff_ticket),
        &hash::plain(b"findings").to_string(),
        "Institution 3",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}
