//! A copy of now, for a member that needs one.
//!
//! What holds here: it is of a certified block like every other, and counts as one of them. It is made
//! by apply at the next checkpoint, or, where the chain rests, of the tip while nothing is applied.

use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use cairn_ledger::apply;
use tokio::time::Instant;

use super::{Copies, Copy, off_thread};
use crate::applier::Position;
use crate::config::Io;
use crate::locked;
use crate::types::from_bytes;

/// A copy is made anew before it is sent, where the newest one lies behind by one part in so many of
/// what makes a copy due: what a member replays behind a copy takes it some twenty times as long as
/// as much in the copy. Not for less, because the log is kept only from the older copy on.
const FRESH_PART: u64 = 8;
/// How long that may take; then the newest one is sent. A busy chain has a certified checkpoint
/// several times a second.
const FRESH_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked for.
const FRESH_LOOK: Duration = Duration::from_millis(20);

impl Copies {
    /// Makes a copy of the state as it is, if its tip is certified.
    pub(super) fn of_certified_tip(&self, height: u64) -> io::Result<()> {
        let certificate = self.store.checkpoint_at(height).map_err(io::Error::other)?;
        let position = self.store.applied().map_err(io::Error::other)?;
        if let (Some(certificate), Some(position)) = (certificate, position) {
            self.generations.keep(height).map_err(io::Error::other)?;
            locked(&self.inner).begun();
            self.certified(height, from_bytes(&position)?, certificate)?;
            tracing::info!(height, "a copy of the state was made");
        }
        Ok(())
    }

    /// While this is held, the state stays as it is.
    pub(crate) fn still(&self) -> MutexGuard<'_, ()> {
        locked(&self.still)
    }

    /// The newest copy, at least `known`: one that is made now, where many blocks came since the last.
    /// It comes with the next checkpoint, or at once, where the chain rests.
    pub(crate) async fn fresh(
        self: &Arc<Self>,
        known: &Arc<Copy>,
        io: Io,
    ) -> io::Result<Arc<Copy>> {
        let until = Instant::now() + FRESH_WITHIN;
        while Instant::now() < until {
            {
                let inner = &mut *locked(&self.inner);
                let rules = &self.rules;
                let stale = inner.blocks >= rules.every_blocks.div_ceil(FRESH_PART)
                    || inner.bytes >= rules.every_bytes.div_ceil(FRESH_PART);
                inner.wanted = stale;
                if !stale && inner.pending.is_none() {
                    break;
                }
            }
            let copies = self.clone();
            off_thread(io, move || copies.of_resting_tip()).await?;
            tokio::time::sleep(FRESH_LOOK).await;
        }
        Ok(self.newest().unwrap_or_else(|| known.clone()))
    }

    /// Makes a copy of the state as it is, if its tip is certified and newer than the newest copy.
    fn of_resting_tip(&self) -> io::Result<()> {
        let _still = self.still();
        let tip = apply::tip(&*self.store).map_err(io::Error::other)?;
        let Some(header) = tip.map(|tip| tip.header) else {
            return Ok(());
        };
        let position = self.store.applied().map_err(io::Error::other)?;
        let position: Position = position.map_or(Ok(Position::default()), |p| from_bytes(&p))?;
        // A later leader's first log entries make no block, and a copy's place is of its block's term.
        let rests = position
            .last_applied
            .is_some_and(|last| *last.leader_id == header.term);
        let known = self
            .newest()
            .is_some_and(|copy| copy.height >= header.height);
        if !rests || known || locked(&self.inner).pending.is_some() {
            return Ok(());
        }
        self.of_certified_tip(header.height)
    }
}
