//! A member's process: its cores, what they tell each other, and what they have to do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mainstay_engine::message::{Message, Token};
use mainstay_engine::mvcc::Lookup;
use mainstay_engine::replica::{Heavy, Output, Replica};
use mainstay_engine::shared::Shared;
use mainstay_engine::{Record, Revision};
use mainstay_raft::EntriesWanted;

use super::Bug;
use super::disk::batch_of;
use super::world::{Asker, Event, Life, World};

/// Batches that may be on their way to the log, as in the real store.
const DEPTH: usize = 4;

/// What one core has been told to do soon.
#[derive(Default, Clone, Copy)]
struct Flags {
    resume: bool,
    compact: bool,
    work: bool,
}

pub(super) struct Machine {
    pub(super) replicas: Vec<Replica>,
    pub(super) shared: Arc<Shared>,
    /// By origin and destination; in order.
    queues: Vec<Vec<VecDeque<Message>>>,
    flags: Vec<Flags>,
    pump: bool,
    heavy: VecDeque<Heavy>,
    /// Asked of the log, by core and number.
    lookups: Vec<(usize, u64, Vec<Lookup>)>,
    pub(super) asked: BTreeMap<(usize, Token), Asker>,
    pub(super) next_token: Token,
    /// It has something to do, and is going to.
    acting: bool,
    /// The disk is busy until then.
    disk_busy_until_us: u64,
    pub(super) led: bool,
    /// For a planted mistake: with its next tick, when it has taken the lead.
    clock_jumps: bool,
}

/// Something that a process can do.
enum Task {
    Deliver(usize, usize),
    Resume(usize),
    Compact(usize),
    Work(usize),
    Pump,
    Evaluate,
    LookUp(usize),
}

impl Machine {
    pub(super) fn new(replicas: Vec<Replica>, shared: Arc<Shared>) -> Machine {
        let cores = replicas.len();
        Machine {
            replicas,
            shared,
            queues: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            // The log may have brought back what was compacted before.
            flags: vec![Flags { compact: true, resume: true, work: false }; cores],
            pump: true,
            heavy: VecDeque::new(),
            lookups: Vec::new(),
            asked: BTreeMap::new(),
            next_token: 1,
            acting: false,
            disk_busy_until_us: 0,
            led: false,
            clock_jumps: false,
        }
    }

    fn tasks(&self) -> Vec<Task> {
        let cores = self.replicas.len();
        let mut tasks = Vec::new();
        for from in 0..cores {
            let to = (0..cores).filter(|&to| !self.queues[from][to].is_empty());
            tasks.extend(to.map(|to| Task::Deliver(from, to)));
        }
        for (core, flags) in self.flags.iter().enumerate() {
            tasks.extend(flags.resume.then_some(Task::Resume(core)));
            tasks.extend(flags.compact.then_some(Task::Compact(core)));
            tasks.extend(flags.work.then_some(Task::Work(core)));
        }
        tasks.extend(self.pump.then_some(Task::Pump));
        tasks.extend((!self.heavy.is_empty()).then_some(Task::Evaluate));
        tasks.extend((0..self.lookups.len()).map(Task::LookUp));
        tasks
    }
}

impl World {
    /// Lets a core act, and carries out what comes of it.
    pub(super) fn drive<R>(
        &mut self,
        member: u64,
        core: usize,
        act: impl FnOnce(&mut Replica, u64, &mut Output) -> R,
    ) -> R {
        let mut out = Output::default();
        let now_ms = self.members[&member].now_ms(self.now_us);
        let result = act(&mut self.machine(member).replicas[core], now_ms, &mut out);
        self.carry_out(member, core, out);
        result
    }

    fn life(&self, member: u64) -> Life {
        Life { member, life: self.members[&member].life }
    }

