//! What clients of a real cluster asked, saw and were answered, with the times of both, and whether that can be true.
//! `ask` is one question, `clients` put load on and write down, `watchers` watch on every member and resume, `leases`
//! hold keys alive, `check` judges by revisions, `replay` by the checker of simulations. `Run` is all of that together.

mod ask;
mod check;
mod clients;
mod leases;
mod replay;
mod watchers;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use mainstay_proto::watch::WatchResponse;

use crate::cluster::Cluster;
use crate::grpc::{Client, block_on};

pub use ask::Asked;
pub use check::{Summary, check};
pub use clients::{Clients, Load, seed};
pub use leases::{LeaseHolder, LeaseStory};
pub use watchers::{Watched, Watchers};

/// All keys of a history begin with this.
pub const PREFIX: &str = "/history/";
/// The end of the range of them.
pub const PREFIX_END: &str = "/history0";
/// Written last, so that watchers know where the end is.
const END_KEY: &str = "/history/~end";

/// Microseconds since a run began; one clock for all clients.
pub type Micros = u64;

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    pub fn now(&self) -> Micros {
        self.0.elapsed().as_micros() as Micros
    }
}

/// What a client asked. Values are never used twice, so that each names its write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Put {
        key: String,
        value: String,
    },
    /// Both in one transaction.
    PutTwo {
        keys: [String; 2],
        value: String,
    },
    /// A put, if the key's modification is still this revision (0: it does not exist); else a read of the key.
    CompareAndPut {
        key: String,
        expected: i64,
        value: String,
    },
    Delete {
        key: String,
    },
    Get {
        key: String,
        serializable: bool,
    },
    /// All keys of the history.
    List {
        serializable: bool,
    },
}

impl Call {
    pub fn writes(&self) -> bool {
        !matches!(self, Call::Get { .. } | Call::List { .. })
    }

    /// Whether the answer must know of everything that was over before the question.
    pub fn is_linearizable(&self) -> bool {
        !matches!(self, Call::Get { serializable: true, .. } | Call::List { serializable: true })
    }

    /// The value that names the write, unless it is a deletion.
    pub fn value(&self) -> Option<&str> {
        match self {
            Call::Put { value, .. }
            | Call::PutTwo { value, .. }
            | Call::CompareAndPut { value, .. } => Some(value),
            _ => None,
        }
    }
}

/// A key as a read saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, at this revision of the store.
    Done {
        revision: i64,
        /// Something was written or deleted.
        changed: bool,
        /// What was read.
        pairs: Vec<Pair>,
    },
    /// No answer, or one that does not tell whether it was done: it may happen at any later time.
    Unknown(String),
    /// Certainly not done.
    Refused(String),
}

/// One call of one client.
#[derive(Debug, Clone)]
pub struct Operation {
    pub client: usize,
    pub member: usize,
    pub call: Call,
    pub invoked: Micros,
    pub returned: Micros,
    pub outcome: Outcome,
}

/// One change of one key, as a watcher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub revision: i64,
    pub key: String,
    /// `None`: it was deleted.
    pub value: Option<String>,
}

/// Everything that was seen of a run.
#[derive(Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    /// All changes of the keys, in order, as read back at the end.
    pub changes: Vec<Change>,
    pub watched: Vec<Watched>,
}

/// Load and watchers on a cluster, from a start to an end.
pub struct Run {
    pub clock: Clock,
    clients: Clients,
    watchers: Watchers,
    /// What the test itself wrote.
    own: RefCell<Vec<Operation>>,
}

impl Run {
    /// Begins; prints the seed.
    pub fn start(cluster: &Cluster, load: &Load) -> Run {
        eprintln!("seed {} (MAINSTAY_TEST_SEED={} repeats it)", load.seed, load.seed);
        let clock = Clock::start();
        let watchers = Watchers::start(clock, &cluster.clients());
        let clients = Clients::start(clock, &cluster.clients(), load);
        Run { clock, clients, watchers, own: RefCell::default() }
    }

    /// How many calls were answered so far.
    pub fn answered(&self) -> u64 {
        self.clients.answered()
    }

