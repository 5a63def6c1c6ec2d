//! What each key of a shard is worth at each revision: versions, their indexes, compaction.
//! A hash finds one key, an ordered index of small leaves finds ranges and counts them.
//! `transaction` evaluates requests against any such state.

mod compaction;
mod index;
mod journal;
mod order;
pub mod range;
pub mod transaction;
mod version;

pub use index::{Mvcc, Usage, check_revision};
pub use range::{Chunk, CountChunk, Settled, SettledChunk};
pub use transaction::{Evaluation, Gathered, View, evaluate};

#[cfg(test)]
pub(crate) mod tests;
