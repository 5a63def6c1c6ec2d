//! Storage in a map, for tests: every future is ready at once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ChangeStream, LocalFuture, Page, Storage, StorageError, Stored, Write, Written};

/// The versions of a key, oldest first; no value is a deletion.
type Versions = Vec<(i64, Option<Bytes>)>;

#[derive(Default)]
pub struct Memory(RefCell<State>);

#[derive(Default)]
struct State {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Bytes, Versions>,
}

impl State {
    fn at(&self, key: &[u8], revision: i64) -> Option<Stored> {
        let (key, versions) = self.keys.get_key_value(key)?;
        let (revision, value) = versions.iter().rev().find(|(own, _)| *own <= revision)?;
        let value = value.clone()?;
        Some(Stored { key: key.clone(), value, revision: *revision })
    }
}

fn ready<'a, T: 'a>(value: T) -> LocalFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Storage for Memory {
    fn get<'a>(
        &'a self,
        key: &'a [u8],
    ) -> LocalFuture<'a, Result<(Option<Stored>, i64), StorageError>> {
        let state = self.0.borrow();
        ready(Ok((state.at(key, i64::MAX), state.revision)))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        start: &'a [u8],
        limit: usize,
        revision: i64,
    ) -> LocalFuture<'a, Result<Page, StorageError>> {
        let state = self.0.borrow();
        if revision > state.revision {
            let current = state.revision;
            return ready(Err(StorageError::Future { requested: revision, current }));
        }
        if revision > 0 && revision < state.compacted {
            return ready(Err(StorageError::Compacted { oldest: state.compacted }));
        }
        let at = if revision == 0 { state.revision } else { revision };
        let keys = state.keys.keys().filter(|key| key.starts_with(prefix) && &key[..] >= start);
        let mut items: Vec<Stored> = keys.filter_map(|key| state.at(key, at)).collect();
        let count = items.len();
        items.truncate(if limit == 0 { usize::MAX } else { limit });
        let remaining = count - items.len();
        ready(Ok(Page { revision: state.revision, items, remaining }))
    }

    fn write(&self, write: Write) -> LocalFuture<'_, Result<Written, StorageError>> {
        let mut state = self.0.borrow_mut();
        let found = state.at(&write.key, i64::MAX);
        if found.as_ref().map_or(0, |found| found.revision) != write.expected_revision {
            return ready(Ok(Written::Lost(found)));
        }
        state.revision += 1;
        let revision = state.revision;
        state.keys.entry(write.key).or_default().push((revision, write.value));
        ready(Ok(Written::Done(revision)))
    }

    fn watch<'a>(
        &'a self,
        _prefix: &'a [u8],
        _single: bool,
        _start_revision: i64,
    ) -> LocalFuture<'a, Result<Box<dyn ChangeStream>, StorageError>> {
        ready(Err(StorageError::Unavailable("a map is not watched".to_owned())))
    }

    fn revision(&self) -> i64 {
        self.0.borrow().revision
    }

    fn compact(&self, revision: i64) -> LocalFuture<'_, Result<(), StorageError>> {
        self.0.borrow_mut().compacted = revision;
        ready(Ok(()))
    }
}
