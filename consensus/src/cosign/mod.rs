//! Cosigning: this member's signature under every checkpoint that it computed itself, and the
//! certificates that all members' signatures make together.
//!
//! What holds here: the sign guard has recorded a header durably before its first cosignature
//! leaves; a member never signs below what its guard holds, nor before [`Cosigner::begin`], and a
//! block that contradicts the guard stops the node. Cosignatures are verified before they are kept.
//! A certificate counts only once its block is part of the state; it is kept by height, moves the
//! serving view forward, and grows fresher as members renew. A member's cosignature of
//! another header than ours is kept as evidence and alarmed, never counted.
//!
//! What stays out: when a block becomes a checkpoint (the sequencer asks, the rules decide), and
//! how notices travel (`gossip`).

mod collect;
mod epochs;
mod progress;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod witness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::apply;
use cairn_ledger::checkpoint::{self, CertifiedCheckpoint};
use cairn_ledger::epochs::Epochs;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::map::Warm;
use cairn_proto::v1;
use cairn_storage::{Guarded, SignGuard, StateSnapshot, StateStore, View};
use ed25519_dalek::SigningKey;
use tokio::sync::watch;
use tokio::time::Instant;

use self::collect::Judged;
pub use self::progress::CosignError;
pub(crate) use self::progress::Progress;
pub(crate) use self::witness::Recalled;
use self::witness::Witness;
use crate::evidence::Alarms;
use crate::locked;
use crate::network::Clock;

/// Checkpoints that wait for their certificate with a snapshot of their state at hand. Each pins
/// versions in the database; a healthy chain has one.
pub const MAX_PENDING_VIEWS: usize = 4;
/// Checkpoints whose cosignatures are collected at a time.
const MAX_CANDIDATES: usize = 64;
/// Cosignatures kept per member for checkpoints that this node has not computed yet.
const MAX_EARLY: usize = 16;
/// A member stops to renew when a later block stays uncertified for so long: its cosignature says
/// "the latest that I know", and must not say so much longer.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// A checkpoint that this node computed.
struct Candidate {
    epoch: u64,
    header_bytes: Bytes,
    hash: Hash,
    /// By public key, ascending: the order of a certificate.
    cosignatures: BTreeMap<Bytes, v1::Cosignature>,
}

#[derive(Default)]
struct Inner {
    candidates: BTreeMap<u64, Candidate>,
    snapshots: BTreeMap<u64, StateSnapshot>,
    /// By member, by height.
    early: BTreeMap<u64, BTreeMap<u64, v1::CosignatureNotice>>,
    witness: Witness,
    /// The highest block that this node applied.
    tip: u64,
    /// By height: bytes of the proposals above the last certificate.
    tail: BTreeMap<u64, u64>,
    tail_bytes: u64,
    newest_checkpoint: Option<u64>,
    /// The block of a change of members whose certificate the chain does not carry yet.
    changing: Option<u64>,
    /// Since when a block above the last certificate waits.
    uncertified_since: Option<Instant>,
    view: Option<Arc<View>>,
    alarms: Alarms,
}

/// What blocks and proofs have read and made of the map is kept up to so many bytes: all pages and
/// values of a map of a million codes take 270 MB.
const WARM_BYTES: usize = 320 << 20;

/// One member's cosigning.
pub(crate) struct Cosigner {
    me: u64,
    chain: Arc<Chain>,
    key: SigningKey,
    public: Bytes,
    clock: Arc<dyn Clock>,
    guard: SignGuard,
    store: Arc<StateStore>,
    /// What the proofs of all views have read.
    warm: Arc<Warm>,
    inner: Mutex<Inner>,
    /// Whether this member may sign yet. Held while a checkpoint is taken in, so that none falls
    /// between.
    begun: Mutex<bool>,
    /// What this member says to all others: its newest cosignature.
    notice: watch::Sender<Option<v1::CosignatureNotice>>,
    certified: watch::Sender<Option<Arc<CertifiedCheckpoint>>>,
    /// Who certifies, as far as certified changes of members are known here.
    epochs: watch::Sender<Arc<Epochs>>,
    learning: Mutex<()>,
    /// Who spoke of an epoch that is not known here.
    behind: watch::Sender<Option<u64>>,
}

