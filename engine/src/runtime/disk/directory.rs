//! The data directory: made, locked, and of a format that we know.
//!
//! `FORMAT` names the format and holds the salt of the log's checksums; `LOCK` is held (flock)
//! while a process uses the directory and names its pid; the log is in `member/wal`.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::DiskError;
use super::identity::{self, Identity};
use super::recovery::Recovery;
use super::snapshot::SnapshotFolder;
use crate::log::replay::{Behind, Commitment};

/// The format of a directory whose log is complete in itself, and the one that is written first.
const FORMAT_LOG: u32 = 1;

/// The format of a directory with snapshots, whose log need not be complete: what knows no
/// snapshots must not open it.
pub(super) const FORMAT_SNAPSHOTS: u32 = 2;

/// The format of a directory whose log has been that of a member with company: not all that is in
/// it is committed, entries may replace others, and memberships are among them. The newest that
/// this program reads.
pub(super) const FORMAT_MEMBERS: u32 = 3;

const FORMAT_NEWEST: u32 = FORMAT_MEMBERS;

/// A data directory that this process, and no other, may use while this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    wal: PathBuf,
    salt: u64,
    /// The format's number when the directory was opened, or was last raised by this value.
    version: u32,
    /// Dropping it unlocks.
    _lock: File,
}

impl DataDirectory {
    /// Opens `path`, and makes it when it is not there.
    pub fn open(path: &Path) -> Result<DataDirectory, DiskError> {
        let wal = path.join("member").join("wal");
        if path.join("member").join("snap").join("db").exists() {
            return Err(DiskError::ForeignDirectory { path: path.to_owned() });
        }
        create_directories(&wal).map_err(DiskError::directory(path, "creating directories"))?;
        let lock = lock(path)?;
        let (version, salt) = read_or_create_format(path, &wal)?;
        Ok(DataDirectory { path: path.to_owned(), wal, salt, version, _lock: lock })
    }

    /// Begins to read what the log holds.
    pub fn recover(self, commitment: Commitment) -> Result<Recovery, DiskError> {
        self.recover_behind(commitment, Behind::default())
    }

    /// Begins to read what the log holds behind what a snapshot does.
    pub fn recover_behind(
        self,
        commitment: Commitment,
        behind: Behind,
    ) -> Result<Recovery, DiskError> {
        Recovery::new(self, commitment, behind)
    }

    /// The snapshots that there are.
    pub fn snapshots(&self) -> Result<SnapshotFolder, DiskError> {
        let cluster_id = self.identity()?.map_or(0, |identity| identity.cluster_id);
        SnapshotFolder::open(&self.path, self.salt, cluster_id)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn wal(&self) -> &Path {
        &self.wal
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn has_snapshots(&self) -> bool {
        self.version >= FORMAT_SNAPSHOTS
    }

    /// Whether the log is that of a member that has, or had, company.
    pub fn has_members(&self) -> bool {
        self.version >= FORMAT_MEMBERS
    }

    /// Notes, durably, that the log is going to be that of a member with company.
    pub fn begin_to_have_members(&mut self) -> Result<(), DiskError> {
        if !self.has_members() {
            let failed = DiskError::directory(&self.path, "raising its format");
            raise_format(&self.path, self.salt, FORMAT_MEMBERS).map_err(failed)?;
            self.version = FORMAT_MEMBERS;
        }
        Ok(())
    }

    /// Whether nothing was ever kept here.
    pub fn is_fresh(&self) -> Result<bool, DiskError> {
        let failed = DiskError::directory(&self.path, "looking whether there is a log");
        let mut files = fs::read_dir(&self.wal).map_err(&failed)?;
        Ok(files.next().is_none() && self.version < FORMAT_SNAPSHOTS && self.identity()?.is_none())
    }

    /// Who this member is, if that was decided.
    pub fn identity(&self) -> Result<Option<Identity>, DiskError> {
        identity::read(&self.path, self.salt)
    }

    /// Notes, durably, who this member is.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), DiskError> {
        identity::write(&self.path, self.salt, identity)
    }
}

/// Makes `path` and its parents, as far as they are missing, and then the names durable (in that
/// order, as one commit of the file system's journal does for all).
fn create_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.is_dir()).collect();
    let missing = missing.into_iter().filter(|path| !path.as_os_str().is_empty());
    let missing: Vec<&Path> = missing.collect();
    for path in missing.iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            result => result?,
        }
    }
    for path in missing.iter().rev() {
        sync_directory(path.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes names in `path` durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

fn lock(path: &Path) -> Result<File, DiskError> {
    let failed = DiskError::directory(path, "opening the file LOCK in it");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("LOCK"))
        .map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Best effort: the pid is for the message alone.
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            return Err(DiskError::Locked {
                path: path.to_owned(),
                pid: holder.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(error)) => {
            return Err(DiskError::directory(path, "locking the file LOCK in it")(error));
        }
    }
    file.set_len(0).map_err(&failed)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0).map_err(&failed)?;
    Ok(file)
}

