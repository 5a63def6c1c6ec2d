//! From what is in the directory to a log that can be written.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use super::buffer::AlignedBuffer;
use super::directory::{DataDirectory, sync_directory};
use super::error::{DiskError, LogFailure};
use super::file::{
    OpenMode, SegmentFile, SegmentReader, create_zeroed, install, open_segments, supports_direct,
};
use super::history::HistoryReader;
use super::history_index::HistoryIndex;
use super::prepare::{Files, Preparer};
use super::priority::may_be_preferred;
use super::probe::{Free, synced_writes_are_faster};
use super::staged::Stager;
use super::state::{Shared, Start, State};
use super::stopped;
use super::worker;
use super::writer::{Durability, LogOptions, LogWriter};
use crate::effect::Batch;
use crate::limits;
use crate::log::LogError;
use crate::log::frame::{BLOCK_BYTES, FrameHeader, FrameKind};
use crate::log::outline::{damaged, read_start};
use crate::log::raw::RawBatch;
use crate::log::replay::{Behind, Commitment, Reached, Replay, Replayed};
use crate::log::scan::{CutTail, LogEnd, Scanner};
use crate::log::segment::{SegmentBytes, file_name};
use crate::record::Revision;

/// The revision of a store in which nothing was ever written, as etcd's.
pub(super) const FIRST_REVISION: Revision = 1;

/// Bytes wiped at once.
const WIPE_BYTES: usize = 1 << 20;

/// Reads the log of a data directory, batch by batch.
pub struct Recovery {
    directory: DataDirectory,
    replay: Replay<SegmentReader>,
    history: HistoryIndex,
    /// The log begins with segments that need not be read.
    unread: bool,
    /// It is the log of a member with company.
    has_company: bool,
    behind_index: u64,
    bytes_behind: u64,
    sequences: Vec<u64>,
}

/// A log that is open for writing.
pub struct Log {
    pub writer: LogWriter,
    pub history: HistoryReader,
    /// What the log held: the last index, hard state, pending entries.
    pub replayed: Replayed,
    /// What an operator should know: a cut tail, a file system without direct I/O.
    pub warnings: Vec<String>,
    /// How writes become durable; never [`Durability::Measured`].
    pub durability: Durability,
    /// Whether the threads that write got real-time priority. Without it (root, CAP_SYS_NICE or
    /// `LimitRTPRIO=1` is needed) they wait for their turn when the machine is busy.
    pub preferred: bool,
}

impl Recovery {
    pub(super) fn new(
        directory: DataDirectory,
        commitment: Commitment,
        behind: Behind,
    ) -> Result<Recovery, DiskError> {
        let (sequences, segments) = open_segments(directory.wal())?;
        let salt = directory.salt();
        let (history, segments) = pass_over(segments, salt, behind)?;
        let unread = !history.is_empty();
        let known_end = stopped::read(directory.wal(), salt);
        let mut scanner = Scanner::new(salt, segments, known_end)?;
        let has_company = commitment.has_company() || directory.has_members();
        if has_company {
            scanner = scanner.put_up_with_damage();
        }
        Ok(Recovery {
            directory,
            replay: Replay::new(scanner, commitment).behind(behind),
            history,
            unread,
            has_company,
            behind_index: behind.index,
            bytes_behind: 0,
            sequences,
        })
    }

