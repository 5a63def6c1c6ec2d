//! The versions of one key, newest first at hand.

use crate::record::{Record, Revision};
use crate::slab::Slab;

/// The versions of all keys.
pub(super) type Entries = Slab<Versions>;

/// A key's number in [`Entries`]: what the indexes hold.
pub(super) type Handle = u32;

/// A key's versions. With a single one, the usual case, it is three words and no allocation.
#[derive(Debug)]
pub(super) struct Versions {
    newest: Record,
    /// The revision of the version, or tombstone, before the oldest one here; 0 if there was none.
    previous: Revision,
    older: Option<Box<Older>>,
}

const _: () = assert!(size_of::<Option<Versions>>() == 24);

/// Versions before the newest, oldest first.
#[derive(Debug)]
struct Older(Vec<Record>);

/// What a removal of versions left of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// At least one version.
    Some,
    /// No version at all: the caller forgets the key.
    Nothing,
}

impl Versions {
    /// One version; `previous` is the revision of the one before it, 0 if there was none.
    pub(super) fn new(record: Record, previous: Revision) -> Versions {
        Versions { newest: record, previous, older: None }
    }

    pub(super) fn newest(&self) -> &Record {
        &self.newest
    }

    pub(super) fn key(&self) -> &[u8] {
        self.newest.key()
    }

    /// The version, or tombstone, that was the newest at `revision`.
    pub(super) fn at(&self, revision: Revision) -> Option<&Record> {
        if self.newest.mod_revision() <= revision {
            return Some(&self.newest);
        }
        let older = &self.older.as_ref()?.0;
        let later = older.partition_point(|record| record.mod_revision() <= revision);
        later.checked_sub(1).map(|index| &older[index])
    }

    /// The version, or tombstone, that was the newest at `revision`, with the revision of the one
    /// before it (0 if there was none).
    pub(super) fn settled(&self, revision: Revision) -> Option<(&Record, Revision)> {
        let older = self.older.as_ref().map_or(&[][..], |older| &older.0);
        let before = |index: usize| match index {
            0 => self.previous,
            index => older[index - 1].mod_revision(),
        };
        if self.newest.mod_revision() <= revision {
            return Some((&self.newest, before(older.len())));
        }
        let later = older.partition_point(|record| record.mod_revision() <= revision);
        later.checked_sub(1).map(|index| (&older[index], before(index)))
    }

    /// Puts `record` on top and gives what it superseded. A version of the same revision is
    /// replaced for good: what a transaction overwrote itself was never to be seen.
    pub(super) fn install(&mut self, record: Record) -> Superseded {
        assert!(
            self.newest.mod_revision() <= record.mod_revision(),
            "key {:?} is at revision {} and got a version of revision {}",
            String::from_utf8_lossy(self.key()),
            self.newest.mod_revision(),
            record.mod_revision(),
        );
        let same_revision = self.newest.mod_revision() == record.mod_revision();
        let before = std::mem::replace(&mut self.newest, record);
        if same_revision {
            return Superseded::Replaced(before);
        }
        self.older.get_or_insert_with(|| Box::new(Older(Vec::new()))).0.push(before.clone());
        Superseded::Kept(before)
    }

    /// Removes the versions newer than `revision`, passing each to `removed`.
    pub(super) fn rollback(
        &mut self,
        revision: Revision,
        mut removed: impl FnMut(&Record),
    ) -> Left {
        while self.newest.mod_revision() > revision {
            removed(&self.newest);
            match self.older.as_mut().and_then(|older| older.0.pop()) {
                Some(before) => self.newest = before,
                None => return Left::Nothing,
            }
        }
        self.give_back_memory();
        Left::Some
    }

    /// Removes the versions that no read at `compacted` or later can see, passing each to `removed`.
    pub(super) fn compact(
        &mut self,
        compacted: Revision,
        mut removed: impl FnMut(&Record),
    ) -> Left {
        if self.newest.mod_revision() <= compacted {
            if let Some(older) = self.older.take() {
                older.0.iter().for_each(&mut removed);
            }
            if self.newest.is_tombstone() {
                removed(&self.newest);
                return Left::Nothing;
            }
            return Left::Some;
        }
        if let Some(older) = self.older.as_mut() {
            let later = older.0.partition_point(|record| record.mod_revision() <= compacted);
            // The last one at or before the compaction is still what a read there sees; but
            // not seeing a tombstone is the same as seeing none.
            let visible = later.checked_sub(1).map(|index| &older.0[index]);
            let keep = usize::from(visible.is_some_and(|record| !record.is_tombstone()));
            older.0.drain(..later - keep.min(later)).for_each(|record| removed(&record));
        }
        self.give_back_memory();
        Left::Some
    }

    fn give_back_memory(&mut self) {
        if let Some(older) = self.older.as_mut() {
            if older.0.is_empty() {
                self.older = None;
            } else if older.0.len() < older.0.capacity() / 4 {
                older.0.shrink_to_fit();
            }
        }
    }
}

/// What became of the version before an installed one.
#[derive(Debug)]
pub(super) enum Superseded {
    /// It can still be read at older revisions.
    Kept(Record),
    /// It was of the same revision and is gone.
    Replaced(Record),
}
