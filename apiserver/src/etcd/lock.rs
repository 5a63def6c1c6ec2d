//! Service v3lockpb.Lock: a lock is held by the oldest of the keys below its name.

use std::rc::Rc;

use mainstay_engine::request::{KeyRange, RangeRequest};
use mainstay_proto::kv::DeleteRangeRequest;
use mainstay_proto::lock::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::candidates::{Candidate, prefix_of, unknown};
use super::{Door, errors, kv};
use crate::net::grpc::Status;

/// Answers when the caller has the lock. Who hangs up while waiting gives up the place in line.
pub(super) async fn lock(door: Rc<Door>, request: LockRequest) -> Result<LockResponse, Status> {
    let prefix = prefix_of(&request.name);
    let candidate = Candidate::join(&door, &prefix, request.lease, Default::default()).await?;
    candidate.wait(&prefix).await?;
    // The lease may have ended meanwhile, and the key with it.
    let range = RangeRequest::new(KeyRange::Single(candidate.key.clone()));
    let answer = door.store.range(range).await.map_err(errors::from_store).map_err(unknown)?;
    if answer.records.is_empty() {
        return Err(errors::SESSION_EXPIRED.into());
    }
    let (key, _) = candidate.keep();
    Ok(LockResponse { header: Some(door.header(answer.revision)), key })
}

pub(super) async fn unlock(
    door: Rc<Door>,
    request: UnlockRequest,
) -> Result<UnlockResponse, Status> {
    let deletion = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
    let answer = kv::delete_range(door, deletion).await.map_err(unknown)?;
    Ok(UnlockResponse { header: answer.header })
}
