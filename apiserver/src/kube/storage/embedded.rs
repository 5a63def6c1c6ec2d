//! The store in this process as storage.

use std::cell::RefCell;

use bytes::Bytes;
use mainstay_engine::request::{
    Compare, CompareTarget, Comparison, DeleteRange, Event, KeyRange, Operation, OperationResponse,
    Put, RangeRequest, Transaction, TransactionResponse, WatchRequest,
};
use mainstay_engine::runtime::timer;
use mainstay_engine::{Record, Store, StoreError, Watcher};

use super::leases::{SharedLease, granted_seconds};
use super::{
    Change, ChangeStream, Changes, LocalFuture, Page, Storage, StorageError, Stored, Write, Written,
};
use crate::kube::limits::WATCH_BATCH_BYTES;

/// This core's handle on the store.
pub struct Embedded {
    store: Store,
    shared_lease: RefCell<SharedLease>,
}

impl Embedded {
    pub fn new(store: Store) -> Embedded {
        Embedded { store, shared_lease: RefCell::default() }
    }

    /// The lease that an object of so many seconds is attached to; a new one at most once a minute.
    async fn lease_for(&self, ttl_seconds: i64) -> Result<i64, StoreError> {
        let now_ms = timer::monotonic_ms();
        if let Some(id) = self.shared_lease.borrow_mut().attach(ttl_seconds, now_ms) {
            return Ok(id);
        }
        let (id, _) = self.store.lease_grant(granted_seconds(ttl_seconds), 0).await?;
        self.shared_lease.borrow_mut().granted(id, ttl_seconds, now_ms);
        Ok(id)
    }

    async fn write_leased(&self, write: Write) -> Result<Written, StoreError> {
        let ttl_seconds = wanted_ttl_seconds(&write);
        if ttl_seconds == 0 {
            return self.store.transact(transaction(write, 0)).await.map(written);
        }
        let lease = self.lease_for(ttl_seconds).await?;
        match self.store.transact(transaction(write.clone(), lease)).await {
            // A client of the etcd door revoked it.
            Err(StoreError::LeaseNotFound(_)) => {
                self.shared_lease.borrow_mut().forget(lease);
                let lease = self.lease_for(ttl_seconds).await?;
                self.store.transact(transaction(write, lease)).await.map(written)
            }
            result => result.map(written),
        }
    }
}

/// A deletion leaves nothing that could end by itself.
fn wanted_ttl_seconds(write: &Write) -> i64 {
    if write.value.is_some() { write.ttl_seconds } else { 0 }
}

impl Storage for Embedded {
    fn get<'a>(
        &'a self,
        key: &'a [u8],
    ) -> LocalFuture<'a, Result<(Option<Stored>, i64), StorageError>> {
        Box::pin(async move {
            let request = RangeRequest::new(KeyRange::Single(Bytes::copy_from_slice(key)));
            let response = self.store.range(request).await.map_err(refusal)?;
            Ok((response.records.first().map(stored), response.revision))
        })
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        start: &'a [u8],
        limit: usize,
        revision: i64,
    ) -> LocalFuture<'a, Result<Page, StorageError>> {
        Box::pin(async move {
            let mut range = KeyRange::prefix(prefix);
            if let KeyRange::Interval { start: first, .. } = &mut range
                && start > &first[..]
            {
                *first = Bytes::copy_from_slice(start);
            }
            let request = RangeRequest { limit, revision, ..RangeRequest::new(range) };
            let response = self.store.range(request).await.map_err(refusal)?;
            let items: Vec<Stored> = response.records.iter().map(stored).collect();
            let remaining = response.count.saturating_sub(items.len());
            Ok(Page { revision: response.revision, items, remaining })
        })
    }

    fn write(&self, write: Write) -> LocalFuture<'_, Result<Written, StorageError>> {
        Box::pin(async move { self.write_leased(write).await.map_err(refusal) })
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a [u8],
        single: bool,
        start_revision: i64,
    ) -> LocalFuture<'a, Result<Box<dyn ChangeStream>, StorageError>> {
        Box::pin(async move {
            let range = if single {
                KeyRange::Single(Bytes::copy_from_slice(prefix))
            } else {
                KeyRange::prefix(prefix)
            };
            let request = WatchRequest {
                range,
                start_revision,
                previous: true,
                no_put: false,
                no_delete: false,
            };
            let watcher = self.store.watch(request).await.map_err(refusal)?;
            Ok(Box::new(EmbeddedChanges { watcher }) as Box<dyn ChangeStream>)
        })
    }

    fn revision(&self) -> i64 {
        self.store.revision()
    }

    fn compact(&self, revision: i64) -> LocalFuture<'_, Result<(), StorageError>> {
        Box::pin(
            async move { self.store.compact(revision, false).await.map(drop).map_err(refusal) },
        )
    }
}