    /// The next committed batch; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, DiskError> {
        Ok(self.next_raw()?.map(|raw| raw.to_batch()))
    }

    /// [`next_batch`](Recovery::next_batch) without copying anything out of its payload.
    pub fn next_raw(&mut self) -> Result<Option<RawBatch>, DiskError> {
        let batch = self.replay.next_raw();
        for place in self.replay.take_places() {
            if place.kind.is_entry() && place.index > self.behind_index {
                self.bytes_behind += place.end - place.offset;
            }
            self.history.add(place, &[]);
        }
        Ok(batch?)
    }

    /// What was reached before the oldest entry that is read; `None` before anything was.
    pub fn begins_after(&self) -> Option<Reached> {
        self.replay.begins_after()
    }

    /// The newest entry that was read, whether a snapshot holds it or not.
    pub fn reached(&self) -> Reached {
        self.replay.reached()
    }

    /// Bytes that the entries given by [`next_batch`](Recovery::next_batch) take in the log.
    pub fn bytes_behind(&self) -> u64 {
        self.bytes_behind
    }

    /// Bytes read and bytes in all, for a progress bar.
    pub fn progress(&self) -> (u64, u64) {
        self.replay.progress()
    }

    /// Opens the log for writing. Reads what [`next_batch`](Recovery::next_batch) has not read
    /// yet, cuts an unfinished tail off, and makes the rest durable.
    pub fn start(mut self, options: LogOptions) -> Result<Log, DiskError> {
        assert!((1..=limits::LOG_FRAMES_IN_FLIGHT).contains(&options.depth));
        while self.next_raw()?.is_some() {}
        let mut replayed = self.replay.finish();
        if self.has_company && replayed.end.position > 0 {
            self.directory.begin_to_have_members()?;
        }
        let wal = self.directory.wal();
        let failed = DiskError::directory(wal, "preparing the log");
        if replayed.end.position == 0 && self.directory.has_snapshots() {
            return Err(DiskError::NoLog { wal: wal.to_owned() });
        }
        let mut warnings: Vec<String> = replayed.cut.iter().map(cut_text).collect();
        stopped::remove(wal).map_err(&failed)?;
        let direct = use_direct_io(wal, &options, &mut warnings).map_err(&failed)?;
        if replayed.end.position == 0 {
            replayed.reached.revision = FIRST_REVISION;
            replayed.applied.revision = FIRST_REVISION;
            replayed.begins_after.revision = FIRST_REVISION;
            begin(wal, &self.sequences, options.first_segment_bytes, direct).map_err(&failed)?;
            self.sequences = vec![1];
        }
        let mode = choose_mode(wal, &replayed.end, &options, direct).map_err(&failed)?;
        let files = Files::open(wal, mode, options.segment_bytes).map_err(&failed)?;
        let mut segments = Segments::open(wal, mode, &replayed.end, &self.sequences)?;
        let current = match segments.counting.last() {
            Some(last) => Arc::clone(last),
            None => segments.prepared.take().expect("the first one was just made"),
        };
        for segment in segments.counting {
            self.history.add_file(segment);
        }
        if !self.unread {
            self.history.begins_after = replayed.begins_after.revision;
        }
        self.history.begin_writing();
        let start = Start {
            salt: self.directory.salt(),
            segment: current,
            end: replayed.end,
            reached: replayed.reached,
            terms: replayed.terms.clone(),
            prepared: segments.prepared,
            segment_bytes: options.segment_bytes,
        };
        let history = Arc::new(Mutex::new(self.history));
        let reader = HistoryReader { index: Arc::clone(&history), salt: start.salt };
        let commands = mpsc::channel();
        let state = State::new(start, commands.0.clone());
        let shared = Arc::new(Shared::new(state, history));
        let preparer = Preparer::spawn(Arc::clone(&shared), commands, files, reader.clone())
            .map_err(&failed)?;
        let preferred = options.prefer_threads && may_be_preferred();
        let threads = worker::spawn(&shared, options.depth, preferred).map_err(&failed)?;
        let stager = Stager { shared: Arc::clone(&shared), wal: wal.to_owned(), mode };
        let newest_index = replayed.reached.index;
        let directory = self.directory;
        let hard_state = replayed.hard_state;
        let writer = LogWriter {
            shared,
            threads,
            preparer,
            stager,
            directory,
            newest_index,
            hard_state,
            has_company: self.has_company,
        };
        let durability = if mode.synced { Durability::SyncedWrites } else { Durability::DataSync };
        Ok(Log { writer, history: reader, replayed, warnings, durability, preferred })
    }
}

/// Sets the segments aside that hold nothing but what a snapshot holds, too: their first frames
/// say so. Gives an index of those, and the segments to read: the snapshot's last entry is in the
/// first one, if it is still in the log, so that what was promised behind it is read as well.
fn pass_over(
    mut segments: Vec<SegmentReader>,
    salt: u64,
    behind: Behind,
) -> Result<(HistoryIndex, Vec<SegmentReader>), DiskError> {
    let mut history = HistoryIndex::default();
    let mut first = segments.len();
    while behind.index > 0 && first > 0 {
        first -= 1;
        let start = read_start(&segments[first], salt)?;
        let restarts = |header: &FrameHeader| {
            header.kind == FrameKind::Restart && header.index == behind.index
        };
        if start.is_some_and(|start| start.header.index < behind.index || restarts(&start.header)) {
            break;
        }
    }
    if first == segments.len() {
        return Ok((history, segments));
    }
    let rest = segments.split_off(first);
    for (number, segment) in segments.iter().enumerate() {
        let next = segments.get(number + 1).unwrap_or(&rest[0]);
        if segment.sequence() + 1 != next.sequence() {
            let missing = file_name(next.sequence() - 1);
            return Err(LogError::MissingSegment { missing, found: next.name() }.into());
        }
        let start = read_start(segment, salt)?;
        history.add_unread(&start.ok_or_else(|| damaged(segment, 0, None))?.header);
    }
    Ok((history, rest))
}

