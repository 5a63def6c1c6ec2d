//! One member: its cores, the messages between them, and a disk that is a list.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mainstay_raft::{
    Config, EntriesWanted, EntryKind, HardState, Install, Membership, SnapshotWanted,
};

use super::super::*;
use crate::log::replay::Reached;
use crate::mvcc::Lookup;
use crate::peer::PeerMessage;
use crate::placement;
use crate::restored::{Restart, State};
use crate::sequencer::{LogEntry, LogWrite};

/// What a crash leaves.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<LogEntry>,
    /// The state that the log goes on from.
    pub(super) snapshot: Option<Snapshot>,
}

/// A state as a whole.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    pub(super) reached: Reached,
    pub(super) records: Vec<Record>,
    pub(super) leases: Vec<(LeaseId, i64)>,
    pub(super) documents: BTreeMap<bytes::Bytes, bytes::Bytes>,
    pub(super) membership: Vec<(u64, Membership)>,
}

impl Snapshot {
    pub(super) fn state(&self, cores: usize) -> State {
        let mut state = State::new(cores);
        for record in &self.records {
            let shard = placement::shard_of(placement::hash(record.key()), cores);
            state.shards[shard].restore(record.clone(), 0);
        }
        for &(id, ttl) in &self.leases {
            let control = Control::LeaseGrant { id, ttl };
            apply_control(&mut state, &control);
        }
        state.rest.documents.clone_from(&self.documents);
        if self.reached.index > 0 {
            apply_control(&mut state, &Control::Compact { revision: self.reached.revision });
        }
        state.shards.iter_mut().for_each(|shard| shard.settle(self.reached.revision));
        state
    }
}

fn apply_control(state: &mut State, control: &Control) {
    state.shards.iter_mut().for_each(|shard| shard.apply_control(control));
    state.rest.leases.apply(control, 0);
    match control {
        Control::Document { name, content } => {
            state.rest.documents.insert(name.clone(), content.clone());
        }
        Control::Compact { revision } => {
            state.rest.compacted = state.rest.compacted.max(*revision);
        }
        _ => {}
    }
}

impl Disk {
    /// The log's end.
    pub(super) fn last(&self) -> Reached {
        let begin = self.begin();
        self.entries.last().map_or(begin, |last| Reached {
            index: last.index,
            term: last.term,
            revision: last.revision_after,
        })
    }

    fn begin(&self) -> Reached {
        let empty = Reached { revision: 1, ..Reached::default() };
        self.snapshot.as_ref().map_or(empty, |snapshot| snapshot.reached)
    }

    pub(super) fn write(&mut self, write: LogWrite) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        for mut entry in write.entries {
            entry.staged = None;
            self.entries.retain(|known| known.index < entry.index);
            assert_eq!(entry.index, self.last().index + 1, "the log has a gap");
            assert_eq!(entry.revision_before, self.last().revision);
            self.entries.push(entry);
        }
    }

    pub(super) fn read(&self, from: u64, to: u64) -> Vec<LogEntry> {
        let wanted = |entry: &&LogEntry| (from..=to).contains(&entry.index);
        self.entries.iter().filter(wanted).take(5).cloned().collect()
    }

    /// Keeps nothing that a snapshot holds.
    pub(super) fn compact(&mut self, snapshot: Snapshot) {
        self.entries.retain(|entry| entry.index > snapshot.reached.index);
        self.snapshot = Some(snapshot);
    }

    /// What raft goes on from, and the state up to what was known to be committed.
    fn recover(&self, id: u64, voters: &[u64], cores: usize, seed: u64) -> (State, Restart) {
        let begin = self.begin();
        let mut state = self.snapshot.clone().unwrap_or_default().state(cores);
        let mut memberships = match &self.snapshot {
            Some(snapshot) => snapshot.membership.clone(),
            None => vec![(0, Membership::of_voters(voters))],
        };
        for entry in self.entries.iter().filter(|entry| entry.kind == EntryKind::Membership) {
            let membership = Membership::decode(&entry.payload).expect("it was encoded");
            memberships.push((entry.index, membership));
        }
        let alone = memberships.last().is_some_and(|(_, newest)| newest.members() == [id]);
        let last = self.last();
        let applied = if alone { last.index } else { self.hard_state.commit.max(begin.index) };
        let (mut revision, mut terms) = (begin.revision, Vec::new());
        for entry in &self.entries {
            if terms.last().is_none_or(|&(_, term)| term != entry.term) {
                terms.push((entry.index, entry.term));
            }
            if entry.index > applied {
                continue;
            }
            revision = entry.revision_after;
            let batch = entry.batch().expect("it was encoded");
            for item in &batch.items {
                match item {
                    Item::Effect(effect) => {
                        for change in &effect.changes {
                            let record = change.record.clone();
                            let hash = placement::hash(record.key());
                            state.shards[placement::shard_of(hash, cores)].install(record);
                        }
                    }
                    Item::Deletion(_) => unreachable!("the log has effects"),
                    Item::Control(control) => apply_control(&mut state, control),
                }
            }
            state.shards.iter_mut().for_each(|shard| shard.settle(batch.revision_after));
        }
        let config = Config {
            id,
            voters: voters.to_vec(),
            hard_state: HardState {
                commit: applied.max(self.hard_state.commit),
                ..self.hard_state
            },
            last_index: last.index,
            last_term: last.term,
            memberships,
            base_index: begin.index,
            base_term: begin.term,
            terms,
            applied,
            seed,
            options: mainstay_raft::Options { cache_bytes: 400, ..Default::default() },
            ..Config::default()
        };
        let pending = self.entries.iter().filter(|entry| entry.index > applied);
        (state, Restart { config, revision, pending: pending.cloned().collect() })
    }
}

