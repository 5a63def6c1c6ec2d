//! Who sees which event. A watcher is a cursor and a filter, never a queue.
//! Recent batches lie in a ring, the index finds the watchers of a change, older batches come
//! from the log.

mod cursor;
mod groups;
mod hub;
mod intervals;
mod ring;
#[cfg(test)]
mod tests;

pub use hub::{FromLog, Step, WatchHub, WatcherId};
