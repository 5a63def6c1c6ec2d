use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::effect::Change;
use crate::mvcc::Gathered;
use crate::mvcc::tests::{Random, nothing_evicted, range_at, with_past};
use crate::request::{DeleteRange, Operation, Past, Put, RangeRequest, RangeResponse};

/// A shard, and the counter that the whole store would share.
#[derive(Default)]
struct Fixture {
    shard: Shard,
    revision: Revision,
    committed: Revision,
    requests: RequestId,
}

fn fixture() -> Fixture {
    Fixture { revision: 1, committed: 1, ..Fixture::default() }
}

impl Fixture {
    fn ask(&mut self, operation: Operation) -> Outcome {
        self.requests += 1;
        let revision = &mut self.revision;
        let mut take = || {
            *revision += 1;
            *revision
        };
        let transaction = Transaction::of(operation);
        self.shard.evaluate(self.requests, transaction, self.committed, &mut take)
    }

    fn done(&mut self, operation: Operation) -> Done {
        match self.ask(operation) {
            Outcome::Done(done) => done,
            other => panic!("not done: {other:?}"),
        }
    }

    fn release(&mut self, token: Token) -> Vec<Resumed> {
        let revision = &mut self.revision;
        let mut take = || {
            *revision += 1;
            *revision
        };
        self.shard.release(token, self.committed, &mut take)
    }

    fn grant(&mut self, id: LeaseId) {
        self.shard.apply_control(&Control::LeaseGrant { id, ttl: 60 });
    }
}

fn single(key: &'static str) -> KeyRange {
    KeyRange::Single(key.into())
}

