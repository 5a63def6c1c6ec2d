//! From the leader's log to everybody's, and to commitment (Raft paper, 5.3 and 5.4.2).

use crate::error::StepError;
use crate::log::Slice;
use crate::membership::Membership;
use crate::messages::Body;
use crate::node::Node;
use crate::progress::State;
use crate::types::{EntriesWanted, Entry, EntryKind, Role};

impl Node {
    /// Sends `peer` what it lacks, as far as it may have it now.
    pub(crate) fn replicate(&mut self, peer: u64) {
        while self.send_next(peer) {}
        self.send_commit(peer);
    }

    /// Sends one message with entries, or asks the owner for what belongs in it. Whether another
    /// one could follow.
    fn send_next(&mut self, peer: u64) -> bool {
        let (messages, bytes) = (self.options.inflight_messages, self.options.inflight_bytes);
        let max_bytes = self.options.message_bytes;
        let round = self.reads.newest_round();
        let Some(progress) = self.leading.peers.get_mut(&peer) else { return false };
        if !progress.may_send(messages, bytes) {
            return false;
        }
        let next = progress.next;
        if next <= self.log.base_index {
            self.begin_snapshot(peer);
            return false;
        }
        let probing = matches!(progress.state, State::Probe { .. });
        match self.log.slice(next, max_bytes) {
            Slice::Entries(entries) => {
                self.send_entries(peer, entries);
                !probing
            }
            Slice::Stored { to } => {
                progress.reading = Some(next);
                self.out.entries_wanted.push(EntriesWanted { from: next, to, max_bytes });
                false
            }
            Slice::End | Slice::Blocked => {
                if probing {
                    progress.sent(next - 1, 0, round);
                    self.send_empty_append(peer);
                }
                false
            }
        }
    }

    fn send_entries(&mut self, peer: u64, entries: Vec<Entry>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (prev_index, last_index) = (first.index - 1, last.index);
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        let commit = self.hard_state.commit;
        let prev_term = self.log.term_at(prev_index).expect("not before the base");
        let round = self.reads.newest_round();
        let Some(progress) = self.leading.peers.get_mut(&peer) else { return };
        assert_eq!(first.index, progress.next);
        progress.sent(last_index, bytes, round);
        progress.commit_sent = progress.commit_sent.max(commit.min(last_index));
        self.send(peer, Body::Append { prev_index, prev_term, entries, commit });
    }

    /// Asks whether the peer has everything that was sent; tells it of `commit`.
    pub(crate) fn send_empty_append(&mut self, peer: u64) {
        let commit = self.hard_state.commit;
        let Some(progress) = self.leading.peers.get_mut(&peer) else { return };
        let prev_index = progress.next - 1;
        let Some(prev_term) = self.log.term_at(prev_index) else {
            // What was sent is not in the log any more, and it is not known to have arrived.
            self.begin_snapshot(peer);
            return;
        };
        progress.commit_sent = progress.commit_sent.max(commit.min(prev_index));
        self.send(peer, Body::Append { prev_index, prev_term, entries: Vec::new(), commit });
    }

    /// Tells a peer that has nothing else to hear what is committed now.
    fn send_commit(&mut self, peer: u64) {
        let Some(progress) = self.leading.peers.get(&peer) else { return };
        let news = self.hard_state.commit.min(progress.next - 1);
        if progress.state == State::Replicate && news > progress.commit_sent {
            self.send_empty_append(peer);
        }
    }

    /// Entries that were asked for, from the first on; as many as the owner liked to read at once.
    pub fn entries_read(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        // The log may be another one by now.
        let fits = |(place, entry): (u64, &Entry)| {
            entry.index == first + place && self.log.term_at(entry.index) == Some(entry.term)
        };
        if !(0..).zip(&entries).all(fits) {
            self.forget_reading(first);
            return;
        }
        self.lend(&entries[0]);
        for peer in self.readers(first) {
            if let Some(progress) = self.leading.peers.get_mut(&peer) {
                progress.reading = None;
                // It may have got further by itself, as a late answer told.
                if progress.next == first {
                    self.send_entries(peer, entries.clone());
                }
            }
        }
    }

    /// Peers that wait for entries from `from` on.
    fn readers(&self, from: u64) -> Vec<u64> {
        let waits = self.leading.peers.iter().filter(|peer| peer.1.reading == Some(from));
        waits.map(|(id, _)| *id).collect()
    }

    /// Nothing will come of these reads: whoever waits asks again.
    pub(crate) fn forget_reading(&mut self, from: u64) {
        for progress in self.leading.peers.values_mut() {
            if progress.reading == Some(from) {
                progress.reading = None;
            }
        }
    }

    /// Entries from `from` on were asked for, and are not in the owner's log any more: who needs
    /// them needs a snapshot.
    pub fn entries_compacted(&mut self, from: u64) {
        for peer in self.readers(from) {
            self.begin_snapshot(peer);
        }
    }

    /// The follower's side (Raft paper, figure 2, AppendEntries).
    pub(crate) fn handle_append(
        &mut self,
        from: u64,
        (prev_index, prev_term): (u64, u64),
        entries: Vec<Entry>,
        commit: u64,
    ) -> Result<(), StepError> {
        let memberships = self.check_entries(from, prev_index, prev_term, &entries)?;
        if self.is_installing() {
            return Ok(());
        }
        // What is committed equals every later leader's log (Leader Completeness).
        let known = prev_index < self.log.base_index.max(self.hard_state.commit);
        if !known && self.log.term_at(prev_index) != Some(prev_term) {
            let (hint_index, hint_term) = self.log.newest_before(prev_index, prev_term);
            self.send(from, Body::AppendRejected { prev_index, hint_index, hint_term });
            return Ok(());
        }
        let last = prev_index + entries.len() as u64;
        let grown = self.take_entries(entries, memberships);
        self.verified = self.verified.max(last);
        assert!(self.verified <= self.log.last_index);
        self.commit_to(commit.min(self.verified).max(self.hard_state.commit));
        if !grown {
            self.tell_durable();
        }
        Ok(())
    }

