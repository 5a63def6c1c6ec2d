//! What a member's disk holds, entry by entry.
//!
//! What is believed of it, and so what a member among others has to live with:
//!
//! * Writes become durable in order, some time after they were handed over, and are reported then. A
//!   crash keeps any number of the oldest unfinished ones. Of the next it keeps nothing, all, or its
//!   beginning: term and vote, or these and some of its entries. The rest is gone.
//! * An entry with the index of one that is there replaces that one and all behind it, in one go.
//! * A disk may be slow for as long as it likes. While it is full nothing is written.
//! * A durable entry may become unreadable; its index and term are still known, as the frames around
//!   it tell. A disk may be lost as a whole. Both together strike fewer than half of the voters at a
//!   time, and only when the others have everything that was committed.
//!
//! How frames, segments and snapshots survive torn, lost and misdirected writes is another
//! simulation's: that of one store, on a disk of bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_engine::effect::{Batch, SharedBatch};
use mainstay_engine::log::decode::decode;
use mainstay_engine::log::frame::{FrameHeader, FrameKind};
use mainstay_engine::log::raw::RawBatch;
use mainstay_engine::sequencer::{LogEntry, LogWrite};
use mainstay_engine::{Record, Revision};
use mainstay_raft::{Damage, EntryKind, HardState, Membership};

use super::super::random::Random;
use super::Bug;
use super::report::Faults;

/// A log as it is read: entries by index, without a gap.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries(BTreeMap<u64, LogEntry>);

impl Entries {
    fn put(&mut self, entry: LogEntry) {
        self.0.split_off(&entry.index);
        self.0.insert(entry.index, entry);
    }

    pub(super) fn get(&self, index: u64) -> Option<&LogEntry> {
        self.0.get(&index)
    }

