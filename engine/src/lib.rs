//! The memory of Mainstay: write-ahead log, MVCC, leases, watch, sharding, replication.
//!
//! Everything outside [`runtime`] is plain data in, plain data out: no clock, no I/O, no threads.
//! `runtime` is the only module that knows glommio, io_uring, files, sockets and the time of day,
//! and [`Store`] is the handle by which a door asks for anything.

pub mod cluster;
pub mod durability;
pub mod durations;
pub mod effect;
pub mod error;
mod hash_index;
pub mod lease;
pub mod limits;
pub mod log;
pub mod message;
pub mod mvcc;
pub mod peer;
pub mod placement;
pub mod reconfiguration;
pub mod record;
pub mod replica;
pub mod request;
pub mod restored;
pub mod runtime;
pub mod sequencer;
pub mod shard;
pub mod shared;
mod slab;
pub mod snapshot;
pub mod watch;

pub use error::StoreError;
pub use record::{LeaseId, Record, Revision};
pub use runtime::store::{Store, Watcher};
