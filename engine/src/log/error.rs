//! What can be wrong with a log. Every text names the place and what to do next.

/// Why a log can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Something that was acknowledged can't be read any more.
    #[error(
        "the log is damaged: {file}, byte {offset}: {reason} (expected entry {expected_index}, \
         which follows revision {revision}). {evidence}, so this is not the unfinished end of a \
         crash and nothing was skipped or changed. Restore the data directory from a snapshot or \
         a backup, or remove the member and add it again so that its peers fill it; keep a copy \
         of the directory for inspection"
    )]
    Corrupt {
        file: String,
        /// Bytes from the start of `file`.
        offset: u64,
        reason: String,
        /// The raft index that should have been found here.
        expected_index: u64,
        /// The store's revision up to here.
        revision: i64,
        /// How we know that it had been acknowledged.
        evidence: String,
    },
    /// A frame is intact, but what it says does not fit what came before.
    #[error(
        "the log contradicts itself: {file}, byte {offset}: {reason}. The checksums hold, so this \
         is a defect of the program that wrote it and not of the disk: keep a copy of the data \
         directory, report it, and restore from a snapshot or a backup"
    )]
    Inconsistent { file: String, offset: u64, reason: String },
    /// A whole segment is not there.
    #[error(
        "the log lacks {missing}: {found} is there but the segment before it is not. Put the file \
         back if it was moved; otherwise restore the data directory from a snapshot or a backup"
    )]
    MissingSegment { missing: String, found: String },
    /// A newer program wrote this log.
    #[error(
        "{file} has log format {found}, this program reads up to {supported}: start the version \
         of Mainstay that wrote it, or a newer one"
    )]
    NewerFormat { file: String, found: u32, supported: u32 },
    /// The operating system would not read a file.
    #[error(
        "cannot read {file} at byte {offset}: {reason}. Check the disk (dmesg) and permissions"
    )]
    Read { file: String, offset: u64, reason: String },
}
