//! etcd's errors: the code and the exact text of each, which clients compare.
//!
//! Source: the published API (`api/v3rpc/rpctypes`).

use mainstay_engine::StoreError;

use crate::metrics;
use crate::net::grpc::{Code, Status};

/// One of etcd's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EtcdError(pub Code, pub &'static str);

impl From<EtcdError> for Status {
    fn from(EtcdError(code, text): EtcdError) -> Status {
        Status::new(code, text)
    }
}

use Code::{
    DataLoss, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied,
    ResourceExhausted, Unauthenticated, Unavailable, Unimplemented, Unknown,
};

pub(super) const EMPTY_KEY: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: key is not provided");
pub(super) const KEY_NOT_FOUND: EtcdError = EtcdError(InvalidArgument, "etcdserver: key not found");
pub(super) const VALUE_PROVIDED: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: value is provided");
pub(super) const LEASE_PROVIDED: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: lease is provided");
pub(super) const TOO_MANY_OPERATIONS: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: too many operations in txn request");
pub(super) const DUPLICATE_KEY: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: duplicate key given in txn request");
pub(super) const INVALID_SORT_OPTION: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: invalid sort option");
pub(super) const STREAM_SORTED: EtcdError =
    EtcdError(Unimplemented, "RangeStream does not support custom sort orders");
pub(super) const STREAM_FILTERED: EtcdError =
    EtcdError(Unimplemented, "RangeStream does not support revision filters");
pub(super) const REQUEST_TOO_LARGE: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: request is too large");
/// etcd takes a comparison that it does not know for one that holds; this is ours.
pub(super) const INVALID_COMPARE: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: unknown result or target in compare");

pub(super) const COMPACTED: EtcdError =
    EtcdError(OutOfRange, "etcdserver: mvcc: required revision has been compacted");
pub(super) const FUTURE_REVISION: EtcdError =
    EtcdError(OutOfRange, "etcdserver: mvcc: required revision is a future revision");

/// Of the NOSPACE alarm, and of what would raise it.
pub(super) const NO_SPACE: EtcdError =
    EtcdError(ResourceExhausted, "etcdserver: mvcc: database space exceeded");
/// Of the CORRUPT alarm.
pub(super) const CORRUPT: EtcdError = EtcdError(DataLoss, "etcdserver: corrupt cluster");

pub(super) const LEASE_NOT_FOUND: EtcdError =
    EtcdError(NotFound, "etcdserver: requested lease not found");
pub(super) const LEASE_EXISTS: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: lease already exists");
pub(super) const LEASE_TTL_TOO_LARGE: EtcdError =
    EtcdError(OutOfRange, "etcdserver: too large lease TTL");

pub(super) const MEMBER_NOT_FOUND: EtcdError = EtcdError(NotFound, "etcdserver: member not found");
pub(super) const PEER_URL_EXISTS: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: Peer URLs already exists");
pub(super) const MEMBER_BAD_URLS: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: given member URLs are invalid");
pub(super) const MEMBER_EXISTS: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: member ID already exist");
pub(super) const MEMBER_NOT_LEARNER: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: can only promote a learner member");
pub(super) const LEARNER_NOT_READY: EtcdError = EtcdError(
    FailedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader",
);
pub(super) const TOO_MANY_LEARNERS: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: too many learner members in cluster");
pub(super) const UNHEALTHY_CLUSTER: EtcdError =
    EtcdError(Unavailable, "etcdserver: unhealthy cluster");
/// etcd loses the code of this one on the way, and so clients know it with none.
pub(super) const NOT_ENOUGH_STARTED: EtcdError =
    EtcdError(Unknown, "etcdserver: re-configuration failed due to not enough started members");
pub(super) const DOWNGRADE_FORMAT: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: wrong downgrade target version format");
pub(super) const DOWNGRADE_TARGET: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: invalid downgrade target version");
pub(super) const BAD_LEADER_TRANSFEREE: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: bad leader transferee");

pub(super) const ROOT_USER_NOT_FOUND: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: root user does not exist");
pub(super) const USER_EMPTY: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: user name is empty");
pub(super) const USER_NOT_FOUND: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: user name not found");
pub(super) const ROLE_EMPTY: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: role name is empty");
pub(super) const ROLE_NOT_FOUND: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: role name not found");
pub(super) const AUTH_NOT_ENABLED: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: authentication is not enabled");

