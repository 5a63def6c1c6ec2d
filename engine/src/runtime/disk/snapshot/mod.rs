//! Snapshot files: `folder` knows which there are, `draft` writes one, `file` reads it and finds
//! single keys in it, `partial` receives one,
//! `incoming` and `outgoing` are what travels, `load` brings a whole one back into memory, on all cores; `thread` is where
//! the writing happens.

mod draft;
mod file;
mod folder;
mod incoming;
mod load;
mod outgoing;
mod partial;
mod thread;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transfer_tests;

pub use draft::Draft;
pub(crate) use draft::Verification;
pub use file::SnapshotFile;
pub use folder::SnapshotFolder;
pub use incoming::{Incoming, IncomingEntries};
pub use load::load;
pub use outgoing::Outgoing;
pub use partial::Partial;
pub(crate) use thread::SnapshotThread;
