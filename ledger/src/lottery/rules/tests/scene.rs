//! The stage on which lotteries are tried: a ledger of one entry a block, its authors, entries of
//! every kind, and lotteries brought as far as a test needs them.

use super::*;
use crate::apply::Kept;
use crate::lottery::OpenRosters;
use crate::map::Warm;

// Authors, by the byte their keys are made of.
pub(super) const ORGANISER: u8 = 1;
pub(super) const NOTARY: u8 = 2;
pub(super) const REGISTRAR: u8 = 3;
pub(super) const INSTITUTE: u8 = 4;
pub(super) const AUTHORITY: u8 = 5;
pub(super) const SHOP: u8 = 6;
pub(super) const OTHER_SHOP: u8 = 7;
pub(super) const STRANGER: u8 = 9;
/// The office of member n is this and n.
pub(super) const OFFICES: u8 = 110;

pub(super) const START: u64 = 1_700_000_000_000;
pub(super) const WINDOW: u64 = 60_000;
pub(super) const MARGIN: u64 = 20_000;
pub(super) const SALT: [u8; 32] = [77; 32];

pub(super) fn key(n: u8) -> Bytes {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
    Bytes::copy_from_slice(secret.verifying_key().as_bytes())
}

pub(super) fn bls(n: u8) -> SeedSecret {
    SeedSecret::from_key_material(&[n; 32]).unwrap()
}

pub(super) fn seed_key(n: u8) -> Bytes {
    seed::seed_key_public(&bls(n)).to_vec().into()
}

pub(super) fn possession(n: u8) -> Bytes {
    seed::prove_possession(&bls(n)).to_vec().into()
}

pub(super) fn genesis() -> v1::Genesis {
    let member = |n: u8, role: Role| v1::Member {
        raft_id: u64::from(n),
        institution: format!("member {n}"),
        role: role as i32,
        cosign_key: key(100 + n),
        peer_id: vec![n; 38].into(),
        seed_key: seed_key(n),
        seed_key_proof: possession(n),
        office_key: key(OFFICES + n),
        ..Default::default()
    };
    let mut authors: Vec<v1::Author> = [
        (ORGANISER, Role::Organiser),
        (NOTARY, Role::Notary),
        (REGISTRAR, Role::Registrar),
        (INSTITUTE, Role::Institute),
        (AUTHORITY, Role::Authority),
        (SHOP, Role::PointOfSale),
        (OTHER_SHOP, Role::PointOfSale),
        (OFFICES + 1, Role::Notary),
        (OFFICES + 2, Role::Government),
        (OFFICES + 3, Role::Government),
        (OFFICES + 4, Role::Institute),
    ]
    .into_iter()
    .map(|(n, role)| v1::Author {
        public_key: key(n),
        name: format!("author {n}"),
        role: role as i32,
    })
    .collect();
    authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    v1::Genesis {
        name: "test".to_owned(),
        created_at_ms: START,
        rules_version: 1,
        members: Some(v1::MemberSet {
            epoch: 0,
            members: vec![
                member(1, Role::Notary),
                member(2, Role::Government),
                member(3, Role::Government),
                member(4, Role::Institute),
            ],
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 2,
                detect_only: false,
            }),
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 10_000,
            max_block_bytes: 8 << 20,
            max_entry_lifetime_ms: 3_600_000,
            checkpoint_every_blocks: 64,
            checkpoint_every_ms: 1_000,
        }),
        authors,
        mandates: vec![],
        mandate_policy: None,
    }
}

