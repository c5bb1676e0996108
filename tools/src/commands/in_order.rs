//! Entries that the ledger takes in one order only: a roster's chunks, a ranking's batches, the
//! changes of a status order.
//!
//! What holds here: many are under way at once, and none is taken out of line. If one is refused
//! because another before it was lost (a leader died with its queue), all behind it are refused
//! too, and the rest is made again from where the certified state stands. So a job goes on over a
//! change of leader, and after this process was killed. What stays out: what the entries say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_proto::v1;

use crate::exit::Failure;
use crate::progress::Bar;
use crate::session::{Patience, Session};

/// How long a refusal may be due to entries that are committed and not certified yet.
const CATCH_UP: Duration = Duration::from_secs(3);

/// A job whose entries follow each other.
pub trait Sequence {
    /// How much there is to do, in the units that progress is shown in.
    fn total(&self) -> u64;

    /// Reads the certified state, goes on from there, and says how much is done.
    async fn resume(&mut self, session: &Session) -> Result<u64, Failure>;

    /// The next entry, with its units; none at the end.
    fn next_entry(&mut self) -> Option<(v1::SignedEntry, u64)>;
}

/// Submits all that is missing, and returns once it is certified. Gives the number of entries that
/// the ledger took.
pub async fn submit(
    session: &Session,
    sequence: &mut impl Sequence,
    bar: &mut Bar,
) -> Result<u64, Failure> {
    let mut done = sequence.resume(session).await?;
    let mut entries = 0;
    while done < sequence.total() {
        bar.set_position(done);
        let (taken, pushed) = push(session, sequence, done, bar).await;
        entries += taken.entries;
        let expected = done + taken.units;
        done = match pushed {
            Ok(()) => certified(session, sequence, expected, session.timeout()).await?,
            // What was refused may only have come out of line: then there is progress to see.
            Err(failure) => {
                let at_least = expected.max(done + 1);
                let progress = certified(session, sequence, at_least, CATCH_UP);
                progress.await.map_err(|_| failure)?
            }
        };
    }
    bar.finish();
    Ok(entries)
}

/// What the ledger took in one pass.
#[derive(Debug, Default)]
struct Taken {
    entries: u64,
    units: u64,
}

/// One pass over the entries that are missing, up to the first that is refused.
async fn push(
    session: &Session,
    sequence: &mut impl Sequence,
    done: u64,
    bar: &mut Bar,
) -> (Taken, Result<(), Failure>) {
    let units = Mutex::new(Vec::new());
    let mut last = None;
    let entries = std::iter::from_fn(|| {
        let (entry, count) = sequence.next_entry()?;
        lock(&units).push(count);
        last = Some(entry.clone());
        Some(entry)
    });
    let mut taken = Taken::default();
    let mut note = |index: usize, _: &v1::EntryStatus| {
        taken.entries += 1;
        taken.units += lock(&units).get(index).copied().unwrap_or(0);
        bar.set_position(done + taken.units);
    };
    let pushed = session.submit_all(entries, v1::WaitFor::Committed, &mut note);
    let pushed = match (pushed.await, last) {
        // The node tells at once when the last one is certified, and with it all before it.
        (Ok(_), Some(last)) => session
            .submit(&last, v1::WaitFor::Certified)
            .await
            .map(drop),
        (pushed, _) => pushed.map(drop),
    };
    (taken, pushed)
}

/// Waits until the certified state covers `expected` units, and gives how many it covers.
async fn certified(
    session: &Session,
    sequence: &mut impl Sequence,
    expected: u64,
    patience: Duration,
) -> Result<u64, Failure> {
    let mut patience = Patience::new(patience);
    loop {
        let read = tokio::time::timeout_at(patience.deadline, sequence.resume(session)).await;
        match read {
            Ok(done) if done.as_ref().is_ok_and(|done| *done < expected) => {}
            Ok(done) => return done,
            Err(_) => return Err(late(expected)),
        }
        if !patience.pause().await {
            return Err(late(expected));
        }
    }
}

fn late(expected: u64) -> Failure {
    Failure::NotFound(format!(
        "{expected} are committed, and not all of them are certified yet: the time is up; run the \
         same again to go on"
    ))
}

/// A panic elsewhere leaves a list of numbers intact.
fn lock(units: &Mutex<Vec<u64>>) -> MutexGuard<'_, Vec<u64>> {
    units.lock().unwrap_or_else(PoisonError::into_inner)
}
