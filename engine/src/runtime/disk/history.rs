//! Reads batches back from the log by revision: for watchers that fell behind what is in memory.
//!
//! An index in memory knows, for each segment, the revision at every 256 KiB or so, and where to
//! find its keys. Only what is durable is in it, so a reader never sees a frame that is still being
//! written.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::SegmentFile;
use super::frames::Frames;
use super::history_index::{HistoryIndex, Stretch};
use crate::effect::{Batch, SharedBatch};
use crate::log::decode::decode;
use crate::log::error::LogError;
use crate::log::frame::{FrameKind, frame_bytes};
use crate::log::outline::{damaged, outline, read_start};
use crate::log::replay::Place;
use crate::record::Revision;
use crate::runtime::blocking;

/// Why the history can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// It is no longer in the log.
    #[error("revision {requested} is no longer in the log, which begins after {begins_after}")]
    Released { requested: Revision, begins_after: Revision },
    #[error(
        "the history in {file} at byte {offset} can't be read: {reason}. Check the disk (dmesg), \
         and restore from a snapshot or a backup if the file is damaged"
    )]
    Damaged { file: String, offset: u64, reason: String },
}

/// Bytes of the files in a folder. One that goes away meanwhile takes none.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file);
    files.map(|file| file.len()).sum()
}

/// Reads from the log, off the writer's path. Clones go to every core that wants one.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    pub(super) index: Arc<Mutex<HistoryIndex>>,
    pub(super) salt: u64,
}

impl HistoryReader {
    /// The batches from the one that holds `revision` on, of about `max_bytes` on disk and at
    /// least one; empty when `revision` is not yet durable. Runs on the executor's blocking
    /// threads. Durable is not committed: in a cluster the caller stops at the revision that was
    /// committed before it asked, as what is behind may be replaced meanwhile.
    pub async fn read_from(
        &self,
        revision: Revision,
        max_bytes: usize,
    ) -> Result<Vec<SharedBatch>, HistoryError> {
        let reader = self.clone();
        blocking(move || reader.read_from_blocking(revision, max_bytes)).await
    }

    /// Bytes of the log's frames: what its segments hold.
    pub fn log_bytes(&self) -> u64 {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.segments().map(|(segment, _)| segment.end).sum()
    }

    /// Bytes of all files beside the log's segments and below the folder next to theirs that has the
    /// snapshots: segments, spare ones, key indexes, snapshots. Asks the file system, so it blocks.
    pub fn disk_bytes_blocking(&self) -> u64 {
        let wal = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            index.files.values().next().and_then(|file| Some(file.path.parent()?.to_owned()))
        };
        let Some(wal) = wal else { return 0 };
        let member = wal.parent().unwrap_or(&wal);
        [wal.clone(), member.join("snap")].iter().map(|folder| folder_bytes(folder)).sum()
    }

    /// The entry before the oldest one of the log.
    pub fn begins_after_index(&self) -> u64 {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.segments().next().map_or(0, |(oldest, _)| oldest.first_index - 1)
    }

    /// The revision before the oldest batch that can be read.
    pub fn begins_after(&self) -> Revision {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).begins_after
    }

    /// [`read_from`](HistoryReader::read_from) for callers that may block.
    pub fn read_from_blocking(
        &self,
        revision: Revision,
        max_bytes: usize,
    ) -> Result<Vec<SharedBatch>, HistoryError> {
        self.past_releases(|| self.try_to_read_from(revision, max_bytes))
    }

    /// What `read` gives. When it fails and segments were released meanwhile it is done again: it
    /// may have looked for something in them that is elsewhere now.
    pub(super) fn past_releases<T>(
        &self,
        read: impl Fn() -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        const ATTEMPTS: usize = 4;
        let mut begins_after = self.begins_after();
        for _ in 1..ATTEMPTS {
            let result = read();
            let begins_now = self.begins_after();
            if result.is_ok() || begins_now == begins_after {
                return result;
            }
            begins_after = begins_now;
        }
        read()
    }

    fn try_to_read_from(
        &self,
        revision: Revision,
        max_bytes: usize,
    ) -> Result<Vec<SharedBatch>, HistoryError> {
        let mut found = Found { revision, max_bytes, bytes: 0, batches: Vec::new() };
        let mut next = self.outlined(|index| index.find(revision))?;
        while let Some(stretch) = next {
            if self.read_stretch(&stretch, &mut found)? == Progress::Stop {
                break;
            }
            next = self.outlined(|index| Ok(index.after(stretch.file.sequence, stretch.end)))?;
        }
        if found.batches.is_empty() {
            // Not there, or released while we looked?
            self.outlined(|index| index.find(revision))?;
        }
        Ok(found.batches)
    }

    /// The stretch that `find` gives, after its segment was outlined if it was not yet.
    pub(super) fn outlined(
        &self,
        find: impl Fn(&HistoryIndex) -> Result<Option<Stretch>, HistoryError>,
    ) -> Result<Option<Stretch>, HistoryError> {
        let lock = || self.index.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = find(&lock())?;
            let Some(Stretch { file, outline_before: Some(next), .. }) = &found else {
                return Ok(found);
            };
            let places = outline_of(file, next, self.salt)?;
            lock().add_outline(file.sequence, &places);
        }
    }

    fn read_stretch(&self, stretch: &Stretch, found: &mut Found) -> Result<Progress, HistoryError> {
        let mut frames = Frames::of(stretch, self.salt);
        while let Some((offset, read)) = frames.next()? {
            if found.bytes >= found.max_bytes {
                return Ok(Progress::Stop);
            }
            let header = read.header;
            if !stretch.counts(&header) {
                continue;
            }
            if header.kind == FrameKind::Entry && header.revision_after >= found.revision {
                if header.revision_before > found.reached() {
                    return Ok(Progress::Stop);
                }
                let payload = frames.payload(offset, &read)?;
                let batch = decode(&header, payload)
                    .map_err(|error| stretch.damaged(offset, error.to_string()))?;
                found.add(batch, frame_bytes(payload.len()));
            }
        }
        Ok(Progress::GoOn)
    }
}

/// What is where in a segment, told by its headers and the segment behind it.
fn outline_of(
    file: &SegmentFile,
    next: &SegmentFile,
    salt: u64,
) -> Result<Vec<Place>, HistoryError> {
    let unreadable = |error: LogError| HistoryError::Damaged {
        file: file.path.display().to_string(),
        offset: 0,
        reason: error.to_string(),
    };
    // By their handles: a file that is released meanwhile has another name, or none.
    let places = read_start(next, salt).and_then(|start| match start {
        Some(start) => outline(file, salt, &start.header),
        None => Err(damaged(next, 0, None)),
    });
    places.map_err(unreadable)
}

#[derive(PartialEq, Eq)]
enum Progress {
    GoOn,
    /// There is enough, or what comes next does not follow: a segment between was released.
    Stop,
}

/// What a read has collected.
struct Found {
    revision: Revision,
    max_bytes: usize,
    bytes: usize,
    batches: Vec<SharedBatch>,
}

impl Found {
    /// The revision that the next batch may follow.
    fn reached(&self) -> Revision {
        self.batches.last().map_or(self.revision - 1, |last| last.revision_after)
    }

    fn add(&mut self, batch: Batch, bytes: usize) {
        self.batches.push(SharedBatch::new(batch));
        self.bytes += bytes;
    }
}
