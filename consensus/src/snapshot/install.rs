//! From a state that came from elsewhere to this node's own.
//!
//! What holds here: a state is adopted only after [`check`]: its members' certificate under the
//! pinned genesis, its tip, its whole log and its whole map, every certificate in it, and Raft's
//! position. The Raft log is synced before, so that what Raft removed from it for this snapshot stays
//! removed; the pointer moves in one rename; and everything that this node holds of the old state is
//! replaced before the next entry is applied. This node's evidence of equivocation moves along.

use std::io;
use std::sync::Arc;

use cairn_ledger::apply;
use cairn_ledger::checkpoint::{self, CertifiedCheckpoint};
use cairn_ledger::epochs::Epochs;
use cairn_ledger::foreign;
use cairn_ledger::genesis::Chain;
use cairn_storage::{Disk, LogStore, StateStore};

use super::{Checked, Copies, SnapshotData, meta_of};
use crate::applier::{Applier, Position};
use crate::cosign::Cosigner;
use crate::secret;
use crate::tracker::Tracker;
use crate::types::{SnapshotMeta, from_bytes};

/// Certificates checked at a time.
const PORTION: usize = 256;

fn refused(detail: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.to_string())
}

/// Checks the state on `disk` against its certificate, and prepares it to be `own`'s successor.
pub(crate) fn check(
    chain: &Chain,
    disk: &Arc<dyn Disk>,
    certified: &CertifiedCheckpoint,
    meta: &SnapshotMeta,
    own: &StateStore,
) -> io::Result<()> {
    let state = StateStore::open(disk.clone(), &chain.id).map_err(refused)?;
    let position: Option<Position> = match state.applied().map_err(refused)? {
        Some(bytes) => Some(from_bytes(&bytes)?),
        None => None,
    };
    if position.as_ref().map(meta_of).as_ref() != Some(meta) {
        return Err(refused(
            "Raft's position in the copy is not the one that was offered",
        ));
    }
    let checked = foreign::check(chain, &state, certified, &secret()).map_err(refused)?;
    check_certificates(&checked.epochs, &state)?;

    let evidence = own.list_equivocations().map_err(io::Error::other)?;
    state
        .replace_equivocations(&evidence)
        .map_err(io::Error::other)?;
    state
        .put_checkpoint(certified.header().height, &certified.to_proto())
        .map_err(io::Error::other)?;
    state.sync().map_err(io::Error::other)?;
    tracing::info!(
        height = certified.header().height,
        entries = checked.entries,
        keys = checked.keys,
        "a received state is the certified one"
    );
    Ok(())
}

/// Every certificate that came along is one, and of the block of its height.
fn check_certificates(epochs: &Epochs, state: &StateStore) -> io::Result<()> {
    let mut from = 0;
    loop {
        let portion = state.checkpoints_from(from, PORTION).map_err(refused)?;
        let Some((last, _)) = portion.last() else {
            return Ok(());
        };
        from = last + 1;
        for (height, proto) in portion {
            let certified = epochs.certify(&proto);
            let hash = certified.map_err(refused)?.header_hash();
            let ours = apply::header_at(state, height).map_err(refused)?;
            if ours.map(|ours| checkpoint::header_hash(&ours)) != Some(hash) {
                return Err(refused(format!(
                    "the certificate at {height} is of another block"
                )));
            }
        }
    }
}

/// What has to follow when the state changes under a node.
pub(crate) struct Installer {
    pub(crate) copies: Arc<Copies>,
    pub(crate) log: Arc<LogStore>,
    pub(crate) store: Arc<StateStore>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) cosigner: Arc<Cosigner>,
    pub(crate) tracker: Arc<Tracker>,
}

impl Installer {
    /// Makes `snapshot` the state. Nothing is applied meanwhile.
    pub(crate) fn install(&self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let _still = self.copies.still();
        let generations = self.copies.generations();
        let certificate = match snapshot {
            SnapshotData::Checked(Checked { certificate, .. }) => certificate,
            SnapshotData::Kept(copy) => {
                // Our own copy, at a start: the state is older than it, so it was damaged or removed.
                let disk = generations
                    .begin_from(copy.height)
                    .map_err(io::Error::other)?;
                let state = StateStore::new_unchecked(disk);
                state
                    .put_checkpoint(copy.height, &copy.certificate)
                    .map_err(io::Error::other)?;
                copy.certificate.clone()
            }
            SnapshotData::Awaited => return Err(refused("there is no copy to install")),
        };
        // A truncation that came with this snapshot must not be undone by a power loss: the log
        // would contradict the state.
        self.log.sync().map_err(io::Error::other)?;
        let evidence = self.store.list_equivocations();
        let disk = generations.adopt().map_err(io::Error::other)?;
        self.store.replace(disk);
        // What came in since the check is there too; what was there then is known.
        for evidence in evidence.map_err(io::Error::other)? {
            self.store
                .put_equivocation(&evidence)
                .map_err(io::Error::other)?;
        }
        let position = Position {
            last_applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.applier.moved_to(position.clone());
        self.cosigner.installed().map_err(io::Error::other)?;
        let tip = apply::tip(&*self.store).map_err(io::Error::other)?;
        let height = tip.map_or(0, |tip| tip.header.height);
        self.copies.installed(height, position, certificate)?;
        let decided = |id| matches!(apply::entry_outcome(&*self.store, id), Ok(Some(_)));
        let ids: Vec<_> = self.tracker.all().iter().map(|entry| entry.id).collect();
        self.tracker.applied(ids.iter().filter(|id| decided(id)));
        tracing::info!(height, "a copy of the state was installed");
        Ok(())
    }
}
