//! One store and its clients in one thread: the seed decides what happens next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mainstay_engine::effect::Control;
use mainstay_engine::message::{Message, Request, Token};
use mainstay_engine::mvcc::Lookup;
use mainstay_engine::replica::{Heavy, Output, Replica};
use mainstay_engine::shared::Shared;
use mainstay_engine::{Record, Revision};

use super::answers::Ledger;
use super::bugs::Bug;
use super::disk::Disk;
use super::keeper::Keeper;
use super::log::Log;
use super::model::{Logged, Model, logged};
use super::random::Random;
use super::report::Report;
use super::requests::{BULK_AT_ONCE, Requests};
use super::swarm::Swarm;
use super::watches::Watch;

/// Batches that may be on their way to the log, as in the real store.
const DEPTH: usize = 4;

/// How long everything may take to come to its end, steps.
const SETTLE_STEPS: usize = 400_000;

/// What one core has been told to do soon.
#[derive(Default, Clone, Copy)]
struct Flags {
    resume: bool,
    compact: bool,
    work: bool,
}

/// A request without an answer.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) committed: Revision,
    pub(super) at_ms: u64,
    /// Nobody waits for it any more.
    pub(super) abandoned: bool,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) swarm: Swarm,
    pub(super) bug: Option<Bug>,
    pub(super) disk: Disk,
    pub(super) log: Log,
    pub(super) replicas: Vec<Replica>,
    pub(super) shared: Arc<Shared>,
    /// By origin and destination; in order.
    queues: Vec<Vec<VecDeque<Message>>>,
    flags: Vec<Flags>,
    pump: bool,
    /// Evaluations that another thread has not done yet.
    heavy: VecDeque<Heavy>,
    /// Asked of the log, by core and number.
    lookups: Vec<(usize, u64, Vec<Lookup>)>,
    pub(super) asked: BTreeMap<(usize, Token), Asked>,
    next_token: Token,
    requests_made: u64,
    pub(super) model: Model,
    /// Everything that was handed to the log, by index.
    pub(super) submitted: BTreeMap<u64, Vec<Logged>>,
    pub(super) ledger: Ledger,
    pub(super) watches: Vec<Watch>,
    pub(super) keeper: Keeper,
    pub(super) true_ms: u64,
    /// What the machine's clock is ahead since its last start.
    pub(super) clock_offset_ms: u64,
    slow: bool,
    /// When the store was told last that the disk is not full any more.
    pub(super) full_ms: Option<u64>,
    pub(super) report: Report,
}

/// What a start puts together.
pub(super) struct Machine {
    pub(super) replicas: Vec<Replica>,
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    pub(super) keeper: Keeper,
}

impl World {
    pub(super) fn new(seed: u64, requests: usize, bug: Option<Bug>) -> World {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(&mut random, requests);
        let mut disk = Disk::default();
        let mut model = Model::new();
        let cores = random.between(1, swarm.cores_max);
        let clock_offset_ms = random.below(1_000_000) as u64;
        let recovered = super::recovery::recover(&disk, cores, None).expect("an empty disk");
        assert!(recovered.batches.is_empty());
        let machine =
            super::start::boot(recovered, &mut disk, &swarm, cores, clock_offset_ms, None);
        model.revision = machine.shared.committed_revision();
        let mut world = World {
            random,
            swarm,
            bug,
            disk,
            log: machine.log,
            replicas: machine.replicas,
            shared: machine.shared,
            queues: Vec::new(),
            flags: Vec::new(),
            pump: true,
            heavy: VecDeque::new(),
            lookups: Vec::new(),
            asked: BTreeMap::new(),
            next_token: 1,
            requests_made: 0,
            model,
            submitted: BTreeMap::new(),
            ledger: Ledger::default(),
            watches: Vec::new(),
            keeper: machine.keeper,
            true_ms: 0,
            clock_offset_ms,
            slow: false,
            full_ms: None,
            report: Report { histories: 1, ..Report::default() },
        };
        world.turn_on();
        world
    }

