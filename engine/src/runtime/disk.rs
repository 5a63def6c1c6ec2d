//! The data directory and the write-ahead log on disk: who may use it, what it held, and how
//! more is written to it.
//!
//! ```no_run
//! # use mainstay_engine::effect::Batch;
//! # use mainstay_engine::log::{encode::encode, replay::Commitment};
//! # use mainstay_engine::runtime::disk::{DataDirectory, LogOptions, check_io_uring, check_memlock};
//! # async fn example(batch: Batch) -> Result<(), Box<dyn std::error::Error>> {
//! check_io_uring()?;
//! check_memlock()?;
//! let directory = DataDirectory::open("/var/lib/mainstay".as_ref())?;
//!
//! // Blocking, before the executors run (or on a thread): batches in order, bounded memory.
//! let mut recovery = directory.recover(Commitment::EveryEntry)?;
//! while let Some(_batch) = recovery.next_batch()? {
//!     let (_done_bytes, _total_bytes) = recovery.progress();
//! }
//! let log = recovery.start(LogOptions::default())?;
//! for warning in &log.warnings {
//!     eprintln!("{warning}");
//! }
//! if !log.preferred {
//!     eprintln!("no real-time priority for the log: slower when the machine is busy");
//! }
//!
//! // On the sequencer's core. `append` never waits; bound what is outstanding by `in_flight`.
//! let mut writer = log.writer;
//! let number = writer.append(encode(&batch))?;
//! let mut durable = 0;
//! while durable < number {
//!     durable = writer.durable(durable).await?; // resolves when it is larger than `durable`
//! }
//!
//! // On any core, in a glommio executor: clone one for each.
//! let _batches = log.history.read_from(batch.revision_after, 1 << 20).await?;
//!
//! // Once a snapshot holds everything before this index:
//! writer.release_before(batch.index);
//! writer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! After an error the writer is poisoned: every call repeats the error and nothing more is
//! reported durable. A failed sync can't be retried and believed (the kernel may have dropped the
//! pages), so the process must stop and recover from what is on the disk.

mod block_on;
mod buffer;
mod deleted_keys;
mod directory;
mod entries;
mod error;
mod file;
mod frames;
mod history;
mod history_index;
#[cfg(test)]
mod history_tests;
mod identity;
mod kernel;
mod keys;
mod lookup;
#[cfg(test)]
mod lookup_tests;
pub mod offline;
#[cfg(test)]
mod pass_over_tests;
mod prepare;
mod priority;
mod probe;
mod recovery;
#[cfg(test)]
mod replaced_tests;
mod snapshot;
mod staged;
#[cfg(test)]
mod staged_tests;
mod state;
mod stopped;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

pub use directory::DataDirectory;
pub use entries::EntriesRead;
pub use error::{DiskError, LogFailure};
pub use history::{HistoryError, HistoryReader};
pub use identity::Identity;
pub use kernel::{check_io_uring, check_memlock};
pub use lookup::Base;
pub use recovery::{Log, Recovery};
pub use snapshot::{
    Draft, Incoming, IncomingEntries, Outgoing, Partial, SnapshotFile, SnapshotFolder, load,
};
pub(super) use snapshot::{SnapshotThread, Verification};
pub use staged::Stager;
pub use writer::{Durability, LogOptions, LogWriter, StagedEntry};