    fn carry_out(&mut self, member: u64, core: usize, out: Output) {
        let life = self.life(member);
        for batch in out.commits {
            let drift_ppm = self.swarm.drift_ppm as u64;
            self.truth.committed(member, &batch, self.now_us, drift_ppm);
            let machine = self.machine(member);
            for other in (0..machine.replicas.len()).filter(|&other| other != core) {
                machine.queues[core][other].push_back(Message::Committed(Arc::clone(&batch)));
            }
        }
        for (to, message) in out.messages {
            let message = self.plant_in_core(member, core, to, message);
            let machine = self.machine(member);
            machine.queues[core][to].extend(message);
        }
        for write in out.writes {
            self.write(life, write);
        }
        for (to, message) in out.peer {
            self.send(life, to, message);
        }
        for wanted in out.entries_wanted {
            let delay_us = 1 + self.random.below(5_000) as u64;
            self.at(delay_us, Event::EntriesRead(life, wanted));
        }
        for wanted in out.snapshots_wanted {
            let delay_us = 1 + self.random.below(20_000) as u64;
            self.at(delay_us, Event::SnapshotRead(life, Box::new(wanted)));
        }
        for watcher in out.watchers {
            self.woken(member, core, watcher);
        }
        let machine = self.machine(member);
        machine.heavy.extend(out.heavy);
        let lookups = out.lookups.into_iter().map(|(id, lookups)| (core, id, lookups));
        machine.lookups.extend(lookups);
        let flags = &mut machine.flags[core];
        flags.resume |= out.resume;
        flags.compact |= out.compact;
        flags.work |= out.work;
        machine.pump |= out.pump;
        for (token, outcome) in out.answers {
            self.answer(member, core, token, outcome);
        }
        self.act_soon(life);
        self.note_lead(member);
    }

    fn note_lead(&mut self, member: u64) {
        let machine = self.machine(member);
        let leads = machine.shared.is_leader();
        if leads != std::mem::replace(&mut machine.led, leads) {
            self.report.elections += usize::from(leads);
            self.machine(member).clock_jumps = leads && self.bug == Some(Bug::LeaseNotExtended);
            self.log(|| format!("{member} leads: {leads}"));
        }
    }

    fn act_soon(&mut self, life: Life) {
        let machine = self.machine(life.member);
        if !machine.acting && !machine.tasks().is_empty() {
            machine.acting = true;
            let delay_us = 1 + self.random.below(100) as u64;
            self.at(delay_us, Event::Act(life));
        }
    }

    /// A process does some of what it has to do, in any order.
    pub(super) fn act(&mut self, life: Life) {
        if !self.is_up(life.member, life.life) {
            return;
        }
        let steps = 1 + self.random.below(self.swarm.burst);
        for _ in 0..steps {
            let mut tasks = self.machine(life.member).tasks();
            if tasks.is_empty() {
                break;
            }
            let task = tasks.swap_remove(self.random.below(tasks.len()));
            self.perform(life.member, task);
        }
        self.machine(life.member).acting = false;
        self.act_soon(life);
    }

    fn perform(&mut self, member: u64, task: Task) {
        match task {
            Task::Deliver(from, to) => {
                let message = self.machine(member).queues[from][to].pop_front();
                let message = message.expect("just seen");
                self.drive(member, to, |replica, now_ms, out| {
                    replica.receive(from, message, now_ms, out);
                });
            }
            Task::Resume(core) => {
                self.machine(member).flags[core].resume = false;
                self.drive(member, core, |replica, now_ms, out| replica.resume(now_ms, out));
            }
            Task::Compact(core) => {
                self.machine(member).flags[core].compact = false;
                let more = self
                    .drive(member, core, |replica, now_ms, out| replica.compact_slice(now_ms, out));
                self.machine(member).flags[core].compact |= more;
            }
            Task::Work(core) => {
                self.machine(member).flags[core].work = false;
                let more = self
                    .drive(member, core, |replica, now_ms, out| replica.work_slice(now_ms, out));
                self.machine(member).flags[core].work |= more;
            }
            Task::Pump => {
                self.machine(member).pump = false;
                self.drive(member, 0, |replica, _, out| replica.pump(DEPTH, out));
            }
            Task::Evaluate => {
                let heavy = self.machine(member).heavy.pop_front().expect("just seen");
                let done = heavy.run();
                self.drive(member, 0, |replica, now_ms, out| {
                    replica.evaluated(done, now_ms, out);
                });
            }
            Task::LookUp(place) => self.look_up(member, place),
        }
    }

