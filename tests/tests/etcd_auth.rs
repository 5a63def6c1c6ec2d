//! Users, roles and permissions of etcd's API: real processes on two cores, etcdctl and gRPC.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_proto::auth as proto;
use mainstay_proto::{cluster, election, kv, lease, lock, maintenance, watch};
use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::grpc::{Client, Failure, block_on};
use mainstay_tests::process::{Directory, Mainstay};
use prost::Message;

/// Two cores, and hashes that take no time.
const FLAGS: [&str; 2] = ["--cores=2", "--bcrypt-cost=4"];

/// A message without fields: whatever comes can be read as one.
type Anything = proto::AuthEnableRequest;

const DENIED: &str = "etcdserver: permission denied";
const NOBODY: &str = "etcdserver: user name is empty";
const BAD_TOKEN: &str = "etcdserver: invalid auth token";

fn as_user(etcdctl: &Etcdctl, user: &str) -> Etcdctl {
    etcdctl.clone().with(vec![format!("--user={user}")])
}

/// Root with the password `rp`; `bob` with `bp`, who may read and write [a, m); authentication on.
fn set_up(etcdctl: &Etcdctl) {
    for command in [
        &["user", "add", "root:rp"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "bob:bp"],
        &["role", "add", "half"],
        &["role", "grant-permission", "half", "readwrite", "a", "g"],
        &["role", "grant-permission", "half", "readwrite", "g", "m"],
        &["user", "grant-role", "bob", "half"],
        &["auth", "enable"],
    ] {
        etcdctl.ok(command);
    }
}

#[test]
fn etcdctl_with_users_and_roles_through_restarts() {
    if !etcdctl::is_present() {
        return etcdctl::skipped("users and roles");
    }
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    let nobody = Etcdctl::new(&server.etcd);
    assert!(nobody.fails(&["auth", "enable"]).contains("root user does not exist"));
    nobody.ok(&["put", "b", "before"]);
    set_up(&nobody);
    let check = |nobody: &Etcdctl| {
        let (root, bob) = (as_user(nobody, "root:rp"), as_user(nobody, "bob:bp"));
        assert!(nobody.fails(&["get", "b"]).contains(NOBODY));
        assert!(
            as_user(nobody, "bob:wrong").fails(&["get", "b"]).contains("authentication failed")
        );
        assert_eq!(bob.ok(&["get", "b"]), "b\nbefore\n");
        assert_eq!(bob.ok(&["put", "c", "1"]), "OK\n");
        assert_eq!(bob.ok(&["get", "a", "m", "--keys-only"]), "b\n\nc\n\n");
        assert_eq!(bob.ok(&["del", "c"]), "1\n");
        for denied in [
            &["put", "z", "1"][..],
            &["get", "a", "n"],
            &["get", "--prefix", ""],
            &["get", "--from-key", "a"],
            &["del", "l", "n"],
            &["user", "list"],
            &["user", "get", "root"],
            &["role", "add", "mine"],
            &["auth", "disable"],
            &["compaction", "1"],
            &["watch", "z"],
        ] {
            let said = bob.run_with(denied, "");
            let text = format!("{}{}", said.stdout, said.stderr);
            assert!(text.contains(DENIED), "{denied:?}: {text}");
        }
        assert_eq!(bob.ok(&["user", "get", "bob"]), "User: bob\nRoles: half\n");
        assert_eq!(root.ok(&["put", "z", "1"]), "OK\n");
        assert_eq!(root.ok(&["user", "list"]), "bob\nroot\n");
        let mut watch = bob.start(&["watch", "b", "--rev=2"]);
        assert_eq!(watch.next(3), "PUT|b|before");
    };
    check(&nobody);
    assert!(server.stop().success());
    let server = Mainstay::store(directory.path(), &FLAGS);
    check(&Etcdctl::new(&server.etcd));
    as_user(&Etcdctl::new(&server.etcd), "root:rp").ok(&[
        "role",
        "revoke-permission",
        "half",
        "g",
        "m",
    ]);
    // Acknowledged, so a crash does not bring the permission back.
    server.kill();
    let server = Mainstay::store(directory.path(), &FLAGS);
    let nobody = Etcdctl::new(&server.etcd);
    let (root, bob) = (as_user(&nobody, "root:rp"), as_user(&nobody, "bob:bp"));
    assert!(bob.fails(&["get", "g"]).contains(DENIED));
    assert_eq!(bob.ok(&["get", "b"]), "b\nbefore\n");
    root.ok(&["auth", "disable"]);
    assert_eq!(nobody.ok(&["get", "z"]), "z\n1\n");
}

