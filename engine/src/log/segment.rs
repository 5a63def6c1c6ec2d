//! A segment: one file of the log, named by its sequence number, of a size fixed when it is made.
//!
//! Its first block is a frame of kind `SegmentStart`. A file whose first block is anything else is
//! prepared for later use: all zero, or recycled with the frames of an older segment in it, which
//! do not count under its new number.

use std::io;

use mainstay_raft::Membership;

use super::decode::decode_hard_state;
use super::encode::{HARD_STATE_BYTES, HardState};

/// The version of everything under `member/wal`, and the newest that this program reads.
pub const FORMAT_VERSION: u32 = 1;

/// `0000000000000001.log`: sequence numbers count from 1 and are never used twice.
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

/// The sequence number in a segment's file name; `None` for other files.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 16 || !digits.bytes().all(lower) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|&sequence| sequence > 0)
}

/// Bytes of the payload of a segment's first frame.
const START_BYTES: usize = 16;

/// The payload of a segment's first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStart {
    pub format_version: u32,
    /// Bytes of the file.
    pub capacity: u64,
}

impl SegmentStart {
    pub fn encode(&self) -> [u8; START_BYTES] {
        let mut bytes = [0; START_BYTES];
        bytes[0..4].copy_from_slice(&self.format_version.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.capacity.to_le_bytes());
        bytes
    }

    /// `None` for anything that is not such a payload. A newer version may have more behind it.
    pub fn decode(payload: &[u8]) -> Option<SegmentStart> {
        let (words, _) = payload.as_chunks::<4>();
        let [version, _, low, high, ..] = words else { return None };
        Some(SegmentStart {
            format_version: u32::from_le_bytes(*version),
            capacity: u64::from(u32::from_le_bytes(*low))
                | u64::from(u32::from_le_bytes(*high)) << 32,
        })
    }
}

/// The payload of the first frame of a segment with which the log begins anew, behind a snapshot of
/// another member: that of [`SegmentStart`], and behind it what must not be lost of what was before,
/// and who was a member then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    pub start: SegmentStart,
    pub hard_state: HardState,
    pub membership: Membership,
}

impl Restart {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.start.encode().to_vec();
        bytes.extend_from_slice(&self.hard_state.encode());
        bytes.extend_from_slice(&self.membership.encode());
        bytes
    }

    /// `None` for anything that is not such a payload.
    pub fn decode(payload: &[u8]) -> Option<Restart> {
        let start = SegmentStart::decode(payload)?;
        let (hard_state, rest) = payload.get(START_BYTES..)?.split_at_checked(HARD_STATE_BYTES)?;
        let hard_state = decode_hard_state(hard_state).ok()?;
        let membership = Membership::decode(rest)?;
        Some(Restart { start, hard_state, membership })
    }
}

/// A segment's bytes, wherever they are.
pub trait SegmentBytes {
    fn sequence(&self) -> u64;

    /// For messages: the path of the file.
    fn name(&self) -> String;

    fn length(&self) -> u64;

    /// Fills `buffer` from `offset` on. The caller stays within `length`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(file_name(26), "000000000000001a.log");
        for (name, expected) in [
            ("000000000000001a.log", Some(26)),
            ("ffffffffffffffff.log", Some(u64::MAX)),
            ("0000000000000000.log", None),
            ("000000000000001A.log", None),
            ("1a.log", None),
            ("+00000000000001a.log", None),
            ("000000000000001a", None),
            ("LOCK", None),
        ] {
            assert_eq!(parse_file_name(name), expected, "{name}");
        }
    }

    #[test]
    fn starts_read_back() {
        let start = SegmentStart { format_version: 1, capacity: 5 << 40 };
        assert_eq!(SegmentStart::decode(&start.encode()), Some(start));
        assert_eq!(SegmentStart::decode(&[0; 15]), None);
        let hard_state = HardState { term: 4, vote: 9, commit: 7 };
        let membership = Membership::of_voters(&[3, 9]);
        let restart = Restart { start, hard_state, membership };
        let bytes = restart.encode();
        assert_eq!(Restart::decode(&bytes), Some(restart));
        for length in 0..bytes.len() {
            assert_eq!(Restart::decode(&bytes[..length]), None, "{length}");
        }
    }
}
