//! What clients asked of a store, when, and what they were told: plain data.

use bytes::Bytes;

/// Counts changes of the whole store. The first change makes 2, as in etcd.
pub type Revision = i64;

/// Names a lease; 0 for none.
pub type Lease = i64;

/// One request of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// For the reader of a complaint alone.
    pub client: u64,
    /// When it was sent, in any unit that all operations of a history share.
    pub invoked: u64,
    pub request: Request,
    pub outcome: Outcome,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `returned`: when, no earlier than it was invoked.
    Answered { returned: u64, response: Response },
    /// It may have been done, may be done later, or never.
    Unknown,
    /// The store said that it did nothing.
    Refused,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Read(Read),
    Transact(Transaction),
}

/// A read of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub keys: Keys,
    /// At this revision; 0 for the newest one.
    pub revision: Revision,
    /// At most so many versions; 0 for all.
    pub limit: usize,
    /// The answer has no versions, their number alone.
    pub count_only: bool,
    /// May be stale.
    pub serializable: bool,
}

impl Read {
    /// All of `keys`, as they are now.
    pub fn of(keys: Keys) -> Read {
        Read { keys, revision: 0, limit: 0, count_only: false, serializable: false }
    }
}

/// A set of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    One(Bytes),
    /// `start <= key < end`; without an end, all from `start` on.
    Range {
        start: Bytes,
        end: Option<Bytes>,
    },
}

impl Keys {
    pub fn all() -> Keys {
        Keys::Range { start: Bytes::new(), end: None }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(one) => one == key,
            Keys::Range { start, end } => {
                start <= key && end.as_ref().is_none_or(|end| key < &end[..])
            }
        }
    }
}

/// If all compares hold then `success` else `failure`, at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    pub compares: Vec<Compare>,
    pub success: Vec<Action>,
    pub failure: Vec<Action>,
}

impl Transaction {
    /// One action, without conditions.
    pub fn of(action: Action) -> Transaction {
        Transaction { compares: Vec::new(), success: vec![action], failure: Vec::new() }
    }
}

/// One thing that a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Get(Keys),
    Put {
        key: Bytes,
        value: Bytes,
        lease: Lease,
    },
    Delete(Keys),
    /// The lease ends, and all that is attached to it.
    EndLease(Lease),
}

/// A condition on one key. One that does not exist counts as version, revisions and lease 0, and
/// has no value that any comparison holds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub order: Order,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Equal,
    NotEqual,
    Less,
    Greater,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Value(Bytes),
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Lease(Lease),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Read(Found),
    Transact(Done),
}

impl Response {
    /// The store's revision as the answer says.
    pub fn revision(&self) -> Revision {
        match self {
            Response::Read(found) => found.revision,
            Response::Transact(done) => done.revision,
        }
    }

    /// Whether it says that something changed: `revision` is that change's own, then.
    pub fn wrote(&self) -> bool {
        let Response::Transact(done) = self else { return false };
        done.results.iter().any(|result| match result {
            Effect::Put { .. } => true,
            Effect::Deleted { count, .. } => *count > 0,
            Effect::Got { .. } => false,
        })
    }
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The store's, not the one that was asked for.
    pub revision: Revision,
    /// By key.
    pub versions: Vec<Version>,
    /// How many there are without the limit.
    pub count: usize,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    pub revision: Revision,
    pub succeeded: bool,
    /// One for each action of the branch taken.
    pub results: Vec<Effect>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Got {
        versions: Vec<Version>,
    },
    /// `previous`: what was there before, if the client wanted to know.
    Put {
        previous: Option<Option<Version>>,
    },
    Deleted {
        count: usize,
        previous: Option<Vec<Version>>,
    },
}

/// A key's value at some revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// Counts the writes since the key was made.
    pub version: i64,
    pub lease: Lease,
}

/// What watchers saw of a revision. It need not be all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Put(Version),
    Deleted(Bytes),
}

/// Everything that is known of a stretch of a store's life.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In any order.
    pub operations: Vec<Operation>,
    /// The store's revision before any of them: 1 for a new one.
    pub start_revision: Revision,
    /// What lived there.
    pub start: Vec<Version>,
    /// What watchers saw, by revision. Not needed, but it decides what answers leave open.
    pub seen: Vec<(Revision, Seen)>,
}