async fn log_in(client: &Client, name: &str, password: &str) -> Result<String, Failure> {
    let (name, password) = (name.to_owned(), password.to_owned());
    let request = proto::AuthenticateRequest { name, password };
    let answer: proto::AuthenticateResponse =
        client.unary("/etcdserverpb.Auth/Authenticate", &request).await?;
    Ok(answer.token)
}

async fn auth<Q: Message>(client: &Client, method: &str, request: &Q) -> Result<(), Failure> {
    let path = format!("/etcdserverpb.Auth/{method}");
    client.unary::<Q, Anything>(&path, request).await.map(|_| ())
}

fn user(name: &str, password: &str) -> proto::AuthUserAddRequest {
    let (name, password) = (name.to_owned(), password.to_owned());
    proto::AuthUserAddRequest { name, password, ..Default::default() }
}

fn grant(user: &str, role: &str) -> proto::AuthUserGrantRoleRequest {
    proto::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() }
}

fn permission(kind: i32, key: &str, range_end: &str) -> proto::AuthRoleGrantPermissionRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    let permission = Some(proto::Permission { kind, key, range_end });
    proto::AuthRoleGrantPermissionRequest { name: "half".to_owned(), permission }
}

fn revocation(key: &str, range_end: &str) -> proto::AuthRoleRevokePermissionRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    proto::AuthRoleRevokePermissionRequest { role: "half".to_owned(), key, range_end }
}

/// As [`set_up`], over gRPC: clients of nobody, root and bob.
async fn clients(server: &Mainstay) -> (Client, Client, Client) {
    let nobody = Client::connect(&server.etcd).await;
    auth(&nobody, "UserAdd", &user("root", "rp")).await.expect("root");
    auth(&nobody, "UserGrantRole", &grant("root", "root")).await.expect("root's role");
    auth(&nobody, "UserAdd", &user("bob", "bp")).await.expect("bob");
    let role = proto::AuthRoleAddRequest { name: "half".to_owned() };
    auth(&nobody, "RoleAdd", &role).await.expect("a role");
    auth(&nobody, "RoleGrantPermission", &permission(2, "a", "m")).await.expect("a permission");
    auth(&nobody, "UserGrantRole", &grant("bob", "half")).await.expect("bob's role");
    auth(&nobody, "AuthEnable", &proto::AuthEnableRequest {}).await.expect("on");
    let root = nobody.with_token(&log_in(&nobody, "root", "rp").await.expect("a token"));
    let bob = nobody.with_token(&log_in(&nobody, "bob", "bp").await.expect("a token"));
    (nobody, root, bob)
}

fn key(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn put(name: &str) -> kv::PutRequest {
    kv::PutRequest { key: key(name), value: key("v"), ..Default::default() }
}

fn range(from: &str, to: &str) -> kv::RangeRequest {
    kv::RangeRequest { key: key(from), range_end: key(to), ..Default::default() }
}

async fn call<Q: Message, A: Message + Default>(
    client: &Client,
    path: &str,
    request: Q,
) -> Result<A, Failure> {
    client.unary(&format!("/{path}"), &request).await
}

async fn write(client: &Client, name: &str) -> Result<kv::PutResponse, Failure> {
    call(client, "etcdserverpb.KV/Put", put(name)).await
}

async fn read(client: &Client, from: &str, to: &str) -> Result<kv::RangeResponse, Failure> {
    call(client, "etcdserverpb.KV/Range", range(from, to)).await
}

fn failure<A>(result: Result<A, Failure>) -> String {
    result.err().map_or_else(String::new, |failure| failure.message)
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

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
    });
    assert!(server.stop().success());
}

