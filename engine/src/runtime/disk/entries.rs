//! Reads entries back from the log by index: for peers that lag behind what raft has in memory, and
//! for a member that has more to apply than it keeps.

use std::io;

use bytes::Bytes;
use mainstay_raft::{Damage, EntriesWanted, EntryKind};

use super::buffer::AlignedBuffer;
use super::frames::Frames;
use super::history::{HistoryError, HistoryReader};
use super::history_index::Stretch;
use crate::log::frame::{
    BLOCK_BYTES, FrameHeader, FrameKind, HEADER_BYTES, ReadHeader, frame_bytes,
};
use crate::log::replay::{EMPTY_BATCH, entry_of};
use crate::runtime::blocking;
use crate::sequencer::LogEntry;

/// What the log has of some entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntriesRead {
    /// The first ones, at least one.
    Entries(Vec<LogEntry>),
    /// They are no longer in the log.
    Compacted,
    /// The first one can't be read.
    Damaged(Damage),
    /// They are not durable, or were replaced.
    Absent,
}

/// What a read has collected.
struct Found {
    wanted: EntriesWanted,
    bytes: usize,
    entries: Vec<LogEntry>,
    damage: Option<Damage>,
}

impl HistoryReader {
    /// Entries from `wanted.from` on, of about `wanted.max_bytes` and at least one. Runs on the
    /// executor's blocking threads.
    ///
    /// # Errors
    /// A frame can't even be told by its header.
    pub async fn entries(&self, wanted: EntriesWanted) -> Result<EntriesRead, HistoryError> {
        let reader = self.clone();
        blocking(move || reader.entries_blocking(wanted)).await
    }

    /// [`entries`](HistoryReader::entries) for callers that may block.
    pub fn entries_blocking(&self, wanted: EntriesWanted) -> Result<EntriesRead, HistoryError> {
        self.past_releases(|| self.try_to_read_entries(wanted))
    }

    fn try_to_read_entries(&self, wanted: EntriesWanted) -> Result<EntriesRead, HistoryError> {
        let mut found = Found { wanted, bytes: 0, entries: Vec::new(), damage: None };
        if wanted.from <= self.begins_after_index() {
            return Ok(EntriesRead::Compacted);
        }
        let mut next = self.outlined(|index| Ok(index.find_entry(wanted.from)))?;
        while let Some(stretch) = next {
            if found.read(&stretch, self.salt)? {
                break;
            }
            next = self.outlined(|index| Ok(index.after(stretch.file.sequence, stretch.end)))?;
        }
        Ok(match found {
            Found { entries, .. } if !entries.is_empty() => EntriesRead::Entries(entries),
            Found { damage: Some(damage), .. } => EntriesRead::Damaged(damage),
            // Released while we looked?
            _ if wanted.from <= self.begins_after_index() => EntriesRead::Compacted,
            _ => EntriesRead::Absent,
        })
    }

    /// Puts an intact copy of an entry in the place of a damaged one, durably. No effect when that
    /// is gone: released, or replaced.
    ///
    /// # Errors
    /// The copy can't be written, or it is not what was there once.
    pub fn mend_blocking(&self, entry: &LogEntry) -> Result<(), HistoryError> {
        let Some((stretch, read)) = self.frame_of(entry.index)? else { return Ok(()) };
        if read.header.term != entry.term {
            return Ok(());
        }
        let offset = stretch.offset;
        let payload = if entry.payload.is_empty() { &EMPTY_BATCH[..] } else { &entry.payload };
        read.check_payload(payload).map_err(|_| {
            let reason = format!("the copy of entry {} has another content", entry.index);
            stretch.damaged(offset, reason)
        })?;
        let mut frame = AlignedBuffer::zeroed(frame_bytes(payload.len()));
        let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
        let failed = |error: io::Error| stretch.damaged(offset, error.to_string());
        stretch.file.read_blocks(offset, &mut block).map_err(failed)?;
        let bytes = frame.bytes_mut();
        bytes[..HEADER_BYTES].copy_from_slice(&block.bytes()[..HEADER_BYTES]);
        bytes[HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        stretch.file.write_durably(offset, frame.bytes()).map_err(failed)
    }

    /// Where the frame of an entry is that is durable, and its header.
    fn frame_of(&self, index: u64) -> Result<Option<(Stretch, ReadHeader)>, HistoryError> {
        let mut next = self.outlined(|history| Ok(history.find_entry(index)))?;
        while let Some(stretch) = next {
            let mut frames = Frames::of(&stretch, self.salt);
            while let Some((offset, read)) = frames.next()? {
                let header = read.header;
                if header.kind.is_entry() && stretch.counts(&header) && header.index == index {
                    let end = offset + frame_bytes(header.payload_length as usize) as u64;
                    return Ok(Some((Stretch::of(&stretch.file, offset, end), read)));
                }
            }
            next =
                self.outlined(|history| Ok(history.after(stretch.file.sequence, stretch.end)))?;
        }
        Ok(None)
    }
}

impl Found {
    fn next_index(&self) -> u64 {
        self.entries.last().map_or(self.wanted.from, |last| last.index + 1)
    }

    /// Reads on in a stretch. Whether that is enough.
    fn read(&mut self, stretch: &Stretch, salt: u64) -> Result<bool, HistoryError> {
        let mut frames = Frames::of(stretch, salt);
        while let Some((offset, read)) = frames.next()? {
            let header = read.header;
            if !header.kind.is_entry() || !stretch.counts(&header) {
                continue;
            }
            let next = self.next_index();
            if header.index < next {
                continue;
            }
            let length = header.payload_length as usize;
            let is_first = self.entries.is_empty();
            let fits = is_first || self.bytes + length <= self.wanted.max_bytes;
            // One that is not the next: a segment between was released.
            if header.index > next.min(self.wanted.to) || !fits {
                return Ok(true);
            }
            match frames.payload(offset, &read) {
                Ok(payload) => {
                    self.bytes += length;
                    self.entries.push(entry_of(&header, Bytes::copy_from_slice(payload)));
                }
                Err(_) if is_first => {
                    self.damage = Some(damage_of(&header));
                    return Ok(true);
                }
                Err(_) => return Ok(true),
            }
        }
        Ok(self.next_index() > self.wanted.to)
    }
}

fn damage_of(header: &FrameHeader) -> Damage {
    let kind = match header.kind {
        FrameKind::Membership => EntryKind::Membership,
        _ => EntryKind::Normal,
    };
    Damage { index: header.index, term: header.term, kind }
}
