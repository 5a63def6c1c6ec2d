//! A data directory without a running store: filled from elsewhere, or looked at.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::directory::{DataDirectory, read_salt};
use super::error::DiskError;
use super::file::{SegmentReader, open_segments};
use super::stopped;
use super::writer::{LogOptions, LogWriter};
use crate::effect::{Batch, Control, Effect, Item};
use crate::limits;
use crate::log::encode::encode;
use crate::log::replay::{Commitment, Reached};
use crate::log::scan::{CutTail, LogEnd, ScannedFrame, Scanner};
use crate::record::Revision;

/// Batches that may wait for the disk. Each is about [`limits::ENTRY_BYTES`].
const IN_FLIGHT_MAX: u64 = 8;

/// Raft's term of what is written: as of a member that was elected once.
const TERM: u64 = 1;

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

    /// Makes everything durable, and brings the store to `revision` (or leaves it where it is).
    pub fn finish(mut self, revision: Revision) -> Result<(), DiskError> {
        self.reach(revision.max(self.revision))?;
        self.revision = self.revision.max(revision);
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

/// The frames of a data directory's log, one by one. Nothing is written; while this value lives no
/// store can use the directory.
pub struct Frames {
    scanner: Scanner<SegmentReader>,
    /// Dropping it unlocks.
    _lock: File,
}

impl Frames {
    /// Opens the log of a directory that no store uses at the moment.
    pub fn open(path: &Path) -> Result<Frames, DiskError> {
        let salt = read_salt(path)?;
        let lock = share_lock(path)?;
        let wal = path.join("member").join("wal");
        let (_, segments) = open_segments(&wal)?;
        let scanner = Scanner::new(salt, segments, stopped::read(&wal, salt))?;
        Ok(Frames { scanner, _lock: lock })
    }

    /// The next frame, whose checksums and place in the chain are right; `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<ScannedFrame>, DiskError> {
        Ok(self.scanner.next_frame()?)
    }

    /// Bytes read and bytes in all, for a progress bar.
    pub fn progress(&self) -> (u64, u64) {
        self.scanner.progress()
    }

    /// Where the log ends, once there was no next frame.
    pub fn end(&self) -> LogEnd {
        self.scanner.end()
    }

    /// What the next start will cut off at the end.
    pub fn cut(&self) -> Option<&CutTail> {
        self.scanner.cut()
    }
}

/// Keeps stores away from the directory, and lets others look at it.
fn share_lock(path: &Path) -> Result<File, DiskError> {
    let failed = DiskError::directory(path, "opening the file LOCK in it");
    let mut file = File::open(path.join("LOCK")).map_err(&failed)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Best effort: the pid is for the message alone.
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            Err(DiskError::Locked { path: path.to_owned(), pid: holder.trim().parse().ok() })
        }
        Err(TryLockError::Error(error)) => {
            Err(DiskError::directory(path, "locking the file LOCK in it")(error))
        }
    }
}

/// Waits for a future on this thread: there is no executor here.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Change;
    use crate::log::decode::decode;
    use crate::log::frame::FrameKind;
    use crate::record::Record;
    use crate::runtime::disk::tests::TestDirectory;

    fn effect(revision: Revision, value_bytes: usize) -> Effect {
        let record = Record::new(b"key", &vec![7; value_bytes], 2, revision, 1, 0);
        Effect { revision, changes: vec![Change { record, previous: None }] }
    }

    #[test]
    fn what_was_filled_in_is_what_a_start_reads() {
        let directory = TestDirectory::new();
        let mut filling = Filling::create(&directory.0).unwrap();
        let mut expected = Vec::new();
        filling.control(Control::LeaseGrant { id: 7, ttl: 60 }).unwrap();
        expected.push(Item::Control(Control::LeaseGrant { id: 7, ttl: 60 }));
        // Gaps, several batches, and more of them than may be in flight.
        for number in 0..40 {
            let effect = effect(2 + number * 3, 300 << 10);
            expected.push(Item::Effect(effect.clone()));
            filling.effect(effect).unwrap();
        }
        filling.control(Control::Compact { revision: 200 }).unwrap();
        expected.push(Item::Control(Control::Compact { revision: 200 }));
        filling.finish(500).unwrap();

        let mut frames = Frames::open(&directory.0).unwrap();
        let mut entries = 0;
        while let Some(frame) = frames.next_frame().unwrap() {
            if frame.header.kind == FrameKind::Entry {
                decode(&frame.header, &frame.payload).unwrap();
                entries += 1;
            }
        }
        assert!(entries > IN_FLIGHT_MAX, "{entries}");
        assert_eq!(frames.cut(), None);
        drop(frames);

        let (log, batches) = directory.open();
        let items: Vec<Item> = batches.into_iter().flat_map(|batch| batch.items).collect();
        assert!(items == expected);
        assert_eq!(log.replayed.reached, Reached { index: entries, term: TERM, revision: 500 });
    }

    #[test]
    fn segments_span_no_more_revisions_than_their_keys_can_be_found_by() {
        let directory = TestDirectory::new();
        let mut filling = Filling::create(&directory.0).unwrap();
        let revisions = [2, 3, 3 << 31, (3 << 31) + 1, 1 << 40, (1 << 40) + (1 << 31) - 9];
        for revision in revisions {
            filling.effect(effect(revision, 10)).unwrap();
        }
        filling.finish(1 << 50).unwrap();
        let mut frames = Frames::open(&directory.0).unwrap();
        let (mut base, mut found, mut segments) = (0, Vec::new(), 0);
        while let Some(frame) = frames.next_frame().unwrap() {
            if frame.header.kind == FrameKind::SegmentStart {
                base = frame.header.revision_after;
                segments += 1;
                continue;
            }
            let batch = decode(&frame.header, &frame.payload).unwrap();
            assert!(batch.revision_before - base <= 1 << 31);
            for effect in batch.effects() {
                assert!(u32::try_from(effect.revision - base).is_ok(), "{base} {effect:?}");
                found.push(effect.revision);
            }
        }
        assert_eq!(found, revisions);
        assert!(segments >= 3, "{segments}");
        drop(frames);
        assert_eq!(directory.open().0.replayed.reached.revision, 1 << 50);
    }

    #[test]
    fn only_an_empty_directory_is_filled_and_only_an_idle_one_looked_at() {
        let directory = TestDirectory::new();
        let (log, _) = directory.open();
        let Err(refused) = Filling::create(&directory.0) else { panic!("filled") };
        assert!(matches!(refused, DiskError::NotEmpty { .. }), "{refused}");
        let Err(refused) = Frames::open(&directory.0) else { panic!("opened") };
        let pid = Some(std::process::id());
        assert!(matches!(&refused, DiskError::Locked { pid: held, .. } if *held == pid));
        drop(log);
        let frames = Frames::open(&directory.0).unwrap();
        let Err(refused) = DataDirectory::open(&directory.0) else { panic!("opened") };
        assert!(matches!(refused, DiskError::Locked { .. }), "{refused}");
        drop(frames);
        let Err(refused) = Frames::open(&directory.0.join("member")) else { panic!("opened") };
        assert!(refused.to_string().contains("FORMAT"), "{refused}");
    }
}
