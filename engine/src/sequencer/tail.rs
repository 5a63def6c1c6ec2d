//! The end of the log: entries that are not applied, whoever made them.

use std::collections::VecDeque;

use mainstay_raft::Entry;

use super::write::LogEntry;
use crate::effect::SharedBatch;
use crate::record::Revision;

/// What a leader knows of an entry that it made itself: it was evaluated here.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) batch: SharedBatch,
    /// Of the batch's controls, in order.
    pub(crate) tickets: Vec<u64>,
    /// Bytes of its effects.
    pub(crate) bytes: usize,
}

/// What is to be applied next.
#[derive(Debug)]
pub(crate) enum Next {
    Own(Own),
    Entry(LogEntry),
}

#[derive(Debug)]
struct Waiting {
    entry: LogEntry,
    own: Option<Own>,
    /// Its payload could not be read: a copy is to come from other members.
    is_absent: bool,
}

#[derive(Debug)]
pub(crate) struct Tail {
    /// The newest entry that is applied, and the revision after it.
    index: u64,
    revision: Revision,
    /// Those behind it, without a gap, up to the log's end.
    entries: VecDeque<Waiting>,
    /// So many of these are being applied.
    taken: usize,
    /// Writes that are under way: their numbers, and the log's end with them.
    writes: VecDeque<(u64, u64)>,
    durable_index: u64,
}

impl Tail {
    /// Behind what is applied; `pending` is in the log already, without a payload where it is one of
    /// the `damaged`.
    pub(crate) fn new(
        index: u64,
        revision: Revision,
        pending: Vec<LogEntry>,
        damaged: &[u64],
    ) -> Tail {
        let mut tail = Tail {
            index,
            revision,
            entries: VecDeque::new(),
            taken: 0,
            writes: VecDeque::new(),
            durable_index: index,
        };
        for entry in pending {
            let is_absent = damaged.contains(&entry.index);
            tail.push(entry, None);
            tail.entries.back_mut().expect("just pushed").is_absent = is_absent;
        }
        tail.durable_index = tail.last_index();
        tail
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.index + self.entries.len() as u64
    }

    /// The store's revision at the end of the log.
    pub(crate) fn last_revision(&self) -> Revision {
        self.entries.back().map_or(self.revision, |last| last.entry.revision_after)
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.index
    }

    /// Entries that are not both applied and durable.
    pub(crate) fn in_flight(&self) -> usize {
        let done = self.index.min(self.durable_index);
        usize::try_from(self.last_index() - done).expect("they are in memory")
    }

    /// Adds an entry behind the end.
    pub(crate) fn push(&mut self, entry: LogEntry, own: Option<Own>) {
        assert_eq!(entry.index, self.last_index() + 1, "entries come in order");
        assert_eq!(entry.revision_before, self.last_revision(), "entry {}", entry.index);
        assert!(entry.revision_after >= entry.revision_before, "entry {}", entry.index);
        self.entries.push_back(Waiting { entry, own, is_absent: false });
    }

    /// Takes an entry that raft wants written: one of those that are here, one behind the end, or one
    /// that replaces others. Gives it as the log has it.
    pub(crate) fn append(&mut self, entry: &Entry) -> LogEntry {
        if let Some(known) = self.get(entry.index)
            && known.term == entry.term
        {
            return self.mend(entry).unwrap_or_else(|| self.known(entry.index));
        }
        self.truncate(entry.index);
        let revision = self.last_revision();
        let log_entry = LogEntry::of(entry, revision)
            .unwrap_or_else(|| panic!("entry {} does not follow revision {revision}", entry.index));
        self.push(log_entry.clone(), None);
        log_entry
    }

    fn known(&self, index: u64) -> LogEntry {
        self.get(index).expect("it is not applied").clone()
    }

    /// Takes a copy of an entry whose payload could not be read. Gives it as the log has it; `None` if
    /// it is not missed.
    pub(crate) fn mend(&mut self, copy: &Entry) -> Option<LogEntry> {
        let place = usize::try_from(copy.index.checked_sub(self.index + 1)?).ok()?;
        let waiting = self.entries.get_mut(place)?;
        if !waiting.is_absent || waiting.entry.term != copy.term {
            return None;
        }
        let mended = LogEntry::of(copy, waiting.entry.revision_before)?;
        if mended.revision_after != waiting.entry.revision_after {
            return None;
        }
        *waiting = Waiting { entry: mended.clone(), own: None, is_absent: false };
        Some(mended)
    }

    /// An entry that is not applied.
    pub(crate) fn get(&self, index: u64) -> Option<&LogEntry> {
        let place = usize::try_from(index.checked_sub(self.index + 1)?).ok()?;
        self.entries.get(place).map(|waiting| &waiting.entry)
    }

    fn truncate(&mut self, index: u64) {
        let kept = usize::try_from(index - self.index - 1).expect("it is not applied");
        assert!(kept >= self.taken, "what is applied was committed");
        self.entries.truncate(kept);
        for (_, last_index) in &mut self.writes {
            *last_index = (*last_index).min(index - 1);
        }
        self.durable_index = self.durable_index.min(index - 1);
    }

    /// The next entry to be applied, if it is one of those up to `commit`.
    pub(crate) fn take(&mut self, commit: u64) -> Option<Next> {
        let waiting = self.entries.get_mut(self.taken)?;
        if waiting.entry.index > commit || waiting.is_absent {
            return None;
        }
        self.taken += 1;
        Some(match waiting.own.take() {
            Some(own) => Next::Own(own),
            None => Next::Entry(waiting.entry.clone()),
        })
    }

