//! From a key's hash to the number under which a [`Slab`](crate::slab::Slab) holds what it names.

use hashbrown::HashTable;

/// Tables that share the numbers. Each grows alone, so the longest pause is the re-hash of one
/// table's share (4,000 of a million) and not of all.
const TABLES: usize = 256;

/// Numbers by hash: of keys as [`placement::hash`](crate::placement::hash) gives it.
#[derive(Debug)]
pub(crate) struct HashIndex(Vec<HashTable<u32>>);

impl Default for HashIndex {
    fn default() -> Self {
        HashIndex((0..TABLES).map(|_| HashTable::new()).collect())
    }
}

impl HashIndex {
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (table, hash) = parts(hash);
        self.0[table].find(hash, |&number| is_it(number)).copied()
    }

    /// Adds a number that is not there; `hash_of` gives the hash of those that are.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let (table, hash) = parts(hash);
        self.0[table].insert_unique(hash, number, |&other| parts(hash_of(other)).1);
    }

    /// Makes room for about so many numbers; `hash_of` gives the hash of those that are there.
    pub(crate) fn reserve(&mut self, numbers: usize, hash_of: impl Fn(u32) -> u64) {
        // Shares differ a little: what a table lacks it gets when it is full.
        for table in &mut self.0 {
            table.reserve(numbers / TABLES, |&other| parts(hash_of(other)).1);
        }
    }

    /// Removes a number that is there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let (table, hash) = parts(hash);
        let entry = self.0[table].find_entry(hash, |&other| other == number);
        entry.expect("everything is in its index").remove();
    }
}

/// The table, and the hash to use in it. The highest bits have placed the key on this shard, so
/// that all its keys have them in common, and hashbrown's tags are made of the highest bits: turn
/// the halves round. The lowest eight choose the table.
fn parts(hash: u64) -> (usize, u64) {
    (hash as usize % TABLES, hash.rotate_left(32))
}
