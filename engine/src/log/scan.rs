//! Reads the frames of a log in order and decides where it ends.
//!
//! Acknowledgements are given in order, but several writes are in flight at once, so after a crash
//! a frame may be whole while one before it is torn. The end of the log is therefore the first
//! frame that is not intact or does not continue the chain, *unless* an intact frame anywhere
//! behind says (`durable_position`) that the missing one had been durable when it was submitted:
//! then an acknowledged write is damaged, and that is an error. Nothing is ever skipped.
//!
//! A member of a cluster may [put up](Scanner::put_up_with_damage) with an acknowledged entry whose
//! header is intact: what it was is known, and others have its content.

use super::error::LogError;
use super::frame::{
    BLOCK_BYTES, FrameDefect, FrameHeader, FrameKind, HEADER_BYTES, ReadHeader, frame_bytes,
    read_header,
};
use super::segment::{FORMAT_VERSION, Restart, SegmentBytes, SegmentStart, file_name};
use crate::limits;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// One intact frame at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedFrame {
    pub header: FrameHeader,
    pub payload: Vec<u8>,
    /// Bytes from the start of the segment `header.segment`.
    pub offset: u64,
    /// The payload can't be read, and is empty here.
    pub is_damaged: bool,
}

/// Where the log ends, and what the next frame must continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The segment to go on with; 0 when the log has none that is begun.
    pub segment: u64,
    /// Where in it the next frame goes.
    pub offset: u64,
    /// The last frame's position, 0 when there is none.
    pub position: u64,
    /// The last frame's checksum.
    pub crc: u32,
    /// Bytes behind `offset` in `segment` that hold intact frames which were never acknowledged.
    /// They must be wiped before anything new is written.
    pub stale_bytes: u64,
    /// The same in segments behind `segment`: those must be deleted.
    pub stale_segments: bool,
}

/// The last frame of a log that was stopped in order, noted beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownEnd {
    pub position: u64,
    /// The frame's checksum.
    pub crc: u32,
}

/// An unfinished end that was cut off: worth a line in the server's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    pub file: String,
    pub offset: u64,
    pub reason: String,
    /// Intact frames behind the cut: in flight at the crash, never acknowledged.
    pub frames: u64,
}

/// Walks over the frames of a log. Holds one frame's payload and one read buffer at a time.
pub struct Scanner<S> {
    salt: u64,
    segments: Vec<S>,
    known_end: Option<KnownEnd>,
    /// How many damaged entries may still be passed.
    damages_left: usize,
    /// Which of `segments`.
    current: usize,
    offset: u64,
    /// The last frame's.
    position: u64,
    crc: u32,
    index: u64,
    revision: i64,
    window: Window,
    finished: bool,
    stale_bytes: u64,
    stale_segments: bool,
    cut: Option<CutTail>,
}

/// What is at a place where a frame should be.
enum Found {
    Frame(ReadHeader, Vec<u8>),
    /// A header without the payload that it speaks of.
    Header(ReadHeader),
    Not(FrameDefect),
}

impl<S: SegmentBytes> Scanner<S> {
    /// Takes the segments in order of their sequence numbers. With a `known_end` nothing can have
    /// been written since, so it need not be looked for; and an earlier end is damage.
    pub fn new(
        salt: u64,
        segments: Vec<S>,
        known_end: Option<KnownEnd>,
    ) -> Result<Scanner<S>, LogError> {
        for pair in segments.windows(2) {
            if pair[0].sequence() + 1 != pair[1].sequence() {
                return Err(LogError::MissingSegment {
                    missing: file_name(pair[1].sequence() - 1),
                    found: pair[1].name(),
                });
            }
        }
        Ok(Scanner {
            salt,
            segments,
            known_end,
            damages_left: 0,
            current: 0,
            offset: 0,
            position: 0,
            crc: 0,
            index: 0,
            revision: 0,
            window: Window::default(),
            finished: false,
            stale_bytes: 0,
            stale_segments: false,
            cut: None,
        })
    }

    /// Gives acknowledged entries whose payload is damaged, as such, instead of an error.
    pub fn put_up_with_damage(self) -> Scanner<S> {
        Scanner { damages_left: limits::DAMAGED_ENTRIES, ..self }
    }

    /// Bytes of all segments, and how many of them are behind us.
    pub fn progress(&self) -> (u64, u64) {
        let total = self.segments.iter().map(S::length).sum();
        let before: u64 = self.segments.iter().take(self.current).map(S::length).sum();
        (if self.finished { total } else { before + self.offset }, total)
    }

