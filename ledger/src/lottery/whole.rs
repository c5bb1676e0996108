//! A lottery in real blocks: signed entries, headers, certificates that proposals carry; a missed
//! close, a void by members, a second attempt, and a prize that is handed out.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::{self, EntryKind, LotteryStage, RejectReason, Role};
use prost::Message;

use super::bls::SeedSecret;
use super::holder::Presented;
use super::{NAMESPACE, beacon, index, prove, recompute, roster, seed};
use crate::canonical;
use crate::genesis::Chain;
use crate::hash::{self, Hash};
use crate::log::{self, TreeId};
use crate::testing::{
    self, GOVERNMENT, INSTITUTE, Ledger, MEMBERS, NOTARY, OFFICES, ORGANISER, REGISTRAR, key,
    public,
};

const SHOP: u8 = 120;
const BEACON: u8 = 50;
const ROWS: u32 = 6;
const MARGIN: u64 = 20_000;

fn bls(n: u8) -> SeedSecret {
    SeedSecret::from_key_material(&[n; 32]).unwrap()
}

fn seed_key(n: u8) -> bytes::Bytes {
    bls(n).public_key().to_vec().into()
}

/// Members with seed and office keys, and a shop.
fn chain() -> Chain {
    let mut genesis = testing::with_offices().genesis;
    for (n, member) in (1u8..).zip(&mut genesis.members.as_mut().unwrap().members) {
        member.seed_key = seed_key(n);
        member.seed_key_proof = seed::prove_possession(&bls(n)).to_vec().into();
    }
    genesis.authors.push(v1::Author {
        public_key: public(SHOP),
        name: "pharmacy".to_owned(),
        role: Role::PointOfSale as i32,
    });
    genesis
        .authors
        .sort_by(|a, b| a.public_key.cmp(&b.public_key));
    Chain::from_bytes(&canonical::encode(&genesis)).unwrap()
}

fn rules(chain: &Chain) -> v1::LotteryOpen {
    let contributor = |member: &v1::Member| v1::Contributor {
        institution: member.institution.clone(),
        seed_key: member.seed_key.clone(),
        seed_key_proof: member.seed_key_proof.clone(),
    };
    v1::LotteryOpen {
        title: "Masks".to_owned(),
        tiers: vec![v1::Tier {
            name: "all".to_owned(),
            quota: 2,
            waiting_list: 2,
        }],
        rows_per_batch: 10,
        notary: public(NOTARY),
        registrar: public(REGISTRAR),
        institute: public(INSTITUTE),
        contributors: chain.members.members.iter().map(contributor).collect(),
        contribution_window_ms: 60_000,
        beacon_margin_ms: MARGIN,
        beacon: Some(v1::BeaconChain {
            chain_hash: vec![8; 32].into(),
            public_key: seed_key(BEACON),
            genesis_time_s: 1_600_000_000,
            period_s: 3,
        }),
        max_attempts: 2,
        identity_rule: "number without spaces".to_owned(),
        registrar_tag_key_commitment: vec![1; 32].into(),
        notary_tag_key_commitment: vec![2; 32].into(),
        max_rows: 40,
        redemption_window_ms: 600_000,
        ..Default::default()
    }
}

fn identity_hash(serial: u32) -> Hash {
    roster::identity_hash(&[77; 32], &serial.to_be_bytes())
}

/// The row of `serial`, held by the key of this number.
fn row(serial: u32) -> roster::Row {
    let holder = public(serial as u8 + 200);
    roster::Row {
        commitment: roster::commitment_of(&identity_hash(serial), &holder).0,
        tag: hash::plain(&serial.to_be_bytes()).0,
        tier: 0,
        weight: 1,
    }
}

struct Lottery {
    ledger: Ledger,
    id: Hash,
}

impl Lottery {
    fn submit(
        &mut self,
        kind: EntryKind,
        author: u8,
        approvers: &[u8],
        body: &impl Message,
    ) -> Result<u64, RejectReason> {
        let draft = self.ledger.draft(kind, &self.id.0, body);
        let entry = self.ledger.compose(draft, author, approvers);
        self.ledger.submit(entry)
    }

    fn state(&self) -> v1::LotteryState {
        self.ledger.map(NAMESPACE, &self.id.0).unwrap()
    }

