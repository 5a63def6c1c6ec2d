//! A snapshot on its way to another member: its file, and the entries behind its beginning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_raft::EntriesWanted;

use super::file::SnapshotFile;
use super::folder::SnapshotFolder;
use crate::runtime::disk::entries::EntriesRead;
use crate::runtime::disk::history::HistoryReader;
use crate::snapshot::SnapshotBytes;
use crate::snapshot::transfer::{PROLOGUE_BYTES, Prologue, entry_header};

/// Bytes of entries read at once.
const READ_BYTES: usize = 1 << 20;

/// What is sent, as bytes that can be had from anywhere. The same snapshot gives the same bytes.
#[derive(Debug)]
pub struct Outgoing {
    snapshot: Arc<SnapshotFile>,
    prologue: Prologue,
    /// The entries; a file that has no name any more.
    entries: File,
}

impl Outgoing {
    /// Gets a snapshot ready, whose entries are in the log. Blocks as long as it takes to read those.
    pub fn prepare(
        snapshot: Arc<SnapshotFile>,
        history: &HistoryReader,
        folder: &SnapshotFolder,
    ) -> io::Result<Outgoing> {
        let mut entries = nameless(folder)?;
        let (from, to) = (snapshot.layout().header.index + 1, snapshot.layout().footer.end.index);
        let mut next = from;
        let mut entries_bytes = 0;
        while next <= to {
            let wanted = EntriesWanted { from: next, to, max_bytes: READ_BYTES };
            let read = history.entries_blocking(wanted).map_err(io::Error::other)?;
            let EntriesRead::Entries(read) = read else {
                return Err(io::Error::other(format!("entry {next} can't be sent: {read:?}")));
            };
            for entry in &read {
                let header = entry_header(entry);
                entries.write_all(&header)?;
                entries.write_all(&entry.payload)?;
                entries_bytes += (header.len() + entry.payload.len()) as u64;
                next = entry.index + 1;
            }
        }
        let prologue = Prologue { file_bytes: snapshot.length(), entries_bytes };
        Ok(Outgoing { snapshot, prologue, entries })
    }

    /// The entry at which the state is, and what tells these bytes from others.
    pub fn name(&self) -> (u64, u64) {
        let layout = self.snapshot.layout();
        (layout.footer.end.index, layout.fingerprint())
    }

    pub fn snapshot(&self) -> &Arc<SnapshotFile> {
        &self.snapshot
    }

    /// At most `max_bytes` from `offset` on, and whether they are the last.
    pub fn read(&self, offset: u64, max_bytes: usize) -> io::Result<(Bytes, bool)> {
        let total = self.prologue.total_bytes().expect("of files that are there");
        let length = total.saturating_sub(offset).min(max_bytes as u64) as usize;
        let mut buffer = vec![0; length];
        let prologue = self.prologue.encode();
        let file_at = PROLOGUE_BYTES as u64;
        let entries_at = file_at + self.prologue.file_bytes;
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let part = |end: u64| ((end - at) as usize).min(length - done);
            let count = if at < file_at {
                let count = part(file_at);
                buffer[done..done + count].copy_from_slice(&prologue[at as usize..][..count]);
                count
            } else if at < entries_at {
                let count = part(entries_at);
                self.snapshot.read(at - file_at, &mut buffer[done..done + count])?;
                count
            } else {
                let count = length - done;
                self.entries.read_exact_at(&mut buffer[done..], at - entries_at)?;
                count
            };
            done += count;
        }
        Ok((buffer.into(), offset + length as u64 >= total))
    }
}

fn nameless(folder: &SnapshotFolder) -> io::Result<File> {
    let path = folder.path().join("sending.tmp");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}
