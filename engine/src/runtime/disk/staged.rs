//! Large frames, written before they have a place in the log.
//!
//! A frame that ends a million keys takes the disk longer than all others may wait for. It gets a
//! segment of its own, whose blocks are written and durable before the frame is appended; what is
//! left to write then is its first block, with the header. Until that is there the segment holds
//! nothing that counts, so a crash at any moment leaves the whole frame or nothing of it.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::buffer::AlignedBuffer;
use super::directory::sync_directory;
use super::error::LogFailure;
use super::file::{OpenMode, SegmentFile, free_bytes, open};
use super::state::Shared;
use crate::limits;
use crate::log::frame::{BLOCK_BYTES, HEADER_BYTES, frame_bytes, payload_crc};
use crate::log::segment::file_name;

/// Bytes written at once, and the rest after them: 256 MiB a second at most, which leaves the disk
/// to those who wait for it.
const WRITE_BYTES: usize = 1 << 20;
const REST: Duration = Duration::from_millis(4);

/// How often it is looked whether the segment can take its place, and how many times at most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOKS_MAX: usize = 2000;

/// A frame whose payload is on the disk.
pub(super) struct Staged {
    /// The number by which it is appended.
    pub(super) number: u64,
    /// The segment that was made for it.
    pub(super) sequence: u64,
    pub(super) payload_length: u32,
    pub(super) payload_crc: u32,
    /// The payload's beginning, behind room for the header.
    pub(super) first_block: AlignedBuffer,
}

/// Writes large payloads ahead of their frames. Clones may be used on any thread that may block.
#[derive(Clone)]
pub struct Stager {
    pub(super) shared: Arc<Shared>,
    pub(super) wal: PathBuf,
    pub(super) mode: OpenMode,
}

impl Stager {
    /// Writes the payload of a frame that will be appended soon. Gives the number to append it by,
    /// or `None` when it is better written as others are: it is small, or there is no room, or
    /// another one is being written.
    pub fn stage(&self, payload: &[u8]) -> Option<u64> {
        if payload.len() < limits::LOG_STAGED_BYTES {
            return None;
        }
        let number = self.shared.lock().next_staged_number();
        let draft = self.wal.join(format!("staged-{number}.tmp"));
        let staged = self.write(&draft, payload).and_then(|first_block| {
            let (payload_length, payload_crc) = (payload.len() as u32, payload_crc(payload));
            let staged = Staged { number, sequence: 0, payload_length, payload_crc, first_block };
            self.take_place(&draft, staged)
        });
        if !matches!(staged, Ok(true)) {
            // It is of no use; the next start deletes it if this fails.
            let _ = fs::remove_file(&draft);
            return None;
        }
        Some(number)
    }

    /// Writes a segment that holds all of the frame but its header. Gives the frame's first block.
    fn write(&self, draft: &Path, payload: &[u8]) -> io::Result<AlignedBuffer> {
        let frame_bytes = frame_bytes(payload.len());
        let capacity = (BLOCK_BYTES + frame_bytes) as u64;
        if free_bytes(&self.wal)? < capacity + limits::DISK_RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        drop(fs::File::create(draft)?);
        let file = open(draft, OpenMode { synced: false, ..self.mode })?;
        // The segment's own first frame, and this one's header, come when it is appended.
        file.write_all_at(AlignedBuffer::zeroed(BLOCK_BYTES).bytes(), 0)?;
        let mut first_block = AlignedBuffer::zeroed(BLOCK_BYTES);
        let beginning = payload.len().min(BLOCK_BYTES - HEADER_BYTES);
        first_block.bytes_mut()[HEADER_BYTES..][..beginning].copy_from_slice(&payload[..beginning]);
        file.write_all_at(first_block.bytes(), BLOCK_BYTES as u64)?;
        let mut offset = 2 * BLOCK_BYTES as u64;
        for part in payload[beginning..].chunks(WRITE_BYTES) {
            let mut blocks = AlignedBuffer::zeroed(part.len());
            blocks.bytes_mut()[..part.len()].copy_from_slice(part);
            file.write_all_at(blocks.bytes(), offset)?;
            offset += blocks.bytes().len() as u64;
            thread::sleep(REST);
        }
        assert_eq!(offset, capacity, "every block is written");
        file.sync_all()?;
        Ok(first_block)
    }

    /// Puts the segment behind the present one, and the one that was ready behind it, so that the
    /// log can go on at once. Gives whether that could be done.
    fn take_place(&self, draft: &Path, mut staged: Staged) -> io::Result<bool> {
        let Some(ready) = self.borrow_prepared() else { return Ok(false) };
        staged.sequence = ready.sequence;
        let moved = self.rename(draft, &ready);
        let failed = |error: &io::Error| {
            LogFailure::new(&ready.path, 0, "putting a segment in its place", error)
        };
        match moved {
            Ok(segments) => {
                self.shared.change(|state| state.add_staged(segments, staged));
                Ok(true)
            }
            Err(error) => {
                // Which names the files have now is not certain.
                self.shared.change(|state| state.fail(failed(&error)));
                Err(error)
            }
        }
    }

    /// Takes the segment that is ready to be used next, waiting until there is one.
    fn borrow_prepared(&self) -> Option<Arc<SegmentFile>> {
        for _ in 0..LOOKS_MAX {
            {
                let mut state = self.shared.lock();
                if state.failure.is_some() || state.closing || state.has_staged() {
                    return None;
                }
                if let Some(ready) = state.borrow_prepared() {
                    return Some(ready);
                }
                if state.prepare_failure.is_some() {
                    return None;
                }
                state.want_prepared(0);
            }
            thread::sleep(LOOK_AGAIN);
        }
        None
    }

    /// The order is such that after a crash in the middle no number is missing between others.
    fn rename(&self, draft: &Path, ready: &SegmentFile) -> io::Result<[Arc<SegmentFile>; 2]> {
        let next = ready.sequence + 1;
        let aside = ready.path.with_extension("tmp");
        fs::rename(&ready.path, &aside)?;
        fs::rename(draft, &ready.path)?;
        fs::rename(&aside, self.wal.join(file_name(next)))?;
        sync_directory(&self.wal)?;
        let open = |sequence| SegmentFile::open(&self.wal, sequence, self.mode).map(Arc::new);
        Ok([open(ready.sequence)?, open(next)?])
    }
}