pub(super) struct Machine {
    pub(super) id: u64,
    pub(super) replicas: Vec<Replica>,
    pub(super) shared: Arc<Shared>,
    /// By origin and destination; in order.
    pub(super) queues: Vec<Vec<VecDeque<Message>>>,
    /// Not durable yet, in order.
    pub(super) writes: VecDeque<LogWrite>,
    pub(super) disk: Disk,
    pub(super) heavy: VecDeque<Heavy>,
    pub(super) lookups: Vec<(usize, u64, Vec<Lookup>)>,
    pub(super) entries_wanted: Vec<EntriesWanted>,
    pub(super) snapshots_wanted: Vec<SnapshotWanted>,
    pub(super) install: Option<Box<Install>>,
    pub(super) received: Vec<u8>,
    pub(super) asked: HashMap<(usize, Token), Asked>,
    pub(super) next_token: Token,
    pub(super) paused: bool,
}

/// A request that was not answered, and what had been answered anywhere before it began.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) floor: Revision,
    pub(super) at_ms: u64,
}

impl Machine {
    /// Starts with what the disk holds.
    pub(super) fn start(
        id: u64,
        voters: &[u64],
        disk: Disk,
        cores: usize,
        (seed, now_ms): (u64, u64),
    ) -> Machine {
        let (state, restart) = disk.recover(id, voters, cores, seed);
        let State { shards, rest } = state;
        let (index, term, revision) =
            (restart.config.applied, restart.config.last_term, restart.revision);
        let compacted = rest.compacted;
        let mut member = rest.into_member(cores, restart);
        member.set_rules(Rules {
            request_timeout_ms: super::TIMEOUT_MS,
            election_ms: 100,
            initial_ticks: 8,
            strict_reconfig: false,
            max_learners: 1,
        });
        let shared = Arc::new(Shared::new(cores, revision, compacted, index));
        shared.set_committed(revision, index, term);
        member.introduce(&shared);
        member.start(now_ms);
        let mut member = Some(member);
        let replicas = shards.into_iter().enumerate().map(|(core, shard)| {
            let hub = WatchHub::with_ring_bytes(revision, compacted, 2_000);
            let member = if core == 0 { member.take() } else { None };
            Replica::new(core, cores, Arc::clone(&shared), shard, hub, member, index)
        });
        Machine {
            id,
            replicas: replicas.collect(),
            shared: Arc::clone(&shared),
            queues: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            writes: VecDeque::new(),
            disk,
            heavy: VecDeque::new(),
            lookups: Vec::new(),
            entries_wanted: Vec::new(),
            snapshots_wanted: Vec::new(),
            install: None,
            received: Vec::new(),
            asked: HashMap::new(),
            next_token: 1,
            paused: false,
        }
    }

    pub(super) fn member(&self) -> &Member {
        self.replicas[0].member().expect("core 0 has it")
    }

    /// Lets a core act. Gives what the world has to look after.
    pub(super) fn drive<R>(
        &mut self,
        core: usize,
        act: impl FnOnce(&mut Replica, &mut Output) -> R,
    ) -> Outside {
        let mut out = Output::default();
        act(&mut self.replicas[core], &mut out);
        for batch in &out.commits {
            for other in (0..self.replicas.len()).filter(|&other| other != core) {
                self.queues[core][other].push_back(Message::Committed(Arc::clone(batch)));
            }
        }
        for (to, message) in out.messages {
            self.queues[core][to].push_back(message);
        }
        self.heavy.extend(out.heavy);
        let lookups = out.lookups.into_iter().map(|(id, lookups)| (core, id, lookups));
        self.lookups.extend(lookups);
        self.writes.extend(out.writes);
        self.entries_wanted.extend(out.entries_wanted);
        self.snapshots_wanted.extend(out.snapshots_wanted);
        self.install = out.install.or(self.install.take());
        Outside { commits: out.commits, peer: out.peer, answers: out.answers }
    }

    /// Does the oldest writes, `count` of them, and gives the number of the newest.
    pub(super) fn do_writes(&mut self, count: usize) -> Option<u64> {
        let mut newest = None;
        for write in self.writes.drain(..count) {
            if write.number > 0 {
                newest = Some(write.number);
            }
            for part in &write.snapshot_parts {
                self.received.truncate(part.offset as usize);
                self.received.extend_from_slice(&part.data);
            }
            self.disk.write(write);
        }
        newest
    }
}

pub(super) struct Outside {
    pub(super) commits: Vec<SharedBatch>,
    pub(super) peer: Vec<(u64, PeerMessage)>,
    pub(super) answers: Vec<(Token, crate::message::Outcome)>,
}
