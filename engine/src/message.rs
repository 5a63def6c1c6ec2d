//! What doors ask a replica, what it answers, and what the cores of one store tell each other.

use bytes::Bytes;

use crate::effect::{Change, Effect, SharedBatch};
use crate::error::StoreError;
use crate::mvcc::{Chunk, CountChunk};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{
    HashKv, KeyRange, LeaseStatus, PrefixUsage, RangeRequest, RangeResponse, Transaction,
    TransactionResponse,
};
use crate::snapshot::{self, Part};

/// Names a request of one core, until it is answered.
pub type Token = u64;

/// What a door may ask.
#[derive(Debug, Clone)]
pub enum Request {
    Range(RangeRequest),
    Transact(Transaction),
    /// Hash what lived at `revision`; 0 (or less) for the newest committed one.
    HashKv {
        revision: Revision,
    },
    /// Which prefixes of `depth` levels take most now, the `top` largest of them.
    Usage {
        depth: usize,
        top: usize,
    },
    /// Forget history up to `revision`; with `physical`, answer when its memory is free.
    Compact {
        revision: Revision,
        physical: bool,
    },
    /// `random` is a candidate for the id when `id` is 0.
    LeaseGrant {
        id: LeaseId,
        ttl: i64,
        random: LeaseId,
    },
    LeaseRevoke {
        id: LeaseId,
    },
    LeaseKeepAlive {
        id: LeaseId,
    },
    LeaseTimeToLive {
        id: LeaseId,
        keys: bool,
    },
    Leases,
    Document {
        name: Bytes,
    },
    PutDocument {
        name: Bytes,
        content: Bytes,
        /// Refuse unless this is what is there (`Some(None)`: nothing at all).
        expected: Option<Option<Bytes>>,
    },
    /// For a snapshot, of core 0 alone.
    SnapshotSlice(Part),
}

/// What comes back, variant for variant.
#[derive(Debug, Clone)]
pub enum Answer {
    Range(RangeResponse),
    Transact(TransactionResponse),
    HashKv(HashKv),
    Usage(Vec<PrefixUsage>),
    /// Of Compact and LeaseRevoke: the store's revision.
    Revision(Revision),
    LeaseGranted {
        id: LeaseId,
        ttl: i64,
    },
    /// Of LeaseKeepAlive: the TTL granted.
    TimeToLive(i64),
    LeaseStatus(LeaseStatus),
    Leases(Vec<LeaseId>),
    Document(Option<Bytes>),
    SnapshotSlice(snapshot::Slice),
    Done,
}

/// An answer or a refusal.
pub type Outcome = Result<Answer, StoreError>;

/// A slice of a range, from one shard.
#[derive(Debug, Clone)]
pub struct Slice {
    pub range: KeyRange,
    pub revision: Revision,
    /// Begin behind this key.
    pub after: Option<Bytes>,
    /// Look at no more than so many keys.
    pub max_keys: usize,
}

/// What the coordinator wants of a shard.
#[derive(Debug, Clone, Default)]
pub struct Gather {
    pub job: u64,
    /// Hold back, until the job's [`Message::Install`], every request that touches what is
    /// gathered; and for `leases`, until their revocation is committed.
    pub hold: bool,
    /// Leases that the job may attach keys to.
    pub attaching: Vec<LeaseId>,
    /// Give the newest version of every key in these.
    pub ranges: Vec<KeyRange>,
    /// Give the newest version of every key attached to these.
    pub leases: Vec<LeaseId>,
}

/// A shard's answer to [`Gather`], list for list.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// Of all `ranges`, tombstones that are not committed included, in no particular order.
    pub newest: Vec<Record>,
    pub attached: Vec<Vec<Record>>,
}

impl Gathered {
    /// How many records there are for a transaction to look at.
    pub fn records(&self) -> usize {
        self.newest.len()
    }
}

/// The end, at one revision, of everything that lives in some frozen ranges.
#[derive(Debug, Clone)]
pub struct Ended {
    pub revision: Revision,
    pub ranges: Vec<KeyRange>,
}

/// What one core tells another.
#[derive(Debug)]
pub enum Message {
    /// To the owner of all keys of the transaction.
    Evaluate {
        token: Token,
        transaction: Transaction,
    },
    /// To be given out once everything up to `visible_at` is committed.
    Evaluated {
        token: Token,
        outcome: Outcome,
        visible_at: Revision,
    },

    /// To core 0: a request that it decides.
    Forward {
        token: Token,
        request: Request,
    },
    Forwarded {
        token: Token,
        outcome: Outcome,
        visible_at: Revision,
    },

    /// To core 0: an effect to be ordered and logged.
    Effect(Effect),
    /// To every core: the next committed batch.
    Committed(SharedBatch),

    /// To a shard: records for a read in progress.
    ReadSlice {
        token: Token,
        slice: Slice,
    },
    SliceRead {
        token: Token,
        result: Result<Chunk, StoreError>,
    },
    /// To a shard: how many keys of the range lived at the revision, a slice of it.
    Count {
        token: Token,
        range: KeyRange,
        revision: Revision,
        /// Where the slice before ended.
        resume_from: Option<Bytes>,
    },
    Counted {
        token: Token,
        result: Result<CountChunk, StoreError>,
    },

    /// From core 0 to a shard: a slice for a snapshot.
    TakeSlice {
        token: Token,
        part: Part,
    },
    SliceTaken {
        token: Token,
        slice: snapshot::Slice,
    },

    /// From the coordinator to a shard.
    Gather(Gather),
    Gathered {
        job: u64,
        gathered: Gathered,
    },
    /// From the coordinator: what the job does to this shard. Ends the holding of its keys.
    Install {
        job: u64,
        changes: Vec<Change>,
    },
    /// The same, for the end of very many keys. They stay held until each of them is marked.
    End {
        job: u64,
        ended: Box<Ended>,
    },
    /// Of Install and End: whoever reads here from now on sees what the job did.
    Installed {
        job: u64,
    },

    /// To core 0: this core has dropped all that `revision` allowed it to.
    CompactionDone {
        revision: Revision,
    },
}

// The rings between cores hold so many of these that their size is memory (see RING_SLOTS).
const _: () = assert!(size_of::<Message>() <= 136);
