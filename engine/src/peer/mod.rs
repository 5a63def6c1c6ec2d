//! What members of a cluster tell each other, as bytes: frames, messages, handshake, queues.
//!
//! All of it is plain data in, plain data out: `wire` turns messages into bytes and back, `frame`
//! cuts them and puts them together again, `outbox` decides what goes next, `session` is one end of a
//! connection. The sockets are in [`runtime::peers`](crate::runtime::peers), and
//! docs/peer-protocol.md has every byte.

pub mod frame;
pub mod limits;
mod message;
pub mod outbox;
pub mod session;
#[cfg(test)]
mod tests;
mod url;
pub mod wire;

pub use message::{Hello, Identity, JoinAnswer, PeerMessage, Refusal, RefusalReason};
pub use outbox::Outbox;
pub use session::{Event, PeerFacts, Roster, Session, SessionError};
pub use url::{PeerUrl, UrlError};

/// The oldest and the newest version of the protocol that this program speaks.
pub const LEAST_VERSION: u16 = 1;
pub const NEWEST_VERSION: u16 = 1;
