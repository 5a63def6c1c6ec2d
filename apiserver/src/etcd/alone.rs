//! Service Cluster of a member that is alone and has no port for others: it shows itself, and refuses
//! company.

use mainstay_proto::cluster::{Member, MemberUpdateRequest};

use super::Door;
use super::errors::{self, EtcdError, from_store};
use crate::net::grpc::Status;

const NO_PORT: &str = "mainstay was started without a port for other members: start it again with \
                       --listen-peer-urls and --initial-advertise-peer-urls, then add members";

/// Where the peer URLs are kept beside the keys that MemberUpdate has set, one in a line.
const PEER_URLS: &[u8] = b"etcd/peer-urls";

pub(super) async fn member(door: &Door) -> Member {
    let peer_urls = match door.store.document(PEER_URLS).await {
        Some(urls) => String::from_utf8_lossy(&urls).lines().map(str::to_owned).collect(),
        None => door.options.peer_urls.clone(),
    };
    Member {
        id: door.store.status().member_id,
        name: door.options.name.clone(),
        peer_urls,
        client_urls: door.options.client_urls.clone(),
        is_learner: false,
    }
}

fn is_me(door: &Door, id: u64) -> bool {
    id == door.store.status().member_id
}

/// etcd would take the first one, and be without a majority until it runs.
pub(super) async fn refuse_addition(door: &Door, peer_urls: &[String]) -> Status {
    let own = member(door).await.peer_urls;
    match peer_urls.iter().any(|url| own.contains(url)) {
        true => errors::PEER_URL_EXISTS.into(),
        false => errors::unimplemented(NO_PORT),
    }
}

pub(super) fn refuse_removal(door: &Door, id: u64) -> EtcdError {
    if is_me(door, id) { errors::NOT_ENOUGH_STARTED } else { errors::MEMBER_NOT_FOUND }
}

pub(super) fn refuse_promotion(door: &Door, id: u64) -> EtcdError {
    if is_me(door, id) { errors::MEMBER_NOT_LEARNER } else { errors::MEMBER_NOT_FOUND }
}

/// Nobody listens on a peer URL here: the new ones are kept and told to whoever asks. As in etcd,
/// they are not looked at.
pub(super) async fn update(
    door: &Door,
    request: MemberUpdateRequest,
) -> Result<Vec<Member>, Status> {
    if !is_me(door, request.id) {
        return Err(errors::MEMBER_NOT_FOUND.into());
    }
    let urls = request.peer_urls.join("\n").into();
    door.store.put_document(PEER_URLS, urls).await.map_err(from_store)?;
    Ok(vec![member(door).await])
}
