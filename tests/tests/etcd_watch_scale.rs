//! Many watchers: what each costs while nothing happens for it, and that slow ones cost nobody.
//!
//! `MAINSTAY_WATCHERS` says how many idle ones; a run with fewer than 100,000 says so.

use std::io::Write as _;
use std::time::{Duration, Instant};

use mainstay_proto::kv::{PutRequest, PutResponse};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use mainstay_tests::grpc::{Client, Stream, block_on};
use mainstay_tests::http::get;
use mainstay_tests::process::{Directory, Mainstay};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What the store is meant for.
const ALL_IDLE: usize = 100_000;
/// As many as a short run takes.
const SOME_IDLE: usize = 20_000;
/// Streams that idle watchers share.
const STREAMS: usize = 8;
/// Watchers whose clients do not read, each on a stream of its own.
const SLOW: usize = 1_000;

type WatchStream = Stream<WatchRequest, WatchResponse>;

fn watch(stream: &mut WatchStream, key: String, range_end: String) {
    let create = WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    stream.send(&WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) });
}

async fn put(client: &Client, key: &str, bytes: usize) {
    let (key, value) = (key.to_owned().into(), vec![b'v'; bytes].into());
    let request = PutRequest { key, value, ..PutRequest::default() };
    let _answer: PutResponse = client.unary(PUT, &request).await.expect("a put");
}

fn resident_bytes(server: &Mainstay) -> f64 {
    let page = get(&server.etcd, "/metrics").body;
    let line = page.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.and_then(|value| value.parse().ok()).expect("a figure")
}

fn say(text: &str) {
    let _lost = writeln!(std::io::stderr(), "{text}");
}

/// How long a write and the event of it take, for the slowest of a hundred.
async fn slowest_event(server: &Mainstay) -> Duration {
    let client = Client::connect(&server.etcd).await;
    let mut stream: WatchStream = client.stream(WATCH).await;
    watch(&mut stream, "other".to_owned(), String::new());
    assert!(stream.next().await.expect("created").created);
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let begun = Instant::now();
        put(&client, "other", 10).await;
        while stream.next().await.expect("an event").events.is_empty() {}
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

#[test]
fn an_idle_watcher_costs_little() {
    let wanted = std::env::var("MAINSTAY_WATCHERS").ok().and_then(|text| text.parse().ok());
    let watchers = wanted.unwrap_or(SOME_IDLE);
    if watchers < ALL_IDLE {
        say(&format!("LEFT OUT: {watchers} idle watchers, not {ALL_IDLE} (MAINSTAY_WATCHERS)"));
    }
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let before = resident_bytes(&server);
        let mut streams: Vec<WatchStream> = Vec::new();
        for _ in 0..STREAMS {
            let client = Client::connect(&server.etcd).await;
            streams.push(client.stream(WATCH).await);
        }
        let per_stream = watchers.div_ceil(STREAMS);
        let begun = Instant::now();
        for (number, stream) in streams.iter_mut().enumerate() {
            for sent in 0..per_stream {
                let key = format!("/registry/things/{number}-{sent:06}");
                watch(stream, format!("{key}/"), format!("{key}0"));
                // Answers are taken as they come, so that neither side fills up.
                if sent >= 100 {
                    assert!(stream.next().await.expect("created").created);
                }
            }
            for _ in 0..per_stream.min(100) {
                assert!(stream.next().await.expect("created").created);
            }
        }
        let took = begun.elapsed();
        let after = resident_bytes(&server);
        let each = (after - before) / (per_stream * STREAMS) as f64;
        let slowest = slowest_event(&server).await;
        say(&format!(
            "{} idle watchers on {STREAMS} streams: made in {took:?}, {each:.0} bytes each; an \
             event elsewhere takes at most {slowest:?}",
            per_stream * STREAMS,
        ));
        // Each owns its key and the end of its range, so that no message is kept for them: some 3.1 KB.
        assert!(each < 3_600.0, "{each} bytes for an idle watcher");
        assert!(slowest < Duration::from_secs(2), "{slowest:?} for an event elsewhere");

        // The first and the last are awake.
        let client = Client::connect(&server.etcd).await;
        for (number, sent) in [(0, 0), (STREAMS - 1, per_stream - 1)] {
            put(&client, &format!("/registry/things/{number}-{sent:06}/x"), 10).await;
            let response = streams[number].next().await.expect("an event");
            assert_eq!((response.watch_id, response.events.len()), (sent as i64, 1));
        }
    });
}

#[test]
fn slow_watchers_cost_nobody() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let before = resident_bytes(&server);
        let mut slow: Vec<WatchStream> = Vec::new();
        let clients = [
            Client::connect(&server.etcd).await,
            Client::connect(&server.etcd).await,
            Client::connect(&server.etcd).await,
            Client::connect(&server.etcd).await,
        ];
        for number in 0..SLOW {
            let mut stream = clients[number % clients.len()].stream(WATCH).await;
            watch(&mut stream, "hot/".to_owned(), "hot0".to_owned());
            assert!(stream.next().await.expect("created").created);
            slow.push(stream);
        }
        let late_client = Client::connect(&server.etcd).await;
        let mut late: WatchStream = late_client.stream(WATCH).await;
        watch(&mut late, "hot/".to_owned(), "hot0".to_owned());
        assert!(late.next().await.expect("created").created);
        let writer = Client::connect(&server.etcd).await;
        let mut fast: WatchStream = writer.stream(WATCH).await;
        watch(&mut fast, "hot/".to_owned(), "hot0".to_owned());
        assert!(fast.next().await.expect("created").created);
        let mut slowest = Duration::ZERO;
        for number in 0..400 {
            let begun = Instant::now();
            put(&writer, &format!("hot/{}", number % 10), 100_000).await;
            while fast.next().await.expect("an event").events.is_empty() {}
            slowest = slowest.max(begun.elapsed());
        }
        let after = resident_bytes(&server);
        let each = (after - before) / SLOW as f64;
        say(&format!(
            "{SLOW} watchers that do not read, 40 MB of events for each: {:.0} MB in all, {each:.0} \
             bytes each; an event for one that reads takes at most {slowest:?}",
            (after - before) / 1e6,
        ));
        assert!(slowest < Duration::from_secs(5), "{slowest:?} for an event");
        assert!(after - before < 700e6, "{} bytes for {SLOW} slow watchers", after - before);

        // One that begins to read now finds everything, in order.
        let mut revisions = Vec::new();
        while revisions.len() < 400 {
            let response = late.next().await.expect("events");
            let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
            revisions.extend(kvs.map(|kv| kv.mod_revision));
        }
        assert_eq!(revisions, (2..402).collect::<Vec<i64>>());
    });
}
