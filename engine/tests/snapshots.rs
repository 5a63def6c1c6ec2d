//! Snapshots of a real store: taken while it works, loaded by the next start, and what they free.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_engine::request::{DeleteRange, KeyRange, Operation, Put, RangeRequest, Transaction};
use mainstay_engine::runtime::disk::LogOptions;
use mainstay_engine::runtime::{Options, StartError, Tuning, open, timer};
use mainstay_engine::snapshot::policy::Pace;
use mainstay_engine::{Record, Store};

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("snapshots-{name}"));
        fs::remove_dir_all(&path).ok();
        Scratch(path)
    }

    fn files(&self, folder: &str, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join("member").join(folder)).expect("the folder exists");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut found: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        found.sort();
        found
    }

    fn snapshots(&self) -> Vec<PathBuf> {
        self.files("snap", "snap")
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.files("wal", "log")
    }

    fn log_bytes(&self) -> u64 {
        self.segments().iter().map(|path| fs::metadata(path).map_or(0, |facts| facts.len())).sum()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Snapshots after every MiB of log.
const EAGER: Pace =
    Pace { log_bytes: 1 << 20, quiet_log_bytes: 1 << 18, idle_ms: 500, bytes_per_second: 1 << 30 };

/// None at all.
const NEVER: Pace = Pace {
    log_bytes: u64::MAX,
    quiet_log_bytes: u64::MAX,
    idle_ms: u64::MAX,
    bytes_per_second: 1 << 30,
};

/// Runs `door` on core 0 of a store, and stops when it is done.
fn try_on_core_0<D, F>(
    directory: &Scratch,
    cores: usize,
    pace: Pace,
    door: D,
) -> Result<(), StartError>
where
    D: Fn(Store) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let options = Options { data_dir: directory.0.clone(), cores, ..Options::default() };
    let log = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    open(&options)?.tune(Tuning { log, snapshots: pace }).run(move |core| {
        let door = door.clone();
        async move {
            if core.number == 0 {
                door(core.store).await;
                core.shutdown.request();
            } else {
                core.shutdown.requested().await;
            }
        }
    })
}

fn on_core_0<D, F>(directory: &Scratch, cores: usize, pace: Pace, door: D)
where
    D: Fn(Store) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    try_on_core_0(directory, cores, pace, door).expect("the store starts and stops");
}

async fn put(store: &Store, key: &str, value: Vec<u8>, lease: i64) -> i64 {
    let put = Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        lease,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    };
    let done = store.transact(Transaction::of(Operation::Put(put))).await;
    done.expect("the put is done").revision
}

async fn delete(store: &Store, key: &str) {
    let range = KeyRange::Single(Bytes::copy_from_slice(key.as_bytes()));
    let delete = Operation::DeleteRange(DeleteRange { range, previous: false });
    store.transact(Transaction::of(delete)).await.expect("the key is deleted");
}

async fn everything(store: &Store, revision: i64) -> Vec<Record> {
    let all = KeyRange::From(Bytes::from_static(b"\0"));
    let request = RangeRequest { revision, ..RangeRequest::new(all) };
    store.range(request).await.expect("a range").records
}

