//! Where objects are kept: a small trait (get, range, transact, watch) that the store in this
//! process implements, the layout of keys, and objects as stored bytes.

pub mod continue_token;
pub mod embedded;
pub mod keys;
mod leases;
#[cfg(test)]
pub mod memory;
pub mod value;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

/// A future of this core.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One stored version of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub key: Bytes,
    pub value: Bytes,
    /// The resourceVersion.
    pub revision: i64,
}

/// Stored objects in order of their keys, at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The newest revision when it was read.
    pub revision: i64,
    pub items: Vec<Stored>,
    /// How many keys the range holds beyond `items`.
    pub remaining: usize,
}

/// A write that happens only if nothing happened to the key before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub key: Bytes,
    /// 0: the key must not exist. Otherwise the revision that it must still have.
    pub expected_revision: i64,
    /// `None` deletes.
    pub value: Option<Bytes>,
    /// Seconds until the store may delete the key by itself, which it does soon after; 0 for never.
    pub ttl_seconds: i64,
}

/// What became of a [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The revision of the write.
    Done(i64),
    /// Somebody was faster: this is there now.
    Lost(Option<Stored>),
}

/// One change, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Bytes,
    pub revision: i64,
    /// `None` for a deletion.
    pub value: Option<Bytes>,
    /// The value before; `None` when the key was new.
    pub previous: Option<Bytes>,
}

/// Changes in order of their revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Everything up to this revision has been handed out.
    pub revision: i64,
    pub changes: Vec<Change>,
}

/// Why the storage refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The revision is older than the history that is kept.
    #[error("The resourceVersion for the provided list is too old.")]
    Compacted { oldest: i64 },
    #[error("Too large resource version: {requested}, current: {current}")]
    Future { requested: i64, current: i64 },
    #[error("too many requests, please try again later")]
    Busy,
    #[error("{0}")]
    Unavailable(String),
}

/// A cursor over changes.
pub trait ChangeStream {
    /// The next changes; waits while there are none. Safe to drop and call again.
    fn next(&mut self) -> LocalFuture<'_, Result<Changes, StorageError>>;

    /// The revision up to which everything was handed out, when nothing more waits.
    fn synced_revision(&self) -> Option<i64>;
}

/// Where objects are kept.
pub trait Storage {
    fn get<'a>(
        &'a self,
        key: &'a [u8],
    ) -> LocalFuture<'a, Result<(Option<Stored>, i64), StorageError>>;

    /// At most `limit` (0 for all) objects with keys from `start` on that begin with `prefix`, at
    /// `revision` (0 for the newest).
    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        start: &'a [u8],
        limit: usize,
        revision: i64,
    ) -> LocalFuture<'a, Result<Page, StorageError>>;

    fn write(&self, write: Write) -> LocalFuture<'_, Result<Written, StorageError>>;

    /// Changes of keys that begin with `prefix` (or of that one key, when `single`), from
    /// `start_revision` on.
    fn watch<'a>(
        &'a self,
        prefix: &'a [u8],
        single: bool,
        start_revision: i64,
    ) -> LocalFuture<'a, Result<Box<dyn ChangeStream>, StorageError>>;

    /// The newest revision.
    fn revision(&self) -> i64;

    /// Forgets history up to and including `revision`.
    fn compact(&self, revision: i64) -> LocalFuture<'_, Result<(), StorageError>>;
}
