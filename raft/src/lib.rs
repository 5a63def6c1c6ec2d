//! The consensus core: a pure state machine. No I/O, no clock, no threads, no knowledge of keys.
//!
//! The owner feeds it ([`Node::tick`], [`Node::step`], [`Node::propose`], [`Node::persisted`]) and
//! carries out what [`Node::ready`] asks for. Entries are appended while they are being sent, so a
//! leader's own disk counts as one voter among the others (Ongaro, "Consensus: Bridging Theory and
//! Practice", 10.2.1).

mod node;
mod quorum;
mod types;

pub use node::Node;
pub use types::{Config, Entry, HardState, Message, ProposeError, Ready, Role};
