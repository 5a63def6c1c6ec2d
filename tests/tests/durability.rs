//! Writers work while the server is killed, over and over.
//!
//! SIGKILL does not lose what the kernel holds, so this tests recovery and acknowledgement, not the
//! disk: `engine/src/log/crash_tests.rs` does that with torn and lost writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_proto::{kv, watch};
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};

const KILLS: usize = 50;
const WRITERS: usize = 8;
/// Keys that all writers overwrite, besides those that each writes once.
const HOT_KEYS: usize = 4;
/// How long the first acknowledgement of a round may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that the server has said it did.
#[derive(Default)]
struct Told {
    /// By revision: the key and value of a write that was acknowledged, or of an event that was
    /// shown. Both are promises.
    writes: BTreeMap<i64, (Bytes, Bytes)>,
    acknowledged: usize,
    shown: usize,
}

impl Told {
    fn note(&mut self, revision: i64, key: Bytes, value: Bytes) {
        let before = self.writes.insert(revision, (key.clone(), value.clone()));
        if let Some(before) = before {
            assert_eq!(before, (key, value), "revision {revision} was used twice");
        }
    }
}

#[test]
fn fifty_kills_lose_nothing_that_was_acknowledged() {
    let directory = Directory::new();
    let told = Arc::new(Mutex::new(Told::default()));
    let mut written = 0;
    for round in 0..KILLS {
        let server = Mainstay::store(directory.path(), &[]);
        let address = server.etcd.clone();
        let found = block_on(everything(&address));
        check(&found, &told.lock().expect("no panic"), round);
        let writing = Arc::clone(&told);
        let clients = std::thread::spawn(move || block_on(write(&address, round, writing)));
        let started = Instant::now();
        while told.lock().expect("no panic").acknowledged == written {
            assert!(started.elapsed() < PATIENCE, "round {round}: nothing was acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Each round ends at another moment of the writers' work.
        std::thread::sleep(Duration::from_millis((round as u64 * 37) % 160));
        server.kill();
        clients.join().expect("the clients end when the server does");
        written = told.lock().expect("no panic").acknowledged;
    }
    let server = Mainstay::store(directory.path(), &[]);
    let told = told.lock().expect("no panic");
    check(&block_on(everything(&server.etcd)), &told, KILLS);
    assert!(told.shown > 0, "no event was shown");
    println!(
        "{KILLS} kills, {} acknowledged writes and {} events shown, up to revision {}",
        told.acknowledged,
        told.shown,
        told.writes.keys().next_back().expect("writes"),
    );
    assert!(server.stop().success());
}

/// What a restarted server holds, and its revision.
struct Found {
    revision: i64,
    records: BTreeMap<Bytes, (i64, Bytes)>,
}

async fn everything(address: &str) -> Found {
    let client = Client::connect(address).await;
    let request = kv::RangeRequest {
        key: Bytes::from_static(b"/crash/"),
        range_end: Bytes::from_static(b"/crash0"),
        ..kv::RangeRequest::default()
    };
    let response: kv::RangeResponse =
        client.unary("/etcdserverpb.KV/Range", &request).await.expect("a range");
    let records =
        response.kvs.into_iter().map(|record| (record.key, (record.mod_revision, record.value)));
    Found { revision: response.header.expect("a header").revision, records: records.collect() }
}

fn check(found: &Found, told: &Told, round: usize) {
    for (&revision, (key, value)) in &told.writes {
        assert!(
            revision <= found.revision,
            "round {round}: revision {revision} of {key:?} is gone, the store is at {}",
            found.revision
        );
        let (now, newest) = found
            .records
            .get(key)
            .unwrap_or_else(|| panic!("round {round}: {key:?} of revision {revision} is gone"));
        assert!(*now >= revision, "round {round}: {key:?} fell back from {revision} to {now}");
        if *now == revision {
            assert_eq!(newest, value, "round {round}: {key:?} at {revision}");
        }
    }
    let mut revisions: Vec<i64> = found.records.values().map(|(revision, _)| *revision).collect();
    revisions.sort_unstable();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "a revision was used twice");
}

/// Writes and watches until the server is gone.
async fn write(address: &str, round: usize, told: Arc<Mutex<Told>>) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (address, told) = (address.to_owned(), Arc::clone(&told));
        tasks.spawn(async move {
            let Some(client) = Client::try_connect(&address).await else { return };
            for number in 0.. {
                let key = if number % 3 == 0 {
                    format!("/crash/hot/{}", (writer + number) % HOT_KEYS)
                } else {
                    format!("/crash/{round}/{writer}/{number}")
                };
                let value = format!("{round}.{writer}.{number}");
                let request = kv::PutRequest {
                    key: key.into(),
                    value: value.into(),
                    ..kv::PutRequest::default()
                };
                let path = "/etcdserverpb.KV/Put";
                let answer = client.try_unary::<_, kv::PutResponse>(path, &request).await;
                let Some(Ok(response)) = answer else { return };
                let revision = response.header.expect("a header").revision;
                let mut told = told.lock().expect("no panic");
                told.acknowledged += 1;
                told.note(revision, request.key, request.value);
            }
        });
    }
    let address = address.to_owned();
    tasks.spawn(async move {
        let Some(client) = Client::try_connect(&address).await else { return };
        let mut stream = client
            .stream::<watch::WatchRequest, watch::WatchResponse>("/etcdserverpb.Watch/Watch")
            .await;
        let create = watch::WatchCreateRequest {
            key: Bytes::from_static(b"/crash/"),
            range_end: Bytes::from_static(b"/crash0"),
            ..watch::WatchCreateRequest::default()
        };
        stream.send(&watch::WatchRequest {
            request_union: Some(watch::WatchRequestUnion::Create(create)),
        });
        while let Some(Some(response)) = stream.try_next().await {
            let mut told = told.lock().expect("no panic");
            for event in response.events {
                let record = event.kv.expect("a record");
                told.shown += 1;
                told.note(record.mod_revision, record.key, record.value);
            }
        }
    });
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
}
