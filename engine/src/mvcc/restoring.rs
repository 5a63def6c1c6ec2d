//! Keys that come back from the log when a member starts. Nobody reads meanwhile, so no version is
//! kept but the newest of each key, and new keys are put in order once, at the end.

use super::index::Mvcc;
use super::sorting;
use super::version::{Entries, Handle};
use crate::placement;
use crate::record::{Record, Revision};

/// New keys are put in their places one by one when there are fewer than one to so many others.
const FEW: usize = 8;

/// Keys that are being restored; not to be read before [`finish`](Restoring::finish).
#[derive(Debug)]
pub struct Restoring {
    mvcc: Mvcc,
    /// From here on keys are in no order yet.
    first_new: Handle,
    /// Their hashes: an index that grows wants to know them again.
    hashes: Vec<u64>,
}

impl Restoring {
    /// Goes on from what a snapshot gave. All of that is committed, and nothing was removed since.
    pub fn new(mvcc: Mvcc) -> Restoring {
        assert!(mvcc.is_settled() && mvcc.entries.is_dense());
        let first_new = mvcc.entries.len() as Handle;
        Restoring { mvcc, first_new, hashes: Vec::new() }
    }

    /// Makes a committed record the only version of its key, whose hash is `hash`, unless that is
    /// at a later revision already: what a snapshot holds may be newer than the log behind it. One
    /// of the same revision replaces what is there: a key that a transaction deleted and put ends
    /// as the last of its records, however often they are installed. Gives what was there before
    /// and what is there now, or nothing if it was passed over.
    pub fn install(&mut self, hash: u64, record: Record) -> Option<(Option<Record>, &Record)> {
        let (revision, tombstone) = (record.mod_revision(), record.is_tombstone());
        let Some(handle) = self.mvcc.handle_of(record.key(), hash) else {
            let handle = self.add(hash, record);
            return Some((None, self.mvcc.entries.get(handle).newest()));
        };
        let mvcc = &mut self.mvcc;
        if mvcc.entries.get(handle).newest().mod_revision() > revision {
            return None;
        }
        mvcc.count_in(&record);
        let before = mvcc.entries.get_mut(handle).replace(record);
        mvcc.count_superseded(&before);
        mvcc.usage.count_out(&before);
        if before.is_tombstone() {
            mvcc.tombstones.remove(&(before.mod_revision(), handle));
        }
        if tombstone {
            mvcc.tombstones.insert((revision, handle));
        }
        if before.is_tombstone() != tombstone && handle < self.first_new {
            mvcc.order.set_live(before.key(), !tombstone, revision);
        }
        Some((Some(before), mvcc.entries.get(handle).newest()))
    }

    fn add(&mut self, hash: u64, record: Record) -> Handle {
        let Restoring { mvcc, first_new, hashes } = self;
        mvcc.count_in(&record);
        let (revision, tombstone) = (record.mod_revision(), record.is_tombstone());
        let known = |entries: &Entries, handle: Handle| match handle.checked_sub(*first_new) {
            Some(new) => hashes[new as usize],
            None => placement::hash(entries.get(handle).key()),
        };
        let handle = mvcc.add_key(hash, record, 0, known);
        hashes.push(hash);
        if tombstone {
            mvcc.tombstones.insert((revision, handle));
        }
        handle
    }

    /// Notes that everything up to this revision is committed and was installed.
    pub fn settle(&mut self, committed: Revision) {
        self.mvcc.settle(committed);
        self.mvcc.evict(committed);
    }

    /// See [`Mvcc::compact`].
    pub fn compact(&mut self, revision: Revision) {
        self.mvcc.compact(revision);
    }

    /// Puts the new keys in order.
    pub fn finish(self) -> Mvcc {
        let Restoring { mut mvcc, first_new, .. } = self;
        let end = mvcc.entries.len() as Handle;
        if end == first_new {
            return mvcc;
        }
        let entries = &mvcc.entries;
        let new = sorting::by_key(entries, first_new..end);
        if new.len() < first_new as usize / FEW {
            for handle in new {
                let newest = entries.get(handle).newest();
                mvcc.order.insert(entries, handle, !newest.is_tombstone(), newest.mod_revision());
            }
        } else {
            mvcc.order = mvcc.order.rebuilt_with(entries, new);
        }
        mvcc
    }
}
