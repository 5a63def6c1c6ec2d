//! etcd's messages to the store's requests, and the store's answers to etcd's messages.

use bytes::Bytes;
use mainstay_engine::Record;
use mainstay_engine::request::{
    self as store, Comparison, KeyRange, Operation, OperationResponse, Transaction,
    TransactionResponse,
};
use mainstay_proto::kv::{
    self, Compare, CompareResult, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Request, RequestOp, Response, ResponseOp, TargetUnion, TxnRequest,
    TxnResponse,
};
use mainstay_proto::{Event, EventType, KeyValue, ResponseHeader};

use super::errors::{self, EtcdError};

/// A key and a range end as a set of keys: no end is one key, a zero byte everything from it on.
pub(super) fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    match &range_end[..] {
        [] => KeyRange::Single(key),
        [0] => KeyRange::From(key),
        _ => KeyRange::Interval { start: key, end: range_end },
    }
}

/// A request that passed [`validate::range`](super::validate::range).
pub(super) fn range(request: RangeRequest) -> store::RangeRequest {
    let sort = sort(request.sort_order(), request.sort_target());
    store::RangeRequest {
        range: key_range(request.key, request.range_end),
        revision: request.revision,
        limit: usize::try_from(request.limit).unwrap_or(0),
        sort,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
        serializable: request.serializable,
    }
}

/// A target without an order sorts ascending, and a limit counts first as in etcd; ascending by key
/// is how records come anyway.
fn sort(
    order: kv::SortOrder,
    target: kv::SortTarget,
) -> Option<(store::SortTarget, store::SortDirection)> {
    let target = match target {
        kv::SortTarget::Key if order != kv::SortOrder::Descend => return None,
        kv::SortTarget::Key => store::SortTarget::Key,
        kv::SortTarget::Version => store::SortTarget::Version,
        kv::SortTarget::Create => store::SortTarget::Create,
        kv::SortTarget::Mod => store::SortTarget::Mod,
        kv::SortTarget::Value => store::SortTarget::Value,
    };
    let direction = match order {
        kv::SortOrder::Descend => store::SortDirection::Descend,
        kv::SortOrder::None => store::SortDirection::AscendWithinLimit,
        kv::SortOrder::Ascend => store::SortDirection::Ascend,
    };
    Some((target, direction))
}

pub(super) fn put(request: PutRequest) -> store::Put {
    store::Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        previous: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(super) fn delete_range(request: DeleteRangeRequest) -> store::DeleteRange {
    store::DeleteRange {
        range: key_range(request.key, request.range_end),
        previous: request.prev_kv,
    }
}

/// A transaction that passed [`validate::transaction`](super::validate::transaction).
pub(super) fn transaction(request: TxnRequest) -> Result<Transaction, EtcdError> {
    let operations = |operations: Vec<RequestOp>| {
        operations.into_iter().map(operation).collect::<Result<Vec<_>, _>>()
    };
    Ok(Transaction {
        compares: request.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: operations(request.success)?,
        failure: operations(request.failure)?,
    })
}

fn operation(operation: RequestOp) -> Result<Operation, EtcdError> {
    Ok(match operation.request {
        Some(Request::Range(request)) => Operation::Range(range(request)),
        Some(Request::Put(request)) => Operation::Put(put(request)),
        Some(Request::DeleteRange(request)) => Operation::DeleteRange(delete_range(request)),
        Some(Request::Txn(request)) => Operation::Transaction(transaction(request)?),
        None => return Err(errors::KEY_NOT_FOUND),
    })
}

/// A target value of another kind than the target counts as zero or empty, as in etcd.
fn compare(compare: Compare) -> Result<store::Compare, EtcdError> {
    let comparison = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => Comparison::Equal,
        Ok(CompareResult::Greater) => Comparison::Greater,
        Ok(CompareResult::Less) => Comparison::Less,
        Ok(CompareResult::NotEqual) => Comparison::NotEqual,
        Err(_) => return Err(errors::INVALID_COMPARE),
    };
    let value = compare.target_union;
    let number = |pick: fn(&TargetUnion) -> Option<i64>| value.as_ref().and_then(pick).unwrap_or(0);
    let target = match kv::CompareTarget::try_from(compare.target) {
        Ok(kv::CompareTarget::Version) => store::CompareTarget::Version(number(|value| {
            if let TargetUnion::Version(version) = value { Some(*version) } else { None }
        })),
        Ok(kv::CompareTarget::Create) => store::CompareTarget::Create(number(|value| {
            if let TargetUnion::CreateRevision(revision) = value { Some(*revision) } else { None }
        })),
        Ok(kv::CompareTarget::Mod) => store::CompareTarget::Mod(number(|value| {
            if let TargetUnion::ModRevision(revision) = value { Some(*revision) } else { None }
        })),
        Ok(kv::CompareTarget::Lease) => store::CompareTarget::Lease(number(|value| {
            if let TargetUnion::Lease(lease) = value { Some(*lease) } else { None }
        })),
        Ok(kv::CompareTarget::Value) => store::CompareTarget::Value(match value {
            Some(TargetUnion::Value(value)) => value,
            _ => Bytes::new(),
        }),
        Err(_) => return Err(errors::INVALID_COMPARE),
    };
    Ok(store::Compare { range: key_range(compare.key, compare.range_end), comparison, target })
}

