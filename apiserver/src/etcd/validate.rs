//! What is checked before a request reaches the store, in etcd's order and with etcd's errors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use mainstay_proto::kv::{
    DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, SortOrder, SortTarget,
    TxnRequest,
};

use super::errors::{self, EtcdError};

pub(super) fn range(request: &RangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(errors::EMPTY_KEY);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(errors::INVALID_SORT_OPTION);
    }
    Ok(())
}

/// As [`range`]; a stream has neither an order of its own nor filters.
pub(super) fn range_stream(request: &RangeRequest) -> Result<(), EtcdError> {
    range(request)?;
    let by_key = request.sort_target() == SortTarget::Key;
    if !by_key || request.sort_order() == SortOrder::Descend {
        return Err(errors::STREAM_SORTED);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return Err(errors::STREAM_FILTERED);
    }
    Ok(())
}

pub(super) fn put(request: &PutRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(errors::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(errors::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(errors::LEASE_PROVIDED);
    }
    Ok(())
}

pub(super) fn delete_range(request: &DeleteRangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() { Err(errors::EMPTY_KEY) } else { Ok(()) }
}

/// A whole write request, by its size as received.
pub(super) fn size(bytes: usize, limit: usize) -> Result<(), EtcdError> {
    if bytes > limit { Err(errors::REQUEST_TOO_LARGE) } else { Ok(()) }
}

/// `allowed` is how many operations a branch may have, nested ones included.
pub(super) fn transaction(request: &TxnRequest, allowed: usize) -> Result<(), EtcdError> {
    operations(request, allowed)?;
    intervals(&request.success)?;
    intervals(&request.failure)?;
    Ok(())
}

/// Counts and checks operations. A nested transaction may have as many as its parent left over,
/// which also bounds the depth.
fn operations(request: &TxnRequest, allowed: usize) -> Result<(), EtcdError> {
    let widest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = allowed.checked_sub(widest).ok_or(errors::TOO_MANY_OPERATIONS)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(errors::EMPTY_KEY);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::Range(request)) => range(request)?,
            Some(Request::Put(request)) => put(request)?,
            Some(Request::DeleteRange(request)) => delete_range(request)?,
            Some(Request::Txn(request)) => operations(request, left)?,
            None => return Err(errors::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// What the operations of one branch, nested ones included, put and delete.
#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Intervals,
}

/// No key may be put twice in one transaction, nor put and deleted.
///
/// The branches of a nested transaction exclude each other: both may put the same key.
fn intervals(operations: &[RequestOp]) -> Result<Touched<'_>, EtcdError> {
    let mut touched = Touched::default();
    for operation in operations {
        if let Some(Request::DeleteRange(request)) = &operation.request {
            touched.deletes.insert(&request.key, &request.range_end);
        }
    }
    for operation in operations {
        let Some(Request::Txn(request)) = &operation.request else { continue };
        let success = intervals(&request.success)?;
        let failure = intervals(&request.failure)?;
        for key in success.puts.union(&failure.puts) {
            if touched.puts.contains(*key) || touched.deletes.contains(key) {
                return Err(errors::DUPLICATE_KEY);
            }
        }
        // etcd lets a later nested transaction delete what an earlier one put; the store does not
        // take a key that is put and then deleted at one revision.
        if success.deletes.hit(&touched.puts) || failure.deletes.hit(&touched.puts) {
            return Err(errors::DUPLICATE_KEY);
        }
        touched.puts.extend(success.puts);
        touched.puts.extend(failure.puts);
        touched.deletes.extend(success.deletes);
        touched.deletes.extend(failure.deletes);
    }
    for operation in operations {
        let Some(Request::Put(request)) = &operation.request else { continue };
        if touched.deletes.contains(&request.key) || !touched.puts.insert(&request.key) {
            return Err(errors::DUPLICATE_KEY);
        }
    }
    Ok(touched)
}

/// A set of keys as disjoint half-open intervals, so that many deletes against many puts stay
/// cheap. `None` is the end of all keys.
#[derive(Default)]
struct Intervals(BTreeMap<Bytes, Option<Bytes>>);

