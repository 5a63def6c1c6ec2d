//! Segment files: made, opened for direct or buffered I/O, read and written in whole blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::buffer::AlignedBuffer;
use super::directory::sync_directory;
use super::error::DiskError;
use crate::log::frame::BLOCK_BYTES;
use crate::log::segment::{SegmentBytes, file_name, parse_file_name};

/// Bytes of zeros written at once when a segment is made.
const FILL_BYTES: usize = 1 << 20;

/// A read of so many bytes is part of a reading from front to back.
const AHEAD_FROM_BYTES: usize = 1 << 20;
/// Bytes that the kernel is asked to read ahead then: some milliseconds of a fast disk.
const AHEAD_BYTES: u64 = 8 << 20;

/// How segments are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenMode {
    /// O_DIRECT: past the page cache.
    pub(super) direct: bool,
    /// O_DSYNC: a write returns when it is durable.
    pub(super) synced: bool,
}

impl OpenMode {
    fn flags(self) -> i32 {
        (if self.direct { libc::O_DIRECT } else { 0 })
            | (if self.synced { libc::O_DSYNC } else { 0 })
    }
}

/// A segment that can be read and written by several threads at once.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    /// Bytes of the file: fixed, and all of them written once already.
    pub(super) capacity: u64,
    pub(super) mode: OpenMode,
    file: File,
}

impl SegmentFile {
    pub(super) fn open(wal: &Path, sequence: u64, mode: OpenMode) -> io::Result<SegmentFile> {
        let path = wal.join(file_name(sequence));
        let file = open(&path, mode)?;
        let capacity = file.metadata()?.len();
        Ok(SegmentFile { sequence, path, capacity, mode, file })
    }

    /// Writes whole blocks and, unless the file was opened synced, makes them durable.
    pub(super) fn write_durably(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        assert!(blocks.len().is_multiple_of(BLOCK_BYTES));
        assert!(offset + blocks.len() as u64 <= self.capacity);
        self.file.write_all_at(blocks, offset)?;
        if !self.mode.synced {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Makes everything durable that any process wrote to the file.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Fills `buffer` from `offset`, both in whole blocks.
    pub(super) fn read_blocks(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        self.file.read_exact_at(buffer.bytes_mut(), offset)
    }
}

impl SegmentBytes for SegmentFile {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn length(&self) -> u64 {
        self.capacity
    }

    /// Reads the blocks around it: the file may be open for direct I/O.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        let start = offset / block * block;
        let end = (offset + buffer.len() as u64).next_multiple_of(block);
        let mut blocks = AlignedBuffer::default();
        blocks.resize((end - start) as usize);
        self.read_blocks(start, &mut blocks)?;
        buffer.copy_from_slice(&blocks.bytes()[(offset - start) as usize..][..buffer.len()]);
        Ok(())
    }
}

pub(super) fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(mode.flags()).open(path)
}

/// Whether files in `directory` can be opened for direct I/O (not on tmpfs, for one).
pub(super) fn supports_direct(directory: &Path) -> io::Result<bool> {
    let path = directory.join("direct.tmp");
    File::create(&path)?;
    let direct = open(&path, OpenMode { direct: true, synced: false });
    fs::remove_file(&path)?;
    match direct {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes that an unprivileged user may still write on the file system of `directory`.
pub(super) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(directory)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Makes a file of zeros under a temporary name. The zeros are really written: overwriting
/// written blocks needs no metadata of the file system, which halves a durable write's time.
pub(super) fn create_zeroed(path: &Path, capacity: u64, direct: bool) -> io::Result<()> {
    assert!(capacity.is_multiple_of(BLOCK_BYTES as u64));
    drop(File::create(path)?);
    let file = open(path, OpenMode { direct, synced: false })?;
    let zeros = AlignedBuffer::zeroed(FILL_BYTES);
    let mut offset = 0;
    while offset < capacity {
        let length = (capacity - offset).min(FILL_BYTES as u64);
        file.write_all_at(&zeros.bytes()[..length as usize], offset)?;
        offset += length;
    }
    file.sync_all()
}

/// Moves a prepared file to its place in the log, durably.
pub(super) fn install(draft: &Path, wal: &Path, sequence: u64) -> io::Result<()> {
    fs::rename(draft, wal.join(file_name(sequence)))?;
    sync_directory(wal)
}

/// A segment as recovery reads it: through the page cache, front to back.
#[derive(Debug)]
pub(super) struct SegmentReader {
    sequence: u64,
    path: PathBuf,
    length: u64,
    file: File,
}

impl SegmentReader {
    pub(super) fn open(wal: &Path, sequence: u64) -> io::Result<SegmentReader> {
        let path = wal.join(file_name(sequence));
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        Ok(SegmentReader { sequence, path, length, file })
    }
}

/// Opens all segments of a log for reading, with their sequence numbers, in order.
pub(super) fn open_segments(wal: &Path) -> Result<(Vec<u64>, Vec<SegmentReader>), DiskError> {
    let failed = DiskError::directory(wal, "listing its files");
    let mut sequences = Vec::new();
    for entry in fs::read_dir(wal).map_err(&failed)? {
        let name = entry.map_err(&failed)?.file_name();
        sequences.extend(name.to_str().and_then(parse_file_name));
    }
    sequences.sort_unstable();
    let open = |&sequence: &u64| SegmentReader::open(wal, sequence);
    let segments: io::Result<Vec<SegmentReader>> = sequences.iter().map(open).collect();
    Ok((sequences, segments.map_err(DiskError::directory(wal, "opening its files"))?))
}

impl SegmentBytes for SegmentReader {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)?;
        if buffer.len() >= AHEAD_FROM_BYTES {
            // The disk goes on while this is looked at. Without it all is the same, but slower.
            let ahead = offset + buffer.len() as u64;
            let _ = fadvise(&self.file, ahead, NonZeroU64::new(AHEAD_BYTES), Advice::WillNeed);
        }
        Ok(())
    }
}
