//! Tests of the whole: random histories against a simple model, etcd's rules one by one.

mod histories;
mod model;
mod rules;

use super::{Mvcc, View};
use crate::record::{LeaseId, Record, Revision};
use crate::request::KeyRange;

/// A whole store of one shard, without leases but for the even ids.
impl View for Mvcc {
    fn newest(&self, key: &[u8]) -> Option<Record> {
        self.newest_or_tombstone(key).cloned()
    }

    fn newest_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record)) {
        Mvcc::newest_in(self, range).for_each(visit);
    }

    fn range_at(&self, range: &KeyRange, revision: Revision, visit: &mut dyn FnMut(&Record)) {
        Mvcc::range_at(self, range, revision).for_each(visit);
    }

    fn lease_exists(&self, lease: LeaseId) -> bool {
        lease % 2 == 0
    }

    fn compacted_revision(&self) -> Revision {
        self.compacted
    }
}

/// Random numbers from a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
