//! The words of members.

use crate::cluster::MemberInfo;
use crate::message::{Outcome, Request};

/// What one member tells another, once both know whom they talk to.
#[derive(Debug, Clone)]
pub enum PeerMessage {
    /// Of consensus. May be lost, repeated, late or out of order.
    Raft(mainstay_raft::Message),
    /// To be decided by the receiver, for one of the sender's clients. It is answered once.
    Request { number: u64, request: Request },
    /// What came of the request of this number. The answerer had applied everything up to raft's
    /// `index`: the asker shows the answer when it has, too, so that clients find on it what they were
    /// told.
    Answer { number: u64, outcome: Outcome, index: u64 },
}

/// Who somebody is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// 0, together with the member's id, for somebody who asks to join.
    pub cluster_id: u64,
    pub member_id: u64,
    /// Which life of the member this is.
    pub incarnation: u64,
    /// As people call it.
    pub name: String,
}

/// The first thing that each end of a connection says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub identity: Identity,
    /// Whom it takes the other for; 0 from somebody who asks to join.
    pub to: u64,
    pub least_version: u16,
    pub newest_version: u16,
    /// Where a dialer itself can be dialed: whom it has dialed may not have heard of it yet.
    pub peer_urls: Vec<String>,
}

/// Why a member does not talk to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// There is no version of the protocol that both speak.
    Version,
    OtherCluster,
    /// The member is not the one that was looked for at this place.
    OtherMember,
    /// The member was removed from the cluster for good.
    Removed,
    /// There is nothing to say to those who want to join, now.
    NotReady,
    /// What was said made no sense.
    Malformed,
    /// A reason that this version has no name for.
    Other(u16),
}

/// A reason, and the words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RefusalReason,
    pub text: String,
}

/// What somebody is told who asks to join by its own peer URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    pub cluster_id: u64,
    /// The member with one of these peer URLs; 0 when there is none.
    pub member_id: u64,
    pub members: Vec<MemberInfo>,
}
