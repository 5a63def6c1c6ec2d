//! What happens: steps of a world that a seed decides, faults, and what has to be so in the end.

use mainstay_raft::{Message as RaftMessage, Role};

use super::*;
use crate::replica::Installed;

impl World {
    /// One thing happens.
    pub(super) fn step(&mut self) {
        if self.random.below(STEPS_IN_MS) == 0 {
            self.pass_time();
        }
        if self.random.chance(55) {
            return self.deliver();
        }
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.below(ids.len())];
        if !self.machines[&id].paused {
            self.move_machine(id);
        }
    }

    fn pass_time(&mut self) {
        self.now_ms += 1;
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        for id in ids {
            if self.machines[&id].paused {
                continue;
            }
            if (self.now_ms + id).is_multiple_of(TICK_MS) {
                self.act(id, 0, Replica::raft_tick);
            }
            if (self.now_ms + id).is_multiple_of(50) {
                self.act(id, 0, Replica::tick);
            }
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        // Mostly what was sent early, sometimes anything.
        let bound = if self.random.chance(80) { 4 } else { usize::MAX };
        let place = self.random.below(self.network.len().min(bound));
        let Envelope { from, to, message } = self.network.remove(place);
        let lost = self.random.chance(2)
            || self.cut.contains(&(from, to))
            || !self.machines.contains_key(&to);
        match &message {
            PeerMessage::Raft(raft) => {
                if !lost && self.random.chance(1) {
                    let message = PeerMessage::Raft(RaftMessage::clone(raft));
                    self.network.push(Envelope { from, to, message });
                }
            }
            PeerMessage::Request { number, .. } => {
                let open = self.open.contains(&(from, *number, to));
                if lost && open {
                    self.open.retain(|asked| *asked != (from, *number, to));
                    return self.break_off(from, *number, to);
                }
                if !open {
                    return;
                }
            }
            PeerMessage::Answer { number, .. } => {
                let asked = (to, *number, from);
                let open = self.open.contains(&asked);
                self.open.retain(|other| *other != asked);
                if lost && open {
                    return self.break_off(to, *number, from);
                }
                if !open {
                    return;
                }
            }
        }
        if !lost {
            self.act(to, 0, |replica, now_ms, out| {
                replica.peer_message(from, message, now_ms, out)
            });
        }
    }

    fn move_machine(&mut self, id: u64) {
        let cores = self.machines[&id].replicas.len();
        let core = self.random.below(cores);
        match self.random.below(14) {
            0 | 1 => self.act(id, 0, |replica, _, out| replica.pump(3, out)),
            2 | 3 => {
                let machine = self.machines.get_mut(&id).expect("it is up");
                let count = self.random.below(machine.writes.len() + 1);
                if let Some(number) = machine.do_writes(count) {
                    self.act(id, 0, |replica, now_ms, out| replica.written(number, now_ms, out));
                }
            }
            4 => {
                self.act(id, core, |replica, now_ms, out| replica.resume(now_ms, out));
                self.act(id, core, |replica, now_ms, out| {
                    replica.compact_slice(now_ms, out);
                });
                self.act(id, core, |replica, now_ms, out| {
                    replica.work_slice(now_ms, out);
                });
            }
            5 => {
                self.serve_raft(id);
                self.look_up(id);
            }
            6 => {
                if let Some(heavy) =
                    self.machines.get_mut(&id).and_then(|machine| machine.heavy.pop_front())
                {
                    let done = heavy.run();
                    self.act(id, 0, |replica, now_ms, out| replica.evaluated(done, now_ms, out));
                }
            }
            _ => self.exchange(id),
        }
    }

    fn exchange(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).expect("it is up");
        let cores = machine.replicas.len();
        let full: Vec<(usize, usize)> = (0..cores)
            .flat_map(|from| (0..cores).map(move |to| (from, to)))
            .filter(|&(from, to)| !machine.queues[from][to].is_empty())
            .collect();
        if full.is_empty() {
            return self.act(id, 0, |replica, now_ms, out| replica.resume(now_ms, out));
        }
        let (from, to) = full[self.random.below(full.len())];
        let message = machine.queues[from][to].pop_front().expect("not empty");
        self.act(id, to, |replica, now_ms, out| replica.receive(from, message, now_ms, out));
    }

    fn look_up(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).expect("it is up");
        let Some((core, number, lookups)) = machine.lookups.pop() else { return };
        let compacted = machine.shared.compacted_revision();
        let found = lookups.iter().map(|lookup| self.history.in_log(lookup, compacted)).collect();
        self.act(id, core, |replica, now_ms, out| {
            replica.history_found(number, Ok(found), now_ms, out);
        });
    }

    /// The log and the snapshots give what raft wants of them.
    fn serve_raft(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).expect("it is up");
        if let Some(wanted) = machine.entries_wanted.pop() {
            let entries = machine.disk.read(wanted.from, wanted.to);
            if entries.first().is_some_and(|first| first.index == wanted.from) {
                self.act(id, 0, |replica, now_ms, out| replica.entries_read(entries, now_ms, out));
            } else {
                self.act(id, 0, |replica, now_ms, out| {
                    replica.entries_compacted(wanted.from, now_ms, out);
                });
            }
        }
        let machine = self.machines.get_mut(&id).expect("it is up");
        if let Some(wanted) = machine.snapshots_wanted.pop() {
            let to = wanted.to;
            let Some(snapshot) = &machine.disk.snapshot else {
                return self.act(id, 0, |replica, now_ms, out| {
                    replica.snapshot_unavailable(to, now_ms, out);
                });
            };
            // Its content is known from its place: the bytes are the index, in two parts.
            let index = snapshot.reached.index;
            let known = wanted.snapshot.as_ref().is_none_or(|known| known.index == index);
            let offset = if known { wanted.offset.min(8) } else { 0 };
            let content = index.to_le_bytes();
            let end = (offset as usize + 4).min(8);
            let part = Bytes::copy_from_slice(&content[offset as usize..end]);
            self.act(id, 0, |replica, now_ms, out| {
                replica.snapshot_part(to, (index, 7), offset, part, end == 8, now_ms, out);
            });
        }
        self.install(id);
    }

    fn install(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).expect("it is up");
        let Some(install) = machine.install.take() else { return };
        let content: [u8; 8] = machine.received[..].try_into().expect("complete");
        assert_eq!(u64::from_le_bytes(content), install.snapshot.index);
        let index = install.snapshot.index;
        let membership = vec![(index, install.snapshot.membership.clone())];
        let snapshot = self.snapshot_at(index, membership);
        let machine = self.machines.get_mut(&id).expect("it is up");
        // The log behind what was being written begins anew.
        assert!(!install.keeps_tail, "nothing is damaged here");
        machine.writes.clear();
        machine.disk.entries.clear();
        let cores = machine.replicas.len();
        let (state, reached) = (snapshot.state(cores), snapshot.reached);
        machine.disk.snapshot = Some(snapshot);
        machine.received.clear();
        self.report.installed += 1;
        self.act(id, 0, |replica, now_ms, out| {
            replica.snapshot_installed(Installed { state, reached }, now_ms, out);
        });
    }

    /// Gives up a member's log up to some entry that is applied and durable.
    fn compact_log(&mut self, id: u64) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let durable = machine.disk.last().index;
        let index = machine.shared.committed_index().min(durable);
        if index == 0 || index <= machine.disk.snapshot.as_ref().map_or(0, |s| s.reached.index) {
            return;
        }
        let node = machine.member().sequencer().node();
        let membership = node.membership().clone();
        if node.commit() < index || !machine.replicas[0].may_compact_log(index) {
            return;
        }
        // In these stories memberships change while no log is given up.
        let snapshot = self.snapshot_at(index, vec![(index, membership)]);
        self.machines.get_mut(&id).expect("it is up").disk.compact(snapshot);
    }

    fn trouble(&mut self) {
        let id = self.voters[self.random.below(self.voters.len())];
        match self.random.below(8) {
            0 if self.disks.len() < self.voters.len() - 1 || self.random.chance(10) => {
                self.crash(id);
            }
            1 | 2 => {
                if let Some((id, disk)) = self.disks.pop_first() {
                    self.start(id, disk);
                }
            }
            3 => {
                for other in self.voters.clone() {
                    self.cut.push((id, other));
                    if self.random.chance(70) {
                        self.cut.push((other, id));
                    }
                }
            }
            4 | 5 => self.cut.clear(),
            6 => {
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.paused = !machine.paused;
                }
            }
            _ => self.machines.values_mut().for_each(|machine| machine.paused = false),
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        while let Some((id, disk)) = self.disks.pop_first() {
            self.start(id, disk);
        }
        self.machines.values_mut().for_each(|machine| machine.paused = false);
    }

    /// Everything that waits is answered, and everybody has everything.
    pub(super) fn finish(&mut self) {
        self.heal();
        for round in 0..6_000_000 {
            if round % 1_000 == 0 && self.is_settled() {
                return;
            }
            self.step();
        }
        for machine in self.machines.values() {
            let node = machine.member().sequencer().node();
            eprintln!(
                "{}: {:?} term {} last {} commit {} applied {} taken {} committed {} asked {:?} quiet {:?}",
                machine.id,
                node.role(),
                node.term(),
                node.last_index(),
                node.commit(),
                machine.shared.committed_index(),
                machine.shared.taken_revision(),
                machine.shared.committed_revision(),
                machine.asked.values().next(),
                machine.replicas.iter().map(Replica::is_quiet).collect::<Vec<_>>(),
            );
        }
        panic!("it does not come to an end: {:?}", self.report);
    }

    fn is_settled(&self) -> bool {
        let newest = self.truth.last_key_value().map_or(0, |(index, _)| *index);
        let quiet = |machine: &Machine| {
            machine.asked.is_empty()
                && machine.shared.committed_index() == newest
                && machine.queues.iter().flatten().all(VecDeque::is_empty)
                && machine.replicas.iter().all(Replica::is_quiet)
                && machine.replicas.iter().all(|replica| replica.applied_index == newest)
        };
        let leaders = self.machines.values().filter(|machine| {
            let node = machine.member().sequencer().node();
            node.role() == Role::Leader && node.last_index() == newest
        });
        leaders.count() == 1 && self.machines.values().all(quiet)
    }

    pub(super) fn check_equal(&self) {
        let everything = KeyRange::prefix(b"");
        let expected = self.history.at(self.newest_revision(), &everything);
        for machine in self.machines.values() {
            let shards = machine.replicas.iter().map(Replica::shard);
            let mut found: Vec<Record> = shards
                .flat_map(|shard| shard.mvcc().newest_in(&everything))
                .filter(|record| !record.is_tombstone())
                .cloned()
                .collect();
            found.sort_by(|left, right| left.key().cmp(right.key()));
            assert_eq!(found, expected, "member {}", machine.id);
            assert_eq!(machine.shared.taken_revision(), self.newest_revision());
            let leases: Vec<LeaseId> = machine.member().leases.ids().collect();
            assert_eq!(leases, self.leases.ids().collect::<Vec<_>>());
            assert_eq!(machine.member().documents, self.documents);
        }
    }
}

