//! The etcd door, message by message: what etcdctl does not show.

use std::time::Duration;

use bytes::Bytes;
use mainstay_proto::health::{HealthCheckRequest, HealthCheckResponse};
use mainstay_proto::kv::*;
use mainstay_proto::lease::*;
use mainstay_proto::watch::{
    FilterType, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchRequestUnion, WatchResponse,
};
use mainstay_proto::{EventType, ResponseHeader};
use mainstay_tests::grpc::{Client, Failure, Stream, block_on, frame};
use mainstay_tests::process::{Directory, Mainstay};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

fn start() -> (Directory, Mainstay) {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    (directory, server)
}

async fn put(client: &Client, key: &str, value: &str) -> ResponseHeader {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    let response: PutResponse = client.unary(PUT, &request).await.expect("a good put");
    response.header.expect("a header")
}

fn failure(code: u32, message: &str) -> Failure {
    Failure { code, message: message.to_owned() }
}

#[test]
fn requests_are_validated_in_etcds_words() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let key = || Bytes::from_static(b"k");
        let range = RangeRequest { key: key(), ..RangeRequest::default() };
        for (request, expected) in [
            (RangeRequest::default(), failure(3, "etcdserver: key is not provided")),
            (
                RangeRequest { sort_target: 99, ..range.clone() },
                failure(3, "etcdserver: invalid sort option"),
            ),
            (
                RangeRequest { revision: 1000, ..range },
                failure(11, "etcdserver: mvcc: required revision is a future revision"),
            ),
        ] {
            let answer = client.unary::<_, RangeResponse>(RANGE, &request).await;
            assert_eq!(answer, Err(expected), "{request:?}");
        }
        let good = PutRequest { key: key(), value: key(), ..PutRequest::default() };
        for (request, expected) in [
            (PutRequest::default(), failure(3, "etcdserver: key is not provided")),
            (
                PutRequest { ignore_value: true, ..good.clone() },
                failure(3, "etcdserver: value is provided"),
            ),
            (
                PutRequest { ignore_lease: true, lease: 4, ..good.clone() },
                failure(3, "etcdserver: lease is provided"),
            ),
            (
                PutRequest { ignore_lease: true, ..good.clone() },
                failure(3, "etcdserver: key not found"),
            ),
            (
                PutRequest { lease: 4, ..good.clone() },
                failure(5, "etcdserver: requested lease not found"),
            ),
            (
                PutRequest { value: vec![0; 1_600_000].into(), ..good.clone() },
                failure(3, "etcdserver: request is too large"),
            ),
            (
                PutRequest { value: vec![0; 3 << 20].into(), ..good },
                failure(8, "grpc: received message larger than max (3145736 vs. 2097152)"),
            ),
        ] {
            let answer = client.unary::<_, PutResponse>(PUT, &request).await;
            assert_eq!(answer, Err(expected));
        }
        let empty = DeleteRangeRequest::default();
        let answer = client.unary::<_, DeleteRangeResponse>(DELETE, &empty);
        assert_eq!(answer.await, Err(failure(3, "etcdserver: key is not provided")));
        for (revision, expected) in [
            (0, failure(11, "etcdserver: mvcc: required revision has been compacted")),
            (-1, failure(11, "etcdserver: mvcc: required revision has been compacted")),
            (99, failure(11, "etcdserver: mvcc: required revision is a future revision")),
        ] {
            let request = CompactionRequest { revision, physical: false };
            let answer = client.unary::<_, CompactionResponse>(COMPACT, &request).await;
            assert_eq!(answer, Err(expected), "{revision}");
        }
        let request = LeaseGrantRequest { ttl: 9_000_000_001, id: 0 };
        let answer =
            client.unary::<_, LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &request);
        assert_eq!(answer.await, Err(failure(11, "etcdserver: too large lease TTL")));
        let request =
            TxnRequest { success: vec![RequestOp { request: None }], ..TxnRequest::default() };
        let answer = client.unary::<_, TxnResponse>(TXN, &request).await;
        assert_eq!(answer, Err(failure(3, "etcdserver: key not found")));
    });
}