/// One version as a client sees it.
pub(super) fn key_value(record: &Record, keys_only: bool) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(record.key()),
        create_revision: record.create_revision(),
        mod_revision: record.mod_revision(),
        version: record.version(),
        value: if keys_only { Bytes::new() } else { record.value_bytes() },
        lease: record.lease(),
    }
}

pub(super) fn range_response(
    header: ResponseHeader,
    response: &store::RangeResponse,
    keys_only: bool,
) -> RangeResponse {
    RangeResponse {
        header: Some(header),
        kvs: response.records.iter().map(|record| key_value(record, keys_only)).collect(),
        more: response.more,
        count: response.count as i64,
    }
}

/// Which ranges of a transaction asked for keys alone: the store's answer has whole records.
///
/// As deep as the transaction, and only made when there is such a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeysOnly {
    No,
    Yes,
    Nested { success: Vec<KeysOnly>, failure: Vec<KeysOnly> },
}

impl KeysOnly {
    /// `None` when no range anywhere in the transaction asked for keys alone.
    pub(super) fn of(transaction: &Transaction) -> Option<KeysOnly> {
        has_keys_only(transaction).then(|| mask(transaction))
    }

    fn branch(&self, succeeded: bool) -> &[KeysOnly] {
        match self {
            KeysOnly::Nested { success, .. } if succeeded => success,
            KeysOnly::Nested { failure, .. } => failure,
            KeysOnly::No | KeysOnly::Yes => &[],
        }
    }
}

fn has_keys_only(transaction: &Transaction) -> bool {
    transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
        Operation::Range(range) => range.keys_only,
        Operation::Transaction(nested) => has_keys_only(nested),
        Operation::Put(_) | Operation::DeleteRange(_) | Operation::Past(_) => false,
    })
}

fn mask(transaction: &Transaction) -> KeysOnly {
    let branch = |operations: &[Operation]| {
        let one = |operation: &Operation| match operation {
            Operation::Range(range) if range.keys_only => KeysOnly::Yes,
            Operation::Transaction(nested) => mask(nested),
            _ => KeysOnly::No,
        };
        operations.iter().map(one).collect()
    };
    KeysOnly::Nested {
        success: branch(&transaction.success),
        failure: branch(&transaction.failure),
    }
}

