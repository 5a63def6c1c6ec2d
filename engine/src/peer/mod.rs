//! What members of a cluster tell each other.

use mainstay_raft::Message;

use crate::message::{Outcome, Request};

/// From one member to another.
#[derive(Debug, Clone)]
pub enum PeerMessage {
    Raft(Message),
    /// A request that the leader has to decide. It is answered once.
    Request {
        number: u64,
        request: Request,
    },
    /// The answerer had applied everything up to `index`: the asker shows the answer when it has,
    /// too, so that clients find on it what they were told.
    Answer {
        number: u64,
        outcome: Outcome,
        index: u64,
    },
}
