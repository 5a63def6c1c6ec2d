//! What the store holds at every revision, as the log's order says: the naive truth that every
//! answer is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use mainstay_engine::effect::{Batch, Control, Item};
use mainstay_engine::request::KeyRange;
use mainstay_engine::{LeaseId, Record, Revision};

/// An item of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Logged {
    Effect(Revision, Vec<Record>),
    Control(Control),
}

/// What a batch says, whether it comes from the log or was not there yet.
pub(super) fn logged(batch: &Batch) -> Vec<Logged> {
    let item = |item: &Item| match item {
        Item::Effect(effect) => {
            let records = effect.changes.iter().map(|change| change.record.clone());
            Logged::Effect(effect.revision, records.collect())
        }
        Item::Deletion(deletion) => {
            let ended = deletion.deleted.records().iter();
            let tombstones =
                ended.map(|record| Record::tombstone(record.key(), deletion.revision)).collect();
            Logged::Effect(deletion.revision, tombstones)
        }
        Item::Control(control) => Logged::Control(control.clone()),
    };
    batch.items.iter().map(item).collect()
}

#[derive(Default)]
pub(super) struct Model {
    /// All versions of every key, tombstones included, oldest first.
    versions: BTreeMap<Vec<u8>, Vec<Record>>,
    effects: BTreeMap<Revision, Vec<Record>>,
    batches: BTreeMap<u64, Vec<Logged>>,
    pub(super) index: u64,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    /// Seconds granted.
    pub(super) leases: BTreeMap<LeaseId, i64>,
    pub(super) leases_ever: BTreeSet<LeaseId>,
    /// Revisions that ended a lease's keys.
    pub(super) ended: BTreeSet<Revision>,
    pub(super) deletions: usize,
    /// Keys that deletions of very many keys ended.
    pub(super) deleted_keys: usize,
}

impl Model {
    pub(super) fn new() -> Model {
        Model { revision: 1, ..Model::default() }
    }

    /// What the store says is committed. Gives the leases that ended.
    pub(super) fn commit(&mut self, batch: &Batch) -> Vec<LeaseId> {
        for item in &batch.items {
            match item {
                Item::Deletion(deletion) => {
                    self.deletions += 1;
                    self.deleted_keys += deletion.deleted.records().len();
                    for record in deletion.deleted.records() {
                        let newest = self.newest(record.key());
                        assert_eq!(newest, Some(record), "what was deleted is not what lived");
                    }
                }
                Item::Effect(effect) => {
                    for change in &effect.changes {
                        let newest = self.newest(change.record.key());
                        let repeated = |other: &&mainstay_engine::effect::Change| {
                            other.record.key() == change.record.key()
                        };
                        if effect.changes.iter().filter(repeated).count() == 1 {
                            assert_eq!(change.previous.as_ref(), newest, "the version before");
                        }
                    }
                }
                Item::Control(_) => continue,
            }
            // Later effects of the batch build on this one.
            self.follow(&logged_item(batch, item));
        }
        self.note(batch, false)
    }

    /// What the log held at a start.
    pub(super) fn recover(&mut self, batch: &Batch) -> Vec<LeaseId> {
        self.note(batch, true)
    }

    fn note(&mut self, batch: &Batch, effects: bool) -> Vec<LeaseId> {
        assert_eq!(batch.index, self.index + 1, "batches come in order");
        let logged = logged(batch);
        let mut gone = Vec::new();
        let mut last_effect = None;
        for item in &logged {
            match item {
                Logged::Effect(revision, _) => {
                    last_effect = Some(*revision);
                    if effects {
                        self.follow(item);
                    }
                }
                Logged::Control(control) => {
                    self.control(control, last_effect, &mut gone);
                }
            }
        }
        assert_eq!(batch.revision_after, self.revision, "the batch reaches what it says");
        self.index = batch.index;
        self.batches.insert(batch.index, logged);
        gone
    }

    fn control(&mut self, control: &Control, last: Option<Revision>, gone: &mut Vec<LeaseId>) {
        match control {
            Control::LeaseGrant { id, ttl } => {
                let before = self.leases.insert(*id, *ttl);
                assert_eq!(before, None, "lease {id} is granted twice");
                self.leases_ever.insert(*id);
            }
            Control::LeaseRevoke { id } => {
                let before = self.leases.remove(id);
                assert!(before.is_some(), "lease {id} is revoked and does not exist");
                gone.push(*id);
                self.ended.extend(last);
                let orphan = self.versions.values().filter_map(|versions| versions.last());
                let orphan = orphan.into_iter().find(|record| record.lease() == *id);
                assert_eq!(orphan, None, "a key outlives its lease");
            }
            Control::Compact { revision } => {
                assert!(*revision <= self.revision, "compacted to the future");
                self.compacted = self.compacted.max(*revision);
            }
            Control::LeaseCheckpoint { .. } | Control::Document { .. } => {}
        }
    }

    fn follow(&mut self, item: &Logged) {
        let Logged::Effect(revision, records) = item else { return };
        assert_eq!(*revision, self.revision + 1, "a revision is left out, or used again");
        assert!(!records.is_empty(), "revision {revision} changes nothing");
        for record in records {
            assert_eq!(record.mod_revision(), *revision);
            let before = self.newest(record.key());
            match (record.is_tombstone(), before) {
                (true, before) => assert!(before.is_some(), "{record:?} ends what is not there"),
                (false, None) => {
                    assert_eq!((record.create_revision(), record.version()), (*revision, 1));
                }
                (false, Some(before)) => {
                    let expected = (before.create_revision(), before.version() + 1);
                    assert_eq!((record.create_revision(), record.version()), expected);
                }
            }
            let known = record.lease() == 0 || self.leases_ever.contains(&record.lease());
            assert!(known, "{record:?} has a lease that never was");
            self.versions.entry(record.key().to_vec()).or_default().push(record.clone());
        }
        self.revision = *revision;
        self.effects.insert(*revision, records.clone());
    }

    fn newest(&self, key: &[u8]) -> Option<&Record> {
        self.at(key, Revision::MAX)
    }

    /// What a key was worth.
    pub(super) fn at(&self, key: &[u8], revision: Revision) -> Option<&Record> {
        let versions = self.versions.get(key)?;
        let after = versions.partition_point(|record| record.mod_revision() <= revision);
        let record = &versions[after.checked_sub(1)?];
        (!record.is_tombstone()).then_some(record)
    }

    /// The live records of a range, by key.
    pub(super) fn range(&self, range: &KeyRange, revision: Revision) -> Vec<Record> {
        let inside = self.versions.keys().filter(|key| range.contains(key));
        inside.filter_map(|key| self.at(key, revision)).cloned().collect()
    }

    /// What changed at a revision.
    pub(super) fn effect(&self, revision: Revision) -> Option<&[Record]> {
        self.effects.get(&revision).map(Vec::as_slice)
    }

    pub(super) fn effects(
        &self,
        revisions: RangeInclusive<Revision>,
    ) -> impl Iterator<Item = &Record> {
        let revisions = if revisions.is_empty() { 0..=0 } else { revisions };
        self.effects.range(revisions).flat_map(|(_, records)| records)
    }

    pub(super) fn batch(&self, index: u64) -> Option<&[Logged]> {
        self.batches.get(&index).map(Vec::as_slice)
    }

    pub(super) fn keys(&self) -> usize {
        self.versions.len()
    }
}

fn logged_item(batch: &Batch, item: &Item) -> Logged {
    let one = Batch { items: vec![item.clone()], ..batch.clone() };
    logged(&one).pop().expect("one item")
}