    /// Whether entries follow one another and what they say of members makes sense; and that.
    fn check_entries(
        &self,
        from: u64,
        prev_index: u64,
        prev_term: u64,
        entries: &[Entry],
    ) -> Result<Vec<(u64, Membership)>, StepError> {
        let malformed = StepError::Malformed { from };
        let mut memberships = Vec::new();
        let (mut index, mut term) = (prev_index, prev_term);
        for entry in entries {
            let follows = Some(entry.index) == index.checked_add(1) && entry.term >= term;
            if !follows || entry.term > self.hard_state.term {
                return Err(malformed);
            }
            (index, term) = (entry.index, entry.term);
            if entry.kind == EntryKind::Membership {
                let membership = Membership::decode(&entry.data).ok_or(malformed)?;
                memberships.push((entry.index, membership));
            }
        }
        Ok(memberships)
    }

    /// Takes what is new of `entries` in the place of what differs. Whether anything was.
    fn take_entries(&mut self, entries: Vec<Entry>, memberships: Vec<(u64, Membership)>) -> bool {
        let before = self.log.last_index;
        let mut grown = false;
        let mut memberships = memberships.into_iter().peekable();
        for entry in entries {
            let index = entry.index;
            let membership = memberships.next_if(|(at, _)| *at == index).map(|found| found.1);
            if index <= self.log.base_index {
                continue;
            }
            match self.log.term_at(index) {
                Some(term) if term == entry.term => {
                    self.offer_repair(&entry);
                    continue;
                }
                Some(_) => self.truncate(index),
                None => {}
            }
            grown = true;
            self.log.append(entry, true);
            if let Some(membership) = membership {
                self.history.push(index, membership);
                self.note_membership();
            }
        }
        assert!(grown || self.log.last_index == before);
        grown
    }

    /// A write is done: tells the leader, if that is news to it.
    pub(crate) fn acknowledge(&mut self) {
        let durable = self.verified.min(self.log.intact());
        if self.leader != 0 && durable > self.acknowledged {
            self.tell_durable();
        }
    }

    pub(crate) fn tell_durable(&mut self) {
        let verified = self.verified;
        let durable = verified.min(self.log.intact());
        self.acknowledged = durable;
        self.send(self.leader, Body::AppendResponse { verified, durable });
    }

    /// What a peer answers to its leader.
    pub(crate) fn handle_peer(&mut self, from: u64, incarnation: u64, body: Body) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.leading.peers.get_mut(&from) else { return };
        if progress.incarnation != incarnation {
            // It speaks for a disk that is not the one that was counted on.
            self.readmit(from, incarnation);
            return;
        }
        progress.active = true;
        match body {
            Body::AppendResponse { verified, durable } => {
                self.handle_accepted(from, verified, durable);
            }
            Body::AppendRejected { prev_index, hint_index, hint_term } => {
                self.handle_rejected(from, prev_index, hint_index, hint_term);
            }
            Body::HeartbeatResponse { round, tick, verified } => {
                self.handle_heartbeat_response(from, round, tick, verified);
            }
            Body::SnapshotResponse { snapshot, received } => {
                self.handle_snapshot_response(from, &snapshot, received);
            }
            other => unreachable!("not an answer to a leader: {other:?}"),
        }
    }

    fn handle_accepted(&mut self, from: u64, verified: u64, durable: u64) {
        let (last_index, now) = (self.log.last_index, self.now);
        if verified > last_index || durable > verified {
            return;
        }
        let patience = u64::from(self.options.election_ticks);
        let Some(progress) = self.leading.peers.get_mut(&from) else { return };
        progress.accepted(verified, durable);
        progress.judge_catch_up(last_index, now, patience);
        self.advance_commit();
        self.hand_over();
    }

    /// Goes back past whole terms that the two logs can't share (Raft paper, end of 5.3).
    fn handle_rejected(&mut self, from: u64, prev_index: u64, hint_index: u64, hint_term: u64) {
        let Some(progress) = self.leading.peers.get_mut(&from) else { return };
        if !progress.is_news(prev_index) {
            return;
        }
        let (agreed, _) = self.log.newest_before(hint_index, hint_term);
        progress.become_probe((agreed + 1).min(prev_index));
    }

    /// Commits what a quorum holds. Only an entry of the current term commits by counting; older
    /// ones do behind it (Raft paper, 5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        assert_eq!(self.role, Role::Leader);
        let index = self.quorum_index();
        let commit = self.hard_state.commit;
        if index <= commit || self.log.term_at(index) != Some(self.hard_state.term) {
            return;
        }
        self.commit_to(index);
        self.leading.note_committed(self.log.last_index - index);
        let first = self.log.term_at(commit) != Some(self.hard_state.term);
        if first {
            self.release_waiting_reads();
        }
        let membership = self.history.index();
        if membership <= index && (first || membership > commit) {
            self.membership_committed();
        }
    }

    /// Before that, the leader can't know what is committed (Raft paper, 8).
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.hard_state.commit) == Some(self.hard_state.term)
    }
}
