//! A data directory that no store uses, opened for reading alone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mainstay_raft::Membership;
use rkyv::util::AlignedVec;

use crate::effect::Batch;
use crate::log::replay::{Behind, Commitment, Replay, Voter};
use crate::log::scan::{CutTail, LogEnd, ScannedFrame, Scanner};
use crate::mvcc::Settled;
use crate::runtime::disk::DiskError;
use crate::runtime::disk::directory::read_salt;
use crate::runtime::disk::file::{SegmentReader, open_segments};
use crate::runtime::disk::identity::{self, Identity};
use crate::runtime::disk::stopped;
use crate::snapshot::format::{ALIGNMENT, BlockKind, parse_file_name};
use crate::snapshot::{Document, Layout, LeaseRow, Owner, SnapshotBytes, SnapshotError};

/// A data directory. While this value lives no store can use it; others may look at it, too.
#[derive(Debug)]
pub struct IdleDirectory {
    path: PathBuf,
    salt: u64,
    identity: Option<Identity>,
    /// Dropping it unlocks.
    _lock: File,
}

impl IdleDirectory {
    /// Opens a directory that is there. Nothing in it is ever changed.
    pub fn open(path: &Path) -> Result<IdleDirectory, DiskError> {
        let salt = read_salt(path)?;
        let lock = share_lock(path)?;
        let identity = identity::read(path, salt)?;
        Ok(IdleDirectory { path: path.to_owned(), salt, identity, _lock: lock })
    }

    /// The frames of the log.
    pub fn frames(&self) -> Result<Frames, DiskError> {
        Ok(Frames { scanner: self.scanner()? })
    }

    /// The batches of the log behind what a snapshot holds; all of them without one.
    pub fn batches(&self, behind: Behind) -> Result<Batches, DiskError> {
        let replay = Replay::new(self.scanner()?, self.commitment());
        Ok(Batches { replay: replay.behind(behind) })
    }

    /// Who the member is that the directory belongs to, if that is noted.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    fn cluster_id(&self) -> u64 {
        self.identity().map_or(0, |identity| identity.cluster_id)
    }

    fn commitment(&self) -> Commitment {
        let Some(identity) = self.identity() else { return Commitment::EveryEntry };
        let memberships = vec![(0, Membership::of_voters(&identity.voters))];
        let (id, incarnation) = (identity.member_id, identity.incarnation);
        Commitment::HardState(Voter { id, incarnation, memberships, commit: 0 })
    }

    fn scanner(&self) -> Result<Scanner<SegmentReader>, DiskError> {
        let wal = self.path.join("member").join("wal");
        let (_, segments) = open_segments(&wal)?;
        Ok(Scanner::new(self.salt, segments, stopped::read(&wal, self.salt))?)
    }

    /// The indexes of all snapshots, the newest first.
    pub fn snapshots(&self) -> Result<Vec<u64>, DiskError> {
        let folder = self.snapshot_folder();
        let failed = DiskError::directory(&folder, "listing its files");
        let mut indexes = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(indexes),
            entries => entries.map_err(&failed)?,
        };
        for entry in entries {
            let name = entry.map_err(&failed)?.file_name();
            indexes.extend(name.to_str().and_then(parse_file_name));
        }
        indexes.sort_unstable_by_key(|&index| std::cmp::Reverse(index));
        Ok(indexes)
    }

    /// Opens a snapshot: its outline is checked now, its contents as they are read.
    pub fn snapshot(&self, index: u64) -> Result<Snapshot, SnapshotError> {
        let path = self.snapshot_folder().join(crate::snapshot::format::file_name(index));
        let unreadable = |error: io::Error| SnapshotError::Unreadable {
            file: path.display().to_string(),
            offset: 0,
            reason: error.to_string(),
        };
        let file = File::open(&path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let bytes = SnapshotFile { name: path.display().to_string(), file, length };
        let owner = Owner { salt: self.salt, cluster_id: self.cluster_id() };
        let layout = Layout::read(&bytes, owner, index)?;
        Ok(Snapshot { bytes, layout })
    }

    fn snapshot_folder(&self) -> PathBuf {
        self.path.join("member").join("snap")
    }
}

/// The frames of a log, one by one.
pub struct Frames {
    scanner: Scanner<SegmentReader>,
}

impl Frames {
    /// The next frame, whose checksums and place in the chain are right; `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<ScannedFrame>, DiskError> {
        Ok(self.scanner.next_frame()?)
    }

    /// Bytes read and bytes in all, for a progress bar.
    pub fn progress(&self) -> (u64, u64) {
        self.scanner.progress()
    }

    /// Where the log ends, once there was no next frame.
    pub fn end(&self) -> LogEnd {
        self.scanner.end()
    }

    /// What the next start will cut off at the end.
    pub fn cut(&self) -> Option<&CutTail> {
        self.scanner.cut()
    }
}

/// The batches of a log, one by one.
pub struct Batches {
    replay: Replay<SegmentReader>,
}

impl Batches {
    /// The next batch; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, DiskError> {
        let batch = self.replay.next_batch()?;
        // Nobody wants to know where they were.
        drop(self.replay.take_places());
        Ok(batch)
    }

    /// Bytes read and bytes in all, for a progress bar.
    pub fn progress(&self) -> (u64, u64) {
        self.replay.progress()
    }
}

/// A snapshot that is open for reading.
#[derive(Debug)]
pub struct Snapshot {
    bytes: SnapshotFile,
    layout: Layout,
}

impl Snapshot {
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The file's path, for messages.
    pub fn name(&self) -> &str {
        &self.bytes.name
    }

    /// Passes all entries to `visit`, run by run, each by key; between blocks the number of bytes
    /// that are behind to `progress`.
    pub fn entries(
        &self,
        mut visit: impl FnMut(Settled),
        mut progress: impl FnMut(u64),
    ) -> Result<(), SnapshotError> {
        let mut buffer: AlignedVec<ALIGNMENT> = AlignedVec::new();
        for (number, block) in self.layout.blocks().iter().enumerate() {
            if block.kind != BlockKind::Records {
                continue;
            }
            buffer.resize(block.bytes(), 0);
            let read = SnapshotBytes::read(&self.bytes, block.offset, &mut buffer);
            read.map_err(|error| SnapshotError::Unreadable {
                file: self.bytes.name.clone(),
                offset: block.offset,
                reason: error.to_string(),
            })?;
            self.layout.entries(number, &buffer, &mut visit)?;
            progress(block.offset + block.bytes() as u64);
        }
        Ok(())
    }

    pub fn leases(&self) -> Result<Vec<LeaseRow>, SnapshotError> {
        self.layout.leases(&self.bytes)
    }

    pub fn documents(&self) -> Result<Vec<Document>, SnapshotError> {
        self.layout.documents(&self.bytes)
    }
}

#[derive(Debug)]
struct SnapshotFile {
    name: String,
    file: File,
    length: u64,
}

impl SnapshotBytes for SnapshotFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// Keeps stores away from the directory, and lets others look at it.
fn share_lock(path: &Path) -> Result<File, DiskError> {
    let failed = DiskError::directory(path, "opening the file LOCK in it");
    let mut file = File::open(path.join("LOCK")).map_err(&failed)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Best effort: the pid is for the message alone.
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            Err(DiskError::Locked { path: path.to_owned(), pid: holder.trim().parse().ok() })
        }
        Err(TryLockError::Error(error)) => {
            Err(DiskError::directory(path, "locking the file LOCK in it")(error))
        }
    }
}
