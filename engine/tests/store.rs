//! A real store in a temporary directory: real executors, real files.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_engine::durability::Classes;
use mainstay_engine::request::{
    Compare, CompareTarget, Comparison, DeleteRange, KeyRange, Operation, OperationResponse, Put,
    RangeRequest, Transaction, TransactionResponse, WatchRequest,
};
use mainstay_engine::runtime::{Core, Options, Settings, run, spawn_local, timer};
use mainstay_engine::{Store, StoreError};

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{name}"));
        std::fs::remove_dir_all(&path).ok();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Runs `door` on every core of a store in `directory`, and stops when core 0's is done.
fn with_store<D, F>(directory: &Scratch, cores: usize, door: D)
where
    D: Fn(Core) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    with_settings(directory, cores, Settings::default(), door);
}

fn with_settings<D, F>(directory: &Scratch, cores: usize, settings: Settings, door: D)
where
    D: Fn(Core) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let options = Options { data_dir: directory.0.clone(), cores, settings };
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ran);
    run(&options, move |core| {
        let (door, counter) = (door.clone(), Arc::clone(&counter));
        let shutdown = core.shutdown.clone();
        async move {
            door(core).await;
            counter.fetch_add(1, Ordering::SeqCst);
            shutdown.request();
        }
    })
    .expect("the store starts and stops");
    assert_eq!(ran.load(Ordering::SeqCst), cores);
}

/// The same with work for core 0 alone; the others wait.
fn on_core_0<D, F>(directory: &Scratch, cores: usize, door: D)
where
    D: Fn(Store) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    with_store(directory, cores, move |core| {
        let door = door.clone();
        async move {
            if core.number == 0 {
                door(core.store).await;
            } else {
                core.shutdown.requested().await;
            }
        }
    });
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: 0,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

fn with_lease(key: &str, lease: i64) -> Transaction {
    let Operation::Put(put) = put(key, "x") else { unreachable!() };
    Transaction::of(Operation::Put(Put { lease, ..put }))
}

async fn write(store: &Store, key: &str, value: &str) -> i64 {
    store.transact(Transaction::of(put(key, value))).await.expect("a put").revision
}

async fn read(store: &Store, range: KeyRange) -> Vec<(String, String)> {
    let response = store.range(RangeRequest::new(range)).await.expect("a range");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    response.records.iter().map(|record| (text(record.key()), text(record.value()))).collect()
}

fn single(key: &str) -> KeyRange {
    KeyRange::Single(Bytes::copy_from_slice(key.as_bytes()))
}

#[test]
fn what_was_written_is_there_after_a_restart_with_other_cores() {
    let directory = Scratch::new("restart");
    on_core_0(&directory, 2, |store| async move {
        assert_eq!(store.revision(), 1);
        for number in 0..200 {
            let revision = write(&store, &format!("/a/{number:03}"), &format!("v{number}")).await;
            assert_eq!(revision, number + 2);
        }
        let delete = DeleteRange { range: KeyRange::prefix(b"/a/1"), previous: false };
        let deleted = store
            .transact(Transaction::of(Operation::DeleteRange(delete)))
            .await
            .expect("a delete of many owners");
        assert_eq!(deleted.revision, 202);
        assert!(matches!(
            deleted.responses[..],
            [OperationResponse::DeleteRange { deleted: 100, .. }]
        ));
    });
    for cores in [1, 2] {
        on_core_0(&directory, cores, |store| async move {
            assert_eq!(store.revision(), 202);
            let found = read(&store, KeyRange::prefix(b"/a/")).await;
            let expected: Vec<_> =
                (0..100).map(|number| (format!("/a/{number:03}"), format!("v{number}"))).collect();
            assert_eq!(found, expected);
            let mut old = RangeRequest::new(KeyRange::prefix(b"/a/"));
            old.revision = 201;
            old.limit = 150;
            let old = store.range(old).await.expect("history");
            assert_eq!((old.records.len(), old.more, old.count), (150, true, 200));
            assert_eq!(old.revision, 202);
        });
    }
}

