//! What a leader knows of one peer, and how much it may send to it (dissertation, 10.2.1).
//!
//! ```text
//!            accepted                   fallen behind the log's beginning
//!   Probe ------------> Replicate   Probe, Replicate -------------------> Snapshot
//!     ^                     |                                                |
//!     |  rejected, restarted|                    installed, or not available |
//!     +---------------------+------------------------------------------------+
//! ```

use std::collections::VecDeque;

use crate::types::{Peer, PeerState, Snapshot};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Where the logs agree is being found out: one message at a time. The round of heartbeats in
    /// which it was sent; an answer to a later one means that it was lost.
    Probe {
        sent: Option<u64>,
    },
    /// Messages are sent ahead of the answers.
    Replicate,
    Snapshot(Box<Transfer>),
}

/// A snapshot on its way to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Transfer {
    /// Known once the owner has delivered a first part.
    pub(crate) snapshot: Option<Snapshot>,
    /// The peer has this much.
    pub(crate) received: u64,
    /// Its size, once the last part was sent.
    pub(crate) end: Option<u64>,
    /// The owner was asked and has not answered.
    pub(crate) asked: bool,
    /// When there was last a sign of life.
    pub(crate) tick: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) state: State,
    /// Durable on the peer, and equal to the leader's log.
    pub(crate) matched: u64,
    /// To send next.
    pub(crate) next: u64,
    /// Last index and bytes of messages without an answer.
    in_flight: VecDeque<(u64, usize)>,
    in_flight_bytes: usize,
    /// The greatest commit index the peer was told.
    pub(crate) commit_sent: u64,
    /// Heard from since the last check for a quorum.
    pub(crate) active: bool,
    /// The newest heartbeat that was answered, and when it was sent.
    pub(crate) round: u64,
    pub(crate) tick: u64,
    /// `matched` at the last heartbeat answered: what has moved since needs no probe.
    pub(crate) matched_at_heartbeat: u64,
    /// Which life of the peer this is about.
    pub(crate) incarnation: u64,
    /// Waits for old entries from the owner, from here on.
    pub(crate) reading: Option<u64>,
    /// No member any more since this entry; served until it knows.
    pub(crate) departed: Option<Departure>,
    /// How fast a learner catches up.
    pub(crate) catch_up: CatchUp,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) index: u64,
    pub(crate) tick: u64,
}

/// Rounds of catching up: each brings what was appended during the one before. When a round takes
/// less than an election timeout, the learner won't hold up anybody (dissertation, 4.2.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchUp {
    target: u64,
    started: u64,
    pub(crate) done: bool,
}

impl Progress {
    pub(crate) fn new(last_index: u64, incarnation: u64, now: u64) -> Progress {
        Progress {
            state: State::Probe { sent: None },
            matched: 0,
            next: last_index + 1,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            commit_sent: 0,
            // Nobody is given up before it could answer.
            active: true,
            round: 0,
            tick: 0,
            matched_at_heartbeat: 0,
            incarnation,
            reading: None,
            departed: None,
            catch_up: CatchUp { target: last_index, started: now, done: false },
        }
    }

    pub(crate) fn summary(&self) -> Peer {
        Peer {
            state: match self.state {
                State::Probe { .. } => PeerState::Probe,
                State::Replicate => PeerState::Replicate,
                State::Snapshot(_) => PeerState::Snapshot,
            },
            matched: self.matched,
            next: self.next,
            in_flight: self.in_flight.len(),
            caught_up: self.catch_up.done,
        }
    }

    /// Whether entries may be sent now.
    pub(crate) fn may_send(&self, messages: usize, bytes: usize) -> bool {
        match self.state {
            State::Probe { sent } => sent.is_none() && self.reading.is_none(),
            State::Replicate => {
                self.reading.is_none()
                    && self.in_flight.len() < messages
                    && self.in_flight_bytes < bytes
            }
            State::Snapshot(_) => false,
        }
    }

    /// Entries up to `last` were sent, after the heartbeats of `round`.
    pub(crate) fn sent(&mut self, last: u64, bytes: usize, round: u64) {
        match &mut self.state {
            State::Probe { sent } => *sent = Some(round),
            State::Replicate => {
                assert!(last >= self.next);
                self.next = last + 1;
                self.in_flight.push_back((last, bytes));
                self.in_flight_bytes += bytes;
            }
            State::Snapshot(_) => unreachable!("nothing is sent beside a snapshot"),
        }
    }

    /// Whether nothing is owed: all that was sent is known to be durable. (A probe is not in flight
    /// any more once it was taken, though it may not have been durable then.)
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.matched + 1 >= self.next
    }

    /// The peer's log equals the leader's up to `verified` and is durable up to `durable`.
    pub(crate) fn accepted(&mut self, verified: u64, durable: u64) {
        assert!(durable <= verified);
        self.matched = self.matched.max(durable);
        while self.in_flight.front().is_some_and(|(last, _)| *last <= durable)
            && let Some((_, bytes)) = self.in_flight.pop_front()
        {
            self.in_flight_bytes -= bytes;
        }
        match &self.state {
            State::Probe { .. } => {
                self.become_replicate(verified);
            }
            State::Replicate => self.next = self.next.max(verified + 1),
            State::Snapshot(transfer) => {
                let caught_up = match &transfer.snapshot {
                    Some(snapshot) => verified >= snapshot.index,
                    None => verified + 1 >= self.next,
                };
                if caught_up {
                    self.become_replicate(verified);
                }
            }
        }
    }

    fn become_replicate(&mut self, verified: u64) {
        self.clear();
        self.state = State::Replicate;
        self.next = verified + 1;
    }

    /// Looks for where the logs agree, from `next` on downwards.
    pub(crate) fn become_probe(&mut self, next: u64) {
        self.clear();
        self.state = State::Probe { sent: None };
        self.next = next.max(self.matched + 1);
    }

    pub(crate) fn become_snapshot(&mut self, now: u64) {
        self.clear();
        let transfer = Transfer { tick: now, ..Transfer::default() };
        self.state = State::Snapshot(Box::new(transfer));
    }

    fn clear(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.reading = None;
    }

    /// Whether a rejection of what followed `prev_index` is news, not an echo of old times.
    pub(crate) fn is_news(&self, prev_index: u64) -> bool {
        match self.state {
            State::Probe { .. } => prev_index + 1 == self.next && prev_index > self.matched,
            State::Replicate => prev_index > self.matched,
            State::Snapshot(_) => false,
        }
    }

    /// Judges how a learner catches up, given the leader's newest entry.
    pub(crate) fn judge_catch_up(&mut self, last_index: u64, now: u64, election_ticks: u64) {
        if self.matched < self.catch_up.target {
            return;
        }
        let done = now - self.catch_up.started < election_ticks;
        self.catch_up = CatchUp { target: last_index, started: now, done };
    }
}
