//! The few numbers that all cores of one store share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::durations::{DurationCounts, Durations};
use crate::limits;
use crate::mvcc::Usage;
use crate::record::Revision;

/// Counters of one store. Everything else travels in messages.
#[derive(Debug)]
pub struct Shared {
    /// The newest revision that an evaluation has taken.
    taken: AtomicI64,
    /// Everything up to here is committed: what a linearizable read has to show.
    committed: AtomicI64,
    /// Raft's index of the newest committed batch.
    committed_index: AtomicU64,
    committed_term: AtomicU64,
    compacted: AtomicI64,
    /// Counts the changes of documents, so that a door can keep what it made of one.
    documents_version: AtomicU64,
    /// Bytes of effects taken and not yet committed.
    uncommitted_bytes: AtomicUsize,
    /// There is no room for another segment of the log.
    disk_is_full: AtomicBool,
    /// Bytes of live keys and values from which on nothing may be added; 0 for no limit.
    quota_bytes: AtomicU64,
    is_corrupt: AtomicBool,
    /// The member that leads, as far as this one knows; 0 for none.
    leader: AtomicU64,
    leader_changes: AtomicU64,
    /// This member's id.
    member: AtomicU64,
    is_learner: AtomicBool,
    /// There are other members, or were since the start.
    is_clustered: AtomicBool,
    /// How long batches take from being handed to the log until they are durable.
    log_times: Durations,
    /// Bytes of batches handed to the log.
    logged_bytes: AtomicU64,
    /// By core: whether it wants to be woken for a committed batch.
    interested: Vec<AtomicBool>,
    /// By core: facts for status pages, refreshed at leisure.
    facts: Vec<CoreFacts>,
}

/// What one core contributes to the store's status.
#[derive(Debug, Default)]
pub struct CoreFacts {
    pub keys: AtomicU64,
    pub live_bytes: AtomicU64,
    pub watchers: AtomicU64,
    pub leases: AtomicU64,
}

impl CoreFacts {
    /// Takes note of what the core's keys take.
    pub fn note(&self, usage: Usage) {
        self.keys.store(usage.live_keys as u64, Ordering::Relaxed);
        self.live_bytes.store(usage.live_bytes as u64, Ordering::Relaxed);
    }
}

impl Shared {
    /// For `cores` cores, behind what the log held.
    pub fn new(cores: usize, revision: Revision, compacted: Revision, index: u64) -> Shared {
        Shared {
            taken: AtomicI64::new(revision),
            committed: AtomicI64::new(revision),
            committed_index: AtomicU64::new(index),
            committed_term: AtomicU64::new(0),
            compacted: AtomicI64::new(compacted),
            documents_version: AtomicU64::new(0),
            uncommitted_bytes: AtomicUsize::new(0),
            disk_is_full: AtomicBool::new(false),
            quota_bytes: AtomicU64::new(0),
            is_corrupt: AtomicBool::new(false),
            leader: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            member: AtomicU64::new(0),
            is_learner: AtomicBool::new(false),
            is_clustered: AtomicBool::new(false),
            log_times: Durations::new(),
            logged_bytes: AtomicU64::new(0),
            interested: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            facts: (0..cores).map(|_| CoreFacts::default()).collect(),
        }
    }

    pub fn cores(&self) -> usize {
        self.facts.len()
    }

    /// Goes on behind a later revision than the log's last one.
    pub fn skip_to(&self, revision: Revision) {
        self.taken.fetch_max(revision, Ordering::SeqCst);
    }

