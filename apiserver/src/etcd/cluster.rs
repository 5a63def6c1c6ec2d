//! Service Cluster: who is a member, and changes of that.
//!
//! The leader checks and makes the changes, whichever member is asked. A member that is alone and has no
//! port for others can't get company, and says what would help.

use std::rc::Rc;

use mainstay_engine::StoreError;
use mainstay_engine::cluster::{MemberChange, MemberInfo, MemberUpdate};
use mainstay_proto::cluster::{
    self as proto, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use time::OffsetDateTime;

use super::errors::{self, from_store};
use super::{Door, alone};
use crate::net::grpc::Status;
use crate::{membership, metrics};

impl Door {
    /// Whether this member has a port for others.
    fn may_have_company(&self) -> bool {
        self.options.election.is_some()
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<proto::Member>, Status> {
        let members = self.store.members(linearizable).await;
        members.map(to_proto).map_err(from_store)
    }

    async fn change(&self, change: MemberChange) -> Result<Vec<proto::Member>, StoreError> {
        self.store.change_members(change).await.map(to_proto)
    }
}

fn to_proto(members: Vec<MemberInfo>) -> Vec<proto::Member> {
    let member = |info: MemberInfo| proto::Member {
        id: info.id,
        name: info.name,
        peer_urls: info.peer_urls,
        client_urls: info.client_urls,
        is_learner: info.is_learner,
    };
    members.into_iter().map(member).collect()
}

/// etcd's header has no revision in the answers of this service.
pub(super) async fn list(
    door: Rc<Door>,
    request: MemberListRequest,
) -> Result<MemberListResponse, Status> {
    let members = match door.may_have_company() {
        true => door.members(request.linearizable).await?,
        false => vec![alone::member(&door).await],
    };
    Ok(MemberListResponse { header: Some(door.header(0)), members })
}

pub(super) async fn add(
    door: Rc<Door>,
    request: MemberAddRequest,
) -> Result<MemberAddResponse, Status> {
    let peer_urls = membership::peer_urls(&request.peer_urls);
    let peer_urls = peer_urls.map_err(|_| errors::MEMBER_BAD_URLS)?;
    if !door.may_have_company() {
        return Err(alone::refuse_addition(&door, &peer_urls).await);
    }
    let now = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
    let id = membership::member_id(&peer_urls, "", Some(now));
    let is_learner = request.is_learner;
    let change = MemberChange::Add { id, peer_urls: peer_urls.clone(), is_learner };
    let members = door.change(change).await.map_err(from_store)?;
    let member = proto::Member { id, peer_urls, is_learner, ..proto::Member::default() };
    Ok(MemberAddResponse { header: Some(door.header(0)), member: Some(member), members })
}

pub(super) async fn remove(
    door: Rc<Door>,
    request: MemberRemoveRequest,
) -> Result<MemberRemoveResponse, Status> {
    if !door.may_have_company() {
        return Err(alone::refuse_removal(&door, request.id).into());
    }
    let members = door.change(MemberChange::Remove { id: request.id }).await.map_err(from_store)?;
    Ok(MemberRemoveResponse { header: Some(door.header(0)), members })
}

/// Unlike etcd's servers this one looks at the URLs: wrong ones would cut the member off.
pub(super) async fn update(
    door: Rc<Door>,
    request: MemberUpdateRequest,
) -> Result<MemberUpdateResponse, Status> {
    let members = if door.may_have_company() {
        let peer_urls = membership::peer_urls(&request.peer_urls);
        let peer_urls = Some(peer_urls.map_err(|_| errors::MEMBER_BAD_URLS)?);
        let update = MemberUpdate { id: request.id, peer_urls, ..MemberUpdate::default() };
        door.store.update_member(update).await.map(to_proto).map_err(from_store)?
    } else {
        alone::update(&door, request).await?
    };
    Ok(MemberUpdateResponse { header: Some(door.header(0)), members })
}

pub(super) async fn promote(
    door: Rc<Door>,
    request: MemberPromoteRequest,
) -> Result<MemberPromoteResponse, Status> {
    if !door.may_have_company() {
        return Err(alone::refuse_promotion(&door, request.id).into());
    }
    let promoted = door.change(MemberChange::Promote { id: request.id }).await;
    metrics::server().count_promotion(&promoted);
    let members = promoted.map_err(from_store)?;
    Ok(MemberPromoteResponse { header: Some(door.header(0)), members })
}
