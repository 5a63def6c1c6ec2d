//! What a node knows of its log: the term of every entry, the content of recent ones, and how much
//! of it is durable (Raft paper, 5.3).
//!
//! ```text
//!        base            handed            last
//!  ...----+-----------------+---------------+
//!  compacted  durable ..>   |    unsent     |      what the owner was given, and what is to come
//!                 [      recent, cached     ]      bounded in bytes, for peers
//! ```

use std::collections::{BTreeMap, VecDeque};

use crate::types::{Damage, Entry};

/// What can be had of the log from some index on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    Entries(Vec<Entry>),
    /// Only the owner has these, up to this index.
    Stored {
        to: u64,
    },
    /// Nothing behind the end.
    End,
    /// Damaged here, or on its way to the disk and not in the cache.
    Blocked,
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) base_index: u64,
    base_term: u64,
    /// First index behind the base of each term, and the term.
    terms: VecDeque<(u64, u64)>,
    pub(crate) last_index: u64,
    pub(crate) last_term: u64,
    /// To be handed to the owner.
    pub(crate) unsent: Vec<Entry>,
    /// Everything up to here is on the disk, some of it possibly damaged.
    pub(crate) durable: u64,
    /// By index.
    pub(crate) damaged: BTreeMap<u64, Damage>,
    /// The newest entries, without a gap up to the last.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    cache_bytes: usize,
}

impl Log {
    pub(crate) fn new(
        base: (u64, u64),
        terms: Vec<(u64, u64)>,
        last: (u64, u64),
        cache_bytes: usize,
    ) -> Log {
        // Without word of older terms, all but the newest entry counts as compacted.
        let base = if terms.is_empty() { last } else { base };
        assert!(terms.is_sorted_by(|left, right| left.0 < right.0 && left.1 < right.1));
        assert!(terms.first().is_none_or(|first| first.0 == base.0 + 1 && first.1 >= base.1));
        assert!(terms.last().is_none_or(|newest| newest.0 <= last.0 && newest.1 == last.1));
        assert!(base.0 <= last.0 && base.1 <= last.1);
        Log {
            base_index: base.0,
            base_term: base.1,
            terms: terms.into(),
            last_index: last.0,
            last_term: last.1,
            unsent: Vec::new(),
            durable: last.0,
            damaged: BTreeMap::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            cache_bytes,
        }
    }

