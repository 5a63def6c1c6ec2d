//! One member's state: what it knows, what it has promised, what it wants done.

use std::collections::BTreeMap;

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
use crate::types::{Config, Entry, EntryKind, HardState, Peer, Ready, Role};
use crate::writes::Writes;

/// Terms grow by one per election, so greater ones are nonsense; below, there is no overflow.
const TERM_MAX: u64 = u64::MAX >> 1;

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

impl Node {
    /// A member that starts, or starts again, with what its disk holds.
    pub fn new(config: Config) -> Node {
        assert!(config.id != 0, "0 means nobody");
        assert!(config.hard_state.commit <= config.last_index);
        assert!(config.last_term <= config.hard_state.term);
        config.options.check();
        let terms_missing = config.terms.is_empty() && config.last_index > config.base_index;
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
        assert!(node.alone || !terms_missing, "others may have other entries: terms are needed");
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

    /// Whether this member is the only one and has nobody to talk to.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether [`propose`](Node::propose) would take something now.
    pub fn may_propose(&self) -> Result<(), ProposeError> {
        self.check_proposal()
    }

    /// Term, vote and commit index as they are now, durable or not.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
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

    /// In force at an entry; `None` for one before all that is known.
    pub fn membership_at(&self, index: u64) -> Option<&Membership> {
        self.history.at(index)
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
        if message.term > TERM_MAX {
            return Err(StepError::Malformed { from });
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
                // Old answers to other questions do not count.
                if !pre || !granted || message.term == self.hard_state.term + 1 {
                    self.handle_vote_response(from, message.incarnation, pre, granted);
                }
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

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: u64) {
        assert!(index <= self.hard_state.commit, "applied before it was committed");
        self.applied = self.applied.max(index);
    }

    /// The owner has a snapshot of everything up to `index`, and would like to drop the log up to
    /// there. Whether it may: a member that joined does not know who its cluster was before the
    /// entry that it was added by, and could give nobody a snapshot from before that.
    #[must_use]
    pub fn compact(&mut self, index: u64) -> bool {
        assert!(index <= self.hard_state.commit, "only what is committed is part of a snapshot");
        assert!(index <= self.log.durable, "a log is compacted on the disk");
        if self.history.at(index).is_none_or(Membership::is_empty) {
            return false;
        }
        self.log.compact(index);
        self.history.compact(index);
        true
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
        self.writes.truncate(index);
        self.cut_repairs(index);
        self.acknowledged = self.acknowledged.min(index - 1);
        if self.history.truncate(index) {
            self.note_membership();
        }
    }

    /// The membership in force is another one.
    pub(crate) fn note_membership(&mut self) {
        let membership = self.history.membership();
        self.alone = membership.members() == [self.id]
            && !membership.is_joint()
            && membership.incarnation(self.id) == self.incarnation;
        self.out.membership = Some(Box::new(membership.clone()));
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

    /// What a leader knows of its peers, by id.
    pub fn peers(&self) -> BTreeMap<u64, Peer> {
        self.leading.peers.iter().map(|(id, progress)| (*id, progress.summary())).collect()
    }
}
