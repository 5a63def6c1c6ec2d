//! From a key to its entry, by the hash that also places it.

use hashbrown::HashTable;

use super::entries::{Entries, Handle};
use crate::placement;

/// Tables that share the keys. A table grows alone, so the longest pause is the re-hash of one
/// table's keys (4,000 of a million) and not of all.
const TABLES: usize = 256;

#[derive(Debug)]
pub(super) struct HashIndex(Vec<HashTable<Handle>>);

impl Default for HashIndex {
    fn default() -> Self {
        HashIndex((0..TABLES).map(|_| HashTable::new()).collect())
    }
}

impl HashIndex {
    pub(super) fn find(&self, entries: &Entries, key: &[u8]) -> Option<Handle> {
        let hash = placement::hash(key);
        self.0[table_of(hash)].find(hash, |&handle| entries.key(handle) == key).copied()
    }

    pub(super) fn insert(&mut self, entries: &Entries, handle: Handle) {
        let hash = placement::hash(entries.key(handle));
        self.0[table_of(hash)]
            .insert_unique(hash, handle, |&other| placement::hash(entries.key(other)));
    }

    pub(super) fn remove(&mut self, entries: &Entries, handle: Handle) {
        let hash = placement::hash(entries.key(handle));
        let entry = self.0[table_of(hash)].find_entry(hash, |&other| other == handle);
        entry.expect("every entry is in the hash index").remove();
    }
}

/// Bits from the middle: the highest choose the shard and hashbrown's tag, the lowest its bucket.
fn table_of(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}
