//! What the members agreed on, entry by entry: the first that shows an entry as committed says what it
//! is, and every other one has to say the same.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_engine::effect::{Batch, Control, Item};
use mainstay_engine::request::KeyRange;
use mainstay_engine::{LeaseId, Record, Revision};

use super::super::model::{Logged, Model, logged};
use super::translate;
use crate::linearizability::history::{Revision as Number, Seen};
use crate::watch_history;

/// An entry that is committed.
struct Entry {
    term: u64,
    items: Vec<Logged>,
}

#[derive(Default)]
pub(super) struct Truth {
    pub(super) model: Model,
    entries: BTreeMap<u64, Entry>,
    /// What watchers have to see.
    changes: BTreeMap<Number, Vec<Seen>>,
    /// Clients asked for the end of these leases, first at this time.
    pub(super) revokes: BTreeMap<LeaseId, u64>,
    /// No lease ends earlier by itself, microseconds.
    deadlines: BTreeMap<LeaseId, u64>,
    pub(super) ended: Vec<LeaseEnd>,
    pub(super) expired: usize,
    pub(super) compared: usize,
    pub(super) compactions: usize,
    /// Documents that were ever put.
    pub(super) documents: BTreeSet<Vec<u8>>,
}

/// A lease ended, for one reason or the other: not before this time.
pub(super) struct LeaseEnd {
    pub(super) id: LeaseId,
    pub(super) since_us: u64,
}

impl Truth {
    pub(super) fn new() -> Truth {
        Truth { model: Model::new(), ..Truth::default() }
    }

    pub(super) fn revision(&self) -> Revision {
        self.model.revision
    }

    /// A member shows a batch as committed. `drift_ppm`: by how much clocks run wrong.
    pub(super) fn committed(&mut self, member: u64, batch: &Batch, now_us: u64, drift_ppm: u64) {
        let items = logged(batch);
        if self.entries.contains_key(&batch.index) {
            self.compare(member, batch, &items);
            return self.check_previous(member, batch);
        }
        let newest = self.entries.last_key_value().map_or(0, |(index, _)| *index);
        assert!(batch.index > newest, "member {member} shows entry {} late", batch.index);
        self.model.index = batch.index - 1;
        let ended = self.model.commit(batch);
        self.note(batch, items, ended, now_us, drift_ppm);
    }

    /// A member found in its log that this was committed. Perhaps nobody has shown it yet.
    pub(super) fn recovered(&mut self, member: u64, batch: &Batch, now_us: u64, drift_ppm: u64) {
        let items = logged(batch);
        if self.entries.contains_key(&batch.index) {
            return self.compare(member, batch, &items);
        }
        self.model.index = batch.index - 1;
        let ended = self.model.recover(batch);
        self.note(batch, items, ended, now_us, drift_ppm);
    }

    fn compare(&mut self, member: u64, batch: &Batch, items: &[Logged]) {
        let entry = &self.entries[&batch.index];
        assert_eq!(
            entry.term, batch.term,
            "State Machine Safety: member {member} has entry {} of another term",
            batch.index
        );
        assert!(
            same(items, &entry.items),
            "State Machine Safety: member {member} has another entry {}: {items:?}, and not {:?}",
            batch.index,
            entry.items
        );
        self.compared += 1;
    }

    fn note(
        &mut self,
        batch: &Batch,
        items: Vec<Logged>,
        ended: Vec<LeaseId>,
        now_us: u64,
        drift_ppm: u64,
    ) {
        for item in &items {
            match item {
                Logged::Effect(revision, records) => {
                    let seen = records.iter().map(translate::seen).collect();
                    self.changes.insert(*revision, seen);
                }
                Logged::Control(control) => self.control(control, now_us, drift_ppm),
            }
        }
        self.entries.insert(batch.index, Entry { term: batch.term, items });
        ended.into_iter().for_each(|id| self.lease_ended(id, now_us));
    }