    /// Takes the next revision. Called while evaluating, when there is a change to give it to.
    pub fn take_revision(&self) -> Revision {
        self.taken.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn taken_revision(&self) -> Revision {
        self.taken.load(Ordering::SeqCst)
    }

    pub fn committed_revision(&self) -> Revision {
        self.committed.load(Ordering::SeqCst)
    }

    pub fn committed_index(&self) -> u64 {
        self.committed_index.load(Ordering::SeqCst)
    }

    pub fn committed_term(&self) -> u64 {
        self.committed_term.load(Ordering::Relaxed)
    }

    pub fn compacted_revision(&self) -> Revision {
        self.compacted.load(Ordering::SeqCst)
    }

    /// A batch is committed. Before any core hears of it, so that whoever reads after an answer
    /// reads at a revision that includes it.
    pub fn set_committed(&self, revision: Revision, index: u64, term: u64) {
        let before = self.committed.swap(revision, Ordering::SeqCst);
        assert!(before <= revision && revision <= self.taken_revision());
        self.committed_index.store(index, Ordering::SeqCst);
        self.committed_term.store(term, Ordering::Relaxed);
    }

    pub fn set_compacted(&self, revision: Revision) {
        self.compacted.fetch_max(revision, Ordering::SeqCst);
    }

    /// A number that is another one after any document has changed.
    pub fn documents_version(&self) -> u64 {
        self.documents_version.load(Ordering::SeqCst)
    }

    /// A change of a document is committed, and core 0 gives out the new content. Before the change
    /// is acknowledged: whoever hears of it finds every core knowing.
    pub fn document_changed(&self) {
        self.documents_version.fetch_add(1, Ordering::SeqCst);
    }

    pub fn add_uncommitted(&self, bytes: usize) {
        self.uncommitted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn remove_uncommitted(&self, bytes: usize) {
        let before = self.uncommitted_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "committed more than was taken");
    }

    /// Whether so much waits for the disk that new writes have to be refused.
    pub fn is_overloaded(&self) -> bool {
        let open = self.taken.load(Ordering::Relaxed) - self.committed.load(Ordering::Relaxed);
        open > limits::UNCOMMITTED_REVISIONS
            || self.uncommitted_bytes.load(Ordering::Relaxed) > limits::UNCOMMITTED_BYTES
    }

    /// Whether the disk has no room for more, so that whatever adds to the store is refused.
    pub fn disk_is_full(&self) -> bool {
        self.disk_is_full.load(Ordering::Relaxed)
    }

    /// Gives what it was before.
    pub fn set_disk_is_full(&self, full: bool) -> bool {
        self.disk_is_full.swap(full, Ordering::Relaxed)
    }

    /// Bytes of live keys and values from which on whatever adds to the store is refused; 0 for no
    /// limit.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes.load(Ordering::Relaxed)
    }

    pub fn set_quota_bytes(&self, bytes: u64) {
        self.quota_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether nothing may be written, because the data is said not to be what it should be.
    pub fn is_corrupt(&self) -> bool {
        self.is_corrupt.load(Ordering::Relaxed)
    }

    pub fn set_corrupt(&self, corrupt: bool) {
        self.is_corrupt.store(corrupt, Ordering::Relaxed);
    }

    /// The member that leads, as far as this one knows; 0 for none.
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    /// Whether this member leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        let leader = self.leader();
        leader != 0 && leader == self.member.load(Ordering::Relaxed)
    }

    /// How often another member, or none, has become the leader.
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// This member's id; 0 before it is known.
    pub fn member(&self) -> u64 {
        self.member.load(Ordering::Relaxed)
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    /// Whether there are other members, or were since the start: reads have to ask around.
    pub fn is_clustered(&self) -> bool {
        self.is_clustered.load(Ordering::SeqCst)
    }

    pub(crate) fn set_clustered(&self) {
        self.is_clustered.store(true, Ordering::SeqCst);
    }

    /// Who is who now.
    pub(crate) fn set_roles(&self, member: u64, leader: u64, learner: bool) {
        self.member.store(member, Ordering::Relaxed);
        self.is_learner.store(learner, Ordering::Relaxed);
        if self.leader.swap(leader, Ordering::Relaxed) != leader {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was taken and not committed is undone on all cores, none of which takes any more.
    pub(crate) fn take_back(&self) {
        self.taken.store(self.committed_revision(), Ordering::SeqCst);
        self.uncommitted_bytes.store(0, Ordering::Relaxed);
    }

    /// Bytes of live keys and values, committed or not, on all cores.
    pub fn live_bytes(&self) -> u64 {
        self.facts.iter().map(|facts| facts.live_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Whether there is no room for more, on the disk or below the quota. It is again as soon as
    /// something was deleted, or the quota raised.
    pub fn no_space(&self) -> bool {
        let quota = self.quota_bytes();
        self.disk_is_full() || (quota > 0 && self.live_bytes() >= quota)
    }

    /// Says whether `core` waits for commits. Sequentially consistent with
    /// [`set_committed`](Shared::set_committed): a core that says so and then looks at the
    /// committed revision misses nothing.
    pub fn set_interested(&self, core: usize, interested: bool) {
        self.interested[core].store(interested, Ordering::SeqCst);
    }

    pub fn is_interested(&self, core: usize) -> bool {
        self.interested[core].load(Ordering::SeqCst)
    }

    /// A batch of so many bytes became durable after `us` microseconds.
    pub fn count_logged(&self, bytes: u64, us: u64) {
        self.log_times.record(us);
        self.logged_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn log_times(&self) -> DurationCounts {
        self.log_times.counts()
    }

    pub fn logged_bytes(&self) -> u64 {
        self.logged_bytes.load(Ordering::Relaxed)
    }

    pub fn facts(&self) -> &[CoreFacts] {
        &self.facts
    }
}
