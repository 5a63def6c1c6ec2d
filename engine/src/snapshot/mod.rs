//! Snapshots: the newest state as one file, from which a start and old reads go on, so that the log
//! before it may go. `format`, `rows`, `encode` and `layout` are its bytes; `taking` says what is to
//! be written next; `policy` when to take one, and what of the older ones and of the log stays.

pub mod encode;
pub mod error;
pub mod format;
pub mod layout;
pub mod policy;
mod rows;
pub mod taking;
pub mod transfer;

#[cfg(test)]
mod tests;

pub use encode::Encoder;
pub use error::SnapshotError;
pub use format::{End, Header, Owner};
pub use layout::{Layout, SnapshotBytes};
pub use rows::{Document, LeaseRow};
pub use taking::{Part, Slice, Step, Taking};
