//! The handle by which doors ask the store.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::core::CoreState;
use super::random;
use super::start::Identity;
use crate::cluster::{MemberChange, MemberInfo, MemberUpdate};
use crate::durations::DurationCounts;
use crate::error::StoreError;
use crate::message::{Answer, Request};
use crate::record::{LeaseId, Revision};
use crate::request::{
    HashKv, LeaseStatus, PrefixUsage, RangeRequest, RangeResponse, Transaction,
    TransactionResponse, WatchRequest,
};

pub use super::watcher::Watcher;

/// One core's handle. Cheap to clone, never leaves its core.
///
/// Every answer is as durable as promised before it is given, and shows committed state alone.
#[derive(Clone)]
pub struct Store(Rc<Handle>);

struct Handle {
    core: Rc<CoreState>,
    identity: Identity,
    /// Cores whose door has not returned yet.
    doors_open: Arc<AtomicUsize>,
}

/// Facts about the store, for status pages and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    pub revision: Revision,
    pub compacted_revision: Revision,
    /// Of the newest committed entry of the log.
    pub raft_index: u64,
    /// Up to here the state shows what is committed.
    pub raft_applied_index: u64,
    pub raft_term: u64,
    pub cluster_id: u64,
    pub member_id: u64,
    /// Who leads, as far as this member knows; 0 for nobody.
    pub leader: u64,
    /// Whether this member has no vote yet.
    pub is_learner: bool,
    /// How often this member has seen somebody begin to lead.
    pub leader_changes: u64,
    /// Bytes of the log that are in use: history since the last snapshot that was not needed.
    pub log_bytes: u64,
    /// How long batches took from being handed to the log until they were durable.
    pub log_times: DurationCounts,
    /// Bytes of batches that became durable since the start.
    pub logged_bytes: u64,
    /// Revisions that are taken and not yet committed.
    pub uncommitted_revisions: u64,
    /// Bytes of live keys and values in memory.
    pub live_bytes: u64,
    /// Live bytes from which on nothing may be added; 0 for no limit.
    pub quota_bytes: u64,
    /// Nothing may be added: the quota is reached or the disk full.
    pub no_space: bool,
    pub keys: u64,
    pub watchers: u64,
    pub leases: u64,
}

/// Unpacks the one variant that a request is answered with.
macro_rules! answer {
    ($outcome:expr, $pattern:pat => $value:expr) => {
        match $outcome? {
            $pattern => Ok($value),
            other => unreachable!("the wrong answer: {other:?}"),
        }
    };
}

impl Store {
    pub(super) fn new(
        core: Rc<CoreState>,
        identity: Identity,
        doors_open: Arc<AtomicUsize>,
    ) -> Store {
        Store(Rc::new(Handle { core, identity, doors_open }))
    }

    pub(super) fn core(&self) -> &Rc<CoreState> {
        &self.0.core
    }

    pub(super) fn doors_open(&self) -> &AtomicUsize {
        &self.0.doors_open
    }

