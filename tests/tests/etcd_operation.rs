//! What an operator asks of the etcd door: streamed ranges, alarms, quota, automatic compaction,
//! maintenance of a member that is alone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_proto::cluster::{MemberListRequest, MemberListResponse, MemberUpdateRequest};
use mainstay_proto::kv::*;
use mainstay_proto::lease::{LeaseGrantRequest, LeaseGrantResponse};
use mainstay_proto::maintenance::*;
use mainstay_tests::grpc::{Client, Failure, Stream, block_on};
use mainstay_tests::http::{get, post};
use mainstay_tests::kubectl::{self, Kubectl};
use mainstay_tests::process::{Directory, Mainstay};
use prost::Message;
use serde_json::json;

const RANGE: &str = "/etcdserverpb.KV/Range";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

fn failure(code: u32, message: &str) -> Failure {
    Failure { code, message: message.to_owned() }
}

fn no_space() -> Failure {
    failure(8, "etcdserver: mvcc: database space exceeded")
}

async fn put(client: &Client, key: &str, bytes: usize) -> Result<PutResponse, Failure> {
    let (key, value) = (key.to_owned().into(), vec![b'v'; bytes].into());
    client.unary(PUT, &PutRequest { key, value, ..PutRequest::default() }).await
}

async fn delete(client: &Client, key: &str) -> DeleteRangeResponse {
    let request = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    client.unary(DELETE, &request).await.expect("a deletion")
}

/// All answers of a streamed range, and how it ended.
async fn streamed(
    client: &Client,
    request: &RangeRequest,
) -> (Vec<RangeResponse>, Option<Failure>) {
    let mut stream: Stream<RangeRequest, RangeStreamResponse> = client.open(STREAM, request).await;
    let mut answers = Vec::new();
    while let Some(answer) = stream.next().await {
        answers.push(answer.range_response.expect("always there"));
    }
    (answers, stream.end().await)
}

#[test]
fn a_streamed_range_is_the_range_in_parts() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        for number in 0..300 {
            put(&client, &format!("s/{number:03}"), 20_000).await.expect("a put");
        }
        put(&client, "t", 1).await.expect("a put");
        let all = RangeRequest { key: "s/".into(), range_end: "s0".into(), ..Default::default() };
        let key = |key: &str| RangeRequest { key: key.to_owned().into(), ..Default::default() };
        for request in [
            all.clone(),
            RangeRequest { limit: 5, ..all.clone() },
            RangeRequest { limit: 10, ..all.clone() },
            RangeRequest { limit: 37, ..all.clone() },
            RangeRequest { limit: 300, ..all.clone() },
            RangeRequest { limit: 1000, ..all.clone() },
            RangeRequest { revision: 50, ..all.clone() },
            RangeRequest { keys_only: true, ..all.clone() },
            RangeRequest { count_only: true, ..all.clone() },
            RangeRequest { sort_order: SortOrder::Ascend.into(), ..all.clone() },
            RangeRequest { range_end: "\0".into(), ..all.clone() },
            key("s/007"),
            key("missing"),
            RangeRequest { range_end: "a".into(), ..all.clone() },
        ] {
            let whole: RangeResponse = client.unary(RANGE, &request).await.expect("a range");
            let (answers, end) = streamed(&client, &request).await;
            assert_eq!(end, None, "{request:?}");
            let (last, before) = answers.split_last().expect("at least one answer");
            for answer in before {
                assert_eq!((answer.header, answer.more, answer.count), (None, false, 0));
            }
            let kvs: Vec<_> = answers.iter().flat_map(|answer| answer.kvs.clone()).collect();
            assert_eq!(RangeResponse { kvs, ..last.clone() }, whole, "{request:?}");
        }
        let (answers, _) = streamed(&client, &all).await;
        assert_eq!(answers[0].kvs.len(), 10, "the first answer comes at once");
        let largest = answers.iter().map(Message::encoded_len).max().expect("answers");
        assert!((700_000..4_000_000).contains(&largest), "{largest} bytes in one answer");
    });
}

