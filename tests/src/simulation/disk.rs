//! A disk of plain bytes that does what disks do when the power goes.
//!
//! What is believed of real disks, and so what the store has to live with:
//!
//! * A write that was submitted and not reported complete may be on the disk in whole, in part or
//!   not at all after a crash. Parts are sectors of 512 bytes: a sector is old or new, never mixed.
//! * Writes in flight reach the disk in any order. A later one may be whole while an earlier one is
//!   lost; one may have reached the disk long before it is reported.
//! * A write that was reported complete is durable. (The log writes with `O_DSYNC`, or reports only
//!   after `fdatasync`; a disk that lies about that is beyond help.)
//! * A segment that was made ready is on the disk with its name before anything is written to it. Its
//!   contents may be zeros, or frames of an older segment.
//! * A snapshot has its name only when all of it is durable; an unfinished one is gone after a crash.
//! * Creating a segment fails while there is no space; what exists can still be written.
//! * A disk may be slow for as long as it likes. Writes end late, then, and nothing else happens.
//! * A bit may flip, and a write may land elsewhere. That is damage, and has to be noticed wherever
//!   something that was written later proves that the log had been whole: see `damage`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use mainstay_engine::log::segment::{SegmentBytes, file_name};
use mainstay_engine::snapshot::{SnapshotBytes, format};

use super::random::Random;
use super::report::Faults;

const SECTOR_BYTES: usize = 512;

/// Submitted, and not reported complete.
#[derive(Debug, Clone)]
struct Write {
    number: u64,
    segment: u64,
    offset: usize,
    bytes: Vec<u8>,
}

/// The data directory's contents.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    segments: BTreeMap<u64, Vec<u8>>,
    snapshots: BTreeMap<u64, Arc<Vec<u8>>>,
    in_flight: Vec<Write>,
    next_write: u64,
    /// No segment can be made.
    pub(super) full: bool,
}

impl Disk {
    /// Makes a segment ready, with these contents. Gives whether there was space.
    pub(super) fn create_segment(&mut self, sequence: u64, contents: Vec<u8>) -> bool {
        if self.full {
            return false;
        }
        let before = self.segments.insert(sequence, contents);
        assert!(before.is_none(), "segment {sequence} is made twice");
        true
    }

    pub(super) fn segment(&self, sequence: u64) -> Option<&[u8]> {
        self.segments.get(&sequence).map(Vec::as_slice)
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.keys().copied()
    }

    pub(super) fn remove_segment(&mut self, sequence: u64) {
        self.segments.remove(&sequence);
    }

    /// Begins a write. It is durable once it was [`complete`](Disk::complete)d.
    pub(super) fn submit(&mut self, segment: u64, offset: u64, bytes: Vec<u8>) -> u64 {
        self.next_write += 1;
        let offset = offset as usize;
        self.in_flight.push(Write { number: self.next_write, segment, offset, bytes });
        self.next_write
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// One of the writes in flight ends: its number.
    pub(super) fn complete(&mut self, which: usize) -> u64 {
        let write = self.in_flight.remove(which);
        self.put(write.segment, write.offset, &write.bytes);
        write.number
    }

    /// Changes bytes at once and durably: what a start does with nothing else under way.
    pub(super) fn put(&mut self, segment: u64, offset: usize, bytes: &[u8]) {
        let contents = self.segments.get_mut(&segment).expect("writes are to segments that exist");
        contents[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The power goes: everything in flight may have happened, in part or not at all.
    pub(super) fn crash(&mut self, random: &mut Random, faults: &mut Faults) {
        for write in std::mem::take(&mut self.in_flight) {
            let sectors = write.bytes.len() / SECTOR_BYTES;
            let fate = random.below(5);
            let upto = random.below(sectors + 1);
            let mut written = 0;
            for sector in 0..sectors {
                let reached = match fate {
                    0 => false,
                    1 => true,
                    2 => sector < upto,
                    3 => sector >= upto,
                    _ => random.chance(50),
                };
                if reached {
                    let start = sector * SECTOR_BYTES;
                    let bytes = &write.bytes[start..start + SECTOR_BYTES];
                    self.put(write.segment, write.offset + start, bytes);
                    written += 1;
                }
            }
            match written {
                0 => faults.lost += 1,
                written if written == sectors => faults.late += 1,
                _ => faults.torn += 1,
            }
        }
    }

    /// A snapshot gets its name.
    pub(super) fn put_snapshot(&mut self, index: u64, bytes: Vec<u8>) {
        self.snapshots.insert(index, Arc::new(bytes));
    }

    pub(super) fn snapshots(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.snapshots.keys().copied()
    }

    pub(super) fn snapshot(&self, index: u64) -> Option<SnapshotImage> {
        self.snapshots.get(&index).map(|bytes| SnapshotImage { index, bytes: Arc::clone(bytes) })
    }

    pub(super) fn delete_snapshot(&mut self, index: u64) {
        self.snapshots.remove(&index);
    }

    /// The segments' bytes, in order.
    pub(super) fn images(&self) -> Vec<SegmentImage<'_>> {
        let image = |(&sequence, bytes)| SegmentImage { sequence, bytes };
        self.segments.iter().map(image).collect()
    }
}

/// A segment as recovery reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentImage<'a> {
    sequence: u64,
    bytes: &'a Vec<u8>,
}

impl SegmentBytes for SegmentImage<'_> {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn name(&self) -> String {
        file_name(self.sequence)
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        buffer.copy_from_slice(&self.bytes[offset..offset + buffer.len()]);
        Ok(())
    }
}

/// A snapshot as it is read.
#[derive(Debug, Clone)]
pub(super) struct SnapshotImage {
    pub(super) index: u64,
    pub(super) bytes: Arc<Vec<u8>>,
}

impl SnapshotBytes for SnapshotImage {
    fn name(&self) -> String {
        format::file_name(self.index)
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        buffer.copy_from_slice(&self.bytes[offset..offset + buffer.len()]);
        Ok(())
    }
}
