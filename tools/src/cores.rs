//! Work on rows by the hundred thousand, shared among all cores.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// Fewer are not worth a thread.
const FEW: usize = 16;
/// Shares for each core: one that is busy with other things too takes fewer of them.
const SHARES: usize = 8;

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn share(count: usize) -> usize {
    count.div_ceil(cores() * SHARES).max(FEW)
}

/// Does `of` with each portion of `rows` of `all`, and with the place where it begins: what came of
/// them, in order.
pub fn portions<T: Send, R: Send>(
    all: &mut [T],
    rows: usize,
    of: impl Fn(usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    let count = all.len().div_ceil(rows);
    let left = Mutex::new(all.chunks_mut(rows).enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let of = |(at, portion): (usize, &mut [T])| of(at * rows, portion);
    shared(cores().min(count), next, of, || ()).1
}

/// Does `of` with each portion that `feed` hands out: on the other cores while it does so, and then on
/// all of them. What came of `feed`, and of the portions, in order.
pub fn behind<P: Send, R: Send, F>(
    of: impl Fn(P) -> R + Sync,
    feed: impl FnOnce(&mut dyn FnMut(P)) -> F,
) -> (F, Vec<R>) {
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let next = || {
        let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.recv().ok()
    };
    let feed = move || {
        let mut places = 0..;
        feed(&mut |portion| {
            // The receiver is there as long as this is.
            let _ = sender.send((places.next().unwrap_or_default(), portion));
        })
    };
    shared(cores(), next, |(_, portion)| of(portion), feed)
}

/// Does `of` with what `next` gives, on so many cores; on this one after `first`. What came of them, in
/// the order of their places.
fn shared<P, R: Send, F>(
    cores: usize,
    next: impl Fn() -> Option<(usize, P)> + Sync,
    of: impl Fn((usize, P)) -> R + Sync,
    first: impl FnOnce() -> F,
) -> (F, Vec<R>) {
    let work = || {
        let mut done = Vec::new();
        while let Some((at, portion)) = next() {
            done.push((at, of((at, portion))));
        }
        done
    };
    let (fed, mut done) = thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let fed = first();
        let mut done = work();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        (fed, done)
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    (fed, done.into_iter().map(|(_, made)| made).collect())
}

/// What `of` makes of 0 to `count` - 1, in that order.
pub fn map<T: Send>(count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    // Takes no memory: only its portions matter.
    let mut places = vec![(); count];
    let shares = portions(&mut places, share(count), |first, places| {
        let places = first..first + places.len();
        places.map(&of).collect::<Vec<T>>()
    });
    shares.into_iter().flatten().collect()
}

/// The same for hashes and the like, which are written where they stay.
pub fn fill<T: Copy + Default + Send>(count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut all = vec![T::default(); count];
    portions(&mut all, share(count), |first, portion| {
        for (at, place) in (first..).zip(portion) {
            *place = of(at);
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_whole_and_in_order() {
        for count in [0, 1, FEW, FEW + 1, 1_000] {
            let expected: Vec<usize> = (0..count).map(|at| at * 3).collect();
            assert_eq!(map(count, |at| at * 3), expected);
            assert_eq!(fill(count, |at| at * 3), expected);
        }
    }

    #[test]
    fn what_is_handed_out_comes_back_in_order_however_little_it_is() {
        for count in [0, 1, 1_000] {
            let feed = |hand_out: &mut dyn FnMut(usize)| {
                (0..count).for_each(hand_out);
                "fed"
            };
            let expected: Vec<usize> = (0..count).map(|at| at * 3).collect();
            assert_eq!(behind(|at: usize| at * 3, feed), ("fed", expected));
        }
    }

    #[test]
    fn portions_know_where_they_begin() {
        let mut all: Vec<usize> = (0..1_003).collect();
        let sizes = portions(&mut all, 10, |first, portion| {
            assert_eq!(portion[0], first);
            portion.iter_mut().for_each(|place| *place *= 2);
            (first, portion.len())
        });
        assert_eq!(
            (sizes.len(), sizes[7], sizes[100]),
            (101, (70, 10), (1_000, 3))
        );
        assert!(all.iter().enumerate().all(|(at, place)| *place == 2 * at));
    }
}
