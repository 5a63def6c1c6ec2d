//! Service Cluster: a member that is alone.

use std::rc::Rc;

use mainstay_proto::cluster::{
    self as proto, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};

use super::{Door, errors};
use crate::net::grpc::Status;

const ALONE: &str = "mainstay runs as a single member: it can't be given others";

/// Where the peer URLs are kept beside the keys that MemberUpdate has set, one in a line.
const PEER_URLS: &[u8] = b"etcd/peer-urls";

impl Door {
    async fn member(&self) -> proto::Member {
        let peer_urls = match self.store.document(PEER_URLS).await {
            Some(urls) => String::from_utf8_lossy(&urls).lines().map(str::to_owned).collect(),
            None => self.options.peer_urls.clone(),
        };
        proto::Member {
            id: self.store.status().member_id,
            name: self.options.name.clone(),
            peer_urls,
            client_urls: self.options.client_urls.clone(),
            is_learner: false,
        }
    }

    fn is_me(&self, id: u64) -> bool {
        id == self.store.status().member_id
    }
}

/// With one member every list is linearizable. etcd's header has no revision here.
pub(super) async fn list(
    door: Rc<Door>,
    _request: MemberListRequest,
) -> Result<MemberListResponse, Status> {
    Ok(MemberListResponse { header: Some(door.header(0)), members: vec![door.member().await] })
}

/// etcd would take the first one, and be without a majority until it runs.
pub(super) async fn add(
    door: Rc<Door>,
    request: MemberAddRequest,
) -> Result<MemberAddResponse, Status> {
    check_urls(&request.peer_urls)?;
    let own = door.member().await.peer_urls;
    if request.peer_urls.iter().any(|url| own.contains(url)) {
        return Err(errors::PEER_URL_EXISTS.into());
    }
    Err(errors::unimplemented(ALONE))
}

pub(super) async fn remove(
    door: Rc<Door>,
    request: MemberRemoveRequest,
) -> Result<MemberRemoveResponse, Status> {
    let refusal =
        if door.is_me(request.id) { errors::NOT_ENOUGH_STARTED } else { errors::MEMBER_NOT_FOUND };
    Err(refusal.into())
}

/// Nobody listens on a peer URL here: the new ones are kept and told to whoever asks. As in etcd,
/// they are not looked at.
pub(super) async fn update(
    door: Rc<Door>,
    request: MemberUpdateRequest,
) -> Result<MemberUpdateResponse, Status> {
    if !door.is_me(request.id) {
        return Err(errors::MEMBER_NOT_FOUND.into());
    }
    let urls = request.peer_urls.join("\n").into();
    door.store.put_document(PEER_URLS, urls).await.map_err(errors::from_store)?;
    Ok(MemberUpdateResponse { header: Some(door.header(0)), members: vec![door.member().await] })
}

pub(super) async fn promote(
    door: Rc<Door>,
    request: MemberPromoteRequest,
) -> Result<MemberPromoteResponse, Status> {
    let refusal =
        if door.is_me(request.id) { errors::MEMBER_NOT_LEARNER } else { errors::MEMBER_NOT_FOUND };
    Err(refusal.into())
}

/// Peer URLs as etcd takes them: at least one, each a scheme, a host, a port and no path.
fn check_urls(urls: &[String]) -> Result<(), Status> {
    let good = |url: &String| {
        let parsed = url.parse::<http::Uri>().ok();
        parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.port().is_some()
                && matches!(uri.path(), "" | "/")
                && uri.query().is_none()
                && !url.ends_with('/')
        })
    };
    if urls.is_empty() || !urls.iter().all(good) {
        return Err(errors::MEMBER_BAD_URLS.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls() {
        for (urls, good) in [
            (&["http://127.0.0.1:2380"][..], true),
            (&["https://a.example:2380", "http://[::1]:1"], true),
            (&[], false),
            (&["not a url"], false),
            (&["127.0.0.1:2380"], false),
            (&["http://127.0.0.1"], false),
            (&["http://127.0.0.1:2380/x"], false),
            (&["http://127.0.0.1:2380/"], false),
            (&["ftp://127.0.0.1:2380"], false),
            (&["http://127.0.0.1:2380", ""], false),
        ] {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            assert_eq!(check_urls(&urls).is_ok(), good, "{urls:?}");
        }
    }
}
