//! What each request needs: etcd's rules, service by service.

use bytes::Bytes;
use mainstay_proto::kv::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, TxnRequest,
};
use mainstay_proto::maintenance::{
    AlarmAction, AlarmRequest, DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest,
    MoveLeaderRequest, StatusRequest,
};
use mainstay_proto::watch::WatchCreateRequest;
use mainstay_proto::{auth, cluster, election, health, lease, lock};

use super::need::{Guarded, Need, Who};
use super::permission::{Access, Span};
use crate::etcd::candidates::{key_of, prefix_of};
use crate::etcd::validate;
use crate::net::grpc::Status;

impl Guarded for RangeRequest {
    const READS: bool = true;

    fn learners_answer(&self) -> bool {
        self.serializable
    }

    fn need(&self) -> Result<Need, Status> {
        validate::range(self)?;
        Ok(Need::read(Span::new(&self.key, &self.range_end)))
    }
}

impl Guarded for PutRequest {
    fn need(&self) -> Result<Need, Status> {
        validate::put(self)?;
        Ok(put(Need::who(Who::User), self))
    }
}

impl Guarded for DeleteRangeRequest {
    fn need(&self) -> Result<Need, Status> {
        validate::delete_range(self)?;
        Ok(delete_range(Need::who(Who::User), self))
    }
}

impl Guarded for TxnRequest {
    fn need(&self) -> Result<Need, Status> {
        Ok(transaction(Need::who(Who::User), self))
    }
}

impl Guarded for StatusRequest {
    fn learners_answer(&self) -> bool {
        true
    }

    fn need(&self) -> Result<Need, Status> {
        Ok(Need::who(Who::User))
    }
}

/// A lease that this user could not end must not get a key either: with the lease it would go.
fn put(need: Need, request: &PutRequest) -> Need {
    let key = Span::key(&request.key);
    let need = need.and(Access::Write, key.clone()).lease(Access::Write, request.lease);
    if request.prev_kv { need.and(Access::Read, key) } else { need }
}

fn delete_range(need: Need, request: &DeleteRangeRequest) -> Need {
    let span = Span::new(&request.key, &request.range_end);
    let need = need.and(Access::Write, span.clone());
    if request.prev_kv { need.and(Access::Read, span) } else { need }
}

/// Both branches, whichever is going to be taken.
fn transaction(mut need: Need, request: &TxnRequest) -> Need {
    for compare in &request.compare {
        need = need.and(Access::Read, Span::new(&compare.key, &compare.range_end));
    }
    for RequestOp { request } in request.success.iter().chain(&request.failure) {
        need = match request {
            None => need,
            Some(Request::Range(range)) => {
                need.and(Access::Read, Span::new(&range.key, &range.range_end))
            }
            Some(Request::Put(request)) => put(need, request),
            Some(Request::DeleteRange(request)) => delete_range(need, request),
            // As deep as a valid transaction can be.
            Some(Request::Txn(request)) => transaction(need, request),
        };
    }
    need
}

impl Guarded for WatchCreateRequest {
    fn need(&self) -> Result<Need, Status> {
        // No key stands for the smallest one.
        let first = Bytes::from_static(&[0]);
        let key = if self.key.is_empty() { &first } else { &self.key };
        Ok(Need::read(Span::new(key, &self.range_end)))
    }
}

impl Guarded for lease::LeaseRevokeRequest {
    fn need(&self) -> Result<Need, Status> {
        Ok(Need::who(Who::User).lease(Access::Write, self.id))
    }
}

impl Guarded for lease::LeaseTimeToLiveRequest {
    const READS: bool = true;

    fn need(&self) -> Result<Need, Status> {
        let need = Need::who(Who::User);
        Ok(if self.keys { need.lease(Access::Read, self.id) } else { need })
    }
}

impl Guarded for lease::LeaseLeasesRequest {
    const READS: bool = true;

    fn need(&self) -> Result<Need, Status> {
        Ok(Need { all_leases: true, ..Need::who(Who::User) })
    }
}

