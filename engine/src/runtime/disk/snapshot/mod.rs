//! Snapshot files: `folder` knows which there are, `draft` writes one, `file` reads it and finds
//! single keys in it, `partial` receives one, `load` brings a whole one back into memory, on all cores; `thread` is where
//! the writing happens.

mod draft;
mod file;
mod folder;
mod load;
mod partial;
mod thread;

#[cfg(test)]
mod tests;

pub use draft::Draft;
pub(crate) use draft::Verification;
pub use file::SnapshotFile;
pub use folder::SnapshotFolder;
pub use load::load;
pub use partial::Partial;
pub(crate) use thread::SnapshotThread;