    /// The oldest entry that was taken is applied.
    pub(crate) fn applied(&mut self, index: u64) {
        assert!(self.taken > 0, "only what was taken is applied");
        let Some(first) = self.entries.pop_front() else { return };
        assert_eq!(first.entry.index, index, "entries are applied in order");
        self.taken -= 1;
        self.index = index;
        self.revision = first.entry.revision_after;
    }

    /// This member leads no more: what it made is undone, and applied like anybody's if it is
    /// committed after all.
    pub(crate) fn disown(&mut self) {
        self.entries.iter_mut().for_each(|waiting| waiting.own = None);
    }

    /// Everything up to a snapshot is applied by it.
    pub(crate) fn restart(&mut self, index: u64, revision: Revision) {
        assert!(self.taken == 0 && index > self.index, "nothing is being applied meanwhile");
        let known = self.entries.iter().position(|waiting| waiting.entry.index == index);
        match known {
            Some(place) => drop(self.entries.drain(..=place)),
            None => {
                self.entries.clear();
                self.writes.iter_mut().for_each(|write| write.1 = write.1.min(index));
                self.durable_index = index;
            }
        }
        (self.index, self.revision) = (index, revision);
        self.durable_index = self.durable_index.max(index);
    }

    /// The log is asked to write, with this number, up to its end.
    pub(crate) fn write(&mut self, number: u64) {
        self.writes.push_back((number, self.last_index()));
    }

    pub(crate) fn written(&mut self, number: u64) {
        while let Some((_, last_index)) = self.writes.pop_front_if(|write| write.0 <= number) {
            self.durable_index = self.durable_index.max(last_index);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mainstay_raft::EntryKind;

    use super::super::write::with_trailer;
    use super::*;

    fn entry(index: u64, term: u64, before: Revision, after: Revision) -> Entry {
        let data = with_trailer(b"batch", before, after);
        Entry { index, term, kind: EntryKind::Normal, data }
    }

    fn taken(tail: &mut Tail, commit: u64) -> Option<u64> {
        match tail.take(commit) {
            Some(Next::Entry(entry)) => Some(entry.index),
            other => {
                assert!(other.is_none());
                None
            }
        }
    }

    #[test]
    fn entries_are_applied_in_order_as_far_as_they_are_committed() {
        let mut tail = Tail::new(4, 10, Vec::new(), &[]);
        for (index, revision) in [(5, 10), (6, 12), (7, 14)] {
            let appended = tail.append(&entry(index, 2, revision, revision + 2));
            assert_eq!((appended.index, appended.revision_after), (index, revision + 2));
        }
        tail.write(1);
        assert_eq!((taken(&mut tail, 6), taken(&mut tail, 6)), (Some(5), Some(6)));
        assert_eq!(taken(&mut tail, 6), None);
        tail.applied(5);
        assert_eq!((tail.applied_index(), tail.last_index(), tail.in_flight()), (5, 7, 3));
        tail.written(1);
        assert_eq!(tail.in_flight(), 2, "durable, and not applied");
    }

    #[test]
    fn what_another_leader_has_replaces_what_is_not_committed() {
        let mut tail = Tail::new(4, 10, Vec::new(), &[]);
        tail.append(&entry(5, 2, 10, 12));
        tail.append(&entry(6, 2, 12, 13));
        tail.write(1);
        tail.append(&entry(6, 3, 12, 19));
        assert_eq!((tail.last_index(), tail.last_revision()), (6, 19));
        tail.written(1);
        assert_eq!(taken(&mut tail, 5), Some(5));
        tail.applied(5);
        assert_eq!(tail.in_flight(), 1, "the write was of the entry that is gone");
        tail.restart_with(9, 40);
        assert_eq!((tail.last_index(), tail.last_revision()), (9, 40));
    }

    #[test]
    fn nothing_behind_an_entry_that_is_missed_is_applied_before_its_copy_is_here() {
        let (fifth, sixth) = (entry(5, 2, 10, 12), entry(6, 2, 12, 14));
        let missed = LogEntry { payload: Bytes::new(), ..LogEntry::of(&fifth, 10).unwrap() };
        let pending = vec![missed, LogEntry::of(&sixth, 12).unwrap()];
        let mut tail = Tail::new(4, 10, pending, &[5]);
        // The leader goes on behind what is in the log.
        assert_eq!(tail.append(&entry(7, 3, 14, 15)).revision_before, 14);
        assert_eq!(taken(&mut tail, 7), None);
        assert_eq!(tail.mend(&entry(5, 3, 10, 12)), None, "another term's");
        assert_eq!(tail.mend(&sixth), None, "it is here");
        assert_eq!(tail.mend(&fifth), LogEntry::of(&fifth, 10));
        assert_eq!((taken(&mut tail, 7), taken(&mut tail, 7)), (Some(5), Some(6)));
    }

    impl Tail {
        fn restart_with(&mut self, index: u64, revision: Revision) {
            self.restart(index, revision);
            assert!(self.get(index).is_none());
        }
    }

    #[test]
    fn a_snapshot_keeps_what_is_behind_it() {
        let mut tail = Tail::new(4, 10, Vec::new(), &[]);
        for index in 5..=7 {
            tail.append(&entry(index, 2, 5 + index as Revision, 6 + index as Revision));
        }
        tail.restart(6, 12);
        assert_eq!((tail.applied_index(), tail.last_index()), (6, 7));
        assert_eq!(taken(&mut tail, 7), Some(7));
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn a_gap_in_revisions_is_no_entry() {
        let empty = Entry { data: Bytes::from_static(b"12345678901234567"), ..entry(5, 2, 0, 0) };
        Tail::new(4, 10, Vec::new(), &[]).append(&empty);
    }
}
