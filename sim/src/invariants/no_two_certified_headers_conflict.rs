//! No two certified headers conflict: at one height there is one, and each is the block that every
//! node that applied the height computed; so the lower is an ancestor of the higher.

use super::Violation;
use crate::world::World;

const NAME: &str = "no_two_certified_headers_conflict";

pub fn check(world: &World) -> Result<(), Violation> {
    for (height, headers) in world.certified() {
        if headers.len() > 1 {
            return Err(Violation::of(
                NAME,
                format!("two headers of height {height} are certified: {headers:?}"),
            ));
        }
        let block = world.block(height);
        for (hash, by) in headers {
            if block.is_some_and(|block| block != hash) {
                let what =
                    format!("{by:?} certified {hash} at {height}, which is not the block there");
                return Err(Violation::of(NAME, what));
            }
        }
    }
    Ok(())
}