    /// `None` behind the end and before the base.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.last_index {
            return Some(self.last_term);
        }
        if index == self.base_index {
            return Some(self.base_term);
        }
        if index < self.base_index || index > self.last_index {
            return None;
        }
        let run = self.terms.iter().rev().find(|run| run.0 <= index);
        Some(run.expect("runs begin right behind the base").1)
    }

    /// The newest index up to `index` whose term is not greater than `term`, and its term: all
    /// behind it can't be in a log whose entry at `index` has `term` (Raft paper, end of 5.3).
    pub(crate) fn newest_before(&self, index: u64, term: u64) -> (u64, u64) {
        let index = index.min(self.last_index);
        if index <= self.base_index || self.base_term > term {
            return (self.base_index, self.base_term);
        }
        let mut end = index;
        for run in self.terms.iter().rev() {
            if run.0 > index {
                continue;
            }
            if run.1 <= term {
                return (end, run.1);
            }
            end = run.0 - 1;
        }
        (self.base_index, self.base_term)
    }

    /// Appends one entry; `cache`: somebody else will want it.
    pub(crate) fn append(&mut self, entry: Entry, cache: bool) {
        assert_eq!(entry.index, self.last_index + 1, "no gaps");
        assert!(entry.term >= self.last_term, "terms never go back");
        if entry.term != self.last_term || self.last_index == self.base_index {
            self.terms.push_back((entry.index, entry.term));
        }
        self.last_index = entry.index;
        self.last_term = entry.term;
        if cache {
            self.recent_bytes += entry.data.len();
            self.recent.push_back(entry.clone());
            while self.recent_bytes > self.cache_bytes
                && let Some(oldest) = self.recent.pop_front()
            {
                self.recent_bytes -= oldest.data.len();
            }
        } else {
            self.recent.clear();
            self.recent_bytes = 0;
        }
        self.unsent.push(entry);
    }

    /// Drops `index` and everything behind it.
    pub(crate) fn truncate(&mut self, index: u64) {
        assert!(index > self.base_index && index <= self.last_index);
        while self.terms.back().is_some_and(|run| run.0 >= index) {
            self.terms.pop_back();
        }
        self.last_index = index - 1;
        self.last_term = self.terms.back().map_or(self.base_term, |run| run.1);
        while self.recent.back().is_some_and(|entry| entry.index >= index)
            && let Some(dropped) = self.recent.pop_back()
        {
            self.recent_bytes -= dropped.data.len();
        }
        while self.unsent.last().is_some_and(|entry| entry.index >= index) {
            self.unsent.pop();
        }
        self.durable = self.durable.min(index - 1);
        self.damaged.split_off(&index);
    }

    /// Everything up to `index` is part of a snapshot.
    pub(crate) fn compact(&mut self, index: u64) {
        if index <= self.base_index {
            return;
        }
        let term = self.term_at(index).expect("what is compacted was in the log");
        while self.terms.get(1).is_some_and(|run| run.0 <= index + 1) {
            self.terms.pop_front();
        }
        match self.terms.front_mut() {
            _ if index == self.last_index => self.terms.clear(),
            Some(run) => run.0 = run.0.max(index + 1),
            None => {}
        }
        self.base_index = index;
        self.base_term = term;
        while self.recent.front().is_some_and(|entry| entry.index <= index)
            && let Some(dropped) = self.recent.pop_front()
        {
            self.recent_bytes -= dropped.data.len();
        }
        self.damaged = self.damaged.split_off(&(index + 1));
    }

    /// Begins anew behind a snapshot.
    pub(crate) fn reset(&mut self, index: u64, term: u64) {
        *self = Log::new((index, term), Vec::new(), (index, term), self.cache_bytes);
    }

    /// Durable and intact without a gap up to here.
    pub(crate) fn intact(&self) -> u64 {
        match self.damaged.first_key_value() {
            Some((index, _)) => self.durable.min(index - 1),
            None => self.durable,
        }
    }

    /// Entries from `from` on, at least one and as many as fit in `max_bytes`.
    pub(crate) fn slice(&self, from: u64, max_bytes: usize) -> Slice {
        assert!(from > self.base_index);
        if from > self.last_index {
            return Slice::End;
        }
        let next_damage = self.damaged.range(from..).next().map_or(u64::MAX, |(index, _)| *index);
        let first_recent = self.recent.front().map_or(self.last_index + 1, |entry| entry.index);
        if from == next_damage {
            return Slice::Blocked;
        }
        if from < first_recent {
            let to = (first_recent - 1).min(self.durable).min(next_damage - 1);
            return if to >= from { Slice::Stored { to } } else { Slice::Blocked };
        }
        let mut bytes = 0;
        let start = usize::try_from(from - first_recent).expect("within the cache");
        let taken = self.recent.range(start..).take_while(|entry| {
            bytes += entry.data.len();
            entry.index < next_damage && (entry.index == from || bytes <= max_bytes)
        });
        Slice::Entries(taken.cloned().collect())
    }

    /// One entry, if its content is at hand.
    pub(crate) fn cached(&self, index: u64) -> Option<&Entry> {
        let first = self.recent.front()?.index;
        let place = usize::try_from(index.checked_sub(first)?).ok()?;
        self.recent.get(place).filter(|_| !self.damaged.contains_key(&index))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::EntryKind;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, kind: EntryKind::Normal, data: Bytes::from_static(b"12345678") }
    }

    /// A log with these terms, from index 1 on.
    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new((0, 0), Vec::new(), (0, 0), 1 << 20);
        for (index, term) in (1..).zip(terms) {
            log.append(entry(index, *term), true);
        }
        log
    }

    fn terms(log: &Log) -> Vec<Option<u64>> {
        (0..=log.last_index + 1).map(|index| log.term_at(index)).collect()
    }

    #[test]
    fn every_entry_has_a_term() {
        let mut log = log(&[1, 1, 2, 5, 5]);
        assert_eq!(terms(&log)[1..], [Some(1), Some(1), Some(2), Some(5), Some(5), None]);
        log.compact(2);
        assert_eq!(terms(&log), [None, None, Some(1), Some(2), Some(5), Some(5), None]);
        log.truncate(4);
        log.append(entry(4, 7), true);
        assert_eq!(terms(&log), [None, None, Some(1), Some(2), Some(7), None]);
        log.compact(4);
        assert_eq!(terms(&log)[4..], [Some(7), None]);
        log.append(entry(5, 7), true);
        assert_eq!(terms(&log)[4..], [Some(7), Some(7), None]);
    }

    #[test]
    fn the_newest_place_where_logs_could_agree() {
        let log = log(&[1, 1, 2, 5, 5, 6]);
        for (index, term, expected) in [
            (6, 9, (6, 6)),
            (6, 5, (5, 5)),
            (9, 5, (5, 5)),
            (6, 4, (3, 2)),
            (4, 9, (4, 5)),
            (6, 1, (2, 1)),
            (6, 0, (0, 0)),
        ] {
            assert_eq!(log.newest_before(index, term), expected, "{index} {term}");
        }
    }

    #[test]
    fn the_cache_is_bounded_and_the_rest_is_asked_for() {
        let mut log = Log::new((0, 0), Vec::new(), (0, 0), 3 * 8);
        for index in 1..=5 {
            log.append(entry(index, 1), true);
        }
        assert_eq!(log.slice(1, 99), Slice::Blocked, "neither cached nor durable");
        log.durable = 2;
        assert_eq!(log.slice(1, 99), Slice::Stored { to: 2 });
        assert_eq!(log.slice(3, 16), Slice::Entries(vec![entry(3, 1), entry(4, 1)]));
        assert_eq!(log.slice(5, 1), Slice::Entries(vec![entry(5, 1)]), "one at least");
        assert_eq!(log.slice(6, 1), Slice::End);
        let damage = Damage { index: 4, term: 1, kind: EntryKind::Normal };
        log.damaged.insert(4, damage);
        assert_eq!(log.slice(3, 99), Slice::Entries(vec![entry(3, 1)]));
        assert_eq!(log.slice(4, 99), Slice::Blocked);
    }

    #[test]
    fn what_is_truncated_is_neither_sent_nor_durable() {
        let mut log = log(&[1, 1, 2, 2]);
        log.durable = 4;
        log.unsent.drain(..2);
        log.truncate(3);
        assert_eq!((log.last_index, log.last_term, log.durable), (2, 1, 2));
        assert!(log.unsent.is_empty());
    }
}