fn cut_text(cut: &CutTail) -> String {
    format!(
        "cut the unfinished end of the log at byte {} of {} ({}); it and {} frames behind it had \
         not been acknowledged",
        cut.offset, cut.file, cut.reason, cut.frames
    )
}

fn use_direct_io(wal: &Path, options: &LogOptions, warnings: &mut Vec<String>) -> io::Result<bool> {
    if !options.direct_io {
        return Ok(false);
    }
    let direct = supports_direct(wal)?;
    if !direct {
        warnings.push(format!(
            "the file system of {} has no direct I/O: the log is written through the page cache \
             and fdatasync, which is slower. Use a local ext4 or xfs for speed",
            wal.display()
        ));
    }
    Ok(direct)
}

/// Makes the first segment of a log in which nothing counts, and removes what is there of others.
fn begin(wal: &Path, sequences: &[u64], bytes: u64, direct: bool) -> io::Result<()> {
    for &sequence in sequences {
        fs::remove_file(wal.join(file_name(sequence)))?;
    }
    let draft = wal.join("first.tmp");
    create_zeroed(&draft, bytes, direct)?;
    install(&draft, wal, 1)
}

fn choose_mode(
    wal: &Path,
    end: &LogEnd,
    options: &LogOptions,
    direct: bool,
) -> io::Result<OpenMode> {
    let free = Free { wal, segment: end.segment.max(1), offset: end.offset };
    let synced = match options.durability {
        Durability::Measured => {
            direct && synced_writes_are_faster(free, direct, options.prefer_threads)?
        }
        Durability::SyncedWrites => true,
        Durability::DataSync => false,
    };
    Ok(OpenMode { direct, synced })
}

/// The segments of a log that is about to be written.
struct Segments {
    /// Those that hold frames, the last one being the one to go on with.
    counting: Vec<Arc<SegmentFile>>,
    /// One that was made ready for later.
    prepared: Option<Arc<SegmentFile>>,
}

impl Segments {
    /// Opens them. Wipes what does not count behind the log's end, as it must never come to count
    /// again, and makes durable what does count: it may be no further than in the disk's cache.
    fn open(
        wal: &Path,
        mode: OpenMode,
        end: &LogEnd,
        sequences: &[u64],
    ) -> Result<Segments, DiskError> {
        let failed = DiskError::directory(wal, "opening a segment");
        let mut segments = Segments { counting: Vec::new(), prepared: None };
        for &sequence in sequences {
            let file = Arc::new(SegmentFile::open(wal, sequence, mode).map_err(&failed)?);
            if sequence <= end.segment {
                segments.counting.push(file);
                continue;
            }
            let next = sequence == end.segment + 1;
            let usable = file.capacity >= 2 * BLOCK_BYTES as u64
                && file.capacity.is_multiple_of(BLOCK_BYTES as u64);
            if next && usable && !end.stale_segments {
                segments.prepared = Some(file);
            } else {
                fs::remove_file(&file.path)
                    .and_then(|()| sync_directory(wal))
                    .map_err(DiskError::directory(wal, "removing a segment without use"))?;
            }
        }
        for file in &segments.counting {
            let stale_bytes = if file.sequence == end.segment { end.stale_bytes } else { 0 };
            wipe(file, end.offset, stale_bytes).and_then(|()| file.sync()).map_err(|error| {
                LogFailure::new(&file.path, end.offset, "a sync at the start", &error)
            })?;
        }
        Ok(segments)
    }
}

/// Overwrites whole blocks with zeros.
fn wipe(file: &SegmentFile, start: u64, bytes: u64) -> io::Result<()> {
    let mut zeros = AlignedBuffer::zeroed(WIPE_BYTES);
    let end = start + bytes;
    let mut offset = start;
    while offset < end {
        zeros.resize((end - offset).min(WIPE_BYTES as u64) as usize);
        file.write_durably(offset, zeros.bytes())?;
        offset += zeros.bytes().len() as u64;
    }
    Ok(())
}
