//! Data directories of every format that was ever written, as the program of that time left them:
//! they have to open for ever.
//!
//! `fixtures/format-1` has a log alone, `fixtures/format-2` a snapshot, a log that begins behind the
//! store's beginning, and history before and behind the compaction. `expected.txt` is what the
//! store held. They were written by `write_fixtures` and are never written again; a new format gets
//! a directory of its own.

use std::fmt::Write;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_engine::Store;
use mainstay_engine::request::{DeleteRange, KeyRange, Operation, Put, RangeRequest, Transaction};
use mainstay_engine::runtime::disk::LogOptions;
use mainstay_engine::runtime::{Options, Tuning, open, timer};
use mainstay_engine::snapshot::policy::Pace;

/// The lease of some keys.
const LEASE: i64 = 77;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn with_store<D, F>(directory: &Path, cores: usize, snapshots: bool, door: D)
where
    D: Fn(Store) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let options = Options { data_dir: directory.to_owned(), cores, ..Options::default() };
    let bytes = if snapshots { 1 << 14 } else { u64::MAX };
    let snapshots = Pace {
        log_bytes: bytes,
        quiet_log_bytes: bytes,
        idle_ms: u64::MAX,
        bytes_per_second: 1 << 30,
    };
    let log = LogOptions {
        first_segment_bytes: 1 << 14,
        segment_bytes: 1 << 14,
        ..LogOptions::default()
    };
    let tuned = open(&options).expect("it opens").tune(Tuning { log, snapshots });
    let ran = tuned.run(move |core| {
        let door = door.clone();
        async move {
            if core.number == 0 {
                door(core.store).await;
                core.shutdown.request();
            } else {
                core.shutdown.requested().await;
            }
        }
    });
    ran.expect("the store starts and stops");
}

/// All that a store holds, at the newest revision and at all that can be read.
async fn describe(store: &Store) -> String {
    let status = store.status();
    let mut text = String::new();
    let (revision, compacted) = (status.revision, status.compacted_revision);
    writeln!(text, "revision {revision} compacted {compacted}").expect("memory");
    for revision in compacted.max(1)..=revision {
        let all = KeyRange::From(Bytes::from_static(b"\0"));
        let request = RangeRequest { revision, ..RangeRequest::new(all) };
        for record in store.range(request).await.expect("it can be read").records {
            writeln!(
                text,
                "{revision}: {} created {} modified {} version {} lease {} value {} bytes of {}",
                String::from_utf8_lossy(record.key()),
                record.create_revision(),
                record.mod_revision(),
                record.version(),
                record.lease(),
                record.value().len(),
                record.value().first().copied().unwrap_or_default(),
            )
            .expect("memory");
        }
    }
    let lease = store.lease_time_to_live(LEASE, true).await.expect("the lease is there");
    writeln!(text, "lease of {} seconds: {:?}", lease.granted_ttl, lease.keys).expect("memory");
    writeln!(text, "document {:?}", store.document(b"door").await).expect("memory");
    text
}

#[test]
fn every_format_opens() {
    for format in ["format-1", "format-2"] {
        let fixture = fixtures().join(format);
        let expected = fs::read_to_string(fixture.join("expected.txt")).expect("a fixture");
        for cores in [1, 2] {
            let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{format}-{cores}"));
            fs::remove_dir_all(&scratch).ok();
            copy(&fixture.join("data"), &scratch);
            let expected = expected.clone();
            with_store(&scratch, cores, false, move |store| {
                let expected = expected.clone();
                async move { assert_eq!(describe(&store).await, expected, "{format}") }
            });
            fs::remove_dir_all(&scratch).expect("it was just used");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file");
        }
    }
}

#[test]
#[ignore = "makes new fixtures: only when there is a new format, in a directory that is not there"]
fn write_fixtures() {
    for (format, snapshots) in [("format-1", false), ("format-2", true)] {
        let fixture = fixtures().join(format);
        assert!(!fixture.exists(), "fixtures are not written twice");
        let data = fixture.join("data");
        fs::create_dir_all(&data).expect("a directory");
        let path = fixture.clone();
        with_store(&data, 2, snapshots, move |store| {
            let fixture = path.clone();
            async move {
                fill(&store, &fixture.join("data"), snapshots).await;
                let text = describe(&store).await;
                fs::write(fixture.join("expected.txt"), text).expect("a file");
            }
        });
        fs::remove_file(data.join("LOCK")).expect("the lock");
    }
}

async fn fill(store: &Store, data: &Path, snapshots: bool) {
    store.lease_grant(1000, LEASE).await.expect("a lease");
    store.put_document(b"door", Bytes::from_static(b"content")).await.expect("a document");
    let names = |folder: &str| {
        let entries = fs::read_dir(data.join("member").join(folder)).expect("a folder");
        let names = entries.flatten().map(|entry| entry.file_name().into_string().expect("UTF-8"));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    for round in 0..4 {
        let mut revision = 0;
        for number in 0..9usize {
            let name = Bytes::from(format!("/registry/{}", number * number % 7));
            let put = Put {
                key: name.clone(),
                value: vec![round * 16 + number as u8; number * 40].into(),
                lease: if number == 3 { LEASE } else { 0 },
                previous: false,
                ignore_value: false,
                ignore_lease: false,
            };
            let operation = if number == 8 {
                let range = KeyRange::Single(name);
                Operation::DeleteRange(DeleteRange { range, previous: false })
            } else {
                Operation::Put(put)
            };
            let done = store.transact(Transaction::of(operation)).await.expect("it is done");
            revision = done.revision;
        }
        if round == 1 || round == 2 {
            if snapshots {
                let started = Instant::now();
                while !names("snap").iter().any(|name| name.ends_with(".snap")) {
                    assert!(started.elapsed() < Duration::from_secs(20), "no snapshot");
                    timer::sleep(Duration::from_millis(10)).await;
                }
                // Whatever is taken ends before this.
                timer::sleep(Duration::from_secs(1)).await;
            }
            store.compact(revision - 2, true).await.expect("a compaction");
        }
    }
    if snapshots {
        timer::sleep(Duration::from_secs(1)).await;
        assert!(!names("wal").contains(&"0000000000000001.log".to_owned()), "{:?}", names("wal"));
    }
}