/// A ledger of one entry a block.
pub(super) struct Ledger {
    pub(super) chain: Chain,
    pub(super) state: MemoryState,
    rosters: OpenRosters,
    pub(super) map_root: Hash,
    pub(super) height: u64,
    pub(super) now: u64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let chain = Chain::from_bytes(&canonical::encode(&genesis())).unwrap();
        let first = crate::apply::genesis_block(&chain).unwrap();
        let mut state = MemoryState::default();
        state.commit(first.writes);
        Self {
            chain,
            state,
            rosters: OpenRosters::new(&[5; 32]),
            map_root: Hash::from_slice(&first.header.map_root).unwrap(),
            height: 1,
            now: START,
        }
    }

    /// Runs `act` on a block stamped `now` and keeps what it wrote; asserts that a refusal wrote
    /// nothing.
    pub(super) fn block<T>(
        &mut self,
        act: impl FnOnce(&mut Ctx<'_, '_, MemoryState>) -> Result<T, RejectReason>,
    ) -> Result<T, RejectReason> {
        let mut overlay = Overlay::new(&self.state);
        let kept = Kept {
            map: &Warm::new(0),
            rosters: &self.rosters,
        };
        let (now, height, root) = (self.now, self.height, self.map_root);
        let mut ctx = Ctx::new(&self.chain, now, height, &mut overlay, root, kept);
        let outcome = act(&mut ctx);
        let changes = ctx.into_map_changes();
        if outcome.is_ok() {
            let pages;
            (self.map_root, pages) =
                map::update(&self.state, &Warm::new(0), &self.map_root, changes).unwrap();
            overlay.extend(pages);
        } else {
            assert!(changes.is_empty(), "a refused entry changed the map");
        }
        let writes = overlay.into_writes();
        assert!(
            outcome.is_ok() || writes.is_empty(),
            "a refused entry wrote"
        );
        self.state.commit(writes);
        self.height += 1;
        outcome
    }

    pub(super) fn apply(&mut self, entry: &Admitted) -> Result<(), RejectReason> {
        let height = self.height;
        self.block(|ctx| {
            apply_entry(ctx, entry, height).unwrap()?;
            let place = [&height.to_be_bytes()[..], &[0; 4]].concat();
            let signed = entry.signed.encode_to_vec();
            ctx.state.put(rooms::key(rooms::ENTRY, &[&place]), signed);
            let leaf = rooms::key(rooms::LEAF, &[&height.to_be_bytes()]);
            ctx.state.put(leaf, place);
            Ok(())
        })
    }

    pub(super) fn accept(&mut self, entry: &Admitted) {
        assert_eq!(self.apply(entry), Ok(()));
    }

    #[track_caller]
    pub(super) fn refuse(&mut self, entry: &Admitted, reason: RejectReason) {
        assert_eq!(self.apply(entry), Err(reason));
    }

    pub(super) fn certificate(&mut self, header_ms: u64, cosigned_ms: u64) {
        self.block(|ctx| {
            note_certificate(ctx, header_ms, cosigned_ms).unwrap();
            Ok(())
        })
        .unwrap();
    }

    pub(super) fn lottery(&self, id: &Hash) -> v1::LotteryState {
        prove::lottery(&self.state, id).unwrap().unwrap()
    }
}

pub(super) fn entry(
    kind: EntryKind,
    author: u8,
    approvals: &[u8],
    subject: &[u8],
    body: &impl prost::Message,
) -> Admitted {
    let body: Bytes = body.encode_to_vec().into();
    let envelope = v1::Envelope {
        kind: kind as i32,
        author: key(author),
        body_hash: hash::plain(&body).to_bytes(),
        body_len: body.len() as u64,
        subject: Bytes::copy_from_slice(subject),
        ..Default::default()
    };
    let bytes: Bytes = envelope.encode_to_vec().into();
    let approve = |&n: &u8| v1::Signature {
        public_key: key(n),
        purpose: v1::SignaturePurpose::Approval as i32,
        signature: Bytes::new(),
    };
    let mut signatures: Vec<v1::Signature> = approvals.iter().map(approve).collect();
    signatures.push(v1::Signature {
        public_key: key(author),
        purpose: v1::SignaturePurpose::Author as i32,
        signature: Bytes::new(),
    });
    Admitted {
        id: hash::plain(&bytes),
        leaf_hash: hash::plain(&bytes),
        envelope,
        signed: v1::SignedEntry {
            envelope: bytes,
            signatures,
            body,
        },
    }
}

pub(super) const BEACON: u8 = 50;

pub(super) fn rules() -> v1::LotteryOpen {
    let tier = |name: &str, quota| v1::Tier {
        name: name.to_owned(),
        quota,
        waiting_list: 0,
    };
    let contributor = |n: u8| v1::Contributor {
        institution: format!("member {n}"),
        seed_key: seed_key(n),
        seed_key_proof: possession(n),
    };
    v1::LotteryOpen {
        title: "Masks".to_owned(),
        tiers: vec![tier("north", 5), tier("south", 100)],
        rows_per_batch: 3,
        notary: key(NOTARY),
        registrar: key(REGISTRAR),
        institute: key(INSTITUTE),
        contributors: vec![contributor(1), contributor(2), contributor(3)],
        with_dice: true,
        contribution_window_ms: WINDOW,
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
        ..Default::default()
    }
}

pub(super) fn open(rules: &v1::LotteryOpen) -> Admitted {
    entry(EntryKind::LotteryOpen, ORGANISER, &[NOTARY], &[], rules)
}

/// Every applicant has a key of their own.
pub(super) fn holder(serial: u32) -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(
        &hash::plain(&[&[200], &serial.to_be_bytes()[..]].concat()).0,
    )
}

pub(super) fn holder_key(serial: u32) -> [u8; 32] {
    holder(serial).verifying_key().to_bytes()
}

