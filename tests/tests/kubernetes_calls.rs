//! What a kube-apiserver asks of its etcd, call by call, each with the trap that it must not fall
//! into: the letters are those of the list in docs/etcd.md.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use mainstay_proto::kv::*;
use mainstay_proto::lease::{LeaseGrantRequest, LeaseGrantResponse};
use mainstay_proto::maintenance::{StatusRequest, StatusResponse};
use mainstay_proto::watch::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchRequestUnion, WatchResponse,
};
use mainstay_proto::{EventType, ResponseHeader};
use mainstay_tests::grpc::{Client, Failure, Stream, block_on};
use mainstay_tests::process::{Directory, Mainstay};

const RANGE: &str = "/etcdserverpb.KV/Range";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

const PODS: &str = "/registry/pods/";
const PODS_END: &str = "/registry/pods0";

fn start() -> (Directory, Mainstay) {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    (directory, server)
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn unchanged_since(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        range_end: Bytes::new(),
    }
}

fn put_of(key: &str, value: &[u8], lease: i64) -> RequestOp {
    op(Request::Put(PutRequest {
        key: key.to_owned().into(),
        value: Bytes::copy_from_slice(value),
        lease,
        ..PutRequest::default()
    }))
}

fn get_of(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), limit: 1, ..RangeRequest::default() }
}

async fn transact(client: &Client, request: TxnRequest) -> TxnResponse {
    client.unary(TXN, &request).await.expect("a transaction")
}

async fn range(client: &Client, request: RangeRequest) -> RangeResponse {
    client.unary(RANGE, &request).await.expect("a range")
}

/// POST: a put if the key was never written.
async fn create(client: &Client, key: &str, value: &[u8]) -> TxnResponse {
    let (compare, success) = (vec![unchanged_since(key, 0)], vec![put_of(key, value, 0)]);
    transact(client, TxnRequest { compare, success, failure: vec![] }).await
}

/// PUT, PATCH: a put if the key is as it was read, or else what it is now.
async fn update(client: &Client, key: &str, value: &[u8], revision: i64) -> TxnResponse {
    let (compare, success) = (vec![unchanged_since(key, revision)], vec![put_of(key, value, 0)]);
    let failure = vec![op(Request::Range(get_of(key)))];
    transact(client, TxnRequest { compare, success, failure }).await
}

/// DELETE, likewise.
async fn delete(client: &Client, key: &str, revision: i64) -> TxnResponse {
    let deletion = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    let success = vec![op(Request::DeleteRange(deletion))];
    let failure = vec![op(Request::Range(get_of(key)))];
    let compare = vec![unchanged_since(key, revision)];
    transact(client, TxnRequest { compare, success, failure }).await
}

fn header(header: Option<ResponseHeader>) -> i64 {
    header.expect("a header").revision
}

/// The one key-value of a failed transaction's read.
fn found(response: &TxnResponse) -> Option<&mainstay_proto::KeyValue> {
    match &response.responses[0].response {
        Some(Response::Range(range)) => range.kvs.first(),
        other => panic!("{other:?}"),
    }
}

async fn fill(client: &Client, pods: usize) {
    for number in 0..pods {
        assert!(create(client, &format!("{PODS}default/{number:03}"), b"pod").await.succeeded);
    }
}

fn list(limit: i64) -> RangeRequest {
    let (key, range_end) = (PODS.into(), PODS_END.into());
    RangeRequest { key, range_end, limit, ..RangeRequest::default() }
}

#[test]
fn a_a_page_counts_all_that_is_left() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        fill(&client, 25).await;
        let page = range(&client, list(10)).await;
        // remainingItemCount is this difference; `more` is not looked at.
        assert_eq!((page.kvs.len(), page.count), (10, 25));
        let counted = range(&client, RangeRequest { count_only: true, ..list(0) }).await;
        assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 25, false));
        let keys = range(&client, RangeRequest { keys_only: true, ..list(0) }).await;
        assert!(keys.kvs.len() == 25 && keys.kvs.iter().all(|kv| kv.value.is_empty()));
    });
}

