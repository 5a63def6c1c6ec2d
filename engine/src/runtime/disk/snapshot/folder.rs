//! `member/snap`: which snapshots there are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::file::SnapshotFile;
use crate::runtime::disk::directory::{
    FORMAT_MEMBERS, FORMAT_SNAPSHOTS, has_members, raise_format, sync_directory,
};
use crate::runtime::disk::error::DiskError;
use crate::runtime::disk::file::supports_direct;
use crate::snapshot::format::{HEADER_BYTES, file_name, parse_file_name};
use crate::snapshot::{Header, Owner, SnapshotError};

/// The snapshots of a data directory.
#[derive(Debug, Clone)]
pub struct SnapshotFolder {
    /// The data directory.
    root: PathBuf,
    path: PathBuf,
    salt: u64,
    /// Of which snapshots of other members are good, too; 0 for none.
    cluster_id: u64,
    /// Whether its files can be read and written past the page cache.
    direct: bool,
}

impl SnapshotFolder {
    /// Makes the folder when it is missing, and removes what an interrupted write left.
    pub(in crate::runtime::disk) fn open(
        root: &Path,
        salt: u64,
        cluster_id: u64,
    ) -> Result<SnapshotFolder, DiskError> {
        let path = root.join("member").join("snap");
        let failed = DiskError::directory(&path, "opening the folder of snapshots");
        if !path.is_dir() {
            fs::create_dir(&path).map_err(&failed)?;
            sync_directory(path.parent().unwrap_or(root)).map_err(&failed)?;
        }
        for entry in fs::read_dir(&path).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path).map_err(&failed)?;
            }
        }
        let direct = supports_direct(&path).map_err(&failed)?;
        Ok(SnapshotFolder { root: root.to_owned(), path, salt, cluster_id, direct })
    }

    /// The indexes of all snapshots, the newest first.
    pub fn newest_first(&self) -> Result<Vec<u64>, DiskError> {
        let failed = DiskError::directory(&self.path, "listing its files");
        let mut indexes = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            indexes.extend(name.to_str().and_then(parse_file_name));
        }
        indexes.sort_unstable_by_key(|&index| std::cmp::Reverse(index));
        Ok(indexes)
    }

    /// Opens a snapshot: its outline is checked, its contents as they are read.
    pub fn read(&self, index: u64) -> Result<SnapshotFile, SnapshotError> {
        SnapshotFile::open(self.file(index), self.owner(), index, self.direct)
    }

    /// Begins to write a snapshot. Once there are snapshots, a program that knows none must not
    /// open the directory: its log alone is no longer everything.
    pub fn draft(&self, header: &Header) -> io::Result<Draft> {
        let format = if header.cluster_id == 0 { FORMAT_SNAPSHOTS } else { FORMAT_MEMBERS };
        raise_format(&self.root, self.salt, format)?;
        Draft::create(self.clone(), header)
    }

    /// The index that a snapshot says it has, which has no name yet.
    pub(super) fn index_of(&self, path: &Path) -> io::Result<u64> {
        let mut header = [0; HEADER_BYTES];
        File::open(path)?.read_exact(&mut header)?;
        Header::claimed_index(&header).ok_or_else(|| io::Error::other("it is no snapshot"))
    }

    /// Whether the log beside the snapshots is that of a member with company.
    pub fn has_members(&self) -> bool {
        has_members(&self.root, self.salt)
    }

    /// Deletes a snapshot, durably.
    pub fn delete(&self, index: u64) -> io::Result<()> {
        fs::remove_file(self.file(index))?;
        self.sync()
    }

    pub(super) fn file(&self, index: u64) -> PathBuf {
        self.path.join(file_name(index))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    fn owner(&self) -> Owner {
        Owner { salt: self.salt, cluster_id: self.cluster_id }
    }

    /// The member has become one of a cluster.
    pub fn set_cluster_id(&mut self, cluster_id: u64) {
        self.cluster_id = cluster_id;
    }

    /// The cluster whose state snapshots that are taken here are; 0 for none.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    pub(super) fn direct(&self) -> bool {
        self.direct
    }
}