/// However few keys a guess from small values is right for.
#[test]
fn a_streamed_range_is_cut_before_it_is_too_large() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        for number in 0..400 {
            put(&client, &format!("s/{number:03}"), 10).await.expect("a put");
        }
        for number in 0..20 {
            put(&client, &format!("s/x{number:02}"), 1_000_000).await.expect("a put");
        }
        let (key, range_end) = ("s/".into(), "s0".into());
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let (answers, end) = streamed(&client, &request).await;
        assert_eq!(end, None);
        let keys: usize = answers.iter().map(|answer| answer.kvs.len()).sum();
        let last = answers.last().expect("some");
        assert_eq!((keys, last.count, last.more), (420, 420, false));
        let kvs = answers.iter().flat_map(|answer| &answer.kvs);
        assert!(kvs.is_sorted_by(|one, other| one.key < other.key), "each once, in order");
        for answer in &answers {
            assert!(answer.encoded_len() < 1_600_000, "{} bytes", answer.encoded_len());
        }
        // A limit counts what was sent, not what was read.
        let request = RangeRequest { limit: 405, ..request };
        let (answers, _) = streamed(&client, &request).await;
        let keys: usize = answers.iter().map(|answer| answer.kvs.len()).sum();
        let last = answers.last().expect("some");
        assert_eq!((keys, last.count, last.more), (405, 420, true));
    });
}

/// Clients that take nothing of their snapshots keep nobody's backup away for long.
#[test]
fn a_snapshot_that_nobody_takes_gives_its_place_up() {
    const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=1"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        for number in 0..5 {
            put(&client, &format!("k/{number}"), 1_000_000).await.expect("a put");
        }
        let mut shut = Vec::new();
        for _ in 0..4 {
            let other = Client::connect(&server.etcd).await;
            let stream: Stream<SnapshotRequest, SnapshotResponse> =
                other.open(SNAPSHOT, &SnapshotRequest {}).await;
            shut.push((other, stream));
        }
        let begun = Instant::now();
        let refused = async || {
            let mut stream: Stream<SnapshotRequest, SnapshotResponse> =
                client.open(SNAPSHOT, &SnapshotRequest {}).await;
            while stream.next().await.is_some() {}
            stream.end().await
        };
        assert_eq!(refused().await, Some(failure(8, "etcdserver: too many requests")));
        while refused().await.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the places stay taken");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(begun.elapsed() > Duration::from_secs(25), "they have their time");
        // Each was opened, and is looked at, a little later than the one before.
        let (_client, stream) = shut.remove(0);
        let end = stream.end().await.expect("it was given up");
        assert_eq!(end.code, 4, "{end:?}");
        assert!(end.message.contains("nothing was taken for 30 s"), "{end:?}");
    });
}

#[test]
fn a_streamed_range_stays_at_its_revision() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        for number in 0..50 {
            // More than a connection's window takes: the rest waits for the client.
            put(&client, &format!("s/{number:02}"), 1_000_000).await.expect("a put");
        }
        let all = RangeRequest { key: "s/".into(), range_end: "s0".into(), ..Default::default() };
        let mut stream: Stream<RangeRequest, RangeStreamResponse> = client.open(STREAM, &all).await;
        let first = stream.next().await.expect("an answer").range_response.expect("always there");
        let other = Client::connect(&server.etcd).await;
        put(&other, "s/49", 1).await.expect("a put");
        delete(&other, "s/48").await;
        put(&other, "s/50", 1).await.expect("a put");
        let mut kvs = first.kvs;
        let mut last = None;
        while let Some(answer) = stream.next().await {
            let answer = answer.range_response.expect("always there");
            kvs.extend(answer.kvs.clone());
            last = Some(answer);
        }
        let last = last.expect("more than one answer");
        assert_eq!((kvs.len(), last.count, last.more), (50, 50, false));
        assert!(kvs.iter().all(|kv| kv.value.len() == 1_000_000));
        assert_eq!(last.header.expect("in the last").revision, 51);
    });
}

