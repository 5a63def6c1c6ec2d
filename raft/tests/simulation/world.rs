//! Members, the network between them, and time: a queue of events, drawn in order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_raft::{
    Body, EntriesWanted, Membership, Message, Node, Options, Ready, Role, SnapshotWanted,
};

use crate::bugs::Bug;
use crate::checks::{self, Checks};
use crate::disk::{State, Write, append};
use crate::member::Member;
use crate::random::Random;

/// Units of time between ticks of a perfect clock.
pub(crate) const TICK: u64 = 100;

pub(crate) enum Event {
    Tick { id: u64, life: u64 },
    Deliver(Box<Message>),
    Written { id: u64, life: u64 },
    Installed { id: u64, life: u64 },
    EntriesRead { id: u64, life: u64, wanted: EntriesWanted },
    SnapshotRead { id: u64, life: u64, wanted: Box<SnapshotWanted> },
    Client,
    Nemesis,
    Start { id: u64 },
}

/// How bad things are, for one seed.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) delay: u64,
    /// Some messages take this long.
    pub(crate) long_delay: u64,
    pub(crate) write_delay: u64,
    /// Entries applied since the last snapshot that make another one.
    pub(crate) snapshot_every: u64,
    /// At most so much time between two things that clients do.
    pub(crate) idle: u64,
    /// At most so much time between disasters.
    pub(crate) calm: u64,
    pub(crate) disasters: Disasters,
}

/// What the nemesis may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disasters {
    pub(crate) crashes: bool,
    pub(crate) partitions: bool,
    pub(crate) changes: bool,
    pub(crate) transfers: bool,
    pub(crate) damages: bool,
    pub(crate) losses: bool,
    pub(crate) elections: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Statistics {
    pub(crate) events: u64,
    pub(crate) ticks: u64,
    pub(crate) messages: u64,
    pub(crate) committed: u64,
    pub(crate) elections: u64,
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    pub(crate) crashes: u64,
    pub(crate) partitions: u64,
    pub(crate) changes: u64,
    pub(crate) damages: u64,
    pub(crate) repairs: u64,
    pub(crate) losses: u64,
    pub(crate) installs: u64,
}

impl std::ops::AddAssign for Statistics {
    fn add_assign(&mut self, other: Statistics) {
        self.events += other.events;
        self.ticks += other.ticks;
        self.messages += other.messages;
        self.committed += other.committed;
        self.elections += other.elections;
        self.writes += other.writes;
        self.reads += other.reads;
        self.crashes += other.crashes;
        self.partitions += other.partitions;
        self.changes += other.changes;
        self.damages += other.damages;
        self.repairs += other.repairs;
        self.losses += other.losses;
        self.installs += other.installs;
    }
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) options: Options,
    pub(crate) weather: Weather,
    /// Pairs, from and to, between which nothing passes.
    pub(crate) blocked: BTreeSet<(u64, u64)>,
    pub(crate) bug: Option<Bug>,
    pub(crate) checks: Checks,
    pub(crate) statistics: Statistics,
    pub(crate) healing: bool,
    operations: u64,
    pub(crate) trace: bool,
}