    /// The next frame; `None` at the end of the log.
    pub fn next_frame(&mut self) -> Result<Option<ScannedFrame>, LogError> {
        if self.finished || self.segments.is_empty() {
            self.finished = true;
            return Ok(None);
        }
        let defect = match self.frame_at(self.current, self.offset)? {
            Found::Frame(read, payload) if self.continues(&read.header) => {
                return self.accept(read, payload).map(Some);
            }
            Found::Header(read) if self.continues(&read.header) => {
                if let Some(frame) = self.pass_damage(&read)? {
                    return Ok(Some(frame));
                }
                FrameDefect::PayloadChecksum.to_string()
            }
            Found::Header(_) => FrameDefect::PayloadChecksum.to_string(),
            Found::Frame(..) => "a frame that does not continue the one before".to_owned(),
            Found::Not(defect) => defect.to_string(),
        };
        if self.next_segment_continues()? {
            self.current += 1;
            self.offset = 0;
            return self.next_frame();
        }
        self.judge_end(defect)?;
        self.finished = true;
        Ok(None)
    }

    /// Where the log ends. Meaningful once [`next_frame`](Scanner::next_frame) gave `None`.
    pub fn end(&self) -> LogEnd {
        assert!(self.finished, "the scan has not reached the end");
        LogEnd {
            segment: if self.position == 0 { 0 } else { self.segments[self.current].sequence() },
            offset: self.offset,
            position: self.position,
            crc: self.crc,
            stale_bytes: self.stale_bytes,
            stale_segments: self.stale_segments,
        }
    }

    /// What was cut off at the end, if anything was.
    pub fn cut(&self) -> Option<&CutTail> {
        self.cut.as_ref()
    }

    /// Gives the segments back.
    pub fn into_segments(self) -> Vec<S> {
        self.segments
    }

    fn continues(&self, header: &FrameHeader) -> bool {
        let start = header.kind.begins_segment();
        if start != (self.offset == 0) {
            return false;
        }
        // The oldest segment that is kept tells where the log begins.
        let beginning = start && self.current == 0 && header.segment > 1;
        beginning || (header.position == self.position + 1 && header.previous_crc == self.crc)
    }

    fn next_segment_continues(&mut self) -> Result<bool, LogError> {
        let next = self.current + 1;
        if self.offset == 0 || next >= self.segments.len() {
            return Ok(false);
        }
        Ok(match self.frame_at(next, 0)? {
            Found::Frame(read, _) => {
                read.header.kind.begins_segment()
                    && read.header.position == self.position + 1
                    && read.header.previous_crc == self.crc
            }
            Found::Header(_) | Found::Not(_) => false,
        })
    }

    fn accept(&mut self, read: ReadHeader, payload: Vec<u8>) -> Result<ScannedFrame, LogError> {
        let header = read.header;
        if header.kind.begins_segment() {
            self.check_start(header.kind, &payload)?;
        }
        let offset = self.pass(&read);
        Ok(ScannedFrame { header, payload, offset, is_damaged: false })
    }

    /// Goes on behind a frame; gives where it begins.
    fn pass(&mut self, read: &ReadHeader) -> u64 {
        let header = &read.header;
        let offset = self.offset;
        self.offset += frame_bytes(header.payload_length as usize) as u64;
        self.position = header.position;
        self.crc = read.crc;
        self.index = header.index;
        self.revision = header.revision_after;
        offset
    }

    /// The frame that comes next lacks its payload: if it is an entry that had been acknowledged,
    /// and this is put up with, the entry. The chain is one of headers, so it goes on behind it.
    fn pass_damage(&mut self, read: &ReadHeader) -> Result<Option<ScannedFrame>, LogError> {
        if self.damages_left == 0 || !read.header.kind.is_entry() {
            return Ok(None);
        }
        let missing = self.position + 1;
        let acknowledged = match self.known_end {
            Some(known) => known.position >= missing,
            None => {
                // What is looked for is behind it; what is found counts only at the log's end.
                let (bytes, segments) = (self.stale_bytes, self.stale_segments);
                let proof = self.look_behind(missing, "");
                (self.stale_bytes, self.stale_segments) = (bytes, segments);
                match proof {
                    Ok(_) => false,
                    Err(LogError::Corrupt { .. }) => true,
                    Err(error) => return Err(error),
                }
            }
        };
        if !acknowledged {
            return Ok(None);
        }
        self.damages_left -= 1;
        let offset = self.pass(read);
        Ok(Some(ScannedFrame {
            header: read.header,
            payload: Vec::new(),
            offset,
            is_damaged: true,
        }))
    }

    fn check_start(&self, kind: FrameKind, payload: &[u8]) -> Result<(), LogError> {
        let segment = &self.segments[self.current];
        let inconsistent =
            |reason: String| LogError::Inconsistent { file: segment.name(), offset: 0, reason };
        let start = SegmentStart::decode(payload)
            .ok_or_else(|| inconsistent("the segment's first frame is too short".to_owned()))?;
        if start.format_version > FORMAT_VERSION {
            return Err(LogError::NewerFormat {
                file: segment.name(),
                found: start.format_version,
                supported: FORMAT_VERSION,
            });
        }
        if kind == FrameKind::Restart && Restart::decode(payload).is_none() {
            return Err(inconsistent("nobody is a member where the log begins anew".to_owned()));
        }
        Ok(())
    }

