//! The versions of one key, newest first at hand.

use std::collections::VecDeque;

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
#[derive(Debug, Default)]
struct Older(VecDeque<Record>);

/// What a key was worth at a revision, as far as memory can tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// The version that lived then.
    Live(&'a Record),
    /// It did not exist.
    Nothing,
    /// Only the log knows.
    Evicted {
        /// The answer is the newest version or tombstone up to here.
        upto: Revision,
        /// It is known that the key existed.
        lived: bool,
    },
}

/// What a rollback left of a key.
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

    /// What the key was worth at `revision`.
    pub(super) fn at(&self, revision: Revision) -> Seen<'_> {
        match self.settled(revision) {
            Some((record, _)) if record.is_tombstone() => Seen::Nothing,
            Some((record, _)) => Seen::Live(record),
            None if self.previous == 0 => Seen::Nothing,
            None => {
                let oldest = self.older().next().unwrap_or(&self.newest);
                let lived = !oldest.is_tombstone() && oldest.create_revision() <= revision;
                Seen::Evicted { upto: revision.min(self.previous), lived }
            }
        }
    }

    fn older(&self) -> impl Iterator<Item = &Record> {
        self.older.iter().flat_map(|older| &older.0)
    }

    /// The version, or tombstone, that was the newest at `revision`, with the revision of the one
    /// before it (0 if there was none).
    pub(super) fn settled(&self, revision: Revision) -> Option<(&Record, Revision)> {
        let Some(Older(older)) = self.older.as_deref() else {
            let newest = (&self.newest, self.previous);
            return (self.newest.mod_revision() <= revision).then_some(newest);
        };
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
        self.older.get_or_insert_default().0.push_back(before.clone());
        Superseded::Kept(before)
    }

    /// Makes `record`, which is not older, the only version and gives the one before. The versions
    /// that are lost are in the log.
    pub(super) fn replace(&mut self, record: Record) -> Record {
        assert!(self.older.is_none() && self.newest.mod_revision() <= record.mod_revision());
        if self.newest.mod_revision() < record.mod_revision() {
            self.previous = self.newest.mod_revision();
        }
        std::mem::replace(&mut self.newest, record)
    }

    /// Removes the versions newer than `revision`, passing each to `removed`.
    pub(super) fn rollback(
        &mut self,
        revision: Revision,
        mut removed: impl FnMut(&Record),
    ) -> Left {
        while self.newest.mod_revision() > revision {
            removed(&self.newest);
            match self.older.as_mut().and_then(|older| older.0.pop_back()) {
                Some(before) => self.newest = before,
                None => {
                    assert!(self.previous == 0, "what is superseded by no commit is not evicted");
                    return Left::Nothing;
                }
            }
        }
        self.give_back_memory();
        Left::Some
    }

    /// Drops the versions that no read at `floor` or later sees, passing each to `removed`.
    pub(super) fn evict(&mut self, floor: Revision, mut removed: impl FnMut(&Record)) {
        let Some(Older(older)) = self.older.as_deref_mut() else { return };
        // Mostly one goes at a time, so this is faster than to look for the last one.
        while let Some(oldest) = older.front() {
            let superseded_at = older.get(1).unwrap_or(&self.newest).mod_revision();
            if superseded_at > floor {
                break;
            }
            self.previous = oldest.mod_revision();
            removed(oldest);
            older.pop_front();
        }
        self.give_back_memory();
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
