//! Reads batches back from the log by revision: for watchers that fell behind what is in memory.
//!
//! An index in memory knows, for each segment, the revision at every 256 KiB or so, and where to
//! find its keys. Only what is durable is in it, so a reader never sees a frame that is still being
//! written.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::AlignedBuffer;
use super::file::{SegmentFile, SegmentReader};
use super::keys::{ChangedKey, OpenKeys};
use super::lookup::Base;
use crate::effect::{Batch, SharedBatch};
use crate::log::decode::decode;
use crate::log::error::LogError;
use crate::log::frame::{
    BLOCK_BYTES, FrameHeader, FrameKind, HEADER_BYTES, ReadHeader, frame_bytes, read_header,
};
use crate::log::key_index::KeyPlace;
use crate::log::outline::{damaged, outline, read_start};
use crate::log::replay::Place;
use crate::record::Revision;

/// Bytes of the log between two points of the index.
const POINT_BYTES: u64 = 256 << 10;

/// Bytes read at once, unless a frame is larger.
const READ_BYTES: usize = 512 << 10;

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

/// Where revisions are on the disk.
#[derive(Debug, Default)]
pub(super) struct HistoryIndex {
    segments: VecDeque<SegmentIndex>,
    /// The files of the segments, by sequence number.
    files: BTreeMap<u64, Arc<SegmentFile>>,
    /// The revision before the oldest entry.
    pub(super) begins_after: Revision,
    /// What holds older versions.
    pub(super) base: Option<Arc<dyn Base>>,
    /// The revision of the newest entry.
    reached: Revision,
    /// The log is being written: the newest segment's keys are kept in memory.
    writing: bool,
}

#[derive(Debug)]
pub(super) struct SegmentIndex {
    sequence: u64,
    /// What its first entry has, or would have.
    first_index: u64,
    pub(super) revision_before: Revision,
    /// `(revision_before, offset)` of some entries, ascending.
    points: Vec<(Revision, u64)>,
    /// Where the last durable entry ends.
    pub(super) end: u64,
    /// Whether `points` and `end` are known: not of segments that a start had no need to read.
    pub(super) outlined: bool,
    pub(super) keys: Keys,
    /// A new leader has replaced later changes by entries in later segments.
    pub(super) keys_upto: Revision,
}

/// Where the key index of a segment is.
#[derive(Debug)]
pub(super) enum Keys {
    /// In its file, if that is whole.
    File,
    /// In memory: the segment is being written, or its file is.
    Memory(OpenKeys),
}