impl Guarded for AlarmRequest {
    fn need(&self) -> Result<Need, Status> {
        let reads = self.action() == AlarmAction::Get;
        Ok(Need::who(if reads { Who::User } else { Who::Root }))
    }
}

/// Whoever stands in line for `name` reads the line and writes a key of it.
fn candidate(name: &Bytes, lease: i64) -> Need {
    let prefix = prefix_of(name);
    let line = Span::prefix(&prefix);
    // The key of a lease that is yet to be made can be any.
    let own = if lease == 0 { line.clone() } else { Span::key(&key_of(&prefix, lease)) };
    Need::read(line).and(Access::Write, own).lease(Access::Write, lease)
}

/// Reads a candidate's key and writes it.
fn own_key(key: &Bytes) -> Need {
    Need::read(Span::key(key)).and(Access::Write, Span::key(key))
}

impl Guarded for lock::LockRequest {
    const WAITS: bool = true;

    fn need(&self) -> Result<Need, Status> {
        Ok(candidate(&self.name, self.lease))
    }
}

impl Guarded for lock::UnlockRequest {
    fn need(&self) -> Result<Need, Status> {
        Ok(Need::who(Who::User).and(Access::Write, Span::key(&self.key)))
    }
}

impl Guarded for election::CampaignRequest {
    const WAITS: bool = true;

    fn need(&self) -> Result<Need, Status> {
        Ok(candidate(&self.name, self.lease))
    }
}

impl Guarded for election::ProclaimRequest {
    fn need(&self) -> Result<Need, Status> {
        let leader = self.leader.as_ref();
        let need = leader.map(|leader| own_key(&leader.key).lease(Access::Write, leader.lease));
        Ok(need.unwrap_or_else(|| Need::who(Who::User)))
    }
}

impl Guarded for election::ResignRequest {
    fn need(&self) -> Result<Need, Status> {
        let leader = self.leader.as_ref();
        Ok(leader.map_or_else(|| Need::who(Who::User), |leader| own_key(&leader.key)))
    }
}

impl Guarded for election::LeaderRequest {
    const READS: bool = true;

    fn need(&self) -> Result<Need, Status> {
        Ok(Need::read(Span::prefix(&prefix_of(&self.name))))
    }
}

impl Guarded for auth::AuthUserGetRequest {
    fn need(&self) -> Result<Need, Status> {
        Ok(Need::who(Who::RootOrUser(self.name.clone())))
    }
}

impl Guarded for auth::AuthRoleGetRequest {
    fn need(&self) -> Result<Need, Status> {
        Ok(Need::who(Who::RootOrRole(self.role.clone())))
    }
}

macro_rules! anybody {
    ($who:ident: $($request:ty),* $(,)?) => {$(
        impl Guarded for $request {
            fn need(&self) -> Result<Need, Status> {
                Ok(Need::who(Who::$who))
            }
        }
    )*};
}

anybody!(Anyone: auth::AuthenticateRequest, health::HealthCheckRequest);
anybody!(
    User: lease::LeaseGrantRequest,
    cluster::MemberListRequest,
);
anybody!(
    Root: CompactionRequest,
    cluster::MemberAddRequest,
    cluster::MemberRemoveRequest,
    cluster::MemberUpdateRequest,
    cluster::MemberPromoteRequest,
    DefragmentRequest,
    HashRequest,
    HashKvRequest,
    MoveLeaderRequest,
    DowngradeRequest,
    auth::AuthEnableRequest,
    auth::AuthDisableRequest,
    auth::AuthStatusRequest,
    auth::AuthUserAddRequest,
    auth::AuthUserListRequest,
    auth::AuthUserDeleteRequest,
    auth::AuthUserChangePasswordRequest,
    auth::AuthUserGrantRoleRequest,
    auth::AuthUserRevokeRoleRequest,
    auth::AuthRoleAddRequest,
    auth::AuthRoleListRequest,
    auth::AuthRoleDeleteRequest,
    auth::AuthRoleGrantPermissionRequest,
    auth::AuthRoleRevokePermissionRequest,
);
