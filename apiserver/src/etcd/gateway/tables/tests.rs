//! Holds the tables against the prost types: each field must survive the type, and each field of
//! the type must be in the table.

use mainstay_proto::{auth, cluster, election, kv, lease, lock, maintenance, watch};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{DONE, EMPTY, admin, kv as tables};
use crate::etcd::gateway::shape::{Kind, Shape};

/// A message with all fields set, of each group the member `choice`.
fn sample(shape: &Shape, choice: usize, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let members = shape.0.iter().filter(|field| field.oneof.is_some()).count();
    let chosen = if depth < 4 { choice % members.max(1) } else { 0 };
    let mut member = 0;
    for field in shape.0 {
        if field.oneof.is_some() {
            member += 1;
            if member - 1 != chosen {
                continue;
            }
        }
        let bytes = match field.kind {
            Kind::Message(shape) => sample(shape, choice, depth + 1),
            Kind::String | Kind::Bytes => field.name.as_bytes().to_vec(),
            Kind::Bool | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Enum(_) => {
                encode_key(field.number, WireType::Varint, &mut out);
                encode_varint(1, &mut out);
                continue;
            }
        };
        encode_key(field.number, WireType::LengthDelimited, &mut out);
        encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(&bytes);
    }
    out
}

fn check<M: Message + Default + std::fmt::Debug>(shape: &Shape) {
    for choice in 0..5 {
        let bytes = sample(shape, choice, 0);
        let decoded = M::decode(&bytes[..]).expect("the type knows the fields");
        let shown = format!("{decoded:?}");
        for missing in [": None", ": 0,", ": 0 ", ": \"\"", ": b\"\"", ": []", ": false"] {
            assert!(!shown.contains(missing), "a field is not in the table: {shown}");
        }
        // Repeated numbers are packed by the type: their length tells nothing.
        if !shown.contains("filters") {
            let again = decoded.encode_to_vec();
            assert_eq!(again, bytes, "a field is not in the type: {shown}");
        }
    }
}

#[test]
fn the_tables_are_those_of_the_types() {
    check::<kv::RangeRequest>(&tables::RANGE_REQUEST);
    check::<kv::RangeResponse>(&tables::RANGE_RESPONSE);
    check::<kv::PutRequest>(&tables::PUT_REQUEST);
    check::<kv::PutResponse>(&tables::PUT_RESPONSE);
    check::<kv::DeleteRangeRequest>(&tables::DELETE_RANGE_REQUEST);
    check::<kv::DeleteRangeResponse>(&tables::DELETE_RANGE_RESPONSE);
    check::<kv::TxnRequest>(&tables::TXN_REQUEST);
    check::<kv::TxnResponse>(&tables::TXN_RESPONSE);
    check::<kv::CompactionRequest>(&tables::COMPACTION_REQUEST);
    check::<kv::CompactionResponse>(&DONE);
    check::<watch::WatchRequest>(&tables::WATCH_REQUEST);
    check::<watch::WatchResponse>(&tables::WATCH_RESPONSE);

    check::<lease::LeaseGrantRequest>(&admin::LEASE_GRANT_REQUEST);
    check::<lease::LeaseGrantResponse>(&admin::LEASE_GRANT_RESPONSE);
    check::<lease::LeaseRevokeRequest>(&admin::LEASE_ID);
    check::<lease::LeaseKeepAliveRequest>(&admin::LEASE_ID);
    check::<lease::LeaseKeepAliveResponse>(&admin::LEASE_KEEP_ALIVE_RESPONSE);
    check::<lease::LeaseTimeToLiveRequest>(&admin::LEASE_TIME_TO_LIVE_REQUEST);
    check::<lease::LeaseTimeToLiveResponse>(&admin::LEASE_TIME_TO_LIVE_RESPONSE);
    check::<lease::LeaseLeasesRequest>(&EMPTY);
    check::<lease::LeaseLeasesResponse>(&admin::LEASES_RESPONSE);

    check::<cluster::MemberAddRequest>(&admin::MEMBER_ADD_REQUEST);
    check::<cluster::MemberAddResponse>(&admin::MEMBER_ADD_RESPONSE);
    check::<cluster::MemberRemoveRequest>(&admin::MEMBER_ID);
    check::<cluster::MemberRemoveResponse>(&admin::MEMBERS_RESPONSE);
    check::<cluster::MemberUpdateRequest>(&admin::MEMBER_UPDATE_REQUEST);
    check::<cluster::MemberListRequest>(&admin::MEMBER_LIST_REQUEST);
    check::<cluster::MemberListResponse>(&admin::MEMBERS_RESPONSE);

    check::<maintenance::AlarmRequest>(&admin::ALARM_REQUEST);
    check::<maintenance::AlarmResponse>(&admin::ALARM_RESPONSE);
    check::<maintenance::StatusRequest>(&EMPTY);
    check::<maintenance::StatusResponse>(&admin::STATUS_RESPONSE);
    check::<maintenance::DowngradeRequest>(&admin::DOWNGRADE_REQUEST);
    check::<maintenance::DowngradeResponse>(&admin::DOWNGRADE_RESPONSE);
    check::<maintenance::HashResponse>(&admin::HASH_RESPONSE);
    check::<maintenance::HashKvRequest>(&admin::HASH_KV_REQUEST);
    check::<maintenance::HashKvResponse>(&admin::HASH_KV_RESPONSE);
    check::<maintenance::SnapshotResponse>(&admin::SNAPSHOT_RESPONSE);
    check::<maintenance::MoveLeaderRequest>(&admin::MOVE_LEADER_REQUEST);
}

