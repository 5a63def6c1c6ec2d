//! Where revisions and keys are in the log's segments, as far as memory has to know.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::deleted_keys::DeletedKeys;
use super::file::SegmentFile;
use super::history::HistoryError;
use super::keys::{ChangedKey, OpenKeys};
use super::lookup::Base;
use crate::log::frame::{FrameHeader, FrameKind};
use crate::log::key_index::KeyPlace;
use crate::log::replay::Place;
use crate::record::Revision;

/// Bytes of the log between two points of the index.
const POINT_BYTES: u64 = 256 << 10;

/// Large deletions whose keys are remembered: each takes some thousandth of its frame.
const LOOKED_INTO: usize = 4;

/// Where revisions are on the disk.
#[derive(Debug, Default)]
pub(super) struct HistoryIndex {
    segments: VecDeque<SegmentIndex>,
    /// The files of the segments, by sequence number.
    pub(super) files: BTreeMap<u64, Arc<SegmentFile>>,
    /// The revision before the oldest entry.
    pub(super) begins_after: Revision,
    /// Segments before the one with which the log began anew.
    void: Vec<u64>,
    /// Where entries are about to be replaced, by what has no segment yet: oldest first.
    cuts: VecDeque<Cut>,
    /// Large deletions that were looked into last.
    deletions: VecDeque<Arc<DeletedKeys>>,
    /// What holds older versions.
    pub(super) base: Option<Arc<dyn Base>>,
    /// The index of the newest entry.
    reached: u64,
    /// The log is being written: the newest segment's keys are kept in memory.
    writing: bool,
}

#[derive(Debug)]
pub(super) struct SegmentIndex {
    sequence: u64,
    /// What its first entry has, or would have.
    pub(super) first_index: u64,
    pub(super) revision_before: Revision,
    /// Some entries, ascending.
    points: Vec<Point>,
    /// Where the last durable entry ends.
    pub(super) end: u64,
    /// Whether `points` and `end` are known: not of segments that a start had no need to read.
    pub(super) outlined: bool,
    pub(super) keys: Keys,
    /// A new leader has replaced what is behind by entries in later segments.
    pub(super) upto: Cut,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
struct Point {
    index: u64,
    revision_before: Revision,
    offset: u64,
}

/// The last entry that is not replaced, and the revision after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) index: u64,
    pub(super) revision: Revision,
}

impl Cut {
    const NONE: Cut = Cut { index: u64::MAX, revision: Revision::MAX };

