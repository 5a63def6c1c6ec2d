//! What is where in a segment, told by its frame headers alone: for segments that a start did not
//! read because a snapshot holds what is in them.

use super::error::LogError;
use super::frame::{BLOCK_BYTES, FrameHeader, HEADER_BYTES, ReadHeader, frame_bytes, read_header};
use super::replay::Place;
use super::segment::SegmentBytes;

/// Bytes read at once: a dozen frames of the smallest kind, or one header of a large one.
const READ_BYTES: usize = 64 << 10;

/// The first frame's header, if it is that of a segment in use.
pub fn read_start(segment: &impl SegmentBytes, salt: u64) -> Result<Option<ReadHeader>, LogError> {
    if segment.length() < BLOCK_BYTES as u64 {
        return Ok(None);
    }
    let mut block = [0; HEADER_BYTES];
    read(segment, 0, &mut block)?;
    let start = read_header(&block, salt, segment.sequence()).ok();
    Ok(start.filter(|start| start.header.kind.begins_segment()))
}

/// The places of all frames of a segment that is not the last: `next` is the header that the next
/// segment begins with, and so tells where this one ends. Payloads are not looked at.
pub fn outline(
    segment: &impl SegmentBytes,
    salt: u64,
    next: &FrameHeader,
) -> Result<Vec<Place>, LogError> {
    let mut places: Vec<Place> = Vec::new();
    let mut window = Vec::new();
    let mut window_start = 0;
    let (mut offset, mut before): (u64, Option<ReadHeader>) = (0, None);
    loop {
        if before.is_some_and(|last| {
            last.header.position + 1 == next.position && last.crc == next.previous_crc
        }) {
            return Ok(places);
        }
        let held = window_start + window.len() as u64;
        if offset + HEADER_BYTES as u64 > held || places.is_empty() {
            let available = segment.length().saturating_sub(offset);
            window.resize(available.min(READ_BYTES as u64) as usize, 0);
            window_start = offset;
            read(segment, offset, &mut window)?;
        }
        let bytes = &window[(offset - window_start) as usize..];
        let found = read_header(bytes, salt, segment.sequence());
        let follows = |read: &ReadHeader| match &before {
            None => read.header.kind.begins_segment(),
            Some(last) => {
                read.header.position == last.header.position + 1
                    && read.header.previous_crc == last.crc
            }
        };
        let Some(found) = found.ok().filter(follows) else {
            return Err(damaged(segment, offset, before.as_ref()));
        };
        let header = found.header;
        let end = offset + frame_bytes(header.payload_length as usize) as u64;
        places.push(Place {
            kind: header.kind,
            segment: header.segment,
            offset,
            end,
            index: header.index,
            term: header.term,
            revision_before: header.revision_before,
            revision_after: header.revision_after,
        });
        before = Some(found);
        offset = end;
    }
}

fn read(segment: &impl SegmentBytes, offset: u64, buffer: &mut [u8]) -> Result<(), LogError> {
    segment.read(offset, buffer).map_err(|error| LogError::Read {
        file: segment.name(),
        offset,
        reason: error.to_string(),
    })
}

/// A segment that another one follows does not end here.
pub(crate) fn damaged(
    segment: &impl SegmentBytes,
    offset: u64,
    before: Option<&ReadHeader>,
) -> LogError {
    LogError::Corrupt {
        file: segment.name(),
        offset,
        reason: "no frame that continues the one before".to_owned(),
        expected_index: before.map_or(0, |last| last.header.index) + 1,
        revision: before.map_or(0, |last| last.header.revision_after),
        evidence: "The next segment begins behind it".to_owned(),
    }
}