/// The answer to a transaction. The answers inside carry a header with a revision alone, as
/// etcd's do.
pub(super) fn transaction_response(
    header: ResponseHeader,
    response: TransactionResponse,
    keys_only: Option<&KeysOnly>,
) -> TxnResponse {
    let revision = response.revision;
    let branch = keys_only.map_or(&[][..], |mask| mask.branch(response.succeeded));
    let responses = response.responses.into_iter().enumerate().map(|(position, response)| {
        ResponseOp { response: Some(operation_response(revision, response, branch.get(position))) }
    });
    TxnResponse {
        header: Some(header),
        succeeded: response.succeeded,
        responses: responses.collect(),
    }
}

fn operation_response(
    revision: i64,
    response: OperationResponse,
    keys_only: Option<&KeysOnly>,
) -> Response {
    let at = |revision| ResponseHeader { revision, ..ResponseHeader::default() };
    match response {
        OperationResponse::Range(response) => Response::Range(range_response(
            at(response.revision),
            &response,
            keys_only == Some(&KeysOnly::Yes),
        )),
        OperationResponse::Put { previous } => Response::Put(PutResponse {
            header: Some(at(revision)),
            prev_kv: previous.map(|record| key_value(&record, false)),
        }),
        OperationResponse::DeleteRange { deleted, previous } => {
            Response::DeleteRange(delete_range_response(at(revision), deleted, &previous))
        }
        OperationResponse::Transaction(response) => {
            // etcd gives a nested answer an empty header.
            Response::Txn(transaction_response(ResponseHeader::default(), response, keys_only))
        }
    }
}

pub(super) fn delete_range_response(
    header: ResponseHeader,
    deleted: usize,
    previous: &[Record],
) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header: Some(header),
        deleted: deleted as i64,
        prev_kvs: previous.iter().map(|record| key_value(record, false)).collect(),
    }
}