/// Sixteen kilobytes that depends on the number.
fn value(number: usize) -> Vec<u8> {
    (0..16_384).map(|byte| (byte * 31 + number * 7) as u8).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        timer::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_store_comes_back_from_its_snapshot_on_any_number_of_cores() {
    let directory = Scratch::new("cores");
    let path = directory.0.clone();
    on_core_0(&directory, 1, EAGER, move |store| {
        let directory = Scratch(path.clone());
        async move {
            let (lease, _) = store.lease_grant(1000, 0).await.expect("a lease");
            for number in 0..300 {
                let lease = if number % 10 == 0 { lease } else { 0 };
                put(&store, &format!("/keys/{:04}", number % 170), value(number), lease).await;
                if number % 25 == 24 {
                    delete(&store, &format!("/keys/{:04}", number % 170)).await;
                }
            }
            until("no snapshot is taken", || !directory.snapshots().is_empty()).await;
            store.put_document(b"doc", Bytes::from_static(b"content")).await.expect("a document");
            for number in 300..320 {
                put(&store, &format!("/later/{number}"), value(number), 0).await;
            }
            let all = everything(&store, 0).await;
            fs::write(directory.0.join("expected"), format!("{all:?}")).expect("a file");
            std::mem::forget(directory);
        }
    });
    for cores in [2, 1, 2, 2, 1] {
        let path = directory.0.clone();
        on_core_0(&directory, cores, EAGER, move |store| {
            let path = path.clone();
            async move {
                let all = everything(&store, 0).await;
                let expected = fs::read_to_string(path.join("expected")).expect("it was written");
                assert!(format!("{all:?}") == expected, "with {cores} cores");
                let content = store.document(b"doc").await;
                assert_eq!(content, Some(Bytes::from_static(b"content")));
                let leases = store.leases().await.expect("leases");
                let status = store.lease_time_to_live(leases[0], true).await.expect("a status");
                assert_eq!((leases.len(), status.granted_ttl), (1, 1000));
                let attached = all.iter().filter(|record| record.lease() == leases[0]).count();
                assert_eq!(status.keys.len(), attached);
                assert!(attached > 0);
                // So that the next start has another snapshot, of as many runs as there are cores.
                let snapshots = Scratch(path.clone());
                let newest = snapshots.snapshots().pop();
                for number in 0..100 {
                    put(&store, "/other", value(number), 0).await;
                }
                delete(&store, "/other").await;
                until("no other snapshot", || snapshots.snapshots().pop() != newest).await;
                std::mem::forget(snapshots);
            }
        });
    }
    // The first stays to be a base; a stop may come before another one is deleted.
    assert!(directory.snapshots().len() <= 3, "{:?}", directory.snapshots());
    assert_eq!(directory.segments()[0].file_name().unwrap(), "0000000000000001.log");
}

#[test]
fn compactions_free_the_log_and_keep_what_can_be_read() {
    let directory = Scratch::new("bounded");
    let path = directory.0.clone();
    on_core_0(&directory, 2, EAGER, move |store| {
        let directory = Scratch(path.clone());
        async move {
            let mut largest = 0;
            for round in 0..24 {
                let mut revision = 0;
                for number in 0..100 {
                    let key = format!("/keys/{:03}", number % 20);
                    revision = put(&store, &key, value(round * 100 + number), 0).await;
                }
                if round > 0 {
                    store.compact(revision - 50, true).await.expect("a compaction");
                }
                largest = largest.max(directory.log_bytes());
            }
            // 24 rounds of 2 MB were logged: most of it is gone. What stays: from the last
            // snapshot before the last compaction on, and segments ahead of need.
            until("the log is not released", || directory.log_bytes() <= 9 << 20).await;
            assert!(largest <= 16 << 20, "{largest} bytes of log");
            assert!(directory.snapshots().len() <= 3, "{:?}", directory.snapshots());
            let compacted = store.status().compacted_revision;
            let mut old = String::new();
            for revision in [compacted, compacted + 1, compacted + 25, compacted + 49] {
                let all = everything(&store, revision).await;
                assert_eq!(all.len(), 20);
                old += &format!("{revision} {all:?}\n");
            }
            fs::write(directory.0.join("expected"), old).expect("a file");
            std::mem::forget(directory);
        }
    });
    assert_ne!(directory.segments()[0].file_name().unwrap(), "0000000000000001.log");
    let old = fs::read_to_string(directory.0.join("expected")).expect("it was written");
    on_core_0(&directory, 1, NEVER, move |store| {
        let old = old.clone();
        async move {
            let all = everything(&store, 0).await;
            assert_eq!(all.len(), 20);
            for (place, record) in all.iter().enumerate() {
                assert_eq!(record.value(), value(23 * 100 + 80 + place));
            }
            // What is not in memory any more is in the log, and what was before in the base.
            for line in old.lines() {
                let (revision, expected) = line.split_once(' ').expect("two fields");
                let all = everything(&store, revision.parse().expect("a number")).await;
                assert!(format!("{all:?}") == expected, "at revision {revision}");
            }
        }
    });
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_one_before_or_by_the_log() {
    let directory = Scratch::new("damaged");
    let path = directory.0.clone();
    on_core_0(&directory, 1, EAGER, move |store| {
        let directory = Scratch(path.clone());
        async move {
            for number in 0..200 {
                put(&store, &format!("/keys/{:03}", number % 20), value(number), 0).await;
            }
            // Behind the first segment, which has room for fifty.
            let first = directory.0.join("member/snap").join(format!("{:016x}.snap", 60));
            let late = || directory.snapshots().pop().is_some_and(|newest| newest >= first);
            until("no later snapshot is taken", late).await;
            std::mem::forget(directory);
        }
    });
    let all_is_there = |store: Store| async move {
        let all = everything(&store, 0).await;
        assert_eq!(all.len(), 20);
        for (place, record) in all.iter().enumerate() {
            assert_eq!(record.value(), value(180 + place));
        }
    };
    // The log is complete: no snapshot is needed.
    let newest = directory.snapshots().pop().expect("a snapshot");
    // The stop may have come before the one before was deleted.
    let others = directory.snapshots().into_iter().filter(|other| *other != newest);
    others.for_each(|other| fs::remove_file(other).expect("it is there"));
    let good = fs::read(&newest).expect("it can be read");
    let mut bad = good.clone();
    bad[5000] ^= 1;
    fs::write(&newest, &bad).expect("it can be written");
    on_core_0(&directory, 1, NEVER, all_is_there);
    assert!(newest.exists(), "it stays for inspection");

    // A log whose beginning is not there needs one.
    fs::remove_file(&directory.segments()[0]).expect("the first segment");
    let refused = try_on_core_0(&directory, 1, NEVER, all_is_there);
    let text = refused.expect_err("the state is not complete").to_string();
    assert!(text.contains("damaged at byte 128"), "{text}");
    assert!(text.contains("restore the data directory from a backup"), "{text}");
    fs::write(&newest, &good).expect("it can be written");
    on_core_0(&directory, 1, NEVER, all_is_there);

    // And a snapshot needs the log up to its own end.
    for segment in directory.segments() {
        fs::remove_file(segment).expect("a segment");
    }
    let refused = try_on_core_0(&directory, 1, NEVER, all_is_there);
    let text = refused.expect_err("the end of the log is missing").to_string();
    assert!(text.contains("the end of the log is missing"), "{text}");
}

/// A store whose newest snapshot begins and ends with the newest entry of the log, and which was
/// killed afterwards. There are several segments, each with many entries.
fn idle_snapshot(name: &str) -> Scratch {
    let directory = Scratch::new(name);
    let path = directory.0.clone();
    on_core_0(&directory, 1, EAGER, move |store| {
        let directory = Scratch(path.clone());
        async move {
            for number in 0..200 {
                put(&store, &format!("/keys/{:03}", number % 20), value(number), 0).await;
            }
            let newest = |store: &Store| {
                let name = format!("{:016x}.snap", store.status().raft_index);
                directory.0.join("member/snap").join(name)
            };
            // The last one may have begun a moment ago: then there is too little behind it.
            let mut more = 0;
            while !newest(&store).exists() {
                more += 1;
                assert!(more < 100, "no snapshot begins with the newest entry");
                for number in 0..20 {
                    put(&store, "/more", value(number), 0).await;
                }
                // As long as it takes to be idle, and for a snapshot.
                timer::sleep(Duration::from_millis(1_000)).await;
            }
            std::mem::forget(directory);
        }
    });
    fs::remove_file(directory.0.join("member/wal/STOPPED")).expect("it was stopped in order");
    directory
}

/// Overwrites the last block of the log that is not zero: the end of the newest entry.
fn lose_the_last_entry(directory: &Scratch) {
    for segment in directory.segments().into_iter().rev() {
        let mut bytes = fs::read(&segment).expect("it can be read");
        let used = |block: &[u8]| block.iter().any(|&byte| byte != 0);
        let Some(last) = bytes.chunks(4096).rposition(used) else { continue };
        bytes[last * 4096..][..4096].fill(0);
        fs::write(&segment, bytes).expect("it can be written");
        return;
    }
}

#[test]
fn a_log_that_ends_before_its_snapshot_is_refused() {
    let refused = |directory: &Scratch, what: &str| {
        let started = try_on_core_0(directory, 1, NEVER, |_| async {});
        let text = started.expect_err(what).to_string();
        assert!(text.contains("the end of the log is missing"), "{what}: {text}");
    };
    let directory = idle_snapshot("entry-short");
    lose_the_last_entry(&directory);
    refused(&directory, "an entry is missing");
    // The last one that has entries, and one that was made ready.
    let directory = idle_snapshot("segment-short");
    let segments = directory.segments();
    for segment in &segments[segments.len() - 2..] {
        fs::remove_file(segment).expect("a segment");
    }
    refused(&directory, "a segment is missing");
}

#[test]
fn a_store_that_lost_its_log_is_not_a_new_one() {
    let directory = idle_snapshot("no-log");
    for path in directory.segments() {
        fs::remove_file(path).expect("a segment");
    }
    for path in directory.snapshots() {
        let mut bytes = fs::read(&path).expect("it can be read");
        bytes[5000] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
    }
    let started = try_on_core_0(&directory, 1, NEVER, |_| async {});
    let text = started.expect_err("there was a log").to_string();
    assert!(text.contains("the log is missing"), "{text}");
    assert!(directory.segments().is_empty(), "{:?}", directory.segments());
}

#[test]
fn a_store_stops_in_the_middle_of_a_snapshot_on_two_cores() {
    let directory = Scratch::new("stop");
    // A snapshot is under way nearly all the time, and for long.
    let slow = Pace { log_bytes: 1 << 16, bytes_per_second: 4 << 20, ..EAGER };
    for round in 0..6 {
        let started = Instant::now();
        on_core_0(&directory, 2, slow, move |store| async move {
            for number in 0..100 {
                put(&store, &format!("/keys/{round}/{number}"), value(number), 0).await;
            }
            timer::sleep(Duration::from_millis(30 * round)).await;
        });
        assert!(started.elapsed() < PATIENCE, "round {round}");
    }
}

#[test]
fn what_a_store_holds_counts_from_its_first_moment() {
    let directory = Scratch::new("facts");
    on_core_0(&directory, 2, NEVER, |store| async move {
        for number in 0..50 {
            put(&store, &format!("/keys/{number}"), value(number), 0).await;
        }
    });
    on_core_0(&directory, 2, NEVER, |store| async move {
        assert!(store.live_bytes() > 50 * 16_384, "{} bytes", store.live_bytes());
        assert_eq!(store.status().keys, 50);
    });
}
