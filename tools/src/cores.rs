//! Work on rows by the hundred thousand, shared among all cores.

use std::num::NonZero;
use std::thread;

/// Fewer are not worth a thread.
const FEW: usize = 16;

/// What `of` makes of 0 to `count` - 1, in that order.
pub fn map<T: Send>(count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if count <= FEW {
        return (0..count).map(of).collect();
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = count.div_ceil(cores).max(FEW);
    let of = &of;
    thread::scope(|scope| {
        let work = |from: usize| {
            let rows = from..count.min(from + share);
            scope.spawn(move || rows.map(of).collect::<Vec<T>>())
        };
        let shares: Vec<_> = (0..count).step_by(share).map(work).collect();
        let mut all = Vec::with_capacity(count);
        for share in shares {
            match share.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_whole_and_in_order() {
        for count in [0, 1, FEW, FEW + 1, 1_000] {
            let expected: Vec<usize> = (0..count).map(|at| at * 3).collect();
            assert_eq!(map(count, |at| at * 3), expected);
        }
    }
}
