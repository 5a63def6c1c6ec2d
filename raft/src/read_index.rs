//! Linearizable reads without a log entry (dissertation, 6.4).
//!
//! **By asking around** (6.4): the leader notes its commit index, and once a quorum has answered a
//! heartbeat sent afterwards, it was still the leader when it noted it. All reads that come between
//! two calls of `ready` share one round of heartbeats. Followers ask the leader for an index.
//!
//! **By lease** (6.4.1), if [`Options::lease_reads`] says so: a quorum that answered a heartbeat
//! will vote for nobody for `election_ticks` of its own ticks after receiving it, so the leader may
//! answer at once for `election_ticks - lease_drift_ticks` of its own ticks after sending it. This
//! assumes that no voter's clock gains more than `lease_drift_ticks - 1` ticks in `election_ticks` on
//! the leader's, and that a process that was stopped ticks for the time it missed before it answers
//! anything. If clocks break that promise, reads may be stale; nothing else depends on it. A member
//! that starts again votes for nobody for `election_ticks`, as it can't know what it promised. A
//! leader that has invited another one to campaign has no lease until its term ends.
//!
//! [`Options::lease_reads`]: crate::Options::lease_reads

use std::collections::VecDeque;

use crate::error::ReadError;
use crate::messages::Body;
use crate::node::Node;
use crate::quorum;
use crate::random::Random;
use crate::types::{ReadState, Role};

/// A read that waits for a quorum.
#[derive(Debug, Clone, Copy)]
struct Pending {
    asker: Asker,
    index: u64,
    /// The heartbeat that has to be answered.
    round: u64,
}

#[derive(Debug, Clone, Copy)]
enum Asker {
    Owner { context: u64 },
    Peer { id: u64, number: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Forwarded {
    number: u64,
    context: u64,
    /// When it was sent: it may be lost.
    tick: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// The newest heartbeat of this term.
    round: u64,
    pending: VecDeque<Pending>,
    /// Those that came before the leader had committed anything in its term.
    waiting: Vec<Asker>,
    /// Sent to the leader, oldest first.
    forwarded: VecDeque<Forwarded>,
    /// Every forwarded read has a number of its own, also across restarts: a late answer to an old
    /// one must not be taken for an answer to a new one.
    next_number: u64,
}

impl Reads {
    pub(crate) fn new(random: &mut Random) -> Reads {
        let number = u64::from(random.below(u32::MAX)) << 32 | u64::from(random.below(u32::MAX));
        Reads { next_number: number, ..Reads::default() }
    }

    fn len(&self) -> usize {
        self.pending.len() + self.waiting.len() + self.forwarded.len()
    }

    pub(crate) fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    pub(crate) fn newest_round(&self) -> u64 {
        self.round
    }

    pub(crate) fn reset_rounds(&mut self) {
        self.round = 0;
    }
}

impl Node {
    /// Asks for an index to read at; the answer comes in [`Ready::reads`] under the same `context`,
    /// or in [`Ready::failed_reads`].
    ///
    /// [`Ready::reads`]: crate::Ready::reads
    /// [`Ready::failed_reads`]: crate::Ready::failed_reads
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadError> {
        let pending = self.reads.len();
        if pending >= self.options.pending_reads {
            return Err(ReadError::TooMany { pending });
        }
        if self.role == Role::Leader {
            self.begin_read(Asker::Owner { context });
            return Ok(());
        }
        if self.leader == 0 {
            return Err(ReadError::NoLeader);
        }
        let number = self.reads.next_number;
        self.reads.next_number = number.wrapping_add(1);
        let tick = self.now;
        self.reads.forwarded.push_back(Forwarded { number, context, tick });
        self.send(self.leader, Body::ReadRequest { context: number });
        Ok(())
    }

    fn begin_read(&mut self, asker: Asker) {
        if !self.has_committed_in_term() {
            // Whether the commit index is the newest is not known before (6.4, step 1).
            self.reads.waiting.push(asker);
        } else if self.is_sole_voter() || self.holds_lease() {
            self.answer_read(asker, self.hard_state.commit);
        } else {
            let (index, round) = (self.hard_state.commit, self.reads.round + 1);
            self.reads.pending.push_back(Pending { asker, index, round });
            self.leading.beat = true;
        }
    }

    fn is_sole_voter(&self) -> bool {
        let membership = self.history.membership();
        membership.voters == [self.id] && !membership.is_joint() && self.votes_in(membership)
    }

    /// The first entry of this term is committed.
    pub(crate) fn release_waiting_reads(&mut self) {
        for asker in std::mem::take(&mut self.reads.waiting) {
            self.begin_read(asker);
        }
    }

    fn answer_read(&mut self, asker: Asker, index: u64) {
        match asker {
            Asker::Owner { context } => self.out.reads.push(ReadState { context, index }),
            Asker::Peer { id, number } => {
                self.send(id, Body::ReadResponse { context: number, index });
            }
        }
    }

    /// Answers what a quorum has confirmed by now.
    pub(crate) fn confirm_reads(&mut self) {
        if self.reads.pending.is_empty() {
            return;
        }
        let own = self.reads.round;
        let confirmed = self.quorum_of(own, |round, _| round);
        while let Some(read) = self.reads.pending.pop_front_if(|read| read.round <= confirmed) {
            self.answer_read(read.asker, read.index);
        }
    }

    /// The greatest number that a quorum has, of heartbeat rounds or of ticks.
    fn quorum_of(&self, own: u64, number: impl Fn(u64, u64) -> u64) -> u64 {
        quorum::reached(self.history.membership(), |id| match self.leading.peers.get(&id) {
            _ if id == self.id => own,
            Some(progress) => number(progress.round, progress.tick),
            None => 0,
        })
    }

    fn holds_lease(&self) -> bool {
        let ticks = self.options.election_ticks - self.options.lease_drift_ticks;
        self.options.lease_reads
            && !self.leading.blessed_another
            && self.now < self.quorum_of(self.now, |_, tick| tick) + u64::from(ticks)
    }

    pub(crate) fn handle_read_request(&mut self, from: u64, number: u64) {
        if self.role == Role::Leader && self.reads.len() < self.options.pending_reads {
            self.begin_read(Asker::Peer { id: from, number });
        }
    }

    pub(crate) fn handle_read_response(&mut self, number: u64, index: u64) {
        let forwarded = &mut self.reads.forwarded;
        let Some(place) = forwarded.iter().position(|read| read.number == number) else { return };
        if let Some(Forwarded { context, .. }) = forwarded.remove(place) {
            self.out.reads.push(ReadState { context, index });
        }
    }

    /// Another leader, or none: what was asked of the last one will not be answered.
    pub(crate) fn fail_forwarded_reads(&mut self) {
        let failed = self.reads.forwarded.drain(..).map(|read| read.context);
        self.out.failed_reads.extend(failed);
    }

    /// What the leader has not answered for two election timeouts, it never will.
    pub(crate) fn expire_forwarded_reads(&mut self) {
        let patience = 2 * u64::from(self.options.election_ticks);
        let now = self.now;
        let late = |read: &mut Forwarded| now - read.tick >= patience;
        while let Some(read) = self.reads.forwarded.pop_front_if(late) {
            self.out.failed_reads.push(read.context);
        }
    }

    /// This member leads no more.
    pub(crate) fn fail_pending_reads(&mut self) {
        let pending = self.reads.pending.drain(..).map(|read| read.asker);
        for asker in pending.chain(self.reads.waiting.drain(..)) {
            if let Asker::Owner { context } = asker {
                self.out.failed_reads.push(context);
            }
        }
    }
}
