//! Lets very many leases run out at once, each with a key, while others write, and tells how long
//! those waited.
//!
//! `cargo run --release -p mainstay-engine --example expire -- DIRECTORY [LEASES] [CORES]`; the
//! directory is emptied first.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_engine::Store;
use mainstay_engine::request::{KeyRange, Operation, Put, RangeRequest, Transaction};
use mainstay_engine::runtime::{Core, Options, run, spawn_local, timer};

/// Seconds: long enough to grant them all, and then they run out within a second or two.
const TTL: i64 = 60;
const WRITERS: usize = 4;
const REST: Duration = Duration::from_micros(500);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory to use"));
    let mut number =
        |default| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (leases, cores) = (number(100_000), number(2));
    std::fs::remove_dir_all(&directory).ok();
    let options = Options { data_dir: directory.clone(), cores, ..Options::default() };
    run(&options, move |core: Core| async move {
        if core.number == 0 {
            measure(&core.store, leases as i64).await;
            core.shutdown.request();
        } else {
            core.shutdown.requested().await;
        }
    })
    .expect("the store runs");
    std::fs::remove_dir_all(&directory).ok();
}

async fn put(store: &Store, key: String, lease: i64) {
    let put = Put {
        key: Bytes::from(key),
        value: Bytes::from_static(&[b'x'; 100]),
        lease,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    };
    store.transact(Transaction::of(Operation::Put(put))).await.expect("a put");
}

async fn keys(store: &Store) -> usize {
    let all = RangeRequest::new(KeyRange::prefix(b"/leased/"));
    store.range(RangeRequest { count_only: true, ..all }).await.expect("a count").count
}

async fn measure(store: &Store, leases: i64) {
    let open = Rc::new(Cell::new(0));
    let started = Instant::now();
    for id in 1..=leases {
        while open.get() >= 512 {
            timer::sleep(Duration::from_micros(100)).await;
        }
        open.set(open.get() + 1);
        let (store, open) = (store.clone(), Rc::clone(&open));
        spawn_local(async move {
            store.lease_grant(TTL, id).await.expect("a lease");
            put(&store, format!("/leased/{id:08}"), id).await;
            open.set(open.get() - 1);
        });
    }
    while open.get() > 0 {
        timer::sleep(Duration::from_millis(1)).await;
    }
    // They all get their time anew, so that they run out together.
    for id in 1..=leases {
        store.lease_keep_alive(id).await.expect("it is in force");
    }
    println!("{} leases with {} keys in {:?}", leases, keys(store).await, started.elapsed());
    let phase = Rc::new(Cell::new("before"));
    let waits = Rc::new(RefCell::new(Vec::<(&str, Duration)>::new()));
    for writer in 0..WRITERS {
        let (store, phase, waits) = (store.clone(), Rc::clone(&phase), Rc::clone(&waits));
        spawn_local(async move {
            while phase.get() != "end" {
                let started = Instant::now();
                put(&store, format!("/other/{writer}"), 0).await;
                waits.borrow_mut().push((phase.get(), started.elapsed()));
                timer::sleep(REST).await;
            }
        });
    }
    while keys(store).await == leases as usize {
        timer::sleep(Duration::from_millis(20)).await;
    }
    phase.set("during");
    let started = Instant::now();
    while !store.leases().await.expect("a list").is_empty() {
        timer::sleep(Duration::from_millis(50)).await;
    }
    println!("all ended within {:?}", started.elapsed());
    assert_eq!(keys(store).await, 0, "no key outlives its lease");
    phase.set("end");
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
