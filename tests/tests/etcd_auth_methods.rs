//! What every method of the etcd door asks of its caller.

use mainstay_proto::auth as proto;
use mainstay_proto::{cluster, election, kv, lease, lock, maintenance};
use mainstay_tests::grpc::block_on;
use mainstay_tests::http::get_as;
use mainstay_tests::process::{Directory, Mainstay};
use mainstay_tests::users::{
    Anything, BAD_TOKEN, DENIED, FLAGS, NOBODY, call, clients, failure, grant, key, log_in,
    permission, put, range, revocation, user,
};

/// Every unary method, as nobody and as a user with few rights.
#[test]
fn every_method_asks_for_what_etcd_asks_for() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let (nobody, root, bob) = clients(&server).await;
        let granted: lease::LeaseGrantResponse = call(
            &root,
            "etcdserverpb.Lease/LeaseGrant",
            lease::LeaseGrantRequest { ttl: 100, id: 7 },
        )
        .await
        .expect("a lease");
        assert_eq!(granted.id, 7);
        let attached = kv::PutRequest { lease: 7, ..put("z") };
        let _: kv::PutResponse =
            call(&root, "etcdserverpb.KV/Put", attached).await.expect("attached");

        // By path and request: what nobody is told, and what bob is; empty for success.
        macro_rules! table {
            ($($path:literal, $request:expr => $nobody:expr, $bob:expr;)*) => {$(
                for (client, expected) in [(&nobody, $nobody), (&bob, $bob)] {
                    let answer: Result<Anything, _> =
                        call(client, $path, $request).await;
                    assert_eq!(failure(answer), expected, "{}, where bob is told {:?}", $path, $bob);
                }
                if $nobody == NOBODY {
                    let bad = nobody.with_token("nonsense");
                    let answer: Result<Anything, _> =
                        call(&bad, $path, $request).await;
                    assert_eq!(failure(answer), BAD_TOKEN, "{}", $path);
                }
            )*};
        }
        let compare = |name: &str| kv::Compare { key: key(name), ..Default::default() };
        let operation = |request| kv::RequestOp { request: Some(request) };
        let transaction = |compare, success, failure| kv::TxnRequest { compare, success, failure };
        let inner = transaction(vec![], vec![operation(kv::Request::Put(put("z")))], vec![]);
        let inner_good = transaction(vec![], vec![operation(kv::Request::Put(put("b")))], vec![]);
        let deletion = |from: &str, to: &str, prev_kv| kv::DeleteRangeRequest {
            key: key(from),
            range_end: key(to),
            prev_kv,
        };
        let mine = |name: &str| election::LeaderKey { key: key(name), ..Default::default() };
        let alarm = |action| maintenance::AlarmRequest { action, ..Default::default() };
        let text = str::to_owned;
        table! {
            "etcdserverpb.KV/Range", range("a", "") => NOBODY, "";
            "etcdserverpb.KV/Range", range("a", "m") => NOBODY, "";
            "etcdserverpb.KV/Range", range("a", "n") => NOBODY, DENIED;
            "etcdserverpb.KV/Range", range("a", "\0") => NOBODY, DENIED;
            "etcdserverpb.KV/Range", range("", "") => "etcdserver: key is not provided",
                "etcdserver: key is not provided";
            "etcdserverpb.KV/RangeStream", range("a", "m") => NOBODY, "";
            "etcdserverpb.KV/RangeStream", range("a", "z") => NOBODY, DENIED;
            "etcdserverpb.KV/Put", put("b") => NOBODY, "";
            "etcdserverpb.KV/Put", put("m") => NOBODY, DENIED;
            // The lease holds a key that bob can't write.
            "etcdserverpb.KV/Put", kv::PutRequest { lease: 7, ..put("b") } => NOBODY, DENIED;
            "etcdserverpb.KV/DeleteRange", deletion("b", "", true) => NOBODY, "";
            "etcdserverpb.KV/DeleteRange", deletion("b", "z", false) => NOBODY, DENIED;
            "etcdserverpb.KV/Txn", transaction(vec![compare("b")], vec![], vec![]) => NOBODY, "";
            "etcdserverpb.KV/Txn", transaction(vec![compare("z")], vec![], vec![]) => NOBODY, DENIED;
            // Denied, too, in the branch that is not taken, and inside of it.
            "etcdserverpb.KV/Txn",
                transaction(vec![], vec![], vec![operation(kv::Request::Txn(inner.clone()))])
                => NOBODY, DENIED;
            "etcdserverpb.KV/Txn",
                transaction(vec![], vec![operation(kv::Request::Txn(inner_good.clone()))], vec![])
                => NOBODY, "";
            "etcdserverpb.KV/Txn",
                transaction(vec![], vec![operation(kv::Request::Range(range("a", "z")))], vec![])
                => NOBODY, DENIED;
            "etcdserverpb.KV/Txn",
                transaction(
                    vec![],
                    vec![operation(kv::Request::DeleteRange(deletion("a", "z", false)))],
                    vec![],
                ) => NOBODY, DENIED;
            "etcdserverpb.KV/Compact", kv::CompactionRequest { revision: 2, physical: false }
                => NOBODY, DENIED;
            "etcdserverpb.Lease/LeaseGrant", lease::LeaseGrantRequest { ttl: 100, id: 0 }
                => NOBODY, "";
            "etcdserverpb.Lease/LeaseTimeToLive",
                lease::LeaseTimeToLiveRequest { id: 7, keys: false } => NOBODY, "";
            "etcdserverpb.Lease/LeaseTimeToLive",
                lease::LeaseTimeToLiveRequest { id: 7, keys: true } => NOBODY, DENIED;
            "etcdserverpb.Lease/LeaseLeases", lease::LeaseLeasesRequest {} => NOBODY, DENIED;
            "etcdserverpb.Lease/LeaseRevoke", lease::LeaseRevokeRequest { id: 7 } => NOBODY, DENIED;
            "etcdserverpb.Lease/LeaseRevoke", lease::LeaseRevokeRequest { id: 99 }
                => NOBODY, "etcdserver: requested lease not found";
            "etcdserverpb.Cluster/MemberList", cluster::MemberListRequest::default() => NOBODY, "";
            "etcdserverpb.Cluster/MemberRemove", cluster::MemberRemoveRequest { id: 1 }
                => NOBODY, DENIED;
            "etcdserverpb.Cluster/MemberAdd", cluster::MemberAddRequest::default() => NOBODY, DENIED;
            "etcdserverpb.Maintenance/Status", maintenance::StatusRequest {} => NOBODY, "";
            "etcdserverpb.Maintenance/Alarm", alarm(0) => NOBODY, "";
            "etcdserverpb.Maintenance/Alarm", alarm(2) => NOBODY, DENIED;
            "etcdserverpb.Maintenance/Defragment", maintenance::DefragmentRequest {}
                => NOBODY, DENIED;
            "etcdserverpb.Maintenance/Hash", maintenance::HashRequest {} => NOBODY, DENIED;
            "etcdserverpb.Maintenance/HashKV", maintenance::HashKvRequest::default()
                => NOBODY, DENIED;
            "etcdserverpb.Maintenance/Snapshot", maintenance::SnapshotRequest {} => NOBODY, DENIED;
            "etcdserverpb.Maintenance/MoveLeader", maintenance::MoveLeaderRequest { target_id: 1 }
                => NOBODY, DENIED;
            "etcdserverpb.Maintenance/Downgrade", maintenance::DowngradeRequest::default()
                => NOBODY, DENIED;
            "etcdserverpb.Auth/AuthEnable", proto::AuthEnableRequest {} => NOBODY, DENIED;
            "etcdserverpb.Auth/AuthDisable", proto::AuthDisableRequest {} => NOBODY, DENIED;
            "etcdserverpb.Auth/AuthStatus", proto::AuthStatusRequest {} => NOBODY, DENIED;
            "etcdserverpb.Auth/UserAdd", user("new", "p") => NOBODY, DENIED;
            "etcdserverpb.Auth/UserGet", proto::AuthUserGetRequest { name: text("bob") }
                => NOBODY, "";
            "etcdserverpb.Auth/UserGet", proto::AuthUserGetRequest { name: text("root") }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/UserList", proto::AuthUserListRequest {} => NOBODY, DENIED;
            "etcdserverpb.Auth/UserDelete", proto::AuthUserDeleteRequest { name: text("bob") }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/UserChangePassword",
                proto::AuthUserChangePasswordRequest { name: text("bob"), ..Default::default() }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/UserGrantRole", grant("bob", "root") => NOBODY, DENIED;
            "etcdserverpb.Auth/UserRevokeRole",
                proto::AuthUserRevokeRoleRequest { name: text("bob"), role: text("half") }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/RoleAdd", proto::AuthRoleAddRequest { name: text("x") }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/RoleGet", proto::AuthRoleGetRequest { role: text("half") }
                => NOBODY, "";
            "etcdserverpb.Auth/RoleGet", proto::AuthRoleGetRequest { role: text("root") }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/RoleList", proto::AuthRoleListRequest {} => NOBODY, DENIED;
            "etcdserverpb.Auth/RoleDelete", proto::AuthRoleDeleteRequest { role: text("half") }
                => NOBODY, DENIED;
            "etcdserverpb.Auth/RoleGrantPermission", permission(2, "a", "\0") => NOBODY, DENIED;
            "etcdserverpb.Auth/RoleRevokePermission", revocation("a", "m") => NOBODY, DENIED;
            "v3lockpb.Lock/Lock", lock::LockRequest { name: key("b"), lease: 0 } => NOBODY, "";
            "v3lockpb.Lock/Lock", lock::LockRequest { name: key("z"), lease: 0 } => NOBODY, DENIED;
            "v3lockpb.Lock/Lock", lock::LockRequest { name: key("b"), lease: 7 } => NOBODY, DENIED;
            "v3lockpb.Lock/Unlock", lock::UnlockRequest { key: key("z") } => NOBODY, DENIED;
            "v3electionpb.Election/Campaign",
                election::CampaignRequest { name: key("e"), ..Default::default() } => NOBODY, "";
            "v3electionpb.Election/Campaign",
                election::CampaignRequest { name: key("z"), ..Default::default() }
                => NOBODY, DENIED;
            "v3electionpb.Election/Leader", election::LeaderRequest { name: key("e") } => NOBODY, "";
            "v3electionpb.Election/Leader", election::LeaderRequest { name: key("z") }
                => NOBODY, DENIED;
            "v3electionpb.Election/Proclaim",
                election::ProclaimRequest { leader: Some(mine("z")), ..Default::default() }
                => NOBODY, DENIED;
            "v3electionpb.Election/Resign",
                election::ResignRequest { leader: Some(mine("z")) } => NOBODY, DENIED;
            "v3electionpb.Election/Observe", election::LeaderRequest { name: key("z") }
                => NOBODY, DENIED;
        }
        // Whoever asks about health shows no token; whoever logs in has none yet.
        let healthy: Result<Anything, _> =
            call(&nobody, "grpc.health.v1.Health/Check", proto::AuthEnableRequest {}).await;
        assert_eq!(failure(healthy), "");
        let stale = nobody.with_token("nonsense");
        assert!(log_in(&stale, "bob", "bp").await.is_ok());
        // What shows the names of all keys is root's.
        let usage = |token: &str| {
            let line = if token.is_empty() { String::new() } else { format!("Token: {token}\r\n") };
            let answer = get_as(&server.etcd, "/usage", &line);
            (answer.status, answer.body.contains("prefixes"))
        };
        assert_eq!(usage(""), (403, false));
        assert_eq!(usage("nonsense"), (403, false));
        let token = log_in(&nobody, "bob", "bp").await.expect("a token");
        assert_eq!(usage(&token), (403, false));
        let token = log_in(&nobody, "root", "rp").await.expect("a token");
        assert_eq!(usage(&token), (200, true));
    });
    assert!(server.stop().success());
}
