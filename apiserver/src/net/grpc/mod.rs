//! gRPC over HTTP: message framing, statuses, deadlines, unary and streaming calls.
//!
//! [`Head::of`] checks a request's headers, [`unary`] and [`Messages`] read what the client sends,
//! [`answer`], [`stream`] and [`refuse`] make responses, [`Replies`] reads one. Knows nothing of any service.

mod call;
mod frame;
mod replies;
mod status;

pub use call::{
    Head, answer, answer_change, decode, is_grpc, method_not_allowed, parse_timeout, refuse,
    request, stream, unary,
};
pub use frame::{Messages, encode, frame, too_busy, unknown_outcome};
pub use replies::Replies;
pub use status::{Code, Status};
