//! Power that fails in the middle of a node's own step, between two of its lines that no event from
//! outside falls between.
//!
//! What holds here: one fuse at a time. When it blows, the node's wires are dead at once (and its
//! disks, where the step was theirs), and whoever runs the story switches the node off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Where the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A cosignature is about to leave.
    Cosigning,
    /// Another part of a copy is about to be written.
    Receiving,
    /// A copy is checked, and the pointer is about to move to it.
    Adopting,
    /// The pointer has moved, and nothing that follows has happened.
    Adopted,
}

impl Moment {
    /// Those of an install.
    pub const INSTALL: [Moment; 3] = [Moment::Receiving, Moment::Adopting, Moment::Adopted];
}

/// Whose power fails, and where; without a node, that of the first that gets there.
#[derive(Debug, Clone, Copy)]
pub struct Fuse {
    pub node: Option<u64>,
    pub moment: Moment,
}

/// The fuse of a simulation. Clones share it.
#[derive(Debug, Clone)]
pub struct Fuses {
    set: Arc<Mutex<Option<Fuse>>>,
    blown: watch::Sender<Option<u64>>,
}

impl Default for Fuses {
    fn default() -> Self {
        Self {
            set: Arc::default(),
            blown: watch::Sender::new(None),
        }
    }
}

impl Fuses {
    fn fuse(&self) -> MutexGuard<'_, Option<Fuse>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, fuse: Fuse) {
        *self.fuse() = Some(fuse);
    }

    /// What is set blows no more; what has blown stays so.
    pub fn disarm(&self) {
        *self.fuse() = None;
    }

    /// Whether the power of `node`, which is at `moment`, fails now.
    pub fn blows(&self, node: u64, moment: Moment) -> bool {
        let mut fuse = self.fuse();
        let meant =
            |fuse: &mut Fuse| fuse.moment == moment && fuse.node.is_none_or(|of| of == node);
        // One at a time: the one before was not noticed yet.
        if self.blown.borrow().is_some() || fuse.take_if(meant).is_none() {
            return false;
        }
        self.blown.send_replace(Some(node));
        true
    }

    /// Whether the power of `node` has failed, and nobody has switched it off yet.
    pub fn has_blown(&self, node: u64) -> bool {
        *self.blown.borrow() == Some(node)
    }

    /// Waits until somebody's power fails.
    pub async fn blown(&self) {
        let mut blown = self.blown.subscribe();
        let _ = blown.wait_for(Option::is_some).await;
    }

    /// Whose power failed; asked once.
    pub fn take_blown(&self) -> Option<u64> {
        self.blown.send_replace(None)
    }
}
