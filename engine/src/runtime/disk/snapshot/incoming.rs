//! A snapshot of another member that was received completely: checked, and put in its place.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::draft::Verification;
use super::file::SnapshotFile;
use super::folder::SnapshotFolder;
use super::partial::Partial;
use crate::sequencer::LogEntry;
use crate::snapshot::transfer::{ENTRY_HEADER_BYTES, EntryHeader, PROLOGUE_BYTES, Prologue};

/// What was received.
#[derive(Debug)]
pub struct Incoming {
    file: Arc<File>,
    prologue: Prologue,
}

/// The entries of what was received, one after the other.
#[derive(Debug)]
pub struct IncomingEntries {
    file: Arc<File>,
    next: u64,
    end: u64,
}

fn wrong(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot that was received: {reason}"))
}

impl Incoming {
    /// Looks at what was received; `None` when it is not complete.
    pub fn open(partial: &Partial) -> io::Result<Option<Incoming>> {
        let (Some((_, length)), Some(file)) = (partial.state(), partial.file()) else {
            return Ok(None);
        };
        let mut beginning = [0; PROLOGUE_BYTES];
        if length < beginning.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut beginning, 0)?;
        let prologue = Prologue::decode(&beginning);
        let prologue = prologue.ok_or_else(|| wrong("its first bytes make no sense"))?;
        if prologue.total_bytes() != Some(length) {
            return Ok(None);
        }
        Ok(Some(Incoming { file: Arc::new(file.try_clone()?), prologue }))
    }

    /// Checks the snapshot and gives it its name among the others, durably. It is not of any use
    /// before the log says so.
    pub fn install_file(&self, folder: &SnapshotFolder) -> io::Result<Arc<SnapshotFile>> {
        let draft = folder.path().join("received.tmp");
        let mut output = File::create(&draft)?;
        let mut input = self.file.try_clone()?;
        input.seek(SeekFrom::Start(PROLOGUE_BYTES as u64))?;
        let copied = io::copy(&mut io::Read::take(input, self.prologue.file_bytes), &mut output)?;
        if copied != self.prologue.file_bytes {
            return Err(wrong("its file is too short"));
        }
        output.sync_all()?;
        let index = folder.index_of(&draft)?;
        let path = folder.file(index);
        fs::rename(&draft, &path)?;
        let checked = folder.read(index).map(Arc::new).and_then(|file| {
            let mut verification = Verification::new(Arc::clone(&file));
            while verification.next()?.is_some() {}
            Ok(file)
        });
        match checked {
            Ok(file) => {
                folder.sync()?;
                Ok(file)
            }
            Err(error) => {
                fs::remove_file(path)?;
                Err(io::Error::other(error))
            }
        }
    }

    /// The entries behind the snapshot's beginning, up to its end.
    pub fn entries(&self) -> IncomingEntries {
        let next = PROLOGUE_BYTES as u64 + self.prologue.file_bytes;
        IncomingEntries {
            file: Arc::clone(&self.file),
            next,
            end: next + self.prologue.entries_bytes,
        }
    }
}

impl IncomingEntries {
    /// The next ones: none at the end.
    pub fn next_bunch(&mut self, max_bytes: usize, max: usize) -> io::Result<Vec<LogEntry>> {
        let (mut bunch, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes
            && bunch.len() < max
            && let Some(entry) = self.next_entry()?
        {
            bytes += entry.payload.len();
            bunch.push(entry);
        }
        Ok(bunch)
    }

    /// The next one; `None` at the end.
    pub fn next_entry(&mut self) -> io::Result<Option<LogEntry>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let mut header = [0; ENTRY_HEADER_BYTES];
        self.file.read_exact_at(&mut header, self.next)?;
        let header = EntryHeader::decode(&header).ok_or_else(|| wrong("no entry of the log"))?;
        self.next += ENTRY_HEADER_BYTES as u64;
        let length = header.payload_length as u64;
        if length > self.end.saturating_sub(self.next) {
            return Err(wrong("an entry that is too long"));
        }
        let mut payload = vec![0; header.payload_length];
        self.file.read_exact_at(&mut payload, self.next)?;
        self.next += length;
        let entry = header.with(Bytes::from(payload));
        entry.map(Some).ok_or_else(|| wrong("a changed entry"))
    }
}
