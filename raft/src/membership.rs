//! Who is a member, in which role; how one set of members becomes another; and which memberships
//! the log has seen (Raft paper, 6; dissertation, 4).
//!
//! A membership is in force from the moment its entry is in the log, committed or not, and stops
//! being so when the entry is replaced. Its entry carries all of it, so nothing has to be replayed.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::ChangeError;
use crate::options::MEMBERS;

/// The first byte of an encoded membership.
const FORMAT: u8 = 1;

/// Who is a member, in which role. Lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    pub voters: Vec<u64>,
    /// While members change: the voters before. Both sets have to agree on everything.
    pub outgoing: Vec<u64>,
    /// Receive the log, count for nothing.
    pub learners: Vec<u64>,
    /// Still voters among the outgoing; learners afterwards.
    pub learners_next: Vec<u64>,
    /// Those learners that lost their disk as voters: promoted as soon as they have caught up.
    pub returning: Vec<u64>,
    /// The lives of members that lost their disk at some time; 0 for all others.
    pub incarnations: Vec<(u64, u64)>,
    /// The leader ends the state of two sets by itself.
    pub auto_leave: bool,
}

/// One step of a change of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new member, or a learner, that votes at once. It should have caught up: see `Promote`.
    AddVoter(u64),
    AddLearner(u64),
    /// Makes a learner a voter, if it has caught up.
    Promote(u64),
    /// Makes a voter a learner.
    Demote(u64),
    Remove(u64),
}

/// How to get from one set of voters to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transition {
    /// Straight if at most one voter differs, else through both sets, which the leader then leaves.
    #[default]
    Auto,
    /// Through both sets, which the leader leaves.
    Joint,
    /// Through both sets, until the owner leaves that state.
    JointUntilLeft,
}

fn insert(list: &mut Vec<u64>, id: u64) {
    if let Err(place) = list.binary_search(&id) {
        list.insert(place, id);
    }
}

fn remove(list: &mut Vec<u64>, id: u64) -> bool {
    list.binary_search(&id).map(|place| list.remove(place)).is_ok()
}

impl Membership {
    /// These vote, and there is nobody else.
    pub fn of_voters(voters: &[u64]) -> Membership {
        let mut membership = Membership::default();
        for voter in voters {
            insert(&mut membership.voters, *voter);
        }
        membership
    }

    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// A learner that is no voter of the outgoing set either.
    pub fn is_learner(&self, id: u64) -> bool {
        self.learners.contains(&id) && !self.is_voter(id)
    }

    /// In any role.
    pub fn contains(&self, id: u64) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// Which life of this member belongs to the cluster.
    pub fn incarnation(&self, id: u64) -> u64 {
        let entry = self.incarnations.iter().find(|(member, _)| *member == id);
        entry.map_or(0, |(_, incarnation)| *incarnation)
    }

    /// Everybody, each once, in order.
    pub fn members(&self) -> Vec<u64> {
        let mut all = self.voters.clone();
        for id in self.outgoing.iter().chain(&self.learners) {
            insert(&mut all, *id);
        }
        all
    }

