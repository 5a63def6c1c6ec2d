//! Deletes very many keys in one request while others write, and tells how long those waited.
//!
//! `cargo run --release -p mainstay-engine --example delete -- DIRECTORY [KEYS] [CORES]`; the
//! directory is emptied first.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_engine::request::{
    DeleteRange, KeyRange, Operation, OperationResponse, Put, RangeRequest, Transaction,
};
use mainstay_engine::runtime::{Core, Options, run, spawn_local, timer};
use mainstay_engine::{Record, Store};

/// Writers beside the deletion, and how long each rests between two writes.
const WRITERS: usize = 4;
const REST: Duration = Duration::from_micros(500);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory to use"));
    let mut number =
        |default| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (keys, cores) = (number(1_000_000), number(2));
    std::fs::remove_dir_all(&directory).ok();
    let options = Options { data_dir: directory.clone(), cores, ..Options::default() };
    run(&options, move |core: Core| async move {
        if core.number == 0 {
            measure(&core.store, keys).await;
            core.shutdown.request();
        } else {
            core.shutdown.requested().await;
        }
    })
    .expect("the store runs");
    let started = Instant::now();
    run(&options, move |core: Core| async move {
        if core.number == 0 {
            let count = count(&core.store, 0).await;
            assert_eq!(count, 0, "the deletion is in the log");
            println!("after a restart ({:?}): {count} keys", started.elapsed());
            core.shutdown.request();
        } else {
            core.shutdown.requested().await;
        }
    })
    .expect("the store runs again");
    std::fs::remove_dir_all(&directory).ok();
}

async fn put(store: &Store, key: String) -> i64 {
    let put = Put {
        key: Bytes::from(key),
        value: Bytes::from_static(&[b'x'; 100]),
        lease: 0,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    };
    store.transact(Transaction::of(Operation::Put(put))).await.expect("a put").revision
}

fn bulk() -> KeyRange {
    KeyRange::prefix(b"/registry/bulk/")
}

async fn count(store: &Store, revision: i64) -> usize {
    let request = RangeRequest { revision, count_only: true, ..RangeRequest::new(bulk()) };
    store.range(request).await.expect("a count").count
}

async fn fill(store: &Store, keys: usize) {
    let open = Rc::new(Cell::new(0));
    for number in 0..keys {
        while open.get() >= 512 {
            timer::sleep(Duration::from_micros(100)).await;
        }
        open.set(open.get() + 1);
        let (store, open) = (store.clone(), Rc::clone(&open));
        spawn_local(async move {
            put(&store, format!("/registry/bulk/default/object-{number:010}")).await;
            open.set(open.get() - 1);
        });
    }
    while open.get() > 0 {
        timer::sleep(Duration::from_millis(1)).await;
    }
}

async fn measure(store: &Store, keys: usize) {
    fill(store, keys).await;
    println!("{keys} keys of {} bytes", "/registry/bulk/default/object-0000000000".len());
    let phase = Rc::new(Cell::new("before"));
    let waits = Rc::new(RefCell::new(Vec::<(&str, Duration)>::new()));
    for writer in 0..WRITERS {
        let (store, phase, waits) = (store.clone(), Rc::clone(&phase), Rc::clone(&waits));
        spawn_local(async move {
            for number in 0_u64.. {
                if phase.get() == "end" {
                    break;
                }
                let started = Instant::now();
                put(&store, format!("/other/{writer}/{}", number % 100)).await;
                waits.borrow_mut().push((phase.get(), started.elapsed()));
                timer::sleep(REST).await;
            }
        });
    }
    timer::sleep(Duration::from_secs(1)).await;
    phase.set("during");
    let started = Instant::now();
    let operation = DeleteRange { range: bulk(), previous: false };
    let request = Transaction::of(Operation::DeleteRange(operation));
    let response = store.transact(request).await.expect("a deletion");
    let took = started.elapsed();
    assert!(matches!(response.responses[..],
        [OperationResponse::DeleteRange { deleted, .. }] if deleted == keys));
    assert_eq!(count(store, 0).await, 0, "everything has ended");
    let old = RangeRequest { revision: response.revision - 1, ..RangeRequest::new(bulk()) };
    let lived = store.range(RangeRequest { limit: 1000, ..old }).await.expect("history");
    assert_eq!((lived.count, lived.records.len()), (keys, keys.min(1000)), "history is exact");
    assert!(lived.records.iter().is_sorted_by_key(|record: &Record| record.key().to_vec()));
    timer::sleep(Duration::from_secs(1)).await;
    phase.set("end");
    println!("deleted in {took:?} at revision {}", response.revision);
    for phase in ["before", "during"] {
        let waits = waits.borrow();
        let mut waits: Vec<_> =
            waits.iter().filter(|(when, _)| *when == phase).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        println!(
            "puts {phase}: {}, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
            waits.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}
