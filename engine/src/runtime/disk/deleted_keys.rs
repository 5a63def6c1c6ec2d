//! The keys of a very large deletion, for lookups that would otherwise read its frame, of up to
//! gigabytes, again and again.
//!
//! Such a frame holds its keys in order. Once it was read, every so many bytes a key and a checksum
//! are remembered: enough to find any key, or that it is not there, by reading one small piece.

use std::sync::Arc;

use super::buffer::AlignedBuffer;
use super::file::SegmentFile;
use super::history::HistoryError;
use super::history_index::Stretch;
use crate::log::decode::{visit_changes, visit_deletions};
use crate::log::frame::{FrameHeader, HEADER_BYTES};
use crate::log::segment::SegmentBytes;
use crate::record::Revision;

/// Payloads from this size on are worth it.
pub(super) const LARGE_BYTES: usize = 256 << 10;

/// About what one piece has: a slice of a large read finds its keys in two or three of them.
const PIECE_BYTES: usize = 16 << 10;

/// Where the keys are in a frame that holds nothing but the deletions of one revision.
#[derive(Debug)]
pub(super) struct DeletedKeys {
    segment: u64,
    /// Of the frame.
    offset: u64,
    revision: Revision,
    pieces: Vec<Piece>,
}

/// Some deletions that follow each other: bytes of the payload from `start` to `end`.
#[derive(Debug)]
struct Piece {
    first_key: Box<[u8]>,
    start: usize,
    end: usize,
    crc: u32,
}

impl DeletedKeys {
    /// Of a frame whose payload was checked; `None` when it holds anything else.
    pub(super) fn of(offset: u64, header: &FrameHeader, payload: &[u8]) -> Option<DeletedKeys> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut last: Option<(&[u8], usize)> = None;
        let (revision, mut fits) = (header.revision_after, true);
        let visited = visit_changes(header.revision_before, revision, payload, |change| {
            let in_order = last.is_none_or(|(key, end)| key < change.key && end == change.start);
            fits &= in_order && change.is_deletion() && change.revision == revision;
            if !fits {
                return;
            }
            match pieces.last_mut() {
                Some(piece) if change.end - piece.start <= PIECE_BYTES => piece.end = change.end,
                _ => pieces.push(Piece {
                    first_key: change.key.into(),
                    start: change.start,
                    end: change.end,
                    crc: 0,
                }),
            }
            last = Some((change.key, change.end));
        });
        if visited.is_err() || !fits || pieces.is_empty() {
            return None;
        }
        for piece in &mut pieces {
            piece.crc = crc32fast::hash(&payload[piece.start..piece.end]);
        }
        Some(DeletedKeys { segment: header.segment, offset, revision, pieces })
    }

    pub(super) fn is_at(&self, segment: u64, offset: u64) -> bool {
        (self.segment, self.offset) == (segment, offset)
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Which of `keys`, which are in order, are among the deleted ones.
    pub(super) fn contain(
        &self,
        file: &Arc<SegmentFile>,
        keys: &[&[u8]],
    ) -> Result<Vec<bool>, HistoryError> {
        assert!(keys.is_sorted());
        let mut contained = vec![false; keys.len()];
        let mut next = 0;
        let mut buffer = AlignedBuffer::default();
        while let Some(&key) = keys.get(next) {
            let after = self.pieces.partition_point(|piece| &*piece.first_key <= key);
            let following = self.pieces.get(after).map(|piece| &*piece.first_key);
            let same = |key: &&&[u8]| following.is_none_or(|following| **key < following);
            let count = keys[next..].iter().take_while(same).count();
            if let Some(number) = after.checked_sub(1) {
                let sought = next..next + count;
                self.search(
                    number,
                    file,
                    &keys[sought.clone()],
                    &mut contained[sought],
                    &mut buffer,
                )?;
            }
            next += count;
        }
        Ok(contained)
    }

    fn search(
        &self,
        number: usize,
        file: &Arc<SegmentFile>,
        keys: &[&[u8]],
        contained: &mut [bool],
        buffer: &mut AlignedBuffer,
    ) -> Result<(), HistoryError> {
        let piece = &self.pieces[number];
        let start = self.offset + (HEADER_BYTES + piece.start) as u64;
        let stretch = Stretch::of(file, start, start);
        let damaged = |reason: String| stretch.damaged(start, reason);
        buffer.resize(piece.end - piece.start);
        let bytes = &mut buffer.bytes_mut()[..piece.end - piece.start];
        file.read(start, bytes).map_err(|error| damaged(error.to_string()))?;
        if crc32fast::hash(bytes) != piece.crc {
            return Err(damaged("it is not what it was when the frame was read first".to_owned()));
        }
        let visited = visit_deletions(bytes, |key| {
            // The same key may be asked for more than once.
            let first = keys.partition_point(|sought| *sought < key);
            let same = keys[first..].iter().take_while(|sought| **sought == key).count();
            contained[first..first + same].fill(true);
        });
        visited.map_err(|error| damaged(error.to_string()))
    }
}
