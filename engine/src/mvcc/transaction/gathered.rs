//! A state put together from several shards, for transactions over them.

use std::collections::HashSet;

use super::View;
use crate::record::{LeaseId, Record, Revision};
use crate::request::KeyRange;

/// All that a transaction may look at; see `shard::Footprint` for what that is. To look at more
/// is a mistake of who gathered it, and panics.
#[derive(Debug, Default)]
pub struct Gathered {
    ranges: Vec<KeyRange>,
    /// By key, once it is ready.
    newest: Vec<Record>,
    leases: HashSet<LeaseId>,
    compacted: Revision,
    ready: bool,
}

impl Gathered {
    /// Ranges that are frozen, leases that exist, and the compacted revision.
    pub fn new(
        ranges: Vec<KeyRange>,
        leases: impl IntoIterator<Item = LeaseId>,
        compacted: Revision,
    ) -> Gathered {
        Gathered { ranges, leases: leases.into_iter().collect(), compacted, ..Gathered::default() }
    }

    /// Adds a shard's newest versions in the ranges, in any order. A tombstone that is committed
    /// may be left out.
    pub fn add_newest(&mut self, mut records: Vec<Record>) {
        append(&mut self.newest, &mut records);
    }

    /// Puts everything in order, when all is there: it can be looked at then. May take long.
    pub fn ready(mut self) -> Gathered {
        // Each shard's are in order already, which this sort makes use of.
        self.newest.sort_by(|left, right| left.key().cmp(right.key()));
        // Ranges may overlap.
        self.newest.dedup_by(|left, right| left.key() == right.key());
        self.ready = true;
        self
    }
}

/// Moves all records over; the first ones without touching any.
fn append(all: &mut Vec<Record>, more: &mut Vec<Record>) {
    if all.is_empty() {
        std::mem::swap(all, more);
    } else {
        all.append(more);
    }
}

impl View for Gathered {
    fn newest(&self, key: &[u8]) -> Option<Record> {
        assert!(self.ready && self.ranges.iter().any(|range| range.contains(key)), "gathered");
        let found = self.newest.binary_search_by(|record| record.key().cmp(key));
        found.ok().map(|place| self.newest[place].clone())
    }

    fn newest_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record)) {
        assert!(self.ready && self.ranges.contains(range), "the range was gathered");
        let first = self.newest.partition_point(|record| record.key() < &range.start()[..]);
        let inside = self.newest[first..].iter();
        inside.take_while(|record| range.contains(record.key())).for_each(visit);
    }

    fn lease_exists(&self, lease: LeaseId) -> bool {
        self.leases.contains(&lease)
    }

    fn compacted_revision(&self) -> Revision {
        self.compacted
    }
}