    pub(super) fn last(&self) -> Option<&LogEntry> {
        self.0.last_key_value().map(|(_, entry)| entry)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &LogEntry> {
        self.0.values()
    }

    /// The newest version of a key at or before a revision.
    pub(super) fn find(&self, key: &[u8], revision: Revision) -> Option<Record> {
        for entry in self.0.values().rev().filter(|entry| entry.revision_before < revision) {
            let batch = batch_of(entry);
            let changes = batch.effects().flat_map(|effect| &effect.changes);
            let changes = changes.filter(|change| change.record.key() == key);
            let records = changes.map(|change| &change.record);
            let newest = records.filter(|record| record.mod_revision() <= revision).last();
            if let Some(record) = newest {
                return Some(record.clone());
            }
        }
        None
    }

    /// Some batches from the one that holds a revision on.
    pub(super) fn read_from(&self, revision: Revision, max: usize) -> Vec<SharedBatch> {
        let entries = self.0.values().filter(|entry| entry.revision_after >= revision);
        let entries = entries.filter(|entry| entry.revision_after > entry.revision_before);
        entries.take(max).map(|entry| SharedBatch::new(batch_of(entry))).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) durable: Entries,
    /// Durable, or on its way there: what the running member reads.
    pub(super) view: Entries,
    pub(super) damaged: BTreeSet<u64>,
    in_flight: VecDeque<LogWrite>,
    pub(super) full: bool,
}

impl Disk {
    /// Hands a write over.
    pub(super) fn submit(&mut self, write: LogWrite) {
        for entry in write.entries.iter().chain(&write.repairs) {
            if write.repairs.is_empty() {
                self.view.put(entry.clone());
            } else {
                self.view.0.insert(entry.index, entry.clone());
            }
        }
        self.in_flight.push_back(write);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(super) fn numbers_in_flight(&self) -> Vec<u64> {
        self.in_flight.iter().map(|write| write.number).collect()
    }

    /// The oldest write ends. Gives its number.
    pub(super) fn complete(&mut self, bug: Option<Bug>) -> Option<u64> {
        let write = self.in_flight.pop_front()?;
        let number = write.number;
        let whole = write.entries.len();
        self.keep(write, whole, bug);
        Some(number)
    }

    fn keep(&mut self, write: LogWrite, entries: usize, bug: Option<Bug>) {
        let whole = entries == write.entries.len();
        if let Some(state) = write.hard_state {
            let vote = if bug == Some(Bug::VoteTwice) { 0 } else { state.vote };
            // What is on the disk must not commit what the rest of the write would have replaced.
            let before = write.entries.first().map_or(u64::MAX, |first| first.index - 1);
            let commit = if whole { state.commit } else { state.commit.min(before) };
            let commit = commit.max(self.hard_state.commit);
            self.hard_state = HardState { vote, commit, ..state };
        }
        for entry in write.entries.into_iter().take(entries) {
            let replaces = self.durable.get(entry.index).is_some();
            if bug == Some(Bug::TruncationLost) && replaces {
                continue;
            }
            self.damaged.split_off(&entry.index);
            self.durable.put(entry);
        }
        if whole {
            for entry in write.repairs {
                self.damaged.remove(&entry.index);
                self.durable.0.insert(entry.index, entry);
            }
        }
    }

    /// The power goes.
    pub(super) fn crash(&mut self, random: &mut Random, faults: &mut Faults, bug: Option<Bug>) {
        let whole = random.below(self.in_flight.len() + 1);
        for _ in 0..whole {
            self.complete(bug);
            faults.writes_late += 1;
        }
        if let Some(torn) = self.in_flight.pop_front()
            && random.chance(60)
        {
            let entries = random.below(torn.entries.len() + 1);
            faults.writes_torn += 1;
            self.keep(torn, entries, bug);
        }
        faults.writes_lost += self.in_flight.len();
        self.in_flight.clear();
        self.view = self.durable.clone();
    }

    /// An entry is another one than was written.
    pub(super) fn change(&mut self, entry: LogEntry) {
        self.durable.0.insert(entry.index, entry.clone());
        self.view.0.insert(entry.index, entry);
    }

    /// Everything is gone.
    pub(super) fn lose(&mut self) {
        *self = Disk::default();
    }

    /// First index of each term, and the term.
    pub(super) fn terms(&self) -> Vec<(u64, u64)> {
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for entry in self.durable.iter() {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        terms
    }

    /// Who was a member from which index on.
    pub(super) fn memberships(&self) -> Vec<(u64, Membership)> {
        let entries = self.durable.iter().filter(|entry| entry.kind == EntryKind::Membership);
        let read = |entry: &LogEntry| Membership::decode(&entry.payload).expect("it was encoded");
        entries.map(|entry| (entry.index, read(entry))).collect()
    }

    pub(super) fn damage(&self) -> Vec<Damage> {
        let damaged = self.damaged.iter().filter_map(|index| self.durable.get(*index));
        let damage =
            |entry: &LogEntry| Damage { index: entry.index, term: entry.term, kind: entry.kind };
        damaged.map(damage).collect()
    }
}

fn header_of(entry: &LogEntry) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Entry,
        payload_length: entry.payload.len() as u32,
        previous_crc: 0,
        segment: 0,
        position: 0,
        durable_position: 0,
        term: entry.term,
        index: entry.index,
        revision_before: entry.revision_before,
        revision_after: entry.revision_after,
    }
}

fn holds_batch(entry: &LogEntry) -> bool {
    entry.kind == EntryKind::Normal && !entry.payload.is_empty()
}

/// What an entry holds, as a start reads it.
pub(super) fn raw_batch(entry: &LogEntry) -> Option<RawBatch> {
    let read = || RawBatch::read(header_of(entry), entry.payload.to_vec());
    holds_batch(entry).then(|| read().expect("it was encoded"))
}

/// What an entry holds.
pub(super) fn batch_of(entry: &LogEntry) -> Batch {
    if holds_batch(entry) {
        return decode(&header_of(entry), &entry.payload).expect("it was encoded");
    }
    Batch {
        index: entry.index,
        term: entry.term,
        revision_before: entry.revision_before,
        revision_after: entry.revision_after,
        items: Vec::new(),
    }
}
