//! Why something was not taken.

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// [`Node::leader`](crate::Node::leader) says who is, if anybody.
    #[error("not leader")]
    NotLeader,
    #[error("leadership is being transferred to member {to:x}: ask it in a moment")]
    Transferring { to: u64 },
    #[error("{entries} proposals of {bytes} bytes wait to be committed: try again later")]
    TooManyUncommitted { entries: u64, bytes: u64 },
}

/// Why a change of members was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("the change of members at entry {index} is not committed yet: one at a time")]
    Pending { index: u64 },
    #[error("the leader has not committed an entry of its term yet: try again in a moment")]
    TermNotStarted,
    #[error("members are changing from one set to another: leave that state first")]
    Joint,
    #[error("members are not changing: there is nothing to leave")]
    NotJoint,
    #[error("member {id:x} exists already")]
    Exists { id: u64 },
    #[error("member {id:x} does not exist")]
    Unknown { id: u64 },
    #[error("member {id:x} is not a learner")]
    NotLearner { id: u64 },
    #[error("learner {id:x} is not in sync with the leader yet: {behind} entries behind")]
    NotCaughtUp { id: u64, behind: u64 },
    #[error("no voter would be left")]
    NoVoter,
    #[error("a cluster has at most {} members", crate::options::MEMBERS)]
    TooMany,
}

/// Why a read can't even wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("no leader is known: try again later")]
    NoLeader,
    #[error("{pending} reads wait for a quorum already: try again later")]
    TooMany { pending: usize },
}

/// Why a transfer of leadership did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("not leader")]
    NotLeader,
    #[error("member {to:x} is not a voter")]
    NotVoter { to: u64 },
}

/// Why a message was dropped. The sender is broken, or not of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("the message is for member {to:x}, not for this one")]
    WrongRecipient { to: u64 },
    #[error("member {from:x} speaks in the name of {claimed:x}")]
    WrongSender { from: u64, claimed: u64 },
    #[error("entries or members in a message of member {from:x} make no sense")]
    Malformed { from: u64 },
}