#[test]
fn headers_tell_the_newest_revision() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let missing = RangeRequest { key: "none".into(), ..RangeRequest::default() };
        let read = async || {
            let response: RangeResponse = client.unary(RANGE, &missing).await.expect("a range");
            response.header.expect("a header")
        };
        let first = read().await;
        assert_eq!(first.revision, 1, "a fresh store is at revision 1");
        assert!(first.cluster_id != 0 && first.member_id != 0 && first.raft_term != 0);
        let wrote = put(&client, "k", "v").await;
        assert_eq!(wrote, ResponseHeader { revision: 2, ..first });
        assert_eq!(read().await, wrote);
        // A transaction without effect takes no revision; one with many takes one.
        let empty: TxnResponse =
            client.unary(TXN, &TxnRequest::default()).await.expect("a transaction");
        assert!(empty.succeeded && empty.responses.is_empty());
        assert_eq!(empty.header, Some(wrote));
        let op = |key: &'static str| RequestOp {
            request: Some(Request::Put(PutRequest { key: key.into(), ..PutRequest::default() })),
        };
        let request = TxnRequest { success: vec![op("a"), op("b"), op("c")], ..Default::default() };
        let response: TxnResponse = client.unary(TXN, &request).await.expect("a transaction");
        assert_eq!(response.header.expect("a header").revision, 3);
        for response in response.responses {
            let Some(Response::Put(put)) = response.response else { panic!("{response:?}") };
            assert_eq!(put.header, Some(ResponseHeader { revision: 3, ..Default::default() }));
        }
    });
}

#[test]
fn ranges_sort_limit_and_count() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        for (key, value) in [("r/c", "1"), ("r/a", "3"), ("r/b", "2"), ("r/c", "0"), ("s", "x")] {
            put(&client, key, value).await;
        }
        let all = RangeRequest { key: "r/".into(), range_end: "r0".into(), ..Default::default() };
        for (request, keys, more, count) in [
            (all.clone(), "r/a r/b r/c", false, 3),
            (RangeRequest { limit: 2, ..all.clone() }, "r/a r/b", true, 3),
            (RangeRequest { limit: 3, ..all.clone() }, "r/a r/b r/c", false, 3),
            (RangeRequest { sort_order: 2, ..all.clone() }, "r/c r/b r/a", false, 3),
            (RangeRequest { sort_target: 4, ..all.clone() }, "r/c r/b r/a", false, 3),
            // Of the first two by key the one with the smaller value: so does etcd.
            (RangeRequest { sort_target: 4, limit: 1, ..all.clone() }, "r/b", true, 3),
            (
                RangeRequest { sort_target: 4, sort_order: 1, limit: 1, ..all.clone() },
                "r/c",
                true,
                3,
            ),
            (
                RangeRequest { sort_target: 3, sort_order: 2, limit: 1, ..all.clone() },
                "r/c",
                true,
                3,
            ),
            (RangeRequest { count_only: true, ..all.clone() }, "", false, 3),
            (RangeRequest { min_mod_revision: 4, ..all.clone() }, "r/b r/c", false, 3),
            (RangeRequest { max_create_revision: 2, ..all.clone() }, "r/c", false, 3),
            (RangeRequest { revision: 3, ..all.clone() }, "r/a r/c", false, 2),
            (RangeRequest { range_end: "\0".into(), ..all.clone() }, "r/a r/b r/c s", false, 4),
            (RangeRequest { range_end: "a".into(), ..all.clone() }, "", false, 0),
        ] {
            let response: RangeResponse = client.unary(RANGE, &request).await.expect("a range");
            let found: Vec<_> =
                response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key)).collect();
            assert_eq!(found.join(" "), keys, "{request:?}");
            assert_eq!((response.more, response.count), (more, count), "{request:?}");
        }
        let request = RangeRequest { keys_only: true, ..all };
        let response: RangeResponse = client.unary(RANGE, &request).await.expect("a range");
        assert!(response.kvs.iter().all(|kv| kv.value.is_empty() && kv.version > 0));
    });
}

type WatchStream = Stream<WatchRequest, WatchResponse>;

fn send_create(stream: &mut WatchStream, create: WatchCreateRequest) {
    stream.send(&WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) });
}

fn prefix(prefix: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: prefix.into(), range_end: end.into(), ..Default::default() }
}

/// Keys and kinds of a response's events.
fn seen(response: &WatchResponse) -> Vec<(String, EventType)> {
    let one = |event: &mainstay_proto::Event| {
        let kv = event.kv.as_ref().expect("always there");
        (String::from_utf8_lossy(&kv.key).into_owned(), event.kind())
    };
    response.events.iter().map(one).collect()
}

