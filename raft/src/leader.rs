//! What only a leader has and does: peers, heartbeats, the check for a quorum, transfer of
//! leadership (Raft paper, 5.2; dissertation, 3.10 and 6.2).

use std::collections::{BTreeMap, VecDeque};

use crate::error::{ProposeError, TransferError};
use crate::messages::Body;
use crate::node::Node;
use crate::progress::{Departure, Progress, State};
use crate::quorum;
use crate::types::Role;

/// The part of a node's state that begins and ends with its leadership.
#[derive(Debug, Default)]
pub(crate) struct Leading {
    pub(crate) peers: BTreeMap<u64, Progress>,
    pub(crate) transfer: Option<Handover>,
    /// Somebody may be campaigning with the leader's blessing until this term ends, so voters don't
    /// stick to it, and there are no leases any more (dissertation, 6.4.1).
    pub(crate) blessed_another: bool,
    ticks_since_heartbeat: u32,
    ticks_since_check: u32,
    /// A heartbeat is due.
    pub(crate) beat: bool,
    /// Bytes of each entry that is not committed, and their sum.
    uncommitted: VecDeque<usize>,
    uncommitted_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Handover {
    to: u64,
    tick: u64,
    /// It was told to begin.
    told: bool,
}

impl Leading {
    pub(crate) fn note_uncommitted(&mut self, bytes: usize) {
        self.uncommitted.push_back(bytes);
        self.uncommitted_bytes += bytes as u64;
    }

    /// So many entries are still not committed.
    pub(crate) fn note_committed(&mut self, remaining: u64) {
        while self.uncommitted.len() as u64 > remaining
            && let Some(bytes) = self.uncommitted.pop_front()
        {
            self.uncommitted_bytes -= bytes as u64;
        }
    }
}

impl Node {
    pub(crate) fn start_leading(&mut self) {
        self.leading = Leading { beat: true, ..Leading::default() };
        self.reads.reset_rounds();
        self.sync_peers();
    }

    pub(crate) fn stop_leading(&mut self) {
        self.leading = Leading::default();
        self.repairs.forget_answers();
        self.fail_pending_reads();
        // A leader heard itself; now it is free to vote.
        self.heard = self.options.election_ticks;
    }

    pub(crate) fn check_proposal(&self) -> Result<(), ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        if let Some(Handover { to, .. }) = self.leading.transfer {
            return Err(ProposeError::Transferring { to });
        }
        let entries = self.leading.uncommitted.len() as u64;
        let bytes = self.leading.uncommitted_bytes;
        if entries >= self.options.uncommitted_entries || bytes >= self.options.uncommitted_bytes {
            return Err(ProposeError::TooManyUncommitted { entries, bytes });
        }
        Ok(())
    }

    /// Makes the list of peers that of the membership in force. Who is no member any more is served
    /// until it knows.
    pub(crate) fn sync_peers(&mut self) {
        let membership = self.history.membership();
        let members = membership.members();
        for id in members.iter().filter(|id| **id != self.id) {
            let incarnation = membership.incarnation(*id);
            match self.leading.peers.get_mut(id) {
                Some(progress) if progress.incarnation == incarnation => progress.departed = None,
                _ => {
                    let progress = Progress::new(self.log.last_index, incarnation, self.now);
                    self.leading.peers.insert(*id, progress);
                }
            }
        }
        for (id, progress) in &mut self.leading.peers {
            if progress.departed.is_none() && !members.contains(id) {
                let departure = Departure { index: self.log.last_index, tick: self.now };
                progress.departed = Some(departure);
            }
        }
    }

    pub(crate) fn tick_leader(&mut self) {
        self.leading.ticks_since_heartbeat += 1;
        self.leading.ticks_since_check += 1;
        if self.leading.ticks_since_check >= self.options.election_ticks {
            self.leading.ticks_since_check = 0;
            if self.options.check_quorum && !self.has_quorum() {
                self.become_follower(self.hard_state.term, 0);
                return;
            }
        }
        let patience = u64::from(self.options.election_ticks);
        if self.leading.transfer.is_some_and(|transfer| self.now - transfer.tick >= patience) {
            self.leading.transfer = None;
        }
        if self.leading.ticks_since_heartbeat >= self.options.heartbeat_ticks {
            self.leading.ticks_since_heartbeat = 0;
            self.leading.beat = true;
            self.retry_snapshots();
            self.drop_departed();
            self.promote_returned();
            self.request_repairs();
        }
    }

