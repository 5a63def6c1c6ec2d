//! The handle by which doors ask the store.

use std::rc::Rc;

use bytes::Bytes;

use crate::error::StoreError;
use crate::record::{LeaseId, Revision};
use crate::request::{
    LeaseStatus, RangeRequest, RangeResponse, Transaction, TransactionResponse, WatchBatch,
    WatchRequest,
};

/// One core's handle. Cheap to clone, never leaves its core.
///
/// Every answer is as durable as promised before it is given, and shows committed state alone.
#[derive(Clone)]
pub struct Store(Rc<()>);

/// Facts about the store, for status pages and metrics.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    pub revision: Revision,
    pub compacted_revision: Revision,
    pub raft_index: u64,
    pub raft_term: u64,
    pub cluster_id: u64,
    pub member_id: u64,
    /// Bytes that the data directory holds.
    pub disk_bytes: u64,
    /// Bytes of live keys and values in memory.
    pub live_bytes: u64,
    pub keys: u64,
    pub watchers: u64,
    pub leases: u64,
}

impl Store {
    /// Reads keys at one revision.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let _ = request;
        todo!()
    }

    /// Evaluates and commits a transaction; put and delete are transactions of one operation.
    pub async fn transact(
        &self,
        transaction: Transaction,
    ) -> Result<TransactionResponse, StoreError> {
        let _ = transaction;
        todo!()
    }

    /// Forgets history up to and including `revision`; with `physical`, answers when the memory
    /// is free again. Gives the store's revision.
    pub async fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> Result<Revision, StoreError> {
        let _ = (revision, physical);
        todo!()
    }

    /// Starts to watch. The watch sees every event after the answer's revision, or from
    /// `start_revision` on; an error when that is compacted.
    pub async fn watch(&self, request: WatchRequest) -> Result<Watcher, StoreError> {
        let _ = request;
        todo!()
    }

    /// Grants a lease of `ttl` seconds; `id` 0 lets the store choose. Gives id and TTL granted.
    pub async fn lease_grant(&self, ttl: i64, id: LeaseId) -> Result<(LeaseId, i64), StoreError> {
        let _ = (ttl, id);
        todo!()
    }

    /// Ends a lease and deletes its keys. Gives the store's revision.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        let _ = id;
        todo!()
    }

    /// Gives a lease its whole time again. Gives the TTL granted.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        let _ = id;
        todo!()
    }

    pub async fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseStatus, StoreError> {
        let _ = (id, keys);
        todo!()
    }

    /// All leases, in order of id.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        todo!()
    }

    /// The newest committed revision.
    pub fn revision(&self) -> Revision {
        todo!()
    }

    pub fn status(&self) -> StoreStatus {
        todo!()
    }

    /// State that a door keeps beside the keys (by name, not visible to clients), newest content.
    pub async fn document(&self, name: &[u8]) -> Option<Bytes> {
        let _ = name;
        todo!()
    }

    pub async fn put_document(&self, name: &[u8], content: Bytes) -> Result<(), StoreError> {
        let _ = (name, content);
        todo!()
    }
}

/// A cursor into the store's history.
pub struct Watcher(());

impl Watcher {
    /// The store's revision when the watch began: with no start revision, the first event is later.
    pub fn created_revision(&self) -> Revision {
        todo!()
    }

    /// The next events, in revision order, at most about `max_bytes` of them (whole revisions, at
    /// least one). Waits while there are none. Safe to drop and call again: nothing is lost.
    ///
    /// `Err(Compacted)` when the watcher is so slow that what it needs next has been compacted.
    pub async fn next(&mut self, max_bytes: usize) -> Result<WatchBatch, StoreError> {
        let _ = max_bytes;
        todo!()
    }

    /// The revision up to which everything has been handed out by [`next`](Watcher::next), when the
    /// watcher is level with the store; `None` while there is something to deliver. What a progress
    /// notification may say.
    pub fn synced_revision(&self) -> Option<Revision> {
        todo!()
    }
}
