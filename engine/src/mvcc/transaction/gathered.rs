//! A state put together from several shards, for transactions over them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use bytes::Bytes;

use super::View;
use crate::record::{LeaseId, Record, Revision};
use crate::request::KeyRange;

/// All that a transaction may look at; see `shard::Footprint` for what that is. To look at more
/// is a mistake of who gathered it, and panics.
#[derive(Debug, Default)]
pub struct Gathered {
    ranges: Vec<KeyRange>,
    newest: BTreeMap<Bytes, Record>,
    leases: HashSet<LeaseId>,
    compacted: Revision,
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

    /// Adds a shard's newest versions in the ranges, tombstones included, in any order.
    pub fn add_newest(&mut self, records: impl IntoIterator<Item = Record>) {
        self.newest.extend(records.into_iter().map(keyed));
    }
}

fn keyed(record: Record) -> (Bytes, Record) {
    (Bytes::copy_from_slice(record.key()), record)
}

impl View for Gathered {
    fn newest(&self, key: &[u8]) -> Option<Record> {
        assert!(self.ranges.iter().any(|range| range.contains(key)), "the key was gathered");
        self.newest.get(key).cloned()
    }

    fn newest_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record)) {
        assert!(self.ranges.contains(range), "the range was gathered");
        let from = (Bound::Included(&range.start()[..]), Bound::Unbounded);
        let inside = self.newest.range::<[u8], _>(from).map(|(_, record)| record);
        inside.take_while(|record| range.contains(record.key())).for_each(visit);
    }

    fn lease_exists(&self, lease: LeaseId) -> bool {
        self.leases.contains(&lease)
    }

    fn compacted_revision(&self) -> Revision {
        self.compacted
    }
}
