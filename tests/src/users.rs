//! Users and roles for tests: a server with some, and clients that act for them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_proto::auth as proto;
use mainstay_proto::kv;
use prost::Message;

use crate::etcdctl::Etcdctl;
use crate::grpc::{Client, Failure};
use crate::process::Mainstay;

/// Two cores, and hashes that take no time.
pub const FLAGS: [&str; 2] = ["--cores=2", "--bcrypt-cost=4"];

/// A message without fields: whatever comes can be read as one.
pub type Anything = proto::AuthEnableRequest;

pub const DENIED: &str = "etcdserver: permission denied";

pub const NOBODY: &str = "etcdserver: user name is empty";

pub const BAD_TOKEN: &str = "etcdserver: invalid auth token";

pub fn as_user(etcdctl: &Etcdctl, user: &str) -> Etcdctl {
    etcdctl.clone().with(vec![format!("--user={user}")])
}

/// Root with the password `rp`; `bob` with `bp`, who may read and write [a, m); authentication on.
pub fn set_up(etcdctl: &Etcdctl) {
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

pub async fn log_in(client: &Client, name: &str, password: &str) -> Result<String, Failure> {
    let (name, password) = (name.to_owned(), password.to_owned());
    let request = proto::AuthenticateRequest { name, password };
    let answer: proto::AuthenticateResponse =
        client.unary("/etcdserverpb.Auth/Authenticate", &request).await?;
    Ok(answer.token)
}

pub async fn auth<Q: Message>(client: &Client, method: &str, request: &Q) -> Result<(), Failure> {
    let path = format!("/etcdserverpb.Auth/{method}");
    client.unary::<Q, Anything>(&path, request).await.map(|_| ())
}

pub fn user(name: &str, password: &str) -> proto::AuthUserAddRequest {
    let (name, password) = (name.to_owned(), password.to_owned());
    proto::AuthUserAddRequest { name, password, ..Default::default() }
}

pub fn grant(user: &str, role: &str) -> proto::AuthUserGrantRoleRequest {
    proto::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() }
}

pub fn permission(kind: i32, key: &str, range_end: &str) -> proto::AuthRoleGrantPermissionRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    let permission = Some(proto::Permission { kind, key, range_end });
    proto::AuthRoleGrantPermissionRequest { name: "half".to_owned(), permission }
}

pub fn revocation(key: &str, range_end: &str) -> proto::AuthRoleRevokePermissionRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    proto::AuthRoleRevokePermissionRequest { role: "half".to_owned(), key, range_end }
}

/// As [`set_up`], over gRPC: clients of nobody, root and bob.
pub async fn clients(server: &Mainstay) -> (Client, Client, Client) {
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

pub fn key(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

pub fn put(name: &str) -> kv::PutRequest {
    kv::PutRequest { key: key(name), value: key("v"), ..Default::default() }
}

pub fn range(from: &str, to: &str) -> kv::RangeRequest {
    kv::RangeRequest { key: key(from), range_end: key(to), ..Default::default() }
}

pub async fn call<Q: Message, A: Message + Default>(
    client: &Client,
    path: &str,
    request: Q,
) -> Result<A, Failure> {
    client.unary(&format!("/{path}"), &request).await
}

pub async fn write(client: &Client, name: &str) -> Result<kv::PutResponse, Failure> {
    call(client, "etcdserverpb.KV/Put", put(name)).await
}

pub async fn read(client: &Client, from: &str, to: &str) -> Result<kv::RangeResponse, Failure> {
    call(client, "etcdserverpb.KV/Range", range(from, to)).await
}

pub fn failure<A>(result: Result<A, Failure>) -> String {
    result.err().map_or_else(String::new, |failure| failure.message)
}

pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