pub(super) fn rows(serials: std::ops::Range<u32>) -> Vec<Row> {
    let row = |serial: u32| Row {
        commitment: commitment(&SALT, &serial.to_be_bytes(), &holder_key(serial)).0,
        tag: hash::plain(&serial.to_be_bytes()).0,
        tier: u32::from(serial % 3 == 2),
        weight: 1 + serial % 4,
    };
    serials.map(row).collect()
}

pub(super) fn chunk_of(id: &Hash, first_serial: u64, rows: &[Row]) -> v1::RosterChunk {
    v1::RosterChunk {
        lottery_id: id.to_bytes(),
        first_serial,
        commitments: rows.iter().flat_map(|r| r.commitment).collect(),
        tags: rows.iter().flat_map(|r| r.tag).collect(),
        tiers: rows.iter().map(|r| r.tier).collect(),
        weights: rows.iter().map(|r| r.weight).collect(),
    }
}

pub(super) fn chunk(id: &Hash, first_serial: u64, rows: &[Row]) -> Admitted {
    let body = chunk_of(id, first_serial, rows);
    entry(EntryKind::RosterChunk, REGISTRAR, &[], &id.0, &body)
}

pub(super) fn freeze(id: &Hash, root: &Bytes, count: u64) -> Admitted {
    let body = v1::RosterFreeze {
        lottery_id: id.to_bytes(),
        roster_root: root.clone(),
        count,
    };
    entry(EntryKind::RosterFreeze, REGISTRAR, &[NOTARY], &id.0, &body)
}

pub(super) fn dice_body(id: &Hash, digits: &[u8]) -> v1::DiceRoll {
    v1::DiceRoll {
        lottery_id: id.to_bytes(),
        attempt: 1,
        digits: Bytes::copy_from_slice(digits),
        evidence_hash: vec![4; 32].into(),
    }
}

pub(super) fn dice(id: &Hash, digits: &[u8]) -> Admitted {
    let body = dice_body(id, digits);
    entry(EntryKind::DiceRoll, NOTARY, &[], &id.0, &body)
}

pub(super) fn contribution_body(ledger: &Ledger, id: &Hash, n: u8) -> v1::SeedContribution {
    let lottery = ledger.lottery(id);
    let message = contribution_message(&ledger.chain.id, id, &lottery).unwrap();
    v1::SeedContribution {
        lottery_id: id.to_bytes(),
        attempt: lottery.attempt,
        seed_key: seed_key(n),
        signature: seed::sign_contribution(&bls(n), &message).to_vec().into(),
    }
}

pub(super) fn contribution(id: &Hash, body: &v1::SeedContribution) -> Admitted {
    entry(EntryKind::SeedContribution, AUTHORITY, &[], &id.0, body)
}

pub(super) fn round_body(id: &Hash, round: u64) -> v1::BeaconRound {
    v1::BeaconRound {
        lottery_id: id.to_bytes(),
        attempt: 1,
        round,
        signature: beacon::sign_round(&bls(BEACON), round).to_vec().into(),
    }
}

pub(super) fn round(id: &Hash, round: u64) -> Admitted {
    let body = round_body(id, round);
    entry(EntryKind::BeaconRound, AUTHORITY, &[], &id.0, &body)
}

pub(super) fn batch(id: &Hash, tier: u32, batch: u32, serials: Vec<u64>) -> Admitted {
    batch_of(id, 1, tier, batch, serials)
}

pub(super) fn batch_of(
    id: &Hash,
    attempt: u32,
    tier: u32,
    batch: u32,
    serials: Vec<u64>,
) -> Admitted {
    let body = v1::BatchResult {
        lottery_id: id.to_bytes(),
        attempt,
        tier,
        batch,
        serials,
    };
    entry(EntryKind::BatchResult, INSTITUTE, &[], &id.0, &body)
}

pub(super) fn certify(id: &Hash) -> Admitted {
    let body = v1::LotteryCertify {
        lottery_id: id.to_bytes(),
        attempt: 1,
        document_hash: vec![6; 32].into(),
    };
    entry(EntryKind::LotteryCertify, NOTARY, &[], &id.0, &body)
}

pub(super) const ROWS: u32 = 30;

pub(super) fn opened(rules: &v1::LotteryOpen) -> (Ledger, Hash) {
    let mut ledger = Ledger::new();
    let open = open(rules);
    ledger.accept(&open);
    (ledger, open.id)
}

pub(super) fn filled() -> (Ledger, Hash) {
    let (mut ledger, id) = opened(&rules());
    ledger.accept(&chunk(&id, 0, &rows(0..20)));
    ledger.accept(&chunk(&id, 20, &rows(20..ROWS)));
    (ledger, id)
}

pub(super) fn frozen() -> (Ledger, Hash) {
    let (mut ledger, id) = filled();
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, ROWS.into()));
    (ledger, id)
}

