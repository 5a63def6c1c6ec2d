//! Writers and compactions work while the server is killed in the middle of snapshots, of the
//! release of the log, and of starts from what these left.
//!
//! Snapshots and the release of segments have their usual sizes: values are large so that they
//! come often.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_proto::kv;
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};

const KILLS: usize = 16;
const WRITERS: usize = 8;
/// Keys of each writer.
const KEYS: usize = 20;
const VALUE_BYTES: usize = 64 << 10;
/// Revisions that stay readable behind a compaction.
const KEPT: i64 = 100;
/// How long the first acknowledgement of a round may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was acknowledged.
#[derive(Default)]
struct Told {
    /// By revision: the key, and what its value begins with.
    writes: BTreeMap<i64, (String, String)>,
    /// The largest revision that a compaction was asked for, whether or not it came to be.
    compacted: i64,
}

#[test]
fn kills_during_snapshots_lose_nothing() {
    let directory = Directory::new();
    let told = Arc::new(Mutex::new(Told::default()));
    let (mut snapshots, mut interrupted, mut old_reads) = (0, 0, 0);
    let mut newest = String::new();
    for round in 0..KILLS {
        let server = Mainstay::store(directory.path(), &[]);
        let address = server.etcd.clone();
        old_reads += block_on(check(&address, &told.lock().expect("no panic"), round));
        let writing = Arc::clone(&told);
        let before = told.lock().expect("no panic").writes.len();
        let clients = std::thread::spawn(move || block_on(work(&address, round, writing)));
        let started = Instant::now();
        while told.lock().expect("no panic").writes.len() == before {
            assert!(started.elapsed() < PATIENCE, "round {round}: nothing was acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Every other round ends while a snapshot is written or has just been completed.
        let started = Instant::now();
        let wait = Duration::from_millis(300 + (round as u64 * 137) % 900);
        while started.elapsed() < wait
            || (round % 2 == 0
                && files(directory.path(), "snap", "tmp").is_empty()
                && started.elapsed() < 10 * wait)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.kill();
        clients.join().expect("the clients end when the server does");
        interrupted += files(directory.path(), "snap", "tmp").len();
        let found = files(directory.path(), "snap", "snap").pop().unwrap_or_default();
        snapshots += usize::from(found != newest);
        newest = found;
    }
    let server = Mainstay::store(directory.path(), &[]);
    old_reads += block_on(check(&server.etcd, &told.lock().expect("no panic"), KILLS));
    assert!(files(directory.path(), "snap", "tmp").is_empty(), "what was interrupted is removed");
    let first = files(directory.path(), "wal", "log").remove(0);
    println!(
        "{KILLS} kills, {} acknowledged writes, {old_reads} reads of old revisions; {snapshots} \
         rounds completed a snapshot, {interrupted} were killed while one was written; the log \
         begins with {first}",
        told.lock().expect("no panic").writes.len(),
    );
    assert!(snapshots > 0, "no snapshot was taken");
    assert!(old_reads > 0, "no old revision was read");
    assert_ne!(first, "0000000000000001.log", "no segment was released");
    assert!(server.stop().success());
}

fn files(directory: &Path, folder: &str, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("member").join(folder));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.rsplit('.').next() == Some(extension))
        .collect();
    names.sort();
    names
}

async fn range(client: &Client, key: &str, end: &str, revision: i64) -> kv::RangeResponse {
    let request = kv::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(end.as_bytes()),
        revision,
        keys_only: !end.is_empty(),
        ..kv::RangeRequest::default()
    };
    client.unary("/etcdserverpb.KV/Range", &request).await.expect("a range")
}

/// Checks what the server holds against what was told. Gives how many old revisions were read.
async fn check(address: &str, told: &Told, round: usize) -> usize {
    let client = Client::connect(address).await;
    let all = range(&client, "/crash/", "/crash0", 0).await;
    let found: BTreeMap<&[u8], i64> =
        all.kvs.iter().map(|record| (&record.key[..], record.mod_revision)).collect();
    let reached = all.header.expect("a header").revision;
    for (&revision, (key, _)) in &told.writes {
        assert!(revision <= reached, "round {round}: {revision} of {key} is gone, now {reached}");
        let now = found.get(key.as_bytes());
        let now = now.unwrap_or_else(|| panic!("round {round}: {key} of {revision} is gone"));
        assert!(*now >= revision, "round {round}: {key} fell back from {revision} to {now}");
    }
    // A revision that was told is what it was, as long as it may be read.
    let readable: Vec<_> = told.writes.range(told.compacted..).collect();
    let mut old_reads = 0;
    for &(&revision, (key, begins)) in readable.iter().step_by(7) {
        let read = range(&client, key, "", revision).await;
        let record = read.kvs.first().unwrap_or_else(|| panic!("{key} at {revision} is gone"));
        assert_eq!(record.mod_revision, revision, "round {round}: {key} at {revision}");
        assert!(record.value.starts_with(begins.as_bytes()), "round {round}: {key} at {revision}");
        old_reads += usize::from(found[key.as_bytes()] > revision);
    }
    // So is what was there at the oldest revision that may be read, whenever it was written.
    let mut oldest: BTreeMap<&String, (i64, &String)> = BTreeMap::new();
    for (&revision, (key, begins)) in told.writes.range(..=told.compacted) {
        oldest.insert(key, (revision, begins));
    }
    for (key, (revision, _)) in oldest {
        let read = range(&client, key, "", told.compacted.max(1)).await;
        let record = read.kvs.first().unwrap_or_else(|| panic!("{key} at {revision} is gone"));
        // A write that was done but not told may lie between.
        assert!(record.mod_revision >= revision, "round {round}: {key} at {}", told.compacted);
        old_reads += usize::from(found[key.as_bytes()] > record.mod_revision);
    }
    old_reads
}

/// Writes and compacts until the server is gone.
async fn work(address: &str, round: usize, told: Arc<Mutex<Told>>) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (address, told) = (address.to_owned(), Arc::clone(&told));
        tasks.spawn(async move {
            let Some(client) = Client::try_connect(&address).await else { return };
            for number in 0.. {
                let key = format!("/crash/{writer}/{}", number % KEYS);
                let begins = format!("{round}.{writer}.{number}.");
                let mut value = begins.clone().into_bytes();
                value.resize(VALUE_BYTES, b'x');
                let request = kv::PutRequest {
                    key: key.clone().into(),
                    value: value.into(),
                    ..kv::PutRequest::default()
                };
                let path = "/etcdserverpb.KV/Put";
                let answer = client.try_unary::<_, kv::PutResponse>(path, &request).await;
                let Some(Ok(response)) = answer else { return };
                let revision = response.header.expect("a header").revision;
                let before = told.lock().expect("no panic").writes.insert(revision, (key, begins));
                assert_eq!(before, None, "revision {revision} was used twice");
            }
        });
    }
    let address = address.to_owned();
    tasks.spawn(async move {
        let Some(client) = Client::try_connect(&address).await else { return };
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let revision = {
                let mut told = told.lock().expect("no panic");
                let newest = told.writes.keys().next_back().copied().unwrap_or(0);
                let revision = newest - KEPT;
                if revision <= told.compacted {
                    continue;
                }
                told.compacted = revision;
                revision
            };
            let request = kv::CompactionRequest { revision, ..kv::CompactionRequest::default() };
            let path = "/etcdserverpb.KV/Compact";
            let answer = client.try_unary::<_, kv::CompactionResponse>(path, &request).await;
            if !matches!(answer, Some(Ok(_))) {
                return;
            }
        }
    });
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
}
