//! What can be asked of the store, and what it answers: plain data, no protocol.

use bytes::Bytes;

use crate::error::StoreError;
use crate::record::{LeaseId, Record, Revision};

/// A set of keys: one, an interval, or everything from a key on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// Exactly this key.
    Single(Bytes),
    /// `start <= key < end`; empty when `start >= end`.
    Interval { start: Bytes, end: Bytes },
    /// Every key `>= start`.
    From(Bytes),
}

impl KeyRange {
    /// All keys that begin with `prefix` (all keys at all for an empty one).
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let start = Bytes::copy_from_slice(prefix);
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return KeyRange::Interval { start, end: Bytes::from(end) };
            }
        }
        KeyRange::From(start)
    }

    /// Whether `key` is in the set.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Single(single) => single == key,
            KeyRange::Interval { start, end } => start <= key && key < &end[..],
            KeyRange::From(start) => start <= key,
        }
    }

    /// The smallest key that the set could hold.
    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::Single(start) | KeyRange::Interval { start, .. } | KeyRange::From(start) => {
                start
            }
        }
    }

    /// Whether two sets share a possible key.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.ends_before(other.start()) && !other.ends_before(self.start())
    }

    /// Whether every key of the set is smaller than `key`.
    fn ends_before(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Single(single) => &single[..] < key,
            KeyRange::Interval { start, end } => start >= end || &end[..] <= key,
            KeyRange::From(_) => false,
        }
    }
}

/// The order of a range's answer. etcd sorts first and applies the limit then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortTarget {
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// A read of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// Read as of this revision; 0 (or less) for the newest committed one.
    pub revision: Revision,
    /// At most so many records; 0 for all.
    pub limit: usize,
    /// `None`: by key, ascending.
    pub sort: Option<(SortTarget, SortDirection)>,
    /// Leave values out of the answer. (The records keep theirs: the door must not send them.)
    pub keys_only: bool,
    /// Answer with the count alone.
    pub count_only: bool,
    /// Revision filters, inclusive; 0 for none. They do not change `count`.
    pub min_mod_revision: Revision,
    pub max_mod_revision: Revision,
    pub min_create_revision: Revision,
    pub max_create_revision: Revision,
    /// The reader accepts a state that may be stale (matters in a cluster only).
    pub serializable: bool,
}

impl RangeRequest {
    /// The newest state of `range`, everything in it, by key.
    pub fn new(range: KeyRange) -> RangeRequest {
        RangeRequest {
            range,
            revision: 0,
            limit: 0,
            sort: None,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            serializable: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortDirection {
    Ascend,
    Descend,
    /// Ascending, but of a limited answer no more is sorted than its records and one: which those
    /// are, the keys decide. What etcd makes of a target without an order.
    AscendWithinLimit,
}

/// The answer to a [`RangeRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResponse {
    /// The store's revision when it was read (etcd's `header.revision`).
    pub revision: Revision,
    pub records: Vec<Record>,
    /// Keys were left out because of the limit.
    pub more: bool,
    /// How many keys the range holds at the revision read, untouched by limit and filters.
    pub count: usize,
}

/// Writes one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    /// Attach to this lease; 0 for none.
    pub lease: LeaseId,
    /// Answer with the version that was there before.
    pub previous: bool,
    /// Keep the value that is there (error when there is none).
    pub ignore_value: bool,
    /// Keep the lease that is there (error when the key does not exist).
    pub ignore_lease: bool,
}

/// Deletes all keys of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRange {
    pub range: KeyRange,
    /// Answer with the versions that were deleted.
    pub previous: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What a compare looks at, and the value to hold against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// A condition on every existing key of `range`.
///
/// As in etcd: a single key that does not exist compares as version, revisions and lease 0, and
/// fails every comparison of its value; a range without keys compares as one such key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub range: KeyRange,
    pub comparison: Comparison,
    pub target: CompareTarget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Range(RangeRequest),
    Put(Put),
    DeleteRange(DeleteRange),
    Transaction(Transaction),
    /// A range at an older revision that has been read already, as nothing can change it. The
    /// store makes these of the ranges in a request; doors have no use for them.
    Past(Past),
}