#[test]
fn streamed_ranges_refuse_what_etcd_refuses() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let all = RangeRequest { key: "s".into(), range_end: "\0".into(), ..Default::default() };
        let sorted = || failure(12, "RangeStream does not support custom sort orders");
        let filtered = || failure(12, "RangeStream does not support revision filters");
        for (request, expected) in [
            (RangeRequest::default(), failure(3, "etcdserver: key is not provided")),
            (
                RangeRequest { sort_order: 9, ..all.clone() },
                failure(3, "etcdserver: invalid sort option"),
            ),
            (RangeRequest { sort_order: 2, ..all.clone() }, sorted()),
            (RangeRequest { sort_target: 3, sort_order: 1, ..all.clone() }, sorted()),
            (RangeRequest { min_mod_revision: 1, ..all.clone() }, filtered()),
            (RangeRequest { max_create_revision: 1, ..all.clone() }, filtered()),
            (
                RangeRequest { revision: 99, ..all.clone() },
                failure(11, "etcdserver: mvcc: required revision is a future revision"),
            ),
        ] {
            let (answers, end) = streamed(&client, &request).await;
            assert_eq!((answers, end), (vec![], Some(expected)), "{request:?}");
        }
    });
}

async fn alarm(
    client: &Client,
    action: AlarmAction,
    member_id: u64,
    alarm: AlarmType,
) -> Vec<AlarmMember> {
    let request = AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
    let answer: AlarmResponse = client.unary(ALARM, &request).await.expect("an answer");
    assert!(answer.header.expect("a header").revision > 0);
    answer.alarms
}

async fn status(client: &Client) -> StatusResponse {
    client.unary(STATUS, &StatusRequest {}).await.expect("a status")
}

#[test]
fn alarms_are_raised_kept_and_taken_back() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, NoSpace, None};
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        put(&client, "k", 1).await.expect("a put");
        let space = AlarmMember { member_id: 7, alarm: NoSpace.into() };
        assert_eq!(alarm(&client, Get, 0, None).await, []);
        assert_eq!(alarm(&client, Activate, 7, None).await, []);
        assert_eq!(alarm(&client, Activate, 7, NoSpace).await, [space]);
        assert_eq!(alarm(&client, Activate, 7, NoSpace).await, [space]);
        assert_eq!(alarm(&client, Get, 0, None).await, [space]);
        assert_eq!(alarm(&client, Get, 0, Corrupt).await, []);
        assert_eq!(status(&client).await.errors, ["memberID:7 alarm:NOSPACE "]);
        assert_eq!(put(&client, "k", 1).await, Err(no_space()));
        assert_eq!(delete(&client, "k").await.deleted, 1);
    });
    // It holds over a restart, and over every core.
    server.stop();
    let server = Mainstay::store(directory.path(), &["--cores=1"]);
    block_on(async {
        for _ in 0..8 {
            let client = Client::connect(&server.etcd).await;
            assert_eq!(put(&client, "k", 1).await, Err(no_space()));
        }
        let unhealthy = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}";
        for (path, code, text) in [
            ("/health", 503, unhealthy),
            ("/health?exclude=CORRUPT", 503, unhealthy),
            ("/health?exclude=NOSPACE", 200, "{\"health\":\"true\",\"reason\":\"\"}"),
            ("/health?exclude=NOSPACE&serializable=true", 200, "\"true\""),
            ("/readyz", 200, "ok\n"),
            ("/metrics", 200, "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\""),
        ] {
            let answer = get(&server.etcd, path);
            assert_eq!(answer.status, code, "{path}");
            assert!(answer.body.contains(text), "{path}: {}", answer.body);
        }
        let client = Client::connect(&server.etcd).await;
        assert_eq!(alarm(&client, Deactivate, 8, NoSpace).await, []);
        assert_eq!(alarm(&client, Deactivate, 7, NoSpace).await.len(), 1);
        assert_eq!(alarm(&client, Deactivate, 7, NoSpace).await, []);
        put(&client, "k", 1).await.expect("a put");

        let corrupt = failure(15, "etcdserver: corrupt cluster");
        assert_eq!(alarm(&client, Activate, 0, Corrupt).await.len(), 1);
        assert_eq!(status(&client).await.errors, ["alarm:CORRUPT "]);
        assert_eq!(put(&client, "k", 1).await, Err(corrupt.clone()));
        let request = DeleteRangeRequest { key: "k".into(), ..Default::default() };
        let answer = client.unary::<_, DeleteRangeResponse>(DELETE, &request).await;
        assert_eq!(answer, Err(corrupt.clone()));
        let request = CompactionRequest { revision: 1, physical: false };
        let answer = client.unary::<_, CompactionResponse>(COMPACT, &request).await;
        assert_eq!(answer, Err(corrupt));
        let request = RangeRequest { key: "k".into(), ..Default::default() };
        let read: RangeResponse = client.unary(RANGE, &request).await.expect("reads go on");
        assert_eq!(read.count, 1);
        for (path, code, text) in [
            ("/readyz", 503, "[-]data_corruption failed: alarm activated: CORRUPT\n"),
            ("/readyz?exclude=data_corruption", 200, "ok\n"),
            ("/readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT"),
            ("/livez", 200, "ok\n"),
            ("/health", 503, "ALARM CORRUPT"),
        ] {
            let answer = get(&server.etcd, path);
            assert_eq!(answer.status, code, "{path}");
            assert!(answer.body.contains(text), "{path}: {}", answer.body);
        }
        assert_eq!(alarm(&client, Deactivate, 0, Corrupt).await.len(), 1);
        assert_eq!(get(&server.etcd, "/readyz").status, 200);
    });
}