    /// Everything that a machine forgets is forgotten.
    pub(super) fn take_machine(&mut self, machine: Machine) {
        self.replicas = machine.replicas;
        self.shared = machine.shared;
        self.log = machine.log;
        self.keeper = machine.keeper;
        self.heavy.clear();
        self.lookups.clear();
        self.asked.clear();
        self.slow = false;
        self.turn_on();
    }

    fn turn_on(&mut self) {
        let cores = self.replicas.len();
        self.queues = (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect();
        // The log may have brought back what was compacted before.
        self.flags = vec![Flags { compact: true, ..Flags::default() }; cores];
        self.pump = true;
        self.report.starts += 1;
        self.shared.set_disk_is_full(self.disk.full);
    }

    pub(super) fn now_ms(&self) -> u64 {
        let ms = self.true_ms + self.clock_offset_ms;
        if self.bug == Some(Bug::ClockFast) { ms + 2 * self.true_ms } else { ms }
    }

    /// A whole history.
    pub(super) fn run(&mut self) {
        self.put_bulk();
        for _ in 0..self.swarm.requests {
            self.ask();
            for _ in 0..self.random.below(self.swarm.pace) {
                self.step();
                self.misfortune();
            }
        }
        self.settle();
        self.check_end();
        // What a last start finds is the same, with however many cores.
        self.crash();
        self.settle();
        self.check_end();
        self.report.simulated_ms += self.true_ms;
        self.report.deletions += self.model.deletions;
    }

    fn put_bulk(&mut self) {
        for from in (0..self.swarm.bulk).step_by(BULK_AT_ONCE) {
            let to = (from + BULK_AT_ONCE).min(self.swarm.bulk);
            let request = self.requests().bulk(from, to);
            self.request(request);
            for _ in 0..20 {
                self.step();
            }
        }
    }

    fn requests(&mut self) -> Requests<'_> {
        Requests {
            random: &mut self.random,
            swarm: &self.swarm,
            committed: self.model.revision,
            compacted: self.model.compacted,
            number: self.requests_made,
        }
    }

    fn ask(&mut self) {
        if self.watches.len() < self.swarm.watchers && self.random.chance(10) {
            let request = self.requests().watch();
            self.watch(request);
        }
        let request = self.requests().draw();
        let abandoned = self.random.chance(self.swarm.abandoned);
        let (core, token) = self.request(request);
        if abandoned && let Some(asked) = self.asked.get_mut(&(core, token)) {
            asked.abandoned = true;
            self.report.faults.abandoned += 1;
            self.replicas[core].forget(token);
        }
    }

    fn request(&mut self, request: Request) -> (usize, Token) {
        let core = self.random.below(self.replicas.len());
        self.requests_made += 100;
        self.report.operations += 1;
        if let Request::LeaseRevoke { id } = &request {
            self.ledger.revokes.insert(*id);
        }
        (core, self.ask_core(core, request))
    }