impl HistoryIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The file of a segment; must be known before anything is read from it.
    pub(super) fn add_file(&mut self, file: Arc<SegmentFile>) {
        self.files.insert(file.sequence, file);
    }

    /// The log is going to be written behind what is known: from now on frames come with keys.
    pub(super) fn begin_writing(&mut self) {
        self.writing = true;
        if let Some(last) = self.segments.back_mut() {
            last.keys = Keys::Memory(OpenKeys::new(last.revision_before, last.end));
        }
    }

    /// Takes note of a frame that is durable, with the keys that it changes. Frames come in order
    /// of the log.
    pub(super) fn add(&mut self, place: Place, keys: &[ChangedKey]) {
        if place.kind == FrameKind::SegmentStart {
            if self.segments.is_empty() {
                self.begins_after = place.revision_after;
            }
            self.segments.push_back(SegmentIndex {
                sequence: place.segment,
                first_index: place.index + 1,
                revision_before: place.revision_after,
                points: Vec::new(),
                end: place.end,
                outlined: true,
                keys: match self.writing {
                    true => Keys::Memory(OpenKeys::new(place.revision_after, 0)),
                    false => Keys::File,
                },
                keys_upto: Revision::MAX,
            });
            self.reached = place.revision_after;
            return;
        }
        if place.kind == FrameKind::Entry {
            if place.revision_before < self.reached {
                self.forget_keys_after(place.revision_before);
            }
            self.reached = place.revision_after;
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.add(place);
            if let Keys::Memory(memory) = &mut segment.keys {
                memory.add(place.offset, keys);
            }
        }
    }

    /// Takes note of a segment that is not read now, and what its first frame says.
    pub(super) fn add_unread(&mut self, start: &FrameHeader) {
        let place = Place {
            kind: FrameKind::SegmentStart,
            segment: start.segment,
            offset: 0,
            end: 0,
            index: start.index,
            revision_before: start.revision_before,
            revision_after: start.revision_after,
        };
        self.add(place, &[]);
        if let Some(segment) = self.segments.back_mut() {
            segment.outlined = false;
        }
    }

    /// What is where in a segment that was not read at the start.
    fn add_outline(&mut self, sequence: u64, places: &[Place]) {
        let unread =
            |segment: &&mut SegmentIndex| segment.sequence == sequence && !segment.outlined;
        if let Some(segment) = self.segments.iter_mut().find(unread) {
            places.iter().for_each(|&place| segment.add(place));
            segment.outlined = true;
        }
    }

    /// An entry replaces others, and so do the changes in it.
    fn forget_keys_after(&mut self, revision: Revision) {
        let current = self.segments.len().saturating_sub(1);
        for (number, segment) in self.segments.iter_mut().enumerate() {
            if number < current {
                segment.keys_upto = segment.keys_upto.min(revision);
            } else if let Keys::Memory(memory) = &mut segment.keys {
                memory.truncate(revision);
            }
        }
    }

    /// The segments with their files, oldest first.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&SegmentIndex, &Arc<SegmentFile>)> {
        let files = |segment: &SegmentIndex| self.files.get(&segment.sequence);
        self.segments.iter().filter_map(move |segment| Some((segment, files(segment)?)))
    }

    fn segment_mut(&mut self, sequence: u64) -> Option<&mut SegmentIndex> {
        self.segments.iter_mut().find(|segment| segment.sequence == sequence)
    }

    /// Keeps what was found out about changes from before this process.
    pub(super) fn set_early(&mut self, sequence: u64, places: &Arc<Vec<KeyPlace>>) {
        if let Some(SegmentIndex { keys: Keys::Memory(keys), .. }) = self.segment_mut(sequence) {
            keys.early = Some(Arc::clone(places));
        }
    }

    /// A segment's key index was written, or could not be: it is made again when it is needed.
    pub(super) fn keys_are_in_file(&mut self, sequence: u64) {
        if let Some(segment) = self.segment_mut(sequence) {
            segment.keys = Keys::File;
        }
    }

    /// Gives up the segments that hold nothing but entries before `index`; never the newest.
    pub(super) fn release_before(&mut self, index: u64) -> Vec<Arc<SegmentFile>> {
        let mut released = Vec::new();
        while self.segments.get(1).is_some_and(|second| second.first_index <= index) {
            if let Some(first) = self.segments.pop_front() {
                released.extend(self.files.remove(&first.sequence));
            }
            self.begins_after = self.segments[0].revision_before;
        }
        released
    }

    /// The stretch of the log in which to look for `revision` first.
    fn find(&self, revision: Revision) -> Result<Option<Stretch>, HistoryError> {
        if revision <= self.begins_after {
            return Err(HistoryError::Released {
                requested: revision,
                begins_after: self.begins_after,
            });
        }
        let after = self.segments.partition_point(|segment| segment.revision_before < revision);
        let Some(segment) = after.checked_sub(1).and_then(|number| self.segments.get(number))
        else {
            return Ok(None);
        };
        if !segment.outlined {
            return Ok(self.stretch(segment, 0));
        }
        let point = segment.points.partition_point(|&(before, _)| before < revision);
        let point = point.checked_sub(1).and_then(|number| segment.points.get(number));
        Ok(match point {
            Some(&(_, offset)) => self.stretch(segment, offset),
            None => self.after(segment.sequence, segment.end),
        })
    }

    /// What follows `end` in segment `sequence`: more of it that became durable meanwhile, or the
    /// next segment. None, too, when that was released meanwhile: what comes next would not follow.
    fn after(&self, sequence: u64, end: u64) -> Option<Stretch> {
        let number = self.segments.partition_point(|segment| segment.sequence < sequence);
        let segment = self.segments.get(number)?;
        if segment.sequence == sequence && segment.end > end {
            return self.stretch(segment, end);
        }
        let next = if segment.sequence == sequence { number + 1 } else { number };
        let next = self.segments.get(next).filter(|next| next.sequence == sequence + 1)?;
        self.stretch(next, 0)
    }

    /// All frames of a segment that is still there.
    pub(super) fn whole(&self, sequence: u64) -> Option<Stretch> {
        let segment = self.segments.iter().find(|segment| segment.sequence == sequence)?;
        self.stretch(segment, 0)
    }

    fn stretch(&self, segment: &SegmentIndex, offset: u64) -> Option<Stretch> {
        let file = Arc::clone(self.files.get(&segment.sequence)?);
        let next = self.files.get(&(segment.sequence + 1)).filter(|_| !segment.outlined);
        Some(Stretch { file, offset, end: segment.end, outline_before: next.cloned() })
    }
}

