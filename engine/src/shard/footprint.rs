//! What a request or a freeze touches.

use crate::lease::Attachments;
use crate::mvcc::Mvcc;
use crate::record::{LeaseId, Record};
use crate::request::{KeyRange, Operation, Transaction};

/// Everything that a transaction may read in its newest state, or change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    pub ranges: Vec<KeyRange>,
    /// Leases that keys may be attached to.
    pub leases: Vec<LeaseId>,
    /// Leases that are touched with all the keys attached to them; ascending.
    pub whole_leases: Vec<LeaseId>,
}

impl Footprint {
    /// Both branches of a transaction, and of those nested in it, count.
    pub fn of(transaction: &Transaction) -> Footprint {
        let mut footprint = Footprint::default();
        footprint.add(transaction);
        footprint
    }

    fn add(&mut self, transaction: &Transaction) {
        self.ranges.extend(transaction.compares.iter().map(|compare| compare.range.clone()));
        for operation in transaction.success.iter().chain(&transaction.failure) {
            match operation {
                Operation::Past(_) => {}
                Operation::Range(range) => self.ranges.push(range.range.clone()),
                Operation::Put(put) => {
                    self.ranges.push(KeyRange::Single(put.key.clone()));
                    self.leases.extend((put.lease != 0).then_some(put.lease));
                }
                Operation::DeleteRange(delete) => self.ranges.push(delete.range.clone()),
                Operation::Transaction(nested) => self.add(nested),
            }
        }
    }

    /// Whether the two may not go on side by side.
    pub(super) fn conflicts(&self, other: &Footprint, held: &Held<'_>) -> bool {
        self.ranges.iter().any(|range| other.ranges.iter().any(|theirs| range.overlaps(theirs)))
            || self.holds_lease_of(other, held)
            || other.holds_lease_of(self, held)
    }

    fn holds_lease_of(&self, other: &Footprint, held: &Held<'_>) -> bool {
        if self.whole_leases.is_empty() {
            return false;
        }
        let is_held = |lease: &LeaseId| self.whole_leases.binary_search(lease).is_ok();
        other.leases.iter().any(is_held)
            || other.whole_leases.iter().any(is_held)
            || other.ranges.iter().any(|range| match range {
                KeyRange::Single(key) => is_held(&held.lease_of(key)),
                _ => self.whole_leases.iter().any(|&lease| held.attachments.any_in(lease, range)),
            })
    }
}

/// Which keys hang on which leases.
pub(super) struct Held<'a> {
    pub(super) mvcc: &'a Mvcc,
    pub(super) attachments: &'a Attachments,
}

impl Held<'_> {
    /// The lease of a key's newest version; 0 for none.
    fn lease_of(&self, key: &[u8]) -> LeaseId {
        self.mvcc.newest_or_tombstone(key).map_or(0, Record::lease)
    }
}