    /// The log answers some core.
    fn look_up(&mut self, member: u64, place: usize) {
        let (core, id, lookups) = self.machine(member).lookups.swap_remove(place);
        let view = &self.members[&member].disk.view;
        let find = |lookup: &Lookup| view.find(&lookup.key, lookup.revision);
        let found: Vec<Option<Record>> = lookups.iter().map(find).collect();
        self.drive(member, core, |replica, now_ms, out| {
            replica.history_found(id, Ok(found), now_ms, out);
        });
    }

    /// The version of a key at a revision, as a member's disk has it.
    pub(super) fn find(&self, member: u64, key: &[u8], revision: Revision) -> Option<Record> {
        self.members[&member].disk.view.find(key, revision)
    }

    /// Some batches from the one that holds a revision on, as a member's disk has them.
    pub(super) fn read_batches(
        &self,
        member: u64,
        revision: Revision,
        max: usize,
    ) -> Option<Vec<mainstay_engine::effect::SharedBatch>> {
        Some(self.members[&member].disk.view.read_from(revision, max))
    }

    /// Something goes to a member's disk.
    fn write(&mut self, life: Life, write: mainstay_engine::sequencer::LogWrite) {
        let number = write.number;
        let (bug, now_us) = (self.bug, self.now_us);
        let slow = self.members[&life.member].slow_disk && !self.healing;
        let most = if slow { self.swarm.slow_write_us } else { self.swarm.write_us };
        let takes_us = 1 + self.random.below(most) as u64;
        let member = self.members.get_mut(&life.member).expect("every id is a member");
        member.disk.submit(write);
        let machine = self.machine(life.member);
        machine.disk_busy_until_us = machine.disk_busy_until_us.max(now_us) + takes_us;
        let delay_us = machine.disk_busy_until_us - now_us;
        self.at(delay_us, Event::Written(life, number));
        if bug == Some(Bug::AckBeforeSync) && number > 0 {
            self.report_written(life, number);
        }
    }

    /// The oldest write of a member ends.
    pub(super) fn written(&mut self, life: Life, number: u64) {
        if !self.is_up(life.member, life.life) {
            return;
        }
        let member = self.members.get_mut(&life.member).expect("every id is a member");
        if member.disk.full && !self.healing {
            return self.at(50_000, Event::Written(life, number));
        }
        let done = member.disk.complete(self.bug).filter(|number| *number > 0);
        if let Some(number) = done.filter(|_| self.bug != Some(Bug::AckBeforeSync)) {
            self.report_written(life, number);
        }
    }

    /// What a slow disk has yet to do is done soon.
    pub(super) fn hurry_disk(&mut self, member: u64) {
        let life = self.life(member);
        let now_us = self.now_us;
        let member = self.members.get_mut(&member).expect("every id is a member");
        let Some(machine) = &mut member.machine else { return };
        machine.disk_busy_until_us = now_us;
        for number in member.disk.numbers_in_flight() {
            self.at(1 + number % 50, Event::Written(life, number));
        }
    }

    fn report_written(&mut self, life: Life, number: u64) {
        self.drive(life.member, 0, |replica, now_ms, out| {
            replica.written(number, now_ms, out);
            replica.pump(DEPTH, out);
        });
    }

