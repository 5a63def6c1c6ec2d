//! Which way to durability is faster on this disk? Some writes of each kind tell.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::buffer::AlignedBuffer;
use super::file::{OpenMode, SegmentFile, create_zeroed, install};
use super::priority::prefer_this_thread;
use crate::log::frame::BLOCK_BYTES;
use crate::log::segment::file_name;

/// Writes of each kind: a few milliseconds on a good disk.
const WRITES: usize = 8;

/// A slow disk is not asked so often.
const BUDGET: Duration = Duration::from_millis(50);

/// Tells whether O_DSYNC is at least as fast as fdatasync. Works in a directory of its own, as a
/// segment's name has a meaning in the log's.
pub(super) fn synced_writes_are_faster(
    wal: &Path,
    direct: bool,
    prefer_thread: bool,
) -> io::Result<bool> {
    let directory = wal.with_file_name("probe");
    fs::create_dir_all(&directory)?;
    // On a thread like those that will write.
    let probe = || {
        if prefer_thread {
            let _ = prefer_this_thread();
        }
        compare(&directory, direct)
    };
    let result = thread::scope(|scope| scope.spawn(probe).join())
        .unwrap_or_else(|_| Err(io::Error::other("the probe's thread panicked")));
    fs::remove_dir_all(&directory)?;
    result
}

fn compare(directory: &Path, direct: bool) -> io::Result<bool> {
    let draft = directory.join("draft.tmp");
    create_zeroed(&draft, (WRITES * BLOCK_BYTES) as u64, direct)?;
    install(&draft, directory, 1)?;
    let synced = median_write(directory, OpenMode { direct, synced: true })?;
    let flushed = median_write(directory, OpenMode { direct, synced: false })?;
    fs::remove_file(directory.join(file_name(1)))?;
    Ok(synced <= flushed)
}

fn median_write(directory: &Path, mode: OpenMode) -> io::Result<Duration> {
    let file = SegmentFile::open(directory, 1, mode)?;
    let block = AlignedBuffer::zeroed(BLOCK_BYTES);
    let started = Instant::now();
    let mut durations = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let before = Instant::now();
        file.write_durably((number * BLOCK_BYTES) as u64, block.bytes())?;
        durations.push(before.elapsed());
        if started.elapsed() > BUDGET {
            break;
        }
    }
    durations.sort_unstable();
    Ok(durations[durations.len() / 2])
}
