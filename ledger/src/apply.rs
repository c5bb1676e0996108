//! Apply: from a state and a proposal to the next block, the same on every node.
//!
//! What holds here: every entry of the proposal gets one outcome, or leaves no trace because it
//! is malformed, badly or not fully signed, by nobody known, or recorded before; a rule violation is
//! an outcome, never an error; an error is fatal, and the caller stops before it diverges. Everything that is
//! read is under `map_root` or was rebuilt from the log. What stays out: clocks (time comes with the
//! proposal), disks, and who proposes what.

mod ctx;
mod proposal;
mod read;

use bytes::Bytes;
use cairn_proto::v1::{self, EntryKind, RejectReason};

use crate::admission::Admitted;
use crate::checkpoint::{self, CertifiedCheckpoint};
use crate::genesis::{self, Chain, RULES_VERSION};
use crate::hash::Hash;
use crate::log::{self, TreeId};
use crate::lottery::OpenRosters;
use crate::map::Warm;
use crate::state::{MemoryState, Overlay, StateError, StateRead, Writes};
use crate::{canonical, code, evidence, lottery, map, members, rooms};

pub use ctx::Ctx;
use proposal::Judged;
pub use proposal::Proposal;
pub use read::{EntryOutcome, Tip, entry_outcome, header_at, read_block, read_entry, tip};
pub(crate) use read::{Recorded, recorded, signed_entry};

/// The map's namespace of registered authors; the key is the public key.
pub const AUTHOR_NAMESPACE: &str = "author";

/// Why a block could not be applied. Fatal: the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The state could not be read, or is damaged.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no genesis block yet.
    #[error("the state has no genesis block")]
    NoGenesis,
    /// A newer program wrote this state.
    #[error("the ledger is at rules version {0}, this program knows {RULES_VERSION}: upgrade it")]
    RulesVersion(u32),
    /// Members certified another block than the one that this node computed.
    #[error(
        "members certified {certified} at height {height}, this node computed {computed}: stop, keep the data, and compare nodes with: cairn audit replay"
    )]
    CertifiedOtherwise {
        /// Of the block.
        height: u64,
        /// The hash of the certified header.
        certified: Hash,
        /// The hash of ours.
        computed: Hash,
    },
}

/// A block and what it writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The header.
    pub header: v1::Header,
    /// Its canonical bytes.
    pub header_bytes: Bytes,
    /// Their hash.
    pub header_hash: Hash,
    /// One for each entry that was recorded, in order.
    pub outcomes: Vec<v1::Outcome>,
    /// What the state becomes.
    pub writes: Writes,
}

/// The block at height 0: a checkpoint, with the genesis' authors, mandates and members in the map.
pub fn genesis_block(chain: &Chain) -> Result<Applied, ApplyError> {
    let nothing = MemoryState::default();
    let mut overlay: Overlay<'_, dyn StateRead> = Overlay::new(&nothing);
    let created_at_ms = chain.genesis.created_at_ms;
    let fresh = Fresh::new();
    let kept = fresh.kept();
    let mut ctx = Ctx::new(chain, created_at_ms, 0, &mut overlay, Hash::ZERO, kept);
    for author in &chain.genesis.authors {
        ctx.map_put(
            AUTHOR_NAMESPACE,
            &author.public_key,
            canonical::encode(author),
        );
    }
    for mandate in &chain.genesis.mandates {
        code::put_mandate(&mut ctx, mandate);
    }
    members::found(&mut ctx);
    let changes = ctx.into_map_changes();
    let (map_root, pages) = map::update(&nothing, kept.map, &Hash::ZERO, changes)?;
    let members_hash = genesis::members_hash(&chain.members);
    let header = v1::Header {
        chain_id: chain.id.to_bytes(),
        epoch: chain.members.epoch,
        height: 0,
        parent_hash: Hash::ZERO.to_bytes(),
        timestamp_ms: created_at_ms,
        term: 0,
        rules_version: RULES_VERSION,
        tree_size: 0,
        log_root: log::empty_root().to_bytes(),
        map_root: map_root.to_bytes(),
        outcomes_root: log::empty_root().to_bytes(),
        members_hash: members_hash.to_bytes(),
        next_members_hash: members_hash.to_bytes(),
        checkpoint: true,
    };
    Ok(close((overlay, pages), None, header, None, Vec::new()))
}

