//! A frame: one write to the log, complete in itself and chained to the one before.
//!
//! Two checksums: the header's covers the header, which holds the payload's. Both start from a
//! seed made of the log's salt and the segment's sequence number, so that neither a block of the
//! segment that this file was recycled from, nor bytes that a client chose, pass for a frame.

use crate::record::Revision;

/// Frames start at multiples of this many bytes, and are written in multiples of it.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes of a frame's header; the payload follows at once.
pub const HEADER_BYTES: usize = 80;

const MAGIC: [u8; 4] = *b"MSLF";

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The first frame of a segment. Its `index`, `term` and revisions are those reached before.
    SegmentStart,
    /// A raft entry: one batch.
    Entry,
    /// Raft's term, vote and commit index.
    HardState,
    /// A raft entry that says who is a member.
    Membership,
    /// The first frame of a segment, too: what was before it in the log is void, as a snapshot of
    /// another member holds everything up to its `index`.
    Restart,
}

impl FrameKind {
    /// Whether a segment begins with such a frame.
    pub fn begins_segment(self) -> bool {
        matches!(self, FrameKind::SegmentStart | FrameKind::Restart)
    }

    /// Whether it is an entry of raft's log.
    pub fn is_entry(self) -> bool {
        matches!(self, FrameKind::Entry | FrameKind::Membership)
    }

    fn from_byte(byte: u8) -> Option<FrameKind> {
        match byte {
            1 => Some(FrameKind::SegmentStart),
            2 => Some(FrameKind::Entry),
            3 => Some(FrameKind::HardState),
            4 => Some(FrameKind::Membership),
            5 => Some(FrameKind::Restart),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            FrameKind::SegmentStart => 1,
            FrameKind::Entry => 2,
            FrameKind::HardState => 3,
            FrameKind::Membership => 4,
            FrameKind::Restart => 5,
        }
    }
}

/// The header of a frame, without its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    pub payload_length: u32,
    /// The header checksum of the frame before; 0 for the very first.
    pub previous_crc: u32,
    /// The sequence number of the segment that the frame was written to.
    pub segment: u64,
    /// Counts the frames of a log from 1, over all segments.
    pub position: u64,
    /// Every frame up to this position was durable when this one was submitted.
    pub durable_position: u64,
    pub term: u64,
    pub index: u64,
    pub revision_before: Revision,
    pub revision_after: Revision,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameDefect {
    #[error("the segment ends within the frame")]
    Short,
    #[error("no frame starts here")]
    Magic,
    #[error("the header's checksum does not match")]
    HeaderChecksum,
    #[error("a header of unknown kind")]
    Kind,
    #[error("the payload's checksum does not match")]
    PayloadChecksum,
}

/// The starting value of all checksums of one segment.
pub fn seed(salt: u64, segment: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&segment.to_le_bytes());
    hasher.finalize()
}

/// A checksum of a payload that does not yet know its segment; [`seal`] completes it.
pub fn payload_crc(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

/// Bytes that a frame with this payload takes on disk, padding included.
pub fn frame_bytes(payload_length: usize) -> usize {
    (HEADER_BYTES + payload_length).next_multiple_of(BLOCK_BYTES)
}

/// Writes `header` to the first [`HEADER_BYTES`] of `frame` and returns its checksum, which the
/// next frame carries as `previous_crc`. `payload_crc` is that of [`payload_crc`].
pub fn seal(header: &FrameHeader, payload_crc: u32, salt: u64, frame: &mut [u8]) -> u32 {
    let seed = seed(salt, header.segment);
    frame[0..4].copy_from_slice(&MAGIC);
    frame[8..12].copy_from_slice(&payload_crc.to_le_bytes());
    frame[12..16].copy_from_slice(&header.previous_crc.to_le_bytes());
    frame[16] = header.kind.byte();
    frame[17..20].fill(0);
    frame[20..24].copy_from_slice(&header.payload_length.to_le_bytes());
    frame[24..32].copy_from_slice(&header.segment.to_le_bytes());
    frame[32..40].copy_from_slice(&header.position.to_le_bytes());
    frame[40..48].copy_from_slice(&header.durable_position.to_le_bytes());
    frame[48..56].copy_from_slice(&header.term.to_le_bytes());
    frame[56..64].copy_from_slice(&header.index.to_le_bytes());
    frame[64..72].copy_from_slice(&header.revision_before.to_le_bytes());
    frame[72..80].copy_from_slice(&header.revision_after.to_le_bytes());
    let crc = header_crc(seed, frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn header_crc(seed: u32, frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&frame[8..HEADER_BYTES]);
    hasher.finalize()
}

/// A header that was read, with its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadHeader {
    pub header: FrameHeader,
    /// This header's own checksum.
    pub crc: u32,
    payload_crc: u32,
}

impl ReadHeader {
    /// Checks the payload that belongs to this header.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FrameDefect> {
        if payload.len() != self.header.payload_length as usize
            || payload_crc(payload) != self.payload_crc
        {
            return Err(FrameDefect::PayloadChecksum);
        }
        Ok(())
    }
}

