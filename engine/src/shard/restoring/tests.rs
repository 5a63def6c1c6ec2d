//! A shard restored in one go beside one that got every record by itself, as evaluation does it.

use bytes::Bytes;

use super::*;
use crate::effect::{Batch, Change, Effect, Item};
use crate::log::encode::encode;
use crate::log::frame::{FrameHeader, FrameKind};
use crate::mvcc::tests::{Random, range_at};
use crate::mvcc::{Lookup, Settled};
use crate::placement;
use crate::record::{LeaseId, Record, Revision};
use crate::request::KeyRange;

const LEASES: [LeaseId; 3] = [1, 2, 3];

/// What happened, with the shards that followed it record by record.
struct History {
    random: Random,
    keys: usize,
    shards: Vec<Shard>,
    batches: Vec<Batch>,
    /// Every version, as the log has it.
    records: Vec<Record>,
    revision: Revision,
    compacted: Revision,
}

impl History {
    fn new(seed: u64) -> History {
        let mut random = Random(seed);
        let count = 1 + random.below(3);
        let keys = [3, 40, 400][random.below(3)];
        let shards = (0..count).map(|_| Shard::default()).collect();
        let (batches, records) = (Vec::new(), Vec::new());
        History { random, keys, shards, batches, records, revision: 1, compacted: 0 }
    }

    fn owner(&self, key: &[u8]) -> usize {
        placement::shard_of(placement::hash(key), self.shards.len())
    }

    fn newest(&self, key: &[u8]) -> Option<&Record> {
        self.shards[self.owner(key)].mvcc().newest(key)
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.random.below(self.keys);
        let zeros = if number.is_multiple_of(5) { "\0".repeat(number % 4) } else { String::new() };
        format!("/registry/pods/{:02}/{}{zeros}", number % 7, number / 4).into_bytes()
    }

    fn install(&mut self, record: Record, changes: &mut Vec<Change>) {
        let owner = self.owner(record.key());
        self.shards[owner].install(record.clone());
        self.records.push(record.clone());
        changes.push(Change { record, previous: None });
    }

    /// A transaction; a key that it deletes it may put again.
    fn effect(&mut self) -> Effect {
        self.revision += 1;
        let (revision, mut changes) = (self.revision, Vec::new());
        let mut used = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let key = self.key();
            if used.contains(&key) {
                continue;
            }
            used.push(key.clone());
            let deletes = self.newest(&key).is_some() && self.random.below(3) == 0;
            if deletes {
                self.install(Record::tombstone(&key, revision), &mut changes);
            }
            if !deletes || self.random.below(3) == 0 {
                let before = self.newest(&key);
                let (create, version) = before.map_or((revision, 1), |before| {
                    (before.create_revision(), before.version() + 1)
                });
                let value = vec![7; self.random.below(30)];
                let lease = [0, 0, 1, 2, 3][self.random.below(5)];
                let put = Record::new(&key, &value, create, revision, version, lease);
                self.install(put, &mut changes);
            }
        }
        Effect { revision, changes }
    }

    fn control(&mut self) -> Control {
        let id = LEASES[self.random.below(LEASES.len())];
        match self.random.below(4) {
            0 => Control::LeaseGrant { id, ttl: 9 },
            1 => Control::LeaseRevoke { id },
            2 => Control::Document { name: Bytes::new(), content: Bytes::new() },
            _ => {
                let revision = 1 + self.random.below(self.revision as usize) as i64;
                self.compacted = self.compacted.max(revision);
                Control::Compact { revision }
            }
        }
    }

    fn batch(&mut self) {
        let revision_before = self.revision;
        let mut items = Vec::new();
        for _ in 0..1 + self.random.below(5) {
            if self.random.below(8) == 0 {
                let control = self.control();
                self.shards.iter_mut().for_each(|shard| shard.apply_control(&control));
                items.push(Item::Control(control));
            } else {
                items.push(Item::Effect(self.effect()));
            }
        }
        let (index, revision_after) = (self.batches.len() as u64 + 1, self.revision);
        self.batches.push(Batch { index, term: 1, revision_before, revision_after, items });
        for shard in &mut self.shards {
            shard.settle(revision_after);
            shard.evict(revision_after, usize::MAX);
        }
    }

    /// What the log has.
    fn look_up(&self, lookup: &Lookup) -> Option<Record> {
        let of_key = self.records.iter().rev().filter(|record| record.key() == &lookup.key[..]);
        let found = of_key.clone().find(|record| record.mod_revision() <= lookup.revision);
        found.filter(|record| !record.is_tombstone()).cloned()
    }
}

fn raw(batch: &Batch) -> RawBatch {
    let payload: Vec<u8> = encode(batch).payload;
    let header = FrameHeader {
        kind: FrameKind::Entry,
        payload_length: payload.len() as u32,
        previous_crc: 0,
        segment: 1,
        position: 1,
        durable_position: 0,
        term: batch.term,
        index: batch.index,
        revision_before: batch.revision_before,
        revision_after: batch.revision_after,
    };
    RawBatch::read(header, payload).unwrap()
}

fn entries(shard: &Shard) -> Vec<Settled> {
    shard.mvcc().settled_chunk(None, Revision::MAX, usize::MAX).entries
}

