//! Members, the network between them, and time: a queue of events, drawn in order.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_raft::{
    Body, EntriesWanted, Membership, Message, Node, Options, Ready, Role, SnapshotWanted,
};

use crate::bugs::Bug;
use crate::checks::{self, Checks};
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

/// Whose process has to run for this to happen.
fn subject(event: &Event) -> Option<u64> {
    match event {
        Event::Tick { id, .. }
        | Event::Written { id, .. }
        | Event::Installed { id, .. }
        | Event::EntriesRead { id, .. }
        | Event::SnapshotRead { id, .. } => Some(*id),
        Event::Deliver(message) => Some(message.to),
        Event::Client | Event::Nemesis | Event::Start { .. } => None,
    }
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
    /// Time between ticks: the fastest and the slowest clock.
    pub(crate) clocks: (u64, u64),
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
    pub(crate) pauses: bool,
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
    pub(crate) pauses: u64,
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
        self.pauses += other.pauses;
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
    /// Processes that are stopped, and until when. What happens to them waits.
    pub(crate) paused: BTreeMap<u64, u64>,
    pub(crate) bug: Option<Bug>,
    pub(crate) checks: Checks,
    pub(crate) statistics: Statistics,
    pub(crate) healing: bool,
    pub(crate) operations: u64,
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
                Some(Bug::LeasesWithWildClocks) if id > 1 => TICK / 2,
                Some(Bug::LeasesWithWildClocks) => TICK * 2,
                _ => random.between(weather.clocks.0, weather.clocks.1),
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
            paused: BTreeMap::new(),
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
        if let Some(until) = subject(&event).and_then(|id| self.paused.get(&id)).copied()
            && until > now
        {
            self.at(until - now, event);
            return;
        }
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

    pub(crate) fn alive(&self, id: u64, life: u64) -> Option<&Member> {
        self.members.get(&id).filter(|member| member.life == life && member.node.is_some())
    }

    /// Does something with a node that is up, and what the node wants done then.
    pub(crate) fn with<T>(&mut self, id: u64, action: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let node = self.members.get_mut(&id)?.node.as_mut()?;
        let result = action(node);
        self.pump(id);
        Some(result)
    }

    pub(crate) fn pump(&mut self, id: u64) {
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

    pub(crate) fn send(&mut self, mut message: Message) {
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
