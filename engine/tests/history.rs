//! Old revisions of a store in a temporary directory: what memory has let go of comes from the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mainstay_engine::request::{
    DeleteRange, KeyRange, Operation, OperationResponse, Put, RangeRequest, Transaction,
    WatchRequest,
};
use mainstay_engine::runtime::disk::LogOptions;
use mainstay_engine::runtime::{Options, Tuning, open};
use mainstay_engine::snapshot::policy::Pace;
use mainstay_engine::{Record, Revision, Store, StoreError};

/// More than what recent batches may take in memory, in few writes.
const VALUE_BYTES: usize = 200_000;
const WRITES: usize = 500;
const KEYS: usize = 7;

/// The whole state of each revision.
type Model = BTreeMap<Revision, BTreeMap<Vec<u8>, Record>>;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn scratch(name: &str) -> Scratch {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("history-{name}"));
    std::fs::remove_dir_all(&path).ok();
    Scratch(path)
}

/// Runs `work` on core 0 of a store; the other cores do their share of the keys.
fn on_core_0<F, R>(directory: &Scratch, cores: usize, tuning: Tuning, work: F)
where
    F: AsyncFn(Store) -> R + Clone + Send + 'static,
{
    let options = Options { data_dir: directory.0.clone(), cores, ..Options::default() };
    let opened = open(&options).expect("the directory can be used").tune(tuning);
    let ran = opened.run(move |core| {
        let work = work.clone();
        async move {
            if core.number == 0 {
                work(core.store).await;
                core.shutdown.request();
            } else {
                core.shutdown.requested().await;
            }
        }
    });
    ran.expect("the store starts and stops");
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("/h/{number}"))
}

/// Overwrites, deletes and creates few keys again and again.
async fn churn(store: &Store, model: &Mutex<Model>, value_bytes: usize) {
    let mut state = BTreeMap::new();
    for write in 0..WRITES {
        let key = key(write * 5 % KEYS);
        let operation = if write % 11 == 10 {
            Operation::DeleteRange(DeleteRange { range: KeyRange::Single(key), previous: false })
        } else {
            Operation::Put(Put {
                key,
                value: Bytes::from(vec![write as u8; value_bytes + write]),
                lease: 0,
                previous: false,
                ignore_value: false,
                ignore_lease: false,
            })
        };
        let response = store.transact(Transaction::of(operation)).await.expect("a write");
        let everything = RangeRequest::new(KeyRange::prefix(b"/h/"));
        state.clear();
        for record in store.range(everything).await.expect("a range").records {
            state.insert(record.key().to_vec(), record);
        }
        let before = model.lock().expect("no panic").insert(response.revision, state.clone());
        assert!(before.is_none_or(|before| before == state), "nothing else wrote");
    }
}

fn at(model: &Model, revision: Revision, range: &KeyRange) -> Vec<Record> {
    let Some((_, state)) = model.range(..=revision).next_back() else { return Vec::new() };
    state.values().filter(|record| range.contains(record.key())).cloned().collect()
}

fn ranges() -> [KeyRange; 4] {
    let interval = KeyRange::Interval { start: key(1), end: key(4) };
    [KeyRange::prefix(b"/h/"), interval, KeyRange::Single(key(5)), KeyRange::Single(key(99))]
}

/// Reads at revisions that are `step` apart, in all ways.
async fn check(store: &Store, model: &Model, step: usize) {
    let compacted = store.status().compacted_revision;
    for revision in (1..=store.revision()).step_by(step) {
        for range in ranges() {
            let expected = at(model, revision, &range);
            let request = RangeRequest { revision, ..RangeRequest::new(range.clone()) };
            let count_only = RangeRequest { count_only: true, ..request.clone() };
            let limited = RangeRequest { limit: 2, ..request.clone() };
            if revision < compacted {
                let refused = StoreError::Compacted { requested: revision, compacted };
                for request in [request, count_only, limited] {
                    assert_eq!(store.range(request).await, Err(refused.clone()));
                }
                continue;
            }
            let context = format!("{range:?} at {revision}");
            let found = store.range(request.clone()).await.expect("history");
            assert_eq!(found.count, expected.len(), "{context}");
            assert!(found.records == expected, "{context}");
            let found = store.range(count_only).await.expect("history");
            assert_eq!(found.count, expected.len(), "{context}");
            let found = store.range(limited).await.expect("history");
            assert_eq!((found.count, found.more), (expected.len(), expected.len() > 2));
            assert!(found.records[..] == expected[..expected.len().min(2)], "{context}");
            // Within a transaction, beside another key of any core.
            let operations = vec![Operation::Range(request), Operation::Range(newest())];
            let transaction = Transaction { success: operations, ..Transaction::default() };
            let response = store.transact(transaction).await.expect("a transaction");
            let OperationResponse::Range(found) = &response.responses[0] else { panic!("a range") };
            assert!(found.records == expected, "{context}");
            assert_eq!(found.revision, store.revision());
        }
    }
}

