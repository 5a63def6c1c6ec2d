//! Coming from a real etcd and going back to it: keys, revisions, versions and leases stay.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use mainstay_proto::KeyValue;
use mainstay_proto::kv::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Request, RequestOp, TxnRequest, TxnResponse,
};
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use mainstay_tests::etcd::{self, Etcd};
use mainstay_tests::etcdctl::Etcdctl;
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};

/// A lease: id, seconds granted, the keys that hang on it.
type Lease = (i64, i64, Vec<Bytes>);

/// Everything that a client can see of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    keys: Vec<KeyValue>,
    leases: Vec<Lease>,
}

async fn look(client: &Client) -> Seen {
    let everything = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    let read: RangeResponse =
        client.unary("/etcdserverpb.KV/Range", &everything).await.expect("a range");
    let listed: LeaseLeasesResponse = client
        .unary("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {})
        .await
        .expect("leases");
    let mut leases = Vec::new();
    for lease in listed.leases {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let status: LeaseTimeToLiveResponse =
            client.unary("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.expect("a lease");
        assert!(status.ttl > 0 && status.ttl <= status.granted_ttl, "{status:?}");
        let mut keys = status.keys;
        keys.sort();
        leases.push((status.id, status.granted_ttl, keys));
    }
    leases.sort();
    Seen { revision: read.header.expect("a header").revision, keys: read.kvs, leases }
}

fn look_at(address: &str) -> Seen {
    block_on(async { look(&Client::connect(address).await).await })
}

/// Writes a little of everything: values small, empty and large, versions, deletions, leases,
/// transactions with several keys, and names as a Kubernetes API server has them.
async fn fill(client: &Client) {
    let put = async |key: String, value: Vec<u8>, lease: i64| {
        let request =
            PutRequest { key: key.into(), value: value.into(), lease, ..PutRequest::default() };
        let _: PutResponse = client.unary("/etcdserverpb.KV/Put", &request).await.expect("a put");
    };
    for (id, ttl) in [(7, 3_600), (i64::MAX - 3, 100_000)] {
        let request = LeaseGrantRequest { id, ttl };
        let _: LeaseGrantResponse =
            client.unary("/etcdserverpb.Lease/LeaseGrant", &request).await.expect("a grant");
    }
    for number in 0..300 {
        let name = format!("/registry/pods/namespace-{}/pod-{number}", number % 7);
        put(name, vec![b'x'; number * 13 % 5_000], 0).await;
    }
    for number in 0..50 {
        put(format!("/registry/masterleases/{}", number % 5), b"again".to_vec(), 7).await;
        put("/registry/events/e".to_owned(), vec![number; 3], i64::MAX - 3).await;
    }
    put("/empty".to_owned(), Vec::new(), 0).await;
    put("/large".to_owned(), vec![0xfe; 1_400_000], 0).await;
    let operations = |values: &[&'static str]| TxnRequest {
        success: values
            .iter()
            .map(|key| RequestOp {
                request: Some(Request::Put(PutRequest {
                    key: (*key).into(),
                    value: "of a transaction".into(),
                    ..PutRequest::default()
                })),
            })
            .collect(),
        ..TxnRequest::default()
    };
    let request = operations(&["/txn/c", "/txn/a", "/txn/b"]);
    let _: TxnResponse = client.unary("/etcdserverpb.KV/Txn", &request).await.expect("a txn");
    delete(client, "/registry/pods/namespace-3/", "/registry/pods/namespace-30").await;
    put("/registry/pods/namespace-3/pod-3".to_owned(), b"born again".to_vec(), 0).await;
    delete(client, "/empty", "").await;
}

async fn delete(client: &Client, key: &'static str, range_end: &'static str) {
    let request = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..DeleteRangeRequest::default()
    };
    let _: DeleteRangeResponse =
        client.unary("/etcdserverpb.KV/DeleteRange", &request).await.expect("a deletion");
}

/// Runs etcdctl without a server.
#[track_caller]
fn etcdctl(arguments: &[&str]) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(arguments)
        .output()
        .expect("etcdctl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "etcdctl {arguments:?}: {said}{errors}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}

/// Saves a snapshot of a server, checks it as etcdctl does, and starts a real etcd from it.
fn etcd_from_snapshot(address: &str, directory: &Path) -> Etcd {
    let file = directory.join("snapshot.db");
    Etcdctl::new(address).ok(&["snapshot", "save", text(&file)]);
    etcd_from_file(&file, directory)
}

fn etcd_from_file(file: &Path, directory: &Path) -> Etcd {
    let restored = directory.join("restored");
    let status = etcdctl(&["snapshot", "status", text(file), "--write-out=json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(status["totalKey"].as_u64() > Some(0), "{status}");
    etcdctl(&["snapshot", "restore", text(file), &format!("--data-dir={}", text(&restored))]);
    Etcd::start(&restored)
}

#[test]
fn a_real_etcd_starts_from_a_snapshot() {
    if !etcd::is_present("an etcd started from Mainstay's snapshot") {
        return;
    }
    let (data, other) = (Directory::new(), Directory::new());
    let server = Mainstay::store(data.path(), &["--cores=2"]);
    block_on(async { fill(&Client::connect(&server.etcd).await).await });
    let before = look_at(&server.etcd);
    assert!(before.keys.len() > 250 && before.leases.len() == 2);
    let etcd = etcd_from_snapshot(&server.etcd, other.path());
    let after = look_at(&etcd.address);
    // etcd keeps leases' keys from what it reads, too: all of it must be the same.
    assert_eq!(after, before);
    // And it goes on: the next revision follows the last.
    let next = block_on(async {
        let client = Client::connect(&etcd.address).await;
        delete(&client, "/large", "").await;
        look(&client).await
    });
    assert_eq!(next.revision, before.revision + 1);
    assert!(server.stop().success());
}

#[test]
fn an_empty_store_is_a_snapshot_too() {
    if !etcd::is_present("a snapshot of an empty store") {
        return;
    }
    let (data, other) = (Directory::new(), Directory::new());
    let server = Mainstay::store(data.path(), &["--cores=1"]);
    let etcd = etcd_from_snapshot(&server.etcd, other.path());
    let after = look_at(&etcd.address);
    assert_eq!((after.revision, after.keys.len(), after.leases.len()), (1, 0, 0));
}