#[test]
fn writers_on_all_cores_take_every_revision_once() {
    const WRITES: i64 = 300;
    let directory = Scratch::new("writers");
    let revisions = Arc::new(std::sync::Mutex::new(Vec::<i64>::new()));
    let seen = Arc::clone(&revisions);
    with_store(&directory, 2, move |core| {
        let seen = Arc::clone(&seen);
        async move {
            let mine = Rc::new(RefCell::new(Vec::new()));
            for task in 0..8 {
                let (store, mine, number) = (core.store.clone(), Rc::clone(&mine), core.number);
                spawn_local(async move {
                    for write_number in 0..WRITES {
                        let key = format!("/{number}/{task}/{}", write_number % 7);
                        let revision = write(&store, &key, "x").await;
                        // What is answered is visible, everywhere, at once.
                        assert!(store.revision() >= revision);
                        let record = store.range(RangeRequest::new(single(&key))).await;
                        let record = record.expect("a range").records.pop().expect("written");
                        assert_eq!(record.mod_revision(), revision);
                        mine.borrow_mut().push(revision);
                    }
                });
            }
            while mine.borrow().len() < 8 * WRITES as usize {
                timer::sleep(Duration::from_millis(5)).await;
            }
            seen.lock().expect("no panic").extend(mine.borrow().iter());
        }
    });
    let mut revisions = revisions.lock().expect("no panic").clone();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..2 + 16 * WRITES).collect::<Vec<_>>());
}

#[test]
fn an_optimistic_update_succeeds_once() {
    let directory = Scratch::new("optimistic");
    on_core_0(&directory, 2, |store| async move {
        let revision = write(&store, "key", "0").await;
        let update = |value: &str| Transaction {
            compares: vec![Compare {
                range: single("key"),
                comparison: Comparison::Equal,
                target: CompareTarget::Mod(revision),
            }],
            success: vec![put("key", value)],
            failure: vec![Operation::Range(RangeRequest::new(single("key")))],
        };
        // Both are on their way before either is committed.
        let (first, second) =
            futures_util::join!(store.transact(update("1")), store.transact(update("2")));
        let (first, second): (TransactionResponse, _) =
            (first.expect("a transaction"), second.expect("a transaction"));
        assert_eq!((first.succeeded, second.succeeded), (true, false));
        let OperationResponse::Range(found) = &second.responses[0] else { panic!("a range") };
        assert_eq!(found.records[0].value(), b"1");
        assert_eq!(second.revision, first.revision, "it shows what it depends on");
    });
}

#[test]
fn watchers_see_everything_in_order_on_every_core() {
    const WRITES: usize = 500;
    let directory = Scratch::new("watch");
    with_store(&directory, 2, |core| async move {
        let store = core.store;
        let request = WatchRequest {
            range: KeyRange::prefix(b"/w/"),
            start_revision: 2,
            previous: true,
            no_put: false,
            no_delete: false,
        };
        let mut watcher = store.watch(request).await.expect("a watch");
        if core.number == 0 {
            let writer = store.clone();
            spawn_local(async move {
                for number in 0..WRITES {
                    write(&writer, &format!("/w/{}", number % 10), &number.to_string()).await;
                    write(&writer, &format!("/other/{number}"), "x").await;
                }
            });
        }
        let mut seen = 0;
        while seen < WRITES {
            let batch = watcher.next(64).await.expect("events");
            for event in batch.events {
                assert_eq!(event.record.value(), seen.to_string().as_bytes());
                let before = event.previous.map(|record| record.value().to_vec());
                let expected = seen.checked_sub(10).map(|number| number.to_string().into_bytes());
                assert_eq!(before, expected);
                seen += 1;
            }
        }
    });
    // After a restart the same history comes from the log.
    on_core_0(&directory, 2, |store| async move {
        let request = WatchRequest {
            range: KeyRange::prefix(b"/w/"),
            start_revision: 2,
            previous: true,
            no_put: false,
            no_delete: false,
        };
        let mut watcher = store.watch(request).await.expect("a watch");
        let mut seen = 0;
        while seen < WRITES {
            assert_eq!(watcher.synced_revision(), None);
            for event in watcher.next(1000).await.expect("events").events {
                assert_eq!(event.record.value(), seen.to_string().as_bytes());
                assert_eq!(event.previous.is_some(), seen >= 10);
                seen += 1;
            }
        }
    });
}

