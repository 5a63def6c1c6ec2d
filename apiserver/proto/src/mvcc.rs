//! What the store holds and what watchers see (package `mvccpb`).

use bytes::Bytes;
use prost::{Enumeration, Message};

/// One version of one key.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// When the key was created, last time it was.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// When this version was written.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// How often the key was written since it was created; 1 for a new key.
    #[prost(int64, tag = "4")]
    pub version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// The lease that the key is attached to; 0 for none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum EventType {
    Put = 0,
    Delete = 1,
}

/// One change of one key.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(enumeration = "EventType", tag = "1")]
    pub kind: i32,
    /// For a deletion: the key and the revision of the deletion alone.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
    /// The version before, when the watcher asked for it.
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<KeyValue>,
}
