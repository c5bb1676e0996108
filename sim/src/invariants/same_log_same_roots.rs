//! Two nodes that applied the same height computed the same header, and with it the same roots;
//! also a node that lost its state in a crash and applied the log again.
//!
//! (State machine safety, and determinism of apply.) Here what was noted meanwhile counts too.

use super::Violation;
use crate::world::World;

pub fn check(world: &World) -> Result<(), Violation> {
    for id in world.ids() {
        world.compare(id);
    }
    world.notes.check()
}
