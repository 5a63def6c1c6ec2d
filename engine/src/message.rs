//! What doors ask a replica, what it answers, and what the cores of one store tell each other.

use bytes::Bytes;

use crate::cluster::{ClusterStatus, MemberChange, MemberInfo, MemberUpdate};
use crate::effect::{Change, Effect, SharedBatch};
use crate::error::StoreError;
use crate::log::replay::Reached;
use crate::mvcc::{Chunk, CountChunk};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{
    HashKv, KeyRange, LeaseStatus, PrefixUsage, RangeRequest, RangeResponse, Transaction,
    TransactionResponse,
};
use crate::shard::Shard;
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
    /// Answered once this member has everything that was committed when it was asked.
    Confirm,
    /// Who is a member: as everybody knows by now, or as far as this one knows.
    Members {
        linearizable: bool,
    },
    /// Answered once the change is committed.
    ChangeMember(MemberChange),
    UpdateMember(MemberUpdate),
    /// Asks the leader, and nobody else, to hand over to this member.
    MoveLeader {
        to: u64,
    },
    ClusterStatus,
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
    /// Of Members, ChangeMember and UpdateMember, in order of id.
    Members(Vec<MemberInfo>),
    ClusterStatus(Box<ClusterStatus>),
}

/// An answer or a refusal.
pub type Outcome = Result<Answer, StoreError>;

/// Counts the times when this member began or ceased to lead: odd while it leads. Whatever was
/// decided in one reign is worth nothing in the next.
pub type Reign = u32;

/// What has to be so before an answer may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// Everything up to this revision is committed.
    pub visible_at: Revision,
    /// This member has led all the time since it was decided; in which reign that was.
    pub reign: Reign,
    /// And a quorum has confirmed so, as nothing that it changed will be committed.
    pub confirm: bool,
}

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
        reign: Reign,
    },
    Evaluated {
        token: Token,
        outcome: Outcome,
        due: Due,
    },

    /// To core 0: a request that it decides.
    Forward {
        token: Token,
        request: Request,
    },
    Forwarded {
        token: Token,
        outcome: Outcome,
        due: Due,
    },

    /// To core 0: an effect to be ordered and logged.
    Effect {
        effect: Effect,
        reign: Reign,
    },
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

    /// To a shard: what an entry of another leader does to it. It is committed by raft, and shown
    /// with its batch.
    Replicate {
        job: u64,
        records: Vec<Record>,
    },
    /// What lived before each of these records.
    Replicated {
        job: u64,
        previous: Vec<Option<Record>>,
    },
    /// To every core: this member leads, and requests may be evaluated.
    TakeLead {
        reign: Reign,
    },
    /// To every core: it leads no more. What is not committed is undone.
    StepDown {
        reign: Reign,
    },
    /// To core 0: that is done.
    SteppedDown {
        reign: Reign,
    },
    /// To core 0: is everything known here that is committed by now?
    Confirm {
        number: u64,
    },
    /// It is, or can't be found out.
    Confirmed {
        number: u64,
        result: Result<(), StoreError>,
    },
    /// To every core: the state of another member takes the place of this one's.
    Replace(Box<Replacement>),
}

/// A core's share of a snapshot of another member.
#[derive(Debug)]
pub struct Replacement {
    pub shard: Shard,
    /// Where the snapshot ends: history begins there.
    pub reached: Reached,
}

// The rings between cores hold so many of these that their size is memory (see RING_SLOTS).
const _: () = assert!(size_of::<Message>() <= 136);
