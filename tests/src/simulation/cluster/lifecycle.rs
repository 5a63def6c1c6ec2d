//! How members start, crash, and lose what they had.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_engine::lease::LeaseTable;
use mainstay_engine::replica::Replica;
use mainstay_engine::request::KeyRange;
use mainstay_engine::restored::{Restart, State, follow};
use mainstay_engine::sequencer::LogEntry;
use mainstay_engine::shared::Shared;
use mainstay_engine::watch::WatchHub;
use mainstay_engine::{Record, Revision};
use mainstay_raft::{Config, HardState, Membership, Options, SnapshotWanted};

use super::Bug;
use super::disk::raw_batch;
use super::machine::Machine;
use super::world::{Asker, Event, Life, World};

impl World {
    /// A member starts, with what its disk holds and some number of cores.
    pub(super) fn start(&mut self, id: u64) {
        if self.members[&id].machine.is_some() {
            return;
        }
        let cores = self.random.between(1, self.swarm.cores_max);
        let seed = self.random.below(usize::MAX) as u64;
        self.plant_on_disk(id);
        let (now_us, bug) = (self.now_us, self.bug);
        let options = self.options();
        let member = self.members.get_mut(&id).expect("every id is a member");
        member.life += 1;
        member.has_begun = true;
        member.paused_until_us = 0;
        member.set_clock(now_us, &mut self.random);
        let config = Config { seed, options, ..config(member) };
        let applied = config.applied;
        let (state, revision) = restore(member, applied, cores, bug);
        let pending = pending(member, applied);
        self.commit_from_log(id, applied);
        self.check_restored(id, &state, revision);
        let restart = Restart { config, revision, pending };
        let machine = self.boot(id, state, restart);
        let life = Life { member: id, life: self.members[&id].life };
        let member = self.members.get_mut(&id).expect("every id is a member");
        self.faults.resized += usize::from(member.cores_before.is_some_and(|one| one != cores));
        member.cores_before = Some(cores);
        member.machine = Some(machine);
        self.report.starts += 1;
        self.log(|| format!("{id} starts with {cores} cores, {applied} applied, at {revision}"));
        let first_us = 1 + self.random.below(100_000) as u64;
        self.at(first_us, Event::RaftTick(life));
        self.at(first_us + 200_000, Event::Tick(life));
        // Whatever there is to do at once.
        self.drive(id, 0, |replica, now_ms, out| replica.resume(now_ms, out));
    }

    fn options(&self) -> Options {
        Options {
            pre_vote: self.swarm.pre_vote,
            lease_reads: self.swarm.lease_reads,
            message_bytes: self.swarm.message_bytes,
            cache_bytes: self.swarm.cache_bytes,
            snapshot_part_bytes: self.swarm.part_bytes,
            inflight_messages: self.swarm.inflight_messages,
            ..Options::default()
        }
    }

    fn boot(&mut self, id: u64, state: State, restart: Restart) -> Machine {
        let State { shards, mut rest } = state;
        let cores = shards.len();
        if self.bug == Some(Bug::LeasesForgotten) {
            rest.leases = LeaseTable::default();
        }
        let (revision, applied) = (restart.revision, restart.config.applied);
        let term = self.members[&id].disk.durable.get(applied).map_or(0, |entry| entry.term);
        let shared = Arc::new(Shared::new(cores, revision, rest.compacted, applied));
        shared.set_committed(revision, applied, term);
        let now_ms = self.members[&id].now_ms(self.now_us);
        let mut member = rest.into_member(cores, restart);
        if !member.is_clustered() {
            shared.skip_to(member.skip_what_was_lost(revision));
        }
        member.set_lease_checkpoint_seconds(self.swarm.checkpoint_seconds);
        member.introduce(&shared);
        member.start(now_ms);
        let mut member = Some(member);
        let replicas = shards.into_iter().enumerate().map(|(core, shard)| {
            let compacted = shard.mvcc().compacted_revision();
            let hub = WatchHub::with_ring_bytes(revision, compacted, self.swarm.ring_bytes);
            let member = if core == 0 { member.take() } else { None };
            Replica::new(core, cores, Arc::clone(&shared), shard, hub, member, applied)
        });
        Machine::new(replicas.collect(), shared)
    }