/// One event of a watch. A deletion shows the key and the revision alone.
pub(super) fn event(event: &store::Event) -> Event {
    let record = &event.record;
    let kind = if record.is_tombstone() { EventType::Delete } else { EventType::Put };
    Event {
        kind: kind.into(),
        kv: Some(key_value(record, false)),
        prev_kv: event.previous.as_ref().map(|record| key_value(record, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ranges() {
        for (key, end, expected) in [
            ("a", "", KeyRange::Single("a".into())),
            ("a", "\0", KeyRange::From("a".into())),
            ("\0", "\0", KeyRange::From("\0".into())),
            ("a", "b", KeyRange::Interval { start: "a".into(), end: "b".into() }),
            ("b", "a", KeyRange::Interval { start: "b".into(), end: "a".into() }),
        ] {
            assert_eq!(key_range(key.into(), end.into()), expected);
        }
    }

    #[test]
    fn sorting() {
        use store::{SortDirection, SortTarget};
        for (order, target, expected) in [
            (kv::SortOrder::None, kv::SortTarget::Key, None),
            (kv::SortOrder::Ascend, kv::SortTarget::Key, None),
            (
                kv::SortOrder::Descend,
                kv::SortTarget::Key,
                Some((SortTarget::Key, SortDirection::Descend)),
            ),
            (
                kv::SortOrder::None,
                kv::SortTarget::Mod,
                Some((SortTarget::Mod, SortDirection::AscendWithinLimit)),
            ),
            (
                kv::SortOrder::Ascend,
                kv::SortTarget::Mod,
                Some((SortTarget::Mod, SortDirection::Ascend)),
            ),
            (
                kv::SortOrder::Descend,
                kv::SortTarget::Value,
                Some((SortTarget::Value, SortDirection::Descend)),
            ),
        ] {
            assert_eq!(sort(order, target), expected, "{order:?} {target:?}");
        }
    }

    #[test]
    fn negative_limits_are_none() {
        for (limit, expected) in [(0, 0), (5, 5), (-3, 0)] {
            let request = RangeRequest { key: "k".into(), limit, ..RangeRequest::default() };
            assert_eq!(range(request).limit, expected);
        }
    }

    #[test]
    fn compares() {
        let target = |target: i32, value: Option<TargetUnion>| {
            let request = Compare { target, target_union: value, ..Compare::default() };
            compare(request).map(|compare| compare.target)
        };
        for (number, value, expected) in [
            (0, Some(TargetUnion::Version(3)), Ok(store::CompareTarget::Version(3))),
            (1, Some(TargetUnion::CreateRevision(3)), Ok(store::CompareTarget::Create(3))),
            (2, Some(TargetUnion::ModRevision(3)), Ok(store::CompareTarget::Mod(3))),
            (3, Some(TargetUnion::Value("v".into())), Ok(store::CompareTarget::Value("v".into()))),
            (4, Some(TargetUnion::Lease(3)), Ok(store::CompareTarget::Lease(3))),
            (2, None, Ok(store::CompareTarget::Mod(0))),
            (2, Some(TargetUnion::Version(3)), Ok(store::CompareTarget::Mod(0))),
            (3, Some(TargetUnion::Version(3)), Ok(store::CompareTarget::Value(Bytes::new()))),
            (9, None, Err(errors::INVALID_COMPARE)),
        ] {
            assert_eq!(target(number, value), expected, "target {number}");
        }
        for (result, expected) in [
            (0, Ok(Comparison::Equal)),
            (1, Ok(Comparison::Greater)),
            (2, Ok(Comparison::Less)),
            (3, Ok(Comparison::NotEqual)),
            (4, Err(errors::INVALID_COMPARE)),
        ] {
            let request = Compare { result, ..Compare::default() };
            assert_eq!(compare(request).map(|compare| compare.comparison), expected);
        }
    }

    #[test]
    fn keys_only_reaches_into_nested_transactions() {
        let range = |keys_only| {
            let range = KeyRange::Single("k".into());
            Operation::Range(store::RangeRequest { keys_only, ..store::RangeRequest::new(range) })
        };
        let nested = Operation::Transaction(Transaction::of(range(true)));
        let transaction = Transaction {
            success: vec![range(false), range(true), nested],
            ..Transaction::default()
        };
        assert_eq!(KeysOnly::of(&Transaction::of(range(false))), None);
        let mask = KeysOnly::of(&transaction).expect("two of them");
        let record = Record::new(b"k", b"v", 1, 2, 1, 0);
        let found = |revision| {
            OperationResponse::Range(store::RangeResponse {
                revision,
                records: vec![record.clone()],
                more: false,
                count: 1,
            })
        };
        let answer = |responses| TransactionResponse { succeeded: true, responses, revision: 7 };
        let response = transaction_response(
            ResponseHeader { revision: 7, ..ResponseHeader::default() },
            answer(vec![
                found(5),
                found(6),
                OperationResponse::Transaction(answer(vec![found(6)])),
            ]),
            Some(&mask),
        );
        let mut values = Vec::new();
        for response in response.responses {
            match response.response {
                Some(Response::Range(range)) => {
                    values.push((range.header.unwrap().revision, range.kvs[0].value.clone()));
                }
                Some(Response::Txn(inner)) => match &inner.responses[0].response {
                    Some(Response::Range(range)) => values.push((0, range.kvs[0].value.clone())),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(values, [(5, "v".into()), (6, Bytes::new()), (0, Bytes::new())]);
    }

    #[test]
    fn events() {
        let old = Record::new(b"k", b"old", 1, 1, 1, 0);
        let put = event(&store::Event {
            record: Record::new(b"k", b"new", 1, 2, 2, 5),
            previous: Some(old.clone()),
        });
        assert_eq!(put.kind(), EventType::Put);
        let kv = put.kv.expect("always there");
        assert_eq!((&kv.value[..], kv.version, kv.lease), (&b"new"[..], 2, 5));
        assert_eq!(put.prev_kv.expect("asked for").value, "old");
        let gone = event(&store::Event { record: Record::tombstone(b"k", 3), previous: None });
        assert_eq!(gone.kind(), EventType::Delete);
        let expected = KeyValue { key: "k".into(), mod_revision: 3, ..KeyValue::default() };
        assert_eq!((gone.kv, gone.prev_kv), (Some(expected), None));
    }
}
