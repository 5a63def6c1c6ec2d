//! What a transaction has written so far, laid over the state it started from.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use crate::effect::Change;
use crate::record::Record;
use crate::request::KeyRange;

#[derive(Debug, Default)]
pub(super) struct Written {
    changes: Vec<Change>,
    /// The newest record of each key in the first `indexed` changes. Built when it is first asked
    /// for: a transaction of one change never does.
    newest: BTreeSet<ByKey>,
    indexed: usize,
}

impl Written {
    pub(super) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// The newest record (or tombstone) that was written for `key`.
    pub(super) fn newest(&mut self, key: &[u8]) -> Option<&Record> {
        Some(&self.index().get(key)?.0)
    }

    /// Gives what lives in `range`, of which `base` lived before the transaction; both by key.
    pub(super) fn apply_to(&mut self, range: &KeyRange, base: Vec<Record>) -> Vec<Record> {
        if self.changes.is_empty() {
            return base;
        }
        let start = (Bound::Included(&range.start()[..]), Bound::Unbounded);
        let written = self.index().range::<[u8], _>(start).map(|by_key| &by_key.0);
        let mut written = written.take_while(|record| range.contains(record.key())).peekable();
        let mut merged = Vec::with_capacity(base.len());
        for record in base {
            while let Some(before) = written.next_if(|written| written.key() < record.key()) {
                merged.push(before.clone());
            }
            let replaced = written.next_if(|written| written.key() == record.key());
            merged.push(replaced.cloned().unwrap_or(record));
        }
        merged.extend(written.cloned());
        merged.retain(|record| !record.is_tombstone());
        merged
    }

    fn index(&mut self) -> &BTreeSet<ByKey> {
        for change in &self.changes[self.indexed..] {
            self.newest.replace(ByKey(change.record.clone()));
        }
        self.indexed = self.changes.len();
        &self.newest
    }
}

/// A record that is ordered by its key alone.
#[derive(Debug)]
struct ByKey(Record);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByKey {}