    pub(super) fn ask_core(&mut self, core: usize, request: Request) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        let (committed, at_ms) = (self.model.revision, self.true_ms);
        let asked = Asked { request: request.clone(), committed, at_ms, abandoned: false };
        self.asked.insert((core, token), asked);
        self.drive(core, |replica, now_ms, out| replica.request(token, request, now_ms, out));
        token
    }

    /// Lets a core act, and carries out what comes of it.
    pub(super) fn drive<R>(
        &mut self,
        core: usize,
        act: impl FnOnce(&mut Replica, u64, &mut Output) -> R,
    ) -> R {
        let mut out = Output::default();
        let now_ms = self.now_ms();
        let result = act(&mut self.replicas[core], now_ms, &mut out);
        self.carry_out(core, out);
        result
    }

    fn carry_out(&mut self, core: usize, out: Output) {
        for batch in out.commits {
            self.note_times(&batch.items);
            let ended = self.model.commit(&batch);
            self.leases_ended(&ended);
            for other in (0..self.replicas.len()).filter(|&other| other != core) {
                self.queues[core][other].push_back(Message::Committed(Arc::clone(&batch)));
            }
        }
        for (to, message) in out.messages {
            self.queues[core][to].push_back(message);
        }
        for write in out.writes {
            for entry in &write.entries {
                let batch = entry.batch().expect("it was encoded just now");
                self.submitted.insert(batch.index, logged(&batch));
                if self.bug == Some(Bug::AnswerTooEarly) {
                    self.shared.set_committed(batch.revision_after, batch.index, batch.term);
                }
            }
            self.log.write(write);
        }
        self.heavy.extend(out.heavy);
        let lookups = out.lookups.into_iter().map(|(id, lookups)| (core, id, lookups));
        self.lookups.extend(lookups);
        for watcher in out.watchers {
            let lost = self.bug == Some(Bug::WakeLost) && self.random.chance(20);
            let woken = self.watches.iter_mut().find(|watch| watch.is(core, watcher));
            if let Some(watch) = woken.filter(|_| !lost) {
                watch.awake = true;
            }
        }
        let flags = &mut self.flags[core];
        flags.resume |= out.resume;
        flags.compact |= out.compact;
        flags.work |= out.work;
        self.pump |= out.pump;
        for (token, outcome) in out.answers {
            self.answered(core, token, outcome);
        }
    }

    fn note_times(&mut self, items: &[mainstay_engine::effect::Item]) {
        for item in items {
            if let mainstay_engine::effect::Item::Control(control) = item {
                self.note_time(control);
            }
        }
    }

    pub(super) fn note_time(&mut self, control: &Control) {
        match control {
            Control::LeaseGrant { id, ttl } => {
                self.ledger.deadlines.insert(*id, self.true_ms + *ttl as u64 * 1000);
            }
            Control::Compact { .. } => self.report.compactions += 1,
            _ => {}
        }
    }

    /// Something happens.
    pub(super) fn step(&mut self) {
        self.report.steps += 1;
        self.true_ms += self.random.below(3) as u64;
        match self.random.weighted(&[40, 16, self.swarm.disk_speed, 6, 3, 10, 5, 2]) {
            0 => self.deliver(),
            1 => self.act(),
            2 => self.move_disk(),
            3 => self.look_up(),
            4 => self.evaluate(),
            5 => self.poll_watch(),
            6 => self.keep(),
            _ => self.tick(),
        }
    }

    fn deliver(&mut self) {
        let cores = self.replicas.len();
        let full: Vec<(usize, usize)> = (0..cores)
            .flat_map(|from| (0..cores).map(move |to| (from, to)))
            .filter(|&(from, to)| !self.queues[from][to].is_empty())
            .collect();
        if full.is_empty() {
            return;
        }
        let (from, to) = full[self.random.below(full.len())];
        let message = self.queues[from][to].pop_front().expect("not empty");
        self.drive(to, |replica, now_ms, out| replica.receive(from, message, now_ms, out));
    }

    /// A core does what it was told to do soon.
    fn act(&mut self) {
        let core = self.random.below(self.replicas.len());
        if std::mem::take(&mut self.flags[core].resume) {
            self.drive(core, |replica, now_ms, out| replica.resume(now_ms, out));
        }
        if core == 0 && std::mem::take(&mut self.pump) {
            self.drive(0, |replica, _, out| replica.pump(DEPTH, out));
        }
        if std::mem::take(&mut self.flags[core].compact) {
            let more = self.drive(core, |replica, now_ms, out| replica.compact_slice(now_ms, out));
            self.flags[core].compact |= more;
        }
        if std::mem::take(&mut self.flags[core].work) {
            let more = self.drive(core, |replica, now_ms, out| replica.work_slice(now_ms, out));
            self.flags[core].work |= more;
        }
    }

    fn move_disk(&mut self) {
        let submitted = self.log.submit(&mut self.disk, &mut self.random);
        self.became_durable(submitted);
        if self.disk.in_flight() > 0 && (!self.slow || self.random.chance(3)) {
            let which = self.random.below(self.disk.in_flight());
            let write = self.disk.complete(which);
            let durable = self.log.written(write, &self.disk);
            self.became_durable(durable);
        }
    }

    fn became_durable(&mut self, index: Option<u64>) {
        let Some(index) = index else { return };
        self.drive(0, |replica, now_ms, out| {
            replica.persisted(index, now_ms, out);
            replica.pump(DEPTH, out);
        });
    }

    /// The log answers some core.
    fn look_up(&mut self) {
        if self.lookups.is_empty() {
            return;
        }
        let next = self.random.below(self.lookups.len());
        let (core, id, lookups) = self.lookups.swap_remove(next);
        self.report.looked_up += lookups.len();
        let find = |lookup: &Lookup| self.find(&lookup.key, lookup.revision);
        let found: Vec<Option<Record>> = lookups.iter().map(find).collect();
        self.drive(core, |replica, now_ms, out| {
            replica.history_found(id, Ok(found), now_ms, out);
        });
    }

    fn evaluate(&mut self) {
        let Some(heavy) = self.heavy.pop_front() else { return };
        let done = heavy.run();
        self.drive(0, |replica, now_ms, out| replica.evaluated(done, now_ms, out));
    }

    fn tick(&mut self) {
        self.true_ms += 100;
        for core in 0..self.replicas.len() {
            self.drive(core, |replica, now_ms, out| replica.tick(now_ms, out));
        }
        if self.shared.set_disk_is_full(self.disk.full) {
            self.full_ms = Some(self.true_ms);
        }
    }

    fn misfortune(&mut self) {
        let happens = |random: &mut Random, often| random.below(10_000) < often;
        if happens(&mut self.random, self.swarm.clock_jumps) {
            self.true_ms += self.clock_jump_ms();
            self.report.faults.clock_jumps += 1;
            self.tick();
        }
        if happens(&mut self.random, self.swarm.disk_changes) {
            if self.random.chance(50) {
                self.slow = !self.slow;
                self.report.faults.slow += usize::from(self.slow);
            } else {
                self.disk.full = !self.disk.full;
                self.report.faults.full += usize::from(self.disk.full);
            }
        }
        if happens(&mut self.random, self.swarm.crashes) {
            self.crash();
        }
    }

    /// Anywhere, or to right before a lease may end.
    fn clock_jump_ms(&mut self) -> u64 {
        let anywhere = 1 + self.random.below(400_000) as u64;
        let next = self.ledger.deadlines.values().filter(|&&at_ms| at_ms > self.true_ms).min();
        let next = next.map(|at_ms| at_ms - self.true_ms).filter(|_| self.random.chance(60));
        next.map_or(anywhere, |left| left.saturating_sub(1 + self.random.below(1_200) as u64))
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        self.slow = false;
        self.disk.full = false;
        for _ in 0..SETTLE_STEPS {
            let delivered = self.queues.iter().flatten().all(VecDeque::is_empty);
            let idle = self.log.is_idle() && !self.pump && self.keeper.is_idle();
            let waiting = self.asked.values().any(|asked| !asked.abandoned);
            let busy = |flags: &Flags| flags.resume || flags.compact || flags.work;
            if delivered
                && idle
                && !waiting
                && !self.flags.iter().any(busy)
                && self.replicas.iter().all(Replica::is_quiet)
            {
                return;
            }
            self.step();
        }
        let open = self.asked.values().find(|asked| !asked.abandoned);
        let open = open.map(|asked| &asked.request);
        panic!("something never ends: {open:?}, log idle: {}", self.log.is_idle());
    }
}
