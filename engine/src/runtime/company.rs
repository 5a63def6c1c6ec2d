//! A member among others, in the real world: who it is, its connections, and leaving in good order.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use super::core::{CoreState, PeerLinks};
use super::disk::Identity;
use super::executor::StartError;
use super::peers::{Handler, PeerMetrics, PeerNetwork, Peers, ask_to_join, ask_whether_known};
use super::signal::Shutdown;
use super::{random, spawn_local, timer};
use crate::cluster::{ClusterOptions, Initial, MemberInfo};
use crate::peer::{JoinAnswer, PeerMessage, PeerUrl, UrlError};
use crate::replica::Rules;

/// How long a member goes on after it was removed: others may have to be told so.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a member needs to be one of several.
#[derive(Clone)]
pub struct Company {
    pub options: ClusterOptions,
    /// What carries bytes to the others.
    pub network: Arc<dyn PeerNetwork>,
    pub metrics: Arc<PeerMetrics>,
}

/// Why this member can't go on, once that is so.
pub(super) type Removed = Arc<OnceLock<()>>;

impl Company {
    /// Who a member is that has never been.
    pub(super) fn first_identity(&self) -> Result<Identity, StartError> {
        let options = &self.options;
        match &options.initial {
            Initial::Alone => {
                let (cluster_id, member_id) = (random()?, random()?);
                let peer_urls = options.peer_urls.clone();
                let own = MemberInfo { id: member_id, peer_urls, ..MemberInfo::default() };
                Ok(Identity {
                    cluster_id,
                    member_id,
                    incarnation: 0,
                    voters: vec![member_id],
                    members: vec![own],
                })
            }
            Initial::New { cluster_id, member_id, members } => {
                self.check_first_life(*member_id, members)?;
                Ok(Identity {
                    cluster_id: *cluster_id,
                    member_id: *member_id,
                    incarnation: 0,
                    voters: members.iter().map(|member| member.id).collect(),
                    members: members.clone(),
                })
            }
            Initial::Join { peer_urls } => {
                let (network, own) = (Arc::clone(&self.network), options.peer_urls.clone());
                let answer = ask_to_join(network, &options.name, parse(peer_urls)?, own)
                    .map_err(|error| StartError::Join(error.to_string()))?;
                let own = answer.members.iter().find(|member| member.id == answer.member_id);
                let has_lived = own.is_some_and(|own| !own.name.is_empty());
                Ok(Identity {
                    cluster_id: answer.cluster_id,
                    member_id: answer.member_id,
                    // One that lost its disk lost its votes with it: the others have to know.
                    incarnation: if has_lived { seconds_now() } else { 0 },
                    // The log tells who votes.
                    voters: Vec::new(),
                    members: answer.members,
                })
            }
        }
    }

    /// Whether this member may begin a cluster: not if the others have one with it, as it may have voted
    /// in a life that its disk does not know of.
    fn check_first_life(&self, id: u64, members: &[MemberInfo]) -> Result<(), StartError> {
        let others = members.iter().filter(|member| member.id != id);
        let urls: Vec<String> = others.flat_map(|other| other.peer_urls.clone()).collect();
        if urls.is_empty() {
            return Ok(());
        }
        let (network, own) = (Arc::clone(&self.network), self.options.peer_urls.clone());
        let known = ask_whether_known(network, &self.options.name, parse(&urls)?, own)
            .map_err(|error| StartError::Join(error.to_string()))?;
        let started = |member: &MemberInfo| member.id == id && !member.name.is_empty();
        match known.is_some_and(|known| known.members.iter().any(started)) {
            true => Err(StartError::Bootstrapped(id)),
            false => Ok(()),
        }
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            request_timeout_ms: 5_000 + 2 * self.options.election_ms,
            election_ms: self.options.election_ms,
            initial_ticks: self.options.raft_options().election_ticks - 1,
            strict_reconfig: self.options.strict_reconfig,
            max_learners: self.options.max_learners,
        }
    }

    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.options.heartbeat_ms.max(1))
    }

    /// Connects to the others, on core 0.
    pub(super) fn meet(
        self,
        core: &Rc<CoreState>,
        identity: &Identity,
        shutdown: Shutdown,
        removed: Removed,
    ) -> Result<Connected, StartError> {
        let own = crate::peer::Identity {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            incarnation: identity.incarnation,
            name: self.options.name.clone(),
        };
        let leaving = Leaving { shutdown, removed };
        let handler = Rc::new(Listening {
            core: Rc::clone(core),
            cluster_id: identity.cluster_id,
            leaving: leaving.clone(),
        });
        let peers = Peers::start(own, self.network, handler, self.metrics)?;
        let (own_id, was_member) = (identity.member_id, Cell::new(false));
        let initial = identity.members.clone();
        let links = Links { peers: peers.clone(), own_id, initial, was_member, leaving };
        core.set_peers(Rc::new(links));
        Ok(Connected { peers })
    }
}