/// [`apply`] for whoever takes nothing as known, and verifies and reads everything anew.
pub fn replay(
    chain: &Chain,
    state: &dyn StateRead,
    proposal: &v1::Proposal,
    term: u64,
) -> Result<Applied, ApplyError> {
    let fresh = Fresh::new();
    let proposal = Proposal::of(chain, proposal.clone(), &|_| false);
    apply(chain, state, fresh.kept(), &proposal, term)
}

/// What a node keeps in memory from block to block. No block depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// What it has read and made of the map.
    pub map: &'a Warm,
    /// The tags of rosters that are being filled.
    pub rosters: &'a OpenRosters,
}

/// What [`Kept`] shows of somebody who keeps nothing: for one block.
struct Fresh {
    map: Warm,
    rosters: OpenRosters,
}

impl Fresh {
    fn new() -> Fresh {
        Fresh {
            map: Warm::new(0),
            rosters: OpenRosters::new(&[0; 32]),
        }
    }

    fn kept(&self) -> Kept<'_> {
        Kept {
            map: &self.map,
            rosters: &self.rosters,
        }
    }
}

/// Applies `proposal`, committed in Raft's `term`, to `state`.
pub fn apply(
    chain: &Chain,
    state: &dyn StateRead,
    kept: Kept<'_>,
    proposal: &Proposal,
    term: u64,
) -> Result<Applied, ApplyError> {
    let proposed = &proposal.fields;
    let parent = tip(state)?.ok_or(ApplyError::NoGenesis)?;
    if parent.header.rules_version != RULES_VERSION {
        return Err(ApplyError::RulesVersion(parent.header.rules_version));
    }
    let height = parent.header.height + 1;
    let timestamp_ms = parent.header.timestamp_ms.max(proposed.timestamp_ms);
    let mut overlay = Overlay::new(state);
    let map_root = parent.map_root()?;
    let mut ctx = Ctx::new(chain, timestamp_ms, height, &mut overlay, map_root, kept);

    let certificate = known_certificate(chain, state, proposal.certificate())?;
    if let Some(known) = &certificate {
        lottery::rules::note_certificate(
            &mut ctx,
            known.header().timestamp_ms,
            known.certified_by_ms(),
        )?;
        members::note_certificate(&mut ctx, known)?;
    }
    let mut block = Block::after(&parent);
    for judged in &proposal.entries {
        if let Some(entry) = acceptable(&ctx, judged)? {
            block.record(&mut ctx, entry, &judged.bytes)?;
        }
        // What stands behind a change of members leaves no trace and is handed in again: the
        // change's block is the last of its epoch.
        if members::changed_here(&ctx)? {
            break;
        }
    }
    let membership = members::in_force(&ctx)?;
    let changed = members::changed_here(&ctx)?;
    let next_members_hash = if changed {
        genesis::members_hash(&members::set_of(&ctx, membership.epoch)?)
    } else {
        parent.next_members_hash()?
    };
    // Nothing later is certified before the change is: until the chain carries its certificate, no
    // block is a checkpoint.
    let wanted = proposed.checkpoint || parent.checkpoint_is_due(chain, height, timestamp_ms);

    let changes = ctx.into_map_changes();
    let log_root = log::append(
        &mut overlay,
        &TreeId::LEDGER,
        parent.header.tree_size,
        &block.leaves,
    )?;
    let (map_root, pages) = map::update(state, kept.map, &map_root, changes)?;
    let header = v1::Header {
        height,
        parent_hash: parent.header_hash.to_bytes(),
        timestamp_ms,
        term,
        tree_size: block.next_leaf,
        log_root: log_root.to_bytes(),
        map_root: map_root.to_bytes(),
        outcomes_root: outcomes_root(&block.outcomes).to_bytes(),
        epoch: membership.epoch - u64::from(changed),
        members_hash: parent.header.next_members_hash.clone(),
        next_members_hash: next_members_hash.to_bytes(),
        checkpoint: changed || (wanted && !membership.pending),
        ..parent.header.clone()
    };
    let recorded = v1::Proposal {
        timestamp_ms: proposed.timestamp_ms,
        checkpoint: proposed.checkpoint,
        certificate: certificate.map(|known| known.to_proto()),
        entries: Vec::new(),
    };
    Ok(close(
        (overlay, pages),
        Some(&parent),
        header,
        Some(recorded),
        block.outcomes,
    ))
}

