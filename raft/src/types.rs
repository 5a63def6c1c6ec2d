//! The words that a node and its owner share.

use bytes::Bytes;

use crate::membership::Membership;
use crate::messages::Message;
use crate::options::Options;

/// What an entry means to raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryKind {
    /// The owner's, opaque; or the empty entry that a leader begins its term with.
    #[default]
    Normal,
    /// An encoded [`Membership`], in force from the moment it is in the log.
    Membership,
}

/// One slot of the replicated log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 1 without gaps.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    pub kind: EntryKind,
    /// Opaque to raft; empty in the entry that a new leader begins its term with.
    pub data: Bytes,
}

/// What must be durable before anything that depends on it is sent or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    pub term: u64,
    /// The member voted for in `term`; 0 for none.
    pub vote: u64,
    /// Known to be committed. Losing it costs time, never safety.
    pub commit: u64,
}

/// Who a node is and what its log held when it started.
///
/// A member that is alone needs the first five fields; `..Config::default()` fills in the rest.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Not 0.
    pub id: u64,
    /// The voting members the cluster began with; looked at when `memberships` is empty. Both are
    /// empty on a member that joins: it learns of its cluster from the log.
    pub voters: Vec<u64>,
    pub hard_state: HardState,
    /// Index and term of the newest durable entry; 0 for an empty log.
    pub last_index: u64,
    pub last_term: u64,
    /// Which life of this member this is. A member that lost its disk comes back with a greater
    /// number than it ever had (the time will do), never with the same. See [`crate::repair`].
    pub incarnation: u64,
    /// Index of the membership entry (0: from the beginning, or a snapshot's index), and what it
    /// says: the newest at or before `base_index`, and all behind it, in order.
    pub memberships: Vec<(u64, Membership)>,
    /// The entry right before the log's first: the snapshot's. Its term is `base_term`.
    pub base_index: u64,
    pub base_term: u64,
    /// First index of each term behind `base_index`, and the term, in order. Only a member that is
    /// alone may leave it out: everything up to the newest entry then counts as compacted.
    pub terms: Vec<(u64, u64)>,
    /// The state machine has applied everything up to here.
    pub applied: u64,
    /// Entries that the disk still names but whose content is lost.
    pub damaged: Vec<Damage>,
    /// A snapshot that was being received, and how many bytes of it are durable.
    pub partial_snapshot: Option<(Snapshot, u64)>,
    /// Seed of the only randomness: election timeouts. Members should differ in it.
    pub seed: u64,
    pub options: Options,
}

/// An entry that is known to have been here, and whose content can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    pub index: u64,
    pub term: u64,
    pub kind: EntryKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    #[default]
    Follower,
    /// Asks whether it could win, without disturbing anybody.
    PreCandidate,
    Candidate,
    Leader,
}

/// How a leader sends to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Finds out where the logs agree, one message at a time.
    Probe,
    /// Sends ahead of the answers.
    Replicate,
    /// The peer needs a snapshot.
    Snapshot,
}

/// What a leader knows of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub state: PeerState,
    /// Durable there, and equal to the leader's log.
    pub matched: u64,
    /// The next entry to send.
    pub next: u64,
    /// Messages with entries that were not answered.
    pub in_flight: usize,
    /// Catches up within less than an election timeout: fit to vote.
    pub caught_up: bool,
}

/// A snapshot of the state machine, known by where it stands in the log and by its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// It contains everything up to this entry, whose term is `term`.
    pub index: u64,
    pub term: u64,
    /// Equal numbers promise equal bytes, so that a transfer can go on with another sender.
    pub fingerprint: u64,
    /// In force at `index`.
    pub membership: Membership,
}

/// Bytes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPart {
    pub snapshot: Snapshot,
    /// Bytes before this part.
    pub offset: u64,
    pub data: Bytes,
    /// Nothing follows.
    pub done: bool,
}

/// Bytes of a snapshot that a peer needs. Answered by [`snapshot_part`] or
/// [`snapshot_unavailable`].
///
/// [`snapshot_part`]: crate::Node::snapshot_part
/// [`snapshot_unavailable`]: crate::Node::snapshot_unavailable
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotWanted {
    pub to: u64,
    /// The one that the transfer goes on with; `None`: the newest there is. If it is gone, a newer
    /// one may be answered, from offset 0.
    pub snapshot: Option<Snapshot>,
    /// As the peer said. At the end or beyond, nothing is left: no bytes, and `done`.
    pub offset: u64,
    pub max_bytes: usize,
}

/// A complete snapshot to begin anew from. Answered by [`snapshot_installed`].
///
/// [`snapshot_installed`]: crate::Node::snapshot_installed
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    pub snapshot: Snapshot,
    /// The entries behind the snapshot stay; otherwise the whole log is to be dropped.
    pub keeps_tail: bool,
}

/// Old entries that somebody needs and the node doesn't hold. Answered by [`entries_read`],
/// [`entries_compacted`] or, if they can't be read, [`damaged`].
///
/// [`entries_read`]: crate::Node::entries_read
/// [`entries_compacted`]: crate::Node::entries_compacted
/// [`damaged`]: crate::Node::damaged
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntriesWanted {
    pub from: u64,
    /// Inclusive. Fewer will do, from `from` on.
    pub to: u64,
    pub max_bytes: usize,
}

/// A read may be answered once everything up to `index` is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// What the owner called it.
    pub context: u64,
    pub index: u64,
}

/// What the owner has to do.
///
/// 1. Make `hard_state`, `entries`, `repairs` and `snapshot_parts` durable, in the order of
///    `write` numbers, and report by [`Node::written`] (a member that is alone may report entries
///    by [`Node::persisted`]). Several writes may be under way.
/// 2. Send `messages`. It need not wait for anything: what must not be said before it is durable
///    is not among them yet.
/// 3. Apply everything up to `commit`, and report by [`Node::applied`].
///
/// [`Node::written`]: crate::Node::written
/// [`Node::persisted`]: crate::Node::persisted
/// [`Node::applied`]: crate::Node::applied
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// The number of what is to be written; 0 when there is nothing.
    pub write: u64,
    /// Set when term or vote changed.
    pub hard_state: Option<HardState>,
    /// To append, in order. One with an index that was there before replaces that one and all
    /// behind it.
    pub entries: Vec<Entry>,
    /// Intact copies of damaged entries, to be put in their place. Nothing behind them changes.
    pub repairs: Vec<Entry>,
    /// Received bytes of a snapshot, to be kept until it is complete or another one begins.
    pub snapshot_parts: Vec<SnapshotPart>,
    /// Everything up to this index is committed, and intact here.
    pub commit: u64,
    /// To send, in any order; each may be lost.
    pub messages: Vec<Message>,
    pub entries_wanted: Vec<EntriesWanted>,
    pub snapshots_wanted: Vec<SnapshotWanted>,
    pub install: Option<Box<Install>>,
    pub reads: Vec<ReadState>,
    /// Contexts of reads that will not be answered: ask again.
    pub failed_reads: Vec<u64>,
    /// Set when the newest membership in the log is another one.
    pub membership: Option<Box<Membership>>,
}
