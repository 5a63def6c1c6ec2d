//! When leases run out: a heap with one valid entry per lease, corrected when it is popped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::record::LeaseId;

/// Renewing a lease, the usual thing, does not touch the heap: an entry that comes up too early
/// is put back at the time that then holds.
#[derive(Debug, Default)]
pub(super) struct Expiry(BinaryHeap<Reverse<(u64, LeaseId)>>);

impl Expiry {
    pub(super) fn push(&mut self, at_ms: u64, lease: LeaseId) {
        self.0.push(Reverse((at_ms, lease)));
    }

    /// The first entry that is due.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(u64, LeaseId)> {
        let Reverse((at_ms, _)) = self.0.peek()?;
        if *at_ms > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }

    /// When the next entry is due; nothing runs out before.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at_ms, _))| *at_ms)
    }
}
