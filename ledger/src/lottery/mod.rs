//! Public lotteries: from the rules that nobody can change to a rank that anybody can check.
//!
//! A lottery walks one way: `Open → Frozen → Contributing → Drawing → Complete → Certified`.
//! Humans come first (the notary's dice), institutions second (BLS contributions that nobody can
//! choose), a public beacon last (the round was pinned before anyone could know it). Then the seed
//! is fixed, every row's ticket with it, and each node computes the whole ranking by itself.
//!
//! What holds here: T1, the close of contributions, is the timestamp of the block that begins
//! Contributing plus the rules' window; only contributions in blocks stamped at or before T1
//! count; the round is taken only once the chain carries a certificate that shows the close in
//! time. One room each: [`roster`] rows, [`seed`] and [`beacon`] what makes the seed, [`draw`] the
//! ranking, [`rules`] what entries may do, [`index`] what nodes keep, [`prove`] what they hand
//! out, [`check`] and [`recompute`] what outsiders verify.
//!
//! Caveats: there is one attempt; a lottery whose close was not certified in time stays in
//! Contributing. No draw can show that the roster names the people it should.

pub mod beacon;
pub mod bls;
pub mod check;
pub mod draw;
pub mod index;
pub mod prove;
pub mod recompute;
pub mod roster;
pub mod rules;
pub mod seed;
#[cfg(test)]
mod vectors;

/// The map's namespace of lottery states.
pub const NAMESPACE: &str = "lottery";
/// The map's namespace of the lotteries whose close waits for a certificate. One key, empty.
pub const CONTRIBUTING_NAMESPACE: &str = "lotteries contributing";
