//! Watchers of the same range are a group; the index finds the groups that a key concerns.

use hashbrown::HashTable;

use super::intervals::Intervals;
use crate::placement;
use crate::request::KeyRange;

#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Option<Group>>,
    free: Vec<u32>,
    /// All groups by their range; single keys by the key's own hash.
    by_range: HashTable<u32>,
    intervals: Intervals,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) range: KeyRange,
    /// Indexes of watchers; each watcher knows its place here.
    pub(super) watchers: Vec<u32>,
    /// The part of the batch being published that concerns the group.
    pub(super) touched: Option<super::cursor::Touched>,
}

impl Groups {
    /// The group of a range, made if there is none.
    pub(super) fn of(&mut self, range: &KeyRange) -> u32 {
        let hash = hash_of(range);
        let same = |&group: &u32| self.get(group).range == *range;
        if let Some(&group) = self.by_range.find(hash, same) {
            return group;
        }
        let new = Group { range: range.clone(), watchers: Vec::new(), touched: None };
        let group = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a core has fewer than 2^32 watchers")
        });
        self.slots[group as usize] = Some(new);
        let slots = &self.slots;
        self.by_range.insert_unique(hash, group, |&other| hash_of(&existing(slots, other).range));
        if !matches!(range, KeyRange::Single(_)) {
            self.intervals.insert(range, group);
        }
        group
    }

    /// Forgets a group that has no watchers left.
    pub(super) fn remove(&mut self, group: u32) {
        let removed = self.slots[group as usize].take().expect("a group is removed once");
        assert!(removed.watchers.is_empty());
        let entry = self.by_range.find_entry(hash_of(&removed.range), |&other| other == group);
        entry.expect("every group is in the index").remove();
        if !matches!(removed.range, KeyRange::Single(_)) {
            self.intervals.remove(&removed.range, group);
        }
        self.free.push(group);
    }

    pub(super) fn get(&self, group: u32) -> &Group {
        existing(&self.slots, group)
    }

    pub(super) fn get_mut(&mut self, group: u32) -> &mut Group {
        self.slots[group as usize].as_mut().expect("watchers and indexes name groups that exist")
    }

    /// Calls `found` with the groups whose range holds `key`.
    pub(super) fn find(&self, key: &[u8], mut found: impl FnMut(u32)) {
        let same = |&group: &u32| match &self.get(group).range {
            KeyRange::Single(single) => single == key,
            _ => false,
        };
        if let Some(&group) = self.by_range.find(placement::hash(key), same) {
            found(group);
        }
        self.intervals.find(key, &mut found);
    }
}

fn existing(slots: &[Option<Group>], group: u32) -> &Group {
    slots[group as usize].as_ref().expect("watchers and indexes name groups that exist")
}

fn hash_of(range: &KeyRange) -> u64 {
    match range {
        KeyRange::Single(key) => placement::hash(key),
        KeyRange::From(start) => !placement::hash(start),
        KeyRange::Interval { start, end } => {
            placement::hash(start).rotate_left(32) ^ placement::hash(end)
        }
    }
}
