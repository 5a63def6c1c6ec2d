//! What the owner was asked to make durable, and what waits for that.

use std::collections::VecDeque;

use crate::messages::{Body, Message};
use crate::node::Node;
use crate::types::{Ready, Role};

/// Messages that wait for term and vote to be durable. Any message may be lost, so beyond this
/// many they are.
const WITHHELD: usize = 1024;

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

impl Writes {
    /// The log is cut before `index`: writes that are under way no longer say anything about what
    /// was behind, even if other entries take its place.
    pub(crate) fn truncate(&mut self, index: u64) {
        for write in &mut self.pending {
            write.last_index = write.last_index.min(index - 1);
            write.repaired.retain(|repaired| *repaired < index);
        }
    }

    /// Nothing that is under way says anything about the snapshot any more.
    pub(crate) fn forget_snapshot(&mut self) {
        for write in &mut self.pending {
            write.snapshot_bytes = 0;
        }
    }
}

impl Node {
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
}