pub(super) const ROOT_ROLE_NOT_GRANTED: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: root user does not have root role");
pub(super) const USER_EXISTS: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: user name already exists");
pub(super) const ROLE_EXISTS: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: role name already exists");
pub(super) const ROLE_NOT_GRANTED: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: role is not granted to the user");
pub(super) const PERMISSION_NOT_GIVEN: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: permission not given");
pub(super) const PERMISSION_NOT_GRANTED: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: permission is not granted to the role");
pub(super) const PERMISSION_DENIED: EtcdError =
    EtcdError(PermissionDenied, "etcdserver: permission denied");
pub(super) const AUTH_FAILED: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: authentication failed, invalid user ID or password");
pub(super) const INVALID_AUTH_TOKEN: EtcdError =
    EtcdError(Unauthenticated, "etcdserver: invalid auth token");
pub(super) const INVALID_AUTH_MANAGEMENT: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: invalid auth management");
pub(super) const OLD_AUTH_REVISION: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: revision of auth store is old");
/// etcd has no code for this one and the next two.
pub(super) const NO_PASSWORD_USER: EtcdError =
    EtcdError(Unknown, "auth: authentication failed, password was given for no password user");
pub(super) const PASSWORD_TOO_LONG: EtcdError =
    EtcdError(Unknown, "bcrypt: password length exceeds 72 bytes");
pub(super) const VERIFY_ONLY: EtcdError =
    EtcdError(Unknown, "auth: token signing attempted with verify-only key");
/// etcd has no bound here; this is ours.
pub(super) const AUTH_TOO_LARGE: EtcdError = EtcdError(
    ResourceExhausted,
    "etcdserver: too many users, roles and permissions: delete some that are not needed",
);

/// In etcd these end the server: its database takes no such names.
pub(super) const USER_NAME_TOO_LONG: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: user name is longer than 32768 bytes");
pub(super) const ROLE_NAME_TOO_LONG: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: role name is longer than 32768 bytes");

pub(super) const SESSION_EXPIRED: EtcdError = EtcdError(Unknown, "mutex: session is expired");
pub(super) const ELECTION_NOT_LEADER: EtcdError = EtcdError(Unknown, "election: not leader");
pub(super) const ELECTION_NO_LEADER: EtcdError = EtcdError(Unknown, "election: no leader");
pub(super) const LEADER_MISSING: EtcdError =
    EtcdError(Unknown, "\"leader\" field must be provided");

pub(super) const TOO_MANY_REQUESTS: EtcdError =
    EtcdError(ResourceExhausted, "etcdserver: too many requests");
pub(super) const STOPPED: EtcdError = EtcdError(Unavailable, "etcdserver: server stopped");

pub(super) const NO_LEADER: EtcdError = EtcdError(Unavailable, "etcdserver: no leader");
pub(super) const NOT_LEADER: EtcdError = EtcdError(FailedPrecondition, "etcdserver: not leader");
pub(super) const LEADER_CHANGED: EtcdError = EtcdError(Unavailable, "etcdserver: leader changed");
pub(super) const TIMED_OUT: EtcdError = EtcdError(Unavailable, "etcdserver: request timed out");
pub(super) const NOT_FOR_LEARNER: EtcdError =
    EtcdError(FailedPrecondition, "etcdserver: rpc not supported for learner");

/// The reasons that a watch response gives for not creating a watcher.
pub(super) const WATCH_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
pub(super) const WATCH_EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// As etcd prints its error for a negative start revision.
pub(super) const WATCH_COMPACTED: &str = COMPACTED.1;

/// etcd has no words for it.
pub(super) const UNKNOWN_ALARM: EtcdError =
    EtcdError(InvalidArgument, "etcdserver: unknown action or kind of alarm");

/// What Mainstay does not do, with what to do instead.
pub(super) fn unimplemented(text: &'static str) -> Status {
    Status::new(Unimplemented, text)
}

/// Whether something was to be written and the store, or the cluster, did not take it.
fn is_failed_proposal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::TooManyRequests
            | StoreError::NoSpace
            | StoreError::NoLeader
            | StoreError::LeaderChanged
            | StoreError::TimedOut
    )
}