    pub(super) fn tick(&mut self, life: Life) {
        if !self.is_up(life.member, life.life) {
            return;
        }
        let next_us = self.members[&life.member].interval_us(500_000);
        self.at(next_us, Event::Tick(life));
        if std::mem::take(&mut self.machine(life.member).clock_jumps) {
            self.members.get_mut(&life.member).expect("it is up").jump_us(6_000_000);
        }
        let full = self.members[&life.member].disk.full && !self.healing;
        let machine = self.machine(life.member);
        machine.shared.set_disk_is_full(full);
        for core in 0..machine.replicas.len() {
            self.drive(life.member, core, |replica, now_ms, out| replica.tick(now_ms, out));
        }
    }

    pub(super) fn raft_tick(&mut self, life: Life) {
        if !self.is_up(life.member, life.life) {
            return;
        }
        let next_us = self.members[&life.member].interval_us(100_000);
        self.at(next_us, Event::RaftTick(life));
        self.drive(life.member, 0, |replica, now_ms, out| replica.raft_tick(now_ms, out));
    }

    /// Old entries are read for somebody who lacks them.
    pub(super) fn entries_read(&mut self, life: Life, wanted: EntriesWanted) {
        if !self.is_up(life.member, life.life) {
            return;
        }
        let disk = &self.members[&life.member].disk;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in wanted.from..=wanted.to {
            let entry = disk.view.get(index).filter(|_| !disk.damaged.contains(&index));
            let Some(entry) = entry else { break };
            bytes += entry.payload.len();
            if !entries.is_empty() && bytes > wanted.max_bytes {
                break;
            }
            entries.push(entry.clone());
        }
        let damage = disk.damage().into_iter().find(|damage| damage.index == wanted.from);
        self.drive(life.member, 0, |replica, now_ms, out| match (entries.is_empty(), damage) {
            (false, _) => replica.entries_read(entries, now_ms, out),
            (true, Some(damage)) => replica.entry_damaged(damage, now_ms, out),
            // Cut off meanwhile: whoever needed them asks anew.
            (true, None) => replica.entries_compacted(wanted.from, now_ms, out),
        });
    }

    /// Mistakes between the cores of a member: what is delivered in place of a message.
    fn plant_in_core(
        &mut self,
        member: u64,
        core: usize,
        to: usize,
        mut message: Message,
    ) -> Option<Message> {
        match (self.bug, &mut message) {
            (Some(Bug::ConfirmSkipped), Message::Confirm { number }) => {
                let confirmed = Message::Confirmed { number: *number, result: Ok(()) };
                self.machine(member).queues[to][core].push_back(confirmed);
                return None;
            }
            (Some(Bug::RollbackSkipped), Message::StepDown { reign }) => {
                let done = Message::SteppedDown { reign: *reign };
                self.machine(member).queues[to][core].push_back(done);
                return None;
            }
            (
                Some(Bug::AnswerTooEarly),
                Message::Evaluated { due, .. } | Message::Forwarded { due, .. },
            ) => due.visible_at = 0,
            (Some(Bug::ChangeNotReplicated), Message::Replicate { records, .. }) => {
                if self.random.chance(10)
                    && let Some(last) = records.last_mut()
                {
                    *last = Record::tombstone(last.key(), last.mod_revision());
                }
            }
            _ => {}
        }
        Some(message)
    }

    /// Whether a member's log holds nothing that is not applied.
    pub(super) fn has_applied_all(&self, member: u64) -> bool {
        let member = &self.members[&member];
        let Some(machine) = &member.machine else { return false };
        let last = member.disk.view.last().map_or(0, |entry| entry.index);
        machine.shared.committed_index() >= last && member.disk.is_idle()
    }

    /// What its log says was committed when it started, as nobody may have seen it.
    pub(super) fn commit_from_log(&mut self, member: u64, applied: u64) {
        let entries = self.members[&member].disk.durable.iter();
        let batches = entries.take_while(|entry| entry.index <= applied).map(batch_of);
        for batch in batches.collect::<Vec<_>>() {
            self.truth.recovered(member, &batch, self.now_us, self.swarm.drift_ppm as u64);
        }
    }
}