#[test]
fn rights_change_on_every_core_before_that_is_acknowledged() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let (nobody, root, bob) = clients(&server).await;
        let token = log_in(&nobody, "bob", "bp").await.expect("a token");
        // The kernel deals connections out to both cores.
        let mut everywhere = Vec::new();
        for _ in 0..16 {
            everywhere.push(Client::connect(&server.etcd).await.with_token(&token));
        }
        for round in 0..10 {
            for client in &everywhere {
                assert_eq!(failure(write(client, "b").await), "", "round {round}");
            }
            auth(&root, "RoleRevokePermission", &revocation("a", "m")).await.expect("revoked");
            for client in &everywhere {
                assert_eq!(failure(write(client, "b").await), DENIED, "round {round}");
                assert_eq!(failure(read(client, "b", "").await), DENIED, "round {round}");
            }
            auth(&root, "RoleGrantPermission", &permission(2, "a", "m")).await.expect("granted");
        }
        // A new password voids what the old one bought.
        let (name, password) = ("bob".to_owned(), "new".to_owned());
        let change = proto::AuthUserChangePasswordRequest { name, password, ..Default::default() };
        auth(&root, "UserChangePassword", &change).await.expect("changed");
        for client in everywhere.iter().chain([&bob]) {
            assert_eq!(failure(write(client, "b").await), BAD_TOKEN);
        }
        assert!(log_in(&nobody, "bob", "bp").await.is_err());
        let bob = nobody.with_token(&log_in(&nobody, "bob", "new").await.expect("a token"));
        assert_eq!(failure(write(&bob, "b").await), "");
        // Nor does a user of the same name inherit anything.
        auth(&root, "UserDelete", &proto::AuthUserDeleteRequest { name: "bob".to_owned() })
            .await
            .expect("deleted");
        assert_eq!(failure(write(&bob, "b").await), DENIED);
        auth(&root, "UserAdd", &user("bob", "new")).await.expect("made again");
        auth(&root, "UserGrantRole", &grant("bob", "half")).await.expect("granted");
        assert_eq!(failure(write(&bob, "b").await), BAD_TOKEN);
        // Off and on again: all tokens are void.
        auth(&root, "AuthDisable", &proto::AuthDisableRequest {}).await.expect("off");
        assert_eq!(failure(write(&root, "z").await), "");
        auth(&nobody, "AuthEnable", &proto::AuthEnableRequest {}).await.expect("on");
        assert_eq!(failure(write(&root, "z").await), BAD_TOKEN);
    });
    assert!(server.stop().success());
}

/// Administrators at work at the same time undo nothing of each other's.
#[test]
fn changes_at_once_add_up() {
    const WORKERS: usize = 6;
    const USERS: usize = 8;
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let mut workers = Vec::new();
        for worker in 0..WORKERS {
            let client = Client::connect(&server.etcd).await;
            workers.push(async move {
                for number in 0..USERS {
                    let name = format!("user-{worker}-{number}");
                    auth(&client, "UserAdd", &user(&name, "p")).await.expect("added");
                }
            });
        }
        futures_util::future::join_all(workers).await;
        let client = Client::connect(&server.etcd).await;
        let path = "etcdserverpb.Auth/UserList";
        let users: proto::AuthUserListResponse =
            call(&client, path, proto::AuthUserListRequest {}).await.expect("a list");
        assert_eq!(users.users.len(), WORKERS * USERS);
        let path = "etcdserverpb.Auth/AuthStatus";
        let status: proto::AuthStatusResponse =
            call(&client, path, proto::AuthStatusRequest {}).await.expect("a status");
        assert_eq!(status.auth_revision, 1 + (WORKERS * USERS) as u64);
    });
    assert!(server.stop().success());
}

type WatchStream = mainstay_tests::grpc::Stream<watch::WatchRequest, watch::WatchResponse>;

async fn open_watch(client: &Client, from: &str, to: &str) -> (WatchStream, watch::WatchResponse) {
    let mut stream: WatchStream = client.stream("/etcdserverpb.Watch/Watch").await;
    let answer = add_watch(&mut stream, from, to).await;
    (stream, answer)
}

async fn add_watch(stream: &mut WatchStream, from: &str, to: &str) -> watch::WatchResponse {
    let (key, range_end) = (key(from), key(to));
    let create = watch::WatchCreateRequest { key, range_end, ..Default::default() };
    let request_union = Some(watch::WatchRequestUnion::Create(create));
    stream.send(&watch::WatchRequest { request_union });
    stream.next().await.expect("an answer")
}