impl Cosigner {
    /// Opens on what the store holds: the last certificate, and the tip, where it is a checkpoint.
    /// Nothing is signed before [`Cosigner::begin`].
    pub(crate) fn open(
        me: u64,
        chain: Arc<Chain>,
        key: SigningKey,
        clock: Arc<dyn Clock>,
        guard: SignGuard,
        store: Arc<StateStore>,
    ) -> Result<Self, CosignError> {
        let public = Bytes::copy_from_slice(key.verifying_key().as_bytes());
        let epochs = epochs::held(&chain, &store)?;
        let mut witness = Witness::open(guard.log())?;
        let certified = match store.latest_checkpoint()? {
            None => None,
            Some((_, proto)) => {
                let certified = collect::certify(&epochs, &proto)?;
                witness.note_all(&epochs, &certified);
                Some(Arc::new(certified))
            }
        };
        let own = witness.of(me).cloned();
        let cosigner = Self {
            me,
            chain,
            key,
            public,
            clock,
            guard,
            store,
            warm: Arc::new(Warm::new(WARM_BYTES)),
            inner: Mutex::new(Inner {
                witness,
                ..Inner::default()
            }),
            begun: Mutex::default(),
            notice: watch::Sender::new(None),
            certified: watch::Sender::new(certified),
            epochs: watch::Sender::new(Arc::new(epochs)),
            learning: Mutex::default(),
            behind: watch::Sender::new(None),
        };
        if let Some(own) = own {
            cosigner.is_known(me, &own)?;
        }
        if let Some(tip) = apply::tip(&*cosigner.store)? {
            cosigner.stands_at(&tip)?;
        }
        Ok(cosigner)
    }

    /// Another state took the place of the one before, as a copy that was installed does. What was
    /// collected for the old one is nothing any more; the new tip is signed like a block of ours,
    /// because all of it was checked against its header.
    pub(crate) fn installed(&self) -> Result<(), CosignError> {
        {
            let inner = &mut *locked(&self.inner);
            inner.candidates.clear();
            inner.snapshots.clear();
            inner.tail.clear();
            inner.tail_bytes = 0;
            inner.newest_checkpoint = None;
            inner.changing = None;
            inner.uncertified_since = None;
        }
        self.learn_from_state()?;
        let Some(tip) = apply::tip(&*self.store)? else {
            return Ok(());
        };
        self.stands_at(&tip)?;
        match self.store.checkpoint_at(tip.header.height)? {
            Some(certificate) => self.adopt(&certificate),
            None => Ok(()),
        }
    }

    /// What this node keeps of the map, for blocks and for proofs.
    pub(crate) fn warm(&self) -> &Warm {
        &self.warm
    }

    /// A block was computed and is about to be written. Where it is a checkpoint this member signs it
    /// now: others wait for the cosignature, and a large block takes long to write. A crash in between
    /// forgets nothing, for the guard holds the header and Raft's log the block, which comes out alike
    /// again.
    pub(crate) fn block_computed(
        &self,
        header: &v1::Header,
        header_bytes: &Bytes,
        hash: &Hash,
    ) -> Result<(), CosignError> {
        self.check_guard(header.height, hash)?;
        match header.checkpoint {
            true => self.collect(header, header_bytes, hash),
            false => Ok(()),
        }
    }

    /// A block that was computed is part of the state. Called in order of height, before the next one
    /// is written: the snapshot that is taken here is exactly this block's state.
    pub(crate) fn block_applied(
        &self,
        header: &v1::Header,
        proposal_bytes: u64,
    ) -> Result<(), CosignError> {
        let height = header.height;
        let snapshot = header
            .checkpoint
            .then(|| self.store.snapshot())
            .transpose()?;
        {
            let inner = &mut *locked(&self.inner);
            // Together with the snapshot: from here on a certificate of this block is adopted, and
            // moves the view to it.
            inner.tip = height;
            if self.certified_height().is_none_or(|c| c < height) {
                inner.uncertified_since.get_or_insert_with(Instant::now);
                inner.tail.insert(height, proposal_bytes);
                inner.tail_bytes += proposal_bytes;
            }
            if let Some(snapshot) = snapshot {
                if inner.snapshots.len() >= MAX_PENDING_VIEWS {
                    // The older ones may be certified any moment; the newest will be when all is well
                    // again. The one between gives way.
                    inner.snapshots.pop_last();
                }
                inner.snapshots.insert(height, snapshot);
            }
        }
        match header.checkpoint {
            true => self.settle(height),
            false => Ok(()),
        }
    }