    /// Looks at everything behind a place without a frame: is it the end, or damage?
    fn judge_end(&mut self, defect: String) -> Result<(), LogError> {
        let missing = self.position + 1;
        let first = &self.segments[self.current];
        if self.position == 0 && first.sequence() > 1 {
            // Older segments were released, which happens only once this one counts.
            return Err(self.corrupt(defect, "Older segments were released already".to_owned()));
        }
        if defect == FrameDefect::HeaderChecksum.to_string() && self.position == 0 {
            // The first segment of a log is made of zeros, and a header is within one sector.
            let evidence = "The log's first block is that of another log, or changed".to_owned();
            return Err(self.corrupt(defect, evidence));
        }
        if let Some(known) = self.known_end {
            if known == (KnownEnd { position: self.position, crc: self.crc }) {
                return Ok(());
            }
            if known.position >= missing {
                let evidence = "An orderly stop noted that more was durable".to_owned();
                return Err(self.corrupt(defect, evidence));
            }
        }
        let frames = self.look_behind(missing, &defect)?;
        if frames > 0 || defect == FrameDefect::PayloadChecksum.to_string() {
            self.cut = Some(CutTail {
                file: self.segments[self.current].name(),
                offset: self.offset,
                reason: defect,
                frames,
            });
        }
        Ok(())
    }

    /// Looks for intact frames behind the hole where `missing` should be, and counts those that
    /// were in flight. An error when one proves that `missing` had been acknowledged.
    fn look_behind(&mut self, missing: u64, defect: &str) -> Result<u64, LogError> {
        let mut frames = 0;
        for number in self.current..self.segments.len() {
            let from = if number == self.current { self.offset } else { 0 };
            let mut offset = from;
            while offset + BLOCK_BYTES as u64 <= self.segments[number].length() {
                if let Found::Frame(read, _) = self.frame_at(number, offset)? {
                    let header = read.header;
                    let far = missing + limits::LOG_FRAMES_IN_FLIGHT as u64;
                    if header.durable_position >= missing || header.position > far {
                        let evidence = format!(
                            "The frame at byte {offset} of {} is intact and was written after it \
                             had been acknowledged",
                            self.segments[number].name(),
                        );
                        return Err(self.corrupt(defect.to_owned(), evidence));
                    }
                    if header.position >= missing {
                        frames += 1;
                    }
                    if number == self.current && self.position > 0 {
                        let end = offset + frame_bytes(header.payload_length as usize) as u64;
                        self.stale_bytes = self.stale_bytes.max(end - self.offset);
                    } else {
                        self.stale_segments = true;
                    }
                }
                offset += BLOCK_BYTES as u64;
            }
        }
        Ok(frames)
    }

    fn corrupt(&self, reason: String, evidence: String) -> LogError {
        LogError::Corrupt {
            file: self.segments[self.current].name(),
            offset: self.offset,
            reason,
            expected_index: self.index + 1,
            revision: self.revision,
            evidence,
        }
    }

    fn frame_at(&mut self, number: usize, offset: u64) -> Result<Found, LogError> {
        let segment = &self.segments[number];
        let header = match self.window.read(segment, number, offset, HEADER_BYTES)? {
            Some(bytes) => read_header(bytes, self.salt, segment.sequence()),
            None => Err(FrameDefect::Short),
        };
        let read = match header {
            Ok(read) => read,
            Err(defect) => return Ok(Found::Not(defect)),
        };
        let length = read.header.payload_length as usize;
        let start = offset + HEADER_BYTES as u64;
        let payload = match self.window.read(segment, number, start, length)? {
            Some(bytes) => bytes.to_vec(),
            None => return Ok(Found::Not(FrameDefect::Short)),
        };
        Ok(match read.check_payload(&payload) {
            Ok(()) => Found::Frame(read, payload),
            Err(_) => Found::Header(read),
        })
    }
}

/// A stretch of a segment that was read at once.
#[derive(Default)]
struct Window {
    segment: usize,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `length` bytes at `offset`; `None` where the segment is shorter.
    fn read<S: SegmentBytes>(
        &mut self,
        segment: &S,
        number: usize,
        offset: u64,
        length: usize,
    ) -> Result<Option<&[u8]>, LogError> {
        let Some(end) = offset.checked_add(length as u64).filter(|&end| end <= segment.length())
        else {
            return Ok(None);
        };
        let held = self.segment == number
            && offset >= self.start
            && end <= self.start + self.bytes.len() as u64;
        if !held {
            let available = usize::try_from(segment.length() - offset).unwrap_or(usize::MAX);
            self.segment = number;
            self.start = offset;
            self.bytes.resize(length.max(READ_BYTES).min(available), 0);
            if let Err(error) = segment.read(offset, &mut self.bytes) {
                self.bytes.clear();
                return Err(LogError::Read {
                    file: segment.name(),
                    offset,
                    reason: error.to_string(),
                });
            }
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.bytes[from..from + length]))
    }
}
