//! Which way to durability is faster on this disk? Some writes of each kind tell.
//!
//! They go to where the log's next frames will: bytes that do not count, on blocks like those that
//! will be written.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::buffer::AlignedBuffer;
use super::file::{OpenMode, SegmentFile};
use super::priority::prefer_this_thread;
use crate::log::frame::BLOCK_BYTES;

/// Writes of each kind: a few milliseconds on a good disk.
const WRITES: u64 = 8;

/// A slow disk is not asked so often.
const BUDGET: Duration = Duration::from_millis(50);

/// Where the log ends.
#[derive(Clone, Copy)]
pub(super) struct Free<'a> {
    pub(super) wal: &'a Path,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Tells whether O_DSYNC is at least as fast as fdatasync; true, too, when the segment is full.
pub(super) fn synced_writes_are_faster(
    free: Free<'_>,
    direct: bool,
    prefer_thread: bool,
) -> io::Result<bool> {
    // On a thread like those that will write.
    let probe = || {
        if prefer_thread {
            let _ = prefer_this_thread();
        }
        let synced = median_write(free, OpenMode { direct, synced: true })?;
        let flushed = median_write(free, OpenMode { direct, synced: false })?;
        Ok(synced <= flushed)
    };
    thread::scope(|scope| scope.spawn(probe).join())
        .unwrap_or_else(|_| Err(io::Error::other("the probe's thread panicked")))
}

fn median_write(free: Free<'_>, mode: OpenMode) -> io::Result<Duration> {
    let file = SegmentFile::open(free.wal, free.segment, mode)?;
    let block = AlignedBuffer::zeroed(BLOCK_BYTES);
    let room = (file.capacity - free.offset) / BLOCK_BYTES as u64;
    let started = Instant::now();
    let mut durations = Vec::new();
    for number in 0..WRITES.min(room) {
        let before = Instant::now();
        file.write_durably(free.offset + number * BLOCK_BYTES as u64, block.bytes())?;
        durations.push(before.elapsed());
        if started.elapsed() > BUDGET {
            break;
        }
    }
    durations.sort_unstable();
    Ok(durations.get(durations.len() / 2).copied().unwrap_or_default())
}
