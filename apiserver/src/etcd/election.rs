//! Service v3electionpb.Election: the oldest of the keys below an election's name leads.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream;
use http::Response;
use mainstay_engine::request::{KeyRange, WatchRequest};
use mainstay_engine::{Revision, StoreError};
use mainstay_proto::election::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

use super::auth::{Guarded, Permit};
use super::candidates::{self, Candidate, prefix_of};
use super::{Caller, Door, convert, errors, limits};
use crate::metrics::CallGuard;
use crate::net::grpc::{self, Status};
use crate::net::{BoxedBody, RequestBody};

/// Answers when the caller leads. Who hangs up while waiting is no candidate any more.
pub(super) async fn campaign(
    door: Rc<Door>,
    request: CampaignRequest,
) -> Result<CampaignResponse, Status> {
    let prefix = prefix_of(&request.name);
    let value = request.value.clone();
    let candidate = Candidate::join(&door, &prefix, request.lease, value).await?;
    if candidate.before.as_ref().is_some_and(|before| *before != request.value) {
        let (key, lease) = (&candidate.key, candidate.lease);
        let created = candidate.created;
        let written = candidates::rewrite(&door, key, created, request.value, lease).await?;
        if !written.succeeded {
            return Err(errors::ELECTION_NOT_LEADER.into());
        }
    }
    candidate.wait(&prefix).await?;
    let (header, lease) = (Some(door.header(candidate.revision)), candidate.lease);
    let (key, rev) = candidate.keep();
    let leader = Some(LeaderKey { name: request.name, key, rev, lease });
    Ok(CampaignResponse { header, leader })
}

pub(super) async fn proclaim(
    door: Rc<Door>,
    request: ProclaimRequest,
) -> Result<ProclaimResponse, Status> {
    let LeaderKey { key, rev, lease, .. } = checked(request.leader)?;
    let written = candidates::rewrite(&door, &key, rev, request.value, lease).await?;
    if !written.succeeded {
        return Err(errors::ELECTION_NOT_LEADER.into());
    }
    Ok(ProclaimResponse { header: Some(door.header(written.revision)) })
}

/// Who is not the leader any more has nothing to resign from, and that is no error.
pub(super) async fn resign(
    door: Rc<Door>,
    request: ResignRequest,
) -> Result<ResignResponse, Status> {
    let leader = checked(request.leader)?;
    let revision = candidates::remove(&door, &leader.key, leader.rev).await?;
    Ok(ResignResponse { header: Some(door.header(revision)) })
}

/// A leader that names a key.
fn checked(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    let leader = leader.ok_or(errors::LEADER_MISSING)?;
    match leader.key.is_empty() {
        true => Err(candidates::unknown(errors::EMPTY_KEY.into())),
        false => Ok(leader),
    }
}

pub(super) async fn leader(
    door: Rc<Door>,
    request: LeaderRequest,
) -> Result<LeaderResponse, Status> {
    match current(&door, &prefix_of(&request.name)).await? {
        (_, Some(leader)) => Ok(leader),
        (_, None) => Err(errors::ELECTION_NO_LEADER.into()),
    }
}

/// The leader, if there is one, and the revision at which that was so.
async fn current(door: &Door, prefix: &[u8]) -> Result<(Revision, Option<LeaderResponse>), Status> {
    let answer = candidates::oldest(door, prefix).await?;
    let leader = answer.records.first().map(|record| LeaderResponse {
        header: Some(door.header(answer.revision)),
        kv: Some(convert::key_value(record, false)),
    });
    Ok((answer.revision, leader))
}

/// Tells who leads and what is proclaimed, now and whenever that changes. Proclamations that come
/// faster than they are read are passed over: the last one is always told.
pub(super) async fn observe(
    door: Rc<Door>,
    caller: Rc<Caller>,
    body: RequestBody,
    call: CallGuard,
) -> Response<BoxedBody> {
    let (prefix, permit) = match may_observe(&door, &caller, body).await {
        Ok(may) => may,
        Err(status) => {
            call.end(status.code);
            return grpc::refuse(&status);
        }
    };
    let observer = Observer { door: door.clone(), permit, prefix, told: 0, call };
    let messages = stream::unfold(Some(observer), |observer| async {
        let mut observer = observer?;
        match observer.next().await {
            Ok(answer) => {
                observer.call.sent(answer.len());
                Some((Ok(answer), Some(observer)))
            }
            Err(status) => {
                observer.call.end(status.code);
                Some((Err(status), None))
            }
        }
    });
    door.stream(&caller, messages)
}

async fn may_observe(
    door: &Door,
    caller: &Rc<Caller>,
    body: RequestBody,
) -> Result<(Vec<u8>, Permit), Status> {
    let request: LeaderRequest = grpc::request(body, limits::MESSAGE_BYTES).await?;
    let permit = door.auth.permit(caller, request.need()?).await?;
    Ok((prefix_of(&request.name), permit))
}

struct Observer {
    door: Rc<Door>,
    permit: Permit,
    prefix: Vec<u8>,
    /// The revision of the last proclamation told; 0 for none.
    told: Revision,
    call: CallGuard,
}

impl Observer {
    async fn next(&mut self) -> Result<Bytes, Status> {
        loop {
            let (revision, leader) = current(&self.door, &self.prefix).await?;
            self.door.auth.renew(&self.permit).await?;
            let written = leader.as_ref().and_then(|leader| leader.kv.as_ref());
            let written = written.map_or(0, |kv| kv.mod_revision);
            if let Some(leader) = leader
                && written != self.told
            {
                self.told = written;
                return Ok(grpc::encode(&leader));
            }
            let changed = pin!(changed(&self.door, &self.prefix, revision + 1));
            match select(changed, pin!(self.door.shutdown.requested())).await {
                // Look anew at what is there.
                Either::Left((Ok(()) | Err(StoreError::Compacted { .. }), _)) => {}
                Either::Left((Err(error), _)) => return Err(errors::from_store(error)),
                Either::Right(_) => return Err(errors::STOPPED.into()),
            }
        }
    }
}

/// Waits for a change below `prefix`, at `from` or later.
async fn changed(door: &Door, prefix: &[u8], from: Revision) -> Result<(), StoreError> {
    let request = WatchRequest {
        range: KeyRange::prefix(prefix),
        start_revision: from,
        previous: false,
        no_put: false,
        no_delete: false,
    };
    let mut watcher = door.store.watch(request).await?;
    while watcher.next(limits::watch_batch_bytes()).await?.events.is_empty() {}
    Ok(())
}
