//! The words that a node and its owner share.

use bytes::Bytes;

/// One slot of the replicated log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 1 without gaps.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
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
#[derive(Debug, Clone)]
pub struct Config {
    /// Not 0.
    pub id: u64,
    /// All voting members, this one included.
    pub voters: Vec<u64>,
    pub hard_state: HardState,
    /// Index and term of the newest durable entry; 0 for an empty log.
    pub last_index: u64,
    pub last_term: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Follower,
    Leader,
}

/// What a member tells another. A cluster of one has nobody to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub from: u64,
    pub to: u64,
    pub term: u64,
}

/// What the owner has to do, in this order: make `hard_state` and `entries` durable (they may be in
/// one write, and later ones may be started before), report them by [`Node::persisted`], and apply
/// everything up to `commit`.
///
/// [`Node::persisted`]: crate::Node::persisted
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// Set when term or vote changed.
    pub hard_state: Option<HardState>,
    /// To append, in order.
    pub entries: Vec<Entry>,
    /// Everything up to this index is committed.
    pub commit: u64,
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("not leader")]
    NotLeader,
}
