//! The keys of one shard with their versions, and how changes get in.

use std::collections::{BTreeSet, VecDeque};

use super::journal::Journal;
use super::order::Order;
use super::version::{Entries, Handle, Left, Seen, Superseded, Versions};
use crate::error::StoreError;
use crate::hash_index::HashIndex;
use crate::placement;
use crate::record::{Record, Revision};

/// What a shard holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Keys whose newest version is no tombstone.
    pub live_keys: usize,
    /// Bytes of those keys and their newest values.
    pub live_bytes: usize,
    /// Versions and tombstones in memory.
    pub versions: usize,
    /// Bytes of the keys and values of all versions.
    pub version_bytes: usize,
}

/// Multi-version state: every key's newest version, committed or not, and the versions before it
/// that a read at the [`floor`](Mvcc::floor) or later sees. The log has the others.
#[derive(Debug, Default)]
pub struct Mvcc {
    pub(super) entries: Entries,
    pub(super) order: Order,
    hashes: HashIndex,
    pub(super) usage: Usage,
    pub(super) compacted: Revision,
    /// Reads from here on are answered from memory.
    pub(super) floor: Revision,
    /// Keys in which the change of this revision superseded something, by revision, until the
    /// floor has reached it. An entry may be out of date: looking at a key twice, or at another
    /// one, does no harm.
    pub(super) superseded: Journal,
    /// Keys whose newest version is a tombstone below the floor, by its revision. They stay for
    /// those who read what lived before, until that is compacted.
    pub(super) tombstones: BTreeSet<(Revision, Handle)>,
    /// Keys changed by revisions that could still be rolled back, by revision.
    unsettled: VecDeque<(Revision, Handle)>,
    pub(super) settled: Revision,
}

impl Usage {
    pub(super) fn count_out(&mut self, record: &Record) {
        self.versions -= 1;
        self.version_bytes -= bytes(record);
    }
}

impl Mvcc {
    /// What is held.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The newest version of a key, committed or not, unless it is deleted.
    pub fn newest(&self, key: &[u8]) -> Option<&Record> {
        self.newest_or_tombstone(key).filter(|record| !record.is_tombstone())
    }

    /// The newest version of a key, committed or not; a tombstone while one is remembered.
    pub fn newest_or_tombstone(&self, key: &[u8]) -> Option<&Record> {
        Some(self.find(key)?.newest())
    }

