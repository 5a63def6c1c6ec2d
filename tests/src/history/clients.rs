//! Clients that put load on a cluster and write down what they asked and were answered. Each has one call on its way,
//! stays with a member while that answers, and goes to another one when it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ask::ask;
use super::{Call, Clock, Operation, Outcome, PREFIX};
use crate::grpc::{Client, block_on};
use crate::simulation::random::Random;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After a failure, before the next try: a member that is gone must not be asked in a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// In a hundred calls, how often a client moves to another member without need.
const MOVE_PERCENT: usize = 3;
/// A history of more calls is longer than any check should take.
const CALLS_MAX: usize = 200_000;

/// How much is asked.
#[derive(Debug, Clone)]
pub struct Load {
    pub seed: u64,
    pub clients: usize,
    /// Few, so that clients meet.
    pub keys: usize,
    /// Between two calls of a client: it keeps histories short and the machine's other work going.
    pub pause: Duration,
    /// How long a client waits for an answer.
    pub timeout: Duration,
    /// Bytes that are added to every value.
    pub padding_bytes: usize,
}

impl Load {
    /// Six clients on eight keys, some hundred calls a second.
    pub fn usual() -> Load {
        Load {
            seed: seed(),
            clients: 6,
            keys: 8,
            pause: Duration::from_millis(8),
            timeout: Duration::from_secs(3),
            padding_bytes: 0,
        }
    }
}

/// `MAINSTAY_TEST_SEED`, or a fresh one.
pub fn seed() -> u64 {
    if let Ok(text) = std::env::var("MAINSTAY_TEST_SEED") {
        return text.parse().unwrap_or_else(|_| panic!("MAINSTAY_TEST_SEED={text} is no number"));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_nanos() as u64 % 1_000_000_000)
}

/// Clients at work, on a thread of their own.
pub struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Operation>>,
}

impl Clients {
    pub fn start(clock: Clock, members: &[String], load: &Load) -> Clients {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut work = Vec::new();
        for number in 0..load.clients {
            let worker = Worker {
                number,
                clock,
                members: members.to_vec(),
                load: load.clone(),
                random: Random::new(load.seed.wrapping_add(number as u64 * 7919)),
                stop: stop.clone(),
                answered: answered.clone(),
                member: number % members.len(),
                connection: None,
                known: vec![0; load.keys],
                values: 0,
            };
            work.push(worker);
        }
        let run = async move {
            let tasks: Vec<_> = work.into_iter().map(|one| tokio::spawn(one.run())).collect();
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.expect("a client ends well"));
            }
            all
        };
        let thread = std::thread::spawn(move || block_on(run));
        Clients { stop, answered, thread }
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets calls on their way end, and gives all that was written down.
    pub fn stop(self) -> Vec<Operation> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients end well")
    }
}

struct Worker {
    number: usize,
    clock: Clock,
    members: Vec<String>,
    load: Load,
    random: Random,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    member: usize,
    connection: Option<Client>,
    /// The revision at which each key was last seen modified, 0 for none.
    known: Vec<i64>,
    values: u64,
}

impl Worker {
    async fn run(mut self) -> Vec<Operation> {
        let mut seen = Vec::new();
        while !self.stop.load(Ordering::Relaxed) && seen.len() < CALLS_MAX / self.load.clients {
            let Some(client) = self.connected().await else {
                self.move_on();
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            };
            let call = self.choose();
            let invoked = self.clock.now();
            let asked = ask(&client, &call, self.load.timeout).await;
            let returned = self.clock.now();
            self.learn(&call, &asked.outcome);
            let failed = !matches!(asked.outcome, Outcome::Done { .. });
            let (client, member) = (self.number, self.member);
            seen.push(Operation {
                client,
                member,
                call,
                invoked,
                returned,
                outcome: asked.outcome,
            });
            if !failed {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            if failed || self.random.chance(MOVE_PERCENT) {
                self.move_on();
            }
            tokio::time::sleep(if failed { RETRY_PAUSE } else { self.load.pause }).await;
        }
        seen
    }

    async fn connected(&mut self) -> Option<Client> {
        if self.connection.is_none() {
            let connect = Client::try_connect(&self.members[self.member]);
            self.connection = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.ok().flatten();
        }
        self.connection.clone()
    }

    fn move_on(&mut self) {
        self.connection = None;
        let others = self.members.len() - 1;
        self.member = (self.member + 1 + self.random.below(others.max(1))) % self.members.len();
    }

    fn choose(&mut self) -> Call {
        let number = self.random.below(self.load.keys);
        let key = key(number);
        match self.random.weighted(&[25, 5, 25, 8, 22, 8, 5, 2]) {
            0 => Call::Put { key, value: self.value() },
            1 => {
                let other = (number + 1 + self.random.below(self.load.keys - 1)) % self.load.keys;
                Call::PutTwo { keys: [key, self::key(other)], value: self.value() }
            }
            2 => {
                let expected = self.known[number];
                Call::CompareAndPut { key, expected, value: self.value() }
            }
            3 => Call::Delete { key },
            4 => Call::Get { key, serializable: false },
            5 => Call::Get { key, serializable: true },
            6 => Call::List { serializable: false },
            _ => Call::List { serializable: true },
        }
    }

    fn value(&mut self) -> String {
        self.values += 1;
        let name = format!("{}-{}", self.number, self.values);
        name + &".".repeat(self.load.padding_bytes)
    }

    /// Compares are only worth something if they succeed now and then.
    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        let Outcome::Done { revision, changed, pairs } = outcome else { return };
        let number = |key: &str| key.strip_prefix(PREFIX)?.parse::<usize>().ok();
        let known = |of: &str, revision: i64, known: &mut Vec<i64>| {
            if let Some(slot) = number(of).and_then(|number| known.get_mut(number)) {
                *slot = revision;
            }
        };
        match call {
            Call::Put { key, .. } => known(key, *revision, &mut self.known),
            Call::PutTwo { keys, .. } => {
                keys.iter().for_each(|key| known(key, *revision, &mut self.known));
            }
            Call::CompareAndPut { key, .. } if *changed => known(key, *revision, &mut self.known),
            Call::CompareAndPut { key, .. } | Call::Get { key, .. } if pairs.is_empty() => {
                known(key, 0, &mut self.known);
            }
            Call::Delete { key } => known(key, 0, &mut self.known),
            _ => pairs.iter().for_each(|pair| known(&pair.key, pair.modified, &mut self.known)),
        }
    }
}

fn key(number: usize) -> String {
    format!("{PREFIX}{number}")
}
