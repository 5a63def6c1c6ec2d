//! What each key of a shard is worth at each revision: versions, their indexes, compaction. Memory
//! holds newest and young versions; for others it says what has to be looked up in the log.
//! A hash finds one key, an ordered index of small leaves finds ranges and counts them.
//! `transaction` evaluates requests against any such state.

mod compaction;
mod index;
mod journal;
mod order;
pub mod range;
mod restoring;
mod sorting;
pub mod transaction;
mod version;

pub use index::{Mvcc, Usage, check_revision};
pub use range::{Chunk, CountChunk, Lookup, Settled, SettledChunk};
pub use restoring::Restoring;
pub use transaction::{Evaluation, Gathered, View, evaluate, fill_in_past, past_ranges};
pub use version::Seen;

#[cfg(test)]
pub(crate) mod tests;
