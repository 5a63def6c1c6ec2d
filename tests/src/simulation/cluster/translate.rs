//! Between the plain words of histories and those of the engine.

use bytes::Bytes;
use mainstay_engine::Record;
use mainstay_engine::effect::Change;
use mainstay_engine::message::{Answer, Request as Asked};
use mainstay_engine::request::{
    self, CompareTarget, Comparison, DeleteRange, KeyRange, Operation as Step, OperationResponse,
    Put, RangeRequest,
};

use crate::linearizability::history::{
    Action, Compare, Done, Effect, Found, Keys, Order, Read, Request, Response, Seen, Target,
    Transaction, Version,
};

/// `previous`: whether to ask for what was there before.
pub(super) fn to_engine(request: &Request, previous: bool) -> Asked {
    match request {
        Request::Read(read) => Asked::Range(range_request(read)),
        Request::Transact(transaction) => Asked::Transact(to_transaction(transaction, previous)),
    }
}

fn range_request(read: &Read) -> RangeRequest {
    RangeRequest {
        revision: read.revision,
        limit: read.limit,
        count_only: read.count_only,
        serializable: read.serializable,
        ..RangeRequest::new(key_range(&read.keys))
    }
}

pub(super) fn key_range(keys: &Keys) -> KeyRange {
    match keys.clone() {
        Keys::One(key) => KeyRange::Single(key),
        Keys::Range { start, end: Some(end) } => KeyRange::Interval { start, end },
        Keys::Range { start, end: None } => KeyRange::From(start),
    }
}

fn to_transaction(transaction: &Transaction, previous: bool) -> request::Transaction {
    let Transaction { compares, success, failure } = transaction;
    let steps = |actions: &[Action]| actions.iter().map(|action| step(action, previous)).collect();
    request::Transaction {
        compares: compares.iter().map(compare).collect(),
        success: steps(success),
        failure: steps(failure),
    }
}

fn step(action: &Action, previous: bool) -> Step {
    match action {
        Action::Get(keys) => Step::Range(RangeRequest::new(key_range(keys))),
        Action::Put { key, value, lease } => Step::Put(Put {
            key: key.clone(),
            value: value.clone(),
            lease: *lease,
            previous,
            ignore_value: false,
            ignore_lease: false,
        }),
        Action::Delete(keys) => Step::DeleteRange(DeleteRange { range: key_range(keys), previous }),
        Action::EndLease(_) => unreachable!("leases end by requests of their own"),
    }
}

fn compare(compare: &Compare) -> request::Compare {
    request::Compare {
        range: KeyRange::Single(compare.key.clone()),
        comparison: match compare.order {
            Order::Equal => Comparison::Equal,
            Order::NotEqual => Comparison::NotEqual,
            Order::Less => Comparison::Less,
            Order::Greater => Comparison::Greater,
        },
        target: match &compare.target {
            Target::Value(value) => CompareTarget::Value(value.clone()),
            Target::Version(version) => CompareTarget::Version(*version),
            Target::Create(revision) => CompareTarget::Create(*revision),
            Target::Mod(revision) => CompareTarget::Mod(*revision),
            Target::Lease(lease) => CompareTarget::Lease(*lease),
        },
    }
}

/// The answer to a request that was made by [`to_engine`]; `None` for one to something else.
pub(super) fn response(answer: &Answer, previous: bool) -> Option<Response> {
    match answer {
        Answer::Range(found) => Some(Response::Read(Found {
            revision: found.revision,
            versions: versions(&found.records),
            count: found.count,
        })),
        Answer::Transact(done) => Some(Response::Transact(Done {
            revision: done.revision,
            succeeded: done.succeeded,
            results: done
                .responses
                .iter()
                .map(|response| effect(response, previous))
                .collect::<Option<Vec<Effect>>>()?,
        })),
        _ => None,
    }
}

fn effect(response: &OperationResponse, previous: bool) -> Option<Effect> {
    Some(match response {
        OperationResponse::Range(found) => Effect::Got { versions: versions(&found.records) },
        OperationResponse::Put { previous: found } => {
            Effect::Put { previous: previous.then(|| found.as_ref().map(version)) }
        }
        OperationResponse::DeleteRange { deleted, previous: found } => {
            Effect::Deleted { count: *deleted, previous: previous.then(|| versions(found)) }
        }
        OperationResponse::Transaction(_) => return None,
    })
}

fn versions(records: &[Record]) -> Vec<Version> {
    records.iter().map(version).collect()
}

pub(super) fn version(record: &Record) -> Version {
    Version {
        key: Bytes::copy_from_slice(record.key()),
        value: Bytes::copy_from_slice(record.value()),
        create_revision: record.create_revision(),
        mod_revision: record.mod_revision(),
        version: record.version(),
        lease: record.lease(),
    }
}

/// A change as watchers see it.
pub(super) fn seen(record: &Record) -> Seen {
    match record.is_tombstone() {
        true => Seen::Deleted(Bytes::copy_from_slice(record.key())),
        false => Seen::Put(version(record)),
    }
}

/// What lived before a change, as it says.
pub(super) fn before(change: &Change) -> Option<&Record> {
    change.previous.as_ref()
}
