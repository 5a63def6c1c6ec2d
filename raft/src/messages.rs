//! What members tell each other.

use crate::types::{Entry, Snapshot, SnapshotPart};

/// From one member to another. Any message may be lost, repeated, late or out of order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub from: u64,
    pub to: u64,
    /// The sender's term; a pre-vote is about the term after it.
    pub term: u64,
    /// Which life of the sender speaks.
    pub incarnation: u64,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Raft paper, 5.2 and 5.4.1; `pre`: dissertation, 9.6.
    VoteRequest {
        pre: bool,
        last_index: u64,
        last_term: u64,
        /// The leader itself asked for this election: do not stick to it (dissertation, 3.10).
        transfer: bool,
    },
    VoteResponse {
        pre: bool,
        granted: bool,
    },
    /// Raft paper, 5.3. Without entries: a probe, or news of `commit`.
    Append {
        prev_index: u64,
        prev_term: u64,
        entries: Vec<Entry>,
        commit: u64,
    },
    /// The sender's log equals the leader's up to `verified`, and is durable up to `durable`.
    AppendResponse {
        verified: u64,
        durable: u64,
    },
    /// The entry before those sent is not there. What is: `hint_term` at `hint_index`, the newest
    /// place where the logs could agree.
    AppendRejected {
        prev_index: u64,
        hint_index: u64,
        hint_term: u64,
    },
    /// `round` and `tick` come back as they are.
    Heartbeat {
        round: u64,
        tick: u64,
        commit: u64,
    },
    HeartbeatResponse {
        round: u64,
        tick: u64,
        verified: u64,
    },
    /// Campaign at once: the leader hands over (dissertation, 3.10).
    TimeoutNow,
    /// The leader's term is over: says so by its own term alone.
    StaleTerm,
    ReadRequest {
        context: u64,
    },
    ReadResponse {
        context: u64,
        index: u64,
    },
    SnapshotPart(SnapshotPart),
    /// So many bytes are durable: go on from there.
    SnapshotResponse {
        snapshot: Snapshot,
        received: u64,
    },
    /// Who has this entry intact?
    RepairRequest {
        index: u64,
        entry_term: u64,
    },
    RepairResponse {
        index: u64,
        entry_term: u64,
        answer: RepairAnswer,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairAnswer {
    Intact(Entry),
    /// Was never here, or another entry has taken its place.
    Absent,
    /// Damaged here too, or not durable yet: ask again.
    Unknown,
    /// Part of a snapshot.
    Compacted,
}

impl Body {
    /// Only a leader says this.
    pub(crate) fn is_leaders(&self) -> bool {
        matches!(self, Body::Append { .. } | Body::Heartbeat { .. } | Body::SnapshotPart(_))
    }
}