    /// Opened, filled and frozen; Contributing, since there are no dice.
    fn contributing() -> Self {
        let chain = chain();
        let mut ledger = Ledger::of(chain.clone());
        let draft = ledger.draft(EntryKind::LotteryOpen, &[], &rules(&chain));
        let open = ledger.compose(draft, ORGANISER, &[NOTARY]);
        let id = testing::id(&open);
        ledger.submit(open).unwrap();
        let mut lottery = Self { ledger, id };
        let rows: Vec<roster::Row> = (0..ROWS).map(row).collect();
        let chunk = v1::RosterChunk {
            lottery_id: id.to_bytes(),
            commitments: rows.iter().flat_map(|r| r.commitment).collect(),
            tags: rows.iter().flat_map(|r| r.tag).collect(),
            ..Default::default()
        };
        let chunked = lottery.submit(EntryKind::RosterChunk, REGISTRAR, &[], &chunk);
        chunked.unwrap();
        let freeze = v1::RosterFreeze {
            lottery_id: id.to_bytes(),
            roster_root: lottery.state().roster_root,
            count: ROWS.into(),
        };
        let frozen = lottery.submit(EntryKind::RosterFreeze, REGISTRAR, &[NOTARY], &freeze);
        frozen.unwrap();
        lottery
    }

    fn contribute(&mut self, n: u8) {
        let state = self.state();
        let message =
            recompute::contribution_message(&self.ledger.chain.id, &self.id, &state).unwrap();
        let body = v1::SeedContribution {
            lottery_id: self.id.to_bytes(),
            attempt: state.attempt,
            seed_key: seed_key(n),
            signature: seed::sign_contribution(&bls(n), &message).to_vec().into(),
        };
        let kind = EntryKind::SeedContribution;
        self.submit(kind, GOVERNMENT, &[], &body).unwrap();
    }

    /// A checkpoint 10 ms after `stamped`, cosigned at `cosigned` by three members' clocks, and a
    /// block that carries its certificate.
    fn certified(&mut self, stamped: u64, cosigned: u64) {
        self.ledger.now = stamped;
        let mut proposal = self.ledger.proposal(vec![]);
        proposal.checkpoint = true;
        let header = self.ledger.run(&proposal).header_bytes;
        let signers = MEMBERS[..3].iter().map(|n| (*n, cosigned));
        let certificate = testing::certificate(&self.ledger.chain.id, header, signers);
        let mut carrier = self.ledger.proposal(vec![]);
        carrier.certificate = Some(certificate);
        self.ledger.run(&carrier);
    }

    fn record_round(&mut self) -> Result<u64, RejectReason> {
        let state = self.state();
        let body = v1::BeaconRound {
            lottery_id: self.id.to_bytes(),
            attempt: state.attempt,
            round: state.beacon_round,
            signature: beacon::sign_round(&bls(BEACON), state.beacon_round)
                .to_vec()
                .into(),
        };
        self.submit(EntryKind::BeaconRound, GOVERNMENT, &[], &body)
    }

    fn round_ms(&self) -> u64 {
        let state = self.state();
        let beacon = state.rules.unwrap().beacon.unwrap();
        beacon::round_time_ms(&beacon, state.beacon_round)
    }

    fn void(&mut self, approvers: &[u8]) -> Result<u64, RejectReason> {
        let body = v1::LotteryVoid {
            lottery_id: self.id.to_bytes(),
            attempt: self.state().attempt,
            reason: "the close was not certified in time".to_owned(),
            ..Default::default()
        };
        self.submit(EntryKind::LotteryVoid, OFFICES[0], approvers, &body)
    }

    fn redeem(&mut self, serial: u64, signed_at_ms: u64) -> Result<u64, RejectReason> {
        let tree = TreeId::roster(&self.id);
        let leaf = |serial: u64| Some(row(serial as u32).leaf_hash());
        let state = &self.ledger.state;
        let path = log::inclusion_proof_from(state, &tree, serial, ROWS.into(), leaf).unwrap();
        let shop = public(SHOP);
        let attempt = self.state().attempt;
        let presented = Presented {
            chain_id: &self.ledger.chain.id,
            lottery_id: &self.id,
            attempt,
            serial,
            shop: &shop,
            signed_at_ms,
        };
        let holder = serial as u8 + 200;
        let signature = presented.sign(&key(holder));
        let body = v1::Redemption {
            lottery_id: self.id.to_bytes(),
            attempt,
            serial,
            identity_hash: identity_hash(serial as u32).to_bytes(),
            holder_key: public(holder),
            tag: row(serial as u32).tag.to_vec().into(),
            tier: 0,
            weight: 1,
            path: path.into_iter().map(Hash::to_bytes).collect(),
            signed_at_ms,
            holder_signature: signature.to_vec().into(),
        };
        self.submit(EntryKind::Redemption, SHOP, &[], &body)
    }
}

