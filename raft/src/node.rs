//! One member's state: what it knows, what it has promised, what it wants done.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::error::{ProposeError, StepError};
use crate::leader::Leading;
use crate::log::Log;
use crate::membership::{History, Membership};
use crate::messages::{Body, Message};
use crate::options::Options;
use crate::quorum;
use crate::random::Random;
use crate::read_index::Reads;
use crate::repair::Repairs;
use crate::snapshot::Receiving;
use crate::types::{Config, Entry, EntryKind, HardState, Ready, Role};

/// Messages that wait for term and vote to be durable. Any message may be lost, so beyond this
/// many they are.
const WITHHELD: usize = 1024;

/// A member of a cluster.
#[derive(Debug)]
pub struct Node {
    pub(crate) id: u64,
    pub(crate) incarnation: u64,
    pub(crate) options: Options,
    pub(crate) random: Random,
    pub(crate) role: Role,
    pub(crate) hard_state: HardState,
    /// Of this term; 0 if unknown.
    pub(crate) leader: u64,
    pub(crate) log: Log,
    pub(crate) history: History,
    /// The only voter, and nobody else to talk to.
    pub(crate) alone: bool,
    pub(crate) applied: u64,
    /// Ticks since the start, and a bit: 0 stands for never.
    pub(crate) now: u64,
    /// Ticks since a leader spoke.
    pub(crate) heard: u32,
    /// Ticks since a leader spoke, a vote was given, or a campaign began.
    pub(crate) elapsed: u32,
    /// How many of those make a campaign.
    pub(crate) timeout: u32,
    /// Who answered this campaign, and what.
    pub(crate) votes: Vec<(u64, bool)>,
    /// Own log equals the log of this term's leader up to here.
    pub(crate) verified: u64,
    /// What the leader was told to be durable.
    pub(crate) acknowledged: u64,
    pub(crate) leading: Leading,
    pub(crate) reads: Reads,
    pub(crate) receiving: Option<Receiving>,
    pub(crate) repairs: Repairs,
    pub(crate) writes: Writes,
    /// Collected until the owner takes it.
    pub(crate) out: Ready,
}

/// What the owner was asked to make durable.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// The newest that was asked for, and the newest that is done.
    pub(crate) newest: u64,
    pub(crate) done: u64,
    /// Term or vote changed since the newest.
    pub(crate) hard_state_changed: bool,
    /// The one that holds term and vote as they are.
    hard_state: u64,
    pending: VecDeque<Write>,
    /// To be sent when the write of this number is done.
    withheld: VecDeque<(u64, Message)>,
}

#[derive(Debug)]
struct Write {
    number: u64,
    /// The log's end with it.
    last_index: u64,
    repaired: Vec<u64>,
    snapshot_bytes: u64,
}

impl Node {
    /// A member that starts, or starts again, with what its disk holds.
    pub fn new(config: Config) -> Node {
        assert!(config.id != 0, "0 means nobody");
        assert!(config.hard_state.commit <= config.last_index);
        assert!(config.last_term <= config.hard_state.term);
        config.options.check();
        let base = (config.base_index, config.base_term);
        let last = (config.last_index, config.last_term);
        let log = Log::new(base, config.terms, last, config.options.cache_bytes);
        let memberships = match config.memberships.is_empty() {
            true => vec![(0, Membership::of_voters(&config.voters))],
            false => config.memberships,
        };
        let mut hard_state = config.hard_state;
        hard_state.commit = hard_state.commit.max(config.base_index).max(config.applied);
        let mut node = Node {
            id: config.id,
            incarnation: config.incarnation,
            random: Random::new(config.seed ^ config.id.wrapping_mul(0x9e37_79b9)),
            role: Role::Follower,
            hard_state,
            leader: 0,
            log,
            history: History::new(memberships),
            alone: false,
            applied: config.applied,
            now: u64::from(config.options.election_ticks) + 1,
            // A leader may still rely on what this member promised before it stopped.
            heard: match config.options.lease_reads && hard_state.term > 0 {
                true => 0,
                false => config.options.election_ticks,
            },
            elapsed: 0,
            timeout: 0,
            votes: Vec::new(),
            verified: hard_state.commit,
            acknowledged: 0,
            leading: Leading::default(),
            reads: Reads::default(),
            receiving: config.partial_snapshot.map(Receiving::resumed),
            repairs: Repairs::default(),
            writes: Writes::default(),
            out: Ready::default(),
            options: config.options,
        };
        node.reads = Reads::new(&mut node.random);
        for damage in config.damaged {
            node.damaged(damage);
        }
        node.note_membership();
        node.out.membership = None;
        node.draw_timeout();
        node
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn term(&self) -> u64 {
        self.hard_state.term
    }

    /// The leader as far as this member knows; 0 for none.
    pub fn leader(&self) -> u64 {
        self.leader
    }

    pub fn last_index(&self) -> u64 {
        self.log.last_index
    }

    pub fn commit(&self) -> u64 {
        self.hard_state.commit
    }

    /// In force: the newest in the log, committed or not.
    pub fn membership(&self) -> &Membership {
        self.history.membership()
    }

    /// The term of an entry; `None` for one that is not in the log or was compacted.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.log.term_at(index)
    }

