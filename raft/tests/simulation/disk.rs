//! What survives a crash, and what does not.
//!
//! The fault model: writes become durable in order, some time after they were asked for. A crash
//! keeps any number of the oldest unfinished ones and loses the others, whole. A durable entry may
//! become unreadable (its index and term are still known), and a disk may be lost as a whole; both
//! together strike fewer than half of the voters at a time. Snapshots and installations are atomic.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_raft::{
    Config, Damage, Entry, EntryKind, HardState, Membership, Options, Ready, Snapshot, SnapshotPart,
};

use crate::bugs::Bug;

/// The state machine: how far it is, and a digest of all that it has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) applied: u64,
    pub(crate) digest: u64,
}

impl State {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.index, self.applied + 1);
        self.applied = entry.index;
        for byte in entry.data.iter().chain(&entry.term.to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// As the bytes of a snapshot, of a size that its index decides.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.applied.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.digest.to_le_bytes());
        bytes.resize(16 + (self.applied % 7) as usize * 10, 0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> State {
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        State { applied: number(0), digest: number(8) }
    }
}

/// What was asked for at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Write {
    pub(crate) number: u64,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    repairs: Vec<Entry>,
    parts: Vec<SnapshotPart>,
}

impl Write {
    pub(crate) fn of(ready: &Ready) -> Write {
        Write {
            number: ready.write,
            hard_state: ready.hard_state,
            entries: ready.entries.clone(),
            repairs: ready.repairs.clone(),
            parts: ready.snapshot_parts.clone(),
        }
    }

    pub(crate) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) incarnation: u64,
    /// The entry before the log's first, and its term.
    pub(crate) base: (u64, u64),
    pub(crate) log: BTreeMap<u64, Entry>,
    pub(crate) damaged: BTreeSet<u64>,
    /// Where the log begins.
    pub(crate) membership: (u64, Membership),
    pub(crate) snapshot: State,
    pub(crate) partial: Option<(Snapshot, Vec<u8>)>,
}

/// Puts entries where they belong; one in the place of another cuts off all behind.
pub(crate) fn append(log: &mut BTreeMap<u64, Entry>, entries: &[Entry]) {
    for entry in entries {
        log.split_off(&entry.index);
        log.insert(entry.index, entry.clone());
    }
}

impl Disk {
    pub(crate) fn last(&self) -> (u64, u64) {
        self.log.last_key_value().map_or(self.base, |(index, entry)| (*index, entry.term))
    }

    pub(crate) fn write(&mut self, write: Write, bug: Option<Bug>) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
            if bug == Some(Bug::ForgetsVote) {
                self.hard_state.vote = 0;
            }
        }
        if bug == Some(Bug::ForgetsTruncation) {
            for entry in &write.entries {
                self.log.entry(entry.index).or_insert_with(|| entry.clone());
            }
        } else {
            if let Some(first) = write.entries.first() {
                self.damaged.split_off(&first.index);
            }
            append(&mut self.log, &write.entries);
        }
        for entry in write.repairs {
            if self.log.get(&entry.index).is_some_and(|here| here.term == entry.term) {
                self.damaged.remove(&entry.index);
                self.log.insert(entry.index, entry);
            }
        }
        for part in write.parts {
            if part.offset == 0 {
                self.partial = Some((part.snapshot.clone(), Vec::new()));
            }
            let (snapshot, bytes) = self.partial.as_mut().expect("begins at 0");
            assert_eq!((&*snapshot, bytes.len() as u64), (&part.snapshot, part.offset));
            bytes.extend_from_slice(&part.data);
        }
    }

    /// Drops the log up to `index`, whose content is in the snapshot.
    pub(crate) fn compact(&mut self, index: u64) {
        assert!(index <= self.snapshot.applied);
        let Some(entry) = self.log.get(&index) else { return };
        self.base = (index, entry.term);
        for (at, membership) in self.memberships() {
            if at <= index {
                self.membership = (at, membership);
            }
        }
        self.log = self.log.split_off(&(index + 1));
        self.damaged = self.damaged.split_off(&(index + 1));
    }

    /// Begins anew from the complete snapshot.
    pub(crate) fn install(&mut self, keeps_tail: bool) -> State {
        let (snapshot, bytes) = self.partial.take().expect("complete");
        let state = State::decode(&bytes);
        assert_eq!(state.applied, snapshot.index);
        if keeps_tail {
            self.log = self.log.split_off(&(snapshot.index + 1));
            self.damaged = self.damaged.split_off(&(snapshot.index + 1));
        } else {
            self.log.clear();
            self.damaged.clear();
        }
        self.base = (snapshot.index, snapshot.term);
        self.membership = (snapshot.index, snapshot.membership);
        self.snapshot = state;
        state
    }

    fn memberships(&self) -> Vec<(u64, Membership)> {
        let mut found = vec![self.membership.clone()];
        for (index, entry) in &self.log {
            if entry.kind == EntryKind::Membership && !self.damaged.contains(index) {
                found.push((*index, Membership::decode(&entry.data).expect("as written")));
            }
        }
        found
    }

    /// What a start finds.
    pub(crate) fn config(&mut self, id: u64, options: &Options, bug: Option<Bug>) -> Config {
        if bug == Some(Bug::TakesDamageForTheEnd)
            && let Some(first) = self.damaged.pop_first()
        {
            self.log.split_off(&first);
            self.damaged.clear();
        }
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for (index, entry) in &self.log {
            if terms.last().is_none_or(|run| run.1 != entry.term) {
                terms.push((*index, entry.term));
            }
        }
        let (last_index, last_term) = self.last();
        let mut hard_state = self.hard_state;
        hard_state.term = hard_state.term.max(last_term);
        hard_state.commit = hard_state.commit.min(last_index);
        let mut memberships = self.memberships();
        if bug == Some(Bug::ForgetsMembership) {
            memberships.truncate(1);
        }
        let damage = |index: &u64| {
            let entry = &self.log[index];
            Damage { index: *index, term: entry.term, kind: entry.kind }
        };
        Config {
            id,
            incarnation: self.incarnation,
            hard_state,
            last_index,
            last_term,
            memberships,
            base_index: self.base.0,
            base_term: self.base.1,
            terms,
            applied: self.snapshot.applied,
            damaged: self.damaged.iter().map(damage).collect(),
            partial_snapshot: self
                .partial
                .as_ref()
                .map(|(snapshot, bytes)| (snapshot.clone(), bytes.len() as u64)),
            options: options.clone(),
            ..Config::default()
        }
    }
}
