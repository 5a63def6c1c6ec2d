//! The writing end of the log as plain data: where the next frame goes and what its header says.

use super::frame::{FrameHeader, FrameKind, frame_bytes, seal};
use super::replay::{Place, Reached};
use super::scan::{KnownEnd, LogEnd};
use super::terms::Terms;
use crate::limits;
use crate::record::Revision;

/// What an entry frame says of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryMeta {
    pub revision_before: Revision,
    /// Index, term and revision after it.
    pub reached: Reached,
}

/// A frame's contents before it has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    pub kind: FrameKind,
    pub payload_length: u32,
    /// [`payload_crc`](super::frame::payload_crc) of the payload.
    pub payload_crc: u32,
    /// For entries, and for where a log restarts; other frames repeat what has been reached.
    pub entry: Option<EntryMeta>,
}

/// Gives frames their places and chains them.
#[derive(Debug, Clone)]
pub struct Appender {
    salt: u64,
    segment: u64,
    capacity: u64,
    offset: u64,
    position: u64,
    crc: u32,
    reached: Reached,
    /// Of the entries that may be replaced, and more.
    terms: Terms,
    /// The revision before the segment, or before what is appended to it since the start.
    base: Revision,
}

impl Appender {
    /// Continues a log at its end, in a segment of `capacity` bytes. A log that is still empty
    /// (`end.position` 0) begins in segment 1.
    pub fn new(salt: u64, end: &LogEnd, capacity: u64, reached: Reached) -> Appender {
        let segment = end.segment.max(1);
        let LogEnd { offset, position, crc, .. } = *end;
        let base = reached.revision;
        let terms = Terms::new(reached.index, reached.term);
        Appender { salt, segment, capacity, offset, position, crc, reached, terms, base }
    }

    /// Says which terms the entries have that may be replaced.
    pub fn with_terms(self, terms: Terms) -> Appender {
        assert_eq!(terms.last(), (self.reached.index, self.reached.term));
        Appender { terms, ..self }
    }

    /// Nothing up to `index` is going to be replaced.
    pub fn forget_terms_before(&mut self, index: u64) {
        self.terms.compact(index);
    }

    /// Whether the segment still lacks its first frame, of kind `SegmentStart`.
    pub fn at_segment_start(&self) -> bool {
        self.offset == 0
    }

    /// Whether a frame of so many bytes on disk fits into the segment.
    pub fn fits(&self, frame_bytes: u64) -> bool {
        frame_bytes <= self.capacity - self.offset
    }

    /// Whether an entry that follows `revision_before` may be in the segment: what finds changes in
    /// it counts revisions from the segment's beginning, in 32 bits.
    pub fn spans(&self, revision_before: Revision) -> bool {
        revision_before - self.base <= limits::LOG_SEGMENT_REVISIONS
    }

    /// Whether an entry takes the place of one that was before it, and of all behind that. It has
    /// to begin a segment: see [`begin_replacing`](Appender::begin_replacing).
    pub fn replaces(&self, entry: &EntryMeta) -> bool {
        entry.reached.index <= self.reached.index
    }

    /// Goes back to what was reached before `entry`, so that the segment which begins now says so.
    pub fn begin_replacing(&mut self, entry: &EntryMeta) {
        assert!(self.at_segment_start() && self.replaces(entry));
        let index = entry.reached.index - 1;
        let term = self.terms.at(index).expect("only what may be replaced is");
        self.terms.truncate(index);
        self.reached = Reached { index, term, revision: entry.revision_before };
        self.base = entry.revision_before;
    }

    /// Goes on with the next segment.
    pub fn change_segment(&mut self, capacity: u64) {
        self.base = self.reached.revision;
        self.segment += 1;
        self.capacity = capacity;
        self.offset = 0;
    }

    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Where the next frame goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The end of the log, once everything placed is durable.
    pub fn known_end(&self) -> KnownEnd {
        KnownEnd { position: self.position, crc: self.crc }
    }

    /// The position of the last frame placed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes the header of the next frame into `frame` (which holds the whole frame, padding
    /// included) and gives its place.
    pub fn place(&mut self, meta: &FrameMeta, durable_position: u64, frame: &mut [u8]) -> Place {
        assert_eq!(frame.len(), frame_bytes(meta.payload_length as usize));
        self.place_beginning(meta, durable_position, frame)
    }

    /// The same for a frame of which `beginning` is the first block, or more, and the rest is on
    /// the disk already.
    pub fn place_beginning(
        &mut self,
        meta: &FrameMeta,
        durable_position: u64,
        beginning: &mut [u8],
    ) -> Place {
        let frame_bytes = frame_bytes(meta.payload_length as usize) as u64;
        assert_eq!(self.at_segment_start(), meta.kind.begins_segment());
        assert!(self.fits(frame_bytes), "the caller changes segments first");
        assert!(durable_position <= self.position);
        let reached = meta.entry.map_or(self.reached, |entry| entry.reached);
        if meta.kind.is_entry() {
            assert_eq!(reached.index, self.reached.index + 1, "entries follow each other");
            self.terms.push(reached.term);
        } else if meta.kind == FrameKind::Restart {
            self.terms = Terms::new(reached.index, reached.term);
            self.base = reached.revision;
        }
        let header = FrameHeader {
            kind: meta.kind,
            payload_length: meta.payload_length,
            previous_crc: self.crc,
            segment: self.segment,
            position: self.position + 1,
            durable_position,
            term: reached.term,
            index: reached.index,
            revision_before: meta.entry.map_or(reached.revision, |entry| entry.revision_before),
            revision_after: reached.revision,
        };
        let offset = self.offset;
        self.crc = seal(&header, meta.payload_crc, self.salt, beginning);
        self.position += 1;
        self.offset += frame_bytes;
        self.reached = reached;
        Place {
            kind: header.kind,
            segment: header.segment,
            offset,
            end: self.offset,
            index: header.index,
            term: header.term,
            revision_before: header.revision_before,
            revision_after: header.revision_after,
        }
    }
}