/// What a range at an older revision gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The one that was asked for.
    pub revision: Revision,
    /// The answer's `revision` is that of the transaction, in the end.
    pub outcome: Result<RangeResponse, StoreError>,
}

/// If all compares hold then `success` else `failure`, at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    pub compares: Vec<Compare>,
    pub success: Vec<Operation>,
    pub failure: Vec<Operation>,
}

impl Transaction {
    /// A transaction of one unconditional operation.
    pub fn of(operation: Operation) -> Transaction {
        Transaction { compares: Vec::new(), success: vec![operation], failure: Vec::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResponse {
    Range(RangeResponse),
    Put { previous: Option<Record> },
    DeleteRange { deleted: usize, previous: Vec<Record> },
    Transaction(TransactionResponse),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransactionResponse {
    pub succeeded: bool,
    /// One for each operation of the branch taken.
    pub responses: Vec<OperationResponse>,
    /// The store's revision after the transaction: its own when it changed something.
    pub revision: Revision,
}

/// Who wants to see which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// The first revision to deliver; 0 (or less) for everything after now.
    pub start_revision: Revision,
    /// Deliver the version that was there before, too.
    pub previous: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

/// One change of one key, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The new version; a tombstone for a deletion.
    pub record: Record,
    /// The version before, when there was one and the watcher asked for it and it is not compacted.
    pub previous: Option<Record>,
}

/// Events in revision order. Events of one revision are never split over two batches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchBatch {
    /// Everything up to this revision that the watcher asked for has now been delivered.
    pub revision: Revision,
    /// May be empty when many revisions passed that the watcher did not ask for.
    pub events: Vec<Event>,
}

/// One number for everything that lived at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// Over keys, values, revisions, versions and leases; the same for any number of cores.
    pub hash: u64,
    /// The revision that was hashed.
    pub revision: Revision,
    /// The revision up to which history was compacted; 0 when it never was.
    pub compacted_revision: Revision,
    /// The store's revision when it began.
    pub current_revision: Revision,
}

/// What the live keys under one prefix take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixUsage {
    pub prefix: Vec<u8>,
    pub keys: u64,
    /// Of keys and values.
    pub bytes: u64,
}

/// A lease as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    pub id: LeaseId,
    /// Seconds granted.
    pub granted_ttl: i64,
    /// Seconds left.
    pub remaining_ttl: i64,
    /// Attached keys in order, when asked for.
    pub keys: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::Interval { start: start.into(), end: end.into() }
    }

    #[test]
    fn prefixes() {
        assert_eq!(KeyRange::prefix(b"ab"), interval("ab", "ac"));
        assert_eq!(
            KeyRange::prefix(b"a\xff"),
            KeyRange::Interval { start: Bytes::from_static(b"a\xff"), end: "b".into() }
        );
        assert_eq!(KeyRange::prefix(b"\xff"), KeyRange::From(Bytes::from_static(b"\xff")));
        assert_eq!(KeyRange::prefix(b""), KeyRange::From(Bytes::new()));
    }

    #[test]
    fn overlaps() {
        let single = |key: &'static str| KeyRange::Single(key.into());
        let from = |key: &'static str| KeyRange::From(key.into());
        for (left, right, expected) in [
            (single("a"), single("a"), true),
            (single("a"), single("b"), false),
            (interval("a", "c"), single("b"), true),
            (interval("a", "c"), single("c"), false),
            (interval("a", "c"), interval("c", "d"), false),
            (interval("a", "c"), interval("b", "d"), true),
            (interval("c", "a"), interval("a", "z"), false),
            (from("b"), single("a"), false),
            (from("b"), interval("a", "b"), false),
            (from("b"), interval("a", "c"), true),
            (from("b"), from("z"), true),
        ] {
            assert_eq!(left.overlaps(&right), expected, "{left:?} {right:?}");
            assert_eq!(right.overlaps(&left), expected, "{right:?} {left:?}");
        }
    }
}
