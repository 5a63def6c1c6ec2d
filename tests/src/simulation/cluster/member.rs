//! One member: its disk and its clock, which outlive its processes.

use mainstay_raft::Membership;

use super::super::random::Random;
use super::disk::Disk;
use super::machine::Machine;
use super::swarm::Swarm;
use super::world::World;

/// A clock that runs a bit wrong, and begins anew with each start, as a machine's does.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    offset_us: u64,
    /// Parts per million too fast; less than 0 for too slow.
    drift_ppm: i64,
    /// When it began.
    since_us: u64,
    /// It stood still from then to then, at last; and for how long before.
    still: (u64, u64),
    still_us: u64,
}

impl Clock {
    /// How much time has passed for it.
    fn passed_us(&self, now_us: u64) -> u64 {
        let (from_us, until_us) = self.still;
        let still_us = self.still_us + now_us.clamp(from_us, until_us) - from_us;
        now_us - self.since_us - still_us
    }
}

pub(super) struct Member {
    pub(super) id: u64,
    pub(super) disk: Disk,
    /// Which life of its disk this is, as raft has to know.
    pub(super) incarnation: u64,
    /// Who was a member when the cluster began; nobody for one that joins.
    pub(super) initial: Membership,
    pub(super) life: u32,
    pub(super) machine: Option<Machine>,
    clock: Clock,
    drift_ppm: usize,
    pub(super) paused_until_us: u64,
    pub(super) slow_disk: bool,
    /// Operators took it out of the cluster, or tried to.
    pub(super) was_removed: bool,
    /// It belongs to the cluster since its beginning, or was added.
    pub(super) has_begun: bool,
    /// At its last start.
    pub(super) cores_before: Option<usize>,
    /// Its disk was lost, and it has not come back.
    pub(super) lost: bool,
}

impl Member {
    pub(super) fn new(id: u64, voters: &[u64], swarm: &Swarm, random: &mut Random) -> Member {
        let mut member = Member {
            id,
            disk: Disk::default(),
            incarnation: 0,
            initial: Membership::of_voters(voters),
            life: 0,
            machine: None,
            clock: Clock::default(),
            drift_ppm: swarm.drift_ppm,
            paused_until_us: 0,
            slow_disk: false,
            was_removed: false,
            has_begun: false,
            cores_before: None,
            lost: false,
        };
        member.set_clock(0, random);
        member
    }

    /// A machine starts: nobody knows what its clock says.
    pub(super) fn set_clock(&mut self, now_us: u64, random: &mut Random) {
        let drift_ppm = random.below(2 * self.drift_ppm + 1) as i64 - self.drift_ppm as i64;
        let offset_us = random.below(1_000_000_000) as u64;
        self.clock = Clock { offset_us, drift_ppm, since_us: now_us, ..Clock::default() };
    }

    /// The machine is suspended: its clock stands still, and is behind when it goes on.
    pub(super) fn stand_still(&mut self, now_us: u64, until_us: u64) {
        let (from_us, before_us) = self.clock.still;
        self.clock.still_us += now_us.clamp(from_us, before_us) - from_us;
        self.clock.still = (now_us, until_us);
    }

    /// Its clock jumps ahead. That has to be noticed: leases end too early.
    pub(super) fn jump_us(&mut self, jump_us: u64) {
        self.clock.offset_us += jump_us;
    }

    /// What its clock says.
    pub(super) fn now_ms(&self, now_us: u64) -> u64 {
        let passed = self.clock.passed_us(now_us);
        let scaled = i128::from(passed) * i128::from(1_000_000 + self.clock.drift_ppm) / 1_000_000;
        (self.clock.offset_us + u64::try_from(scaled).expect("time goes on")) / 1000
    }

    /// How long one of its intervals takes in truth.
    pub(super) fn interval_us(&self, interval_us: u64) -> u64 {
        let scaled =
            i128::from(interval_us) * 1_000_000 / i128::from(1_000_000 + self.clock.drift_ppm);
        u64::try_from(scaled).expect("time goes on")
    }

    /// Whether it leads, as far as it knows; `None` while it is down.
    pub(super) fn leads(&self) -> Option<bool> {
        self.machine.as_ref().map(|machine| machine.shared.is_leader())
    }
}

impl World {
    pub(super) fn machine(&mut self, member: u64) -> &mut Machine {
        let member = self.members.get_mut(&member).expect("every id is a member");
        member.machine.as_mut().expect("only of members that are up")
    }

    pub(super) fn is_up(&self, member: u64, life: u32) -> bool {
        let member = &self.members[&member];
        member.life == life && member.machine.is_some()
    }

    /// Until when a member is stopped, if it is.
    pub(super) fn paused_until(&self, member: u64) -> Option<u64> {
        let until_us = self.members[&member].paused_until_us;
        (until_us > self.now_us).then_some(until_us)
    }

    pub(super) fn is_paused(&self, member: u64) -> bool {
        self.paused_until(member).is_some()
    }

    pub(super) fn up(&self) -> Vec<u64> {
        let up = self.members.values().filter(|member| member.machine.is_some());
        up.map(|member| member.id).collect()
    }

    /// How many cores a member has, if it is up.
    pub(super) fn cores(&self, member: u64) -> Option<usize> {
        self.members[&member].machine.as_ref().map(|machine| machine.replicas.len())
    }

    /// Those that clients are told of.
    pub(super) fn operators_members(&self) -> Vec<u64> {
        let members = self.members.values();
        let known = members.filter(|member| member.has_begun && !member.was_removed);
        let known: Vec<u64> = known.map(|member| member.id).collect();
        if known.is_empty() { self.members.keys().copied().collect() } else { known }
    }

    /// The leader of the newest term, as far as anybody who is up knows.
    pub(super) fn leader(&self) -> Option<u64> {
        let leaders = self.members.values().filter(|member| member.leads() == Some(true));
        let term = |id: u64| self.node(id).map_or(0, mainstay_raft::Node::term);
        leaders.map(|member| member.id).max_by_key(|id| term(*id))
    }

    pub(super) fn node(&self, member: u64) -> Option<&mainstay_raft::Node> {
        let machine = self.members[&member].machine.as_ref()?;
        Some(machine.replicas[0].member()?.sequencer().node())
    }

    /// Who is a member, as a member that is up knows.
    pub(super) fn membership(&self, member: u64) -> Membership {
        self.node(member).expect("it is up").membership().clone()
    }
}