fn put(key: &str, lease: LeaseId) -> Operation {
    Operation::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: "v".into(),
        lease,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

fn delete(range: KeyRange) -> Operation {
    Operation::DeleteRange(DeleteRange { range, previous: false })
}

fn resumed_order(resumed: &[Resumed]) -> Vec<String> {
    let name = |resumed: &Resumed| match resumed {
        Resumed::Request { request, outcome: Outcome::Done(_) } => format!("done {request}"),
        Resumed::Request { request, outcome } => format!("{outcome:?} {request}"),
        Resumed::Frozen(token) => format!("frozen {token}"),
    };
    resumed.iter().map(name).collect()
}

#[test]
fn an_effect_holds_what_changed_and_what_was_there() {
    let mut store = fixture();
    let done = store.done(put("a", 0));
    let record = store.shard.mvcc().newest(b"a").cloned().expect("it was put");
    let changes = vec![Change { record: record.clone(), previous: None }];
    assert_eq!(done.effect, Some(Effect { revision: 2, changes }));
    assert_eq!(done.visible_at, 2);

    let done = store.done(delete(single("a")));
    let changes = vec![Change { record: Record::tombstone(b"a", 3), previous: Some(record) }];
    assert_eq!(done.effect, Some(Effect { revision: 3, changes }));

    let done = store.done(delete(single("a")));
    assert_eq!((done.effect, done.visible_at, store.revision), (None, 3, 3));
}

#[test]
fn installing_gives_what_lived_before_the_revision() {
    let mut shard = Shard::default();
    let first = Record::new(b"k", b"1", 2, 2, 1, 0);
    assert_eq!(shard.install(first.clone()), None);
    // Deleted and put again by one transaction.
    assert_eq!(shard.install(Record::tombstone(b"k", 3)), Some(first.clone()));
    assert_eq!(shard.install(Record::new(b"k", b"2", 3, 3, 1, 0)), Some(first));
    shard.install(Record::tombstone(b"k", 4));
    assert_eq!(shard.install(Record::new(b"k", b"3", 5, 5, 1, 0)), None);
}

#[test]
fn a_lease_that_is_not_known_yet_is_not_the_end() {
    let mut store = fixture();
    let transaction = Transaction::of(put("a", 7));
    assert_eq!(
        store.ask(put("a", 7)),
        Outcome::UnknownLease { lease: 7, transaction: transaction.clone(), visible_at: 0 }
    );
    assert_eq!((store.revision, store.shard.mvcc().usage().versions), (1, 0));
    store.grant(7);
    store.done(put("a", 7));
    store.shard.apply_control(&Control::LeaseRevoke { id: 7 });
    assert!(matches!(store.ask(put("a", 7)), Outcome::UnknownLease { .. }));
}

/// The newest versions in some ranges, in slices of one key.
fn gather(shard: &Shard, ranges: &[KeyRange]) -> Vec<Record> {
    let mut records = Vec::new();
    for range in ranges {
        let mut after = None;
        loop {
            let chunk = shard.mvcc().newest_chunk(range, after.as_deref(), 1);
            records.extend(chunk.records);
            after = chunk.resume_after;
            if after.is_none() {
                break;
            }
        }
    }
    records
}

fn attached_keys(shard: &Shard, lease: LeaseId) -> Vec<Bytes> {
    shard.attachments().keys_after(lease, None, 1000).map(Bytes::copy_from_slice).collect()
}

#[test]
fn what_conflicts_with_a_freeze_waits_in_order() {
    let mut store = fixture();
    store.done(put("a", 0));
    assert!(store.shard.freeze(1, vec![KeyRange::prefix(b"a"), single("m")], vec![]));
    store.done(put("b", 0));
    assert_eq!(store.ask(put("a", 0)), Outcome::Deferred); // request 3
    assert_eq!(store.ask(delete(KeyRange::prefix(b""))), Outcome::Deferred);
    // Not frozen, but a waiting request touches it.
    assert_eq!(store.ask(put("z", 0)), Outcome::Deferred);
    let read = Operation::Range(RangeRequest::new(single("m")));
    assert_eq!(store.ask(read), Outcome::Deferred);
    // History does not change: reading it waits for nobody.
    store.committed = store.revision;
    let outcome = Ok(RangeResponse::default());
    store.done(Operation::Past(Past { revision: 2, outcome }));
    assert!(!store.shard.freeze(2, vec![single("z")], vec![]));
    assert_eq!(store.ask(put("z", 0)), Outcome::Deferred); // request 8
    assert_eq!(gather(&store.shard, &[single("a"), single("m")]).len(), 1);

    let resumed = store.release(1);
    assert_eq!(resumed_order(&resumed), ["done 3", "done 4", "done 5", "done 6", "frozen 2"]);
    assert_eq!(resumed_order(&store.release(2)), ["done 8"]);
    assert!(store.shard.gate.is_open());
}

#[test]
fn a_freeze_that_is_given_up_lets_others_pass() {
    let mut store = fixture();
    assert!(store.shard.freeze(1, vec![single("a")], vec![]));
    assert!(!store.shard.freeze(2, vec![single("a"), single("b")], vec![]));
    assert_eq!(store.ask(put("b", 0)), Outcome::Deferred);
    assert_eq!(resumed_order(&store.release(2)), ["done 1"]);
    assert_eq!(resumed_order(&store.release(1)), Vec::<String>::new());
}

#[test]
fn a_frozen_lease_keeps_its_keys_and_gets_no_more() {
    let mut store = fixture();
    store.grant(7);
    store.grant(8);
    store.done(put("a", 7));
    assert!(store.shard.freeze_leases(1, &[7]));
    for (operation, expected) in [
        (put("b", 7), true),
        (put("a", 8), true),
        (delete(KeyRange::prefix(b"")), true),
        (put("c", 8), false),
    ] {
        // "c" waits for the deletion of everything only.
        let mut store = fixture();
        store.grant(7);
        store.grant(8);
        store.done(put("a", 7));
        assert!(store.shard.freeze_leases(1, &[7]));
        assert_eq!(store.ask(operation.clone()) == Outcome::Deferred, expected, "{operation:?}");
    }
    assert_eq!(store.ask(put("b", 7)), Outcome::Deferred);
    assert_eq!(attached_keys(&store.shard, 7), ["a"]);
    store.revision += 1;
    store.shard.install(Record::tombstone(b"a", store.revision));
    store.shard.apply_control(&Control::LeaseRevoke { id: 7 });
    let resumed = store.release(1);
    assert!(matches!(
        &resumed[..],
        [Resumed::Request { outcome: Outcome::UnknownLease { lease: 7, .. }, .. }]
    ));
}

#[test]
fn keys_that_are_ending_are_gone_at_once() {
    let mut store = fixture();
    for key in ["a1", "a2", "a3", "b"] {
        store.done(put(key, 0));
    }
    store.done(delete(single("a2")));
    let (ending, old) = (store.revision + 1, store.revision);
    assert!(store.shard.freeze(1, vec![KeyRange::prefix(b"a")], vec![]));
    store.shard.begin_ending(1, ending, vec![KeyRange::prefix(b"a")]);
    store.revision = ending;
    store.committed = ending;
    store.done(put("c", 0));
    assert_eq!(store.ask(put("a1", 0)), Outcome::Deferred);
    let everything = KeyRange::prefix(b"");
    let mut slices = 0;
    loop {
        let count = |revision| {
            let (mut count, mut from) = (0, None);
            loop {
                let slice = store.shard.count_chunk(&everything, revision, from.as_deref(), 2);
                count += slice.count;
                from = slice.resume_from;
                if from.is_none() {
                    return count;
                }
            }
        };
        assert_eq!((count(old), count(ending)), (3, 1), "after {slices} slices");
        let mut chunk = store.shard.mvcc().range_chunk(&everything, ending, None, 10);
        chunk.retain(|record| store.shard.lives(record, ending));
        assert_eq!(chunk.records.len(), 1);
        let settled = store.shard.settled_chunk(None, ending, 10);
        let ended: Vec<_> = settled
            .entries
            .iter()
            .map(|entry| (entry.record.mod_revision(), entry.previous))
            .collect();
        // a1 and a3 ended at 7; a2 at 6; b lives since 5.
        assert_eq!(ended, [(7, 2), (6, 3), (7, 4), (5, 0)], "after {slices} slices");
        match store.shard.end_slice(1) {
            Some(token) => break assert_eq!(token, 1),
            None => slices += 1,
        }
    }
    assert_eq!(slices, 2);
    assert_eq!(resumed_order(&store.release(1)), ["done 7"]);
    assert_eq!(store.shard.mvcc().newest(b"a1").map(|record| record.version()), Some(1));
}

#[test]
fn too_many_waiting_requests_are_refused() {
    let mut store = fixture();
    assert!(store.shard.freeze(1, vec![single("a")], vec![]));
    for _ in 0..crate::limits::DEFERRED_REQUESTS {
        assert_eq!(store.ask(put("a", 0)), Outcome::Deferred);
    }
    assert_eq!(store.ask(put("a", 0)), Outcome::Refused(StoreError::TooManyRequests));
    store.done(put("b", 0));
    assert_eq!(store.shard.rollback(1).len(), crate::limits::DEFERRED_REQUESTS);
    assert!(store.shard.mvcc().newest(b"b").is_none());
    store.done(put("a", 0));
}

#[test]
fn attachments_follow_every_history() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut store = fixture();
        (1..4).for_each(|lease| store.grant(lease));
        for _ in 0..100 {
            let key = format!("k{}", random.below(8));
            match random.below(10) {
                0..6 => drop(store.done(put(&key, random.below(4) as i64))),
                6..8 => drop(store.done(delete(KeyRange::prefix(key.as_bytes())))),
                8 => {
                    store.committed = store.revision;
                    store.shard.settle(store.committed);
                }
                _ => {
                    let uncommitted = (store.revision - store.committed) as usize;
                    store.revision = store.committed + random.below(uncommitted + 1) as i64;
                    store.shard.rollback(store.revision);
                }
            }
            let mut expected: BTreeMap<LeaseId, Vec<Bytes>> = BTreeMap::new();
            let everything = KeyRange::prefix(b"");
            let newest = store.shard.mvcc().newest_in(&everything);
            for record in newest.filter(|record| !record.is_tombstone()) {
                let key = Bytes::copy_from_slice(record.key());
                expected.entry(record.lease()).or_default().push(key);
            }
            for lease in 1..4 {
                let expected = expected.remove(&lease).unwrap_or_default();
                assert_eq!(attached_keys(&store.shard, lease), expected, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_transaction_over_two_shards_equals_one_over_one() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut whole = fixture();
        let mut halves = [Shard::default(), Shard::default()];
        let owner = |key: &[u8]| usize::from(key[0].is_ascii_uppercase());
        for _ in 0..20 {
            let names = ["a", "A", "b", "B", "c", "C"];
            let mut operations = Vec::new();
            for _ in 0..1 + random.below(4) {
                let range = match random.below(3) {
                    0 => KeyRange::prefix(b""),
                    1 => KeyRange::From(names[random.below(6)].into()),
                    _ => single(names[random.below(6)]),
                };
                operations.push(match random.below(3) {
                    0 => put(names[random.below(6)], 0),
                    1 => delete(range),
                    _ => {
                        let revision = random.below(whole.revision as usize + 1) as Revision;
                        Operation::Range(RangeRequest { revision, ..RangeRequest::new(range) })
                    }
                });
            }
            let transaction = Transaction { success: operations, ..Transaction::default() };
            let footprint = Footprint::of(&transaction);
            let mut gathered = Gathered::new(footprint.ranges.clone(), [], 0);
            for shard in &mut halves {
                assert!(shard.freeze(1, footprint.ranges.clone(), footprint.leases.clone()));
                gathered.add_newest(gather(shard, &footprint.ranges));
            }
            let (committed, next) = (whole.revision, whole.revision + 1);
            let read = |shards: &[&Shard], request: &RangeRequest| {
                let read = |shard: &&Shard| {
                    range_at(shard.mvcc(), &request.range, request.revision, nothing_evicted)
                };
                let mut records: Vec<Record> = shards.iter().flat_map(read).collect();
                records.sort_by(|left, right| left.key().cmp(right.key()));
                records
            };
            let in_halves = with_past(&transaction, committed, 0, |request| {
                read(&[&halves[0], &halves[1]], request)
            });
            let transaction =
                with_past(&transaction, committed, 0, |request| read(&[&whole.shard], request));
            let got = evaluate(&gathered.ready(), committed, || next, &in_halves);
            for change in &got.changes {
                halves[owner(change.record.key())].install(change.record.clone());
            }
            halves.iter_mut().for_each(|shard| {
                shard.release(1, 1, &mut || unreachable!());
            });
            let outcome = whole.shard.evaluate(0, transaction, committed, &mut || {
                whole.revision += 1;
                whole.revision
            });
            let Outcome::Done(expected) = outcome else { panic!("seed {seed} {outcome:?}") };
            let changes = expected.effect.map(|effect| effect.changes).unwrap_or_default();
            assert_eq!(got.result, expected.result, "seed {seed}");
            assert_eq!(got.changes, changes, "seed {seed}");
            assert_eq!(got.visible_at, expected.visible_at, "seed {seed}");
        }
    }
}
