//! Random histories, each the same for its seed.

use std::cell::Cell;

use bytes::Bytes;

use super::model::Model;
use super::{Random, range_at, with_past};
use crate::mvcc::{Lookup, Mvcc, Restoring, Seen, Settled, Usage, evaluate};
use crate::placement;
use crate::record::{Record, Revision};
use crate::request::*;

/// The store under test beside the model that it must equal.
struct Pair {
    mvcc: Mvcc,
    model: Model,
    committed: Revision,
    random: Random,
    seed: u64,
    /// Versions that had to be looked up.
    looked_up: Cell<usize>,
}

#[test]
fn random_histories_equal_the_model() {
    let mut looked_up = 0;
    for seed in 0..300 {
        let keys = if seed % 3 == 0 { 6 } else { 60 };
        let mut pair = Pair {
            mvcc: Mvcc::default(),
            model: Model::new(),
            committed: 1,
            random: Random(seed),
            seed,
            looked_up: Cell::new(0),
        };
        for _ in 0..150 {
            pair.step(keys);
        }
        pair.commit();
        pair.compare_everything(keys);
        pair.evict_to_the_end(keys);
        pair.compact_to_the_end(keys);
        looked_up += pair.looked_up.get();
    }
    assert!(looked_up > 1000, "only {looked_up} versions were looked up");
}

impl Pair {
    fn step(&mut self, keys: usize) {
        match self.random.below(100) {
            0..60 => self.transact(keys),
            60..80 => self.read(keys),
            80..88 => self.commit(),
            88..92 => self.rollback(keys),
            92..94 => self.compact(),
            94 => self.restore(),
            95..97 => self.evict(),
            _ => {
                let max = 1 + self.random.below(20);
                self.mvcc.compact_slice(max);
            }
        }
    }

    fn transact(&mut self, keys: usize) {
        let transaction = random_transaction(&mut self.random, keys, self.model.revision(), 0);
        let next = self.model.revision() + 1;
        let mut taken = 0;
        // Reads at a revision within a transaction see committed revisions only.
        let all_committed = self.committed == self.model.revision();
        if !all_committed && reads_history(&transaction) {
            return;
        }
        let take = || {
            taken += 1;
            next
        };
        let compacted = self.mvcc.compacted_revision();
        let with_past = with_past(&transaction, self.committed, compacted, |request| {
            range_at(&self.mvcc, &request.range, request.revision, |lookup| self.look_up(lookup))
        });
        let got = evaluate(&self.mvcc, self.committed, take, &with_past);
        let before = self.model.revision();
        let mut expected = self.model.transact(&transaction);
        let changed = self.model.revision() > before;
        let context = format!("seed {} {transaction:?}", self.seed);
        assert_eq!(taken, usize::from(changed), "{context}");
        if changed {
            assert_eq!(got.visible_at, next, "{context}");
            assert!(!got.changes.is_empty(), "{context}");
        } else {
            assert!(got.changes.is_empty(), "{context}");
            assert!(got.visible_at <= before, "{context}");
            // Nothing that it saw is newer than what it answers.
            let revision = self.committed.max(got.visible_at);
            if let Ok(expected) = &mut expected {
                set_revisions(expected, revision);
            }
        }
        assert_eq!(got.result, expected, "{context}");
        for change in got.changes {
            assert_eq!(change.record.mod_revision(), next, "{context}");
            let before = self.model.at(before).get(change.record.key());
            assert_eq!(change.previous.as_ref(), before, "{context}");
            self.mvcc.install(change.record);
        }
    }

