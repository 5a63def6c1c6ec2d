//! Forgetting history, a slice at a time.

use super::index::Mvcc;
use super::version::{Handle, Left};
use crate::error::StoreError;
use crate::record::{Record, Revision};

impl Mvcc {
    /// The revision that history was compacted to; 0 when it never was. Reads there still work,
    /// reads below do not.
    pub fn compacted_revision(&self) -> Revision {
        self.compacted
    }

    /// Whether history can be compacted to `revision`, when the store is at `current`.
    ///
    /// # Errors
    /// `Compacted`, also when it was compacted to this very revision, and `FutureRevision`.
    pub fn check_compaction(
        &self,
        requested: Revision,
        current: Revision,
    ) -> Result<(), StoreError> {
        if requested <= self.compacted {
            return Err(StoreError::Compacted { requested, compacted: self.compacted });
        }
        self.check_revision(requested, current)
    }

    /// Decides that history before `revision` may be forgotten; lower revisions than before change
    /// nothing. [`compact_slice`](Mvcc::compact_slice) does the work.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
    }

    /// Looks at up to `max_keys` keys that have versions to forget. Gives whether nothing is left
    /// to do. All the slices together cost as much as there is garbage, not as there are keys.
    pub fn compact_slice(&mut self, max_keys: usize) -> bool {
        for _ in 0..max_keys {
            match self.superseded.pop_upto(self.compacted) {
                Some(handle) => self.compact_key(handle),
                None => return true,
            }
        }
        !self.superseded.has_upto(self.compacted)
    }

    fn compact_key(&mut self, handle: Handle) {
        if self.entries.find(handle).is_none() {
            return;
        }
        let mut removed: Vec<Record> = Vec::new();
        let compacted = self.compacted;
        let versions = self.entries.get_mut(handle);
        let left = versions.compact(compacted, |record| removed.push(record.clone()));
        removed.iter().for_each(|record| self.count_out(record));
        if left == Left::Nothing {
            self.forget(handle, false);
        }
    }
}