#[test]
fn many_watchers_share_a_stream() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut stream: WatchStream = client.stream(WATCH).await;
        send_create(&mut stream, prefix("a/", "a0"));
        let first = stream.next().await.expect("created");
        assert!(first.created && !first.canceled && first.watch_id == 0, "{first:?}");
        assert_eq!(first.header.expect("a header").revision, 1);
        send_create(&mut stream, WatchCreateRequest { watch_id: 7, ..prefix("b/", "b0") });
        assert_eq!(stream.next().await.expect("created").watch_id, 7);
        send_create(&mut stream, WatchCreateRequest { watch_id: 7, ..prefix("b/", "b0") });
        let clash = stream.next().await.expect("refused");
        assert_eq!((clash.watch_id, clash.created, clash.canceled), (-1, true, true));
        assert_eq!(clash.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
        send_create(&mut stream, prefix("z", "a"));
        let empty = stream.next().await.expect("refused");
        assert_eq!(empty.cancel_reason, "mvcc: watcher range is empty");

        put(&client, "b/1", "x").await;
        let event = stream.next().await.expect("an event");
        assert_eq!((event.watch_id, seen(&event)), (7, vec![("b/1".into(), EventType::Put)]));
        put(&client, "a/1", "x").await;
        let event = stream.next().await.expect("an event");
        assert_eq!((event.watch_id, seen(&event)), (0, vec![("a/1".into(), EventType::Put)]));

        let cancel = WatchCancelRequest { watch_id: 0 };
        stream.send(&WatchRequest { request_union: Some(WatchRequestUnion::Cancel(cancel)) });
        let canceled = stream.next().await.expect("canceled");
        assert_eq!((canceled.watch_id, canceled.canceled), (0, true));
        put(&client, "a/2", "x").await;
        assert!(stream.is_quiet(Duration::from_millis(300)).await, "canceled");

        // The client's last request does not end what it watches.
        stream.finish();
        put(&client, "b/2", "x").await;
        let event = stream.next().await.expect("an event");
        assert_eq!(seen(&event), [("b/2".into(), EventType::Put)]);
    });
}

#[test]
fn watchers_see_history_filters_and_previous_versions() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        put(&client, "k/1", "a").await; // revision 2
        put(&client, "k/1", "b").await;
        let delete = DeleteRangeRequest { key: "k/1".into(), ..Default::default() };
        let _deleted: DeleteRangeResponse = client.unary(DELETE, &delete).await.expect("good");
        let watch = async |create: WatchCreateRequest, events: usize| {
            let mut stream: WatchStream = client.stream(WATCH).await;
            send_create(&mut stream, create);
            assert!(stream.next().await.expect("created").created);
            let mut found = Vec::new();
            while found.len() < events {
                found.extend(stream.next().await.expect("events").events);
            }
            assert!(stream.is_quiet(Duration::from_millis(100)).await);
            found
        };
        let history = WatchCreateRequest { start_revision: 2, ..prefix("k/", "k0") };
        let found = watch(WatchCreateRequest { prev_kv: true, ..history.clone() }, 3).await;
        let revisions: Vec<_> =
            found.iter().map(|event| event.kv.as_ref().expect("there").mod_revision).collect();
        assert_eq!(revisions, [2, 3, 4]);
        let before: Vec<_> = found
            .iter()
            .map(|event| event.prev_kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value)))
            .collect();
        assert_eq!(before, [None, Some("a".into()), Some("b".into())]);
        let gone = found[2].kv.as_ref().expect("there");
        assert_eq!((gone.create_revision, gone.version, gone.value.len()), (0, 0, 0));
        let filtered = |filter: FilterType| WatchCreateRequest {
            filters: vec![filter.into()],
            ..history.clone()
        };
        assert_eq!(watch(filtered(FilterType::NoPut), 1).await[0].kind(), EventType::Delete);
        let puts = watch(filtered(FilterType::NoDelete), 2).await;
        assert!(puts.iter().all(|event| event.kind() == EventType::Put && event.prev_kv.is_none()));

        let compact = CompactionRequest { revision: 3, physical: true };
        let _done: CompactionResponse = client.unary(COMPACT, &compact).await.expect("good");
        let mut stream: WatchStream = client.stream(WATCH).await;
        send_create(&mut stream, history);
        assert!(stream.next().await.expect("created").created);
        let compacted = stream.next().await.expect("canceled");
        assert_eq!((compacted.canceled, compacted.compact_revision), (true, 3));
        send_create(&mut stream, WatchCreateRequest { start_revision: -1, ..prefix("k", "") });
        let refused = stream.next().await.expect("refused");
        assert!(refused.cancel_reason.contains("has been compacted"), "{refused:?}");
    });
}

