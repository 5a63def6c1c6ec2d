//! One snapshot file that is complete.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::record::{Record, Revision};
use crate::runtime::disk::buffer::AlignedBuffer;
use crate::runtime::disk::history::HistoryError;
use crate::runtime::disk::lookup::Base;
use crate::snapshot::policy::Kept;
use crate::snapshot::{Layout, Owner, SnapshotBytes, SnapshotError};

/// A snapshot that can be read. Its file may be deleted meanwhile.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    length: u64,
    /// Through the page cache, for single keys.
    file: File,
    /// Past it, for reading everything once.
    direct: Option<File>,
    layout: Layout,
}

/// A file whose outline is not known yet.
struct Unread<'a> {
    path: &'a PathBuf,
    length: u64,
    file: &'a File,
}

impl SnapshotBytes for Unread<'_> {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl SnapshotBytes for SnapshotFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl SnapshotFile {
    pub(super) fn open(
        path: PathBuf,
        owner: Owner,
        index: u64,
        direct: bool,
    ) -> Result<SnapshotFile, SnapshotError> {
        let unreadable = |error: io::Error| SnapshotError::Unreadable {
            file: path.display().to_string(),
            offset: 0,
            reason: error.to_string(),
        };
        let file = File::open(&path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let past_cache = |_| {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECT)
                .open(&path)
                .map_err(unreadable)
        };
        let direct = direct.then_some(()).map(past_cache).transpose()?;
        let unread = Unread { path: &path, length, file: &file };
        let layout = Layout::read(&unread, owner, index)?;
        Ok(SnapshotFile { path, length, file, direct, layout })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn kept(&self) -> Kept {
        Kept { index: self.layout.header.index, end: self.layout.footer.end.revision }
    }

    /// Reads whole blocks at once, past the page cache where that can be.
    pub(super) fn read_extent(
        &self,
        extent: &Extent,
        buffer: &mut AlignedBuffer,
    ) -> Result<(), SnapshotError> {
        buffer.resize((extent.end - extent.start) as usize);
        let file = self.direct.as_ref().unwrap_or(&self.file);
        file.read_exact_at(buffer.bytes_mut(), extent.start).map_err(|error| {
            SnapshotError::Unreadable {
                file: self.name(),
                offset: extent.start,
                reason: error.to_string(),
            }
        })
    }

    /// Cuts the blocks `numbers` into pieces of about `bytes` that are read at once.
    pub(super) fn extents(&self, numbers: std::ops::Range<usize>, bytes: u64) -> Vec<Extent> {
        let page = crate::snapshot::format::FILE_ALIGNMENT as u64;
        let mut extents: Vec<Extent> = Vec::new();
        for number in numbers {
            let block = &self.layout.blocks()[number];
            let end = (block.offset + block.bytes() as u64).next_multiple_of(page);
            match extents.last_mut() {
                Some(last) if end - last.start <= bytes => {
                    last.end = end;
                    last.blocks.end = number + 1;
                }
                _ => extents.push(Extent {
                    start: block.offset / page * page,
                    end,
                    blocks: number..number + 1,
                }),
            }
        }
        extents
    }
}

impl Base for SnapshotFile {
    fn revision(&self) -> Revision {
        self.layout.header.revision
    }

    fn find(&self, key: &[u8]) -> Result<Option<Record>, HistoryError> {
        let found = self.layout.find(self, key).map_err(|error| match error {
            SnapshotError::Damaged { file, offset, reason }
            | SnapshotError::Unreadable { file, offset, reason } => {
                HistoryError::Damaged { file, offset, reason }
            }
            newer => {
                HistoryError::Damaged { file: self.name(), offset: 0, reason: newer.to_string() }
            }
        })?;
        Ok(found.map(|entry| entry.record))
    }
}

/// Blocks that are read at once: from a page to a page.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) blocks: std::ops::Range<usize>,
}