/// The salt of a data directory that is there already.
pub(super) fn read_salt(path: &Path) -> Result<u64, DiskError> {
    let file = path.join("FORMAT");
    let text = fs::read_to_string(&file)
        .map_err(DiskError::directory(path, "reading the file FORMAT in it"))?;
    parse_format(&file, &text).map(|(_, salt)| salt)
}

fn read_or_create_format(path: &Path, wal: &Path) -> Result<(u32, u64), DiskError> {
    let file = path.join("FORMAT");
    match fs::read_to_string(&file) {
        Ok(text) => parse_format(&file, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let failed = DiskError::directory(path, "creating the file FORMAT in it");
            if fs::read_dir(wal).map_err(&failed)?.next().is_some() {
                return Err(DiskError::BadFormat {
                    path: file,
                    reason: "the file is missing while there is a log".to_owned(),
                });
            }
            create_format(path, &file).map(|salt| (FORMAT_LOG, salt)).map_err(failed)
        }
        Err(error) => Err(DiskError::directory(path, "reading the file FORMAT in it")(error)),
    }
}

fn create_format(path: &Path, file: &Path) -> io::Result<u64> {
    let mut salt = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut salt)?;
    let salt = u64::from_le_bytes(salt);
    write_format(path, file, FORMAT_LOG, salt)?;
    Ok(salt)
}

fn write_format(path: &Path, file: &Path, version: u32, salt: u64) -> io::Result<()> {
    let draft = path.join("FORMAT.tmp");
    let mut output = File::create(&draft)?;
    output.write_all(format_text(version, salt).as_bytes())?;
    output.sync_all()?;
    fs::rename(&draft, file)?;
    sync_directory(path)
}

/// Notes, durably, that the directory is of this format, unless it is of a later one.
pub(super) fn raise_format(path: &Path, salt: u64, version: u32) -> io::Result<()> {
    let file = path.join("FORMAT");
    let text = fs::read_to_string(&file)?;
    if (version..=FORMAT_NEWEST).any(|version| text == format_text(version, salt)) {
        return Ok(());
    }
    write_format(path, &file, version, salt)
}

/// Whether the directory is of a member with company, as far as it can be read.
pub(super) fn has_members(path: &Path, salt: u64) -> bool {
    let text = fs::read_to_string(path.join("FORMAT")).unwrap_or_default();
    (FORMAT_MEMBERS..=FORMAT_NEWEST).any(|version| text == format_text(version, salt))
}

/// Three lines for people; the last is the checksum of those before.
fn format_text(version: u32, salt: u64) -> String {
    let text = format!("mainstay-format {version}\nsalt {salt:016x}\n");
    let crc = crc32fast::hash(text.as_bytes());
    format!("{text}crc32 {crc:08x}\n")
}

/// The version and the salt.
fn parse_format(file: &Path, text: &str) -> Result<(u32, u64), DiskError> {
    let mut lines = text.lines();
    let version = lines
        .next()
        .and_then(|line| line.strip_prefix("mainstay-format "))
        .and_then(|version| version.parse::<u32>().ok());
    if let Some(found) = version.filter(|&found| found > FORMAT_NEWEST) {
        return Err(DiskError::NewerFormat {
            path: file.to_owned(),
            found,
            supported: FORMAT_NEWEST,
        });
    }
    let salt = lines
        .next()
        .and_then(|line| line.strip_prefix("salt "))
        .and_then(|salt| u64::from_str_radix(salt, 16).ok());
    match (version, salt) {
        (Some(version), Some(salt)) if text == format_text(version, salt) => Ok((version, salt)),
        _ => Err(DiskError::BadFormat {
            path: file.to_owned(),
            reason: "its lines or their checksum are wrong".to_owned(),
        }),
    }
}