/// The store's refusals in etcd's words.
pub(super) fn from_store(error: StoreError) -> Status {
    if is_failed_proposal(&error) {
        metrics::server().failed_writes.add(1);
    }
    match error {
        StoreError::Compacted { .. } => COMPACTED.into(),
        StoreError::FutureRevision { .. } => FUTURE_REVISION.into(),
        StoreError::LeaseNotFound(_) => LEASE_NOT_FOUND.into(),
        StoreError::LeaseExists(_) => LEASE_EXISTS.into(),
        StoreError::LeaseTtlTooLarge(_) => LEASE_TTL_TOO_LARGE.into(),
        StoreError::KeyNotFound => KEY_NOT_FOUND.into(),
        StoreError::TooLarge => REQUEST_TOO_LARGE.into(),
        StoreError::NoSpace => NO_SPACE.into(),
        StoreError::TooManyRequests => TOO_MANY_REQUESTS.into(),
        StoreError::Corrupt => CORRUPT.into(),
        StoreError::NoLeader => NO_LEADER.into(),
        StoreError::NotLeader => NOT_LEADER.into(),
        StoreError::LeaderChanged => LEADER_CHANGED.into(),
        StoreError::TimedOut => TIMED_OUT.into(),
        StoreError::MemberNotFound(_) => MEMBER_NOT_FOUND.into(),
        StoreError::MemberExists(_) => MEMBER_EXISTS.into(),
        StoreError::PeerUrlExists => PEER_URL_EXISTS.into(),
        StoreError::MemberNotLearner(_) => MEMBER_NOT_LEARNER.into(),
        StoreError::LearnerNotReady(_) => LEARNER_NOT_READY.into(),
        StoreError::TooManyLearners => TOO_MANY_LEARNERS.into(),
        StoreError::NotEnoughStartedMembers => NOT_ENOUGH_STARTED.into(),
        StoreError::UnhealthyCluster => UNHEALTHY_CLUSTER.into(),
        StoreError::BadTransferee(_) => BAD_LEADER_TRANSFEREE.into(),
        StoreError::RefusedByLearner => NOT_FOR_LEARNER.into(),
        StoreError::Stopped | StoreError::MemberRemoved => STOPPED.into(),
        // It names file and place: for an operator, and nothing that a client can mend.
        StoreError::HistoryUnreadable(why) => {
            Status::new(Code::Internal, format!("etcdserver: {why}"))
        }
        other => Status::new(Unknown, format!("etcdserver: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_refusals_become_etcds() {
        for (error, code, text) in [
            (
                StoreError::Compacted { requested: 1, compacted: 2 },
                OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                StoreError::FutureRevision { requested: 9, current: 2 },
                OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (StoreError::LeaseNotFound(1), NotFound, "etcdserver: requested lease not found"),
            (StoreError::LeaseExists(1), FailedPrecondition, "etcdserver: lease already exists"),
            (StoreError::LeaseTtlTooLarge(1), OutOfRange, "etcdserver: too large lease TTL"),
            (StoreError::KeyNotFound, InvalidArgument, "etcdserver: key not found"),
            (StoreError::NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            (StoreError::TooManyRequests, ResourceExhausted, "etcdserver: too many requests"),
            (StoreError::Corrupt, DataLoss, "etcdserver: corrupt cluster"),
            (StoreError::Stopped, Unavailable, "etcdserver: server stopped"),
            (StoreError::NoLeader, Unavailable, "etcdserver: no leader"),
            (StoreError::NotLeader, FailedPrecondition, "etcdserver: not leader"),
            (StoreError::LeaderChanged, Unavailable, "etcdserver: leader changed"),
            (StoreError::TimedOut, Unavailable, "etcdserver: request timed out"),
            (StoreError::UnhealthyCluster, Unavailable, "etcdserver: unhealthy cluster"),
            (StoreError::PeerUrlExists, FailedPrecondition, "etcdserver: Peer URLs already exists"),
            (StoreError::MemberNotFound(1), NotFound, "etcdserver: member not found"),
            (
                StoreError::LearnerNotReady(1),
                FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (
                StoreError::RefusedByLearner,
                FailedPrecondition,
                "etcdserver: rpc not supported for learner",
            ),
            (
                StoreError::HistoryUnreadable("FILE at byte 7: damaged".to_owned()),
                Code::Internal,
                "etcdserver: FILE at byte 7: damaged",
            ),
        ] {
            assert_eq!(from_store(error), Status::new(code, text));
        }
    }
}
