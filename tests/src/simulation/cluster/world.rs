//! Members, their clients and time, in one thread: a queue of events, drawn in order.

use std::collections::{BTreeMap, HashMap};

use mainstay_engine::Revision;
use mainstay_engine::message::{Outcome, Request, Token};
use mainstay_engine::peer::PeerMessage;
use mainstay_raft::{EntriesWanted, SnapshotWanted};

use super::super::random::Random;
use super::Bug;
use super::clients::Client;
use super::forwards::Forwards;
use super::member::Member;
use super::network::Network;
use super::report::{Faults, Report};
use super::swarm::Swarm;
use super::truth::Truth;
use super::watchers::Watcher;
use crate::linearizability::History;

/// A process: it is gone when its member has had another life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) member: u64,
    pub(super) life: u32,
}

/// What happens next.
pub(super) enum Event {
    /// A process does some of what it has to do.
    Act(Life),
    /// Its timers: half a second, and raft's.
    Tick(Life),
    RaftTick(Life),
    /// A write to its disk ends.
    Written(Life, u64),
    EntriesRead(Life, EntriesWanted),
    SnapshotRead(Life, Box<SnapshotWanted>),
    Start {
        member: u64,
    },
    Deliver {
        from: Life,
        to: u64,
        message: Box<PeerMessage>,
    },
    /// Whoever waits for the answer to a forwarded request is told that there will be none.
    Broken {
        from: Life,
        number: u64,
        was_sent: bool,
    },
    Think {
        client: usize,
    },
    Ask {
        member: u64,
        client: usize,
        number: u64,
    },
    Answered {
        client: usize,
        number: u64,
        told: Box<Outcome>,
    },
    Impatient {
        client: usize,
        number: u64,
    },
    Watch {
        watcher: usize,
    },
    Nemesis,
}

impl Event {
    /// The process that has to run for this to happen.
    fn subject(&self) -> Option<u64> {
        match self {
            Event::Act(life)
            | Event::Tick(life)
            | Event::RaftTick(life)
            | Event::Written(life, _)
            | Event::EntriesRead(life, _)
            | Event::SnapshotRead(life, _)
            | Event::Broken { from: life, .. } => Some(life.member),
            Event::Deliver { to, .. } => Some(*to),
            Event::Ask { member, .. } => Some(*member),
            _ => None,
        }
    }
}

/// Who asked a member's core something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Client {
        client: usize,
        number: u64,
    },
    /// Whoever makes things go wrong, or operates the cluster. Does not wait.
    Operator,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) swarm: Swarm,
    pub(super) bug: Option<Bug>,
    pub(super) now_us: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) network: Network,
    pub(super) forwards: Forwards,
    pub(super) clients: Vec<Client>,
    pub(super) watchers: Vec<Watcher>,
    pub(super) history: History,
    pub(super) truth: Truth,
    /// The hash of each revision, as the first member said that was asked.
    pub(super) hashes: HashMap<Revision, u64>,
    pub(super) next_number: u64,
    pub(super) next_value: u64,
    pub(super) newest_lease: i64,
    pub(super) healing: bool,
    pub(super) last_wishes_begun: bool,
    pub(super) trace: bool,
    pub(super) report: Report,
    pub(super) faults: Faults,
}

impl World {
    pub(super) fn new(mut random: Random, swarm: Swarm, bug: Option<Bug>, trace: bool) -> World {
        let voters: Vec<u64> = (1..=swarm.members as u64).collect();
        let all = 1..=(swarm.members + swarm.spares) as u64;
        let members = all.map(|id| {
            let first = if voters.contains(&id) { &voters[..] } else { &[] };
            (id, Member::new(id, first, &swarm, &mut random))
        });
        let members = members.collect();
        let network = Network::new(swarm.weather.clone());
        let mut world = World {
            random,
            bug,
            now_us: 1_000_000,
            sequence: 0,
            queue: BTreeMap::new(),
            members,
            network,
            forwards: Forwards::default(),
            clients: Vec::new(),
            watchers: Vec::new(),
            history: History { start_revision: 1, ..History::default() },
            truth: Truth::new(),
            hashes: HashMap::new(),
            next_number: 0,
            next_value: 0,
            newest_lease: 0,
            healing: false,
            last_wishes_begun: false,
            trace,
            report: Report { histories: 1, ..Report::default() },
            faults: Faults::default(),
            swarm,
        };
        world.begin(&voters);
        world
    }

    fn begin(&mut self, voters: &[u64]) {
        for &member in voters {
            let delay_us = self.random.below(200_000) as u64;
            self.at(delay_us, Event::Start { member });
        }
        for client in 0..self.swarm.clients {
            let member = voters[self.random.below(voters.len())];
            self.clients.push(Client::new(member));
            let delay_us = 1 + self.random.below(2_000_000) as u64;
            self.at(delay_us, Event::Think { client });
        }
        self.begin_watches();
        let calm_us = self.random.between(1_000_000, 3_000_000) as u64;
        self.at(calm_us, Event::Nemesis);
    }

    pub(super) fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>12.6} {}", self.now_us as f64 / 1e6, text());
        }
    }

    pub(super) fn at(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now_us + delay_us, self.sequence), event);
    }

    /// Lets everything happen that happens before a time.
    pub(super) fn run_until(&mut self, until_us: u64) {
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until_us) {
            self.run_one();
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn run_one(&mut self) {
        let ((now_us, _), event) = self.queue.pop_first().expect("just seen");
        self.now_us = now_us;
        if let Some(member) = event.subject()
            && let Some(until_us) = self.paused_until(member)
        {
            return self.at(until_us - now_us, event);
        }
        self.report.events += 1;
        match event {
            Event::Act(life) => self.act(life),
            Event::Tick(life) => self.tick(life),
            Event::RaftTick(life) => self.raft_tick(life),
            Event::Written(life, write) => self.written(life, write),
            Event::EntriesRead(life, wanted) => self.entries_read(life, wanted),
            Event::SnapshotRead(life, wanted) => self.snapshot_read(life, &wanted),
            Event::Start { member } => self.start(member),
            Event::Deliver { from, to, message } => self.deliver(from, to, *message),
            Event::Broken { from, number, was_sent } => self.broken(from, number, was_sent),
            Event::Think { client } => self.think(client),
            Event::Ask { member, client, number } => self.asked(member, client, number),
            Event::Answered { client, number, told } => self.answered(client, number, *told),
            Event::Impatient { client, number } => self.impatient(client, number),
            Event::Watch { watcher } => self.watch(watcher),
            Event::Nemesis => self.nemesis(),
        }
    }

    /// A core answers somebody.
    pub(super) fn answer(&mut self, member: u64, core: usize, token: Token, told: Outcome) {
        let asker = self.machine(member).asked.remove(&(core, token));
        match asker {
            Some(Asker::Client { client, number }) => {
                self.answered_by(member, (client, number), told);
            }
            Some(Asker::Operator) => self.log(|| format!("{member} answers an operator: {told:?}")),
            None => panic!("nobody asked, and {told:?} is the answer"),
        }
    }

    /// Asks a core of a member that is up.
    pub(super) fn ask(&mut self, member: u64, core: usize, request: Request, asker: Asker) {
        let machine = self.machine(member);
        let token = machine.next_token;
        machine.next_token += 1;
        machine.asked.insert((core, token), asker);
        self.drive(member, core, |replica, now_ms, out| {
            replica.request(token, request, now_ms, out);
        });
    }
}