#[test]
fn progress_never_overtakes_an_event() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut stream: WatchStream = client.stream(WATCH).await;
        let progress = WatchRequest {
            request_union: Some(WatchRequestUnion::Progress(WatchProgressRequest {})),
        };
        stream.send(&progress);
        assert!(stream.is_quiet(Duration::from_millis(200)).await, "nobody watches");
        send_create(&mut stream, prefix("p/", "p0"));
        send_create(&mut stream, prefix("q/", "q0"));
        assert!(stream.next().await.expect("created").created);
        assert!(stream.next().await.expect("created").created);
        for round in 0..200 {
            let (watched, other) = (format!("p/{round}"), format!("other/{round}"));
            let (first, second) =
                tokio::join!(put(&client, &watched, "x"), put(&client, &other, "x"));
            stream.send(&progress);
            let newest = first.revision.max(second.revision);
            let mut delivered = false;
            loop {
                let response = stream.next().await.expect("open");
                let revision = response.header.expect("a header").revision;
                if response.watch_id == -1 {
                    assert!(revision >= newest, "round {round}: {revision} < {newest}");
                    assert!(delivered, "round {round}: the event of {} is missing", first.revision);
                    break;
                }
                assert_eq!(seen(&response), [(watched.clone(), EventType::Put)]);
                delivered = true;
            }
        }
    });
}

#[test]
fn silent_watchers_hear_of_progress_from_time_to_time() {
    let directory = Directory::new();
    let flags = ["--cores=2", "--watch-progress-notify-interval=200ms"];
    let server = Mainstay::store(directory.path(), &flags);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut stream: WatchStream = client.stream(WATCH).await;
        send_create(&mut stream, WatchCreateRequest { progress_notify: true, ..prefix("a", "b") });
        send_create(&mut stream, prefix("a", "b"));
        for _ in 0..2 {
            assert!(stream.next().await.expect("created").created);
        }
        let mut told = 0;
        for round in 0..3 {
            let newest = put(&client, &format!("other/{round}"), "x").await.revision;
            while told < newest {
                let notice = stream.next().await.expect("a notice");
                assert!(notice.events.is_empty());
                assert_eq!(notice.watch_id, 0, "the other did not ask");
                told = notice.header.expect("a header").revision;
            }
        }
        let newest = put(&client, "a", "x").await.revision;
        let mut events = 0;
        while events < 2 {
            let response = stream.next().await.expect("open");
            let revision = response.header.expect("a header").revision;
            assert_eq!(response.events.is_empty(), revision < newest, "{response:?}");
            events += response.events.len();
        }
    });
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let (_directory, server) = start();
    block_on(async {
        let lazy = Client::connect(&server.etcd).await;
        let mut unread: WatchStream = lazy.stream(WATCH).await;
        send_create(&mut unread, prefix("big/", "big0"));
        let client = Client::connect(&server.etcd).await;
        let mut stream: WatchStream = client.stream(WATCH).await;
        send_create(&mut stream, prefix("big/", "big0"));
        assert!(stream.next().await.expect("created").created);
        let value = "v".repeat(100_000);
        for round in 0..100 {
            put(&client, &format!("big/{round}"), &value).await;
            assert_eq!(stream.next().await.expect("an event").events.len(), 1);
        }
        // It gets everything once it reads.
        assert!(unread.next().await.expect("created").created);
        let mut events = 0;
        while events < 100 {
            events += unread.next().await.expect("events").events.len();
        }
    });
}