    /// What a key was worth at `revision` (see [`check_revision`](Self::check_revision)).
    pub fn get_at(&self, key: &[u8], revision: Revision) -> Seen<'_> {
        self.find(key).map_or(Seen::Nothing, |versions| versions.at(revision))
    }

    /// Whether history at `revision` can be read, when the store is at `current`.
    ///
    /// # Errors
    /// `Compacted` and `FutureRevision`.
    pub fn check_revision(&self, revision: Revision, current: Revision) -> Result<(), StoreError> {
        check_revision(revision, self.compacted, current)
    }

    fn find(&self, key: &[u8]) -> Option<&Versions> {
        Some(self.entries.get(self.handle_of(key, placement::hash(key))?))
    }

    pub(super) fn handle_of(&self, key: &[u8], hash: u64) -> Option<Handle> {
        self.hashes.find(hash, |handle| self.entries.get(handle).key() == key)
    }

    /// Makes `record` the newest version of its key and gives the one before (or its tombstone).
    /// Revisions of one key must ascend; those of different keys may come a little out of order.
    /// When a snapshot is installed they come in any order: [`settle`](Self::settle) its revision
    /// first, and compactions up to it may be done with the first one that is later.
    pub fn install(&mut self, record: Record) -> Option<Record> {
        let (revision, tombstone) = (record.mod_revision(), record.is_tombstone());
        self.count_in(&record);
        let hash = placement::hash(record.key());
        let Some(handle) = self.handle_of(record.key(), hash) else {
            let handle = self.add_key(hash, record, 0, hash_of);
            self.order.insert(&self.entries, handle, !tombstone, revision);
            self.note_change(revision, handle, tombstone);
            return None;
        };
        let (before, kept) = match self.entries.get_mut(handle).install(record) {
            Superseded::Kept(before) => (before, true),
            Superseded::Replaced(before) => {
                self.usage.count_out(&before);
                (before, false)
            }
        };
        if before.is_tombstone() {
            self.tombstones.remove(&(before.mod_revision(), handle));
        }
        if before.is_tombstone() != tombstone {
            self.order.set_live(before.key(), !tombstone, revision);
        }
        self.count_superseded(&before);
        self.note_change(revision, handle, kept || tombstone);
        Some(before)
    }

    /// Puts a key back as a snapshot holds it: its newest version or tombstone, and the revision of
    /// the version before (0 if there was none). Fastest in key order. The key must be new.
    pub fn restore(&mut self, record: Record, previous: Revision) {
        self.restore_hashed(placement::hash(record.key()), record, previous);
    }

    /// Makes room for so many keys at once, rather than bit by bit.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.hashes.reserve(keys, |handle| hash_of(&self.entries, handle));
    }

    /// [`restore`](Mvcc::restore), for a key whose hash is known.
    pub(crate) fn restore_hashed(&mut self, hash: u64, record: Record, previous: Revision) {
        let (revision, tombstone) = (record.mod_revision(), record.is_tombstone());
        assert!(previous < revision && self.handle_of(record.key(), hash).is_none());
        self.count_in(&record);
        let handle = self.add_key(hash, record, previous, hash_of);
        self.order.append_or_insert(&self.entries, handle, !tombstone, revision);
        if tombstone {
            self.tombstones.insert((revision, handle));
        }
        // What a snapshot holds is committed.
        self.settled = self.settled.max(revision);
    }

    /// The key's place in the indexes by number and by hash; that by order is up to the caller.
    /// `hash_of` gives the hash of other keys.
    pub(super) fn add_key(
        &mut self,
        hash: u64,
        record: Record,
        previous: Revision,
        hash_of: impl Fn(&Entries, Handle) -> u64,
    ) -> Handle {
        let handle = self.entries.insert(Versions::new(record, previous));
        self.hashes.insert(hash, handle, |other| hash_of(&self.entries, other));
        handle
    }

    fn note_change(&mut self, revision: Revision, handle: Handle, leaves_garbage: bool) {
        if leaves_garbage {
            self.superseded.push(revision, handle);
        }
        if revision > self.settled {
            push_by_revision(&mut self.unsettled, revision, handle);
        }
    }

    /// Notes that revisions up to this one are committed: they are never rolled back.
    pub fn settle(&mut self, committed: Revision) {
        self.settled = self.settled.max(committed);
        while self.unsettled.front().is_some_and(|&(revision, _)| revision <= committed) {
            self.unsettled.pop_front();
        }
    }

    /// Whether nothing can be rolled back, and no key has more than its newest version that a later
    /// floor would let go of.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty() && !self.superseded.has_upto(Revision::MAX)
    }

    /// Removes every version newer than `revision`, which must not be less than what is settled.
    /// Gives, for each key that changed, the newest version that was removed and the one that is
    /// the newest now.
    pub fn rollback(&mut self, revision: Revision) -> Vec<(Record, Option<Record>)> {
        assert!(revision >= self.settled, "committed revisions are not rolled back");
        let mut changed = Vec::new();
        while self.unsettled.back().is_some_and(|&(newer, _)| newer > revision) {
            let Some((_, handle)) = self.unsettled.pop_back() else { break };
            // A key that changed twice is done, or even gone, the second time.
            let Some(versions) = self.entries.find(handle) else { continue };
            let before = versions.newest().clone();
            if before.mod_revision() > revision {
                changed.push((before.clone(), self.rollback_key(handle, &before, revision)));
            }
        }
        self.superseded.rollback(revision);
        changed
    }

    fn rollback_key(&mut self, handle: Handle, before: &Record, to: Revision) -> Option<Record> {
        let mut removed = Vec::new();
        let left = self.entries.get_mut(handle).rollback(to, |record| removed.push(record.clone()));
        removed.iter().for_each(|record| self.usage.count_out(record));
        self.count_superseded(before);
        if left == Left::Nothing {
            self.forget(handle, !before.is_tombstone());
            return None;
        }
        let now = self.entries.get(handle).newest().clone();
        self.count_newest(&now);
        if now.is_tombstone() && now.mod_revision() <= self.floor {
            self.tombstones.insert((now.mod_revision(), handle));
        }
        if now.is_tombstone() != before.is_tombstone() {
            // The leaf stays marked as changed lately: counting looks at each key, no more.
            self.order.set_live(now.key(), !now.is_tombstone(), before.mod_revision());
        }
        Some(now)
    }

    /// Takes a key that has no versions left out of the indexes.
    pub(super) fn forget(&mut self, handle: Handle, live: bool) {
        self.hashes.remove(placement::hash(self.entries.get(handle).key()), handle);
        self.order.remove(&self.entries, handle, live);
        self.entries.remove(handle);
    }

    pub(super) fn count_in(&mut self, record: &Record) {
        self.usage.versions += 1;
        self.usage.version_bytes += bytes(record);
        self.count_newest(record);
    }

    fn count_newest(&mut self, record: &Record) {
        if !record.is_tombstone() {
            self.usage.live_keys += 1;
            self.usage.live_bytes += bytes(record);
        }
    }

    pub(super) fn count_superseded(&mut self, record: &Record) {
        if !record.is_tombstone() {
            self.usage.live_keys -= 1;
            self.usage.live_bytes -= bytes(record);
        }
    }
}

/// Whether history at `revision` can be read after a compaction, when the store is at `current`.
///
/// # Errors
/// `Compacted` and `FutureRevision`.
pub fn check_revision(
    revision: Revision,
    compacted: Revision,
    current: Revision,
) -> Result<(), StoreError> {
    if revision > current {
        return Err(StoreError::FutureRevision { requested: revision, current });
    }
    if revision < compacted {
        return Err(StoreError::Compacted { requested: revision, compacted });
    }
    Ok(())
}

/// The hash of a key that is there.
fn hash_of(entries: &Entries, handle: Handle) -> u64 {
    placement::hash(entries.get(handle).key())
}

fn bytes(record: &Record) -> usize {
    record.key().len() + record.value().len()
}

/// Appends, or inserts near the end: revisions come nearly in order.
fn push_by_revision(queue: &mut VecDeque<(Revision, Handle)>, revision: Revision, handle: Handle) {
    let later = queue.iter().rev().take_while(|&&(other, _)| other > revision).count();
    queue.insert(queue.len() - later, (revision, handle));
}
