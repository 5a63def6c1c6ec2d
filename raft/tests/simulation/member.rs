//! A node and its owner: disk, state machine, clients that wait.

use std::collections::{BTreeMap, VecDeque};

use mainstay_raft::{Entry, EntryKind, Membership, Node, Options, ReadState, Role};

use crate::bugs::Bug;
use crate::disk::{Disk, State, Write};

pub(crate) struct Member {
    pub(crate) id: u64,
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    /// Counts starts: what was begun before a crash does not end after it.
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    pub(crate) pending: VecDeque<Write>,
    /// When the last of them will be done.
    pub(crate) disk_busy_until: u64,
    /// The log as the core last said it should be, on the disk or on its way.
    pub(crate) view: BTreeMap<u64, Entry>,
    pub(crate) state: State,
    /// Time between ticks.
    pub(crate) tick: u64,
    /// Waiting to be applied far enough, with the answer's lower bound.
    pub(crate) reads: Vec<(ReadState, u64)>,
    /// Reads asked of the core: their lower bounds, by context.
    pub(crate) asked: BTreeMap<u64, u64>,
    /// Term and lower bound of proposals that wait, by index.
    pub(crate) proposals: BTreeMap<u64, (u64, u64)>,
    pub(crate) keeps_tail: bool,
    /// It came back without its disk and does not vote yet.
    pub(crate) lost: bool,
    /// Term and end of the log when it was last seen leading.
    pub(crate) led: Option<(u64, u64)>,
}

impl Member {
    pub(crate) fn new(id: u64, tick: u64, membership: Membership) -> Member {
        Member {
            id,
            node: None,
            life: 0,
            disk: Disk { membership: (0, membership), ..Disk::default() },
            pending: VecDeque::new(),
            disk_busy_until: 0,
            view: BTreeMap::new(),
            state: State::default(),
            tick,
            reads: Vec::new(),
            asked: BTreeMap::new(),
            proposals: BTreeMap::new(),
            keeps_tail: false,
            lost: false,
            led: None,
        }
    }

    pub(crate) fn start(&mut self, options: &Options, seed: u64, bug: Option<Bug>) {
        let mut config = self.disk.config(self.id, options, bug);
        config.seed = seed;
        self.life += 1;
        self.view = self.disk.log.clone();
        self.state = self.disk.snapshot;
        self.node = Some(Node::new(config));
    }

    /// Stops at once. Of the unfinished writes the oldest `kept` made it.
    pub(crate) fn crash(&mut self, kept: usize, bug: Option<Bug>) {
        for write in self.pending.drain(..).take(kept).collect::<Vec<_>>() {
            self.disk.write(write, bug);
        }
        self.pending.clear();
        self.node = None;
        self.life += 1;
        self.reads.clear();
        self.asked.clear();
        self.proposals.clear();
        self.led = None;
    }

    pub(crate) fn lose_disk(&mut self, membership: Membership, bug: Option<Bug>) {
        let incarnation = self.disk.incarnation + 1;
        self.disk = Disk { membership: (0, membership), ..Disk::default() };
        if bug != Some(Bug::ComesBackEmptyAsItself) {
            self.disk.incarnation = incarnation;
        }
        self.lost = true;
    }

    pub(crate) fn leads(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.role() == Role::Leader)
    }

    pub(crate) fn term(&self) -> u64 {
        self.node.as_ref().map_or(0, Node::term)
    }

    /// Index of the newest membership.
    pub(crate) fn membership_index(&self) -> u64 {
        let entry = self.view.values().rev().find(|entry| entry.kind == EntryKind::Membership);
        entry.map_or(self.disk.membership.0, |entry| entry.index)
    }

    /// Whether a lost disk is made good.
    pub(crate) fn has_recovered(&self) -> bool {
        let Some(node) = &self.node else { return false };
        let membership = node.membership();
        membership.is_voter(self.id)
            && membership.incarnation(self.id) == self.disk.incarnation
            && self.membership_index() <= node.commit()
    }

    /// What a majority of voters has on the disk, if that is an entry of an older term than the
    /// leader's: the planted mistake of figure 8.
    pub(crate) fn counted(&self) -> u64 {
        let Some(node) = &self.node else { return 0 };
        let peers = node.peers();
        let held = |id: &u64| match *id == self.id {
            true => self.disk.last().0,
            false => peers.get(id).map_or(0, |peer| peer.matched),
        };
        let mut indexes: Vec<u64> = node.membership().voters.iter().map(held).collect();
        indexes.sort_unstable();
        let place = indexes.len().saturating_sub(1) / 2;
        let index = indexes.get(place).copied().unwrap_or(0);
        let older = node.term_at(index).is_some_and(|term| term < node.term());
        match older && self.leads() && !node.membership().is_joint() {
            true => index,
            false => 0,
        }
    }
}
