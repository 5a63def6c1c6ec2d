//! Watches: changes of a resource as a stream of events. `stream` is the order of what a client is
//! sent, `events` how a change looks to it.

mod events;
mod stream;

pub use stream::{WatchRequest, open};
