//! Users, roles and permissions of etcd's API: real processes on two cores, etcdctl and gRPC.

use std::time::{Duration, Instant};

use mainstay_proto::auth as proto;
use mainstay_proto::lease;
use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};
use mainstay_tests::users::{
    Anything, BAD_TOKEN, DENIED, FLAGS, NOBODY, as_user, auth, call, clients, failure, grant,
    log_in, permission, read, revocation, set_up, until, user, write,
};

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
        assert_eq!(failure(write(&bob, "b").await), BAD_TOKEN);
        let lease = lease::LeaseGrantRequest { ttl: 100, id: 0 };
        let path = "etcdserverpb.Lease/LeaseGrant";
        let granted: Result<Anything, _> = call(&bob, path, lease).await;
        assert_eq!(failure(granted), BAD_TOKEN, "what any user may");
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
