//! The consensus core: a pure state machine. No I/O, no clock, no threads, no knowledge of keys, no
//! randomness but from a seed.
//!
//! It implements Raft as in Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm" (the paper), and Ongaro, "Consensus: Bridging Theory and Practice" (the dissertation).
//! Each module names the sections it implements.
//!
//! # Roles
//!
//! ```text
//!             no leader heard for an election timeout, or TimeoutNow
//!   +----------+ ------------------> +--------------+ a quorum would   +-----------+
//!   | Follower |                     | PreCandidate | ---------------> | Candidate |
//!   +----------+ <------------------ +--------------+    vote for it   +-----------+
//!     ^   ^        a leader, refusals                                    |     |
//!     |   +--------------------------------------------------------------+     |
//!     |            a leader, refusals, a later term                            | a quorum votes for
//!     |                                                  +--------+            | it, its own vote
//!     +------------------------------------------------- | Leader | <----------+ being durable
//!          a later term, no quorum heard for an election +--------+
//!          timeout, no voter any more, or others should repair its log
//! ```
//!
//! `TimeoutNow` skips the pre-vote. A member that is alone becomes leader at once: its first entry
//! and its vote are one write, and nothing is said or committed before that is durable.
//!
//! # The owner's loop
//!
//! ```text
//!   tick(), step(from, message), propose(data), read_index(context), ...
//!        |
//!        v
//!   ready() -> Ready { write, hard_state, entries, messages, commit, ... }
//!        |        |                         |         |
//!        |        v                         v         v
//!        |     write to disk              send      apply --> applied(index)
//!        |        |
//!        |        +-- durable --> written(number) or, alone, persisted(index)
//!        +<-------------------------+
//! ```
//!
//! The owner does everything that takes time, in its own time, several things at once. Messages in a
//! [`Ready`] may be sent at once, before anything is written: the core keeps those back that promise
//! something until the owner has reported it to be durable. So a leader's disk works while the
//! entries travel, and it counts as one voter among the others (dissertation, 10.2.1).
//!
//! # What is where
//!
//! | module | what | source |
//! |---|---|---|
//! | `node` | the state, and what comes in | paper, figure 2 |
//! | `writes` | what goes out; writes, and what waits for them | dissertation 10.2.1 |
//! | `election` | terms, votes, pre-vote, sticking to a leader | 5.1, 5.2, 5.4.1; dissertation 4.2.3, 9.6 |
//! | `leader` | heartbeats, check for a quorum, handing over | dissertation 3.10, 6.2 |
//! | `replication` | appending on both sides, commitment | 5.3, 5.4.2 |
//! | `progress` | what a leader knows of a peer; flow control | dissertation 10.2.1, 4.2.1 |
//! | `log` | terms of all entries, content of recent ones | 5.3 |
//! | `quorum` | majorities, one and two | 5.3, 6 |
//! | `membership` | who is a member; how sets of members change | 6; dissertation 4 |
//! | `reconfigure` | the leader's part in that | dissertation 4.1 - 4.3 |
//! | [`read_index`] | reads by asking around, and by lease | dissertation 6.4 |
//! | `snapshot` | transfer in parts, installation | 7; dissertation 5 |
//! | [`repair`] | damaged entries, lost disks | Alagappan et al., FAST 2018 |
//!
//! # Invariants
//!
//! Those of the paper's figure 3 are asserted where one member can see them: one leader in a term,
//! one vote in a term, a leader only appends, a committed entry is never replaced, terms and commit
//! index never go back, nothing is committed before it is in the log nor counted before it is
//! durable. `tests/simulation` checks them among all members.
//!
//! # Bounds
//!
//! Memory is bounded by [`Options`]: recent entries by bytes (older ones are asked for by
//! [`Ready::entries_wanted`]), messages without an answer by number and bytes per peer, proposals
//! that are not committed, reads that wait. What is in no cache is one pair of numbers for each
//! term and each membership in the log, and one for each write that is under way.

mod election;
mod error;
mod leader;
mod log;
mod membership;
mod messages;
mod node;
mod options;
mod progress;
mod quorum;
mod random;
pub mod read_index;
mod reconfigure;
pub mod repair;
mod replication;
mod snapshot;
mod types;
mod writes;

pub use error::{ChangeError, ProposeError, ReadError, StepError, TransferError};
pub use membership::{Change, Membership, Transition};
pub use messages::{Body, Message, RepairAnswer};
pub use node::Node;
pub use options::{MEMBERS, Options};
pub use types::{
    Config, Damage, EntriesWanted, Entry, EntryKind, HardState, Install, Peer, PeerState,
    ReadState, Ready, Role, Snapshot, SnapshotPart, SnapshotWanted,
};