#[test]
fn watches_see_what_their_user_may_read_and_no_longer_than_that() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let early = Client::connect(&server.etcd).await;
        let (mut before, created) = open_watch(&early, "b", "").await;
        assert!(created.created && !created.canceled);
        let (nobody, root, bob) = clients(&server).await;
        // Opened by nobody before authentication was on: over.
        let end = before.next().await.expect("an end");
        assert!(end.canceled && end.cancel_reason == NOBODY, "{end:?}");

        for (client, from, to, reason) in [
            (&nobody, "b", "", NOBODY),
            (&nobody.with_token("nonsense"), "b", "", BAD_TOKEN),
            (&bob, "z", "", DENIED),
            (&bob, "a", "n", DENIED),
            (&bob, "a", "\0", DENIED),
            (&bob, "", "\0", DENIED),
        ] {
            let (_stream, answer) = open_watch(client, from, to).await;
            assert!(answer.created && answer.canceled && answer.watch_id == -1, "{answer:?}");
            assert_eq!(answer.cancel_reason, reason, "{from:?} {to:?}");
        }

        auth(&root, "RoleGrantPermission", &permission(0, "x", "")).await.expect("granted");
        let (mut idle, _) = open_watch(&bob, "a", "c").await;
        let kept = add_watch(&mut idle, "x", "").await;
        assert!(kept.created && !kept.canceled);
        let (mut busy, _) = open_watch(&bob, "b", "").await;
        write(&root, "b").await.expect("written");
        for stream in [&mut idle, &mut busy] {
            assert_eq!(stream.next().await.expect("an event").events.len(), 1);
        }
        auth(&root, "RoleRevokePermission", &revocation("a", "m")).await.expect("revoked");
        // Nothing that is written from here on is seen: the first thing that comes is the end.
        write(&root, "b").await.expect("written");
        for stream in [&mut idle, &mut busy] {
            let end = stream.next().await.expect("an end");
            assert!(end.canceled && end.events.is_empty(), "{end:?}");
            assert_eq!(end.cancel_reason, DENIED);
        }
        // The stream lives on with what is left.
        write(&root, "x").await.expect("written");
        let event = idle.next().await.expect("an event");
        assert_eq!((event.watch_id, event.events.len()), (kept.watch_id, 1));
    });
    assert!(server.stop().success());
}

#[test]
fn streams_of_leases_and_leaders_end_with_the_right_to_them() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let (nobody, root, bob) = clients(&server).await;
        let path = "etcdserverpb.Lease/LeaseGrant";
        let grant = lease::LeaseGrantRequest { ttl: 100, id: 9 };
        let _: lease::LeaseGrantResponse = call(&bob, path, grant).await.expect("a lease");
        let path = "etcdserverpb.KV/Put";
        let attached = kv::PutRequest { lease: 9, ..put("b") };
        let _: kv::PutResponse = call(&bob, path, attached).await.expect("attached");
        type KeepAlive = mainstay_tests::grpc::Stream<
            lease::LeaseKeepAliveRequest,
            lease::LeaseKeepAliveResponse,
        >;
        let keep_alive = "/etcdserverpb.Lease/LeaseKeepAlive";
        let mut lives: KeepAlive = bob.stream(keep_alive).await;
        lives.send(&lease::LeaseKeepAliveRequest { id: 9 });
        assert_eq!(lives.next().await.expect("an answer").ttl, 100);

        let campaign = election::CampaignRequest { name: key("e"), lease: 0, value: key("1") };
        let path = "v3electionpb.Election/Campaign";
        let _: election::CampaignResponse = call(&bob, path, campaign).await.expect("elected");
        type Observe =
            mainstay_tests::grpc::Stream<election::LeaderRequest, election::LeaderResponse>;
        let request = election::LeaderRequest { name: key("e") };
        let mut leaders: Observe = bob.open("/v3electionpb.Election/Observe", &request).await;
        assert!(leaders.next().await.expect("a leader").kv.is_some());

        auth(&root, "RoleRevokePermission", &revocation("a", "m")).await.expect("revoked");
        lives.send(&lease::LeaseKeepAliveRequest { id: 9 });
        assert_eq!(lives.end().await.expect("a failure").message, DENIED);
        let proclaimed = read(&root, "e", "f").await.expect("the leader").kvs[0].clone();
        let rewrite = kv::PutRequest { key: proclaimed.key, value: key("2"), ..Default::default() };
        let _: kv::PutResponse =
            call(&root, "etcdserverpb.KV/Put", rewrite).await.expect("written");
        assert_eq!(leaders.end().await.expect("a failure").message, DENIED);
        let mut refused: KeepAlive = nobody.stream(keep_alive).await;
        refused.send(&lease::LeaseKeepAliveRequest { id: 9 });
        assert_eq!(refused.end().await.expect("a failure").message, NOBODY);
    });
    assert!(server.stop().success());
}