    fn read(&mut self, keys: usize) {
        let low = self.mvcc.compacted_revision().max(1);
        let revision = low + self.random.below((self.model.revision() - low + 1) as usize) as i64;
        let range = random_range(&mut self.random, keys);
        let expected = self.model.range(&range, revision);
        let context = format!("seed {} {range:?} at {revision}", self.seed);
        let max = 1 + self.random.below(10);
        let (mut records, mut after) = (Vec::new(), None);
        loop {
            let mut chunk = self.mvcc.range_chunk(&range, revision, after.as_deref(), max);
            let lookups = chunk.unresolved.iter().map(|(_, lookup)| lookup);
            let found: Vec<_> = lookups.map(|lookup| self.look_up(lookup)).collect();
            self.looked_up.set(self.looked_up.get() + found.len());
            assert!(revision < self.mvcc.floor() || found.is_empty(), "{context}");
            chunk.resolve(found);
            assert!(chunk.records.len() <= max, "{context}");
            records.extend(chunk.records);
            after = chunk.resume_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(records, expected, "{context}");
        let (mut count, mut from) = (0, None);
        loop {
            let mut chunk = self.mvcc.count_chunk(&range, revision, from.as_deref(), max);
            let found: Vec<_> = chunk.unresolved.iter().map(|key| self.look_up(key)).collect();
            chunk.resolve(&found);
            count += chunk.count;
            from = chunk.resume_from;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(count, expected.len(), "{context}");

        let key = random_key(&mut self.random, keys);
        let expected = self.model.at(revision).get(&key[..]);
        match self.mvcc.get_at(&key, revision) {
            Seen::Live(record) => assert_eq!(Some(record), expected, "{context}"),
            Seen::Nothing => assert_eq!(None, expected, "{context}"),
            Seen::Evicted { upto, lived } => {
                let found = self.look_up(&Lookup { key: key.clone(), revision: upto });
                assert_eq!(found.as_ref(), expected, "{context}");
                assert!(!lived || found.is_some(), "{context}");
            }
        }
        let newest = self.model.at(self.model.revision()).get(&key[..]);
        assert_eq!(self.mvcc.newest(&key), newest, "{context}");
    }

    /// What the log would say: it has every version.
    fn look_up(&self, lookup: &Lookup) -> Option<Record> {
        self.model.at(lookup.revision).get(&lookup.key[..]).cloned()
    }

    fn evict(&mut self) {
        let floor = self.mvcc.floor();
        let floor = floor + self.random.below((self.committed - floor + 3).max(1) as usize) as i64;
        self.mvcc.evict(floor);
        let max = self.random.below(20);
        self.mvcc.evict_slice(max);
    }

    fn commit(&mut self) {
        self.committed = self.model.revision();
        self.mvcc.settle(self.committed);
    }

    fn rollback(&mut self, keys: usize) {
        let uncommitted = (self.model.revision() - self.committed) as usize;
        let to = self.committed + self.random.below(uncommitted + 1) as i64;
        let before = self.model.at(self.model.revision()).clone();
        self.model.rollback(to);
        let after = self.model.at(to);
        for (removed, now) in self.mvcc.rollback(to) {
            let live = |record: &Record| !record.is_tombstone();
            let key = removed.key().to_vec();
            assert_eq!(Some(&removed).filter(|r| live(r)), before.get(&key), "seed {}", self.seed);
            assert_eq!(now.as_ref().filter(|r| live(r)), after.get(&key), "seed {}", self.seed);
        }
        self.compare_everything(keys);
    }

    fn compact(&mut self) {
        let revision = 1 + self.random.below(self.committed as usize) as i64;
        self.mvcc.compact(revision);
        self.model.compacted = self.mvcc.compacted_revision();
    }

    /// From a snapshot at the committed revision comes the same state; older versions are
    /// in the log. The snapshot is fuzzy: its chunks may hold what came later, and entries that it holds already
    /// are installed again.
    fn restore(&mut self) {
        let mut restored = Mvcc::default();
        restored.settle(self.committed);
        restored.compact(self.mvcc.compacted_revision());
        restored.evict(self.committed);
        let (max, mut after) = (1 + self.random.below(20), None);
        loop {
            let chunk = self.mvcc.settled_chunk(after.as_deref(), self.committed, max);
            for Settled { record, previous } in chunk.entries {
                restored.restore(record, previous);
            }
            after = chunk.resume_after;
            if after.is_none() {
                break;
            }
        }
        let known = |key| restored.newest_or_tombstone(key).is_some();
        let everything = KeyRange::From(Bytes::new());
        let all = self.mvcc.newest_in(&everything).map(Record::key);
        let known: Vec<&[u8]> = all.filter(|key| known(key)).collect();
        let mut restoring = Restoring::new(restored);
        for key in known {
            let old = Record::tombstone(key, 1);
            let installed = restoring.install(placement::hash(key), old);
            assert!(installed.is_none(), "seed {}", self.seed);
        }
        self.mvcc = restoring.finish();
        self.model.rollback(self.committed);
    }

    fn compare_everything(&mut self, keys: usize) {
        for _ in 0..5 {
            self.read(keys);
        }
        let newest = self.model.at(self.model.revision());
        let bytes = |record: &Record| record.key().len() + record.value().len();
        let usage = self.mvcc.usage();
        assert_eq!(usage.live_keys, newest.len(), "seed {}", self.seed);
        assert_eq!(usage.live_bytes, newest.values().map(bytes).sum::<usize>());
    }

    /// With the floor at the newest revision each key has one version, perhaps a tombstone, in
    /// memory, and every older revision can be read.
    fn evict_to_the_end(&mut self, keys: usize) {
        self.mvcc.evict(self.committed);
        while !self.mvcc.evict_slice(7) {}
        for _ in 0..20 {
            self.read(keys);
        }
        let everything = KeyRange::From(Bytes::new());
        let known = self.mvcc.newest_in(&everything).count();
        assert_eq!(self.mvcc.usage().versions, known, "seed {}", self.seed);
    }

    /// After the last compaction nothing but the live versions is left.
    fn compact_to_the_end(&mut self, keys: usize) {
        self.mvcc.compact(self.committed);
        self.model.compacted = self.committed;
        while !self.mvcc.compact_slice(7) {}
        self.compare_everything(keys);
        let Usage { live_keys, live_bytes, versions, version_bytes } = self.mvcc.usage();
        assert_eq!((versions, version_bytes), (live_keys, live_bytes), "seed {}", self.seed);
        let everything = KeyRange::From(Bytes::new());
        assert_eq!(self.mvcc.newest_in(&everything).count(), live_keys, "seed {}", self.seed);
    }
}

/// What was only read is answered at the newest revision that was looked at.
fn set_revisions(response: &mut TransactionResponse, revision: Revision) {
    response.revision = revision;
    for response in &mut response.responses {
        match response {
            OperationResponse::Range(range) => range.revision = revision,
            OperationResponse::Transaction(nested) => set_revisions(nested, revision),
            _ => {}
        }
    }
}

fn reads_history(transaction: &Transaction) -> bool {
    transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
        Operation::Range(range) => range.revision > 0,
        Operation::Transaction(nested) => reads_history(nested),
        _ => false,
    })
}