    /// The block that the state ends with is collected for and counts, as if it had just been applied.
    fn stands_at(&self, tip: &apply::Tip) -> Result<(), CosignError> {
        let header_bytes = cairn_ledger::canonical::encode(&tip.header);
        self.block_computed(&tip.header, &header_bytes, &tip.header_hash)?;
        self.block_applied(&tip.header, 0)?;
        self.resume_change(tip.header.height)
    }

    fn check_guard(&self, height: u64, hash: &Hash) -> Result<(), CosignError> {
        match self.guard.held() {
            Some(held) if held.height == height && held.hash != *hash => {
                Err(CosignError::Contradiction {
                    height,
                    signed: held.hash,
                    computed: *hash,
                })
            }
            _ => Ok(()),
        }
    }

    /// From now on this member signs, the newest checkpoint first: enough others have said that
    /// they know of nothing that the guard does not.
    pub(crate) fn begin(&self) -> Result<(), CosignError> {
        let mut begun = locked(&self.begun);
        *begun = true;
        let newest = {
            let inner = locked(&self.inner);
            let newest = inner.newest_checkpoint;
            newest.and_then(|height| {
                let candidate = inner.candidates.get(&height)?;
                Some((candidate.epoch, height, candidate.hash))
            })
        };
        match newest {
            Some((epoch, height, hash)) if self.permitted(epoch, height, &hash)? => {
                self.sign(height)
            }
            _ => Ok(()),
        }
    }

    /// Whether this member cosigns the header. If so, the guard holds it.
    fn permitted(&self, epoch: u64, height: u64, hash: &Hash) -> Result<bool, CosignError> {
        // Below the guard (a replay after a crash) a cosignature would say nothing new.
        let above = self.guard.held().is_none_or(|held| held.height <= height);
        if !above || !self.cosigns_in(epoch) {
            return Ok(false);
        }
        let descends = |held: &Guarded| {
            let ours = apply::header_at(&*self.store, held.height);
            matches!(ours, Ok(Some(ours)) if checkpoint::header_hash(&ours) == held.hash)
        };
        self.guard.permit(epoch, height, hash, descends)?;
        Ok(true)
    }

    /// Signs a checkpoint, where this member may, and begins to collect cosignatures for it.
    fn collect(
        &self,
        header: &v1::Header,
        header_bytes: &Bytes,
        hash: &Hash,
    ) -> Result<(), CosignError> {
        let height = header.height;
        let begun = locked(&self.begun);
        let may_sign = *begun && self.permitted(header.epoch, height, hash)?;
        let early = {
            let inner = &mut *locked(&self.inner);
            inner.newest_checkpoint = Some(height);
            // A checkpoint behind a change is there only because the chain carries the change's
            // certificate.
            inner.changing = epochs::ends(header).then_some(height);
            inner.candidates.insert(
                height,
                Candidate {
                    epoch: header.epoch,
                    header_bytes: header_bytes.clone(),
                    hash: *hash,
                    cosignatures: BTreeMap::new(),
                },
            );
            while inner.candidates.len() > MAX_CANDIDATES {
                inner.candidates.pop_first();
            }
            let mut early = Vec::new();
            for (member, notices) in &mut inner.early {
                if let Some(notice) = notices.remove(&height) {
                    early.push((*member, notice));
                }
                // What lies below will never be asked for again.
                *notices = notices.split_off(&height);
            }
            early
        };
        if may_sign {
            self.sign(height)?;
        }
        for (member, notice) in early {
            // Its epoch may not have been known when it came.
            if self.judge(member, &notice) == Judged::Valid {
                self.count(member, &notice)?;
            }
        }
        Ok(())
    }