    /// Reads keys at one revision.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        answer!(self.core().ask(Request::Range(request)).await, Answer::Range(response) => response)
    }

    /// One number for everything that lived at `revision` (0: the newest committed one). Members
    /// that hold the same have the same one. Takes slices, so it holds no core for long.
    ///
    /// # Errors
    /// `Compacted` and `FutureRevision`.
    pub async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        let request = Request::HashKv { revision };
        answer!(self.core().ask(request).await, Answer::HashKv(hash) => hash)
    }

    /// Which prefixes of `depth` levels (`/registry/pods/` has two) take most: the `top` largest,
    /// by bytes of live keys and values. Looks at every key, in slices.
    ///
    /// # Errors
    /// `TooManyRequests`.
    pub async fn usage_by_prefix(
        &self,
        depth: usize,
        top: usize,
    ) -> Result<Vec<PrefixUsage>, StoreError> {
        let request = Request::Usage { depth, top };
        answer!(self.core().ask(request).await, Answer::Usage(usage) => usage)
    }

    /// Evaluates and commits a transaction; put and delete are transactions of one operation.
    pub async fn transact(
        &self,
        transaction: Transaction,
    ) -> Result<TransactionResponse, StoreError> {
        let request = Request::Transact(transaction);
        answer!(self.core().ask(request).await, Answer::Transact(response) => response)
    }

    /// Forgets history up to and including `revision`; with `physical`, answers when the memory
    /// is free again. Gives the store's revision.
    pub async fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> Result<Revision, StoreError> {
        let request = Request::Compact { revision, physical };
        answer!(self.core().ask(request).await, Answer::Revision(revision) => revision)
    }

    /// Starts to watch. The watch sees every event after the answer's revision, or from
    /// `start_revision` on; an error when that is compacted.
    pub async fn watch(&self, request: WatchRequest) -> Result<Watcher, StoreError> {
        Watcher::start(Rc::clone(self.core()), request)
    }

    /// Grants a lease of `ttl` seconds; `id` 0 lets the store choose. Gives id and TTL granted.
    pub async fn lease_grant(&self, ttl: i64, id: LeaseId) -> Result<(LeaseId, i64), StoreError> {
        let random = random().unwrap_or(1) as LeaseId;
        let request = Request::LeaseGrant { id, ttl, random };
        answer!(self.core().ask(request).await, Answer::LeaseGranted { id, ttl } => (id, ttl))
    }

    /// Ends a lease and deletes its keys. Gives the store's revision.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        let request = Request::LeaseRevoke { id };
        answer!(self.core().ask(request).await, Answer::Revision(revision) => revision)
    }

    /// Gives a lease its whole time again. Gives the TTL granted.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64, StoreError> {
        let request = Request::LeaseKeepAlive { id };
        answer!(self.core().ask(request).await, Answer::TimeToLive(ttl) => ttl)
    }

    pub async fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseStatus, StoreError> {
        let request = Request::LeaseTimeToLive { id, keys };
        answer!(self.core().ask(request).await, Answer::LeaseStatus(status) => status)
    }

    /// All leases, in order of id.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        answer!(self.core().ask(Request::Leases).await, Answer::Leases(leases) => leases)
    }

    /// From so many bytes of live keys and values on, whatever adds to them is refused with
    /// `NoSpace`; 0 for no limit. Holds for the whole store, until it stops.
    pub fn set_quota_bytes(&self, bytes: u64) {
        self.core().shared().set_quota_bytes(bytes);
    }

    /// Whether clients' writes are refused with `Corrupt`, whoever asks for them. Documents are
    /// written on. Holds for the whole store, until it stops.
    pub fn set_corrupt(&self, corrupt: bool) {
        self.core().shared().set_corrupt(corrupt);
    }

    /// Bytes of live keys and values, committed or not, on all cores.
    pub fn live_bytes(&self) -> u64 {
        self.core().shared().live_bytes()
    }

    /// The newest committed revision.
    pub fn revision(&self) -> Revision {
        self.core().shared().committed_revision()
    }

    /// The newest revision that this core's watchers can have seen: at most a moment behind
    /// [`revision`](Store::revision).
    pub fn published_revision(&self) -> Revision {
        self.core().drive(|replica, _| replica.hub().revision())
    }

    /// Facts of this moment. Counts of other cores may be half a second old.
    pub fn status(&self) -> StoreStatus {
        self.core().refresh_facts();
        let shared = self.core().shared();
        let mut status = StoreStatus {
            revision: shared.committed_revision(),
            compacted_revision: shared.compacted_revision(),
            raft_index: shared.committed_index(),
            raft_applied_index: shared.committed_index(),
            raft_term: shared.committed_term(),
            cluster_id: self.0.identity.cluster_id,
            member_id: self.0.identity.member_id,
            leader: self.leader(),
            is_learner: self.is_learner(),
            leader_changes: self.leader_changes(),
            log_bytes: self.core().history.log_bytes(),
            quota_bytes: shared.quota_bytes(),
            no_space: shared.no_space(),
            log_times: shared.log_times(),
            logged_bytes: shared.logged_bytes(),
            uncommitted_revisions: (shared.taken_revision() - shared.committed_revision()).max(0)
                as u64,
            ..StoreStatus::default()
        };
        for facts in shared.facts() {
            status.keys += facts.keys.load(Ordering::Relaxed);
            status.live_bytes += facts.live_bytes.load(Ordering::Relaxed);
            status.watchers += facts.watchers.load(Ordering::Relaxed);
            status.leases += facts.leases.load(Ordering::Relaxed);
        }
        status
    }

    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.0.identity.member_id
    }

    /// The member that leads, as far as this one knows; 0 for nobody.
    pub fn leader(&self) -> u64 {
        match self.is_leader() {
            true => self.member_id(),
            false => self.core().shared().leader(),
        }
    }

    /// Whether this member leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.core().shared().is_leader()
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        self.core().shared().is_learner()
    }

    /// How often another member, or none, has become the leader.
    pub fn leader_changes(&self) -> u64 {
        self.core().shared().leader_changes()
    }

    /// Everybody, in order of id; with `linearizable`, as a quorum knows it.
    ///
    /// # Errors
    /// `NoLeader` and `TimedOut`, if it is to be linearizable.
    pub async fn members(&self, linearizable: bool) -> Result<Vec<MemberInfo>, StoreError> {
        let request = Request::Members { linearizable };
        answer!(self.core().ask(request).await, Answer::Members(members) => members)
    }

    /// Changes who is a member, if the leader finds nothing against it. Gives everybody, as of then.
    ///
    /// # Errors
    /// Those of [`check_change`](crate::reconfiguration::check_change), and `LeaderChanged`.
    pub async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<Vec<MemberInfo>, StoreError> {
        let request = Request::ChangeMember(change);
        answer!(self.core().ask(request).await, Answer::Members(members) => members)
    }

    /// Changes what is known of a member. Gives everybody, as of then.
    ///
    /// # Errors
    /// Those of [`check_update`](crate::reconfiguration::check_update), and `LeaderChanged`.
    pub async fn update_member(&self, update: MemberUpdate) -> Result<Vec<MemberInfo>, StoreError> {
        let request = Request::UpdateMember(update);
        answer!(self.core().ask(request).await, Answer::Members(members) => members)
    }

    /// Hands the lead over to another voter; answers when that one leads.
    ///
    /// # Errors
    /// `NotLeader`, `BadTransferee`, `TimedOut`.
    pub async fn move_leader(&self, to: u64) -> Result<(), StoreError> {
        answer!(self.core().ask(Request::MoveLeader { to }).await, Answer::Done => ())
    }

    /// Bytes of the files that the data directory's log and snapshots are in, key indexes and spare
    /// segments included. The file system is asked, on a thread that may block.
    pub async fn disk_bytes(&self) -> u64 {
        let history = self.core().history.clone();
        super::blocking(move || history.disk_bytes_blocking()).await
    }

    /// State that a door keeps beside the keys (by name, not visible to clients), newest content.
    pub async fn document(&self, name: &[u8]) -> Option<Bytes> {
        self.core().document(Bytes::copy_from_slice(name)).await
    }

    /// A number that is another one after any document has changed: one atomic load. It changes
    /// before the change is acknowledged, and [`document`](Store::document) then gives the new content.
    pub fn documents_version(&self) -> u64 {
        self.core().shared().documents_version()
    }

    pub async fn put_document(&self, name: &[u8], content: Bytes) -> Result<(), StoreError> {
        let name = Bytes::copy_from_slice(name);
        let request = Request::PutDocument { name, content, expected: None };
        answer!(self.core().ask(request).await, Answer::Done => ())
    }

    /// [`put_document`](Store::put_document), if the document is `expected` (`None`: not there).
    ///
    /// # Errors
    /// `DocumentChanged` if it is not, or if another change of it is under way.
    pub async fn swap_document(
        &self,
        name: &[u8],
        expected: Option<Bytes>,
        content: Bytes,
    ) -> Result<(), StoreError> {
        let name = Bytes::copy_from_slice(name);
        let request = Request::PutDocument { name, content, expected: Some(expected) };
        answer!(self.core().ask(request).await, Answer::Done => ())
    }
}
