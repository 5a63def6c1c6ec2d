//! What etcd keeps in a database: every version of every key by revision, leases, users and
//! roles, members, and how far it has come. [`read`] takes it out, [`write`] puts it in.

pub mod document;
pub mod message;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;

use message::{Role, User};

/// Names of the buckets.
pub(crate) mod bucket {
    pub(crate) const ALARM: &str = "alarm";
    pub(crate) const AUTH: &str = "auth";
    pub(crate) const AUTH_ROLES: &str = "authRoles";
    pub(crate) const AUTH_USERS: &str = "authUsers";
    pub(crate) const CLUSTER: &str = "cluster";
    pub(crate) const KEY: &str = "key";
    pub(crate) const LEASE: &str = "lease";
    pub(crate) const MEMBERS: &str = "members";
    pub(crate) const MEMBERS_REMOVED: &str = "members_removed";
    pub(crate) const META: &str = "meta";
}

/// Names of keys.
pub(crate) mod name {
    pub(crate) const AUTH_ENABLED: &[u8] = b"authEnabled";
    pub(crate) const AUTH_REVISION: &[u8] = b"authRevision";
    pub(crate) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
    pub(crate) const CONF_STATE: &[u8] = b"confState";
    pub(crate) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
    pub(crate) const FINISHED_COMPACTION: &[u8] = b"finishedCompactRev";
    pub(crate) const SCHEDULED_COMPACTION: &[u8] = b"scheduledCompactRev";
    pub(crate) const STORAGE_VERSION: &[u8] = b"storageVersion";
    pub(crate) const TERM: &[u8] = b"term";
}

/// The store's revision before anything was written.
pub const FIRST_REVISION: i64 = 1;

/// The place of a version in the order of all: the transaction, and the change within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionKey {
    pub main: i64,
    pub sub: i64,
    /// Whether it is a deletion.
    pub tombstone: bool,
}

impl RevisionKey {
    /// Bytes of a key without the mark of a deletion.
    pub(crate) const BYTES: usize = 17;

    /// The key of a version in the bucket: big endian, so that byte order is revision order.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES + 1);
        bytes.extend_from_slice(&self.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&self.sub.to_be_bytes());
        if self.tombstone {
            bytes.push(b't');
        }
        bytes
    }

    /// `None` for anything that is not such a key.
    pub fn decode(bytes: &[u8]) -> Option<RevisionKey> {
        let (main, rest) = bytes.split_first_chunk::<8>()?;
        let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        let tombstone = match mark {
            [] => false,
            [b't'] => true,
            _ => return None,
        };
        let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
        (main > 0 && sub >= 0).then_some(RevisionKey { main, sub, tombstone })
    }
}

/// A lease, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: i64,
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds that were left when that was noted last; 0 for "all".
    pub remaining_ttl: i64,
}

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Auth {
    pub enabled: bool,
    pub revision: u64,
    pub users: Vec<User>,
    pub roles: Vec<Role>,
}

impl Auth {
    /// Whether there is anything to keep.
    pub fn is_empty(&self) -> bool {
        !self.enabled && self.users.is_empty() && self.roles.is_empty()
    }
}

/// A member of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}