    /// Whether a quorum was heard from since the last time (dissertation, 6.2).
    fn has_quorum(&mut self) -> bool {
        let peers = &self.leading.peers;
        let heard = |id| id == self.id || peers.get(&id).is_some_and(|progress| progress.active);
        let held = quorum::holds(self.history.membership(), heard);
        for progress in self.leading.peers.values_mut() {
            progress.active = false;
        }
        held
    }

    /// Peers that are no members any more and know it, or had time enough to.
    fn drop_departed(&mut self) {
        let (commit, now) = (self.hard_state.commit, self.now);
        let patience = 2 * u64::from(self.options.election_ticks);
        self.leading.peers.retain(|_, progress| match progress.departed {
            None => true,
            Some(departure) => {
                let knows = progress.matched >= departure.index
                    && progress.commit_sent.min(commit) >= departure.index;
                !knows && (commit < departure.index || now - departure.tick < patience)
            }
        });
    }

    /// Everything there is to say to peers now: heartbeats, entries.
    pub(crate) fn speak(&mut self) {
        if self.leading.beat {
            self.leading.beat = false;
            self.send_heartbeats();
        }
        let peers: Vec<u64> = self.leading.peers.keys().copied().collect();
        for peer in peers {
            self.replicate(peer);
        }
    }

    fn send_heartbeats(&mut self) {
        let (round, tick) = (self.reads.next_round(), self.now);
        let commit = self.hard_state.commit;
        let known = |(id, progress): (&u64, &Progress)| (*id, progress.matched);
        let peers: Vec<(u64, u64)> = self.leading.peers.iter().map(known).collect();
        for (peer, matched) in peers {
            self.send(peer, Body::Heartbeat { round, tick, commit: commit.min(matched) });
        }
    }

    pub(crate) fn handle_heartbeat(&mut self, from: u64, round: u64, tick: u64, commit: u64) {
        self.commit_to(commit.min(self.verified).max(self.hard_state.commit));
        let verified = self.verified;
        self.send(from, Body::HeartbeatResponse { round, tick, verified });
        self.request_repairs();
    }

    pub(crate) fn handle_heartbeat_response(
        &mut self,
        from: u64,
        round: u64,
        tick: u64,
        verified: u64,
    ) {
        let (last_index, now) = (self.log.last_index, self.now);
        let patience = u64::from(self.options.election_ticks);
        let newest_round = self.reads.newest_round();
        let Some(progress) = self.leading.peers.get_mut(&from) else { return };
        progress.round = progress.round.max(round.min(newest_round));
        progress.tick = progress.tick.max(tick.min(now));
        progress.judge_catch_up(last_index, now, patience);
        let stalled = !progress.is_idle() && progress.matched == progress.matched_at_heartbeat;
        progress.matched_at_heartbeat = progress.matched;
        match &mut progress.state {
            State::Probe { sent } if sent.is_some_and(|sent| round > sent) => *sent = None,
            // It started anew, and knows of no agreement in this term.
            State::Replicate if verified < progress.matched => {
                progress.become_probe(progress.matched + 1);
            }
            // The newest messages were lost, or are slow: see whether the end is there.
            State::Replicate if stalled => self.send_empty_append(from),
            State::Probe { .. } | State::Replicate | State::Snapshot(_) => {}
        }
        self.confirm_reads();
    }

    /// Hands leadership over to `to`, as soon as it has the whole log. Proposals are refused
    /// meanwhile, for an election timeout at most (dissertation, 3.10).
    pub fn transfer_leader(&mut self, to: u64) -> Result<(), TransferError> {
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader);
        }
        if !self.history.membership().is_voter(to) {
            return Err(TransferError::NotVoter { to });
        }
        let handover = Handover { to, tick: self.now, told: false };
        self.leading.transfer = (to != self.id).then_some(handover);
        self.hand_over();
        if self.leading.transfer.is_some_and(|handover| !handover.told) {
            // Whether it lacks anything is found out now, not by the next heartbeat.
            self.send_empty_append(to);
        }
        Ok(())
    }

    /// Tells the one who is to lead to begin, when it has everything.
    pub(crate) fn hand_over(&mut self) {
        let Some(handover) = &mut self.leading.transfer else { return };
        let to = handover.to;
        let complete = |progress: &Progress| progress.matched == self.log.last_index;
        if !handover.told && self.leading.peers.get(&to).is_some_and(complete) {
            handover.told = true;
            self.bless(to);
        }
    }

    /// Invites `to` to campaign against this leader.
    pub(crate) fn bless(&mut self, to: u64) {
        self.leading.blessed_another = true;
        self.send(to, Body::TimeoutNow);
    }
}