#[test]
fn leases_are_kept_alive_on_a_stream() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let grant = LeaseGrantRequest { ttl: 60, id: 1234 };
        let granted: LeaseGrantResponse =
            client.unary("/etcdserverpb.Lease/LeaseGrant", &grant).await.expect("a lease");
        assert_eq!((granted.id, granted.ttl), (1234, 60));
        let again = client.unary::<_, LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &grant);
        assert_eq!(again.await, Err(failure(9, "etcdserver: lease already exists")));
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let mut stream: Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
            client.stream(path).await;
        for (id, ttl) in [(1234, 60), (99, 0), (1234, 60)] {
            stream.send(&LeaseKeepAliveRequest { id });
            let answer = stream.next().await.expect("an answer");
            assert_eq!((answer.id, answer.ttl), (id, ttl));
            assert!(answer.header.is_some_and(|header| header.revision > 0));
        }
        stream.finish();
        assert_eq!(stream.end().await, None);
        let ask = LeaseTimeToLiveRequest { id: 99, keys: true };
        let gone: LeaseTimeToLiveResponse =
            client.unary("/etcdserverpb.Lease/LeaseTimeToLive", &ask).await.expect("no error");
        assert_eq!((gone.id, gone.ttl), (99, -1));
    });
}

#[test]
fn calls_that_are_not_well_formed_are_refused() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let good = frame(&RangeRequest { key: "k".into(), ..Default::default() });
        let mut compressed = good.to_vec();
        compressed[0] = 1;
        let gzip = [GRPC, &[("grpc-encoding", "gzip")]].concat();
        let late = [GRPC, &[("grpc-timeout", "soon")]].concat();
        for (path, headers, body, code, text) in [
            (
                "/etcdserverpb.KV/Nope",
                GRPC,
                good.clone(),
                12,
                "unknown method Nope for service etcdserverpb.KV",
            ),
            ("/no.Such/Thing", GRPC, good.clone(), 12, "unknown service no.Such"),
            (RANGE, GRPC, Bytes::new(), 13, "no request message"),
            (RANGE, GRPC, Bytes::from_static(&[0, 0]), 13, "unexpected EOF"),
            (RANGE, GRPC, good.slice(..good.len() - 1), 13, "unexpected EOF"),
            (RANGE, GRPC, compressed.clone().into(), 13, "compressed flag set"),
            (RANGE, &gzip, compressed.into(), 12, "Decompressor is not installed"),
            (RANGE, &late, good.clone(), 13, "malformed grpc-timeout"),
            (RANGE, GRPC, Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]), 13, "unmarshalling"),
            (RANGE, GRPC, [good.clone(), good.clone()].concat().into(), 13, "more than one"),
        ] {
            let answer = client.raw(path, headers, body).await;
            let failure = answer.failure().expect("a failure");
            assert_eq!(failure.code, code, "{path}: {failure:?}");
            assert!(failure.message.contains(text), "{path}: {failure:?}");
            let accepted = answer.headers.get("grpc-accept-encoding").is_some();
            assert_eq!(accepted, text.contains("Decompressor"));
        }
        let answer = client.raw(RANGE, &[("content-type", "text/plain")], good.clone()).await;
        assert_eq!(answer.http_status, 415);
        let answer = client.raw(RANGE, GRPC, good).await;
        assert_eq!(answer.failure(), None, "the connection goes on");
        assert_eq!(answer.headers["content-type"], "application/grpc");
    });
}

#[test]
fn health_is_served() {
    let (_directory, server) = start();
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let path = "/grpc.health.v1.Health/Check";
        for (service, expected) in [
            ("", Ok(HealthCheckResponse { status: 1 })),
            ("etcdserverpb.KV", Ok(HealthCheckResponse { status: 1 })),
            ("no.Such", Err(failure(5, "unknown service"))),
        ] {
            let request = HealthCheckRequest { service: service.to_owned() };
            assert_eq!(client.unary(path, &request).await, expected);
        }
        let path = "/grpc.health.v1.Health/Watch";
        let mut stream: Stream<HealthCheckRequest, HealthCheckResponse> =
            client.open(path, &HealthCheckRequest::default()).await;
        assert_eq!(stream.next().await, Some(HealthCheckResponse { status: 1 }));
        assert!(stream.is_quiet(Duration::from_millis(100)).await);
        let stopped = std::thread::spawn(move || server.stop());
        assert_eq!(stream.next().await, Some(HealthCheckResponse { status: 2 }));
        assert!(stopped.join().expect("no panic").success());
    });
}
