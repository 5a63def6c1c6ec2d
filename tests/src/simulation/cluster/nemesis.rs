//! Who makes things go wrong, within what has to be survived.

use mainstay_engine::cluster::MemberChange;
use mainstay_engine::message::Request;

use super::network::End;
use super::world::{Asker, Event, World};

impl World {
    pub(super) fn nemesis(&mut self) {
        if self.healing {
            return;
        }
        let next_us = 1 + self.random.below(self.swarm.calm_us) as u64;
        self.at(next_us, Event::Nemesis);
        match self.random.weighted(&self.swarm.disasters.weights()) {
            0 => self.crash_one(),
            1 => self.crash_all(),
            2 => self.pause_one(),
            3 => self.partition(),
            4 => self.cut_clients_off(),
            5 => self.network.mend(),
            6 => self.slow_one(),
            7 => self.fill_one(),
            8 => self.transfer(),
            9 => self.change_members(),
            10 => self.lose_disk(),
            11 => self.flip_bits(),
            _ => {}
        }
    }

    fn any_up(&mut self) -> Option<u64> {
        let up = self.up();
        (!up.is_empty()).then(|| up[self.random.below(up.len())])
    }

    fn crash_one(&mut self) {
        let leader = self.leader().filter(|_| self.random.chance(40));
        let Some(member) = leader.or_else(|| self.any_up()) else { return };
        self.crash(member);
        let most = [1_000, 500_000, 15_000_000][self.random.below(3)];
        let delay_us = 1 + self.random.below(most) as u64;
        self.at(delay_us, Event::Start { member });
    }

    /// The power goes, for all of them.
    fn crash_all(&mut self) {
        for member in self.up() {
            self.crash(member);
            let delay_us = 1 + self.random.below(3_000_000) as u64;
            self.at(delay_us, Event::Start { member });
        }
    }

    fn pause_one(&mut self) {
        let leader = self.leader().filter(|_| self.random.chance(50));
        let Some(id) = leader.or_else(|| self.any_up()).filter(|id| !self.is_paused(*id)) else {
            return;
        };
        let most = [50_000, 2_000_000, 10_000_000][self.random.below(3)];
        let until_us = self.now_us + 1 + self.random.below(most) as u64;
        let member = self.members.get_mut(&id).expect("it is up");
        member.paused_until_us = until_us;
        self.faults.pauses += 1;
        if self.random.chance(30) {
            member.stand_still(self.now_us, until_us);
            self.faults.clock_jumps += 1;
        }
        self.log(|| format!("{id} is stopped until {until_us}"));
    }

    /// Some are cut off from the others, for one direction or both.
    fn partition(&mut self) {
        let one_way = self.random.chance(30);
        let all: Vec<u64> = self.members.keys().copied().collect();
        let alone = self.leader().filter(|_| self.random.chance(40));
        let mut inside = |member: &u64| match alone {
            Some(leader) => *member == leader,
            None => self.random.chance(40),
        };
        let (side, other): (Vec<u64>, Vec<u64>) = all.into_iter().partition(&mut inside);
        let ends = |ids: &[u64]| ids.iter().map(|id| End::Member(*id)).collect::<Vec<End>>();
        let (mut side, mut other) = (ends(&side), ends(&other));
        if one_way && self.random.chance(50) {
            std::mem::swap(&mut side, &mut other);
        }
        if self.random.chance(70) {
            self.network.mend();
        }
        self.network.cut(&side, &other, one_way);
        if one_way {
            self.faults.one_way += 1;
        } else {
            self.faults.partitions += 1;
        }
        self.log(|| format!("{side:?} apart from {other:?}, one way: {one_way}"));
        for end in side {
            if let End::Member(member) = end
                && self.random.chance(50)
            {
                self.break_connections(member);
            }
        }
    }

    fn cut_clients_off(&mut self) {
        let Some(member) = self.any_up() else { return };
        let one_way = self.random.chance(50);
        self.network.cut(&[End::Member(member)], &[End::Clients], one_way);
        self.faults.clients_cut_off += 1;
    }

    fn slow_one(&mut self) {
        let Some(member) = self.any_up() else { return };
        let member = self.members.get_mut(&member).expect("it is up");
        member.slow_disk = !member.slow_disk;
        self.faults.slow_disks += usize::from(member.slow_disk);
    }

    fn fill_one(&mut self) {
        let Some(member) = self.any_up() else { return };
        let member = self.members.get_mut(&member).expect("it is up");
        member.disk.full = !member.disk.full;
        self.faults.full_disks += usize::from(member.disk.full);
    }

    fn transfer(&mut self) {
        let Some(leader) = self.leader().filter(|id| !self.is_paused(*id)) else { return };
        let all = self.operators_members();
        let to = all[self.random.below(all.len())];
        self.report.transfers += 1;
        self.log(|| format!("{leader} is to hand over to {to}"));
        self.ask(leader, 0, Request::MoveLeader { to }, Asker::Operator);
    }

    /// An operator adds, promotes or removes a member, wherever it can.
    fn change_members(&mut self) {
        let Some(member) = self.leader().or_else(|| self.any_up()) else { return };
        if self.is_paused(member) {
            return;
        }
        let membership = self.membership(member);
        let all: Vec<u64> = self.members.keys().copied().collect();
        let id = all[self.random.below(all.len())];
        let peer_urls = vec![format!("http://member-{id}:2380")];
        let is_learner = self.random.chance(60);
        let change = if membership.is_learner(id) && self.random.chance(80) {
            MemberChange::Promote { id }
        } else if membership.contains(id) {
            if membership.members().len() <= 2 || self.members[&id].was_removed {
                return;
            }
            MemberChange::Remove { id }
        } else if self.members[&id].was_removed {
            return;
        } else {
            MemberChange::Add { id, peer_urls, is_learner }
        };
        self.report.changes += 1;
        self.log(|| format!("{member} is asked for {change:?}"));
        match change {
            MemberChange::Add { .. } => {
                let delay_us = 1 + self.random.below(2_000_000) as u64;
                self.at(delay_us, Event::Start { member: id });
            }
            // One that was removed may learn of it, or not, and never comes back under its name.
            MemberChange::Remove { .. } => {
                self.members.get_mut(&id).expect("it exists").was_removed = true;
            }
            MemberChange::Promote { .. } => {}
        }
        let cores = self.cores(member).expect("it is up");
        let core = self.random.below(cores);
        self.ask(member, core, Request::ChangeMember(change), Asker::Operator);
    }
}
