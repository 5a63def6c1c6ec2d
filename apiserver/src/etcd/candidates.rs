//! Who waits for a lock or stands for an election: keys below a prefix, in order of creation.
//!
//! A candidate's key is named by its lease and goes with it. The oldest key has what all wait for;
//! the others wait until every older one is gone.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use mainstay_engine::request::{
    Compare, CompareTarget, Comparison, DeleteRange, KeyRange, Operation, OperationResponse, Put,
    RangeRequest, RangeResponse, SortDirection, SortTarget, Transaction, TransactionResponse,
    WatchRequest,
};
use mainstay_engine::runtime::spawn_local;
use mainstay_engine::{LeaseId, Record, Revision, StoreError};
use mainstay_proto::kv::PutRequest;
use prost::Message;

use super::{Door, alarm, errors, limits, validate};
use crate::net::grpc::{Code, Status};

/// A place in line. Dropped before it is [`kept`](Candidate::keep), it is given up: whoever stops
/// waiting must not hold up those behind.
pub(super) struct Candidate {
    door: Rc<Door>,
    pub(super) key: Bytes,
    /// When the key was created.
    pub(super) created: Revision,
    /// The store's revision when the place was taken.
    pub(super) revision: Revision,
    pub(super) lease: LeaseId,
    /// What the key said before, if it was there already.
    pub(super) before: Option<Bytes>,
    kept: bool,
}

