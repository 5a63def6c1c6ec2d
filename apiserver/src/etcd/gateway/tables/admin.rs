//! Services Lease, Cluster, Maintenance, Lock, Election and Auth.

use super::HEADER;
use super::kv::KEY_VALUE;
use crate::etcd::gateway::shape::{
    Names, Shape, bool, bytes, int64, message, names, string, uint32, uint64,
};

static ALARM_ACTION: &Names = &["GET", "ACTIVATE", "DEACTIVATE"];
static ALARM_TYPE: &Names = &["NONE", "NOSPACE", "CORRUPT"];
static DOWNGRADE_ACTION: &Names = &["VALIDATE", "ENABLE", "CANCEL"];
static PERMISSION_TYPE: &Names = &["READ", "WRITE", "READWRITE"];

macro_rules! shapes {
    ($($name:ident: [$($field:expr),* $(,)?];)*) => {
        $(pub(in crate::etcd::gateway) static $name: Shape = Shape(&[$($field),*]);)*
    };
}

shapes! {
    LEASE_GRANT_REQUEST: [int64(1, "TTL"), int64(2, "ID")];
    LEASE_GRANT_RESPONSE: [
        message(1, "header", &HEADER), int64(2, "ID"), int64(3, "TTL"), string(4, "error"),
    ];
    LEASE_ID: [int64(1, "ID")];
    LEASE_KEEP_ALIVE_RESPONSE: [message(1, "header", &HEADER), int64(2, "ID"), int64(3, "TTL")];
    LEASE_TIME_TO_LIVE_REQUEST: [int64(1, "ID"), bool(2, "keys")];
    LEASE_TIME_TO_LIVE_RESPONSE: [
        message(1, "header", &HEADER),
        int64(2, "ID"),
        int64(3, "TTL"),
        int64(4, "grantedTTL"),
        bytes(5, "keys").repeated(),
    ];
    LEASES_RESPONSE: [message(1, "header", &HEADER), message(2, "leases", &LEASE_ID).repeated()];

    MEMBER: [
        uint64(1, "ID"),
        string(2, "name"),
        string(3, "peerURLs").repeated(),
        string(4, "clientURLs").repeated(),
        bool(5, "isLearner"),
    ];
    MEMBER_ADD_REQUEST: [string(1, "peerURLs").repeated(), bool(2, "isLearner")];
    MEMBER_ADD_RESPONSE: [
        message(1, "header", &HEADER),
        message(2, "member", &MEMBER),
        message(3, "members", &MEMBER).repeated(),
    ];
    MEMBER_ID: [uint64(1, "ID")];
    MEMBER_UPDATE_REQUEST: [uint64(1, "ID"), string(2, "peerURLs").repeated()];
    MEMBER_LIST_REQUEST: [bool(1, "linearizable")];
    MEMBERS_RESPONSE: [message(1, "header", &HEADER), message(2, "members", &MEMBER).repeated()];

    ALARM_REQUEST: [
        names(1, "action", ALARM_ACTION), uint64(2, "memberID"), names(3, "alarm", ALARM_TYPE),
    ];
    ALARM_MEMBER: [uint64(1, "memberID"), names(2, "alarm", ALARM_TYPE)];
    ALARM_RESPONSE: [
        message(1, "header", &HEADER), message(2, "alarms", &ALARM_MEMBER).repeated(),
    ];
    STATUS_RESPONSE: [
        message(1, "header", &HEADER),
        string(2, "version"),
        int64(3, "dbSize"),
        uint64(4, "leader"),
        uint64(5, "raftIndex"),
        uint64(6, "raftTerm"),
        uint64(7, "raftAppliedIndex"),
        string(8, "errors").repeated(),
        int64(9, "dbSizeInUse"),
        bool(10, "isLearner"),
        string(11, "storageVersion"),
        int64(12, "dbSizeQuota"),
        message(13, "downgradeInfo", &DOWNGRADE_INFO),
    ];
    DOWNGRADE_INFO: [bool(1, "enabled"), string(2, "targetVersion")];
    DOWNGRADE_REQUEST: [names(1, "action", DOWNGRADE_ACTION), string(2, "version")];
    DOWNGRADE_RESPONSE: [message(1, "header", &HEADER), string(2, "version")];
    HASH_RESPONSE: [message(1, "header", &HEADER), uint32(2, "hash")];
    HASH_KV_REQUEST: [int64(1, "revision")];
    HASH_KV_RESPONSE: [
        message(1, "header", &HEADER),
        uint32(2, "hash"),
        int64(3, "compact_revision"),
        int64(4, "hash_revision"),
    ];
    SNAPSHOT_RESPONSE: [
        message(1, "header", &HEADER),
        uint64(2, "remaining_bytes"),
        bytes(3, "blob"),
        string(4, "version"),
    ];
    MOVE_LEADER_REQUEST: [uint64(1, "targetID")];

    LOCK_REQUEST: [bytes(1, "name"), int64(2, "lease")];
    LOCK_RESPONSE: [message(1, "header", &HEADER), bytes(2, "key")];
    UNLOCK_REQUEST: [bytes(1, "key")];
    LEADER_KEY: [bytes(1, "name"), bytes(2, "key"), int64(3, "rev"), int64(4, "lease")];
    CAMPAIGN_REQUEST: [bytes(1, "name"), int64(2, "lease"), bytes(3, "value")];
    CAMPAIGN_RESPONSE: [message(1, "header", &HEADER), message(2, "leader", &LEADER_KEY)];
    PROCLAIM_REQUEST: [message(1, "leader", &LEADER_KEY), bytes(2, "value")];
    LEADER_REQUEST: [bytes(1, "name")];
    LEADER_RESPONSE: [message(1, "header", &HEADER), message(2, "kv", &KEY_VALUE)];
    RESIGN_REQUEST: [message(1, "leader", &LEADER_KEY)];

    AUTH_STATUS_RESPONSE: [
        message(1, "header", &HEADER), bool(2, "enabled"), uint64(3, "authRevision"),
    ];
    AUTHENTICATE_REQUEST: [string(1, "name"), string(2, "password")];
    AUTHENTICATE_RESPONSE: [message(1, "header", &HEADER), string(2, "token")];
    USER_ADD_OPTIONS: [bool(1, "no_password")];
    USER_ADD_REQUEST: [
        string(1, "name"),
        string(2, "password"),
        message(3, "options", &USER_ADD_OPTIONS),
        string(4, "hashedPassword"),
    ];
    NAME: [string(1, "name")];
    USER_GET_RESPONSE: [message(1, "header", &HEADER), string(2, "roles").repeated()];
    USER_LIST_RESPONSE: [message(1, "header", &HEADER), string(2, "users").repeated()];
    USER_CHANGE_PASSWORD_REQUEST: [
        string(1, "name"), string(2, "password"), string(3, "hashedPassword"),
    ];
    USER_GRANT_ROLE_REQUEST: [string(1, "user"), string(2, "role")];
    USER_REVOKE_ROLE_REQUEST: [string(1, "name"), string(2, "role")];
    ROLE: [string(1, "role")];
    PERMISSION: [names(1, "permType", PERMISSION_TYPE), bytes(2, "key"), bytes(3, "range_end")];
    ROLE_GET_RESPONSE: [
        message(1, "header", &HEADER), message(2, "perm", &PERMISSION).repeated(),
    ];
    ROLE_LIST_RESPONSE: [message(1, "header", &HEADER), string(2, "roles").repeated()];
    ROLE_GRANT_PERMISSION_REQUEST: [string(1, "name"), message(2, "perm", &PERMISSION)];
    ROLE_REVOKE_PERMISSION_REQUEST: [
        string(1, "role"), bytes(2, "key"), bytes(3, "range_end"),
    ];
}