fn random_key(random: &mut Random, keys: usize) -> Bytes {
    Bytes::from(format!("/k/{:03}", random.below(keys)))
}

fn random_range(random: &mut Random, keys: usize) -> KeyRange {
    match random.below(10) {
        0..4 => KeyRange::Single(random_key(random, keys)),
        4..7 => {
            KeyRange::Interval { start: random_key(random, keys), end: random_key(random, keys) }
        }
        7..9 => KeyRange::prefix(&random_key(random, keys)[..5]),
        _ => KeyRange::From(random_key(random, keys)),
    }
}

fn random_transaction(
    random: &mut Random,
    keys: usize,
    revision: Revision,
    depth: usize,
) -> Transaction {
    let compares = (0..random.below(3)).map(|_| random_compare(random, keys, revision)).collect();
    let mut branch = |most: usize| {
        let length = random.below(most + 1);
        (0..length).map(|_| random_operation(random, keys, revision, depth)).collect()
    };
    Transaction { compares, success: branch(4), failure: branch(3) }
}

fn random_compare(random: &mut Random, keys: usize, revision: Revision) -> Compare {
    let number = random.below(4) as i64;
    Compare {
        range: random_range(random, keys),
        comparison: [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Greater,
            Comparison::Less,
        ][random.below(4)],
        target: match random.below(5) {
            0 => CompareTarget::Version(number),
            1 => CompareTarget::Create(revision - number),
            2 => CompareTarget::Mod(revision - number),
            3 => CompareTarget::Value(Bytes::from(format!("{number}"))),
            _ => CompareTarget::Lease(number),
        },
    }
}

fn random_operation(
    random: &mut Random,
    keys: usize,
    revision: Revision,
    depth: usize,
) -> Operation {
    match random.below(20) {
        0..9 => Operation::Put(Put {
            key: random_key(random, keys),
            value: Bytes::from(format!("{}", random.below(5))),
            lease: if random.chance(3) { 1 } else { 2 * random.below(2) as i64 },
            previous: random.chance(50),
            ignore_value: random.chance(10),
            ignore_lease: random.chance(10),
        }),
        9..13 => Operation::DeleteRange(DeleteRange {
            range: random_range(random, keys),
            previous: random.chance(50),
        }),
        13..18 => Operation::Range(random_range_request(random, keys, revision)),
        _ if depth < 3 => {
            Operation::Transaction(random_transaction(random, keys, revision, depth + 1))
        }
        _ => Operation::Range(RangeRequest::new(random_range(random, keys))),
    }
}

fn random_range_request(random: &mut Random, keys: usize, revision: Revision) -> RangeRequest {
    let mut bound = |percent| match random.chance(percent) {
        true => (revision - random.below(20) as i64).max(0),
        false => 0,
    };
    let (min_mod_revision, max_mod_revision) = (bound(10), bound(10));
    let (min_create_revision, max_create_revision) = (bound(10), bound(10));
    let at = bound(20);
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let directions =
        [SortDirection::Ascend, SortDirection::Descend, SortDirection::AscendWithinLimit];
    RangeRequest {
        revision: if random.chance(2) { revision + 5 } else { at },
        limit: random.below(4),
        sort: random.chance(30).then(|| (targets[random.below(5)], directions[random.below(3)])),
        count_only: random.chance(10),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
        ..RangeRequest::new(random_range(random, keys))
    }
}
