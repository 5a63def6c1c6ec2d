//! Writes of relaxed durability, real processes, and what a crash may take of them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mainstay_proto::{kv, watch};
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};

const CLASSES: &str = "--durability=/m/=memory,/r/=replicated";
const BLOCK_BYTES: usize = 4096;

async fn try_put(client: &Client, key: &str, value: &str) -> Option<i64> {
    let request = kv::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..kv::PutRequest::default()
    };
    let path = "/etcdserverpb.KV/Put";
    let answer = client.try_unary::<_, kv::PutResponse>(path, &request).await?.ok()?;
    Some(answer.header.expect("a header").revision)
}

async fn put(client: &Client, key: &str, value: &str) -> i64 {
    try_put(client, key, value).await.expect("the server answers")
}

fn range(key: &str, revision: i64) -> kv::RangeRequest {
    let mut range_end = key.as_bytes().to_vec();
    *range_end.last_mut().expect("not empty") += 1;
    let key = Bytes::copy_from_slice(key.as_bytes());
    kv::RangeRequest { key, range_end: range_end.into(), revision, ..kv::RangeRequest::default() }
}

/// Everything, with its revision, and the store's.
async fn everything(address: &str) -> (BTreeMap<Bytes, (i64, Bytes)>, i64) {
    let client = Client::connect(address).await;
    let response: kv::RangeResponse =
        client.unary("/etcdserverpb.KV/Range", &range("/", 0)).await.expect("a range");
    let records = response.kvs.into_iter().map(|kv| (kv.key, (kv.mod_revision, kv.value)));
    (records.collect(), response.header.expect("a header").revision)
}

/// Zeroes all frames of the log that begin at this revision or later: what a power failure may do
/// to writes that the disk had not finished.
fn lose_from(directory: &Path, revision: i64) -> usize {
    let mut lost = 0;
    for entry in fs::read_dir(directory.join("member/wal")).expect("a log") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let bytes = fs::read(&path).expect("a segment");
        let file = OpenOptions::new().write(true).open(&path).expect("it can be changed");
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let before = |offset: usize| {
                i64::from_le_bytes(block[offset..offset + 8].try_into().expect("eight bytes"))
            };
            if block.starts_with(b"MSLF") && block[16] == 2 && before(64) >= revision {
                let offset = (number * BLOCK_BYTES) as u64;
                file.write_all_at(&[0; BLOCK_BYTES], offset).expect("a write");
                lost += 1;
            }
        }
        file.sync_all().expect("a sync");
    }
    lost
}

#[test]
fn after_a_power_failure_no_revision_that_was_shown_means_anything_else() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &[CLASSES]);
    let (kept, shown) = block_on(async {
        let client = Client::connect(&server.etcd).await;
        put(&client, "/m/first", "x").await;
        let kept = put(&client, "/f/kept", "x").await;
        let mut shown = kept;
        for number in 0..200 {
            shown = put(&client, &format!("/m/{number}"), "lost").await;
        }
        (kept, shown)
    });
    assert_eq!(shown, kept + 200);
    server.kill();
    assert!(lose_from(directory.path(), kept) > 0, "nothing could be lost");

    let server = Mainstay::store(directory.path(), &[CLASSES]);
    block_on(async {
        let (records, revision) = everything(&server.etcd).await;
        let keys: Vec<&[u8]> = records.keys().map(|key| &key[..]).collect();
        assert_eq!(keys, [&b"/f/kept"[..], b"/m/first"]);
        assert!(revision > shown + 1, "{revision} may have been shown, up to {shown}");
        let client = Client::connect(&server.etcd).await;
        // Who reads or watches where something may be lost is told to begin anew.
        let old: Result<kv::RangeResponse, _> =
            client.unary("/etcdserverpb.KV/Range", &range("/", shown)).await;
        assert!(format!("{old:?}").contains("compacted"), "{old:?}");
        let create = watch::WatchCreateRequest {
            key: Bytes::from_static(b"/m/"),
            range_end: Bytes::from_static(b"/m0"),
            start_revision: shown + 1,
            ..watch::WatchCreateRequest::default()
        };
        let mut stream = client
            .stream::<watch::WatchRequest, watch::WatchResponse>("/etcdserverpb.Watch/Watch")
            .await;
        stream.send(&watch::WatchRequest {
            request_union: Some(watch::WatchRequestUnion::Create(create)),
        });
        let mut told = None;
        while told.is_none() {
            let response = stream.try_next().await.flatten().expect("an answer");
            told = (response.compact_revision > 0).then_some(response.compact_revision);
        }
        assert_eq!(told, Some(revision));
        assert_eq!(put(&client, "/f/new", "x").await, revision + 1);
    });
    assert!(server.stop().success());
    // Nothing is skipped twice, and nothing after an orderly stop.
    let server = Mainstay::store(directory.path(), &[]);
    let (records, revision) = block_on(everything(&server.etcd));
    assert_eq!(records.get(&b"/f/new"[..]).expect("written").0, revision);
    assert!(server.stop().success());
}

/// What the server has acknowledged: by revision, the key, its value and whether it is `fsync`.
type Told = BTreeMap<i64, (String, String, bool)>;

#[test]
fn kills_lose_only_what_may_be_lost() {
    const KILLS: usize = 12;
    let directory = Directory::new();
    let told = Arc::new(Mutex::new(Told::new()));
    let (mut lost, mut acknowledged) = (0, 0);
    for round in 0..KILLS {
        let server = Mainstay::store(directory.path(), &[CLASSES]);
        let (records, revision) = block_on(everything(&server.etcd));
        {
            let mut told = told.lock().expect("no panic");
            acknowledged += told.len();
            let durable = told.iter().rev().find(|(_, (.., fsync))| *fsync);
            let durable = durable.map_or(0, |(&revision, _)| revision);
            for (&at, (key, value, _)) in told.iter() {
                assert!(at <= revision, "round {round}: {at} is to come again after {revision}");
                let found = records.get(key.as_bytes());
                let there = found.is_some_and(|(now, found)| *now == at && found == value);
                assert!(there || at > durable, "round {round}: {key} of {at} is gone");
                lost += usize::from(!there);
            }
            told.clear();
        }
        let (address, notes) = (server.etcd.clone(), Arc::clone(&told));
        let clients = std::thread::spawn(move || block_on(write(&address, round, notes)));
        std::thread::sleep(Duration::from_millis(200 + (round as u64 * 37) % 160));
        server.kill();
        clients.join().expect("the clients end when the server does");
    }
    assert!(acknowledged > 100, "only {acknowledged} writes");
    println!("{KILLS} kills, {acknowledged} acknowledged writes, {lost} relaxed ones lost");
}

async fn write(address: &str, round: usize, told: Arc<Mutex<Told>>) {
    let mut tasks = tokio::task::JoinSet::new();
    // Mostly relaxed ones, so that they are alone for a while again and again.
    for (writer, prefix) in ["m", "m", "r", "f"].into_iter().enumerate() {
        let (address, told) = (address.to_owned(), Arc::clone(&told));
        tasks.spawn(async move {
            let Some(client) = Client::try_connect(&address).await else { return };
            for number in 0.. {
                let key = format!("/{prefix}/{round}/{writer}/{number}");
                let value = format!("{round}.{writer}.{number}");
                let Some(revision) = try_put(&client, &key, &value).await else { return };
                let before =
                    told.lock().expect("no panic").insert(revision, (key, value, prefix == "f"));
                assert_eq!(before, None, "revision {revision} was used twice");
                if prefix == "f" {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