    /// Waits until so many more calls were answered; what a cluster that works does soon.
    pub fn wait_answered(&self, more: u64) {
        let (begin, started) = (self.answered(), Instant::now());
        while self.answered() < begin + more {
            assert!(started.elapsed() < WORK_TIMEOUT, "no {more} answers within {WORK_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes a key, at whichever of these members answers, as one more client. Gives the revision, and the value: `value` itself,
    /// unless it had to be tried again.
    pub fn put(
        &self,
        cluster: &Cluster,
        members: &[usize],
        key: &str,
        value: &str,
    ) -> (i64, String) {
        put(self.clock, &self.own, cluster, members, key, value)
    }

    /// Ends the load, waits until every watcher has seen the end, and takes all evidence. All members must run.
    pub fn finish(self, cluster: &Cluster) -> History {
        let mut operations = self.clients.stop();
        let all: Vec<usize> = (0..cluster.size()).collect();
        let last = put(self.clock, &self.own, cluster, &all, END_KEY, "end").0;
        operations.extend(self.own.take());
        let watched = self.watchers.finish(last);
        let changes = read_back(cluster, last);
        cluster.assert_replicas_equal(last);
        History { operations, changes, watched }
    }
}

/// How long a cluster under load may answer nobody.
const WORK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the test itself waits for an answer.
const OWN_TIMEOUT: Duration = Duration::from_secs(3);
/// The test's own number among the clients.
const OWN: usize = 1000;

fn put(
    clock: Clock,
    own: &RefCell<Vec<Operation>>,
    cluster: &Cluster,
    members: &[usize],
    key: &str,
    value: &str,
) -> (i64, String) {
    let started = Instant::now();
    for attempt in 0.. {
        assert!(started.elapsed() < WORK_TIMEOUT, "no put was answered within {WORK_TIMEOUT:?}");
        let value = match attempt {
            0 => value.to_owned(),
            again => format!("{value}, again {again}"),
        };
        let member = members[attempt % members.len()];
        let call = Call::Put { key: key.to_owned(), value: value.clone() };
        let invoked = clock.now();
        let asked = block_on(async {
            let client = Client::try_connect(cluster.client(member)).await?;
            Some(ask::ask(&client, &call, OWN_TIMEOUT).await)
        });
        // What was never sent is no operation.
        let Some(outcome) = asked.map(|asked| asked.outcome) else { continue };
        let done = match &outcome {
            Outcome::Done { revision, .. } => Some(*revision),
            _ => None,
        };
        let returned = clock.now();
        own.borrow_mut().push(Operation { client: OWN, member, call, invoked, returned, outcome });
        if let Some(revision) = done {
            return (revision, value);
        }
    }
    unreachable!("it ends by an answer or by the time")
}

/// All changes up to `last`, by a watch on each member from the first revision on: all must tell the same.
fn read_back(cluster: &Cluster, last: i64) -> Vec<Change> {
    let mut told: Option<Vec<Change>> = None;
    for member in 0..cluster.size() {
        let changes = block_on(watchers::all_changes(cluster.client(member), last));
        match &told {
            None => told = Some(changes),
            Some(first) => assert_same(first, &changes, member),
        }
    }
    told.unwrap_or_default()
}

fn assert_same(first: &[Change], other: &[Change], member: usize) {
    let differs = first.iter().zip(other).position(|(one, other)| one != other);
    let at = differs.unwrap_or(first.len().min(other.len()));
    assert!(
        first == other,
        "member {member} tells another history than member 0, from change {at} of {} and {} on: \
         {:?}, not {:?}",
        other.len(),
        first.len(),
        other.get(at),
        first.get(at)
    );
}

/// The changes of one answer, in their order.
fn changes_of(response: &WatchResponse) -> Vec<Change> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    response
        .events
        .iter()
        .filter_map(|event| {
            let deleted = event.kind == mainstay_proto::EventType::Delete as i32;
            let pair = event.kv.as_ref()?;
            let value = (!deleted).then(|| text(&pair.value));
            Some(Change { revision: pair.mod_revision, key: text(&pair.key), value })
        })
        .collect()
}
