//! Tests of the whole: random histories against a simple model, etcd's rules one by one.

mod histories;
mod model;
mod rules;

use super::range::answer;
use super::{Lookup, Mvcc, View, check_revision, fill_in_past, past_ranges};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{KeyRange, RangeRequest, Transaction};

/// A whole store of one shard, without leases but for the even ids.
impl View for Mvcc {
    fn newest(&self, key: &[u8]) -> Option<Record> {
        self.newest_or_tombstone(key).cloned()
    }

    fn newest_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record)) {
        Mvcc::newest_in(self, range).for_each(visit);
    }

    fn lease_exists(&self, lease: LeaseId) -> bool {
        lease % 2 == 0
    }

    fn compacted_revision(&self) -> Revision {
        self.compacted
    }
}

/// Reads a range at a revision in one piece; `look_up` is the log.
pub(crate) fn range_at(
    mvcc: &Mvcc,
    range: &KeyRange,
    revision: Revision,
    look_up: impl Fn(&Lookup) -> Option<Record>,
) -> Vec<Record> {
    let mut chunk = mvcc.range_chunk(range, revision, None, usize::MAX);
    let found = chunk.unresolved.iter().map(|(_, lookup)| look_up(lookup)).collect();
    chunk.resolve(found);
    chunk.records
}

/// A log that is never asked, as nothing is evicted.
pub(crate) fn nothing_evicted(lookup: &Lookup) -> Option<Record> {
    panic!("{lookup:?} is in memory")
}

/// Reads the ranges at older revisions, as a replica does before the transaction is evaluated.
pub(crate) fn with_past(
    transaction: &Transaction,
    committed: Revision,
    compacted: Revision,
    read: impl Fn(&RangeRequest) -> Vec<Record>,
) -> Transaction {
    let outcomes: Vec<_> = past_ranges(transaction)
        .into_iter()
        .map(|request| {
            check_revision(request.revision, compacted, committed)?;
            let records = read(request);
            let count = records.len();
            Ok(answer(request, records, count, 0))
        })
        .collect();
    let mut transaction = transaction.clone();
    fill_in_past(&mut transaction, &mut outcomes.into_iter());
    transaction
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
