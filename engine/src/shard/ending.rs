//! Keys that a deletion has ended and that are not all marked so yet.
//!
//! A deletion of very many keys takes effect on a shard at once, by this note; their tombstones
//! follow a slice at a time. Until they are there, whoever reads at the deletion's revision or
//! later has to leave out what the note covers.

use bytes::Bytes;

use super::{Shard, Token};
use crate::mvcc::{CountChunk, Settled, SettledChunk};
use crate::record::{Record, Revision};
use crate::request::KeyRange;

#[derive(Debug)]
pub(super) struct Ending {
    token: Token,
    revision: Revision,
    ranges: Vec<KeyRange>,
    /// Ranges that are done, and the last key that was looked at in the one after.
    done: usize,
    after: Option<Bytes>,
}

impl Ending {
    /// Whether it belongs to the state at `revision`.
    pub(super) fn is_of(&self, revision: Revision) -> bool {
        self.revision <= revision
    }

    fn covers(&self, record: &Record) -> bool {
        record.mod_revision() < self.revision
            && self.ranges.iter().any(|range| range.contains(record.key()))
    }
}

impl Shard {
    /// Ends everything that lives in `ranges`, which are frozen under `token`, at `revision`.
    /// [`end_slice`](Shard::end_slice) has to be called until it says that all is done.
    pub fn begin_ending(&mut self, token: Token, revision: Revision, ranges: Vec<KeyRange>) {
        assert!(self.gate.is_frozen(token), "only what is frozen can be ended");
        self.endings.push_back(Ending { token, revision, ranges, done: 0, after: None });
    }

    /// Whether there are keys that have ended and are not marked so.
    pub fn is_ending(&self) -> bool {
        !self.endings.is_empty()
    }

    /// Marks up to `max_keys` more keys. Gives the token of a deletion that this completed: it can
    /// be released.
    pub fn end_slice(&mut self, max_keys: usize) -> Option<Token> {
        let ending = self.endings.front_mut()?;
        if let Some(range) = ending.ranges.get(ending.done) {
            let chunk = self.mvcc.newest_chunk(range, ending.after.as_deref(), max_keys);
            if chunk.resume_after.is_none() {
                ending.done += 1;
            }
            ending.after = chunk.resume_after;
            let revision = ending.revision;
            for record in chunk.records {
                if !record.is_tombstone() && record.mod_revision() < revision {
                    self.install(Record::tombstone(record.key(), revision));
                }
            }
        }
        let complete = self.endings.front().is_some_and(|front| front.done >= front.ranges.len());
        if complete { self.endings.pop_front().map(|ending| ending.token) } else { None }
    }

    /// What a snapshot holds of a slice of the keys, as
    /// [`Mvcc::settled_chunk`](crate::mvcc::Mvcc::settled_chunk) gives it.
    pub fn settled_chunk(
        &self,
        after: Option<&[u8]>,
        committed: Revision,
        max_keys: usize,
    ) -> SettledChunk {
        let mut chunk = self.mvcc.settled_chunk(after, committed, max_keys);
        for Settled { record, previous } in &mut chunk.entries {
            let covers = |ending: &&Ending| ending.revision <= committed && ending.covers(record);
            let ending = self.endings.iter().find(covers).filter(|_| !record.is_tombstone());
            if let Some(ending) = ending {
                *previous = record.mod_revision();
                *record = Record::tombstone(record.key(), ending.revision);
            }
        }
        chunk
    }

    /// Whether a version that the keys' own history shows at `revision` lived then.
    pub fn lives(&self, record: &Record, revision: Revision) -> bool {
        !self.endings.iter().any(|ending| ending.revision <= revision && ending.covers(record))
    }

    /// A slice of a count, as [`Mvcc::count_chunk`](crate::mvcc::Mvcc::count_chunk) gives it.
    /// Where keys are ending, each of them has to be looked at.
    pub fn count_chunk(
        &self,
        range: &KeyRange,
        revision: Revision,
        resume_from: Option<&[u8]>,
        max_work: usize,
    ) -> CountChunk {
        if !self.is_ending_in(range, revision) {
            return self.mvcc.count_chunk(range, revision, resume_from, max_work);
        }
        let rest = resume_from.map(|from| begin_at(range, from));
        let range = rest.as_ref().unwrap_or(range);
        let chunk = self.mvcc.range_chunk(range, revision, None, max_work);
        let count = chunk.records.iter().filter(|record| self.lives(record, revision)).count();
        // The next possible key.
        let after = |last: Bytes| Bytes::from([&last[..], &[0]].concat());
        let unresolved = chunk.unresolved.into_iter().map(|(_, lookup)| lookup).collect();
        CountChunk { count, resume_from: chunk.resume_after.map(after), unresolved }
    }

    fn is_ending_in(&self, range: &KeyRange, revision: Revision) -> bool {
        let overlaps = |ending: &Ending| ending.ranges.iter().any(|theirs| theirs.overlaps(range));
        self.endings.iter().any(|ending| ending.revision <= revision && overlaps(ending))
    }
}

/// What of `range` is at or after `from`.
fn begin_at(range: &KeyRange, from: &[u8]) -> KeyRange {
    let start = Bytes::copy_from_slice(from);
    match range {
        KeyRange::Single(key) => KeyRange::Single(key.clone()),
        KeyRange::Interval { end, .. } => KeyRange::Interval { start, end: end.clone() },
        KeyRange::From(_) => KeyRange::From(start),
    }
}