#[test]
fn a_quota_refuses_growth_and_nothing_else() {
    let directory = Directory::new();
    let server =
        Mainstay::store(directory.path(), &["--cores=2", "--quota-backend-bytes=10000000"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut keys = 0;
        let refused = loop {
            match put(&client, &format!("q/{keys}"), 500_000).await {
                Ok(_) => keys += 1,
                Err(refused) => break refused,
            }
            assert!(keys < 100, "the quota holds nobody up");
        };
        assert_eq!(refused, no_space());
        assert_eq!(keys, 19, "keys of half a megabyte in ten");
        let own = status(&client).await;
        assert_eq!(own.db_size_quota, 10_000_000);
        let member = own.header.expect("a header").member_id;
        assert_eq!(own.errors, [format!("memberID:{member} alarm:NOSPACE ")]);

        // Reads, deletions, compactions and transactions without puts go on, leases and puts don't.
        let lease = LeaseGrantRequest { ttl: 60, id: 0 };
        let answer =
            client.unary::<_, LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &lease).await;
        assert_eq!(answer, Err(no_space()));
        let key = || Bytes::from_static(b"q/0");
        let op = |request| RequestOp { request: Some(request) };
        let puts = op(Request::Put(PutRequest { key: key(), ..Default::default() }));
        let deletes =
            op(Request::DeleteRange(DeleteRangeRequest { key: key(), ..Default::default() }));
        let writes = TxnRequest { failure: vec![puts], ..Default::default() };
        assert_eq!(client.unary::<_, TxnResponse>(TXN, &writes).await, Err(no_space()));
        let writes = TxnRequest { success: vec![deletes], ..Default::default() };
        client.unary::<_, TxnResponse>(TXN, &writes).await.expect("a transaction");
        let request = CompactionRequest { revision: 2, physical: true };
        client.unary::<_, CompactionResponse>(COMPACT, &request).await.expect("a compaction");

        let page = get(&server.etcd, "/usage?depth=1&top=1");
        assert_eq!(page.status, 200, "{}", page.body);
        let usage: serde_json::Value = serde_json::from_str(&page.body).expect("JSON");
        assert_eq!(usage["quotaBytes"], 10_000_000);
        assert_eq!(usage["prefixes"][0]["keys"], keys - 1, "{usage}");
        assert!(usage["bytes"].as_u64().is_some_and(|bytes| bytes > 5_000_000), "{usage}");

        // When there is space again, the alarm goes by itself.
        for number in 1..keys / 2 {
            delete(&client, &format!("q/{number}")).await;
        }
        let begun = Instant::now();
        while put(&client, "again", 1000).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the alarm stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(status(&client).await.errors, [""; 0]);
    });
    assert!(server.stderr().contains("writes are taken again"), "{}", server.stderr());
}