/// The connections to others.
pub(super) struct Connected {
    peers: Peers,
}

impl Connected {
    /// Closes them.
    pub(super) fn part(&self) {
        self.peers.stop();
    }
}

fn parse(urls: &[String]) -> Result<Vec<PeerUrl>, StartError> {
    let parse =
        |url: &String| url.parse().map_err(|error: UrlError| StartError::Join(error.to_string()));
    urls.iter().map(parse).collect()
}

/// By the clock on the wall: later than any life before.
fn seconds_now() -> u64 {
    timer::wall_clock().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

/// What is to be said to others.
struct Links {
    peers: Peers,
    own_id: u64,
    initial: Vec<MemberInfo>,
    /// It knows of itself as a member: one that has just joined does not yet.
    was_member: Cell<bool>,
    leaving: Leaving,
}

impl PeerLinks for Links {
    fn send(&self, to: u64, message: PeerMessage) {
        self.peers.send(to, message);
    }

    fn set_members(&self, members: &[MemberInfo]) {
        let is_member = members.iter().any(|member| member.id == self.own_id);
        // One that joins goes through memberships of before its time first: those it was told of when
        // it began are the ones to talk to.
        let told = || self.initial.iter().filter(|one| members.iter().all(|all| all.id != one.id));
        match is_member || self.was_member.get() {
            true => self.peers.set_members(members),
            false => {
                self.peers.set_members(&members.iter().chain(told()).cloned().collect::<Vec<_>>())
            }
        }
        if self.was_member.replace(is_member) && !is_member {
            self.leaving.leave();
        }
    }
}

/// What others say.
struct Listening {
    core: Rc<CoreState>,
    cluster_id: u64,
    leaving: Leaving,
}

impl Handler for Listening {
    fn messages(&self, from: u64, messages: Vec<PeerMessage>) {
        let now_ms = timer::monotonic_ms();
        self.core.drive(|replica, out| {
            for message in messages {
                replica.peer_message(from, message, now_ms, out);
            }
        });
    }

    fn join(&self, peer_urls: &[String]) -> Option<JoinAnswer> {
        if self.core.shared().leader() == 0 {
            return None;
        }
        let members = self.core.members();
        let has_url =
            |member: &&MemberInfo| member.peer_urls.iter().any(|url| peer_urls.contains(url));
        let member_id = members.iter().find(has_url).map_or(0, |member| member.id);
        Some(JoinAnswer { cluster_id: self.cluster_id, member_id, members })
    }

    fn lost(&self, peer: u64) {
        self.core.drive(|replica, out| replica.peer_lost(peer, timer::monotonic_ms(), out));
    }

    fn removed(&self, _by: u64) {
        self.leaving.leave();
    }
}

/// How a member goes that was removed.
#[derive(Clone)]
struct Leaving {
    shutdown: Shutdown,
    removed: Removed,
}

impl Leaving {
    fn leave(&self) {
        if self.removed.set(()).is_err() {
            return;
        }
        eprintln!("the member has been permanently removed from the cluster: it stops");
        let shutdown = self.shutdown.clone();
        spawn_local(async move {
            timer::sleep(FAREWELL).await;
            shutdown.request();
        });
    }
}
