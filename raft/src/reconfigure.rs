//! Changes of members, as the leader makes them (dissertation, 4).
//!
//! One at a time: the next begins when the entry of the one before is committed, and the leader has
//! committed an entry of its own term.

use crate::error::ChangeError;
use crate::membership::{Change, Membership, Transition};
use crate::node::Node;
use crate::types::{EntryKind, Role};

impl Node {
    /// Begins a change of members. Gives the index of its entry; it is in force at once, and done
    /// when that (and, if it goes through two sets of voters, the entry that leaves them) is
    /// committed.
    pub fn propose_change(
        &mut self,
        changes: &[Change],
        transition: Transition,
    ) -> Result<u64, ChangeError> {
        self.check_change()?;
        for change in changes {
            if let Change::Promote(id) = change {
                self.check_caught_up(*id)?;
            }
        }
        let next = self.history.membership().changed(changes, transition)?;
        Ok(self.append_membership(next))
    }

    /// Ends the state of two sets of voters.
    pub fn propose_leave(&mut self) -> Result<u64, ChangeError> {
        self.check_change()?;
        let next = self.history.membership().left()?;
        Ok(self.append_membership(next))
    }

    fn check_change(&self) -> Result<(), ChangeError> {
        self.check_proposal()?;
        let index = self.history.index();
        if index > self.hard_state.commit {
            return Err(ChangeError::Pending { index });
        }
        match self.has_committed_in_term() {
            true => Ok(()),
            false => Err(ChangeError::TermNotStarted),
        }
    }

    /// A learner that lags would hold up commitment as a voter (dissertation, 4.2.1).
    fn check_caught_up(&self, id: u64) -> Result<(), ChangeError> {
        let Some(progress) = self.leading.peers.get(&id) else {
            return Err(ChangeError::NotLearner { id });
        };
        match progress.catch_up.done && progress.active {
            true => Ok(()),
            false => {
                let behind = self.log.last_index - progress.matched;
                Err(ChangeError::NotCaughtUp { id, behind })
            }
        }
    }

    fn append_membership(&mut self, membership: Membership) -> u64 {
        self.append(EntryKind::Membership, membership.encode());
        let index = self.log.last_index;
        self.history.push(index, membership);
        self.note_membership();
        self.sync_peers();
        index
    }

    /// The membership in force is committed: goes on to the next, or leaves.
    pub(crate) fn membership_committed(&mut self) {
        assert_eq!(self.role, Role::Leader);
        let membership = self.history.membership();
        if membership.is_joint() && membership.auto_leave {
            let left = membership.left().expect("just seen to be joint");
            self.append_membership(left);
        } else if !self.votes_in(membership) {
            self.resign();
        }
    }

    /// A leader that is no voter any more has led until that was committed (dissertation, 4.2.2).
    /// It says so to all, and names the one that has most.
    fn resign(&mut self) {
        self.speak();
        let voters = self.history.membership().voters.iter();
        let best = voters.max_by_key(|id| self.leading.peers.get(id).map(|peer| peer.matched));
        if let Some(best) = best.copied() {
            self.bless(best);
        }
        self.become_follower(self.hard_state.term, 0);
    }

    /// A member speaks in a new life: it lost its disk, and with it its votes and what it had
    /// acknowledged. It counts for nothing until it has a copy again: it goes on as a learner.
    pub(crate) fn readmit(&mut self, id: u64, incarnation: u64) {
        let membership = self.history.membership();
        // An older life is over for good; its last words may still arrive.
        if incarnation <= membership.incarnation(id) || self.check_change().is_err() {
            return;
        }
        if membership.contains(id)
            && let Ok(next) = membership.readmitted(id, incarnation)
        {
            self.append_membership(next);
        }
    }

    /// Members that lost their disk vote again as soon as they have caught up.
    pub(crate) fn promote_returned(&mut self) {
        if self.history.membership().returning.is_empty() || self.check_change().is_err() {
            return;
        }
        let returning = self.history.membership().returning.clone();
        let Some(id) = returning.into_iter().find(|id| self.check_caught_up(*id).is_ok()) else {
            return;
        };
        let changes = [Change::Promote(id)];
        if let Ok(next) = self.history.membership().changed(&changes, Transition::Auto) {
            self.append_membership(next);
        }
    }
}
