//! Watchers of the same range are a group; the index finds the groups that a key concerns.

use bytes::Bytes;

use super::intervals::Intervals;
use crate::hash_index::HashIndex;
use crate::placement;
use crate::request::KeyRange;
use crate::slab::Slab;

#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Slab<Group>,
    /// All groups by their range; single keys by the key's own hash.
    by_range: HashIndex,
    intervals: Intervals,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) range: KeyRange,
    /// The first watcher; each knows the next.
    pub(super) first: Option<u32>,
    /// Where the batch that is being published has noted that it concerns this group.
    pub(super) noted: Option<u32>,
}

impl Groups {
    /// The group of a range, made if there is none.
    pub(super) fn of(&mut self, range: &KeyRange) -> u32 {
        let hash = hash_of(range);
        if let Some(group) = self.by_range.find(hash, |group| self.get(group).range == *range) {
            return group;
        }
        let group = self.groups.insert(Group { range: own(range), first: None, noted: None });
        self.by_range.insert(hash, group, |other| hash_of(&self.groups.get(other).range));
        if !matches!(range, KeyRange::Single(_)) {
            self.intervals.insert(&self.groups.get(group).range, group);
        }
        group
    }

    /// Forgets a group that has no watchers left.
    pub(super) fn remove(&mut self, group: u32) {
        let removed = self.groups.remove(group);
        assert!(removed.first.is_none());
        self.by_range.remove(hash_of(&removed.range), group);
        if !matches!(removed.range, KeyRange::Single(_)) {
            self.intervals.remove(&removed.range, group);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.groups.iter()
    }

    pub(super) fn get(&self, group: u32) -> &Group {
        self.groups.get(group)
    }

    pub(super) fn get_mut(&mut self, group: u32) -> &mut Group {
        self.groups.get_mut(group)
    }

    /// Calls `found` with the groups whose range holds `key`.
    pub(super) fn find(&self, key: &[u8], mut found: impl FnMut(u32)) {
        let is_it = |group| match &self.get(group).range {
            KeyRange::Single(single) => single == key,
            _ => false,
        };
        if let Some(group) = self.by_range.find(placement::hash(key), is_it) {
            found(group);
        }
        self.intervals.find(key, &mut found);
    }
}

/// A range of memory of its own: a watcher may live for months, and must not keep the network
/// buffer that its request came in.
fn own(range: &KeyRange) -> KeyRange {
    let copy = |key: &Bytes| Bytes::copy_from_slice(key);
    match range {
        KeyRange::Single(key) => KeyRange::Single(copy(key)),
        KeyRange::From(start) => KeyRange::From(copy(start)),
        KeyRange::Interval { start, end } => {
            KeyRange::Interval { start: copy(start), end: copy(end) }
        }
    }
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
