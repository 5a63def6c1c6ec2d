//! Why a snapshot can't be used. Every text names the file and the byte.

/// A snapshot that is not what was written, or can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    #[error("the snapshot {file} is damaged at byte {offset}: {reason}")]
    Damaged { file: String, offset: u64, reason: String },
    #[error("the snapshot {file} can't be read at byte {offset}: {reason}")]
    Unreadable { file: String, offset: u64, reason: String },
    #[error(
        "the snapshot {file} has format {found}, this program reads up to {supported}: start the \
         version of Mainstay that wrote it, or a newer one"
    )]
    NewerFormat { file: String, found: u32, supported: u32 },
}