#[test]
fn a_missed_close_is_voided_by_members_and_the_second_attempt_ends_in_a_prize() {
    let mut lottery = Lottery::contributing();
    lottery.contribute(1);
    // A leader that lets the round come out before it stamps the close: the members' own clocks in
    // the certificate tell, and the pinned round is not taken.
    let close = lottery.state().contributions_close_ms;
    let round_ms = lottery.round_ms();
    lottery.certified(close, round_ms - MARGIN / 2);
    assert!(!lottery.state().close_certified);
    let not_shown = Err(RejectReason::BeaconCloseNotCertified);
    assert_eq!(lottery.record_round(), not_shown);
    let members = [OFFICES[1], OFFICES[3]];
    assert_eq!(lottery.void(&members), Err(RejectReason::VoidNoEvidence));
    // When the chain shows that the time has passed, the members end the attempt.
    lottery.certified(round_ms, round_ms + 11);
    lottery.void(&members).unwrap();
    let state = lottery.state();
    assert_eq!(
        (state.attempt, state.stage()),
        (2, LotteryStage::Contributing)
    );

    for n in [1, 2, 4] {
        lottery.contribute(n);
    }
    let close = lottery.state().contributions_close_ms;
    lottery.certified(close, close + 20);
    assert!(lottery.state().close_certified);
    lottery.record_round().unwrap();
    let state = lottery.state();
    let chain_id = lottery.ledger.chain.id;
    recompute::recompute(&chain_id, &lottery.id, &state, (0..ROWS).map(row)).unwrap();
    let ranking = index::ranking_slice(&lottery.ledger.state, &lottery.id, 2, 0, 0, 10).unwrap();
    let mut batch = v1::BatchResult {
        lottery_id: lottery.id.to_bytes(),
        attempt: 2,
        tier: 0,
        batch: 0,
        serials: vec![ranking[0], ranking[2]],
    };
    let differs = prove::first_difference(&lottery.ledger.state, &lottery.id, &batch).unwrap();
    assert_eq!(differs, Some(1));
    let kind = EntryKind::BatchResult;
    let refused = lottery.submit(kind, INSTITUTE, &[], &batch);
    assert_eq!(refused, Err(RejectReason::BatchMismatch));
    batch.serials = ranking[..2].to_vec();
    let differs = prove::first_difference(&lottery.ledger.state, &lottery.id, &batch).unwrap();
    assert_eq!(differs, None);
    lottery.submit(kind, INSTITUTE, &[], &batch).unwrap();
    let certify = v1::LotteryCertify {
        lottery_id: lottery.id.to_bytes(),
        attempt: 2,
        document_hash: vec![6; 32].into(),
    };
    let kind = EntryKind::LotteryCertify;
    lottery.submit(kind, NOTARY, &[], &certify).unwrap();

    let now = lottery.ledger.now;
    lottery.redeem(ranking[0], now).unwrap();
    let again = lottery.redeem(ranking[0], now + 5);
    assert_eq!(again, Err(RejectReason::RedemptionTwice));
    let loser = lottery.redeem(ranking[2], now + 5);
    assert_eq!(loser, Err(RejectReason::RedemptionNotAWinner));
}

#[test]
fn who_strips_an_approval_of_a_void_leaves_no_trace_and_the_full_one_is_taken() {
    let mut lottery = Lottery::contributing();
    let round_ms = lottery.round_ms();
    lottery.certified(round_ms, round_ms + 11);
    let body = v1::LotteryVoid {
        lottery_id: lottery.id.to_bytes(),
        attempt: 1,
        reason: "the close was not certified in time".to_owned(),
        ..Default::default()
    };
    let draft = lottery
        .ledger
        .draft(EntryKind::LotteryVoid, &lottery.id.0, &body);
    let full = lottery
        .ledger
        .compose(draft, OFFICES[0], &[OFFICES[1], OFFICES[3]]);
    let mut stripped = full.clone();
    let author = v1::SignaturePurpose::Author as i32;
    let last = stripped
        .signatures
        .iter()
        .rposition(|s| s.purpose != author);
    stripped.signatures.remove(last.unwrap());
    let applied = lottery.ledger.block(vec![stripped]);
    assert!(applied.outcomes.is_empty());
    lottery.ledger.submit(full).unwrap();
    assert_eq!(lottery.state().attempt, 2);
}
