//! Why the store refused a request.

use crate::record::{LeaseId, Revision};

/// A refusal. The texts are the engine's; doors translate variants into their protocol's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("revision {requested} has been compacted; the oldest that can be read is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("revision {requested} is in the future; the store is at {current}")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("lease {0:x} not found")]
    LeaseNotFound(LeaseId),
    #[error("lease {0:x} already exists")]
    LeaseExists(LeaseId),
    #[error("there are as many leases as the store can hold")]
    TooManyLeases,
    #[error("a lease of {0} seconds is too long")]
    LeaseTtlTooLarge(i64),
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// More than [`DELETE_KEY_BYTES`](crate::limits::DELETE_KEY_BYTES) in one transaction.
    #[error("the keys to delete are too many for one request; delete them in several ranges")]
    TooLarge,
    /// Nothing may grow until there is room again, on the disk or below the quota; deleting and
    /// compacting stay possible.
    #[error("the disk or the quota is full: free space, delete keys or compact")]
    NoSpace,
    /// Somebody found out that the data is not what it should be: nothing is written any more.
    #[error("the data is said to be corrupt: the alarm CORRUPT keeps every write away")]
    Corrupt,
    /// A document is not (any more) what the one who changes it takes it for.
    #[error("the document has changed meanwhile; read it again")]
    DocumentChanged,
    #[error("too many requests are waiting for the disk")]
    TooManyRequests,
    /// An older version could not be read back. Names file, place and remedy.
    #[error("{0}")]
    HistoryUnreadable(String),
    #[error("the store is stopping")]
    Stopped,
    /// Nobody leads, as far as this member knows: nothing was done.
    #[error("no leader")]
    NoLeader,
    /// Somebody else leads: nothing was done.
    #[error("not leader")]
    NotLeader,
    /// Whether it was done is unknown: it may be, or may yet be.
    #[error("leader changed")]
    LeaderChanged,
    /// Nothing was heard in time of whoever had to decide; it may be done, or may yet be.
    #[error("request timed out")]
    TimedOut,
    #[error("request timed out, leader transfer took too long")]
    TransferTimedOut,
    #[error("member {0:x} not found")]
    MemberNotFound(u64),
    #[error("member {0:x} already exists")]
    MemberExists(u64),
    #[error("the peer URLs are another member's already")]
    PeerUrlExists,
    #[error("member {0:x} is no learner: only a learner can be promoted")]
    MemberNotLearner(u64),
    #[error("learner {0:x} is not in sync with the leader: only one that is can be promoted")]
    LearnerNotReady(u64),
    #[error("there are as many learners as the cluster may have")]
    TooManyLearners,
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    #[error("unhealthy cluster")]
    UnhealthyCluster,
    #[error("member {0:x} can't lead")]
    BadTransferee(u64),
    #[error("a learner does not serve this request")]
    RefusedByLearner,
    #[error("this member was removed from its cluster")]
    MemberRemoved,
}
