//! Measures the state of one core: keys, leases, watchers. No disk, no sockets.
//!
//! `cargo bench -p mainstay-engine --bench state [keys]`; a million keys unless told otherwise.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mainstay_engine::effect::{Batch, Change, Control, Effect, Item};
use mainstay_engine::lease::LeaseTable;
use mainstay_engine::mvcc::Mvcc;
use mainstay_engine::record::{Record, Revision};
use mainstay_engine::request::*;
use mainstay_engine::shard::{Outcome, Shard};
use mainstay_engine::watch::{Step, WatchHub};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: [u8; 512] = [b'v'; 512];

type Section = (&'static str, fn(usize));

/// Each runs in a process of its own, so that one does not use memory that another gave back.
const SECTIONS: [Section; 6] = [
    ("ascending", ascending),
    ("shuffled", shuffled_and_read),
    ("transactions", transactions),
    ("watchers", watchers),
    ("events", events),
    ("leases", leases),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let keys = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    if let Some((_, section)) = SECTIONS.iter().find(|(name, _)| words.iter().any(|w| w == name)) {
        return section(keys);
    }
    println!("{keys} keys of {} B, values of {} B", key(0).len(), VALUE.len());
    for (name, _) in SECTIONS {
        let program = std::env::current_exe().expect("this program has a path");
        let status = std::process::Command::new(program).args([name, &keys.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{name} failed");
    }
}

/// 48 bytes, as a node's Lease has.
fn key(number: usize) -> Bytes {
    Bytes::from(format!("/registry/leases/kube-node-lease/node-{number:010}"))
}

/// Every number below `keys` once, in no order.
fn shuffled(keys: usize) -> impl Iterator<Item = usize> {
    let step = (keys * 5 / 8) | 1;
    let step = (step..).find(|step| gcd(*step, keys) == 1).expect("there is a prime");
    (0..keys).map(move |index| index * step % keys)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    resident.expect("a number of pages") * 4096
}

/// Times `step` for every item (not the making of the items): the mean, the slowest of ten
/// thousand, and the slowest of all, which on a busy machine is one that was interrupted.
fn each<T>(what: &str, items: impl Iterator<Item = T>, mut step: impl FnMut(T)) {
    let mut times_ns: Vec<u32> = Vec::with_capacity(items.size_hint().1.unwrap_or(1 << 20));
    for item in items {
        let begin = Instant::now();
        step(item);
        times_ns.push(begin.elapsed().as_nanos() as u32);
    }
    let mean_ns = times_ns.iter().map(|&ns| f64::from(ns)).sum::<f64>() / times_ns.len() as f64;
    times_ns.sort_unstable();
    let part = |permyriad: usize| times_ns[(times_ns.len() - 1) * permyriad / 10_000] / 1000;
    println!(
        "{what:<48} {mean_ns:>10.0} ns {:>11.0}/s   p99.99 {:>6} us  max {:>6} us",
        1e9 / mean_ns,
        part(9_999),
        part(10_000),
    );
}

fn record(number: usize, revision: Revision) -> Record {
    Record::new(&key(number), &VALUE, revision, revision, 1, 0)
}

fn fill(what: &str, keys: usize, order: impl Iterator<Item = usize>) -> Mvcc {
    let mut mvcc = Mvcc::default();
    let numbers: Vec<usize> = order.collect();
    let before = resident_bytes() + numbers.len() * size_of::<u32>();
    let records = numbers.iter().zip(2..).map(|(&number, revision)| record(number, revision));
    each(what, records, |record| {
        let revision = record.mod_revision();
        mvcc.install(record);
        mvcc.settle(revision);
    });
    let (live, held) = (mvcc.usage().live_bytes, resident_bytes().saturating_sub(before));
    println!(
        "    {:.1} B per key beside key and value: {:.3} times the live bytes",
        (held as f64 - live as f64) / keys as f64,
        held as f64 / live as f64
    );
    mvcc
}

fn ascending(keys: usize) {
    fill("create, ascending", keys, 0..keys);
}

fn shuffled_and_read(keys: usize) {
    let mvcc = fill("create, shuffled", keys, shuffled(keys));
    let revision = keys as Revision + 1;
    each("get the newest", shuffled(keys).map(key), |key| {
        black_box(mvcc.newest(&key));
    });
    each("get at a revision", shuffled(keys).map(key), |key| {
        black_box(mvcc.get_at(&key, revision));
    });
    let all = KeyRange::prefix(b"/registry/leases/");
    each("range of 500", shuffled(keys).map(key).take(20_000), |key| {
        black_box(mvcc.range_chunk(&all, revision, Some(&key), 500));
    });
    each("count all, at the newest revision", 0..100, |_| {
        black_box(mvcc.count_chunk(&all, revision, None, usize::MAX));
    });
    each("count all, at a revision from the middle", 0..5, |_| {
        black_box(mvcc.count_chunk(&all, revision / 2, None, usize::MAX));
    });
}

fn update(number: usize, mod_revision: Revision) -> Transaction {
    let key = key(number);
    let range = KeyRange::Single(key.clone());
    let target = CompareTarget::Mod(mod_revision);
    let value = Bytes::from_static(&VALUE);
    let put =
        Put { key, value, lease: 0, previous: false, ignore_value: false, ignore_lease: false };
    let read = RangeRequest::new(range.clone());
    Transaction {
        compares: vec![Compare { range, comparison: Comparison::Equal, target }],
        success: vec![Operation::Put(put)],
        failure: vec![Operation::Range(read)],
    }
}

/// What the API server does: compares a revision, writes or reads.
fn transactions(keys: usize) {
    let mut shard = Shard::default();
    let mut revision = 1;
    let mut run = |shard: &mut Shard, transaction: Transaction| {
        let committed = revision;
        let mut take = || {
            revision += 1;
            revision
        };
        match shard.evaluate(0, transaction, committed, &mut take) {
            Outcome::Done(done) => drop(black_box(done)),
            other => panic!("{other:?}"),
        }
        shard.settle(revision);
    };
    let creates = shuffled(keys).map(|number| update(number, 0));
    each("transaction that creates", creates, |transaction| run(&mut shard, transaction));
    let updates = shuffled(keys).zip(2..).map(|(number, revision)| update(number, revision));
    each("transaction that updates", updates, |transaction| run(&mut shard, transaction));
    let failing = shuffled(keys).map(|number| update(number, 1));
    each("transaction whose compare fails", failing, |transaction| run(&mut shard, transaction));
    shard.apply_control(&Control::Compact { revision: keys as Revision * 2 });
    let left = std::cell::Cell::new(true);
    let slices = std::iter::from_fn(|| left.get().then_some(()));
    each("compact, slices of 1,000 keys", slices, |()| left.set(!shard.compact_slice(1000)));
    println!("    {:?}", shard.mvcc().usage());
}

fn batch(before: Revision, numbers: impl Iterator<Item = usize>) -> Arc<Batch> {
    let mut revision = before;
    let items = numbers.map(|number| {
        revision += 1;
        let change = Change { record: record(number, revision), previous: None };
        Item::Effect(Effect { revision, changes: vec![change] })
    });
    let items = items.collect();
    Arc::new(Batch { index: 0, term: 0, revision_before: before, revision_after: revision, items })
}

fn watch(range: KeyRange) -> WatchRequest {
    WatchRequest { range, start_revision: 0, previous: false, no_put: false, no_delete: false }
}

fn subscribe(
    hub: &mut WatchHub,
    what: &str,
    count: usize,
    ranges: impl ExactSizeIterator<Item = KeyRange>,
) {
    let before = resident_bytes() + ranges.len() * size_of::<u32>();
    each(what, ranges.map(watch), |request| {
        hub.subscribe(&request, 1).expect("nothing is compacted");
    });
    let held = resident_bytes().saturating_sub(before) as f64 / count as f64;
    println!("    {held:.0} B per idle watcher, range included");
}

fn watchers(keys: usize) {
    let (mut hub, part) = (WatchHub::new(1, 0), keys / 10);
    subscribe(&mut hub, "watch a key each", keys, (0..keys).map(|n| KeyRange::Single(key(n))));
    let prefix = |n| KeyRange::prefix(format!("/registry/pods/namespace-{n:07}/").as_bytes());
    subscribe(&mut hub, "watch a prefix each", part, (0..part).map(prefix));
    let same = |_| KeyRange::prefix(b"/registry/secrets/");
    subscribe(&mut hub, "watch the same prefix", part, (0..part).map(same));
}

fn events(keys: usize) {
    let mut hub = WatchHub::new(1, 0);
    for number in 0..keys {
        let request = watch(KeyRange::Single(key(number)));
        hub.subscribe(&request, 1).expect("nothing is compacted");
    }
    for number in 0..keys / 10 {
        let prefix = format!("/registry/pods/namespace-{number:07}/");
        let request = watch(KeyRange::prefix(prefix.as_bytes()));
        hub.subscribe(&request, 1).expect("nothing is compacted");
    }
    let mut revision = 1;
    let numbers: Vec<usize> = shuffled(keys).collect();
    let batches = numbers.chunks(100).take(1000).map(|numbers| {
        let batch = batch(revision, numbers.iter().copied());
        revision = batch.revision_after;
        batch
    });
    let mut woken = Vec::new();
    each("publish 100 events, for a watcher each", batches, |batch| {
        woken.extend(hub.publish(batch));
    });
    each("deliver to a woken watcher", woken.into_iter(), |id| match hub.next(id, 1 << 20) {
        Step::Batch(batch) => drop(black_box(batch)),
        other => panic!("{other:?}"),
    });
}

fn leases(keys: usize) {
    let mut table = LeaseTable::default();
    let before = resident_bytes() + keys * size_of::<u32>();
    each("grant a lease", 1..=keys as i64, |id| {
        let control = table.begin_grant(id, 60 + id % 60, || 0).expect("it is free");
        table.apply(&control, 0);
    });
    println!("    {} B per lease", (resident_bytes() - before) / keys);
    each("keep a lease alive", shuffled(keys), |id| {
        black_box(table.keep_alive(id as i64 + 1, 30_000)).expect("it lives");
    });
    let mut expired = 0;
    let due = std::iter::from_fn(|| Some(())).take(keys * 2 / 1000 + 1);
    each("expire, slices of 1,000", due, |()| expired += table.expired(1_000_000, 1000).len());
    assert_eq!(expired, keys);
}