impl Candidate {
    /// Takes a place below `prefix`, or finds the one that this lease has. Lease 0 gets a new one,
    /// of a minute, that nobody renews.
    pub(super) async fn join(
        door: &Rc<Door>,
        prefix: &[u8],
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Candidate, Status> {
        let cost = if lease == 0 { alarm::lease_cost() } else { 0 };
        let longest = key_of(prefix, LeaseId::MIN);
        check_put(door, longest, &value, cost).await?;
        let lease = match lease {
            0 => {
                let granted = door.store.lease_grant(limits::CANDIDATE_TTL, 0).await;
                granted.map_err(from_store)?.0
            }
            lease => lease,
        };
        let key = key_of(prefix, lease);
        let existing = Operation::Range(RangeRequest::new(KeyRange::Single(key.clone())));
        let transaction = Transaction {
            failure: vec![existing],
            ..guarded(&key, 0, put(key.clone(), value, lease))
        };
        let answer = door.store.transact(transaction).await.map_err(from_store)?;
        let revision = answer.revision;
        let existing = match answer.responses.into_iter().next() {
            Some(OperationResponse::Range(range)) => range.records.into_iter().next(),
            _ => None,
        };
        let created = existing.as_ref().map_or(revision, Record::create_revision);
        let before = existing.map(|record| record.value_bytes());
        Ok(Candidate { door: door.clone(), key, created, revision, lease, before, kept: false })
    }

    /// Waits until no key below `prefix` is older than this one's.
    pub(super) async fn wait(&self, prefix: &[u8]) -> Result<(), Status> {
        let first = pin!(self.wait_for_older(prefix));
        match select(first, pin!(self.door.shutdown.requested())).await {
            Either::Left((result, _)) => result.map_err(from_store),
            Either::Right(_) => Err(errors::STOPPED.into()),
        }
    }

    async fn wait_for_older(&self, prefix: &[u8]) -> Result<(), StoreError> {
        loop {
            // The youngest of the older ones: those before it may go in any order.
            let older = RangeRequest {
                max_create_revision: self.created - 1,
                ..first(prefix, SortDirection::Descend)
            };
            let answer = self.door.store.range(older).await?;
            let Some(record) = answer.records.first() else { return Ok(()) };
            let key = Bytes::copy_from_slice(record.key());
            match wait_until_gone(&self.door, key, answer.revision + 1).await {
                // It may be gone already; look anew.
                Ok(()) | Err(StoreError::Compacted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The place is not given up when this is dropped.
    pub(super) fn keep(mut self) -> (Bytes, Revision) {
        self.kept = true;
        (std::mem::take(&mut self.key), self.created)
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (door, created) = (self.door.clone(), self.created);
        let key = std::mem::take(&mut self.key);
        spawn_local(async move {
            // If that fails the store is stopping, and the lease's end will do it.
            let _gone_with_its_lease = remove(&door, &key, created).await;
        });
    }
}

/// Waits until `key` is deleted, at `from` or later.
async fn wait_until_gone(door: &Door, key: Bytes, from: Revision) -> Result<(), StoreError> {
    let range = KeyRange::Single(key);
    let mut watcher = door
        .store
        .watch(WatchRequest {
            range,
            start_revision: from,
            previous: false,
            no_put: true,
            no_delete: false,
        })
        .await?;
    while watcher.next(limits::watch_batch_bytes()).await?.events.is_empty() {}
    Ok(())
}

/// Deletes a candidate's key, if it is still the one created at `created`. Gives the store's
/// revision.
pub(super) async fn remove(
    door: &Door,
    key: &Bytes,
    created: Revision,
) -> Result<Revision, Status> {
    door.check_write(0).await.map_err(|error| unknown(error.into()))?;
    let range = KeyRange::Single(key.clone());
    let deletion = Operation::DeleteRange(DeleteRange { range, previous: false });
    let transaction = guarded(key, created, deletion);
    Ok(door.store.transact(transaction).await.map_err(from_store)?.revision)
}

/// Writes a candidate's key, if it is still the one created at `created`.
pub(super) async fn rewrite(
    door: &Door,
    key: &Bytes,
    created: Revision,
    value: Bytes,
    lease: LeaseId,
) -> Result<TransactionResponse, Status> {
    check_put(door, key.clone(), &value, 0).await?;
    let transaction = guarded(key, created, put(key.clone(), value, lease));
    door.store.transact(transaction).await.map_err(from_store)
}

/// Whether a candidate's key may be written: as if its client had put it, with all that is asked of
/// a put. `cost` bytes more are taken for it.
async fn check_put(door: &Door, key: Bytes, value: &Bytes, cost: u64) -> Result<(), Status> {
    let request = PutRequest { key, value: value.clone(), ..PutRequest::default() };
    let checked = async {
        validate::size(request.encoded_len(), door.options.request_bytes)?;
        door.check_write(alarm::put_cost(&request) + cost).await
    };
    checked.await.map_err(|error| unknown(error.into()))
}

/// The oldest candidate below `prefix`: at most one record.
pub(super) async fn oldest(door: &Door, prefix: &[u8]) -> Result<RangeResponse, Status> {
    door.store.range(first(prefix, SortDirection::Ascend)).await.map_err(from_store)
}

/// The first below `prefix` by revision of creation.
fn first(prefix: &[u8], direction: SortDirection) -> RangeRequest {
    RangeRequest {
        limit: 1,
        sort: Some((SortTarget::Create, direction)),
        ..RangeRequest::new(KeyRange::prefix(prefix))
    }
}

/// `operation` if `key` was created at `created`; 0 if there is none.
fn guarded(key: &Bytes, created: Revision, operation: Operation) -> Transaction {
    let compare = Compare {
        range: KeyRange::Single(key.clone()),
        comparison: Comparison::Equal,
        target: CompareTarget::Create(created),
    };
    Transaction { compares: vec![compare], success: vec![operation], failure: Vec::new() }
}

fn put(key: Bytes, value: Bytes, lease: LeaseId) -> Operation {
    let (previous, ignore_value, ignore_lease) = (false, false, false);
    Operation::Put(Put { key, value, lease, previous, ignore_value, ignore_lease })
}

/// Below which keys the candidates for `name` are.
pub(super) fn prefix_of(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The key of a candidate: the prefix and the lease in hexadecimal.
pub(super) fn key_of(prefix: &[u8], lease: LeaseId) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// etcd's lock and election services are clients of its others, and pass on their texts alone.
pub(super) fn unknown(status: Status) -> Status {
    Status::new(Code::Unknown, status.message)
}

fn from_store(error: StoreError) -> Status {
    unknown(errors::from_store(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_their_leases() {
        for (name, lease, expected) in [
            ("n", 0x1234_abcd, "n/1234abcd"),
            ("", 1, "/1"),
            ("a/b", -16, "a/b/-10"),
            ("n", i64::MIN, "n/-8000000000000000"),
        ] {
            assert_eq!(key_of(&prefix_of(name.as_bytes()), lease), expected);
        }
    }
}
