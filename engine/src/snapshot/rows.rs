//! What blocks hold, as rkyv archives: read in place, checked before anything is believed.

use bytes::Bytes;
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use crate::mvcc::Settled;
use crate::record::{LeaseId, Record};

/// A door's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub name: Bytes,
    pub content: Bytes,
}

/// A lease as a snapshot keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize)]
pub struct LeaseRow {
    pub id: LeaseId,
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds that were left at the last checkpoint.
    pub remaining: i64,
}

#[derive(Archive, Serialize)]
pub(super) struct RecordRow<'a> {
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    /// 0 for a tombstone.
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) previous: i64,
    pub(super) key_length: u32,
    /// The key, and behind it the value: as a record has them.
    #[rkyv(with = InlineAsBox)]
    pub(super) joined: &'a [u8],
}

#[derive(Archive, Serialize)]
pub(super) struct DocumentRow<'a> {
    #[rkyv(with = InlineAsBox)]
    pub(super) name: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub(super) content: &'a [u8],
}

/// A block's entry in the directory.
#[derive(Archive, Serialize)]
pub(super) struct DirectoryRow<'a> {
    pub(super) offset: u64,
    pub(super) payload_length: u32,
    /// The block header's checksum.
    pub(super) crc: u32,
    pub(super) kind: u32,
    pub(super) run: u32,
    /// Rows in the block.
    pub(super) rows: u32,
    /// Of a block of records; empty for others.
    #[rkyv(with = InlineAsBox)]
    pub(super) first_key: &'a [u8],
}

#[derive(Archive, Serialize)]
pub(super) struct RecordRows<'a> {
    pub(super) rows: Vec<RecordRow<'a>>,
}

#[derive(Archive, Serialize)]
pub(super) struct LeaseRows {
    pub(super) rows: Vec<LeaseRow>,
}

#[derive(Archive, Serialize)]
pub(super) struct DocumentRows<'a> {
    pub(super) rows: Vec<DocumentRow<'a>>,
}

#[derive(Archive, Serialize)]
pub(super) struct DirectoryRows<'a> {
    pub(super) rows: Vec<DirectoryRow<'a>>,
}

impl<'a> RecordRow<'a> {
    pub(super) fn of(entry: &'a Settled) -> RecordRow<'a> {
        let record = &entry.record;
        RecordRow {
            create_revision: record.create_revision(),
            mod_revision: record.mod_revision(),
            version: record.version(),
            lease: record.lease(),
            previous: entry.previous,
            key_length: record.key().len() as u32,
            joined: record.key_and_value(),
        }
    }
}

impl ArchivedRecordRow<'_> {
    /// The key, if the row's lengths fit together.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.joined.get().get(..self.key_length.to_native() as usize)
    }

    /// The entry, if it is one that could have been written.
    pub(super) fn entry(&self) -> Option<Settled> {
        let key_length = self.key_length.to_native() as usize;
        let (create, modified) = (self.create_revision.to_native(), self.mod_revision.to_native());
        let (version, lease) = (self.version.to_native(), self.lease.to_native());
        let previous = self.previous.to_native();
        let sound = modified > 0 && (0..modified).contains(&previous);
        if !sound || key_length > self.joined.len() {
            return None;
        }
        let record = match version {
            0 if create == 0 && lease == 0 && key_length == self.joined.len() => {
                Record::tombstone(&self.joined, modified)
            }
            1.. if (1..=modified).contains(&create) => {
                Record::from_joined(&self.joined, key_length, create, modified, version, lease)
            }
            _ => return None,
        };
        Some(Settled { record, previous })
    }
}

/// Writes rows in the layout that [`access`] reads.
pub(super) fn archive<T>(rows: &T) -> AlignedVec
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, Error>,
    >,
{
    rkyv::to_bytes::<Error>(rows).expect("memory is all that writing rows needs")
}

/// Reads rows in place. The bytes must begin at a multiple of
/// [`ALIGNMENT`](super::format::ALIGNMENT); `None` when they are not such rows.
pub(super) fn access<T>(payload: &[u8]) -> Option<&T>
where
    T: rkyv::Portable
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, Error>>,
{
    rkyv::access::<T, Error>(payload).ok()
}
