//! Terms, votes and campaigns (Raft paper, 5.1, 5.2, 5.4.1; dissertation, 4.2.3 and 9.6).

use bytes::Bytes;

use crate::messages::{Body, Message};
use crate::node::Node;
use crate::quorum::{self, Tally};
use crate::types::{EntryKind, Role};

impl Node {
    /// Stands for election now. A sole voter has won with its own vote. No effect on a leader, nor
    /// on a member that may not lead.
    pub fn campaign(&mut self) {
        if self.role == Role::Leader || !self.may_campaign() {
            return;
        }
        if self.options.lease_reads && !self.alone && self.sticks_to_leader() {
            // The leader relies on this member not to vote against it, not even for itself.
            return;
        }
        if self.alone {
            // Nobody hears of this term before the entry that begins it is durable, and it is in
            // one write with the vote.
            self.become_candidate(false);
            self.become_leader();
        } else if self.options.pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(false);
        }
    }

    /// The connection to the leader broke, as it does when its process ends: stops sticking to it, and
    /// campaigns within a few ticks unless it speaks up. Voters do so one after the other, so that
    /// they need not split their votes. If the leader is well, the others stick to it and refuse.
    /// No effect with leases: they rest on voters that wait for an election timeout.
    pub fn suspect_leader(&mut self) {
        const TICKS_BETWEEN: u32 = 2;
        if self.role == Role::Leader || self.leader == 0 || self.options.lease_reads {
            return;
        }
        let voters = self.history.membership().voters.iter();
        let others = voters.filter(|id| **id != self.leader).position(|id| *id == self.id);
        let Some(rank) = others.and_then(|rank| u32::try_from(rank).ok()) else { return };
        self.heard = self.options.election_ticks;
        let patience = 1 + rank * TICKS_BETWEEN;
        self.elapsed = self.elapsed.max(self.timeout.saturating_sub(patience));
    }

    /// A voter may. So may one whose removal is not known to be committed: its vote may be what the
    /// others lack (dissertation, 4.2.2).
    pub(crate) fn may_campaign(&self) -> bool {
        let removed_perhaps = self.history.index() > self.hard_state.commit
            && self.history.previous().is_some_and(|membership| self.votes_in(membership));
        (self.votes_in(self.history.membership()) || removed_perhaps)
            && !self.knows_too_little()
            && !self.is_installing()
    }

    pub(crate) fn draw_timeout(&mut self) {
        let ticks = self.options.election_ticks;
        // Who has something to be repaired lets others go first.
        let patience = if self.log.damaged.is_empty() { 0 } else { ticks };
        // Alone, there is nobody to collide with.
        let chance = if self.alone { 0 } else { self.random.below(ticks) };
        self.timeout = ticks + patience + chance;
    }

    /// Follows `leader` (0: nobody yet) in `term`.
    pub(crate) fn become_follower(&mut self, term: u64, leader: u64) {
        assert!(term >= self.hard_state.term, "terms never go back");
        let led = self.role == Role::Leader;
        let news = term > self.hard_state.term || leader != self.leader;
        if term > self.hard_state.term {
            self.set_term(term, 0);
        }
        if led {
            self.verified = self.hard_state.commit;
            self.stop_leading();
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.votes.clear();
        if news {
            self.fail_forwarded_reads();
        }
        if led || leader != 0 {
            self.elapsed = 0;
            self.draw_timeout();
        }
    }

    fn become_pre_candidate(&mut self) {
        assert_ne!(self.role, Role::Leader);
        self.fail_forwarded_reads();
        self.role = Role::PreCandidate;
        self.leader = 0;
        self.begin_votes();
        self.request_votes(true, false);
        self.vote_for_self();
    }

    fn become_candidate(&mut self, transfer: bool) {
        assert_ne!(self.role, Role::Leader);
        self.fail_forwarded_reads();
        self.role = Role::Candidate;
        self.leader = 0;
        self.set_term(self.hard_state.term + 1, self.id);
        self.begin_votes();
        if !self.alone {
            self.request_votes(false, transfer);
        }
    }

    fn begin_votes(&mut self) {
        self.elapsed = 0;
        self.draw_timeout();
        self.votes.clear();
    }

    fn request_votes(&mut self, pre: bool, transfer: bool) {
        let term = self.hard_state.term + u64::from(pre);
        let (last_index, last_term) = (self.log.last_index, self.log.last_term);
        let membership = self.history.membership();
        let all = membership.members().into_iter();
        let voters: Vec<u64> = all.filter(|id| membership.is_voter(*id)).collect();
        for voter in voters {
            if voter != self.id {
                let body = Body::VoteRequest { pre, last_index, last_term, transfer };
                self.send_in_term(voter, term, body);
            }
        }
    }

    /// Term and vote are durable, perhaps: then the own vote counts.
    pub(crate) fn count_own_vote(&mut self) {
        if self.hard_state_is_durable() {
            self.vote_for_self();
        }
    }

    fn vote_for_self(&mut self) {
        if self.votes_in(self.history.membership()) {
            self.record_vote(self.id, true);
        } else {
            self.decide_election();
        }
    }

    fn record_vote(&mut self, from: u64, granted: bool) {
        if self.votes.iter().all(|(voter, _)| *voter != from) {
            self.votes.push((from, granted));
        }
        self.decide_election();
    }

    fn decide_election(&mut self) {
        let answer = |id| self.votes.iter().find(|vote| vote.0 == id).map(|vote| vote.1);
        match (quorum::tally(self.history.membership(), answer), self.role) {
            (Tally::Won, Role::PreCandidate) => self.become_candidate(false),
            // Without a vote of one's own, too: term and vote have to be durable.
            (Tally::Won, Role::Candidate) if self.hard_state_is_durable() => self.become_leader(),
            (Tally::Lost, _) => self.become_follower(self.hard_state.term, 0),
            _ => {}
        }
    }

    fn become_leader(&mut self) {
        assert_eq!(self.role, Role::Candidate);
        assert_eq!(self.hard_state.vote, self.id);
        self.role = Role::Leader;
        self.leader = self.id;
        self.votes.clear();
        self.start_leading();
        // Entries of former terms commit only behind one of this term (Raft paper, 5.4.2).
        self.append(EntryKind::Normal, Bytes::new());
    }

    /// Whether a leader may rely on this member not to vote against it.
    fn sticks_to_leader(&self) -> bool {
        self.options.check_quorum
            && (self.role == Role::Leader || self.heard < self.options.election_ticks)
    }

    /// Compares terms (Raft paper, 5.1). Whether there is anything left to do with the message.
    pub(crate) fn accept_term(&mut self, message: &Message) -> bool {
        if let Body::VoteRequest { transfer: false, .. } = message.body
            && message.term >= self.hard_state.term
            && self.sticks_to_leader()
        {
            return false;
        }
        let hypothetical = matches!(
            message.body,
            Body::VoteRequest { pre: true, .. } | Body::VoteResponse { pre: true, granted: true }
        );
        if message.term < self.hard_state.term {
            self.answer_stale(message);
            return false;
        }
        if message.term > self.hard_state.term && !hypothetical {
            self.become_follower(message.term, 0);
        }
        true
    }

    fn answer_stale(&mut self, message: &Message) {
        let body = match message.body {
            Body::VoteRequest { pre, .. } => Body::VoteResponse { pre, granted: false },
            _ if message.body.is_leaders() => Body::StaleTerm,
            _ => return,
        };
        self.send(message.from, body);
    }

    /// Only this term's leader speaks so.
    pub(crate) fn hear_leader(&mut self, from: u64) {
        assert_ne!(self.role, Role::Leader, "one leader in a term (Election Safety)");
        assert!(self.leader == 0 || self.leader == from, "one leader in a term (Election Safety)");
        self.heard = 0;
        self.elapsed = 0;
        if self.role != Role::Follower || self.leader != from {
            self.become_follower(self.hard_state.term, from);
        }
    }

    pub(crate) fn handle_vote_request(
        &mut self,
        from: u64,
        term: u64,
        pre: bool,
        (last_index, last_term): (u64, u64),
    ) {
        let current = (last_term, last_index) >= (self.log.last_term, self.log.last_index);
        let free = match pre {
            true => term > self.hard_state.term,
            false => {
                let vote = self.hard_state.vote;
                vote == from || (vote == 0 && self.leader == 0)
            }
        };
        let granted = current && free;
        if granted && !pre {
            if self.hard_state.vote == 0 {
                self.set_term(self.hard_state.term, from);
            }
            self.elapsed = 0;
        }
        let term = if granted { term } else { self.hard_state.term };
        self.send_in_term(from, term, Body::VoteResponse { pre, granted });
    }

    pub(crate) fn handle_vote_response(
        &mut self,
        from: u64,
        incarnation: u64,
        pre: bool,
        granted: bool,
    ) {
        let expected = if pre { Role::PreCandidate } else { Role::Candidate };
        let known = self.history.membership().incarnation(from) == incarnation;
        if self.role == expected && known {
            self.record_vote(from, granted);
        }
    }

    /// The leader asks this member to take over (dissertation, 3.10).
    pub(crate) fn handle_timeout_now(&mut self) {
        if self.role != Role::Leader && self.may_campaign() {
            self.become_candidate(true);
        }
    }
}