/// Reads a header of segment `segment` from the start of `bytes`. Total: any bytes give an answer.
pub fn read_header(bytes: &[u8], salt: u64, segment: u64) -> Result<ReadHeader, FrameDefect> {
    let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(FrameDefect::Short)?;
    if bytes[0..4] != MAGIC {
        return Err(FrameDefect::Magic);
    }
    let u32_at = |offset: usize| {
        let mut field = [0; 4];
        field.copy_from_slice(&bytes[offset..offset + 4]);
        u32::from_le_bytes(field)
    };
    let u64_at = |offset: usize| {
        let mut field = [0; 8];
        field.copy_from_slice(&bytes[offset..offset + 8]);
        u64::from_le_bytes(field)
    };
    let crc = u32_at(4);
    if header_crc(seed(salt, segment), bytes) != crc || u64_at(24) != segment {
        return Err(FrameDefect::HeaderChecksum);
    }
    let header = FrameHeader {
        kind: FrameKind::from_byte(bytes[16]).ok_or(FrameDefect::Kind)?,
        payload_length: u32_at(20),
        previous_crc: u32_at(12),
        segment: u64_at(24),
        position: u64_at(32),
        durable_position: u64_at(40),
        term: u64_at(48),
        index: u64_at(56),
        revision_before: u64_at(64) as i64,
        revision_after: u64_at(72) as i64,
    };
    Ok(ReadHeader { header, crc, payload_crc: u32_at(8) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(payload: &[u8]) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Entry,
            payload_length: payload.len() as u32,
            previous_crc: 7,
            segment: 3,
            position: 12,
            durable_position: 9,
            term: 2,
            index: 11,
            revision_before: 100,
            revision_after: 104,
        }
    }

    fn sealed(payload: &[u8]) -> (FrameHeader, Vec<u8>) {
        let header = header(payload);
        let mut frame = vec![0; HEADER_BYTES];
        frame.extend_from_slice(payload);
        seal(&header, payload_crc(payload), 99, &mut frame);
        (header, frame)
    }

    #[test]
    fn a_frame_reads_back() {
        for payload in [&b""[..], b"x", &[5; 9000]] {
            let (header, frame) = sealed(payload);
            let read = read_header(&frame, 99, 3).unwrap();
            assert_eq!(read.header, header);
            assert_eq!(read.check_payload(&frame[HEADER_BYTES..]), Ok(()));
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let (_, frame) = sealed(b"some payload");
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let intact = read_header(&damaged, 99, 3)
                .and_then(|read| read.check_payload(&damaged[HEADER_BYTES..]));
            assert!(intact.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn frames_of_another_log_or_segment_do_not_pass() {
        let (_, frame) = sealed(b"payload");
        assert_eq!(read_header(&frame, 98, 3), Err(FrameDefect::HeaderChecksum));
        assert_eq!(read_header(&frame, 99, 4), Err(FrameDefect::HeaderChecksum));
        assert_eq!(read_header(&frame[..79], 99, 3), Err(FrameDefect::Short));
        assert_eq!(read_header(&[0; 80], 99, 3), Err(FrameDefect::Magic));
    }

    #[test]
    fn frames_fill_whole_blocks() {
        for (payload, expected) in
            [(0, 4096), (4096 - HEADER_BYTES, 4096), (4097 - HEADER_BYTES, 8192)]
        {
            assert_eq!(frame_bytes(payload), expected);
        }
    }
}