    /// Adopts the certificate of a checkpoint that is part of the state now: the one that was kept before
    /// a restart, or was complete before the block was written.
    fn settle(&self, height: u64) -> Result<(), CosignError> {
        let kept = self.certified.borrow().clone();
        let certificate = match kept.filter(|kept| kept.header().height == height) {
            Some(kept) => Some(kept.to_proto()),
            None => locked(&self.inner)
                .candidates
                .get(&height)
                .and_then(|candidate| self.complete(candidate)),
        };
        certificate.map_or(Ok(()), |certificate| self.adopt(&certificate))
    }

    /// Signs the candidate at `height` with the time of now, and says so to all.
    fn sign(&self, height: u64) -> Result<(), CosignError> {
        let notice = {
            let inner = locked(&self.inner);
            let Some(candidate) = inner.candidates.get(&height) else {
                return Ok(());
            };
            let now = self.clock.now_ms();
            let cosignature = checkpoint::cosign(&self.key, &self.chain.id, &candidate.hash, now);
            v1::CosignatureNotice {
                height,
                header_hash: candidate.hash.to_bytes(),
                cosignature: Some(cosignature),
                header: candidate.header_bytes.clone(),
            }
        };
        self.count(self.me, &notice)?;
        // A renewal of an older checkpoint may have begun before this one was signed.
        self.notice.send_if_modified(|told| {
            let newer = told.as_ref().is_none_or(|told| told.height <= height);
            if newer {
                *told = Some(notice);
            }
            newer
        });
        Ok(())
    }

    /// Renews the cosignature of the highest checkpoint that this member signed, unless a later
    /// block has stayed uncertified for too long.
    pub(crate) fn renew(&self, every: Duration) -> Result<(), CosignError> {
        let signed = self.notice.borrow().as_ref().map(|notice| {
            let at = notice.cosignature.as_ref().map_or(0, |c| c.cosigned_at_ms);
            (notice.height, at)
        });
        let Some((height, at)) = signed else {
            return Ok(());
        };
        let due = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        if self.clock.now_ms().saturating_sub(at) < due {
            return Ok(());
        }
        let stale = {
            let inner = locked(&self.inner);
            let waited = inner.uncertified_since.map(|since| since.elapsed());
            let waits = inner.tip > height && waited.is_some_and(|waited| waited >= STALE_AFTER);
            // A block that could not be written is not the latest that this node has.
            waits || inner.tip < height
        };
        if stale {
            return Ok(());
        }
        self.sign(height)
    }

    pub(crate) fn certified_height(&self) -> Option<u64> {
        self.certified.borrow().as_ref().map(|c| c.header().height)
    }

    pub(crate) fn progress(&self) -> Progress {
        let inner = locked(&self.inner);
        Progress {
            tip: inner.tip,
            newest_checkpoint: inner.newest_checkpoint,
            changing: inner.changing,
            certified: self.certified_height(),
            tail_bytes: inner.tail_bytes,
        }
    }

    pub(crate) fn certified(&self) -> watch::Receiver<Option<Arc<CertifiedCheckpoint>>> {
        self.certified.subscribe()
    }

    pub(crate) fn notice(&self) -> watch::Receiver<Option<v1::CosignatureNotice>> {
        self.notice.subscribe()
    }

    pub(crate) fn view(&self) -> Option<Arc<View>> {
        locked(&self.inner).view.clone()
    }

    /// Who certifies, as far as certified changes of members are known here.
    pub(crate) fn epochs(&self) -> watch::Receiver<Arc<Epochs>> {
        self.epochs.subscribe()
    }

    /// Who spoke of an epoch that is not known here.
    pub(crate) fn behind(&self) -> watch::Receiver<Option<u64>> {
        self.behind.subscribe()
    }

    /// The highest header that `member` cosigned, as seen here.
    pub(crate) fn seen(&self, member: u64) -> u64 {
        locked(&self.inner).witness.height(member).unwrap_or(0)
    }

    /// How often a member cosigned against us.
    pub(crate) fn conflicts(&self) -> u64 {
        locked(&self.inner).alarms.count()
    }
}