#[test]
fn a_lease_takes_its_keys_along() {
    let directory = Scratch::new("lease");
    on_core_0(&directory, 2, |store| async move {
        let missing = store.transact(with_lease("/l/x", 99)).await;
        assert_eq!(missing.expect_err("no such lease"), StoreError::LeaseNotFound(99));
        let (id, _) = store.lease_grant(60, 77).await.expect("a lease");
        assert_eq!(id, 77);
        assert_eq!(
            store.lease_grant(60, 77).await.expect_err("twice"),
            StoreError::LeaseExists(77)
        );
        for number in 0..20 {
            store.transact(with_lease(&format!("/l/{number:02}"), 77)).await.expect("a put");
        }
        let status = store.lease_time_to_live(77, true).await.expect("a status");
        assert_eq!((status.granted_ttl, status.keys.len()), (60, 20));
        assert_eq!(store.lease_keep_alive(77).await, Ok(60));
        assert_eq!(store.leases().await, Ok(vec![77]));
    });
    on_core_0(&directory, 1, |store| async move {
        assert_eq!(store.leases().await, Ok(vec![77]), "leases survive");
        let revision = store.revision();
        assert_eq!(store.lease_revoke(77).await, Ok(revision + 1));
        assert_eq!(read(&store, KeyRange::prefix(b"/l/")).await, []);
        assert_eq!(store.lease_revoke(77).await, Err(StoreError::LeaseNotFound(77)));
    });
    on_core_0(&directory, 2, |store| async move {
        assert_eq!(store.leases().await, Ok(vec![]));
        // The shortest lease runs out by itself.
        let (id, ttl) = store.lease_grant(1, 0).await.expect("a lease");
        store.transact(with_lease("/l/short", id)).await.expect("a put");
        timer::sleep(Duration::from_secs(ttl as u64) + Duration::from_millis(1500)).await;
        assert_eq!(read(&store, KeyRange::prefix(b"/l/")).await, []);
    });
}

/// Two cores, the work on core 0.
fn on_core_0_with<D, F>(directory: &Scratch, settings: Settings, door: D)
where
    D: Fn(Store) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    with_settings(directory, 2, settings, move |core| {
        let door = door.clone();
        async move {
            if core.number == 0 {
                door(core.store).await;
            } else {
                core.shutdown.requested().await;
            }
        }
    });
}

#[test]
fn the_time_that_leases_have_left_survives_a_restart() {
    let directory = Scratch::new("checkpoints");
    let settings = Settings { lease_checkpoint_seconds: 1, ..Settings::default() };
    on_core_0_with(&directory, settings.clone(), |store| async move {
        store.lease_grant(100, 1).await.expect("a lease");
        store.lease_grant(100, 2).await.expect("a lease");
        timer::sleep(Duration::from_millis(3500)).await;
        // Kept alive: it has its whole time again, also after a restart.
        assert_eq!(store.lease_keep_alive(2).await, Ok(100));
    });
    on_core_0_with(&directory, settings, |store| async move {
        let left = store.lease_time_to_live(1, false).await.expect("a status");
        assert_eq!(left.granted_ttl, 100);
        assert!((94..=98).contains(&left.remaining_ttl), "{left:?}");
        let left = store.lease_time_to_live(2, false).await.expect("a status");
        assert!((99..=100).contains(&left.remaining_ttl), "{left:?}");
    });
    // What is too short for a checkpoint, or had none, starts anew.
    on_core_0(&directory, 1, |store| async move {
        timer::sleep(Duration::from_millis(1500)).await;
        let left = store.lease_time_to_live(1, false).await.expect("a status");
        assert!((90..=98).contains(&left.remaining_ttl), "{left:?}");
    });
}

#[test]
fn very_many_leases_end_together() {
    const LEASES: i64 = 10_000;
    let directory = Scratch::new("many-leases");
    on_core_0(&directory, 2, |store| async move {
        let open = Rc::new(RefCell::new(0));
        for id in 1..=LEASES {
            while *open.borrow() >= 256 {
                timer::sleep(Duration::from_millis(1)).await;
            }
            *open.borrow_mut() += 1;
            let (store, open) = (store.clone(), Rc::clone(&open));
            spawn_local(async move {
                store.lease_grant(15, id).await.expect("a lease");
                store.transact(with_lease(&format!("/l/{id}"), id)).await.expect("a put");
                *open.borrow_mut() -= 1;
            });
        }
        while *open.borrow() > 0 {
            timer::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(read(&store, KeyRange::prefix(b"/l/")).await.len(), LEASES as usize);
        let started = std::time::Instant::now();
        while !store.leases().await.expect("a list").is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60), "they end");
            timer::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(read(&store, KeyRange::prefix(b"/l/")).await, []);
        assert_eq!(store.revision(), 1 + 2 * LEASES, "each at a revision of its own");
    });
}