    /// What a member says lived before each change is what lived.
    fn check_previous(&self, member: u64, batch: &Batch) {
        for item in &batch.items {
            let Item::Effect(effect) = item else { continue };
            for change in &effect.changes {
                let key = change.record.key();
                let twice = effect.changes.iter().filter(|other| other.record.key() == key);
                if twice.count() > 1 {
                    continue;
                }
                let lived = self.model.at(key, effect.revision - 1);
                assert_eq!(
                    translate::before(change),
                    lived,
                    "member {member}, before revision {} of {key:?}",
                    effect.revision
                );
            }
        }
    }

    fn control(&mut self, control: &Control, now_us: u64, drift_ppm: u64) {
        match control {
            Control::LeaseGrant { id, ttl } => {
                let deadline = now_us + lasting_us(*ttl, drift_ppm);
                self.deadlines.insert(*id, deadline);
            }
            Control::Compact { .. } => self.compactions += 1,
            Control::Document { name, .. } => {
                self.documents.insert(name.to_vec());
            }
            _ => {}
        }
    }

    /// A client was told that a lease has this time from when it asked.
    pub(super) fn renewed(&mut self, id: LeaseId, asked_us: u64, ttl: i64, drift_ppm: u64) {
        let renewed = asked_us + lasting_us(ttl, drift_ppm);
        if let Some(deadline) = self.deadlines.get_mut(&id) {
            *deadline = renewed.max(*deadline);
        }
    }

    fn lease_ended(&mut self, id: LeaseId, now_us: u64) {
        let deadline = self.deadlines.remove(&id).unwrap_or_default();
        let since_us = match self.revokes.get(&id) {
            Some(&asked_us) => asked_us,
            None => {
                assert!(
                    now_us >= deadline,
                    "lease {id:x} ends at {now_us} us, and it was to last until {deadline} us"
                );
                self.expired += 1;
                deadline
            }
        };
        self.ended.push(LeaseEnd { id, since_us });
    }

    /// Whether a member's records are what lives at its revision.
    pub(super) fn check_state(&self, member: u64, mut records: Vec<Record>, revision: Revision) {
        records.retain(|record| !record.is_tombstone());
        records.sort_by(|left, right| left.key().cmp(right.key()));
        let expected = self.model.range(&KeyRange::prefix(b""), revision);
        if records != expected {
            let wrong = records.iter().find(|record| !expected.contains(record));
            let missing = expected.iter().find(|record| !records.contains(record));
            panic!("member {member} at {revision}: has {wrong:?}, and lacks {missing:?}");
        }
    }

    /// For the check of watches.
    pub(super) fn of_watches(&self) -> watch_history::Truth {
        let changes = self.changes.clone();
        watch_history::Truth { changes, start: Vec::new(), compacted: self.model.compacted }
    }

    /// For the check of operations.
    pub(super) fn seen(&self) -> Vec<(Number, Seen)> {
        let changes = self.changes.iter();
        changes.flat_map(|(at, all)| all.iter().map(|seen| (*at, seen.clone()))).collect()
    }

    pub(super) fn newest_index(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }
}

/// How long a lease lasts at least, however wrong a leader's clock runs.
fn lasting_us(ttl: i64, drift_ppm: u64) -> u64 {
    let ttl_us = u64::try_from(ttl).unwrap_or(0) * 1_000_000;
    // Clocks count whole milliseconds.
    (ttl_us * 1_000_000 / (1_000_000 + drift_ppm)).saturating_sub(2_000)
}

/// Deletions come back as the effects that they stand for, by key.
fn same(found: &[Logged], expected: &[Logged]) -> bool {
    let sorted = |records: &[Record]| {
        let mut records = records.to_vec();
        records.sort_by(|left, right| left.key().cmp(right.key()));
        records
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|pair| match pair {
            (Logged::Effect(left, found), Logged::Effect(right, expected)) => {
                left == right && (found == expected || sorted(found) == sorted(expected))
            }
            (Logged::Control(left), Logged::Control(right)) => left == right,
            _ => false,
        })
}