    /// The membership after `changes`.
    pub fn changed(
        &self,
        changes: &[Change],
        transition: Transition,
    ) -> Result<Membership, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Joint);
        }
        let mut next = self.clone();
        for change in changes {
            next.apply(*change)?;
        }
        self.transition_to(next, transition)
    }

    fn apply(&mut self, change: Change) -> Result<(), ChangeError> {
        match change {
            Change::AddVoter(id) if self.voters.contains(&id) => Err(ChangeError::Exists { id }),
            Change::AddLearner(id) if self.contains(id) => Err(ChangeError::Exists { id }),
            Change::Promote(id) if !self.learners.contains(&id) => {
                Err(ChangeError::NotLearner { id })
            }
            Change::Demote(id) if !self.voters.contains(&id) => Err(ChangeError::Unknown { id }),
            Change::Remove(id) if !self.contains(id) => Err(ChangeError::Unknown { id }),
            Change::AddVoter(id) | Change::Promote(id) => {
                remove(&mut self.learners, id);
                remove(&mut self.returning, id);
                insert(&mut self.voters, id);
                Ok(())
            }
            Change::AddLearner(id) | Change::Demote(id) => {
                remove(&mut self.voters, id);
                insert(&mut self.learners, id);
                Ok(())
            }
            Change::Remove(id) => {
                remove(&mut self.voters, id);
                remove(&mut self.learners, id);
                remove(&mut self.returning, id);
                Ok(())
            }
        }
    }

    fn transition_to(
        &self,
        mut next: Membership,
        transition: Transition,
    ) -> Result<Membership, ChangeError> {
        if next.voters.is_empty() {
            return Err(ChangeError::NoVoter);
        }
        let added = next.voters.iter().filter(|id| !self.voters.contains(id)).count();
        let gone = self.voters.iter().filter(|id| !next.voters.contains(id)).count();
        // With one voter more or less, any majority of one set meets any of the other
        // (dissertation, 4.1).
        if transition != Transition::Auto || added + gone > 1 {
            next.outgoing.clone_from(&self.voters);
            next.auto_leave = transition != Transition::JointUntilLeft;
            for voter in &self.voters {
                if remove(&mut next.learners, *voter) {
                    insert(&mut next.learners_next, *voter);
                }
            }
        }
        if next.members().len() > MEMBERS {
            return Err(ChangeError::TooMany);
        }
        Ok(next)
    }

    /// The membership after that of two sets.
    pub fn left(&self) -> Result<Membership, ChangeError> {
        if !self.is_joint() {
            return Err(ChangeError::NotJoint);
        }
        let mut next = self.clone();
        next.outgoing.clear();
        next.auto_leave = false;
        for id in std::mem::take(&mut next.learners_next) {
            insert(&mut next.learners, id);
        }
        Ok(next)
    }

    /// The membership once member `id` has come back without its disk, in a new life: a learner
    /// that owes its place among the voters to its new copy of the log.
    pub(crate) fn readmitted(&self, id: u64, incarnation: u64) -> Result<Membership, ChangeError> {
        assert!(incarnation > self.incarnation(id), "a life is lived once");
        if self.is_joint() {
            return Err(ChangeError::Joint);
        }
        let mut next = self.clone();
        if remove(&mut next.voters, id) {
            insert(&mut next.learners, id);
            insert(&mut next.returning, id);
        }
        next.incarnations.retain(|(member, _)| *member != id);
        next.incarnations.push((id, incarnation));
        next.incarnations.sort_unstable();
        self.transition_to(next, Transition::Auto)
    }

    /// As the data of an entry.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(FORMAT);
        bytes.put_u8(u8::from(self.auto_leave));
        for list in self.lists() {
            bytes.put_u32_le(u32::try_from(list.len()).expect("bounded"));
            list.iter().for_each(|id| bytes.put_u64_le(*id));
        }
        bytes.put_u32_le(u32::try_from(self.incarnations.len()).expect("bounded"));
        for (id, incarnation) in &self.incarnations {
            bytes.put_u64_le(*id);
            bytes.put_u64_le(*incarnation);
        }
        bytes.freeze()
    }

    fn lists(&self) -> [&Vec<u64>; 5] {
        [&self.voters, &self.outgoing, &self.learners, &self.learners_next, &self.returning]
    }

    /// From the data of an entry; `None` if it makes no sense.
    pub fn decode(mut bytes: &[u8]) -> Option<Membership> {
        if bytes.try_get_u8().ok()? != FORMAT {
            return None;
        }
        let auto_leave = bytes.try_get_u8().ok()? == 1;
        let mut numbers = |each: usize| -> Option<Vec<u64>> {
            // A member that was removed leaves its life behind, so lives may outnumber members.
            let count = bytes.try_get_u32_le().ok().filter(|count| *count <= 1 << 16)?;
            (0..count as usize * each).map(|_| bytes.try_get_u64_le().ok()).collect()
        };
        let mut list = || -> Option<Vec<u64>> {
            let list: Vec<u64> = numbers(1)?;
            (list.len() <= MEMBERS && list.is_sorted_by(|left, right| left < right)).then_some(list)
        };
        let (voters, outgoing, learners) = (list()?, list()?, list()?);
        let (learners_next, returning) = (list()?, list()?);
        let pairs: Vec<u64> = numbers(2)?;
        let incarnations = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let membership = Membership {
            voters,
            outgoing,
            learners,
            learners_next,
            returning,
            incarnations,
            auto_leave,
        };
        let sensible = bytes.is_empty()
            && !membership.voters.is_empty()
            && membership.members().len() <= MEMBERS
            && !membership.members().contains(&0);
        sensible.then_some(membership)
    }
}

/// The memberships that the log holds: that in force at its beginning, and every one behind.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// In order of index; never empty.
    entries: Vec<(u64, Membership)>,
}

impl History {
    pub(crate) fn new(entries: Vec<(u64, Membership)>) -> History {
        assert!(!entries.is_empty() && entries.is_sorted_by(|left, right| left.0 < right.0));
        History { entries }
    }

    fn newest(&self) -> &(u64, Membership) {
        self.entries.last().expect("never empty")
    }

    /// In force.
    pub(crate) fn membership(&self) -> &Membership {
        &self.newest().1
    }

    /// Where the one in force stands in the log.
    pub(crate) fn index(&self) -> u64 {
        self.newest().0
    }

    /// In force before the newest, if that is known.
    pub(crate) fn previous(&self) -> Option<&Membership> {
        let place = self.entries.len().checked_sub(2)?;
        Some(&self.entries[place].1)
    }

    /// In force at `index`.
    pub(crate) fn at(&self, index: u64) -> Option<&Membership> {
        let entry = self.entries.iter().rev().find(|entry| entry.0 <= index);
        entry.map(|(_, membership)| membership)
    }

    pub(crate) fn push(&mut self, index: u64, membership: Membership) {
        assert!(index > self.index());
        self.entries.push((index, membership));
    }

    /// A membership whose entry had been damaged.
    pub(crate) fn restore(&mut self, index: u64, membership: Membership) {
        let place = self.entries.partition_point(|entry| entry.0 < index);
        if self.entries.get(place).is_none_or(|entry| entry.0 != index) {
            self.entries.insert(place, (index, membership));
        }
    }

    /// Entries from `index` on are replaced. Whether that changed the membership in force.
    pub(crate) fn truncate(&mut self, index: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.0 < index);
        assert!(!self.entries.is_empty(), "the log's beginning is committed and stays");
        self.entries.len() != before
    }

    /// Nobody will ask for what was in force before `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        let older = self.entries.iter().filter(|entry| entry.0 <= index).count();
        self.entries.drain(..older.saturating_sub(1));
    }
}
