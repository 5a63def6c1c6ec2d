//! Which path is which method, and the messages of both directions.

use super::shape::Shape;
use super::tables::{DONE, EMPTY, admin, kv};
use crate::etcd::Method;

/// One path of the gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) request: &'static Shape,
    pub(super) response: &'static Shape,
}

macro_rules! routes {
    ($($($path:literal)|+ => $method:ident($request:expr) -> $response:expr;)*) => {
        /// The route of a path, as in `/v3/kv/range`.
        pub(super) fn find(path: &str) -> Option<Route> {
            Some(match path {
                $($($path)|+ => Route {
                    method: Method::$method,
                    request: &$request,
                    response: &$response,
                },)*
                _ => return None,
            })
        }

        #[cfg(test)]
        pub(super) const PATHS: &[&str] = &[$($($path,)+)*];
    };
}

routes! {
    "/v3/kv/range" => Range(kv::RANGE_REQUEST) -> kv::RANGE_RESPONSE;
    "/v3/kv/put" => Put(kv::PUT_REQUEST) -> kv::PUT_RESPONSE;
    "/v3/kv/deleterange" => DeleteRange(kv::DELETE_RANGE_REQUEST) -> kv::DELETE_RANGE_RESPONSE;
    "/v3/kv/txn" => Txn(kv::TXN_REQUEST) -> kv::TXN_RESPONSE;
    "/v3/kv/compaction" => Compact(kv::COMPACTION_REQUEST) -> DONE;
    "/v3/watch" => Watch(kv::WATCH_REQUEST) -> kv::WATCH_RESPONSE;

    "/v3/lease/grant" => LeaseGrant(admin::LEASE_GRANT_REQUEST) -> admin::LEASE_GRANT_RESPONSE;
    "/v3/lease/revoke" | "/v3/kv/lease/revoke" => LeaseRevoke(admin::LEASE_ID) -> DONE;
    "/v3/lease/keepalive" => LeaseKeepAlive(admin::LEASE_ID) -> admin::LEASE_KEEP_ALIVE_RESPONSE;
    "/v3/lease/timetolive" | "/v3/kv/lease/timetolive" =>
        LeaseTimeToLive(admin::LEASE_TIME_TO_LIVE_REQUEST) -> admin::LEASE_TIME_TO_LIVE_RESPONSE;
    "/v3/lease/leases" | "/v3/kv/lease/leases" => LeaseLeases(EMPTY) -> admin::LEASES_RESPONSE;

    "/v3/cluster/member/add" => MemberAdd(admin::MEMBER_ADD_REQUEST) -> admin::MEMBER_ADD_RESPONSE;
    "/v3/cluster/member/remove" => MemberRemove(admin::MEMBER_ID) -> admin::MEMBERS_RESPONSE;
    "/v3/cluster/member/update" =>
        MemberUpdate(admin::MEMBER_UPDATE_REQUEST) -> admin::MEMBERS_RESPONSE;
    "/v3/cluster/member/list" => MemberList(admin::MEMBER_LIST_REQUEST) -> admin::MEMBERS_RESPONSE;
    "/v3/cluster/member/promote" => MemberPromote(admin::MEMBER_ID) -> admin::MEMBERS_RESPONSE;

    "/v3/maintenance/alarm" => Alarm(admin::ALARM_REQUEST) -> admin::ALARM_RESPONSE;
    "/v3/maintenance/status" => Status(EMPTY) -> admin::STATUS_RESPONSE;
    "/v3/maintenance/defragment" => Defragment(EMPTY) -> DONE;
    "/v3/maintenance/hash" => Hash(EMPTY) -> admin::HASH_RESPONSE;
    "/v3/maintenance/hashkv" => HashKv(admin::HASH_KV_REQUEST) -> admin::HASH_KV_RESPONSE;
    "/v3/maintenance/snapshot" => Snapshot(EMPTY) -> admin::SNAPSHOT_RESPONSE;
    "/v3/maintenance/transfer-leadership" => MoveLeader(admin::MOVE_LEADER_REQUEST) -> DONE;
    "/v3/maintenance/downgrade" =>
        Downgrade(admin::DOWNGRADE_REQUEST) -> admin::DOWNGRADE_RESPONSE;

    "/v3/lock/lock" => Lock(admin::LOCK_REQUEST) -> admin::LOCK_RESPONSE;
    "/v3/lock/unlock" => Unlock(admin::UNLOCK_REQUEST) -> DONE;
    "/v3/election/campaign" => Campaign(admin::CAMPAIGN_REQUEST) -> admin::CAMPAIGN_RESPONSE;
    "/v3/election/proclaim" => Proclaim(admin::PROCLAIM_REQUEST) -> DONE;
    "/v3/election/leader" => Leader(admin::LEADER_REQUEST) -> admin::LEADER_RESPONSE;
    "/v3/election/observe" => Observe(admin::LEADER_REQUEST) -> admin::LEADER_RESPONSE;
    "/v3/election/resign" => Resign(admin::RESIGN_REQUEST) -> DONE;

    "/v3/auth/enable" => AuthEnable(EMPTY) -> DONE;
    "/v3/auth/disable" => AuthDisable(EMPTY) -> DONE;
    "/v3/auth/status" => AuthStatus(EMPTY) -> admin::AUTH_STATUS_RESPONSE;
    "/v3/auth/authenticate" =>
        Authenticate(admin::AUTHENTICATE_REQUEST) -> admin::AUTHENTICATE_RESPONSE;
    "/v3/auth/user/add" => UserAdd(admin::USER_ADD_REQUEST) -> DONE;
    "/v3/auth/user/get" => UserGet(admin::NAME) -> admin::USER_GET_RESPONSE;
    "/v3/auth/user/list" => UserList(EMPTY) -> admin::USER_LIST_RESPONSE;
    "/v3/auth/user/delete" => UserDelete(admin::NAME) -> DONE;
    "/v3/auth/user/changepw" => UserChangePassword(admin::USER_CHANGE_PASSWORD_REQUEST) -> DONE;
    "/v3/auth/user/grant" => UserGrantRole(admin::USER_GRANT_ROLE_REQUEST) -> DONE;
    "/v3/auth/user/revoke" => UserRevokeRole(admin::USER_REVOKE_ROLE_REQUEST) -> DONE;
    "/v3/auth/role/add" => RoleAdd(admin::NAME) -> DONE;
    "/v3/auth/role/get" => RoleGet(admin::ROLE) -> admin::ROLE_GET_RESPONSE;
    "/v3/auth/role/list" => RoleList(EMPTY) -> admin::ROLE_LIST_RESPONSE;
    "/v3/auth/role/delete" => RoleDelete(admin::ROLE) -> DONE;
    "/v3/auth/role/grant" => RoleGrantPermission(admin::ROLE_GRANT_PERMISSION_REQUEST) -> DONE;
    "/v3/auth/role/revoke" => RoleRevokePermission(admin::ROLE_REVOKE_PERMISSION_REQUEST) -> DONE;
}