    fn earlier(self, other: Cut) -> Cut {
        if other.index < self.index { other } else { self }
    }
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
        if place.kind.begins_segment() {
            self.begin_segment(&place);
            return;
        }
        if place.kind.is_entry() {
            self.reached = place.index;
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.add(place);
            if let Keys::Memory(memory) = &mut segment.keys {
                memory.add(place.offset, keys);
            }
        }
    }

    fn begin_segment(&mut self, place: &Place) {
        if place.kind == FrameKind::Restart {
            self.void.extend(self.segments.drain(..).map(|segment| segment.sequence));
            self.cuts.clear();
        } else {
            let cut = Cut { index: place.index, revision: place.revision_after };
            if place.index < self.reached {
                // Entries are replaced by those that come now.
                self.cuts.pop_front_if(|first| *first == cut);
            }
            // Where the segments before were not read it is not known whether there are such.
            self.apply_cut(cut);
        }
        self.reached = place.index;
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
            upto: self.cuts.iter().fold(Cut::NONE, |all, &cut| all.earlier(cut)),
        });
    }

    /// Entries behind one are replaced, from this moment on: whoever reads must not see them, though
    /// what replaces them has no place yet.
    pub(super) fn replace_behind(&mut self, cut: Cut) {
        self.cuts.push_back(cut);
        self.apply_cut(cut);
    }

    fn apply_cut(&mut self, cut: Cut) {
        for segment in &mut self.segments {
            segment.upto = segment.upto.earlier(cut);
        }
    }

    /// Takes note of a segment that is not read now, and what its first frame says.
    pub(super) fn add_unread(&mut self, start: &FrameHeader) {
        let place = Place {
            kind: start.kind,
            segment: start.segment,
            offset: 0,
            end: 0,
            index: start.index,
            term: start.term,
            revision_before: start.revision_before,
            revision_after: start.revision_after,
        };
        self.add(place, &[]);
        if let Some(segment) = self.segments.back_mut() {
            segment.outlined = false;
        }
    }

    /// What is where in a segment that was not read at the start.
    pub(super) fn add_outline(&mut self, sequence: u64, places: &[Place]) {
        let unread =
            |segment: &&mut SegmentIndex| segment.sequence == sequence && !segment.outlined;
        if let Some(segment) = self.segments.iter_mut().find(unread) {
            places.iter().for_each(|&place| segment.add(place));
            segment.outlined = true;
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

    /// Gives up the segments that hold nothing but entries before `index`, or nothing that counts;
    /// never the newest.
    pub(super) fn release_before(&mut self, index: u64) -> Vec<Arc<SegmentFile>> {
        let void = std::mem::take(&mut self.void);
        let mut released: Vec<Arc<SegmentFile>> =
            void.iter().filter_map(|sequence| self.files.remove(sequence)).collect();
        while self.segments.get(1).is_some_and(|second| second.first_index <= index) {
            if let Some(first) = self.segments.pop_front() {
                released.extend(self.files.remove(&first.sequence));
            }
            self.begins_after = self.segments[0].revision_before;
        }
        let files = &self.files;
        self.deletions.retain(|keys| files.contains_key(&keys.segment()));
        released
    }

    /// What is known of a large deletion's keys.
    pub(super) fn deleted_keys(&self, segment: u64, offset: u64) -> Option<Arc<DeletedKeys>> {
        self.deletions.iter().find(|keys| keys.is_at(segment, offset)).cloned()
    }

    /// Keeps what was found out about a large deletion, and forgets what is older.
    pub(super) fn add_deleted_keys(&mut self, keys: Arc<DeletedKeys>) {
        if self.files.contains_key(&keys.segment()) {
            self.deletions.truncate(LOOKED_INTO - 1);
            self.deletions.push_front(keys);
        }
    }

    /// The stretch of the log in which to look for `revision` first.
    pub(super) fn find(&self, revision: Revision) -> Result<Option<Stretch>, HistoryError> {
        if revision <= self.begins_after {
            return Err(HistoryError::Released {
                requested: revision,
                begins_after: self.begins_after,
            });
        }
        Ok(self.find_where(
            |segment| segment.revision_before < revision,
            |point| point.revision_before < revision,
        ))
    }

    /// The stretch of the log in which to look for entry `index` first. `None` when it is no longer
    /// there, or not yet.
    pub(super) fn find_entry(&self, index: u64) -> Option<Stretch> {
        self.find_where(|segment| segment.first_index <= index, |point| point.index <= index)
    }

    /// The newest segment, and the last point in it, of which these hold.
    fn find_where(
        &self,
        begins_before: impl Fn(&SegmentIndex) -> bool,
        is_before: impl Fn(&Point) -> bool,
    ) -> Option<Stretch> {
        // Where entries were replaced a later segment begins before an earlier one.
        let segment = self.segments.iter().rfind(|segment| begins_before(segment))?;
        if !segment.outlined {
            return self.stretch(segment, 0);
        }
        let point = segment.points.partition_point(is_before);
        match point.checked_sub(1).and_then(|number| segment.points.get(number)) {
            Some(point) => self.stretch(segment, point.offset),
            None => self.after(segment.sequence, segment.end),
        }
    }

    /// What follows `end` in segment `sequence`: more of it that became durable meanwhile, or the
    /// next segment. None, too, when that was released meanwhile: what comes next would not follow.
    pub(super) fn after(&self, sequence: u64, end: u64) -> Option<Stretch> {
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
        let upto_index = segment.upto.index;
        Some(Stretch { file, offset, end: segment.end, upto_index, outline_before: next.cloned() })
    }
}

impl SegmentIndex {
    fn add(&mut self, place: Place) {
        self.end = place.end;
        let newest = self.points.last();
        if place.kind.is_entry()
            && newest.is_none_or(|newest| place.offset >= newest.offset + POINT_BYTES)
        {
            let Place { index, revision_before, offset, .. } = place;
            self.points.push(Point { index, revision_before, offset });
        }
    }
}

/// Durable frames of one segment.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) file: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Entries with a larger index were replaced later on.
    pub(super) upto_index: u64,
    /// What is where is not known yet: find it out, with the segment behind this one.
    pub(super) outline_before: Option<Arc<SegmentFile>>,
}

impl Stretch {
    /// Frames of a segment of which it is known what is where.
    pub(super) fn of(file: &Arc<SegmentFile>, offset: u64, end: u64) -> Stretch {
        let (file, upto_index) = (Arc::clone(file), u64::MAX);
        Stretch { file, offset, end, upto_index, outline_before: None }
    }

    /// Whether nothing that came later replaced a frame.
    pub(super) fn counts(&self, header: &FrameHeader) -> bool {
        !header.kind.is_entry() || header.index <= self.upto_index
    }

    pub(super) fn damaged(&self, offset: u64, reason: String) -> HistoryError {
        HistoryError::Damaged { file: self.file.path.display().to_string(), offset, reason }
    }
}
