//! Watches: changes of a resource as a stream of events. `stream` is the order of what a client is
//! sent, `events` how a change looks to
//! it, `bookmarks` when it is told of the revision without one.

mod bookmarks;
mod events;
mod stream;

pub use stream::{WatchRequest, open};
