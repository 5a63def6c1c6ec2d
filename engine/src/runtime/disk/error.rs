//! What can go wrong with the data directory. Every text names the place and the remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::LogError;
use crate::snapshot::SnapshotError;

/// Why the data directory can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    #[error(
        "cannot use the data directory {}: {operation} failed: {reason}. Give the user that runs \
         Mainstay read and write access to it, or choose another with --data-dir", path.display()
    )]
    Directory { path: PathBuf, operation: &'static str, reason: String },
    #[error(
        "the data directory {} is in use by another process{}: stop that one, or choose another \
         directory with --data-dir", path.display(), holder(*pid)
    )]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error(
        "the data directory {} has format {found}, this program reads up to {supported}: start \
         the version of Mainstay that wrote it, or a newer one", path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, supported: u32 },
    #[error(
        "{} is not what Mainstay wrote there: {reason}. Restore it from a backup, or choose \
         another directory with --data-dir", path.display()
    )]
    BadFormat { path: PathBuf, reason: String },
    #[error(
        "the data directory {} belongs to an etcd: Mainstay's own must be empty or absent at the \
         first start. Choose another with --data-dir", path.display()
    )]
    ForeignDirectory { path: PathBuf },
    #[error(
        "the data directory {} is not empty: data from elsewhere goes into a new one alone",
        path.display()
    )]
    NotEmpty { path: PathBuf },
    /// No snapshot can be used, and the log does not go back to where one could begin.
    #[error(
        "the state cannot be brought back: the log begins behind entry {log_begins_after}, and the \
         snapshot of what was before is missing or damaged ({reason}). Put it back if it was \
         moved; otherwise restore the data directory from a backup, and keep a copy of it for \
         inspection"
    )]
    NoSnapshot { log_begins_after: u64, reason: String },
    /// The log ends before the snapshot does, so acknowledged writes are missing.
    #[error(
        "the end of the log is missing: it ends with entry {log_end} and the snapshot {file} was \
         completed at entry {snapshot_end}. Put back what was removed from member/wal, or restore \
         the data directory from a backup; nothing was changed"
    )]
    LogTooShort { file: String, snapshot_end: u64, log_end: u64 },
    /// A damaged entry of a member that has no company any more.
    #[error(
        "entry {index} of the log is damaged, and this member is the only one of its cluster: \
         nobody else has a copy. Restore the data directory from a backup; nothing was changed"
    )]
    NobodyElse { index: u64 },
    /// There were snapshots once, and so there was a log.
    #[error(
        "the log is missing: nothing in {} can be read, and the state is not complete without it. \
         Put back what was removed, or restore the data directory from a backup; nothing was \
         changed", wal.display()
    )]
    NoLog { wal: PathBuf },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Failed(#[from] LogFailure),
    /// The kernel or its settings don't allow what the runtime needs.
    #[error("{0}")]
    Kernel(String),
}

impl DiskError {
    pub(in crate::runtime) fn directory(
        path: &Path,
        operation: &'static str,
    ) -> impl Fn(io::Error) -> DiskError + use<> {
        let path = path.to_owned();
        move |error| DiskError::Directory {
            path: path.clone(),
            operation,
            reason: error.to_string(),
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// A write that failed. The log takes nothing more after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFailure {
    pub file: PathBuf,
    pub offset: u64,
    pub operation: &'static str,
    pub reason: String,
    pub out_of_space: bool,
}

impl LogFailure {
    pub(super) fn new(
        file: &Path,
        offset: u64,
        operation: &'static str,
        error: &io::Error,
    ) -> LogFailure {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        LogFailure {
            file: file.to_owned(),
            offset,
            operation,
            reason: error.to_string(),
            out_of_space: full.contains(&error.kind()),
        }
    }
}

impl std::error::Error for LogFailure {}

impl fmt::Display for LogFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = if self.out_of_space {
            "free space on that file system"
        } else {
            "check the disk (dmesg, SMART)"
        };
        write!(
            formatter,
            "the log cannot be written: {} at byte {} of {} failed: {}. Nothing more is \
             acknowledged, as what the disk holds is not known: {remedy}, then start again",
            self.operation,
            self.offset,
            self.file.display(),
            self.reason,
        )
    }
}
