//! What travels when a member sends its state to another one: the file of a snapshot, and the
//! entries of the log between its beginning and its end, with which it is exactly the state at its
//! end.
//!
//! ```text
//!   prologue | file | entry | entry | ...
//! ```
//!
//! Numbers are little endian. The prologue has 32 bytes: magic, bytes of the file, bytes of the
//! entries (u64 each), a checksum (u32), and zeros. An entry has a header of 48 bytes before its
//! payload: index, term, revisions before and after, kind (u32), payload length, the payload's
//! checksum, and the checksum of all of these.

use bytes::Bytes;
use mainstay_raft::EntryKind;

use crate::limits;
use crate::sequencer::LogEntry;

pub const PROLOGUE_BYTES: usize = 32;
pub const ENTRY_HEADER_BYTES: usize = 48;

const MAGIC: [u8; 8] = *b"MSTYSEND";
const KIND_BATCH: u32 = 0;
const KIND_MEMBERSHIP: u32 = 1;

/// What is in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prologue {
    pub file_bytes: u64,
    pub entries_bytes: u64,
}

impl Prologue {
    pub fn encode(&self) -> [u8; PROLOGUE_BYTES] {
        let mut bytes = [0; PROLOGUE_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.entries_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for anything that is not such a beginning.
    pub fn decode(bytes: &[u8]) -> Option<Prologue> {
        let bytes: &[u8; PROLOGUE_BYTES] = bytes.first_chunk()?;
        let number = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let prologue = Prologue { file_bytes: number(8)?, entries_bytes: number(16)? };
        (prologue.encode() == *bytes).then_some(prologue)
    }

    /// Bytes of the whole transfer; `None` for a size that nothing has.
    pub fn total_bytes(&self) -> Option<u64> {
        self.file_bytes.checked_add(self.entries_bytes)?.checked_add(PROLOGUE_BYTES as u64)
    }
}

/// The header of an entry, and how long its payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader {
    entry: LogEntry,
    payload_crc: u32,
    pub payload_length: usize,
}

/// What precedes an entry's payload.
pub fn entry_header(entry: &LogEntry) -> [u8; ENTRY_HEADER_BYTES] {
    let mut bytes = [0; ENTRY_HEADER_BYTES];
    bytes[0..8].copy_from_slice(&entry.index.to_le_bytes());
    bytes[8..16].copy_from_slice(&entry.term.to_le_bytes());
    bytes[16..24].copy_from_slice(&entry.revision_before.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.revision_after.to_le_bytes());
    let kind = match entry.kind {
        EntryKind::Normal => KIND_BATCH,
        EntryKind::Membership => KIND_MEMBERSHIP,
    };
    bytes[32..36].copy_from_slice(&kind.to_le_bytes());
    let length = u32::try_from(entry.payload.len()).expect("as the log has it");
    bytes[36..40].copy_from_slice(&length.to_le_bytes());
    bytes[40..44].copy_from_slice(&crc32fast::hash(&entry.payload).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl EntryHeader {
    /// `None` for anything that is no such header.
    pub fn decode(bytes: &[u8]) -> Option<EntryHeader> {
        let bytes: &[u8; ENTRY_HEADER_BYTES] = bytes.first_chunk()?;
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|word| u32::from_le_bytes(*word));
        if crc32fast::hash(&bytes[..44]) != u32_at(44)? {
            return None;
        }
        let kind = match u32_at(32)? {
            KIND_BATCH => EntryKind::Normal,
            KIND_MEMBERSHIP => EntryKind::Membership,
            _ => return None,
        };
        let entry = LogEntry {
            index: u64_at(0)?,
            term: u64_at(8)?,
            kind,
            revision_before: u64_at(16)? as i64,
            revision_after: u64_at(24)? as i64,
            payload: Bytes::new(),
            staged: None,
        };
        let payload_length = u32_at(36)? as usize;
        let fits = payload_length <= limits::LOG_PAYLOAD_BYTES;
        fits.then_some(EntryHeader { entry, payload_crc: u32_at(40)?, payload_length })
    }

    /// The whole entry; `None` if this is not its payload.
    pub fn with(self, payload: Bytes) -> Option<LogEntry> {
        let same =
            payload.len() == self.payload_length && crc32fast::hash(&payload) == self.payload_crc;
        same.then_some(LogEntry { payload, ..self.entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, payload: &'static [u8]) -> LogEntry {
        LogEntry {
            index: 9,
            term: 4,
            kind,
            revision_before: 70,
            revision_after: 75,
            payload: Bytes::from_static(payload),
            staged: None,
        }
    }

    #[test]
    fn what_is_sent_is_received_and_no_flipped_bit_is() {
        let prologue = Prologue { file_bytes: 4096, entries_bytes: 77 };
        let good = prologue.encode();
        assert_eq!(Prologue::decode(&good), Some(prologue));
        assert_eq!(prologue.total_bytes(), Some(4096 + 77 + 32));
        assert_eq!(Prologue { file_bytes: u64::MAX, entries_bytes: 1 }.total_bytes(), None);
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Prologue::decode(&bytes), None, "bit {bit}");
        }
        for entry in [entry(EntryKind::Normal, b"payload"), entry(EntryKind::Membership, b"")] {
            let good = entry_header(&entry);
            let header = EntryHeader::decode(&good).unwrap();
            assert_eq!(header.clone().with(entry.payload.clone()), Some(entry));
            assert_eq!(header.with(Bytes::from_static(b"paYload")), None);
            for bit in 0..good.len() * 8 {
                let mut bytes = good;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(EntryHeader::decode(&bytes), None, "bit {bit}");
            }
        }
    }
}