    fn check_restored(&self, id: u64, state: &State, revision: Revision) {
        let everything = KeyRange::prefix(b"");
        let newest = state.shards.iter().flat_map(|shard| shard.mvcc().newest_in(&everything));
        self.truth.check_state(id, newest.cloned().collect(), revision);
    }

    /// What a member's shards hold together is what lives.
    pub(super) fn check_running(&mut self, id: u64) {
        let machine = self.machine(id);
        let revision = machine.shared.committed_revision();
        let everything = KeyRange::prefix(b"");
        let shards = machine.replicas.iter().map(Replica::shard);
        let newest = shards.flat_map(|shard| shard.mvcc().newest_in(&everything));
        let records: Vec<Record> = newest.cloned().collect();
        self.truth.check_state(id, records, revision);
    }

    /// A member stops in the midst of what it is at.
    pub(super) fn crash(&mut self, id: u64) {
        let bug = self.bug;
        let member = self.members.get_mut(&id).expect("every id is a member");
        let Some(machine) = member.machine.take() else { return };
        member.disk.crash(&mut self.random, &mut self.faults, bug);
        self.faults.crashes += 1;
        self.log(|| format!("{id} crashes"));
        self.break_connections(id);
        for asker in machine.asked.into_values() {
            if let Asker::Client { client, number } = asker {
                self.hang_up(client, number);
            }
        }
    }

    /// A machine is replaced: what it had on its disk is gone.
    pub(super) fn lose_disk(&mut self) {
        let Some(id) = self.victim() else { return };
        self.crash(id);
        self.faults.replaced += 1;
        self.log(|| format!("{id} loses its disk"));
        let bug = self.bug;
        let member = self.members.get_mut(&id).expect("every id is a member");
        member.disk.lose();
        member.lost = true;
        // One that does not know what happened begins like the first time.
        if bug != Some(Bug::ComesBackAsItself) {
            member.incarnation += 1;
            member.initial = Membership::default();
        }
        let delay_us = 1 + self.random.below(3_000_000) as u64;
        self.at(delay_us, Event::Start { member: id });
    }

    /// One of the newest entries of a member can't be read any more.
    pub(super) fn flip_bits(&mut self) {
        let Some(id) = self.victim() else { return };
        let disk = &self.members[&id].disk;
        let newest: Vec<u64> = disk.durable.iter().rev().take(6).map(|entry| entry.index).collect();
        if newest.is_empty() || !disk.is_idle() {
            return;
        }
        let index = newest[self.random.below(newest.len())];
        self.crash(id);
        self.faults.bits_flipped += 1;
        self.log(|| format!("{id} can't read {index} any more"));
        self.members.get_mut(&id).expect("every id is a member").disk.damaged.insert(index);
        self.start(id);
    }

    /// A voter that may be struck: fewer than half of them are then, no change of members is under
    /// way, and nobody has an outdated idea of who they are.
    fn victim(&mut self) -> Option<u64> {
        let leader = self.leader()?;
        let membership = self.membership(leader);
        if membership.is_joint() {
            return None;
        }
        let settled = |id: u64| {
            let node = self.node(id)?;
            let newest = self.members[&id].disk.memberships().last().map_or(0, |newest| newest.0);
            (*node.membership() == membership && newest <= node.commit()).then_some(())
        };
        membership.members().into_iter().try_for_each(settled)?;
        let recovered = |id: u64, incarnation: u64| {
            membership.is_voter(id) && membership.incarnation(id) == incarnation
        };
        for member in self.members.values_mut() {
            member.lost &= !recovered(member.id, member.incarnation);
        }
        let struck = self.members.values().filter(|member| {
            let repairing = self.node(member.id).is_some_and(|node| node.damages().count() > 0);
            member.lost || !member.disk.damaged.is_empty() || repairing
        });
        let mut struck: BTreeSet<u64> = struck.map(|member| member.id).collect();
        let voters: Vec<u64> = membership.members();
        let voters: Vec<u64> = voters.into_iter().filter(|id| membership.is_voter(*id)).collect();
        let id = voters[self.random.below(voters.len())];
        struck.insert(id);
        (struck.len() <= (voters.len() - 1) / 2).then_some(id)
    }