fn newest() -> RangeRequest {
    RangeRequest::new(KeyRange::Single(key(3)))
}

/// Every event with the version before it, from the first revision on.
async fn check_watch(store: &Store, model: &Model) {
    let request = WatchRequest {
        range: KeyRange::prefix(b"/h/"),
        start_revision: store.status().compacted_revision.max(2),
        previous: true,
        no_put: false,
        no_delete: false,
    };
    let first = request.start_revision;
    let mut watcher = store.watch(request).await.expect("a watch");
    let mut seen = 0;
    while watcher.synced_revision().is_none() {
        for event in watcher.next(1 << 20).await.expect("events").events {
            let revision = event.record.mod_revision();
            let range = KeyRange::Single(Bytes::copy_from_slice(event.record.key()));
            let live = Some(&event.record).filter(|record| !record.is_tombstone());
            assert!(live == at(model, revision, &range).first(), "at {revision}");
            let before = at(model, revision - 1, &range).pop();
            // What is compacted may still be at hand.
            let compacted = revision - 1 < store.status().compacted_revision;
            let previous = event.previous;
            let right = previous == before || (compacted && previous.is_none());
            assert!(right, "before {revision}: {:?}", previous.map(|found| found.mod_revision()));
            seen += 1;
        }
    }
    assert_eq!(seen, model.range(first..).count());
}

#[test]
fn old_revisions_are_read_from_the_log() {
    let directory = scratch("old");
    let model: Arc<Mutex<Model>> = Arc::default();
    let written = Arc::clone(&model);
    on_core_0(&directory, 2, Tuning::default(), async move |store: Store| {
        churn(&store, &written, VALUE_BYTES).await;
        let model = written.lock().expect("no panic").clone();
        // The ring has lost the first ones, so memory has, too.
        check(&store, &model, 17).await;
        check_watch(&store, &model).await;
    });
    for cores in [1, 2] {
        let model = Arc::clone(&model);
        on_core_0(&directory, cores, Tuning::default(), async move |store: Store| {
            let model = model.lock().expect("no panic").clone();
            check(&store, &model, 17).await;
            check_watch(&store, &model).await;
            let revision = store.revision() / (4 - cores as i64);
            store.compact(revision, true).await.expect("a compaction");
            check(&store, &model, 31).await;
            check_watch(&store, &model).await;
        });
    }
}

/// Small segments, and snapshots that come often: compactions release segments, and versions from
/// before them are in the base.
#[test]
fn old_revisions_are_read_from_a_snapshot_and_the_log_behind_it() {
    let directory = scratch("base");
    let snapshots = Pace {
        log_bytes: 1 << 20,
        quiet_log_bytes: 1 << 18,
        idle_ms: 200,
        bytes_per_second: 1 << 30,
    };
    let log = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    let tuning = Tuning { log, snapshots };
    let model: Arc<Mutex<Model>> = Arc::default();
    for round in 0..4 {
        let model = Arc::clone(&model);
        on_core_0(&directory, 1 + round % 2, tuning, async move |store: Store| {
            let known = model.lock().expect("no panic").clone();
            check(&store, &known, 23).await;
            check_watch(&store, &known).await;
            churn(&store, &model, 10_000).await;
            let known = model.lock().expect("no panic").clone();
            let revision = store.revision() - 200 + 50 * round as i64;
            store.compact(revision, true).await.expect("a compaction");
            check(&store, &known, 23).await;
            check_watch(&store, &known).await;
        });
    }
    let wal = std::fs::read_dir(directory.0.join("member/wal")).expect("the folder");
    let names: Vec<_> = wal.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(!names.contains(&"0000000000000001.log".into()), "nothing was released: {names:?}");
    assert!(!names.contains(&"0000000000000001.keys".into()), "it outlives its segment");
}