#[test]
fn b_a_list_goes_on_behind_its_last_key() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        fill(&client, 25).await;
        let first = range(&client, list(10)).await;
        let revision = header(first.header);
        // What is written meanwhile is not in it.
        assert!(create(&client, &format!("{PODS}default/0005x"), b"late").await.succeeded);
        let (mut keys, mut page) = (Vec::new(), first);
        let mut counts = Vec::new();
        loop {
            counts.push(page.count);
            keys.extend(page.kvs.iter().map(|kv| kv.key.clone()));
            if page.count <= page.kvs.len() as i64 {
                break;
            }
            let last = page.kvs.last().expect("a page");
            let key = Bytes::from([&last.key[..], &[0]].concat());
            page = range(&client, RangeRequest { key, revision, ..list(10) }).await;
            assert_eq!(header(page.header), revision + 1, "the header's is the newest");
        }
        let expected: Vec<_> = (0..25).map(|pod| format!("{PODS}default/{pod:03}")).collect();
        assert_eq!(
            (keys, counts),
            (expected.into_iter().map(Bytes::from).collect(), vec![25, 15, 5])
        );
    });
}

#[test]
fn c_a_create_compares_with_no_revision() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let key = "/registry/pods/default/a";
        let created = create(&client, key, b"1").await;
        assert!(created.succeeded && header(created.header) == 2);
        let again = create(&client, key, b"2").await;
        assert!(!again.succeeded && header(again.header) == 2, "no revision is taken");
        assert!(delete(&client, key, 2).await.succeeded);
        let anew = create(&client, key, b"3").await;
        assert!(anew.succeeded, "what is deleted has no revision either");
        let kv = range(&client, get_of(key)).await.kvs.remove(0);
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (4, 4, 1));
    });
}

#[test]
fn d_a_failed_create_answers_nothing() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        create(&client, "/registry/pods/default/a", b"1").await;
        let again = create(&client, "/registry/pods/default/a", b"2").await;
        assert!(!again.succeeded && again.responses.is_empty());
        // An update that lost is told what won, a deletion likewise, also that it is gone.
        let lost = update(&client, "/registry/pods/default/a", b"2", 9).await;
        assert!(!lost.succeeded && found(&lost).expect("it is there").value == "1");
        let lost = delete(&client, "/registry/pods/default/a", 9).await;
        assert_eq!(found(&lost).expect("it is there").mod_revision, 2);
        let lost = delete(&client, "/registry/pods/default/none", 9).await;
        assert!(!lost.succeeded && found(&lost).is_none());
    });
}

async fn watch(client: &Client, from: i64) -> Stream<WatchRequest, WatchResponse> {
    let mut stream: Stream<WatchRequest, WatchResponse> = client.stream(WATCH).await;
    let create = WatchCreateRequest {
        key: PODS.into(),
        range_end: PODS_END.into(),
        start_revision: from,
        prev_kv: true,
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    stream.send(&WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) });
    assert!(stream.next().await.expect("created").created);
    stream
}

fn ask_for_progress(stream: &mut Stream<WatchRequest, WatchResponse>) {
    let progress = WatchRequestUnion::Progress(WatchProgressRequest {});
    stream.send(&WatchRequest { request_union: Some(progress) });
}

#[test]
fn e_a_deletion_shows_what_is_deleted() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let key = "/registry/pods/default/a";
        create(&client, key, b"1").await;
        update(&client, key, b"2", 2).await;
        delete(&client, key, 3).await;
        // Live and from history, the same.
        for from in [4, 2] {
            let mut stream = watch(&client, from).await;
            let mut events = Vec::new();
            while events.len() < (5 - from) as usize {
                events.extend(stream.next().await.expect("events").events);
            }
            let last = events.last().expect("a deletion");
            let (kv, before) = (last.kv.as_ref().expect("a key"), last.prev_kv.as_ref());
            assert_eq!(
                (last.kind(), kv.mod_revision, &kv.value[..]),
                (EventType::Delete, 4, &b""[..])
            );
            let before = before.expect("asked for");
            assert_eq!((&before.value[..], before.mod_revision), (&b"2"[..], 3));
        }
    });
}