impl World {
    pub(crate) fn new(
        mut random: Random,
        (voters, spare): (u64, u64),
        options: Options,
        weather: Weather,
        bug: Option<Bug>,
    ) -> World {
        let first: Vec<u64> = (1..=voters).collect();
        let mut members = BTreeMap::new();
        for id in 1..=voters + spare {
            let tick = match bug {
                Some(Bug::LeasesWithWildClocks) if id % 2 == 0 => TICK / 2,
                Some(Bug::LeasesWithWildClocks) => TICK * 2,
                _ => random.between(TICK * 9 / 10, TICK * 11 / 10),
            };
            let membership = match id <= voters {
                true => Membership::of_voters(&first),
                false => Membership::default(),
            };
            members.insert(id, Member::new(id, tick, membership));
        }
        let mut world = World {
            random,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            members,
            options,
            weather,
            blocked: BTreeSet::new(),
            bug,
            checks: Checks::default(),
            statistics: Statistics::default(),
            healing: false,
            operations: 0,
            trace: false,
        };
        first.iter().for_each(|id| world.start(*id));
        world.at(TICK, Event::Client);
        world.at(TICK * 20, Event::Nemesis);
        world
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>8} {}", self.now, text());
        }
    }

    pub(crate) fn at(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    pub(crate) fn start(&mut self, id: u64) {
        let seed = self.random.next();
        let member = self.members.get_mut(&id).expect("every id is a member");
        if member.node.is_some() {
            return;
        }
        member.start(&self.options, seed, self.bug);
        let (life, tick) = (member.life, member.tick);
        member.disk_busy_until = self.now;
        let first = self.random.between(1, tick);
        self.at(first, Event::Tick { id, life });
        self.log(|| format!("{id} starts"));
        self.pump(id);
    }

    pub(crate) fn crash(&mut self, id: u64) {
        let member = self.members.get_mut(&id).expect("every id is a member");
        let kept = self.random.between(0, member.pending.len() as u64) as usize;
        member.crash(kept, self.bug);
        self.statistics.crashes += 1;
        self.log(|| format!("{id} crashes"));
    }

    /// The next event.
    pub(crate) fn run_one(&mut self) {
        let ((now, _), event) = self.queue.pop_first().expect("clocks never stop");
        self.now = now;
        self.statistics.events += 1;
        match event {
            Event::Tick { id, life } => {
                let Some(tick) = self.alive(id, life).map(|member| member.tick) else { return };
                self.at(tick, Event::Tick { id, life });
                self.statistics.ticks += 1;
                self.with(id, Node::tick);
            }
            Event::Deliver(message) => self.deliver(*message),
            Event::Written { id, life } => self.written(id, life),
            Event::Installed { id, life } => self.installed(id, life),
            Event::EntriesRead { id, life, wanted } => self.entries_read(id, life, wanted),
            Event::SnapshotRead { id, life, wanted } => self.snapshot_read(id, life, &wanted),
            Event::Client => self.client(),
            Event::Nemesis => self.nemesis(),
            Event::Start { id } => self.start(id),
        }
        if self.statistics.events.is_multiple_of(512) {
            self.match_logs();
        }
    }

    pub(crate) fn match_logs(&self) {
        for left in self.members.values() {
            for right in self.members.values().filter(|right| right.id > left.id) {
                checks::match_logs(left, right);
            }
        }
    }

    fn alive(&self, id: u64, life: u64) -> Option<&Member> {
        self.members.get(&id).filter(|member| member.life == life && member.node.is_some())
    }

    /// Does something with a node that is up, and what the node wants done then.
    pub(crate) fn with<T>(&mut self, id: u64, action: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let node = self.members.get_mut(&id)?.node.as_mut()?;
        let result = action(node);
        self.pump(id);
        Some(result)
    }

    fn pump(&mut self, id: u64) {
        loop {
            let Some(member) = self.members.get_mut(&id) else { return };
            let Some(node) = &mut member.node else { return };
            let ready = node.ready();
            let idle = Ready { commit: ready.commit, ..Ready::default() } == ready;
            self.carry_out(id, ready);
            if idle {
                break;
            }
        }
        let member = self.members.get_mut(&id).expect("every id is a member");
        let led = member.led;
        self.checks.roles(member);
        if member.led.map(|led| led.0) != led.map(|led| led.0) && member.led.is_some() {
            self.statistics.elections += 1;
            self.log(|| format!("{id} leads term {}", self.members[&id].term()));
        }
    }

    fn carry_out(&mut self, id: u64, mut ready: Ready) {
        let member = self.members.get_mut(&id).expect("every id is a member");
        let life = member.life;
        append(&mut member.view, &ready.entries);
        for entry in &ready.repairs {
            member.view.insert(entry.index, entry.clone());
        }
        self.statistics.repairs += ready.repairs.len() as u64;
        if ready.write != 0 {
            member.pending.push_back(Write::of(&ready));
            let delay = self.random.between(1, self.weather.write_delay);
            member.disk_busy_until = member.disk_busy_until.max(self.now) + delay;
            let delay = member.disk_busy_until - self.now;
            self.at(delay, Event::Written { id, life });
        }
        if let Some(install) = ready.install.take() {
            let member = self.members.get_mut(&id).expect("every id is a member");
            member.keeps_tail = install.keeps_tail;
            let delay = member.disk_busy_until.max(self.now) - self.now + 1;
            self.at(delay, Event::Installed { id, life });
        }
        for message in std::mem::take(&mut ready.messages) {
            self.send(message);
        }
        for wanted in ready.entries_wanted.drain(..) {
            let delay = self.random.between(1, 60);
            self.at(delay, Event::EntriesRead { id, life, wanted });
        }
        for wanted in ready.snapshots_wanted.drain(..) {
            let delay = self.random.between(1, 200);
            self.at(delay, Event::SnapshotRead { id, life, wanted: Box::new(wanted) });
        }
        let member = self.members.get_mut(&id).expect("every id is a member");
        for read in ready.reads.drain(..) {
            if let Some(floor) = member.asked.remove(&read.context) {
                member.reads.push((read, floor));
            }
        }
        for context in ready.failed_reads.drain(..) {
            member.asked.remove(&context);
        }
        if self.bug == Some(Bug::AcknowledgesBeforeWriting)
            && ready.write != 0
            && let Some(node) = &mut member.node
        {
            node.written(ready.write);
        }
        self.apply(id, ready.commit);
    }

    fn apply(&mut self, id: u64, commit: u64) {
        loop {
            let member = self.members.get_mut(&id).expect("every id is a member");
            let target = match self.bug {
                Some(Bug::AppliesUncommitted) => commit.max(member.disk.last().0),
                Some(Bug::CommitsOlderTermByCounting) => commit.max(member.counted()),
                _ => commit,
            };
            if member.state.applied >= target {
                break;
            }
            let Some(entry) = member.view.get(&(member.state.applied + 1)).cloned() else {
                panic!("State Machine Safety: {id} has to apply an entry that it never had");
            };
            member.state.apply(&entry);
            let first = self.checks.applied(&entry, member.state, id);
            if let Some((term, floor)) = member.proposals.remove(&entry.index)
                && term == entry.term
            {
                self.statistics.writes += 1;
                self.checks.answered("write", entry.index, floor);
            }
            if first {
                self.statistics.committed += 1;
                let term = member.term();
                let leaders = self.members.values().filter(|leader| leader.leads());
                for leader in leaders.filter(|leader| leader.term() >= term) {
                    checks::complete(leader, &entry);
                }
            }
        }
        self.after_apply(id, commit);
    }

    fn after_apply(&mut self, id: u64, commit: u64) {
        let bug = self.bug;
        let member = self.members.get_mut(&id).expect("every id is a member");
        let applied = member.state.applied;
        if let Some(node) = &mut member.node
            && applied <= commit
        {
            node.applied(applied);
        }
        let early = bug == Some(Bug::ReadsBeforeApplying);
        let ripe = |read: &(mainstay_raft::ReadState, u64)| early || read.0.index <= applied;
        let done: Vec<_> = member.reads.extract_if(.., |read| ripe(read)).collect();
        for (_, floor) in done {
            self.statistics.reads += 1;
            self.checks.answered("read", applied, floor);
        }
        self.snapshot(id);
    }

    /// Takes a snapshot now and then, and drops the log before it, or a bit less.
    fn snapshot(&mut self, id: u64) {
        let every = self.weather.snapshot_every;
        let kept = self.random.between(0, 8);
        let member = self.members.get_mut(&id).expect("every id is a member");
        let applied = member.state.applied;
        let Some(node) = &mut member.node else { return };
        let durable = member.disk.log.get(&applied).map(|entry| entry.term);
        if applied < member.disk.snapshot.applied + every
            || applied > node.commit()
            || durable != node.term_at(applied)
            || self.random.chance(800)
        {
            return;
        }
        let state = member.state;
        // Only a state that is known to be right may take the log's place.
        if self.checks.committed.get(&applied).is_none_or(|(_, expected)| *expected != state) {
            panic!("State Machine Safety: {id} would keep another state");
        }
        let unwritten = member.pending.len();
        if unwritten > 0 {
            return;
        }
        member.disk.snapshot = state;
        let index = applied.saturating_sub(kept).min(applied);
        if index > member.disk.base.0 {
            member.disk.compact(index);
            member.view = member.view.split_off(&(index + 1));
            node.compact(index);
        }
    }

    fn written(&mut self, id: u64, life: u64) {
        let bug = self.bug;
        if self.alive(id, life).is_none() {
            return;
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(write) = member.pending.pop_front() else { return };
        let number = write.number;
        member.disk.write(write, bug);
        if bug != Some(Bug::AcknowledgesBeforeWriting) {
            self.with(id, |node| node.written(number));
        }
    }

    fn installed(&mut self, id: u64, life: u64) {
        if self.alive(id, life).is_none() {
            return;
        }
        let member = self.members.get_mut(&id).expect("every id is a member");
        assert!(member.pending.is_empty(), "installed behind all writes");
        let keeps_tail = member.keeps_tail;
        let state: State = member.disk.install(keeps_tail);
        match keeps_tail {
            true => member.view = member.view.split_off(&(state.applied + 1)),
            false => member.view.clear(),
        }
        if self.bug != Some(Bug::InstallsLogWithoutState) {
            self.checks.installed(state, id);
            if state.applied > member.state.applied {
                member.state = state;
            }
        }
        self.statistics.installs += 1;
        self.log(|| format!("{id} installed {}", state.applied));
        self.with(id, Node::snapshot_installed);
    }

    fn entries_read(&mut self, id: u64, life: u64, wanted: EntriesWanted) {
        let Some(member) = self.alive(id, life) else { return };
        let from = wanted.from;
        if from <= member.disk.base.0 {
            self.with(id, |node| node.entries_compacted(from));
            return;
        }
        let mut entries = Vec::new();
        for index in from..=wanted.to.min(from + 3) {
            match member.disk.log.get(&index) {
                Some(entry) if !member.disk.damaged.contains(&index) => entries.push(entry.clone()),
                _ => break,
            }
        }
        let damage = member.disk.log.get(&from).map(|entry| mainstay_raft::Damage {
            index: from,
            term: entry.term,
            kind: entry.kind,
        });
        self.with(id, |node| match (entries.is_empty(), damage) {
            (false, _) => node.entries_read(entries),
            (true, Some(damage)) => node.damaged(damage),
            // Cut off meanwhile: whoever needed them asks anew.
            (true, None) => node.entries_compacted(from),
        });
    }

    fn snapshot_read(&mut self, id: u64, life: u64, wanted: &SnapshotWanted) {
        let Some(member) = self.alive(id, life) else { return };
        let state = member.disk.snapshot;
        if state.applied == 0 {
            self.with(id, |node| node.snapshot_unavailable(wanted.to));
            return;
        }
        let bytes = state.encode();
        let name = (state.applied, state.digest);
        let same = |known: &mainstay_raft::Snapshot| (known.index, known.fingerprint) == name;
        let goes_on = wanted.snapshot.as_ref().is_some_and(same);
        let offset = if goes_on { wanted.offset } else { 0 };
        let start = bytes.len().min(offset as usize);
        let end = bytes.len().min(start + wanted.max_bytes);
        let data = Bytes::copy_from_slice(&bytes[start..end]);
        let done = end == bytes.len();
        self.with(id, |node| node.snapshot_part(wanted.to, name, offset, data, done));
    }

    fn send(&mut self, mut message: Message) {
        self.statistics.messages += 1;
        if self.bug == Some(Bug::VotesForAnyLog)
            && let Body::VoteRequest { last_term, .. } = &mut message.body
        {
            *last_term = u64::MAX;
        }
        let copies = 1 + u64::from(self.random.chance(self.weather.duplication));
        for _ in 0..copies {
            if self.random.chance(self.weather.loss) {
                continue;
            }
            let slow = self.random.chance(20);
            let limit = if slow { self.weather.long_delay } else { self.weather.delay };
            let delay = self.random.between(1, limit);
            self.at(delay, Event::Deliver(Box::new(message.clone())));
        }
    }

    fn deliver(&mut self, mut message: Message) {
        if self.blocked.contains(&(message.from, message.to)) {
            return;
        }
        let bug = self.bug;
        let (from, to) = (message.from, message.to);
        // An unlucky network, in which figure 8 comes true within a bearable time.
        if bug == Some(Bug::CommitsOlderTermByCounting)
            && let Body::Append { entries, .. } = &message.body
            && entries.last().is_some_and(|entry| entry.term == message.term)
            && !self.healing
            && self.random.chance(800)
        {
            return;
        }
        self.with(to, |node| {
            if bug == Some(Bug::AppendsBehindAnything)
                && let Body::Append { prev_index, prev_term, .. } = &mut message.body
                && let Some(term) = node.term_at(*prev_index)
            {
                *prev_term = term;
            }
            node.step(from, message)
        });
    }

    /// A client does something, somewhere.
    fn client(&mut self) {
        let next = self.random.between(TICK / 8, self.weather.idle);
        self.at(next, Event::Client);
        let up = self.members.values().filter(|member| member.node.is_some());
        let up: Vec<u64> = up.map(|member| member.id).collect();
        let leaders: Vec<u64> = up.iter().copied().filter(|id| self.members[id].leads()).collect();
        self.operations += 1;
        if self.random.chance(500) {
            if let Some(id) = self.random.pick(&leaders) {
                self.write(id);
            }
        } else if let Some(id) = self.random.pick(&up) {
            self.read(id);
        }
    }

    pub(crate) fn write(&mut self, id: u64) -> Option<u64> {
        let data = Bytes::from(format!("{:08}", self.operations));
        let floor = self.checks.floor;
        let node = self.members.get_mut(&id)?.node.as_mut()?;
        let index = node.propose(data).ok()?;
        let term = node.term();
        self.members.get_mut(&id)?.proposals.insert(index, (term, floor));
        self.pump(id);
        Some(index)
    }

    fn read(&mut self, id: u64) {
        let (context, floor) = (self.operations, self.checks.floor);
        let member = self.members.get_mut(&id).expect("every id is a member");
        if self.bug == Some(Bug::ReadsWithoutAsking) && member.leads() {
            let applied = member.state.applied;
            self.checks.answered("read", applied, floor);
            return;
        }
        member.asked.insert(context, floor);
        let taken = self.with(id, |node| node.read_index(context).is_ok());
        if taken != Some(true) {
            self.members.get_mut(&id).expect("every id is a member").asked.remove(&context);
        }
    }

    /// The leader that the newest term knows.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders = self.members.values().filter(|member| member.leads());
        leaders.max_by_key(|member| member.term()).map(|member| member.id)
    }

    pub(crate) fn is_leader(&self, id: u64) -> bool {
        let node = self.members[&id].node.as_ref();
        node.is_some_and(|node| node.role() == Role::Leader)
    }
}
