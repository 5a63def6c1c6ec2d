//! The write-ahead log as bytes: what a frame and a segment look like, and which of them count
//! after a crash. Plain data in, plain data out; `runtime::disk` moves the bytes.
//! The format and its rules are described in `docs/storage-format.md`.

pub mod append;
pub mod decode;
pub mod encode;
pub mod error;
pub mod frame;
pub mod key_index;
pub mod outline;
pub mod raw;
pub mod replay;
pub mod scan;
pub mod segment;
pub mod terms;

#[cfg(test)]
mod crash_tests;

pub use encode::{EncodedEntry, HardState};
pub use error::LogError;
pub use mainstay_raft::{EntryKind, Membership};