/// An entry of evidence's effect: the document is on the ledger.
pub(super) fn document(ledger: &mut Ledger, hash: [u8; 32]) -> Bytes {
    ledger
        .block(|ctx| {
            let state = v1::EvidenceState {
                leaf_index: 1,
                ..Default::default()
            };
            let value = canonical::encode(&state);
            ctx.map_put(crate::evidence::NAMESPACE, &hash, value);
            Ok(())
        })
        .unwrap();
    Bytes::copy_from_slice(&hash)
}

pub(super) fn void_body(id: &Hash, attempt: u32, evidence: &Bytes) -> v1::LotteryVoid {
    v1::LotteryVoid {
        lottery_id: id.to_bytes(),
        attempt,
        reason: "a row too many".to_owned(),
        evidence_hash: evidence.clone(),
        absentees: vec![],
    }
}

/// Signed by three of four members.
pub(super) fn void(id: &Hash, body: &v1::LotteryVoid) -> Admitted {
    let approvals = [OFFICES + 2, OFFICES + 4];
    entry(EntryKind::LotteryVoid, OFFICES + 1, &approvals, &id.0, body)
}

pub(super) fn map_message<M: Message + Default>(
    ledger: &Ledger,
    namespace: &str,
    raw: &[u8],
) -> Option<M> {
    let value = map::get(&ledger.state, &map::map_key(namespace, raw)).unwrap();
    value.map(|value| M::decode(value).unwrap())
}

pub(super) fn contributing() -> (Ledger, Hash) {
    let (mut ledger, id) = frozen();
    ledger.now += 5_000;
    ledger.accept(&dice(&id, &[1, 6, 3]));
    (ledger, id)
}

/// Two of three contributed, the close is certified.
pub(super) fn closed() -> (Ledger, Hash) {
    let (mut ledger, id) = contributing();
    for n in [3, 1] {
        let body = contribution_body(&ledger, &id, n);
        ledger.accept(&contribution(&id, &body));
    }
    let close = ledger.lottery(&id).contributions_close_ms;
    ledger.now = close + 1;
    ledger.certificate(close + 1, close + 2);
    (ledger, id)
}

pub(super) fn drawn() -> (Ledger, Hash) {
    let (mut ledger, id) = closed();
    let pinned = ledger.lottery(&id).beacon_round;
    ledger.accept(&round(&id, pinned));
    (ledger, id)
}

pub(super) fn winners(ledger: &Ledger, id: &Hash, tier: u32, n: u64) -> Vec<u64> {
    let result = &ledger.lottery(id).results[tier as usize];
    let count = 3.min(result.winners - n * 3) as usize;
    ranking_slice(&ledger.state, id, 1, tier, n * 3, count).unwrap()
}

/// All batches but the last one.
pub(super) fn nearly_complete() -> (Ledger, Hash, Admitted) {
    let (mut ledger, id) = drawn();
    let mut batches = Vec::new();
    for tier in 0..2 {
        let winners_of = ledger.lottery(&id).results[tier as usize].winners;
        for n in 0..winners_of.div_ceil(3) {
            batches.push(batch(&id, tier, n as u32, winners(&ledger, &id, tier, n)));
        }
    }
    let last = batches.pop().unwrap();
    for batch in &batches {
        ledger.accept(batch);
    }
    (ledger, id, last)
}

/// Walks a lottery with these rules, of the beacon profile, to its last batch.
pub(super) fn completed(rules: &v1::LotteryOpen) -> (Ledger, Hash) {
    let (mut ledger, id) = opened(rules);
    ledger.accept(&chunk(&id, 0, &rows(0..ROWS)));
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, ROWS.into()));
    ledger.accept(&dice(&id, &[1, 6, 3]));
    let lottery = ledger.lottery(&id);
    ledger.now = lottery.contributions_close_ms + 1;
    ledger.certificate(ledger.now, ledger.now);
    ledger.accept(&round(&id, lottery.beacon_round));
    for (tier, result) in (0u32..).zip(&ledger.lottery(&id).results) {
        let last = if rules.full_ranking {
            result.entrants
        } else {
            result.winners
        };
        let ranked = ranking_slice(&ledger.state, &id, 1, tier, 0, last as usize).unwrap();
        for (n, serials) in (0u32..).zip(ranked.chunks(rules.rows_per_batch as usize)) {
            ledger.accept(&batch(&id, tier, n, serials.to_vec()));
        }
    }
    assert_eq!(ledger.lottery(&id).stage(), LotteryStage::Complete);
    (ledger, id)
}

pub(super) fn complete() -> (Ledger, Hash) {
    let (mut ledger, id, last) = nearly_complete();
    assert_eq!(ledger.lottery(&id).stage(), LotteryStage::Drawing);
    ledger.accept(&last);
    (ledger, id)
}