    /// A unit of time passed; how long it is, is the owner's business.
    pub fn tick(&mut self) {
        self.now += 1;
        self.heard = self.heard.saturating_add(1);
        if self.role == Role::Leader {
            self.tick_leader();
            return;
        }
        self.expire_forwarded_reads();
        self.elapsed = self.elapsed.saturating_add(1);
        if self.elapsed >= self.timeout && self.may_campaign() {
            self.campaign();
        }
    }

    /// A message from `from`, as the connection that brought it says.
    pub fn step(&mut self, from: u64, message: Message) -> Result<(), StepError> {
        if message.to != self.id {
            return Err(StepError::WrongRecipient { to: message.to });
        }
        if message.from != from || from == self.id || from == 0 {
            return Err(StepError::WrongSender { from, claimed: message.from });
        }
        if !self.accept_term(&message) {
            return Ok(());
        }
        if message.body.is_leaders() {
            self.hear_leader(from);
        }
        self.dispatch(message)
    }

    fn dispatch(&mut self, message: Message) -> Result<(), StepError> {
        let from = message.from;
        match message.body {
            Body::VoteRequest { pre, last_index, last_term, transfer: _ } => {
                self.handle_vote_request(from, message.term, pre, (last_index, last_term));
            }
            Body::VoteResponse { pre, granted } => {
                self.handle_vote_response(from, message.incarnation, pre, granted);
            }
            Body::Append { prev_index, prev_term, entries, commit } => {
                return self.handle_append(from, (prev_index, prev_term), entries, commit);
            }
            Body::Heartbeat { round, tick, commit } => {
                self.handle_heartbeat(from, round, tick, commit);
            }
            Body::TimeoutNow => self.handle_timeout_now(),
            // The term was all it had to say.
            Body::StaleTerm => {}
            Body::ReadRequest { context } => self.handle_read_request(from, context),
            Body::ReadResponse { context, index } => self.handle_read_response(context, index),
            Body::SnapshotPart(part) => return self.handle_snapshot_part(from, part),
            Body::RepairRequest { index, entry_term } => {
                self.handle_repair_request(from, index, entry_term);
            }
            Body::RepairResponse { index, entry_term, answer } => {
                return self.handle_repair_response(from, index, entry_term, answer);
            }
            body @ (Body::AppendResponse { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatResponse { .. }
            | Body::SnapshotResponse { .. }) => {
                self.handle_peer(from, message.incarnation, body);
            }
        }
        Ok(())
    }

    /// Appends `data` to the log, to be committed. Gives its index.
    pub fn propose(&mut self, data: Bytes) -> Result<u64, ProposeError> {
        self.check_proposal()?;
        assert!(!data.is_empty(), "empty entries are raft's own");
        self.append(EntryKind::Normal, data);
        Ok(self.log.last_index)
    }

    pub(crate) fn append(&mut self, kind: EntryKind, data: Bytes) {
        assert_eq!(self.role, Role::Leader);
        let index = self.log.last_index + 1;
        self.leading.note_uncommitted(data.len());
        let entry = Entry { index, term: self.hard_state.term, kind, data };
        let cache = !self.alone || !self.leading.peers.is_empty();
        self.log.append(entry, cache);
    }

    /// Takes what is to be done now.
    pub fn ready(&mut self) -> Ready {
        if self.role == Role::Leader && !self.leading.peers.is_empty() {
            self.speak();
        }
        let mut ready = std::mem::take(&mut self.out);
        ready.entries = std::mem::take(&mut self.log.unsent);
        ready.commit = match self.log.damaged.first_key_value() {
            Some((damaged, _)) => self.hard_state.commit.min(damaged - 1),
            None => self.hard_state.commit,
        };
        let changed = std::mem::take(&mut self.writes.hard_state_changed);
        if changed
            || !ready.entries.is_empty()
            || !ready.repairs.is_empty()
            || !ready.snapshot_parts.is_empty()
        {
            self.writes.newest += 1;
            ready.write = self.writes.newest;
            self.writes.pending.push_back(Write {
                number: ready.write,
                last_index: self.log.last_index,
                repaired: ready.repairs.iter().map(|entry| entry.index).collect(),
                snapshot_bytes: self.receiving.as_ref().map_or(0, |part| part.queued),
            });
        }
        if changed {
            self.writes.hard_state = ready.write;
            ready.hard_state = Some(self.hard_state);
        }
        ready
    }

    /// Everything that was asked for up to the write of this number is durable. Gives the commit
    /// index, which may have moved.
    pub fn written(&mut self, number: u64) -> u64 {
        assert!(number <= self.writes.newest, "durable before it was asked for");
        while self.writes.pending.front().is_some_and(|write| write.number <= number)
            && let Some(write) = self.writes.pending.pop_front()
        {
            self.log.durable = self.log.durable.max(write.last_index);
            for index in write.repaired {
                self.repaired(index);
            }
            self.snapshot_bytes_written(write.snapshot_bytes);
        }
        self.writes.done = self.writes.done.max(number);
        self.release_withheld();
        self.after_write();
        self.hard_state.commit
    }

    /// A member that is alone: its log is durable up to `index`. Gives the commit index, which may
    /// have moved. With others, logs are cut off and written again, and only [`Node::written`] can
    /// tell one entry from another at the same index.
    pub fn persisted(&mut self, index: u64) -> u64 {
        assert!(self.alone, "with other members, report writes by their numbers");
        assert!(index <= self.log.last_index, "durable before it was appended");
        assert!(index >= self.log.durable, "the durable log never shrinks under one leader");
        while self.writes.pending.front().is_some_and(|write| write.last_index <= index)
            && let Some(write) = self.writes.pending.pop_front()
        {
            self.writes.done = write.number;
        }
        self.log.durable = index;
        if self.role == Role::Leader {
            self.advance_commit();
        }
        self.hard_state.commit
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: u64) {
        assert!(index <= self.hard_state.commit, "applied before it was committed");
        self.applied = self.applied.max(index);
    }

    /// The owner has a snapshot of everything up to `index`, and drops the log up to there.
    pub fn compact(&mut self, index: u64) {
        assert!(index <= self.hard_state.commit, "only what is committed is part of a snapshot");
        assert!(index <= self.log.durable, "a log is compacted on the disk");
        self.log.compact(index);
        self.history.compact(index);
    }

    fn after_write(&mut self) {
        match self.role {
            Role::Leader => self.advance_commit(),
            // A vote counts when it can't be forgotten any more, one's own too.
            Role::Candidate => self.count_own_vote(),
            Role::Follower | Role::PreCandidate => self.acknowledge(),
        }
    }

    /// Sends, as soon as term and vote are durable: whatever a member says, it says as somebody who
    /// will remember its term.
    pub(crate) fn send(&mut self, to: u64, body: Body) {
        self.send_in_term(to, self.hard_state.term, body);
    }

    pub(crate) fn send_in_term(&mut self, to: u64, term: u64, body: Body) {
        assert_ne!(to, self.id);
        let message = Message { from: self.id, to, term, incarnation: self.incarnation, body };
        let needed = self.write_of_hard_state();
        if needed <= self.writes.done {
            self.out.messages.push(message);
        } else if self.writes.withheld.len() < WITHHELD {
            self.writes.withheld.push_back((needed, message));
        }
    }

    fn write_of_hard_state(&self) -> u64 {
        match self.writes.hard_state_changed {
            true => self.writes.newest + 1,
            false => self.writes.hard_state,
        }
    }

    pub(crate) fn hard_state_is_durable(&self) -> bool {
        self.write_of_hard_state() <= self.writes.done
    }

    fn release_withheld(&mut self) {
        while self.writes.withheld.front().is_some_and(|(needed, _)| *needed <= self.writes.done)
            && let Some((_, message)) = self.writes.withheld.pop_front()
        {
            self.out.messages.push(message);
        }
    }

    pub(crate) fn set_term(&mut self, term: u64, vote: u64) {
        assert!(term > self.hard_state.term || self.hard_state.vote == 0, "one vote in a term");
        if term > self.hard_state.term {
            // Another term's leader has another log; what is committed is in all of them.
            self.verified = self.hard_state.commit;
            self.acknowledged = 0;
        }
        self.hard_state.term = term;
        self.hard_state.vote = vote;
        self.writes.hard_state_changed = true;
    }

    /// Moves the commit index forward; it never moves back.
    pub(crate) fn commit_to(&mut self, index: u64) {
        assert!(index <= self.log.last_index, "committed before it was appended");
        if index > self.hard_state.commit {
            self.hard_state.commit = index;
        }
    }

    /// Drops `index` and everything behind it: a leader had others (Raft paper, 5.3).
    pub(crate) fn truncate(&mut self, index: u64) {
        assert_ne!(self.role, Role::Leader, "a leader only appends");
        assert!(index > self.hard_state.commit, "a committed entry would be replaced");
        self.log.truncate(index);
        // Writes that are under way no longer say anything about what they cut.
        for write in &mut self.writes.pending {
            write.last_index = write.last_index.min(index - 1);
            write.repaired.retain(|repaired| *repaired < index);
        }
        self.cut_repairs(index);
        self.acknowledged = self.acknowledged.min(index - 1);
        if self.history.truncate(index) {
            self.note_membership();
        }
    }

    /// Nothing that is under way says anything about the log any more.
    pub(crate) fn forget_log_writes(&mut self) {
        for write in &mut self.writes.pending {
            write.last_index = 0;
            write.repaired.clear();
        }
    }

    /// Nothing that is under way says anything about the snapshot any more.
    pub(crate) fn forget_snapshot_writes(&mut self) {
        for write in &mut self.writes.pending {
            write.snapshot_bytes = 0;
        }
    }

    /// The membership in force is another one.
    pub(crate) fn note_membership(&mut self) {
        let membership = self.history.membership();
        self.alone = membership.members() == [self.id]
            && !membership.is_joint()
            && membership.incarnation(self.id) == self.incarnation;
        self.out.membership = Some(membership.clone());
    }

    /// Whether this member, in this life, votes according to `membership`.
    pub(crate) fn votes_in(&self, membership: &Membership) -> bool {
        membership.is_voter(self.id) && membership.incarnation(self.id) == self.incarnation
    }

    /// The greatest index that a quorum holds. A leader's own disk is one voter among the others
    /// (dissertation, 10.2.1), and counts for nothing if it is none.
    pub(crate) fn quorum_index(&self) -> u64 {
        if self.alone {
            return self.log.intact();
        }
        let membership = self.history.membership();
        let own = if self.votes_in(membership) { self.log.intact() } else { 0 };
        quorum::reached(membership, |id| match self.leading.peers.get(&id) {
            _ if id == self.id => own,
            Some(progress) => progress.matched,
            None => 0,
        })
    }

    /// Durable indexes of peers, as the leader knows them, by id.
    pub fn peers(&self) -> BTreeMap<u64, u64> {
        self.leading.peers.iter().map(|(id, progress)| (*id, progress.matched)).collect()
    }
}