/// Writes the block and the tip, beside what its entries and its map have written.
fn close(
    (mut overlay, pages): (Overlay<'_, dyn StateRead + '_>, Writes),
    parent: Option<&Tip>,
    header: v1::Header,
    proposal: Option<v1::Proposal>,
    outcomes: Vec<v1::Outcome>,
) -> Applied {
    let header_bytes = canonical::encode(&header);
    let block = v1::Block {
        header: header_bytes.clone(),
        proposal,
        outcomes,
    };
    let key = rooms::key(rooms::BLOCK, &[&header.height.to_be_bytes()]);
    overlay.put(key, canonical::encode(&block));
    read::put_tip(&mut overlay, parent, &header, &header_bytes);
    let mut writes = overlay.into_writes();
    writes.extend(pages);
    Applied {
        header_hash: checkpoint::header_hash(&header_bytes),
        header,
        header_bytes,
        outcomes: block.outcomes,
        writes,
    }
}

/// The proposal's certificate, if it verifies and is of a block that this node has. A leader may
/// leave it out or hand over garbage; both change nothing.
fn known_certificate(
    chain: &Chain,
    state: &dyn StateRead,
    proposed: Option<&v1::Checkpoint>,
) -> Result<Option<CertifiedCheckpoint>, ApplyError> {
    let Some(proposed) = proposed else {
        return Ok(None);
    };
    let Ok(header) = canonical::decode::<v1::Header>(&proposed.header) else {
        return Ok(None);
    };
    let Some(members) = members::recorded(state, header.epoch)? else {
        return Ok(None);
    };
    let Ok(certified) = checkpoint::certify(&chain.id, &members, proposed) else {
        return Ok(None);
    };
    let height = certified.header().height;
    let Some(ours) = header_at(state, height)? else {
        return Ok(None);
    };
    let computed = checkpoint::header_hash(&ours);
    if computed == certified.header_hash() {
        return Ok(Some(certified));
    }
    Err(ApplyError::CertifiedOtherwise {
        height,
        certified: certified.header_hash(),
        computed,
    })
}

/// The entry, unless it leaves no trace.
fn acceptable<'a, S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    judged: &'a Judged,
) -> Result<Option<&'a Admitted>, StateError> {
    let Some(entry) = &judged.admitted else {
        return Ok(None);
    };
    if entry_outcome(ctx.state, &entry.id)?.is_some() {
        return Ok(None);
    }
    for signature in &entry.signed.signatures {
        if ctx.author(&signature.public_key)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(entry))
}

/// Whether an entry would leave no trace in the block after `state` because of who approved it, and
/// why. Nothing is kept. A node tells its client so, who would wait for an outcome in vain.
pub fn approvals_refused(
    chain: &Chain,
    state: &dyn StateRead,
    entry: &Admitted,
) -> Result<Option<RejectReason>, StateError> {
    let Some(tip) = tip(state)? else {
        return Ok(None);
    };
    // The earliest time at which it may be recorded: an idle chain has an old tip.
    let lifetime = chain.limits().max_entry_lifetime_ms;
    let earliest = entry.envelope.not_after_ms.saturating_sub(lifetime);
    let timestamp_ms = tip.header.timestamp_ms.max(earliest);
    let mut overlay: Overlay<'_, dyn StateRead> = Overlay::new(state);
    let fresh = Fresh::new();
    let kept = fresh.kept();
    let height = tip.header.height + 1;
    let map_root = tip.map_root()?;
    let mut ctx = Ctx::new(chain, timestamp_ms, height, &mut overlay, map_root, kept);
    let decided = decide(&mut ctx, entry, tip.header.tree_size)?;
    Ok(decided.err().filter(leaves_no_trace))
}

/// Approvals stand beside the envelope, which alone makes the id: whoever strips or adds one on the
/// way must not be able to spend the id of the full entry.
fn leaves_no_trace(reason: &RejectReason) -> bool {
    matches!(
        reason,
        RejectReason::ApprovalMissing | RejectReason::ApprovalUnexpected
    )
}

/// What the entries of one block come to.
#[derive(Debug)]
struct Block {
    next_leaf: u64,
    leaves: Vec<Hash>,
    outcomes: Vec<v1::Outcome>,
}