/// Who asks for locks and leadership writes keys, too.
#[test]
fn alarms_and_bounds_hold_for_locks_and_elections() {
    use AlarmAction::{Activate, Deactivate};
    use AlarmType::{Corrupt, NoSpace};
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2", "--max-request-bytes=10000"]);
    let ask = |path: &str, body: serde_json::Value| -> String {
        let answer = post(&server.etcd, path, &body.to_string());
        let answer: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        answer["message"].as_str().unwrap_or("").to_owned()
    };
    let raise = |action, kind| {
        block_on(async { alarm(&Client::connect(&server.etcd).await, action, 1, kind).await });
    };
    let campaign = |value: &str| {
        post(
            &server.etcd,
            "/v3/election/campaign",
            &json!({ "name": "bg==", "value": value }).to_string(),
        )
    };
    let led: serde_json::Value = serde_json::from_str(&campaign("YQ==").body).expect("JSON");
    let leader = led["leader"].clone();
    assert!(leader["key"].is_string(), "{led}");
    let proclaim =
        |value: &str| ask("/v3/election/proclaim", json!({ "leader": leader, "value": value }));
    let resign = || ask("/v3/election/resign", json!({ "leader": leader }));
    let lock = || ask("/v3/lock/lock", json!({ "name": "bG9jaw==" }));
    let stand =
        |value: &str| ask("/v3/election/campaign", json!({ "name": "bQ==", "value": value }));
    assert_eq!(proclaim("Yg=="), "");

    let large = "AAAA".repeat(4000);
    for said in [proclaim(&large), stand(&large)] {
        assert_eq!(said, "etcdserver: request is too large");
    }
    raise(Activate, NoSpace);
    for said in [proclaim("Yg=="), stand("Yg=="), lock()] {
        assert_eq!(said, "etcdserver: mvcc: database space exceeded");
    }
    raise(Deactivate, NoSpace);
    raise(Activate, Corrupt);
    for said in [proclaim("Yg=="), stand("Yg=="), lock(), resign()] {
        assert_eq!(said, "etcdserver: corrupt cluster");
    }
    raise(Deactivate, Corrupt);
    assert_eq!((proclaim("Yg=="), resign()), (String::new(), String::new()));

    for leader in [json!({ "rev": "2" }), json!({ "key": "", "name": "bg==" })] {
        let body = json!({ "leader": leader });
        for path in ["/v3/election/proclaim", "/v3/election/resign"] {
            assert_eq!(ask(path, body.clone()), "etcdserver: key is not provided", "{path}");
        }
    }
}

#[test]
fn an_alarm_of_a_quota_goes_with_the_quota() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=1", "--quota-backend-bytes=100000"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        put(&client, "k", 90_000).await.expect("below the quota");
        assert_eq!(put(&client, "l", 20_000).await, Err(no_space()));
        assert_eq!(status(&client).await.errors.len(), 1);
    });
    server.stop();
    let server = Mainstay::store(directory.path(), &["--cores=1"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        put(&client, "l", 20_000).await.expect("there is no quota any more");
        assert_eq!(status(&client).await.errors, [""; 0]);
    });
}