#[test]
fn relaxed_writes_are_there_after_an_orderly_stop_and_skip_nothing() {
    let directory = Scratch::new("relaxed");
    let classes = "/m/=memory,/r/=replicated";
    let durability = Classes::parse(classes).expect("well formed");
    let settings = Settings { durability, ..Settings::default() };
    for life in 0..2 {
        on_core_0_with(&directory, settings.clone(), move |store| async move {
            assert_eq!(store.revision(), 1 + life * 300);
            for number in 0..100 {
                for prefix in ["m", "r", "f"] {
                    let revision = write(&store, &format!("/{prefix}/{number}"), "x").await;
                    assert!(store.revision() >= revision);
                }
            }
        });
    }
    on_core_0(&directory, 1, |store| async move {
        assert_eq!(store.revision(), 601);
        for prefix in ["/m/", "/r/", "/f/"] {
            assert_eq!(read(&store, KeyRange::prefix(prefix.as_bytes())).await.len(), 100);
        }
        assert_eq!(store.status().compacted_revision, 0);
    });
}

#[test]
fn a_quota_refuses_what_adds_until_there_is_room() {
    let directory = Scratch::new("quota");
    let settings = Settings { quota_bytes: 100_000, ..Settings::default() };
    on_core_0_with(&directory, settings, |store| async move {
        let value = "x".repeat(1000);
        let refused = loop {
            let key = format!("/q/{}", store.revision());
            match store.transact(Transaction::of(put(&key, &value))).await {
                Ok(_) => assert!(store.revision() < 200, "it is refused at last"),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, StoreError::NoSpace);
        let status = store.status();
        assert!(status.no_space && status.live_bytes >= 100_000, "{status:?}");
        assert!(status.log_bytes >= status.live_bytes, "{status:?}");
        assert_eq!(store.lease_grant(60, 0).await, Err(StoreError::NoSpace));
        let usage = store.usage_by_prefix(1, 5).await.expect("the usage");
        assert_eq!(usage[0].prefix, b"/q/");
        assert_eq!((usage.len(), usage[0].bytes), (1, status.live_bytes));
        store.compact(store.revision(), true).await.expect("a compaction");
        let delete = DeleteRange { range: single("/q/1"), previous: false };
        store.transact(Transaction::of(Operation::DeleteRange(delete))).await.expect("a delete");
        assert!(!store.status().no_space);
        write(&store, "/q/again", "x").await;
    });
}

#[test]
fn very_many_keys_end_at_one_revision_while_others_go_on() {
    // Enough to be written to the disk before the deletion has its place in the log.
    const KEYS: usize = 45_000;
    let directory = Scratch::new("bulk");
    let bulk = || KeyRange::prefix(b"/bulk/");
    for cores in [1, 2] {
        on_core_0(&directory, cores, move |store| async move {
            let open = Rc::new(RefCell::new(0));
            for number in 0..KEYS {
                while *open.borrow() >= 512 {
                    timer::sleep(Duration::from_micros(200)).await;
                }
                *open.borrow_mut() += 1;
                let (store, open) = (store.clone(), Rc::clone(&open));
                spawn_local(async move {
                    write(&store, &format!("/bulk/{number:050}"), "x").await;
                    *open.borrow_mut() -= 1;
                });
            }
            while *open.borrow() > 0 {
                timer::sleep(Duration::from_millis(1)).await;
            }
            let done = Rc::new(RefCell::new(false));
            let others = Rc::new(RefCell::new(0));
            let (writer, stop, counter) = (store.clone(), Rc::clone(&done), Rc::clone(&others));
            spawn_local(async move {
                while !*stop.borrow() {
                    write(&writer, "/other", "x").await;
                    *counter.borrow_mut() += 1;
                }
            });
            let request = WatchRequest {
                range: KeyRange::prefix(format!("/bulk/{:048}", 7).as_bytes()),
                start_revision: 0,
                previous: true,
                no_put: false,
                no_delete: false,
            };
            let mut watcher = store.watch(request).await.expect("a watch");
            let delete = DeleteRange { range: bulk(), previous: false };
            let delete = Transaction::of(Operation::DeleteRange(delete));
            let response = store.transact(delete).await.expect("a deletion");
            let OperationResponse::DeleteRange { deleted, .. } = response.responses[0] else {
                panic!("{response:?}")
            };
            assert_eq!(deleted, KEYS);
            assert!(*others.borrow() > 1, "others went on");
            // While the shards still mark the keys.
            let (before, after) = (response.revision - 1, response.revision);
            for (revision, expected) in [(after, 0), (before, KEYS)] {
                let mut request = RangeRequest::new(bulk());
                (request.revision, request.count_only) = (revision, true);
                assert_eq!(store.range(request).await.expect("a count").count, expected);
            }
            let events = watcher.next(1 << 20).await.expect("events");
            assert_eq!((events.events.len(), events.revision >= after), (100, true));
            for event in &events.events {
                assert!(event.record.is_tombstone() && event.record.mod_revision() == after);
                assert_eq!(event.previous.as_ref().map(|record| record.value()), Some(&b"x"[..]));
            }
            *done.borrow_mut() = true;
        });
        on_core_0(&directory, 2, move |store| async move {
            assert_eq!(read(&store, bulk()).await, []);
            assert_eq!(read(&store, single("/other")).await.len(), 1);
        });
    }
}

#[test]
fn compaction_forgets_history_and_keeps_the_newest() {
    let directory = Scratch::new("compaction");
    on_core_0(&directory, 2, |store| async move {
        for number in 0..50 {
            write(&store, &format!("/c/{}", number % 5), &number.to_string()).await;
        }
        assert_eq!(store.compact(40, true).await, Ok(51));
        assert_eq!(
            store.compact(40, false).await,
            Err(StoreError::Compacted { requested: 40, compacted: 40 })
        );
        assert!(matches!(store.compact(99, false).await, Err(StoreError::FutureRevision { .. })));
    });
    on_core_0(&directory, 1, |store| async move {
        let at =
            |revision| RangeRequest { revision, ..RangeRequest::new(KeyRange::prefix(b"/c/")) };
        assert!(matches!(store.range(at(39)).await, Err(StoreError::Compacted { .. })));
        assert_eq!(store.range(at(40)).await.expect("still there").records.len(), 5);
        assert_eq!(read(&store, KeyRange::prefix(b"/c/")).await.len(), 5);
        assert_eq!(store.status().compacted_revision, 40);
    });
}

#[test]
fn a_hash_depends_on_the_state_alone() {
    let directory = Scratch::new("hash");
    let hashes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut same = Vec::new();
    for cores in [2, 1] {
        let seen = Arc::clone(&hashes);
        let first = same.is_empty();
        on_core_0(&directory, cores, move |store| {
            let seen = Arc::clone(&seen);
            async move {
                if first {
                    for number in 0..3000 {
                        write(&store, &format!("/h/{:04}", number % 1500), "x").await;
                    }
                    store.compact(100, true).await.expect("a compaction");
                }
                let now = store.hash_kv(0).await.expect("a hash");
                assert_eq!((now.revision, now.compacted_revision), (3001, 100));
                let old = store.hash_kv(2000).await.expect("a hash of history");
                assert_eq!((old.revision, old.current_revision), (2000, 3001));
                assert_ne!(now.hash, old.hash);
                let compacted = store.hash_kv(99).await;
                assert!(matches!(compacted, Err(StoreError::Compacted { .. })), "{compacted:?}");
                let future = store.hash_kv(3002).await;
                assert!(matches!(future, Err(StoreError::FutureRevision { .. })), "{future:?}");
                seen.lock().expect("no panic").push((now.hash, old.hash));
            }
        });
        same.push(cores);
    }
    let hashes = hashes.lock().expect("no panic");
    assert!(hashes.iter().all(|other| *other == hashes[0]), "{hashes:?}");
}

#[test]
fn documents_and_the_identity_stay() {
    let directory = Scratch::new("documents");
    let identity = Arc::new(std::sync::Mutex::new(Vec::new()));
    for _ in 0..2 {
        let seen = Arc::clone(&identity);
        on_core_0(&directory, 2, move |store| {
            let seen = Arc::clone(&seen);
            async move {
                let status = store.status();
                assert!(status.member_id != 0 && status.cluster_id != 0);
                seen.lock().expect("no panic").push((status.member_id, status.cluster_id));
                let before = store.document(b"auth").await;
                assert_eq!(before.is_some(), seen.lock().expect("no panic").len() == 2);
                store.put_document(b"auth", Bytes::from_static(b"off")).await.expect("a document");
                assert_eq!(store.document(b"auth").await, Some(Bytes::from_static(b"off")));
            }
        });
    }
    let seen = identity.lock().expect("no panic");
    assert_eq!(seen[0], seen[1]);
}