#[test]
fn simple_tokens_run_out_when_nobody_uses_them() {
    let directory = Directory::new();
    let flags = [FLAGS[0], FLAGS[1], "--auth-token-ttl=2"];
    let server = Mainstay::store(directory.path(), &flags);
    block_on(async {
        let (_nobody, _root, bob) = clients(&server).await;
        // Longer than it lasts, but used all the time.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            assert_eq!(failure(read(&bob, "b", "").await), "");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_eq!(failure(read(&bob, "b", "").await), BAD_TOKEN);
    });
    assert!(server.stop().success());
}

#[test]
fn signed_tokens() {
    let directory = Directory::new();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let file = directory.path().join("token.key");
    std::fs::write(&file, pair.serialize_pem()).expect("a file");
    let data = directory.path().join("data");
    let token = format!("--auth-token=jwt,sign-method=ES256,priv-key={},ttl=3s", file.display());
    let server = Mainstay::store(&data, &[FLAGS[0], FLAGS[1], &token]);
    block_on(async {
        let (nobody, root, bob) = clients(&server).await;
        assert_eq!(failure(write(&bob, "b").await), "");
        assert_eq!(failure(write(&bob, "z").await), DENIED);
        // It speaks for the rights of its time.
        auth(&root, "RoleGrantPermission", &permission(0, "x", "")).await.expect("granted");
        assert_eq!(failure(write(&bob, "b").await), "etcdserver: revision of auth store is old");
        assert_eq!(failure(write(&root, "b").await), "etcdserver: revision of auth store is old");
        let bob = nobody.with_token(&log_in(&nobody, "bob", "bp").await.expect("a token"));
        assert_eq!(failure(write(&bob, "b").await), "");
        until("the token does not run out", || async {
            failure(read(&bob, "b", "").await) == BAD_TOKEN
        })
        .await;
    });
    if etcdctl::is_present() {
        let bob = as_user(&Etcdctl::new(&server.etcd), "bob:bp");
        assert_eq!(bob.ok(&["put", "b", "1"]), "OK\n");
        assert!(bob.fails(&["put", "z", "1"]).contains(DENIED));
    }
    assert!(server.stop().success());
}

#[test]
fn certificates_name_users() {
    if !etcdctl::is_present() {
        return etcdctl::skipped("users by certificate");
    }
    let directory = Directory::new();
    let listen = "--listen-client-urls=https://127.0.0.1:0";
    let flags = [FLAGS[0], FLAGS[1], listen, "--client-cert-auth"];
    let server = Mainstay::store(directory.path(), &flags);
    let file = |name: &str| directory.path().join("pki").join(name).display().to_string();
    let tls = vec![
        format!("--cacert={}", file("ca.crt")),
        format!("--cert={}", file("admin.crt")),
        format!("--key={}", file("admin.key")),
    ];
    let by_certificate = Etcdctl::new(&format!("https://{}", server.etcd)).with(tls.clone());
    let with_password = |user: &str| {
        by_certificate.clone().with([tls.clone(), vec![format!("--user={user}")]].concat())
    };
    by_certificate.ok(&["put", "b", "1"]);
    set_up(&by_certificate);
    // The name that Mainstay's own client certificate has.
    let root = with_password("root:rp");
    assert!(by_certificate.fails(&["get", "b"]).contains(DENIED), "not a user");
    root.ok(&["user", "add", "kubernetes-admin", "--no-password"]);
    root.ok(&["user", "grant-role", "kubernetes-admin", "half"]);
    assert_eq!(by_certificate.ok(&["get", "b"]), "b\n1\n");
    assert!(by_certificate.fails(&["get", "z"]).contains(DENIED));
    // A token counts more than the certificate.
    assert_eq!(root.ok(&["put", "z", "1"]), "OK\n");
    let login = with_password("kubernetes-admin:x");
    assert!(login.fails(&["get", "b"]).contains("password was given for no password user"));
    assert!(server.stop().success());
}

#[test]
fn flags_that_can_not_be_used_are_told_before_anything_is_served() {
    let directory = Directory::new();
    let data = directory.path().display().to_string();
    for (flag, expected) in [
        ("--auth-token=magic", "simple and jwt"),
        ("--auth-token=jwt,sign-method=RS256,priv-key=/does/not/exist", "/does/not/exist"),
        ("--bcrypt-cost=3", "4..=31"),
        ("--auth-token-ttl=0", "1..="),
    ] {
        let output = std::process::Command::new(mainstay_tests::process::binary())
            .args(["store", "--data-dir", &data, "--listen-client-urls=http://127.0.0.1:0", flag])
            .output()
            .expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(expected), "{flag}: {text}");
    }
}
