//! Which keys have something to forget, by the revision that made it so.

use std::collections::VecDeque;

use super::version::Handle;
use crate::record::Revision;

/// Entries per segment. Segments never move: a queue of millions grows without a pause.
const SEGMENT: usize = 4096;

/// A queue of keys, in about the order of their revisions. One that is a little out of order waits
/// for its neighbours: for the next compaction, at worst.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// None of them is empty.
    segments: VecDeque<VecDeque<(Revision, Handle)>>,
}

impl Journal {
    pub(super) fn push(&mut self, revision: Revision, handle: Handle) {
        match self.segments.back_mut().filter(|segment| segment.len() < SEGMENT) {
            Some(segment) => segment.push_back((revision, handle)),
            None => self.segments.push_back(VecDeque::from([(revision, handle)])),
        }
    }

    /// Whether there is an entry of a revision up to this one.
    pub(super) fn has_upto(&self, revision: Revision) -> bool {
        let first = self.segments.front().and_then(|segment| segment.front());
        first.is_some_and(|&(first, _)| first <= revision)
    }

    /// Takes out the first entry if it is of a revision up to this one.
    pub(super) fn pop_upto(&mut self, revision: Revision) -> Option<Handle> {
        if !self.has_upto(revision) {
            return None;
        }
        let segment = self.segments.front_mut()?;
        let entry = segment.pop_front();
        if segment.is_empty() {
            self.segments.pop_front();
        }
        entry.map(|(_, handle)| handle)
    }

    /// Forgets the entries at the end that are newer than this revision.
    pub(super) fn rollback(&mut self, revision: Revision) {
        while let Some(segment) = self.segments.back_mut() {
            match segment.back() {
                Some(&(newer, _)) if newer > revision => drop(segment.pop_back()),
                Some(_) => return,
                None => drop(self.segments.pop_back()),
            }
        }
    }
}
