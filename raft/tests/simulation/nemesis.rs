//! Who makes things go wrong, within what has to be survived.

use std::collections::BTreeSet;

use mainstay_raft::{Change, Damage, Membership, Transition};

use crate::member::Member;
use crate::world::{Event, TICK, World};

impl World {
    pub(crate) fn nemesis(&mut self) {
        if self.healing {
            return;
        }
        let next = self.random.between(TICK / 2, self.weather.calm);
        self.at(next, Event::Nemesis);
        let may = self.weather.disasters.clone();
        match self.random.between(0, 13) {
            0..=2 if may.crashes => self.crash_one(),
            3 | 4 if may.partitions => self.partition(),
            5 => self.blocked.clear(),
            6 | 7 if may.changes => self.change_members(),
            8 if may.transfers => self.transfer(),
            9 if may.damages => self.damage(),
            10 if may.losses => self.lose_disk(),
            11 if may.elections => self.call_elections(),
            12 if may.pauses => self.pause(),
            _ => {}
        }
    }

    fn up(&self) -> Vec<u64> {
        let up = self.members.values().filter(|member| member.node.is_some());
        up.map(|member| member.id).collect()
    }

    fn crash_one(&mut self) {
        let Some(id) = self.random.pick(&self.up()) else { return };
        self.crash(id);
        let quick = self.random.chance(400);
        let delay = self.random.between(1, if quick { TICK } else { TICK * 60 });
        self.at(delay, Event::Start { id });
    }

    fn pause(&mut self) {
        let Some(id) = self.random.pick(&self.up()) else { return };
        let until = self.now + self.random.between(TICK, TICK * 50);
        self.statistics.pauses += 1;
        self.paused.insert(id, until);
        self.log(|| format!("{id} is stopped until {until}"));
    }

    /// Some lose patience at the same time.
    fn call_elections(&mut self) {
        for id in self.up() {
            if self.random.chance(400) {
                self.with(id, mainstay_raft::Node::campaign);
            }
        }
    }

    /// Cuts some off from the others, for one direction or both.
    fn partition(&mut self) {
        self.statistics.partitions += 1;
        let all: Vec<u64> = self.members.keys().copied().collect();
        let one_way = self.random.chance(250);
        let side = all.into_iter().filter(|_| self.random.chance(400)).collect();
        self.cut_off(&side, one_way);
    }

    fn cut_off(&mut self, side: &BTreeSet<u64>, one_way: bool) {
        self.blocked.clear();
        for from in self.members.keys() {
            for to in self.members.keys() {
                let crosses = side.contains(from) != side.contains(to);
                if crosses && (!one_way || side.contains(from)) {
                    self.blocked.insert((*from, *to));
                }
            }
        }
        self.log(|| format!("partition: {side:?} apart, one way: {one_way}"));
    }

    fn transfer(&mut self) {
        let Some(leader) = self.leader() else { return };
        let all: Vec<u64> = self.members.keys().copied().collect();
        let Some(to) = self.random.pick(&all) else { return };
        self.log(|| format!("{leader} hands over to {to}"));
        self.with(leader, |node| node.transfer_leader(to).is_ok());
    }

    fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        if self.members.values().any(|member| member.lost || !member.disk.damaged.is_empty()) {
            return;
        }
        let Some(node) = &self.members[&leader].node else { return };
        let membership = node.membership().clone();
        if membership.is_joint() {
            if self.random.chance(300) {
                self.with(leader, |node| node.propose_leave().is_ok());
            }
            return;
        }
        let changes: Vec<Change> = match self.random.between(0, 9) {
            0..=3 => self.other_voters(&membership),
            4..=7 => self.random_change(&membership).into_iter().collect(),
            _ => (0..2).filter_map(|_| self.random_change(&membership)).collect(),
        };
        let transition = match self.random.between(0, 3) {
            0 => Transition::Joint,
            1 => Transition::JointUntilLeft,
            _ => Transition::Auto,
        };
        let result = self.with(leader, |node| node.propose_change(&changes, transition));
        self.log(|| format!("{leader} changes members: {changes:?}: {result:?}"));
        if result.is_some_and(|result| result.is_ok()) {
            self.statistics.changes += 1;
            for change in changes {
                if let Change::AddVoter(id) | Change::AddLearner(id) = change {
                    self.start(id);
                }
            }
            // The old ones on one side, the new ones on the other: who decides?
            if self.weather.disasters.partitions && self.random.chance(400) {
                let side = membership.voters.into_iter().filter(|id| *id != leader).collect();
                self.cut_off(&side, false);
            }
        }
    }

    /// Another set of voters, as different as it happens to be.
    fn other_voters(&mut self, membership: &Membership) -> Vec<Change> {
        let all: Vec<u64> = self.members.keys().copied().collect();
        let mut changes = Vec::new();
        for id in all {
            match (membership.is_voter(id), self.random.chance(600)) {
                (true, false) => changes.push(Change::Remove(id)),
                (false, true) => changes.push(Change::AddVoter(id)),
                _ => {}
            }
        }
        changes
    }

    fn random_change(&mut self, membership: &Membership) -> Option<Change> {
        let all: Vec<u64> = self.members.keys().copied().collect();
        let id = self.random.pick(&all)?;
        let role = self.random.between(0, 2);
        Some(match (membership.is_voter(id), membership.is_learner(id), role) {
            (false, false, 0) => Change::AddVoter(id),
            (false, false, _) => Change::AddLearner(id),
            (false, true, 0) => Change::Remove(id),
            (false, true, _) => Change::Promote(id),
            (true, _, 0) => Change::Demote(id),
            (true, _, _) => Change::Remove(id),
        })
    }

    /// Whether another member may be struck: fewer than half of the voters, no change of members
    /// under way anywhere, and nobody has an outdated idea of who they are.
    fn may_strike(&mut self, victim: u64) -> bool {
        for member in self.members.values_mut() {
            if member.lost && member.has_recovered() {
                member.lost = false;
            }
        }
        let Some(leader) = self.leader().map(|id| &self.members[&id]) else { return false };
        let Some(node) = &leader.node else { return false };
        let membership = node.membership();
        let settled = |id: &u64| {
            let member = &self.members[id];
            member.node.as_ref().is_some_and(|node| {
                node.membership() == membership && member.membership_index() <= node.commit()
            })
        };
        let all = membership.members();
        if membership.is_joint() || !membership.is_voter(victim) || !all.iter().all(settled) {
            return false;
        }
        let struck = |member: &&Member| member.lost || !member.disk.damaged.is_empty();
        let mut victims: BTreeSet<u64> =
            self.members.values().filter(struck).map(|member| member.id).collect();
        victims.insert(victim);
        victims.len() <= (membership.voters.len() - 1) / 2
    }

    fn damage(&mut self) {
        let Some(id) = self.random.pick(&self.up()) else { return };
        if !self.may_strike(id) {
            return;
        }
        let restart = self.random.chance(500);
        let member = &self.members[&id];
        let newest = member.disk.log.values().rev().take(6).cloned().collect::<Vec<_>>();
        let places: Vec<usize> = (0..newest.len()).collect();
        let Some(place) = self.random.pick(&places) else { return };
        let entry = &newest[place];
        // What an unfinished write is about to replace is not there to be damaged.
        if entry.index <= member.disk.snapshot.applied || !member.pending.is_empty() {
            return;
        }
        self.statistics.damages += 1;
        self.log(|| format!("{id} can't read {} any more, restart: {restart}", entry.index));
        if restart {
            self.crash(id);
        }
        self.members.get_mut(&id).expect("every id is a member").disk.damaged.insert(entry.index);
        if restart {
            self.start(id);
        } else {
            let (index, term, kind) = (entry.index, entry.term, entry.kind);
            self.with(id, |node| node.damaged(Damage { index, term, kind }));
        }
    }

    fn lose_disk(&mut self) {
        let Some(id) = self.random.pick(&self.up()) else { return };
        if !self.may_strike(id) {
            return;
        }
        self.statistics.losses += 1;
        self.crash(id);
        self.log(|| format!("{id} loses its disk"));
        let membership = match self.bug.is_some() {
            // One that does not know what happened begins like the first time.
            true => self.members[&id].disk.membership.1.clone(),
            false => Membership::default(),
        };
        let bug = self.bug;
        self.members.get_mut(&id).expect("every id is a member").lose_disk(membership, bug);
        let delay = self.random.between(1, TICK * 40);
        self.at(delay, Event::Start { id });
    }

    /// Nothing goes wrong any more, and everybody who belongs to the cluster comes back.
    pub(crate) fn heal(&mut self) {
        self.healing = true;
        self.blocked.clear();
        self.paused.clear();
        self.weather.loss = 0;
        self.weather.duplication = 0;
        self.weather.long_delay = self.weather.delay;
        self.weather.idle = TICK * 8;
        self.weather.write_delay = self.weather.write_delay.min(TICK);
        let all: Vec<u64> = self.members.keys().copied().collect();
        for id in all {
            if self.members[&id].life > 0 {
                self.start(id);
            }
        }
    }

    /// Whether all is well: a leader commits, and every member has everything, intact.
    pub(crate) fn is_well(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else { return Err("no leader".into()) };
        let Some(index) = self.write(leader) else { return Err("no proposals taken".into()) };
        let until = self.now + TICK * 8;
        while self.now < until {
            self.run_one();
        }
        let Some(node) = &self.members[&leader].node else { return Err("down".into()) };
        let membership = node.membership().clone();
        if membership.is_joint() {
            self.with(leader, |node| node.propose_leave().is_ok());
            return Err("joint".into());
        }
        if !membership.returning.is_empty() {
            return Err(format!("{:?} have not returned", membership.returning));
        }
        for id in membership.members() {
            let member = &self.members[&id];
            if member.state.applied < index || !member.disk.damaged.is_empty() {
                return Err(format!("{id} has {}, of {index}", member.state.applied));
            }
        }
        // Who is no member any more is switched off, as an operator would.
        let outsiders = self.members.keys().filter(|id| !membership.contains(**id));
        let outsiders: Vec<u64> = outsiders.copied().collect();
        for id in outsiders {
            if self.members[&id].node.is_some() {
                self.crash(id);
            }
        }
        match self.is_leader(leader) {
            true => Ok(()),
            false => Err("the leader resigned".into()),
        }
    }
}