#[test]
fn the_tables_of_locks_and_elections_are_those_of_the_types() {
    check::<lock::LockRequest>(&admin::LOCK_REQUEST);
    check::<lock::LockResponse>(&admin::LOCK_RESPONSE);
    check::<lock::UnlockRequest>(&admin::UNLOCK_REQUEST);
    check::<lock::UnlockResponse>(&DONE);
    check::<election::CampaignRequest>(&admin::CAMPAIGN_REQUEST);
    check::<election::CampaignResponse>(&admin::CAMPAIGN_RESPONSE);
    check::<election::ProclaimRequest>(&admin::PROCLAIM_REQUEST);
    check::<election::LeaderRequest>(&admin::LEADER_REQUEST);
    check::<election::LeaderResponse>(&admin::LEADER_RESPONSE);
    check::<election::ResignRequest>(&admin::RESIGN_REQUEST);
}

#[test]
fn the_tables_of_auth_are_those_of_the_types() {
    check::<auth::AuthStatusResponse>(&admin::AUTH_STATUS_RESPONSE);
    check::<auth::AuthenticateRequest>(&admin::AUTHENTICATE_REQUEST);
    check::<auth::AuthenticateResponse>(&admin::AUTHENTICATE_RESPONSE);
    check::<auth::AuthUserAddRequest>(&admin::USER_ADD_REQUEST);
    check::<auth::AuthUserGetRequest>(&admin::NAME);
    check::<auth::AuthUserGetResponse>(&admin::USER_GET_RESPONSE);
    check::<auth::AuthUserListResponse>(&admin::USER_LIST_RESPONSE);
    check::<auth::AuthUserDeleteRequest>(&admin::NAME);
    check::<auth::AuthUserChangePasswordRequest>(&admin::USER_CHANGE_PASSWORD_REQUEST);
    check::<auth::AuthUserGrantRoleRequest>(&admin::USER_GRANT_ROLE_REQUEST);
    check::<auth::AuthUserRevokeRoleRequest>(&admin::USER_REVOKE_ROLE_REQUEST);
    check::<auth::AuthRoleAddRequest>(&admin::NAME);
    check::<auth::AuthRoleGetRequest>(&admin::ROLE);
    check::<auth::AuthRoleGetResponse>(&admin::ROLE_GET_RESPONSE);
    check::<auth::AuthRoleListResponse>(&admin::ROLE_LIST_RESPONSE);
    check::<auth::AuthRoleDeleteRequest>(&admin::ROLE);
    check::<auth::AuthRoleGrantPermissionRequest>(&admin::ROLE_GRANT_PERMISSION_REQUEST);
    check::<auth::AuthRoleRevokePermissionRequest>(&admin::ROLE_REVOKE_PERMISSION_REQUEST);
}