    fn plant_on_disk(&mut self, id: u64) {
        if self.bug != Some(Bug::ChecksumIgnored) {
            return;
        }
        let member = self.members.get_mut(&id).expect("every id is a member");
        let committed = member.disk.hard_state.commit;
        let holds_values = |entry: &&LogEntry| {
            entry.revision_after > entry.revision_before && entry.index <= committed
        };
        let newest = member.disk.durable.iter().rev().find(holds_values).cloned();
        let Some(entry) = newest else { return };
        let mut payload = entry.payload.to_vec();
        *payload.last_mut().expect("it holds a change") ^= 1;
        member.disk.change(LogEntry { payload: Bytes::from(payload), ..entry });
    }

    /// Bytes of a snapshot are wanted.
    pub(super) fn snapshot_read(&mut self, life: Life, wanted: &SnapshotWanted) {
        if self.is_up(life.member, life.life) {
            self.drive(life.member, 0, |replica, now_ms, out| {
                replica.snapshot_unavailable(wanted.to, now_ms, out);
            });
        }
    }
}

/// What raft needs to know.
fn config(member: &super::member::Member) -> Config {
    let disk = &member.disk;
    let (last_index, last_term) =
        disk.durable.last().map_or((0, 0), |last| (last.index, last.term));
    let mut memberships = vec![(0, member.initial.clone())];
    memberships.extend(disk.memberships());
    let newest = &memberships.last().expect("just made").1;
    let alone = newest.members() == [member.id]
        && !newest.is_joint()
        && newest.incarnation(member.id) == member.incarnation;
    let damaged = disk.damage();
    let commit = if alone { last_index } else { disk.hard_state.commit.min(last_index) };
    let intact = damaged.first().map_or(u64::MAX, |first| first.index - 1);
    Config {
        id: member.id,
        hard_state: HardState {
            term: disk.hard_state.term.max(last_term),
            vote: disk.hard_state.vote,
            commit,
        },
        last_index,
        last_term,
        incarnation: member.incarnation,
        memberships,
        terms: disk.terms(),
        applied: commit.min(intact),
        damaged,
        ..Config::default()
    }
}

/// The state after everything that is applied.
fn restore(
    member: &super::member::Member,
    applied: u64,
    cores: usize,
    bug: Option<Bug>,
) -> (State, Revision) {
    let mut state = State::new(cores);
    let (mut portion, mut revision) = (Vec::new(), 1);
    for entry in member.disk.durable.iter().take_while(|entry| entry.index <= applied) {
        revision = entry.revision_after;
        let Some(batch) = raw_batch(entry) else { continue };
        let skipped = bug == Some(Bug::ReplaySkipsBatch) && portion.len() == 2;
        state.rest.follow_batch(&batch);
        if !skipped {
            portion.push(batch);
        }
    }
    let portion = Arc::new(portion);
    for (number, shard) in state.shards.iter_mut().enumerate() {
        follow(shard, (number, cores), [Arc::clone(&portion)]);
    }
    (state, revision)
}

/// The entries behind what is applied, without what can't be read.
fn pending(member: &super::member::Member, applied: u64) -> Vec<LogEntry> {
    let read = |entry: &LogEntry| match member.disk.damaged.contains(&entry.index) {
        true => LogEntry { payload: Bytes::new(), ..entry.clone() },
        false => entry.clone(),
    };
    member.disk.durable.iter().filter(|entry| entry.index > applied).map(read).collect()
}
