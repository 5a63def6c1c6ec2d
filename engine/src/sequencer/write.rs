//! What the log is to hold.
//!
//! Raft carries an entry's payload with the store's revisions before and after it as a trailer; the
//! log keeps those in the frame's header.

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_raft::{Entry, EntryKind, HardState, SnapshotPart};

use crate::effect::Batch;
use crate::log::decode::{DecodeError, decode};
use crate::log::frame::{FrameHeader, FrameKind};
use crate::record::Revision;

/// Bytes of revisions behind the payload in an entry of raft.
const TRAILER_BYTES: usize = 16;

/// One write: all of it durable, in this order, before its number is reported.
#[derive(Debug, Default)]
pub struct LogWrite {
    /// Raft's; they ascend. 0 for what nobody waits for.
    pub number: u64,
    pub hard_state: Option<HardState>,
    /// To append. One with an index that was there before replaces that one and all behind it.
    pub entries: Vec<LogEntry>,
    /// To be put in the place of damaged ones. Nothing behind them changes.
    pub repairs: Vec<LogEntry>,
    /// Of a snapshot that is being received.
    pub snapshot_parts: Vec<SnapshotPart>,
}

/// An entry, as a frame has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub kind: EntryKind,
    pub revision_before: Revision,
    pub revision_after: Revision,
    /// The encoded batch, empty in the entry that a term begins with; or the membership.
    pub payload: Bytes,
    /// See [`Payload::staged`](super::Payload::staged).
    pub staged: Option<u64>,
}

impl LogEntry {
    /// As the log has it; `revision` is the store's before the entry. `None` for an entry that
    /// makes no sense there.
    pub fn of(entry: &Entry, revision: Revision) -> Option<LogEntry> {
        let mut log_entry = LogEntry {
            index: entry.index,
            term: entry.term,
            kind: entry.kind,
            revision_before: revision,
            revision_after: revision,
            payload: entry.data.clone(),
            staged: None,
        };
        if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
            let (before, after) = revisions(&entry.data)?;
            if before != revision {
                return None;
            }
            log_entry.revision_after = after;
            log_entry.payload = entry.data.slice(..entry.data.len() - TRAILER_BYTES);
        }
        Some(log_entry)
    }

    /// What is in it; nothing, if it is raft's own.
    ///
    /// # Errors
    /// The payload is not what [`encode`](crate::log::encode::encode) makes.
    pub fn batch(&self) -> Result<Batch, DecodeError> {
        let header = FrameHeader {
            kind: FrameKind::Entry,
            payload_length: self.payload.len() as u32,
            previous_crc: 0,
            segment: 0,
            position: 0,
            durable_position: 0,
            term: self.term,
            index: self.index,
            revision_before: self.revision_before,
            revision_after: self.revision_after,
        };
        if self.kind == EntryKind::Normal && !self.payload.is_empty() {
            return decode(&header, &self.payload);
        }
        Ok(Batch {
            index: self.index,
            term: self.term,
            revision_before: self.revision_before,
            revision_after: self.revision_after,
            items: Vec::new(),
        })
    }

    /// As raft has it.
    pub fn to_entry(&self) -> Entry {
        let (index, term, kind) = (self.index, self.term, self.kind);
        let data = if kind == EntryKind::Normal && !self.payload.is_empty() {
            with_trailer(&self.payload, self.revision_before, self.revision_after)
        } else {
            self.payload.clone()
        };
        Entry { index, term, kind, data }
    }
}

/// An entry's payload with the revisions around it, as raft carries it.
pub(crate) fn with_trailer(payload: &[u8], before: Revision, after: Revision) -> Bytes {
    let mut data = BytesMut::with_capacity(payload.len() + TRAILER_BYTES);
    data.put_slice(payload);
    data.put_i64_le(before);
    data.put_i64_le(after);
    data.freeze()
}

/// The revisions before and after a batch, from raft's data; `None` if there are none.
pub(crate) fn revisions(data: &[u8]) -> Option<(Revision, Revision)> {
    let trailer = data.get(data.len().checked_sub(TRAILER_BYTES)?..)?;
    let (words, _) = trailer.as_chunks::<8>();
    let (before, after) = (i64::from_le_bytes(words[0]), i64::from_le_bytes(words[1]));
    (data.len() > TRAILER_BYTES && 0 <= before && before <= after).then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, data: Bytes) -> Entry {
        Entry { index: 7, term: 3, kind, data }
    }

    #[test]
    fn entries_keep_what_they_are_on_the_way_to_the_log_and_back() {
        let batch = with_trailer(b"batch", 4, 9);
        for (kind, data, payload, after) in [
            (EntryKind::Normal, batch, &b"batch"[..], 9),
            (EntryKind::Normal, Bytes::new(), b"", 4),
            (EntryKind::Membership, Bytes::from_static(b"m"), b"m", 4),
        ] {
            let entry = entry(kind, data);
            let found = LogEntry::of(&entry, 4).expect("it fits");
            assert_eq!((found.revision_before, found.revision_after), (4, after));
            assert_eq!(found.payload, payload);
            assert_eq!(found.to_entry(), entry);
        }
    }

    #[test]
    fn what_does_not_fit_is_noticed() {
        for data in [
            with_trailer(b"batch", 5, 9),
            with_trailer(b"batch", 4, 3),
            with_trailer(b"", 4, 4),
            Bytes::from_static(b"short"),
        ] {
            assert_eq!(LogEntry::of(&entry(EntryKind::Normal, data), 4), None);
        }
    }
}
