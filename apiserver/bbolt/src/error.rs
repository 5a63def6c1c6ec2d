//! What can be wrong with a database file.

/// Why a file can't be read as a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system would not read it.
    #[error("cannot read {length} bytes at byte {offset}: {source}")]
    Read { offset: u64, length: usize, source: std::io::Error },
    /// Neither of the two pages that describe the file is intact.
    #[error("this is no bbolt database, or a damaged one: {reason}")]
    NoDatabase { reason: String },
    /// A page contradicts the format, or itself, or its place in the tree.
    #[error("the database is damaged at page {page}: {reason}")]
    Page { page: u64, reason: String },
    /// The pages are well, but what is in them is not what etcd writes.
    #[error("bucket {bucket:?} holds what etcd does not write, at key {key}: {reason}")]
    Content { bucket: &'static str, key: String, reason: String },
    /// It does not fit in a database as etcd has it.
    #[error("a database can't hold {what}: {reason}")]
    Unwritable { what: String, reason: String },
    /// There is no such bucket.
    #[error("the database has no bucket {name:?}: it was not written by etcd v3")]
    MissingBucket { name: &'static str },
}

impl Error {
    pub(crate) fn page(page: u64, reason: impl Into<String>) -> Error {
        Error::Page { page, reason: reason.into() }
    }
}
