//! Which databases this process still has open, so that it does not end before they are closed.
//!
//! RocksDB keeps state of its own for the whole process and tears it down when the process exits; a
//! database that is still open then, because some thread has not dropped its last handle yet, ends
//! the process with an abort instead of its exit code.

use std::ops::Deref;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rocksdb::DB;

static OPEN: Mutex<usize> = Mutex::new(0);
static CLOSED: Condvar = Condvar::new();

/// A database that is counted until after it was closed.
pub(crate) struct OpenDb {
    // Dropped in this order.
    db: DB,
    _counted: Counted,
}

impl OpenDb {
    pub(crate) fn new(db: DB) -> Self {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self {
            db,
            _counted: Counted,
        }
    }
}

impl Deref for OpenDb {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        CLOSED.notify_all();
    }
}

/// Waits until every database of this process is closed; gives how many still are not after
/// `patience`. The caller has dropped its own handles.
pub fn wait_until_closed(patience: Duration) -> usize {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = CLOSED.wait_timeout_while(open, patience, |open| *open > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}
