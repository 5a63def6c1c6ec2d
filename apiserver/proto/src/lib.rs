//! The messages of the etcd v3 API, as prost types.
//!
//! One module for each service, with the field numbers of etcd's published API (3.6). Keys and
//! values are [`bytes::Bytes`]: decoding shares the request's buffer instead of copying.

pub mod auth;
pub mod cluster;
pub mod election;
pub mod header;
pub mod health;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod mvcc;
pub mod watch;

pub use header::ResponseHeader;
pub use mvcc::{Event, EventType, KeyValue};