#[test]
fn f_progress_is_told_once_for_a_stream_and_never_early() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut stream = watch(&client, 0).await;
        for round in 0..50 {
            let key = format!("{PODS}default/{round:03}");
            let revision = header(create(&client, &key, b"1").await.header);
            // Others' writes move the store on, and nobody here hears of them.
            create(&client, &format!("/registry/nodes/{round}"), b"1").await;
            ask_for_progress(&mut stream);
            let mut seen = false;
            loop {
                let response = stream.next().await.expect("an answer");
                if response.events.is_empty() {
                    assert_eq!(response.watch_id, -1, "for all watchers of the stream");
                    assert!(header(response.header) >= revision && seen, "{response:?}");
                    break;
                }
                seen = true;
            }
        }
        // A watcher that begins later has no progress to tell of.
        let mut later = watch(&client, 1_000_000).await;
        ask_for_progress(&mut later);
        assert!(later.is_quiet(Duration::from_millis(500)).await);
    });
}

#[test]
fn g_a_missing_key_tells_the_newest_revision() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let other = Client::connect(&server.etcd).await;
        for round in 0..50 {
            let written = create(&client, &format!("{PODS}default/{round:03}"), b"1").await;
            // Any connection, so any core.
            let read = range(&other, get_of("/registry/pods/")).await;
            assert!(read.kvs.is_empty() && read.count == 0);
            assert!(header(read.header) >= header(written.header));
        }
    });
}

#[test]
fn h_the_version_promises_progress_requests() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let status: StatusResponse =
            client.unary(STATUS, &StatusRequest {}).await.expect("a status");
        let numbers: Vec<u32> =
            status.version.split('.').map(|number| number.parse().expect("a number")).collect();
        assert!(numbers.len() == 3 && numbers[..] >= [3, 5, 13][..], "{}", status.version);
        assert!(status.db_size > 0);
        // What this version does not promise is there all the same.
        fill(&client, 3).await;
        let mut stream: Stream<RangeRequest, RangeStreamResponse> =
            client.open(STREAM, &list(0)).await;
        let answer = stream.next().await.expect("an answer").range_response.expect("a range");
        assert_eq!((answer.kvs.len(), answer.count), (3, 3));
        assert!(stream.next().await.is_none());
    });
}

#[test]
fn i_a_leader_may_be_required() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let headers =
            [("content-type", "application/grpc"), ("te", "trailers"), ("hasleader", "true")];
        let request = mainstay_tests::grpc::frame(&get_of("/registry/health"));
        let answer = client.raw(RANGE, &headers, request).await;
        assert_eq!(answer.failure(), None);
    });
}

#[test]
fn j_values_come_back_as_they_went_in() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let every_byte: Vec<u8> = (0..=255).collect();
        let protobuf = [b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod".as_slice(), &every_byte].concat();
        for (number, value) in
            [b"".as_slice(), b"\0", b"{}\n", b"\xff\xfe", &every_byte, &protobuf].iter().enumerate()
        {
            let key = format!("{PODS}default/{number}");
            create(&client, &key, value).await;
            let kv = range(&client, get_of(&key)).await.kvs.remove(0);
            assert_eq!((&kv.key[..], &kv.value[..]), (key.as_bytes(), *value));
            // Writing the same again is a write.
            let again = update(&client, &key, value, kv.mod_revision).await;
            assert!(again.succeeded && header(again.header) == kv.mod_revision + 1);
        }
    });
}

