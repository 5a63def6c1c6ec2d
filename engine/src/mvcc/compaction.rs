//! Letting go of what memory need not hold: old versions, which the log still has, and what was
//! compacted, which nobody may ask for. A slice at a time.

use super::index::Mvcc;
use super::version::Handle;
use crate::error::StoreError;
use crate::record::Revision;

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

    /// The revision from which on every read is answered from memory.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// Decides that versions which no read at `floor` or later sees may leave memory: they are in
    /// the log. What is not settled stays, and lower floors than before change nothing.
    /// [`evict_slice`](Mvcc::evict_slice) does the work.
    pub fn evict(&mut self, floor: Revision) {
        self.floor = self.floor.max(floor.min(self.settled));
    }

    /// Decides that history before `revision` may be forgotten; lower revisions than before change
    /// nothing. [`compact_slice`](Mvcc::compact_slice) does the work.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        self.floor = self.floor.max(revision);
    }

    /// Looks at up to `max_keys` keys with versions below the floor. Gives whether nothing is left
    /// to do. All the slices together cost as much as was changed, not as there are keys.
    pub fn evict_slice(&mut self, max_keys: usize) -> bool {
        for _ in 0..max_keys {
            match self.superseded.pop_upto(self.floor) {
                Some(handle) => self.evict_key(handle),
                None => return true,
            }
        }
        !self.superseded.has_upto(self.floor)
    }

    /// Looks at up to `max_keys` keys that have something to forget. Gives whether nothing is left
    /// to do. All the slices together cost as much as there is garbage, not as there are keys.
    pub fn compact_slice(&mut self, max_keys: usize) -> bool {
        for _ in 0..max_keys {
            if let Some(handle) = self.superseded.pop_upto(self.floor) {
                self.evict_key(handle);
            } else if let Some(handle) = self.first_compacted_tombstone() {
                self.forget_tombstone(handle);
            } else {
                return true;
            }
        }
        self.first_compacted_tombstone().is_none() && !self.superseded.has_upto(self.floor)
    }

    fn first_compacted_tombstone(&self) -> Option<Handle> {
        let first = self.tombstones.first().filter(|(revision, _)| *revision <= self.compacted);
        first.map(|&(_, handle)| handle)
    }

    fn forget_tombstone(&mut self, handle: Handle) {
        // A change that came out of order may have left versions.
        self.evict_key(handle);
        let tombstone = self.entries.get(handle).newest();
        assert!(tombstone.is_tombstone(), "a key that lives again is no tombstone");
        self.tombstones.remove(&(tombstone.mod_revision(), handle));
        self.usage.count_out(tombstone);
        self.forget(handle, false);
    }

    fn evict_key(&mut self, handle: Handle) {
        if self.entries.find(handle).is_none() {
            return;
        }
        let usage = &mut self.usage;
        let versions = self.entries.get_mut(handle);
        versions.evict(self.floor, |record| usage.count_out(record));
        let newest = versions.newest();
        if newest.is_tombstone() && newest.mod_revision() <= self.floor {
            self.tombstones.insert((newest.mod_revision(), handle));
        }
    }
}
