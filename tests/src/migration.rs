//! What tests of moving data in and out share: data of every kind, and a look at all of it.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use mainstay_proto::kv::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest, TxnResponse,
};
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use mainstay_proto::{Event, KeyValue};

use crate::grpc::{Client, Failure, block_on};
use crate::process::mainstayctl;

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A lease: id, seconds granted, the keys that hang on it.
pub type Lease = (i64, i64, Vec<Bytes>);

/// Everything that a client can see of a store.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub revision: i64,
    pub keys: Vec<KeyValue>,
    pub leases: Vec<Lease>,
}

/// All keys at a revision; 0 for the newest.
pub async fn keys_at(client: &Client, revision: i64) -> Result<RangeResponse, Failure> {
    let everything = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..RangeRequest::default()
    };
    client.unary("/etcdserverpb.KV/Range", &everything).await
}

pub async fn look(client: &Client) -> Seen {
    let read = keys_at(client, 0).await.expect("a range");
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

pub fn look_at(address: &str) -> Seen {
    block_on(async { look(&Client::connect(address).await).await })
}

/// All events from a revision on, up to another one.
pub async fn events(client: &Client, from: i64, upto: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: from,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) };
    let mut stream = client.stream_with(WATCH, &request).await;
    let mut events: Vec<Event> = Vec::new();
    while events.last().and_then(|event| event.kv.as_ref()).is_none_or(|kv| kv.mod_revision < upto)
    {
        let response: WatchResponse = stream.next().await.expect("the watch goes on");
        assert!(!response.canceled, "{response:?}");
        events.extend(response.events);
    }
    events
}

/// Writes a little of everything: values small, empty and large, versions, deletions, leases,
/// transactions with several keys, and names as a Kubernetes API server has them.
pub async fn fill(client: &Client) {
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

/// Compacts in the middle, and writes on. Gives the revision compacted to.
pub async fn compact_and_go_on(client: &Client) -> i64 {
    let revision = look(client).await.revision - 120;
    let request = CompactionRequest { revision, physical: true };
    let _: CompactionResponse =
        client.unary("/etcdserverpb.KV/Compact", &request).await.expect("a compaction");
    delete(client, "/registry/pods/namespace-5/", "/registry/pods/namespace-50").await;
    revision
}

pub async fn delete(client: &Client, key: &'static str, range_end: &'static str) {
    let request = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..DeleteRangeRequest::default()
    };
    let _: DeleteRangeResponse =
        client.unary("/etcdserverpb.KV/DeleteRange", &request).await.expect("a deletion");
}

/// Runs mainstayctl; gives what it said on both outputs.
#[track_caller]
pub fn tool(arguments: &[&str]) -> String {
    let output = Command::new(mainstayctl()).args(arguments).output().expect("mainstayctl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mainstayctl {arguments:?}: {said}{errors}");
    said + &errors
}

/// Runs mainstayctl, which must refuse; gives its words.
#[track_caller]
pub fn refused(arguments: &[&str]) -> String {
    let output = Command::new(mainstayctl()).args(arguments).output().expect("mainstayctl runs");
    assert!(!output.status.success(), "mainstayctl {arguments:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}
