//! Messages that etcd keeps and no client ever sees (packages `authpb` and `leasepb`).

use bytes::Bytes;
use mainstay_proto::auth::{Permission, UserAddOptions};
use prost::Message;

/// A user, with the hash (bcrypt) of its password.
#[derive(Clone, PartialEq, Message)]
pub struct User {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub password: Bytes,
    #[prost(string, repeated, tag = "3")]
    pub roles: Vec<String>,
    #[prost(message, optional, tag = "4")]
    pub options: Option<UserAddOptions>,
}

/// A role, with what it permits.
#[derive(Clone, PartialEq, Message)]
pub struct Role {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub permissions: Vec<Permission>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredLease {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
    #[prost(int64, tag = "3")]
    pub(crate) remaining_ttl: i64,
}