/// What other doors write is seen, too.
#[test]
fn a_quota_that_the_kubernetes_door_reaches_raises_the_alarm() {
    if !kubectl::is_present() {
        return kubectl::skipped("a quota that Kubernetes clients reach");
    }
    let directory = Directory::new();
    let flags = ["--cores=2", "--quota-backend-bytes=60000"];
    let server = Mainstay::serve(directory.path(), &flags);
    let kubectl = Kubectl::new(directory.path());
    let literal = format!("--from-literal=value={}", "v".repeat(20_000));
    let refused = (0..9).find_map(|number| {
        let name = format!("map-{number}");
        let said = kubectl.run_with(&["create", "configmap", &name, &literal], "");
        (!said.success).then_some(said)
    });
    let said = refused.expect("the quota holds nobody up").stderr;
    assert!(said.contains("etcdserver: mvcc: database space exceeded"), "{said}");
    assert!(kubectl.run_with(&["get", "namespaces"], "").success, "reads go on");
    let begun = Instant::now();
    loop {
        let page = get(&server.etcd, "/metrics").body;
        let alarm = page.lines().find(|line| line.contains("alarm_type=\"NOSPACE\""));
        if alarm.is_some_and(|line| line.ends_with(" 1")) {
            assert!(page.contains("\nmainstay_store_no_space 1\n"), "{page}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no alarm: {page}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_alarm_corrupt_ends_the_kubernetes_doors_writes() {
    if !kubectl::is_present() {
        return kubectl::skipped("the alarm CORRUPT at the Kubernetes door");
    }
    let directory = Directory::new();
    let server = Mainstay::serve(directory.path(), &["--cores=2"]);
    let kubectl = Kubectl::new(directory.path());
    kubectl.ok(&["create", "namespace", "before"]);
    let raise = |action| {
        block_on(async {
            alarm(&Client::connect(&server.etcd).await, action, 1, AlarmType::Corrupt).await
        });
    };
    raise(AlarmAction::Activate);
    for arguments in [["create", "namespace", "during"], ["delete", "namespace", "before"]] {
        let said = kubectl.run_with(&arguments, "");
        assert!(!said.success, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains("etcdserver: corrupt cluster"), "{said:?}");
    }
    assert!(kubectl.run_with(&["get", "namespaces", "before"], "").success, "reads go on");
    raise(AlarmAction::Deactivate);
    kubectl.ok(&["create", "namespace", "afterwards"]);
}

/// What the metric and the status call the size of the database is what `du` would say.
#[test]
fn the_size_on_disk_counts_everything_that_is_there() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=1"]);
    let on_disk = || -> u64 {
        let files = ["wal", "snap"].map(|folder| directory.path().join("member").join(folder));
        let files = files.iter().flat_map(|folder| folder.read_dir().expect("a folder").flatten());
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    };
    let told = || -> u64 {
        let page = get(&server.etcd, "/metrics").body;
        let line = |line: &&str| line.starts_with("etcd_mvcc_db_total_size_in_bytes ");
        let line = page.lines().find(line).expect("the metric").to_owned();
        line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    block_on(async { put(&Client::connect(&server.etcd).await, "k", 100).await }).expect("a put");
    // A snapshot of an earlier run, as far as anybody can tell from outside.
    std::fs::write(directory.path().join("member/snap/unknown"), [0; 12_345]).expect("written");
    // Spare segments are made when there is time for it.
    let begun = Instant::now();
    while told() != on_disk() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} and not {}", told(), on_disk());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(told() > 12_345);
    let size = block_on(async { status(&Client::connect(&server.etcd).await).await.db_size });
    assert!(size > 12_345, "{size}");
}

/// A check that nobody asked for did not fail.
#[test]
fn checks_are_told_once_they_were_made() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=1"]);
    let told = || {
        let page = get(&server.etcd, "/metrics").body;
        let is_check = |line: &&str| line.starts_with("etcd_server_healthcheck{");
        page.lines().filter(is_check).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(), [""; 0]);
    assert_eq!(get(&server.etcd, "/livez").status, 200);
    assert_eq!(told(), ["etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"} 1"]);
}

#[test]
fn history_is_compacted_by_time() {
    let directory = Directory::new();
    let server =
        Mainstay::store(directory.path(), &["--cores=2", "--auto-compaction-retention=1s"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let begun = Instant::now();
        let request = |revision| RangeRequest { key: "k".into(), revision, ..Default::default() };
        let compacted = failure(11, "etcdserver: mvcc: required revision has been compacted");
        loop {
            let now = put(&client, "k", 1).await.expect("a put").header.expect("a header").revision;
            let old: Result<RangeResponse, _> = client.unary(RANGE, &request(2)).await;
            if old == Err(compacted.clone()) {
                // What is younger than a second is there.
                let young: Result<RangeResponse, _> = client.unary(RANGE, &request(now - 2)).await;
                assert!(young.is_ok(), "{young:?}");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "nothing is compacted: {old:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_member_that_is_alone() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let maintenance = |name: &str| format!("/etcdserverpb.Maintenance/{name}");
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let own = status(&client).await;
        let member = own.header.expect("a header").member_id;
        assert_eq!((own.leader, own.is_learner, own.db_size_quota), (member, false, 0));
        assert!(own.version.starts_with("3.6.") && own.storage_version == "3.6.0");
        assert!(own.db_size > 0 && own.raft_index == own.raft_applied_index && own.raft_term > 0);

        let path = maintenance("MoveLeader");
        let to_itself = MoveLeaderRequest { target_id: member };
        client.unary::<_, MoveLeaderResponse>(&path, &to_itself).await.expect("it leads already");
        let answer =
            client.unary::<_, MoveLeaderResponse>(&path, &MoveLeaderRequest { target_id: 5 }).await;
        assert_eq!(answer, Err(failure(9, "etcdserver: bad leader transferee")));

        for (action, version, expected) in [
            (DowngradeAction::Validate, "3.5.0", Ok("3.6")),
            (DowngradeAction::Cancel, "", Ok("3.6")),
            (
                DowngradeAction::Validate,
                "3.4",
                Err(failure(3, "etcdserver: invalid downgrade target version")),
            ),
            (
                DowngradeAction::Enable,
                "soon",
                Err(failure(3, "etcdserver: wrong downgrade target version format")),
            ),
        ] {
            let request = DowngradeRequest { action: action.into(), version: version.to_owned() };
            let path = maintenance("Downgrade");
            let answer = client.unary::<_, DowngradeResponse>(&path, &request);
            let answer = answer.await.map(|answer| answer.version);
            assert_eq!(answer, expected.map(str::to_owned), "{request:?}");
        }

        let urls = vec!["http://elsewhere:2380".to_owned()];
        let update = |id| MemberUpdateRequest { id, peer_urls: urls.clone() };
        let path = "/etcdserverpb.Cluster/MemberUpdate";
        let answer = client.unary::<_, MemberListResponse>(path, &update(12345)).await;
        assert_eq!(answer, Err(failure(5, "etcdserver: member not found")));
        for path in [path, "/etcdserverpb.Cluster/MemberList"] {
            let answer: MemberListResponse = if path.ends_with("List") {
                let request = MemberListRequest { linearizable: true };
                client.unary(path, &request).await.expect("a list")
            } else {
                client.unary(path, &update(member)).await.expect("an update")
            };
            assert_eq!(answer.members.len(), 1);
            assert_eq!(answer.members[0].peer_urls, urls, "{path}");
        }
    });
}

#[test]
fn hashes_tell_states_apart() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let path = "/etcdserverpb.Maintenance/HashKV";
    let (hash, hash_after) = block_on(async {
        let client = Client::connect(&server.etcd).await;
        let hash = async |revision| -> HashKvResponse {
            client.unary(path, &HashKvRequest { revision }).await.expect("a hash")
        };
        let empty = hash(0).await;
        assert_eq!((empty.compact_revision, empty.hash_revision), (-1, 1));
        put(&client, "a", 10).await.expect("a put");
        let one = hash(0).await;
        put(&client, "b", 10).await.expect("a put");
        let two = hash(0).await;
        assert_eq!((two.hash_revision, two.header.expect("a header").revision), (3, 3));
        assert!(empty.hash != one.hash && one.hash != two.hash);
        let old = hash(2).await;
        assert_eq!((old.hash, old.hash_revision), (one.hash, 2));
        assert_eq!(old.header.expect("a header").revision, 3);
        let whole = "/etcdserverpb.Maintenance/Hash";
        let all: HashResponse = client.unary(whole, &HashRequest {}).await.expect("a hash");
        let request = CompactionRequest { revision: 3, physical: true };
        client.unary::<_, CompactionResponse>(COMPACT, &request).await.expect("a compaction");
        let after = hash(0).await;
        assert_eq!((after.hash, after.compact_revision), (two.hash, 3));
        for (revision, text) in [
            (2, "etcdserver: mvcc: required revision has been compacted"),
            (9, "etcdserver: mvcc: required revision is a future revision"),
        ] {
            let request = HashKvRequest { revision };
            let answer = client.unary::<_, HashKvResponse>(path, &request).await;
            assert_eq!(answer, Err(failure(11, text)), "{revision}");
        }
        (all.hash, after.hash)
    });
    assert!(server.stop().success());
    let server = Mainstay::store(directory.path(), &["--cores=1"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let request = HashKvRequest { revision: 0 };
        let again: HashKvResponse = client.unary(path, &request).await.expect("a hash");
        assert_eq!((again.hash, hash), (hash_after, hash_after), "whatever the number of cores");
    });
}

#[test]
fn metrics_have_a_port_of_their_own() {
    let port = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.local_addr().expect("bound").port()
    };
    let address = format!("127.0.0.1:{port}");
    let directory = Directory::new();
    let flag = format!("--listen-metrics-urls=http://{address}");
    let _server = Mainstay::store(directory.path(), &["--cores=2", &flag]);
    for (path, code, text) in [
        ("/health", 200, "\"true\""),
        ("/metrics", 200, "etcd_server_has_leader 1"),
        ("/v3/kv/range", 404, "404"),
        // It shows names of keys.
        ("/usage", 404, "404"),
        ("/livez", 200, "ok"),
    ] {
        let answer = get(&address, path);
        assert_eq!(answer.status, code, "{path}");
        assert!(answer.body.contains(text), "{path}: {}", answer.body);
    }
}