impl Intervals {
    /// `range_end` as in a request.
    fn insert(&mut self, key: &Bytes, range_end: &Bytes) {
        let end = match &range_end[..] {
            [] => Some(Bytes::from([key, &[0][..]].concat())),
            [0] => None,
            _ if range_end <= key => return,
            _ => Some(range_end.clone()),
        };
        self.add(key.clone(), end);
    }

    fn extend(&mut self, other: Intervals) {
        for (start, end) in other.0 {
            self.add(start, end);
        }
    }

    fn add(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        // Swallow what begins at or before the new end and reaches the new start.
        while let Some((first, last)) = self.last_before(end.as_ref()) {
            if !reaches(last, &start) {
                break;
            }
            let (first, last) = (first.clone(), last.clone());
            self.0.remove(&first);
            start = start.min(first);
            end = end.zip(last).map(|(left, right)| left.max(right));
        }
        self.0.insert(start, end);
    }

    fn last_before(&self, end: Option<&Bytes>) -> Option<(&Bytes, &Option<Bytes>)> {
        match end {
            Some(end) => self.0.range(..=end.clone()).next_back(),
            None => self.0.iter().next_back(),
        }
    }

    /// Whether one of `keys` is in the set.
    fn hit(&self, keys: &BTreeSet<&Bytes>) -> bool {
        self.0.iter().any(|(start, end)| {
            let end = end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            keys.range::<&Bytes, _>((Bound::Included(start), end)).next().is_some()
        })
    }

    fn contains(&self, key: &Bytes) -> bool {
        let candidate = self.0.range(..=key.clone()).next_back();
        candidate.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end))
    }
}

