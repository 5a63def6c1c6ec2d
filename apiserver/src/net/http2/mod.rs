//! HTTP/2 (RFC 9113) for a server: a state machine without I/O, and what drives it.
//!
//! [`Connection`] turns bytes into events and commands into bytes; `driver` gives it a socket, the
//! time and handlers. hyper's has its own idea of what an `:authority` is, which gRPC clients
//! don't share, and costs several times as much.

mod body;
pub mod connection;
mod date;
pub mod driver;
pub mod error;
mod floods;
mod frame;
mod hpack;
mod pings;
mod ready;
mod request;
mod settings;
mod stream;
mod window;

pub use body::ReceivedBody;
pub use connection::{Connection, Event};
pub use error::{ErrorCode, Fault};
pub use stream::StreamKey;

/// What every connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first and last words to a client for whom there is no room.
pub(super) fn too_many_connections(output: &mut bytes::BytesMut) {
    settings::write_own(output, 0);
    frame::write_goaway(output, 0, ErrorCode::ENHANCE_YOUR_CALM, "too many connections");
}
