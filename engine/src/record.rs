//! One version of one key: immutable, shared, one allocation.

use bytes::Bytes;
use triomphe::ThinArc;

/// The store's revision: a counter over all changes. A fresh store is at revision 1, as etcd's is.
pub type Revision = i64;

/// A lease's identity; 0 means "no lease".
pub type LeaseId = i64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    create_revision: Revision,
    mod_revision: Revision,
    /// Changes since the key was created; 0 marks a tombstone, as in etcd.
    version: i64,
    lease: LeaseId,
    key_length: u32,
}

/// One version of one key, or the tombstone that ended it.
///
/// A record is immutable and reference counted across cores. Header, key and value are a single
/// allocation, so a million small keys cost a million allocations and not three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record(ThinArc<Header, u8>);

impl Record {
    /// A live version. `version` counts from 1.
    pub fn new(
        key: &[u8],
        value: &[u8],
        create_revision: Revision,
        mod_revision: Revision,
        version: i64,
        lease: LeaseId,
    ) -> Record {
        assert!(version > 0, "a live version counts from 1");
        assert!(create_revision <= mod_revision);
        Record::build(
            Header { create_revision, mod_revision, version, lease, key_length: key.len() as u32 },
            key,
            value,
        )
    }

    /// The mark that `key` was deleted at `mod_revision`.
    pub fn tombstone(key: &[u8], mod_revision: Revision) -> Record {
        Record::build(
            Header {
                create_revision: 0,
                mod_revision,
                version: 0,
                lease: 0,
                key_length: key.len() as u32,
            },
            key,
            &[],
        )
    }

    /// [`new`](Record::new) from key and value in one piece: nothing is copied twice.
    pub(crate) fn from_joined(
        joined: &[u8],
        key_length: usize,
        create_revision: Revision,
        mod_revision: Revision,
        version: i64,
        lease: LeaseId,
    ) -> Record {
        assert!(version > 0, "a live version counts from 1");
        assert!(create_revision <= mod_revision && key_length <= joined.len());
        let key_length = u32::try_from(key_length).expect("keys are shorter than 4 GiB");
        let header = Header { create_revision, mod_revision, version, lease, key_length };
        Record(ThinArc::from_header_and_slice(header, joined))
    }

    /// The key, and behind it the value.
    pub(crate) fn key_and_value(&self) -> &[u8] {
        &self.0.slice
    }

    fn build(header: Header, key: &[u8], value: &[u8]) -> Record {
        assert!(u32::try_from(key.len()).is_ok());
        let mut joined = Vec::with_capacity(key.len() + value.len());
        joined.extend_from_slice(key);
        joined.extend_from_slice(value);
        Record(ThinArc::from_header_and_slice(header, &joined))
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0.slice[..self.0.header.header.key_length as usize]
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.0.header.header.key_length as usize..]
    }

    /// The value as shared bytes that keep this record alive: nothing is copied.
    pub fn value_bytes(&self) -> Bytes {
        struct Value(Record);
        impl AsRef<[u8]> for Value {
            fn as_ref(&self) -> &[u8] {
                self.0.value()
            }
        }
        Bytes::from_owner(Value(self.clone()))
    }

    /// The revision at which the key was created, last time it was; 0 for a tombstone.
    pub fn create_revision(&self) -> Revision {
        self.0.header.header.create_revision
    }

    /// The revision of this version.
    pub fn mod_revision(&self) -> Revision {
        self.0.header.header.mod_revision
    }

    /// How often the key was written since it was created; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        self.0.header.header.version
    }

    /// The lease that this version is attached to; 0 for none.
    pub fn lease(&self) -> LeaseId {
        self.0.header.header.lease
    }

    /// Whether this is the mark of a deletion.
    pub fn is_tombstone(&self) -> bool {
        self.0.header.header.version == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        let record = Record::new(b"key", b"value", 3, 7, 2, 9);
        assert_eq!(record.key(), b"key");
        assert_eq!(record.value(), b"value");
        assert_eq!(record.value_bytes(), Bytes::from_static(b"value"));
        assert_eq!(
            (record.create_revision(), record.mod_revision(), record.version(), record.lease()),
            (3, 7, 2, 9)
        );
        assert!(!record.is_tombstone());
    }

    #[test]
    fn an_empty_value_is_not_a_tombstone() {
        assert!(!Record::new(b"k", b"", 1, 1, 1, 0).is_tombstone());
        let gone = Record::tombstone(b"k", 5);
        assert!(gone.is_tombstone());
        assert_eq!((gone.key(), gone.value(), gone.mod_revision()), (&b"k"[..], &b""[..], 5));
    }
}