#[test]
fn k_messages_have_the_sizes_that_clients_expect() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let large = vec![b'x'; 1_572_864 - 200];
        assert!(create(&client, "/registry/pods/default/large", &large).await.succeeded);
        let key = "/registry/pods/default/larger";
        let request = |bytes| TxnRequest {
            compare: vec![unchanged_since(key, 0)],
            success: vec![put_of(key, &vec![b'x'; bytes], 0)],
            failure: vec![],
        };
        // Beyond etcd's limit a request is refused in words, not by the transport.
        let too_large = Failure { code: 3, message: "etcdserver: request is too large".to_owned() };
        for bytes in [1_572_864, 1_572_864 + (512 << 10) - 200] {
            let answer = client.unary::<_, TxnResponse>(TXN, &request(bytes)).await;
            assert_eq!(answer, Err(too_large.clone()), "{bytes}");
        }
        // Answers have no limit that a client with its own would meet first.
        for number in 0..20 {
            create(&client, &format!("{PODS}default/{number:02}"), &large).await;
        }
        let all = range(&client, list(0)).await;
        assert_eq!(all.kvs.iter().filter(|kv| kv.value.len() == large.len()).count(), 21);
    });
}

#[test]
fn l_a_connection_takes_many_streams() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        // More than the hundred that many servers allow; the client of this test bears no 200.
        let mut streams = Vec::new();
        for _ in 0..150 {
            streams.push(watch(&client, 0).await);
        }
        create(&client, "/registry/pods/default/a", b"1").await;
        for response in join_all(streams.iter_mut().map(Stream::next)).await {
            assert_eq!(response.expect("an event").events.len(), 1);
        }
    });
}

#[test]
fn a_lease_serves_many_events() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let request = LeaseGrantRequest { ttl: 3600 + 60, id: 0 };
        let lease: LeaseGrantResponse = client.unary(GRANT, &request).await.expect("a lease");
        assert!(lease.id != 0 && lease.ttl == 3660 && lease.error.is_empty());
        for number in 0..100 {
            let key = format!("/registry/events/default/{number}");
            let (compare, success) =
                (vec![unchanged_since(&key, 0)], vec![put_of(&key, b"event", lease.id)]);
            let request = TxnRequest { compare, success, failure: vec![] };
            assert!(transact(&client, request).await.succeeded);
        }
        let kv = range(&client, get_of("/registry/events/default/7")).await.kvs.remove(0);
        assert_eq!(kv.lease, lease.id);
    });
}

#[test]
fn compactions_are_agreed_on_by_a_key() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        fill(&client, 10).await;
        let of_version = |version| Compare {
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::Version(version)),
            ..unchanged_since("compact_rev_key", 0)
        };
        let round = async |version, revision: i64| {
            let request = TxnRequest {
                compare: vec![of_version(version)],
                success: vec![put_of("compact_rev_key", revision.to_string().as_bytes(), 0)],
                failure: vec![op(Request::Range(get_of("compact_rev_key")))],
            };
            transact(&client, request).await
        };
        assert!(round(0, 5).await.succeeded);
        let lost = round(0, 6).await;
        assert!(!lost.succeeded);
        assert_eq!(found(&lost).map(|kv| (&kv.value[..], kv.version)), Some((&b"5"[..], 1)));
        let compact = |revision| CompactionRequest { revision, physical: false };
        let answer: CompactionResponse =
            client.unary(COMPACT, &compact(5)).await.expect("a compaction");
        assert_eq!(header(answer.header), 12);
        let compacted = Failure {
            code: 11,
            message: "etcdserver: mvcc: required revision has been compacted".to_owned(),
        };
        let answer = client.unary::<_, CompactionResponse>(COMPACT, &compact(5)).await;
        assert_eq!(answer, Err(compacted.clone()), "by another server already");
        // An expired continue token, and a watch from before.
        let old = RangeRequest { revision: 4, ..list(10) };
        assert_eq!(client.unary::<_, RangeResponse>(RANGE, &old).await, Err(compacted));
        let mut stream = watch(&client, 3).await;
        let end = stream.next().await.expect("the end");
        assert_eq!((end.canceled, end.compact_revision), (true, 5));
        let future = RangeRequest { revision: 1000, ..list(10) };
        let answer = client.unary::<_, RangeResponse>(RANGE, &future).await;
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(answer, Err(Failure { code: 11, message: text.to_owned() }));
    });
}