/// Whether an interval that ends at `end` touches or overlaps one that starts at `start`.
fn reaches(end: &Option<Bytes>, start: &Bytes) -> bool {
    end.as_ref().is_none_or(|end| end >= start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_proto::kv::Compare;
    use proptest::prelude::*;

    fn put_of(key: &'static str) -> RequestOp {
        let key = Bytes::from_static(key.as_bytes());
        RequestOp { request: Some(Request::Put(PutRequest { key, ..PutRequest::default() })) }
    }

    fn delete_of(key: &'static str, end: &'static str) -> RequestOp {
        let (key, range_end) = (Bytes::from(key), Bytes::from(end));
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        RequestOp { request: Some(Request::DeleteRange(request)) }
    }

    fn range_of(key: &'static str) -> RequestOp {
        let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
        RequestOp { request: Some(Request::Range(request)) }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        let request = TxnRequest { compare: Vec::new(), success, failure };
        RequestOp { request: Some(Request::Txn(request)) }
    }

    fn check(success: Vec<RequestOp>) -> Result<(), EtcdError> {
        transaction(&TxnRequest { compare: Vec::new(), success, failure: Vec::new() }, 128)
    }

    #[test]
    fn ranges() {
        let good = RangeRequest { key: "k".into(), ..RangeRequest::default() };
        for (request, expected) in [
            (good.clone(), Ok(())),
            (RangeRequest::default(), Err(errors::EMPTY_KEY)),
            (RangeRequest { sort_target: 99, ..good.clone() }, Err(errors::INVALID_SORT_OPTION)),
            (RangeRequest { sort_order: -1, ..good.clone() }, Err(errors::INVALID_SORT_OPTION)),
            (RangeRequest { sort_order: 2, sort_target: 4, ..good }, Ok(())),
        ] {
            assert_eq!(range(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn puts() {
        let good = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        for (request, expected) in [
            (good.clone(), Ok(())),
            (PutRequest::default(), Err(errors::EMPTY_KEY)),
            (PutRequest { ignore_value: true, ..good.clone() }, Err(errors::VALUE_PROVIDED)),
            (PutRequest { ignore_value: true, value: Bytes::new(), ..good.clone() }, Ok(())),
            (
                PutRequest { ignore_lease: true, lease: 1, ..good.clone() },
                Err(errors::LEASE_PROVIDED),
            ),
            (PutRequest { ignore_lease: true, ..good }, Ok(())),
        ] {
            assert_eq!(put(&request), expected, "{request:?}");
        }
        assert_eq!(size(7, 7), Ok(()));
        assert_eq!(size(8, 7), Err(errors::REQUEST_TOO_LARGE));
        assert_eq!(delete_range(&DeleteRangeRequest::default()), Err(errors::EMPTY_KEY));
    }

    #[test]
    fn transactions() {
        for (operations, expected) in [
            (vec![], Ok(())),
            (vec![put_of("a"), put_of("b"), range_of("a")], Ok(())),
            (vec![put_of("a"), put_of("a")], Err(errors::DUPLICATE_KEY)),
            (vec![put_of("x"), delete_of("x", "")], Err(errors::DUPLICATE_KEY)),
            (vec![delete_of("a", "c"), put_of("b")], Err(errors::DUPLICATE_KEY)),
            (vec![delete_of("a", "c"), put_of("c")], Ok(())),
            (vec![delete_of("b", "\0"), put_of("a")], Ok(())),
            (vec![delete_of("b", "\0"), put_of("z")], Err(errors::DUPLICATE_KEY)),
            (vec![delete_of("a", "z"), delete_of("b", "")], Ok(())),
            (vec![put_of("x"), nested(vec![put_of("x")], vec![])], Err(errors::DUPLICATE_KEY)),
            (vec![nested(vec![put_of("x")], vec![put_of("x")])], Ok(())),
            (
                vec![nested(vec![put_of("x")], vec![]), nested(vec![], vec![put_of("x")])],
                Err(errors::DUPLICATE_KEY),
            ),
            (
                vec![nested(vec![delete_of("w", "y")], vec![]), put_of("x")],
                Err(errors::DUPLICATE_KEY),
            ),
            (
                vec![nested(vec![put_of("x")], vec![]), nested(vec![], vec![delete_of("x", "")])],
                Err(errors::DUPLICATE_KEY),
            ),
            (
                vec![nested(vec![put_of("x")], vec![]), nested(vec![], vec![delete_of("y", "\0")])],
                Ok(()),
            ),
            (vec![put_of("")], Err(errors::EMPTY_KEY)),
            (vec![range_of("")], Err(errors::EMPTY_KEY)),
            (vec![delete_of("", "")], Err(errors::EMPTY_KEY)),
            (vec![RequestOp { request: None }], Err(errors::KEY_NOT_FOUND)),
        ] {
            assert_eq!(check(operations.clone()), expected, "{operations:?}");
            let request = TxnRequest { failure: operations.clone(), ..TxnRequest::default() };
            assert_eq!(transaction(&request, 128), expected, "as failure: {operations:?}");
        }
        let request = TxnRequest { compare: vec![Compare::default()], ..TxnRequest::default() };
        assert_eq!(transaction(&request, 128), Err(errors::EMPTY_KEY));
    }

    #[test]
    fn operations_are_counted_over_all_levels() {
        let many = |count| vec![range_of("a"); count];
        for (operations, expected) in [
            (many(128), Ok(())),
            (many(129), Err(errors::TOO_MANY_OPERATIONS)),
            (vec![nested(many(127), vec![])], Ok(())),
            (vec![nested(many(128), vec![])], Err(errors::TOO_MANY_OPERATIONS)),
        ] {
            assert_eq!(check(operations), expected);
        }
        let mut deep = range_of("a");
        for _ in 0..128 {
            deep = nested(vec![deep], vec![]);
        }
        assert_eq!(check(vec![deep]), Err(errors::TOO_MANY_OPERATIONS));
    }

    proptest! {
        #[test]
        fn intervals_hold_what_was_inserted(
            inserts in prop::collection::vec((0u8..20, 0u8..20), 0..12),
        ) {
            let mut set = Intervals::default();
            let mut model = [false; 20];
            for (start, end) in inserts {
                set.insert(&Bytes::from(vec![b'a', start]), &Bytes::from(vec![b'a', end]));
                for key in start..end.max(start) {
                    model[usize::from(key)] = true;
                }
            }
            for key in 0..20u8 {
                let found = set.contains(&Bytes::from(vec![b'a', key]));
                prop_assert_eq!(found, model[usize::from(key)], "key {}", key);
            }
            let parts: Vec<_> = set.0.iter().collect();
            for pair in parts.windows(2) {
                prop_assert!(pair[0].1.as_ref().is_some_and(|end| end < pair[1].0));
            }
        }
    }
}
