//! A snapshot that is being written: a file under a temporary name, until it is complete.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use mainstay_raft::Membership;

use super::file::{Extent, SnapshotFile};
use super::folder::SnapshotFolder;
use crate::runtime::disk::buffer::AlignedBuffer;
use crate::snapshot::{Encoder, End, Header, Slice, SnapshotError};

/// Bytes written, or read back, at once.
pub(super) const IO_BYTES: usize = 1 << 20;

/// An unfinished snapshot. Dropping it removes its file.
pub struct Draft {
    folder: SnapshotFolder,
    index: u64,
    path: PathBuf,
    file: File,
    /// Taken when the file is completed.
    encoder: Option<Encoder>,
    buffer: AlignedBuffer,
    written: u64,
}

impl Draft {
    pub(super) fn create(folder: SnapshotFolder, header: &Header) -> io::Result<Draft> {
        let index = header.index;
        let path = folder.file(index).with_extension("tmp");
        let flags = if folder.direct() { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        let file = options.open(&path)?;
        let encoder = Some(Encoder::new(folder.salt(), header));
        Ok(Draft {
            folder,
            index,
            path,
            file,
            encoder,
            buffer: AlignedBuffer::default(),
            written: 0,
        })
    }

    /// Adds a slice; `run` is the shard that entries come from. Gives the bytes written so far.
    pub fn add(&mut self, run: u32, slice: Slice) -> io::Result<u64> {
        match slice {
            Slice::Entries(chunk) => {
                for entry in chunk.entries {
                    self.encoder().add_entry(run, entry);
                    self.write_pending()?;
                }
            }
            Slice::Leases(leases) => self.encoder().add_leases(&leases),
            Slice::Documents(documents) => self.encoder().add_documents(&documents),
        }
        self.write_pending()?;
        Ok(self.written)
    }

    fn encoder(&mut self) -> &mut Encoder {
        self.encoder.as_mut().expect("only completing takes it")
    }

    fn write_pending(&mut self) -> io::Result<()> {
        while self.encoder().pending().len() >= IO_BYTES {
            self.buffer.resize(IO_BYTES);
            let encoder = self.encoder.as_mut().expect("just used");
            self.buffer.bytes_mut().copy_from_slice(&encoder.pending()[..IO_BYTES]);
            encoder.take(IO_BYTES);
            self.file.write_all_at(self.buffer.bytes(), self.written)?;
            self.written += IO_BYTES as u64;
        }
        Ok(())
    }

    /// Writes the rest and makes the file durable, under its name. The log must be durable up to
    /// `end`. With a cluster's id in the header, `membership` is who was a member where it begins.
    pub fn complete(
        mut self,
        end: End,
        membership: Option<&Membership>,
    ) -> io::Result<SnapshotFile> {
        let mut encoder = self.encoder.take().expect("completed once");
        if let Some(membership) = membership {
            encoder.add_membership(membership);
        }
        let rest = encoder.finish(end);
        for piece in rest.chunks(IO_BYTES) {
            self.buffer.resize(piece.len());
            self.buffer.bytes_mut().copy_from_slice(piece);
            self.file.write_all_at(self.buffer.bytes(), self.written)?;
            self.written += piece.len() as u64;
        }
        self.file.sync_all()?;
        fs::rename(&self.path, self.folder.file(self.index))?;
        self.folder.sync()?;
        self.folder.read(self.index).map_err(io::Error::other)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After completion it has another name; and the next start removes what stays.
        let _ = fs::remove_file(&self.path);
    }
}

/// Reads a snapshot back from the disk and checks every byte of it, piece by piece.
pub(crate) struct Verification {
    file: Arc<SnapshotFile>,
    extents: std::vec::IntoIter<Extent>,
    buffer: AlignedBuffer,
}

impl Verification {
    pub(crate) fn new(file: Arc<SnapshotFile>) -> Verification {
        let extents = file.extents(0..file.layout().blocks().len(), IO_BYTES as u64);
        Verification { file, extents: extents.into_iter(), buffer: AlignedBuffer::default() }
    }

    /// Checks the next piece; how many bytes it has. `None` when everything was checked.
    pub(crate) fn next(&mut self) -> Result<Option<u64>, SnapshotError> {
        let Some(extent) = self.extents.next() else { return Ok(None) };
        self.file.read_extent(&extent, &mut self.buffer)?;
        let layout = self.file.layout();
        for number in extent.blocks.clone() {
            let block = &layout.blocks()[number];
            let start = (block.offset - extent.start) as usize;
            layout.check(number, &self.buffer.bytes()[start..start + block.bytes()])?;
        }
        Ok(Some(extent.end - extent.start))
    }
}
