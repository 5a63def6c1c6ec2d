//! The consensus core: a pure state machine. No I/O, no clock, no threads, no knowledge of keys.
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

pub use error::{ChangeError, ProposeError, ReadError, StepError, TransferError};
pub use membership::{Change, Membership, Transition};
pub use messages::{Body, Message, RepairAnswer};
pub use node::Node;
pub use options::{MEMBERS, Options};
pub use types::{
    Config, Damage, EntriesWanted, Entry, EntryKind, HardState, Install, ReadState, Ready, Role,
    Snapshot, SnapshotPart, SnapshotWanted,
};
