//! Load generation and side-by-side measurement of etcd v3 servers.
//!
//! Everything here speaks public protocols only (gRPC over HTTP/2, and what Linux tells about a
//! process in `/proc`), so the same measurement works on any server that speaks etcd v3.

pub mod catchup;
pub mod cli;
pub mod compare;
pub mod data;
pub mod failover;
pub mod interrupt;
pub mod limits;
pub mod load;
pub mod proc;
pub mod result;
pub mod sys;
