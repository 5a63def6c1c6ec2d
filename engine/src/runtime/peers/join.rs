//! Asks members of a cluster who is one, before there is anything of this one.

use std::sync::Arc;

use futures_util::io::AsyncWriteExt;

use super::connection::{Ended, receive, shake_hands};
use super::limits::{JOIN_PATIENCE, JOIN_PAUSE, JOIN_TIMEOUT, KNOWN_TIMEOUT};
use super::network::PeerNetwork;
use crate::peer::{Event, JoinAnswer, PeerUrl, Roster, Session, wire};
use crate::runtime::run_alone;
use crate::runtime::timer::{monotonic_ms, sleep, timeout};

/// Why nobody could be asked, or nobody knows this member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error(
        "no member with the peer URLs {own} is in the cluster: add it first, as in \
         etcdctl member add NAME --peer-urls={own}"
    )]
    Unknown { own: String },
    #[error("no member of the cluster answers: {0}")]
    Nobody(String),
    #[error("can't start to ask: {0}")]
    Executor(String),
}

/// Asks whoever answers first who is a member of the cluster, and which of them has one of
/// `own_peer_urls`. Blocks for up to half a minute; called before any core runs.
pub fn ask_to_join(
    network: Arc<dyn PeerNetwork>,
    name: &str,
    peers: Vec<PeerUrl>,
    own_peer_urls: Vec<String>,
) -> Result<JoinAnswer, JoinError> {
    let name = name.to_owned();
    let ask = move || async move { ask_all(&*network, &name, &peers, &own_peer_urls).await };
    run_alone(ask).unwrap_or_else(|error| Err(JoinError::Executor(error.to_string())))
}

/// Asks each of `peers` once whether it knows a cluster with this member, which is about to begin one
/// with them. Blocks for a second for each that is silent.
pub fn ask_whether_known(
    network: Arc<dyn PeerNetwork>,
    name: &str,
    peers: Vec<PeerUrl>,
    own_peer_urls: Vec<String>,
) -> Result<Option<JoinAnswer>, JoinError> {
    let name = name.to_owned();
    let ask_each = move || async move {
        for url in &peers {
            let asked = timeout(KNOWN_TIMEOUT, ask(&*network, &name, url, &own_peer_urls)).await;
            if let Some(Ok(answer)) = asked {
                return Some(answer);
            }
        }
        None
    };
    run_alone(ask_each).map_err(|error| JoinError::Executor(error.to_string()))
}

async fn ask_all(
    network: &dyn PeerNetwork,
    name: &str,
    peers: &[PeerUrl],
    own_peer_urls: &[String],
) -> Result<JoinAnswer, JoinError> {
    let deadline_ms = monotonic_ms() + JOIN_PATIENCE.as_millis() as u64;
    loop {
        let mut reasons = Vec::new();
        let mut unknown = None;
        for url in peers {
            let asked = timeout(JOIN_TIMEOUT, ask(network, name, url, own_peer_urls)).await;
            match asked.unwrap_or(Err(Ended::TooSlow("it does not answer"))) {
                Ok(answer) if answer.member_id != 0 => return Ok(answer),
                // It may not have heard of it yet.
                Ok(_) => unknown = Some(JoinError::Unknown { own: own_peer_urls.join(",") }),
                Err(ended) => reasons.push(format!("{url}: {ended}")),
            }
        }
        if peers.is_empty() || monotonic_ms() >= deadline_ms {
            return Err(unknown.unwrap_or_else(|| JoinError::Nobody(reasons.join("; "))));
        }
        sleep(JOIN_PAUSE).await;
    }
}

async fn ask(
    network: &dyn PeerNetwork,
    name: &str,
    url: &PeerUrl,
    own_peer_urls: &[String],
) -> Result<JoinAnswer, Ended> {
    let mut stream = network.dial(url).await?;
    let mut session = Session::ask_to_join(name);
    let peer = shake_hands(&mut stream, &mut session, &Roster::default).await?;
    let question = wire::join_question(own_peer_urls, peer.version);
    let mut question = question.ok_or(Ended::TooSlow("there are too many peer URLs"))?;
    let mut bytes = Vec::new();
    while !question.write_frame(&mut bytes) {}
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    loop {
        match session.next_event(&Roster::default())? {
            Some(Event::JoinAnswer(answer)) => return Ok(answer),
            Some(_) => {}
            None => drop(receive(&mut stream, &mut session).await?),
        }
    }
}