/// Write if the key still has the expected revision, else read what is there.
fn transaction(write: Write, lease: i64) -> Transaction {
    let range = KeyRange::Single(write.key.clone());
    let operation = match write.value {
        Some(value) => Operation::Put(Put {
            key: write.key,
            value,
            lease,
            previous: false,
            ignore_value: false,
            ignore_lease: false,
        }),
        None => Operation::DeleteRange(DeleteRange { range: range.clone(), previous: false }),
    };
    Transaction {
        compares: vec![Compare {
            range: range.clone(),
            comparison: Comparison::Equal,
            target: CompareTarget::Mod(write.expected_revision),
        }],
        success: vec![operation],
        failure: vec![Operation::Range(RangeRequest::new(range))],
    }
}

fn written(response: TransactionResponse) -> Written {
    if response.succeeded {
        return Written::Done(response.revision);
    }
    let found = response.responses.iter().find_map(|answer| match answer {
        OperationResponse::Range(range) => range.records.first().map(stored),
        _ => None,
    });
    Written::Lost(found)
}

struct EmbeddedChanges {
    watcher: Watcher,
}

impl ChangeStream for EmbeddedChanges {
    fn next(&mut self) -> LocalFuture<'_, Result<Changes, StorageError>> {
        Box::pin(async move {
            let batch = self.watcher.next(WATCH_BATCH_BYTES).await.map_err(refusal)?;
            let changes: Result<Vec<Change>, StorageError> =
                batch.events.iter().map(change).collect();
            Ok(Changes { revision: batch.revision, changes: changes? })
        })
    }

    fn synced_revision(&self) -> Option<i64> {
        self.watcher.synced_revision()
    }
}

/// A change is nothing without what was there before: whether it matches a selection is a question
/// of both. What was there may be compacted by the time that a slow watcher is told; it must then
/// begin anew, as if the change itself were compacted.
fn change(event: &Event) -> Result<Change, StorageError> {
    let record = &event.record;
    let had_previous = record.is_tombstone() || record.version() > 1;
    if had_previous && event.previous.is_none() {
        return Err(StorageError::Compacted { oldest: record.mod_revision() });
    }
    Ok(Change {
        key: Bytes::copy_from_slice(record.key()),
        revision: record.mod_revision(),
        value: (!record.is_tombstone()).then(|| record.value_bytes()),
        previous: event.previous.as_ref().map(Record::value_bytes),
    })
}

fn stored(record: &Record) -> Stored {
    Stored {
        key: Bytes::copy_from_slice(record.key()),
        value: record.value_bytes(),
        revision: record.mod_revision(),
    }
}

fn refusal(error: StoreError) -> StorageError {
    match error {
        StoreError::Compacted { compacted, .. } => StorageError::Compacted { oldest: compacted },
        StoreError::FutureRevision { requested, current } => {
            StorageError::Future { requested, current }
        }
        StoreError::TooManyRequests => StorageError::Busy,
        // In the words that operators of an API server with an etcd know.
        StoreError::NoSpace => {
            StorageError::Unavailable("etcdserver: mvcc: database space exceeded".to_owned())
        }
        StoreError::Corrupt => StorageError::Unavailable("etcdserver: corrupt cluster".to_owned()),
        other => StorageError::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_whose_past_is_compacted_is_compacted_too() {
        let record =
            |create, revision, version| Record::new(b"k", b"v", create, revision, version, 0);
        let old = record(5, 5, 1);
        let compacted = Err(StorageError::Compacted { oldest: 7 });
        for (record, previous, expected) in [
            (record(7, 7, 1), None, Ok((true, false))),
            (record(5, 7, 2), Some(old.clone()), Ok((true, true))),
            (record(5, 7, 2), None, compacted.clone()),
            (Record::tombstone(b"k", 7), Some(old), Ok((false, true))),
            (Record::tombstone(b"k", 7), None, compacted),
        ] {
            let seen = change(&Event { record, previous });
            let seen = seen.map(|change| (change.value.is_some(), change.previous.is_some()));
            assert_eq!(seen, expected);
        }
    }
    #[test]
    fn only_a_value_is_leased() {
        for (value, ttl_seconds, expected) in
            [(Some(Bytes::new()), 3600, 3600), (Some(Bytes::new()), 0, 0), (None, 3600, 0)]
        {
            let write = Write { key: Bytes::new(), expected_revision: 0, value, ttl_seconds };
            assert_eq!(wanted_ttl_seconds(&write), expected);
        }
    }
}
