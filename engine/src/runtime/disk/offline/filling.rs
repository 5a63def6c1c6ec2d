//! A new data directory, filled from elsewhere.

use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::effect::{Batch, Control, Effect, Item};
use crate::limits;
use crate::log::encode::encode;
use crate::log::replay::{Commitment, Reached};
use crate::record::Revision;
use crate::runtime::disk::block_on::block_on;
use crate::runtime::disk::{DataDirectory, DiskError, LogOptions, LogWriter};

/// Batches that may wait for the disk. Each is about [`limits::ENTRY_BYTES`].
pub(super) const IN_FLIGHT_MAX: u64 = 8;

/// Raft's term of what is written: as of a member that was elected once.
pub(super) const TERM: u64 = 1;

/// Fills a new data directory.
///
/// Effects and controls come in the order in which the store is to see them. Revisions ascend,
/// and may have gaps as far as history is compacted afterwards: there is nothing to be read then.
pub struct Filling {
    writer: LogWriter,
    reached: Reached,
    items: Vec<Item>,
    bytes: usize,
    /// The last effect's.
    revision: Revision,
    /// Batches handed to the log.
    appended: u64,
}

impl Filling {
    /// Makes the directory; nothing may be in it.
    pub fn create(path: &Path) -> Result<Filling, DiskError> {
        if path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(DiskError::NotEmpty { path: path.to_owned() });
        }
        let recovery = DataDirectory::open(path)?.recover(Commitment::EveryEntry)?;
        let log = recovery.start(LogOptions { prefer_threads: false, ..LogOptions::default() })?;
        let reached = log.replayed.reached;
        let revision = reached.revision;
        Ok(Filling {
            writer: log.writer,
            reached,
            items: Vec::new(),
            bytes: 0,
            revision,
            appended: 0,
        })
    }

    /// The revision that has been reached.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Adds the changes of one revision. Waits when the disk is behind.
    ///
    /// Panics when the revision does not follow those before.
    pub fn effect(&mut self, effect: Effect) -> Result<(), DiskError> {
        assert!(effect.revision > self.revision, "revisions ascend");
        self.reach(effect.revision - 1)?;
        self.revision = effect.revision;
        self.bytes += effect.bytes();
        self.items.push(Item::Effect(effect));
        self.flush_if_large()
    }

    /// Adds what takes no revision.
    pub fn control(&mut self, control: Control) -> Result<(), DiskError> {
        const ABOUT_BYTES: usize = 64;
        let content = match &control {
            Control::Document { content, .. } => content.len(),
            Control::LeaseCheckpoint { remaining } => remaining.len() * ABOUT_BYTES,
            _ => 0,
        };
        self.bytes += ABOUT_BYTES + content;
        self.items.push(Item::Control(control));
        self.flush_if_large()
    }

    /// Brings the store to `revision` without a change (or leaves it where it is).
    pub fn advance(&mut self, revision: Revision) -> Result<(), DiskError> {
        let revision = revision.max(self.revision);
        self.reach(revision)?;
        self.revision = revision;
        Ok(())
    }

    /// Makes everything durable, and brings the store to `revision` (or leaves it where it is).
    pub fn finish(mut self, revision: Revision) -> Result<(), DiskError> {
        self.advance(revision)?;
        self.flush()?;
        self.wait(self.appended)?;
        block_on(self.writer.close())
    }

    /// Goes up to `revision`, without a change, when that is too far for what comes next to be in
    /// one entry, or in one segment, with what was before.
    fn reach(&mut self, revision: Revision) -> Result<(), DiskError> {
        if revision - self.reached.revision < limits::LOG_SEGMENT_REVISIONS {
            return Ok(());
        }
        self.flush()?;
        self.revision = revision;
        self.flush()
    }

    fn flush_if_large(&mut self) -> Result<(), DiskError> {
        if self.bytes < limits::ENTRY_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let batch = Batch {
            index: self.reached.index + 1,
            term: TERM,
            revision_before: self.reached.revision,
            revision_after: self.revision,
            items: std::mem::take(&mut self.items),
        };
        self.bytes = 0;
        if batch.items.is_empty() && batch.revision_before == batch.revision_after {
            return Ok(());
        }
        self.reached = Reached { index: batch.index, term: TERM, revision: batch.revision_after };
        self.appended = self.writer.append(encode(&batch))?;
        self.wait(self.appended.saturating_sub(IN_FLIGHT_MAX))
    }

    /// Waits until so many appends are durable. A full disk is an error here: nobody else makes
    /// room on it.
    fn wait(&self, appends: u64) -> Result<(), DiskError> {
        const PAUSE: Duration = Duration::from_micros(200);
        while self.writer.durable_now() < appends {
            let durable = pin!(self.writer.durable(appends - 1));
            match durable.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(durable) => durable.map(|_| ())?,
                Poll::Pending => match self.writer.space_warning() {
                    Some(failure) => return Err(failure.into()),
                    None => thread::sleep(PAUSE),
                },
            }
        }
        Ok(())
    }
}