impl Block {
    fn after(parent: &Tip) -> Self {
        Self {
            next_leaf: parent.header.tree_size,
            leaves: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Decides about an entry and keeps its `bytes` with its outcome, the refused ones too: an auditor
    /// replays them. Without the approvals that its rule asks for, and no others, it leaves no trace.
    fn record<S: StateRead + ?Sized>(
        &mut self,
        ctx: &mut Ctx<'_, '_, S>,
        entry: &Admitted,
        bytes: &Bytes,
    ) -> Result<(), StateError> {
        let decided = decide(ctx, entry, self.next_leaf)?;
        if decided.as_ref().is_err_and(leaves_no_trace) {
            return Ok(());
        }
        let position = self.outcomes.len() as u32;
        let place = read::place(ctx.height, position);
        let key = rooms::key(rooms::ENTRY, &[&place]);
        ctx.state.put(key, bytes.clone());
        let outcome = match decided {
            Ok(()) => {
                let leaf_index = self.next_leaf;
                let key = rooms::key(rooms::LEAF, &[&leaf_index.to_be_bytes()]);
                ctx.state.put(key, place.to_vec());
                self.leaves.push(entry.leaf_hash);
                self.next_leaf += 1;
                v1::Outcome {
                    entry_id: entry.id.to_bytes(),
                    rejected: 0,
                    leaf_index,
                }
            }
            Err(reason) => v1::Outcome {
                entry_id: entry.id.to_bytes(),
                rejected: reason as i32,
                leaf_index: 0,
            },
        };
        read::put_outcome(ctx.state, &entry.id, ctx.height, &outcome);
        self.outcomes.push(outcome);
        Ok(())
    }
}

/// The rules. The inner error is the outcome.
fn decide<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<Result<(), RejectReason>, StateError> {
    let not_after = entry.envelope.not_after_ms;
    if not_after < ctx.timestamp_ms {
        return Ok(Err(RejectReason::Expired));
    }
    let lifetime = ctx.chain.limits().max_entry_lifetime_ms;
    if not_after > ctx.timestamp_ms.saturating_add(lifetime) {
        return Ok(Err(RejectReason::NotAfterTooFar));
    }
    match entry.envelope.kind() {
        EntryKind::Unspecified => Ok(Err(RejectReason::BodyMalformed)),
        EntryKind::LotteryOpen
        | EntryKind::RosterChunk
        | EntryKind::RosterFreeze
        | EntryKind::DiceRoll
        | EntryKind::SeedContribution
        | EntryKind::BeaconRound
        | EntryKind::BatchResult
        | EntryKind::LotteryCertify
        | EntryKind::LotteryVoid
        | EntryKind::Objection
        | EntryKind::Ruling
        | EntryKind::Promotion
        | EntryKind::Redemption => lottery::rules::apply_entry(ctx, entry, leaf_index),
        EntryKind::MembershipChange => members::apply_entry(ctx, entry),
        EntryKind::Evidence => evidence::apply_entry(ctx, entry, leaf_index),
        EntryKind::CodeIssue
        | EntryKind::StatusOrder
        | EntryKind::StatusChunk
        | EntryKind::MandateGrant
        | EntryKind::MandateRevoke
        | EntryKind::RegionRule
        | EntryKind::CheckIn
        | EntryKind::Appeal
        | EntryKind::Decision
        | EntryKind::BodyErasure
        | EntryKind::Recognition
        | EntryKind::RecognitionRevoke
        | EntryKind::OrderRefusal => code::rules::apply_entry(ctx, entry, leaf_index),
    }
}

/// RFC 9162 root over the outcomes: entry id (32) ‖ reason (4, big-endian) ‖ leaf index (8).
pub(crate) fn outcomes_root(outcomes: &[v1::Outcome]) -> Hash {
    let leaf = |outcome: &v1::Outcome| {
        let reason = outcome.rejected.to_be_bytes();
        let index = outcome.leaf_index.to_be_bytes();
        log::leaf_hash(&[&outcome.entry_id[..], &reason, &index].concat())
    };
    let leaves: Vec<Hash> = outcomes.iter().map(leaf).collect();
    log::root_of(&leaves)
}

#[cfg(test)]
mod tests;
