//! One call to one member: from what is asked to the request, and from the answer to what is known.

use std::time::Duration;

use mainstay_proto::KeyValue;
use mainstay_proto::header::ResponseHeader;
use mainstay_proto::kv::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Request, RequestOp, Response, TargetUnion,
    TxnRequest, TxnResponse,
};
use prost::Message;

use super::{Call, Outcome, PREFIX, PREFIX_END, Pair};
use crate::grpc::{Client, Failure};

/// gRPC's codes after which nobody knows whether a write happened: cancelled, unknown, deadline exceeded,
/// internal, unavailable, data loss.
const UNCERTAIN: [u32; 6] = [1, 2, 4, 13, 14, 15];

/// What came of one call, and whether the connection is still good.
#[derive(Debug)]
pub struct Asked {
    pub outcome: Outcome,
    /// The failure as gRPC told it; `None` for an answer, and when there was none at all.
    pub failure: Option<Failure>,
    pub connection_is_good: bool,
}

/// Asks, and waits for the answer no longer than `timeout`.
pub(super) async fn ask(client: &Client, call: &Call, timeout: Duration) -> Asked {
    match call {
        Call::Put { key, value } => {
            let request = put(key, value);
            let path = "/etcdserverpb.KV/Put";
            send(client, path, &request, timeout, |answer: PutResponse| {
                done(answer.header, true, Vec::new())
            })
            .await
        }
        Call::Delete { key } => {
            let request = DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
            let path = "/etcdserverpb.KV/DeleteRange";
            send(client, path, &request, timeout, |answer: DeleteRangeResponse| {
                done(answer.header, answer.deleted > 0, Vec::new())
            })
            .await
        }
        Call::PutTwo { keys, value } => {
            let puts = keys.iter().map(|key| operation(Request::Put(put(key, value))));
            let request = TxnRequest { success: puts.collect(), ..Default::default() };
            transact(client, &request, timeout).await
        }
        Call::CompareAndPut { key, expected, value } => {
            let request = compare_and_put(key, *expected, value);
            transact(client, &request, timeout).await
        }
        Call::Get { key, serializable } => {
            read(client, &range(key, "", *serializable), timeout).await
        }
        Call::List { serializable } => {
            read(client, &range(PREFIX, PREFIX_END, *serializable), timeout).await
        }
    }
}

async fn read(client: &Client, request: &RangeRequest, timeout: Duration) -> Asked {
    send(client, "/etcdserverpb.KV/Range", request, timeout, |answer: RangeResponse| {
        done(answer.header, false, pairs(answer.kvs))
    })
    .await
}

async fn transact(client: &Client, request: &TxnRequest, timeout: Duration) -> Asked {
    send(client, "/etcdserverpb.KV/Txn", request, timeout, |answer: TxnResponse| {
        let read = answer.responses.into_iter().filter_map(|one| match one.response {
            Some(Response::Range(range)) => Some(pairs(range.kvs)),
            _ => None,
        });
        done(answer.header, answer.succeeded, read.flatten().collect())
    })
    .await
}

async fn send<Q: Message, A: Message + Default>(
    client: &Client,
    path: &str,
    request: &Q,
    timeout: Duration,
    read: impl FnOnce(A) -> Outcome,
) -> Asked {
    let lost = |why: &str| Asked {
        outcome: Outcome::Unknown(why.to_owned()),
        failure: None,
        connection_is_good: false,
    };
    match tokio::time::timeout(timeout, client.try_unary(path, request)).await {
        Err(_) => lost("no answer in time"),
        Ok(None) => lost("the connection broke"),
        Ok(Some(Ok(answer))) => {
            Asked { outcome: read(answer), failure: None, connection_is_good: true }
        }
        Ok(Some(Err(failure))) => {
            let text = format!("{}: {}", failure.code, failure.message);
            let outcome = match UNCERTAIN.contains(&failure.code) {
                true => Outcome::Unknown(text),
                false => Outcome::Refused(text),
            };
            Asked { outcome, failure: Some(failure), connection_is_good: true }
        }
    }
}

fn done(header: Option<ResponseHeader>, changed: bool, pairs: Vec<Pair>) -> Outcome {
    let revision = header.expect("every answer has a header").revision;
    Outcome::Done { revision, changed, pairs }
}

fn pairs(found: Vec<KeyValue>) -> Vec<Pair> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pair = |pair: KeyValue| Pair {
        key: text(&pair.key),
        value: text(&pair.value),
        created: pair.create_revision,
        modified: pair.mod_revision,
        version: pair.version,
    };
    found.into_iter().map(pair).collect()
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn range(key: &str, end: &str, serializable: bool) -> RangeRequest {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    RangeRequest { key, range_end, serializable, ..Default::default() }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare_and_put(key: &str, expected: i64, value: &str) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(expected)),
        ..Default::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![operation(Request::Put(put(key, value)))],
        failure: vec![operation(Request::Range(range(key, "", false)))],
    }
}