impl SegmentIndex {
    fn add(&mut self, place: Place) {
        self.end = place.end;
        let newest = self.points.last();
        if place.kind == FrameKind::Entry
            && newest.is_none_or(|&(_, offset)| place.offset >= offset + POINT_BYTES)
        {
            self.points.push((place.revision_before, place.offset));
        }
    }
}

/// Durable frames of one segment.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) file: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) end: u64,
    /// What is where is not known yet: find it out, with the segment behind this one.
    outline_before: Option<Arc<SegmentFile>>,
}

impl Stretch {
    /// Frames of a segment of which it is known what is where.
    pub(super) fn of(file: &Arc<SegmentFile>, offset: u64, end: u64) -> Stretch {
        Stretch { file: Arc::clone(file), offset, end, outline_before: None }
    }

    pub(super) fn damaged(&self, offset: u64, reason: String) -> HistoryError {
        HistoryError::Damaged { file: self.file.path.display().to_string(), offset, reason }
    }
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
    /// threads. Durable is not committed: in a cluster the caller stops at the committed revision.
    pub async fn read_from(
        &self,
        revision: Revision,
        max_bytes: usize,
    ) -> Result<Vec<SharedBatch>, HistoryError> {
        let reader = self.clone();
        glommio::executor()
            .spawn_blocking(move || reader.read_from_blocking(revision, max_bytes))
            .await
    }

    /// Bytes of the log's frames: what its segments hold.
    pub fn log_bytes(&self) -> u64 {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.segments.iter().map(|segment| segment.end).sum()
    }