/// A shard as a snapshot holds it.
fn load(entries: Vec<Settled>, known: &[LeaseId], compacted: Revision, end: Revision) -> Shard {
    let mut shard = Shard::default();
    for Settled { record, previous } in entries {
        shard.restore(record, previous);
    }
    for &id in known {
        shard.apply_control(&Control::LeaseGrant { id, ttl: 9 });
    }
    if compacted > 0 {
        shard.apply_control(&Control::Compact { revision: compacted });
    }
    shard.settle(end);
    shard
}

fn compare(history: &History, got: &Shard, expected: &Shard, context: &str) {
    assert_eq!(got.mvcc().usage(), expected.mvcc().usage(), "{context}");
    assert_eq!(got.mvcc().floor(), expected.mvcc().floor(), "{context}");
    assert_eq!(got.mvcc().compacted_revision(), expected.mvcc().compacted_revision());
    assert_eq!(entries(got), entries(expected), "{context}");
    let all = KeyRange::From(Bytes::new());
    let part = KeyRange::prefix(b"/registry/pods/03/");
    for revision in history.compacted.max(1)..=history.revision {
        for range in [&all, &part] {
            let read = |shard: &Shard| {
                range_at(shard.mvcc(), range, revision, |lookup| history.look_up(lookup))
            };
            let records = read(got);
            assert_eq!(records, read(expected), "{context}, at {revision}");
            let mut counted = got.mvcc().count_chunk(range, revision, None, usize::MAX);
            let unknown = counted.unresolved.iter().map(|key| history.look_up(key));
            let found: Vec<_> = unknown.collect();
            counted.resolve(&found);
            assert_eq!(counted.count, records.len(), "{context}, at {revision}");
        }
    }
    for lease in LEASES {
        let (got, expected) = (got.attachments(), expected.attachments());
        assert_eq!(got.is_known(lease), expected.is_known(lease), "{context}");
        let keys = |of: &Attachments| -> Vec<Vec<u8>> {
            of.keys_after(lease, None, usize::MAX).map(<[u8]>::to_vec).collect()
        };
        assert_eq!(keys(got), keys(expected), "{context}");
    }
}

/// Restores from a snapshot that began after `begun` batches and was complete after `ended`.
fn restore(history: &History, snapshot: Vec<Shard>, begun: usize) -> Vec<Shard> {
    let count = snapshot.len();
    let follow = |(number, shard)| {
        let mut restoring = Restoring::new(shard);
        for batch in &history.batches[begun..] {
            let mine = |hash| placement::shard_of(hash, count) == number;
            restoring.follow(&raw(batch), mine);
        }
        restoring.finish()
    };
    snapshot.into_iter().enumerate().map(follow).collect()
}

#[test]
fn what_is_restored_is_what_was_evaluated() {
    let mut tombstones = 0;
    for seed in 0..150 {
        let mut history = History::new(seed);
        let length = history.random.below(120);
        let begins = history.random.below(length + 1);
        let ends = begins + history.random.below(length - begins + 1).min(20);
        let (mut known, mut compacted) = (Vec::new(), 0);
        let mut snapshot = (0..history.shards.len()).map(|_| Shard::default()).collect();
        for number in 0..=length {
            if number == begins {
                let exists = |lease: &LeaseId| history.shards[0].attachments().is_known(*lease);
                known = LEASES.into_iter().filter(exists).collect();
                compacted = history.compacted;
            }
            if number == ends && begins > 0 {
                // It is fuzzy: keys are as they were at its end, all else as at its beginning.
                let load = |shard| load(entries(shard), &known, compacted, history.revision);
                snapshot = history.shards.iter().map(load).collect();
            }
            if number < length {
                history.batch();
            }
        }
        let begins = if begins > 0 { begins } else { 0 };
        let mut restored = restore(&history, snapshot, begins);
        let context = format!("seed {seed}, {length} batches, snapshot {begins} to {ends}");
        for (got, expected) in restored.iter().zip(&history.shards) {
            if begins < length {
                compare(&history, got, expected, &context);
            }
        }
        // Life goes on alike, with keys in between and rollbacks, and compactions find everything.
        let context = format!("{context}, later");
        let committed = history.revision;
        for _ in 0..20 {
            let effect = history.effect();
            for change in effect.changes {
                let owner = history.owner(change.record.key());
                restored[owner].install(change.record);
            }
        }
        if seed % 2 == 0 {
            history.revision = committed;
            history.records.retain(|record| record.mod_revision() <= committed);
        }
        history.compacted = history.compacted.max(committed - 2);
        let (settled, compacted) = (history.revision, history.compacted);
        for shard in restored.iter_mut().chain(&mut history.shards) {
            shard.rollback(settled.max(committed));
            shard.settle(settled);
            shard.evict(settled, usize::MAX);
            tombstones += shard.mvcc().usage().versions - shard.mvcc().usage().live_keys;
            shard.apply_control(&Control::Compact { revision: compacted });
            while !shard.compact_slice(5) {}
        }
        for (got, expected) in restored.iter().zip(&history.shards) {
            compare(&history, got, expected, &context);
        }
    }
    assert!(tombstones > 1000, "only {tombstones} tombstones");
}