fn run(seed: u64, requests: usize, faults: bool, compacts: bool) -> World {
    let mut world = World::new(seed, 3);
    for _ in 0..2_000 {
        world.step();
    }
    for _ in 0..requests {
        if !world.machines.is_empty() {
            world.ask();
        }
        if faults && world.random.chance(4) {
            world.trouble();
        }
        if compacts && world.random.chance(5) {
            let id = 1 + world.random.below(3) as u64;
            world.compact_log(id);
        }
        for _ in 0..world.random.below(if faults { 900 } else { 400 }) {
            world.step();
        }
    }
    world.finish();
    world.check_equal();
    world
}

fn run_many(seeds: std::ops::Range<u64>, requests: usize, faults: bool, compacts: bool) -> Report {
    let mut all = Report::default();
    let seeds = match std::env::var("CLUSTER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed, requests, faults, compacts).report);
        let report = outcome.unwrap_or_else(|panic| {
            eprintln!("seed {seed} failed: CLUSTER_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        for (kind, count) in report.answered {
            *all.answered.entry(kind).or_default() += count;
        }
        for (kind, count) in report.failed {
            *all.failed.entry(kind).or_default() += count;
        }
        all.lost_by_crash += report.lost_by_crash;
        all.elections += report.elections;
        all.installed += report.installed;
    }
    eprintln!("{all:?}");
    all
}

#[test]
fn three_members_answer_as_one() {
    let report = run_many(0..20, 300, false, false);
    assert!(report.answered["write"] > 1_500, "{report:?}");
    assert!(!report.failed.contains_key("TimedOut"), "{report:?}");
}

#[test]
fn what_is_told_survives_faults() {
    let report = run_many(100..140, 250, true, false);
    assert!(report.answered["write"] > 1_500 && report.answered["range"] > 500, "{report:?}");
    assert!(report.elections > 60, "{report:?}");
}

#[test]
fn who_lags_behind_the_log_gets_a_snapshot() {
    let report = run_many(200..230, 250, true, true);
    assert!(report.installed > 5, "{report:?}");
}
