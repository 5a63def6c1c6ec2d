//! Service Lease: grant, revoke, keep alive, time to live, list.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream;
use http::Response;
use mainstay_engine::StoreError;
use mainstay_engine::limits::LEASE_TTL_MAX;
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use super::errors::{self, from_store};
use super::{Caller, Door, alarm, limits};
use crate::metrics::CallGuard;
use crate::net::grpc::{self, Code, Messages, Status};
use crate::net::{BoxedBody, RequestBody};

pub(super) async fn grant(
    door: Rc<Door>,
    request: LeaseGrantRequest,
) -> Result<LeaseGrantResponse, Status> {
    if request.ttl > LEASE_TTL_MAX {
        return Err(errors::LEASE_TTL_TOO_LARGE.into());
    }
    door.check_write(alarm::lease_cost()).await?;
    let ttl = request.ttl.max(limits::LEASE_TTL_MIN);
    let (id, ttl) = door.store.lease_grant(ttl, request.id).await.map_err(from_store)?;
    door.metrics.lease_granted_total.add(1);
    let header = Some(door.header(door.store.revision()));
    Ok(LeaseGrantResponse { header, id, ttl, error: String::new() })
}

pub(super) async fn revoke(
    door: Rc<Door>,
    request: LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse, Status> {
    door.check_write(0).await?;
    let revision = door.store.lease_revoke(request.id).await.map_err(from_store)?;
    door.metrics.lease_revoked_total.add(1);
    Ok(LeaseRevokeResponse { header: Some(door.header(revision)) })
}

/// A lease that is not there is no error: its time to live is -1.
pub(super) async fn time_to_live(
    door: Rc<Door>,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let answer = door.store.lease_time_to_live(request.id, request.keys).await;
    let header = Some(door.header(door.store.revision()));
    match answer {
        Ok(status) => Ok(LeaseTimeToLiveResponse {
            header,
            id: status.id,
            ttl: status.remaining_ttl,
            granted_ttl: status.granted_ttl,
            keys: status.keys,
        }),
        Err(StoreError::LeaseNotFound(id)) => Ok(LeaseTimeToLiveResponse {
            header,
            id,
            ttl: -1,
            ..LeaseTimeToLiveResponse::default()
        }),
        Err(error) => Err(from_store(error)),
    }
}

pub(super) async fn leases(
    door: Rc<Door>,
    _request: LeaseLeasesRequest,
) -> Result<LeaseLeasesResponse, Status> {
    let ids = door.store.leases().await.map_err(from_store)?;
    Ok(LeaseLeasesResponse {
        header: Some(door.header(door.store.revision())),
        leases: ids.into_iter().map(|id| LeaseStatus { id }).collect(),
    })
}

/// A stream of keep-alives, each answered in turn. As in etcd, whoever knows a lease may renew it: one
/// who may not would end the renewals of all that share the stream.
pub(super) fn keep_alive(
    door: Rc<Door>,
    caller: &Caller,
    body: RequestBody,
    call: CallGuard,
) -> Response<BoxedBody> {
    let requests = Messages::new(body, limits::MESSAGE_BYTES);
    let stream = KeepAlive { door: door.clone(), requests, call };
    let messages = stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match stream.next().await {
            Ok(Some(answer)) => {
                stream.call.sent(answer.len());
                Some((Ok(answer), Some(stream)))
            }
            Ok(None) => {
                stream.call.end(Code::Ok);
                None
            }
            Err(status) => {
                stream.call.end(status.code);
                Some((Err(status), None))
            }
        }
    });
    door.stream(caller, messages)
}

struct KeepAlive {
    door: Rc<Door>,
    requests: Messages<RequestBody>,
    call: CallGuard,
}

impl KeepAlive {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let received = {
            let next = pin!(self.requests.next());
            match select(next, pin!(self.door.shutdown.requested())).await {
                Either::Left((received, _)) => received?,
                Either::Right(_) => return Err(errors::STOPPED.into()),
            }
        };
        let Some(bytes) = received else { return Ok(None) };
        self.call.received(bytes.len());
        let LeaseKeepAliveRequest { id } = grpc::decode(bytes)?;
        // etcd answers for a lease that is gone with a TTL of 0.
        let ttl = match self.door.store.lease_keep_alive(id).await {
            Ok(ttl) => {
                self.door.metrics.lease_renewed_total.add(1);
                ttl
            }
            Err(StoreError::LeaseNotFound(_)) => 0,
            Err(error) => return Err(from_store(error)),
        };
        let header = Some(self.door.header(self.door.store.revision()));
        Ok(Some(grpc::encode(&LeaseKeepAliveResponse { header, id, ttl })))
    }
}
