//! Every message that the gateway knows, as a table of its fields.
//!
//! The numbers and names are those of etcd's published API (3.6); a test holds them against the
//! prost types that the services use. [`kv`] has keys, transactions and watches, [`admin`] the rest.

pub(super) mod admin;
pub(super) mod kv;
#[cfg(test)]
mod tests;

use super::shape::{Shape, int64, message, uint64};

pub(super) static HEADER: Shape = Shape(&[
    uint64(1, "cluster_id"),
    uint64(2, "member_id"),
    int64(3, "revision"),
    uint64(4, "raft_term"),
]);

/// A request without fields.
pub(super) static EMPTY: Shape = Shape(&[]);

/// An answer that says nothing but that it was done.
pub(super) static DONE: Shape = Shape(&[message(1, "header", &HEADER)]);