    /// Bytes that the log's segments take on disk.
    pub fn disk_bytes(&self) -> u64 {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.files.values().map(|file| file.capacity).sum()
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
    let open = |file: &SegmentFile| {
        let wal = file.path.parent().unwrap_or(Path::new("."));
        SegmentReader::open(wal, file.sequence).map_err(|error| LogError::Read {
            file: file.path.display().to_string(),
            offset: 0,
            reason: error.to_string(),
        })
    };
    let places = open(next).and_then(|next| {
        let segment = open(file)?;
        match read_start(&next, salt)? {
            Some(start) => outline(&segment, salt, &start.header),
            None => Err(damaged(&next, 0, None)),
        }
    });
    places.map_err(unreadable)
}

/// Shows every frame of a stretch, with its place and payload, in order.
pub(super) fn visit_frames(
    stretch: &Stretch,
    salt: u64,
    mut visit: impl FnMut(u64, &FrameHeader, &[u8]) -> Result<(), String>,
) -> Result<(), HistoryError> {
    let mut frames = Frames::of(stretch, salt);
    while let Some((offset, read)) = frames.next()? {
        let payload = frames.payload(offset, &read)?;
        visit(offset, &read.header, payload).map_err(|reason| stretch.damaged(offset, reason))?;
    }
    Ok(())
}

/// Reads the first frame of a stretch, and no more than that.
pub(super) fn read_frame<'a>(
    stretch: &Stretch,
    salt: u64,
    buffer: &'a mut AlignedBuffer,
) -> Result<(FrameHeader, &'a [u8]), HistoryError> {
    let offset = stretch.offset;
    let damaged = |reason: String| stretch.damaged(offset, reason);
    let fill = |buffer: &mut AlignedBuffer, length: usize| {
        if length as u64 > stretch.end.saturating_sub(offset) {
            return Err(damaged("a frame reaches beyond what was written".to_owned()));
        }
        buffer.resize(length);
        stretch.file.read_blocks(offset, buffer).map_err(|error| damaged(error.to_string()))
    };
    fill(buffer, BLOCK_BYTES)?;
    let read = read_header(buffer.bytes(), salt, stretch.file.sequence)
        .map_err(|defect| damaged(defect.to_string()))?;
    let length = read.header.payload_length as usize;
    if frame_bytes(length) > BLOCK_BYTES {
        fill(buffer, frame_bytes(length))?;
    }
    let payload = &buffer.bytes()[HEADER_BYTES..][..length];
    read.check_payload(payload).map_err(|defect| damaged(defect.to_string()))?;
    Ok((read.header, payload))
}

/// The frames of a stretch, one after the other.
struct Frames<'a> {
    window: Window<'a>,
    salt: u64,
    next: u64,
}

impl<'a> Frames<'a> {
    fn of(stretch: &'a Stretch, salt: u64) -> Frames<'a> {
        let window = Window { stretch, start: stretch.offset, buffer: AlignedBuffer::default() };
        Frames { window, salt, next: stretch.offset }
    }

    /// The next one's place and header.
    fn next(&mut self) -> Result<Option<(u64, ReadHeader)>, HistoryError> {
        let (offset, stretch) = (self.next, self.window.stretch);
        if offset >= stretch.end {
            return Ok(None);
        }
        let damaged = |reason: String| stretch.damaged(offset, reason);
        let block =
            self.window.read(offset, BLOCK_BYTES).map_err(|error| damaged(error.to_string()))?;
        let read = read_header(block, self.salt, stretch.file.sequence)
            .map_err(|defect| damaged(defect.to_string()))?;
        self.next += frame_bytes(read.header.payload_length as usize) as u64;
        Ok(Some((offset, read)))
    }

    /// The payload of the frame at `offset`.
    fn payload(&mut self, offset: u64, read: &ReadHeader) -> Result<&[u8], HistoryError> {
        let stretch = self.window.stretch;
        let damaged = |reason: String| stretch.damaged(offset, reason);
        let length = read.header.payload_length as usize;
        let frame = self
            .window
            .read(offset, frame_bytes(length))
            .map_err(|error| damaged(error.to_string()))?;
        let payload = &frame[HEADER_BYTES..][..length];
        read.check_payload(payload).map_err(|defect| damaged(defect.to_string()))?;
        Ok(payload)
    }
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
        // Entries that a newer leader replaced don't count.
        while self.batches.pop_if(|last| last.index >= batch.index).is_some() {}
        self.batches.push(SharedBatch::new(batch));
        self.bytes += bytes;
    }
}

/// Blocks of a stretch that were read at once.
struct Window<'a> {
    stretch: &'a Stretch,
    start: u64,
    buffer: AlignedBuffer,
}

impl Window<'_> {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset + length as u64;
        if end > self.stretch.end {
            return Err(io::Error::other("a frame reaches beyond what was written"));
        }
        if offset < self.start || end > self.start + self.buffer.bytes().len() as u64 {
            let available = self.stretch.end - offset;
            self.start = offset;
            self.buffer.resize(length.max(READ_BYTES.min(available as usize)));
            self.stretch.file.read_blocks(offset, &mut self.buffer)?;
        }
        Ok(&self.buffer.bytes()[(offset - self.start) as usize..][..length])
    }
}
