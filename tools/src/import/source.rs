//! Where an etcd's database comes from.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use mainstay_bbolt::reader::{FileSource, Source};

use crate::failure::Failure;
use crate::files::{check_sum, has_sum};
use crate::remote::{self, Access};

/// The database in an etcd's data directory.
const IN_DIRECTORY: &str = "member/snap/db";

/// A database file that is open.
pub(super) struct Database {
    pub(super) path: PathBuf,
    pub(super) source: FileSource,
    /// What should be known of where it comes from.
    pub(super) note: Option<String>,
}

impl Database {
    /// A snapshot file, a database file, or that of an etcd's data directory.
    pub(super) fn find(path: &Path, skip_hash_check: bool) -> Result<Database, Failure> {
        if path.is_dir() {
            return Database::of_directory(path);
        }
        let database = Database::open(path.to_owned())?;
        if has_sum(database.source.length()) && !skip_hash_check {
            check_sum(path, &database.source)?;
        }
        Ok(database)
    }

    /// What a running server has, kept in `path`.
    pub(super) fn fetch(endpoint: &str, access: &Access, path: &Path) -> Result<Database, Failure> {
        let note = remote::everything(endpoint, access, path)?;
        Ok(Database { note, ..Database::open(path.to_owned())? })
    }

    fn of_directory(directory: &Path) -> Result<Database, Failure> {
        let path = directory.join(IN_DIRECTORY);
        if !path.is_file() {
            return Err(Failure::other(format!(
                "{} is no data directory of an etcd: it has no {IN_DIRECTORY}",
                directory.display()
            )));
        }
        let database = Database::open(path)?;
        let note = "changes that the etcd had not moved from its log to its database are left \
                    out: there are none if it was stopped in order. `etcdctl snapshot save` of a \
                    running etcd has everything";
        Ok(Database { note: Some(note.to_owned()), ..database })
    }

    fn open(path: PathBuf) -> Result<Database, Failure> {
        let file = File::open(&path).map_err(Failure::file("opening", &path))?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::other(format!(
                    "{} is in use by an etcd that runs: stop it, or give its address with \
                     --endpoints instead",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::file("locking", &path)(error)),
        }
        let source = FileSource::new(file).map_err(Failure::file("opening", &path))?;
        Ok(Database { path, source, note: None })
    }
}
