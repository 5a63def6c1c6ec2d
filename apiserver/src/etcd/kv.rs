//! Service KV: range, put, delete, transaction, compaction.

use std::rc::Rc;

use mainstay_engine::StoreError;
use mainstay_engine::request::{Operation, OperationResponse, Transaction, TransactionResponse};
use mainstay_proto::kv::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Request, TxnRequest, TxnResponse,
};

use super::convert::KeysOnly;
use super::errors::from_store;
use super::{Door, alarm, convert, validate};
use crate::metrics;
use crate::net::grpc::{Code, Status};

pub(super) async fn range(door: Rc<Door>, request: RangeRequest) -> Result<RangeResponse, Status> {
    validate::range(&request)?;
    door.metrics.range_total.add(1);
    let keys_only = request.keys_only;
    let response = door.store.range(convert::range(request)).await.map_err(|error| {
        if matches!(error, StoreError::NoLeader | StoreError::TimedOut) {
            metrics::server().failed_read_indexes.add(1);
        }
        from_store(error)
    })?;
    Ok(convert::range_response(door.header(response.revision), &response, keys_only))
}

pub(super) async fn put(door: Rc<Door>, request: PutRequest) -> Result<PutResponse, Status> {
    validate::put(&request)?;
    door.check_write(alarm::put_cost(&request)).await?;
    door.metrics.put_total.add(1);
    let (revision, response) = single(&door, Operation::Put(convert::put(request))).await?;
    let OperationResponse::Put { previous } = response else { return Err(mismatch()) };
    Ok(PutResponse {
        header: Some(door.header(revision)),
        prev_kv: previous.map(|record| convert::key_value(&record, false)),
    })
}

pub(super) async fn delete_range(
    door: Rc<Door>,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Status> {
    validate::delete_range(&request)?;
    door.check_write(0).await?;
    door.metrics.delete_total.add(1);
    let operation = Operation::DeleteRange(convert::delete_range(request));
    let (revision, response) = single(&door, operation).await?;
    let OperationResponse::DeleteRange { deleted, previous } = response else {
        return Err(mismatch());
    };
    Ok(convert::delete_range_response(door.header(revision), deleted, &previous))
}

/// Commits one operation; gives the store's revision and the operation's answer.
async fn single(door: &Door, operation: Operation) -> Result<(i64, OperationResponse), Status> {
    let transaction = Transaction::of(operation);
    let TransactionResponse { mut responses, revision, .. } =
        door.store.transact(transaction).await.map_err(from_store)?;
    let response = responses.pop().ok_or_else(mismatch)?;
    Ok((revision, response))
}

/// The store must answer each operation in kind; if it ever does not, this call fails and no other.
fn mismatch() -> Status {
    Status::new(Code::Internal, "the store answered another operation than it was asked for")
}

pub(super) async fn transaction(
    door: Rc<Door>,
    request: TxnRequest,
) -> Result<TxnResponse, Status> {
    validate::transaction(&request, door.options.transaction_operations)?;
    door.metrics.transaction_total.add(1);
    if !is_read_only(&request) {
        door.check_write(alarm::transaction_cost(&request)).await?;
    }
    let transaction = convert::transaction(request)?;
    let keys_only = KeysOnly::of(&transaction);
    let response = door.store.transact(transaction).await.map_err(from_store)?;
    let header = door.header(response.revision);
    Ok(convert::transaction_response(header, response, keys_only.as_ref()))
}

/// Whether a transaction changes nothing, whichever way its compares turn out.
fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(Request::Range(_)) => true,
        Some(Request::Txn(nested)) => is_read_only(nested),
        _ => false,
    })
}

pub(super) async fn compact(
    door: Rc<Door>,
    request: CompactionRequest,
) -> Result<CompactionResponse, Status> {
    door.check_write(0).await?;
    metrics::server().compactions.add(1);
    let revision =
        door.store.compact(request.revision, request.physical).await.map_err(from_store)?;
    Ok(CompactionResponse { header: Some(door.header(revision)) })
}
