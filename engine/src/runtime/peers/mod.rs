//! The connections of core 0 to other members.
//!
//! `link` has the one that this member dialed to each of the others, for what it has to say;
//! `incoming` those by which the others say something; `join` asks for a cluster before there is any.
//! `network` is what a door's crate gives the engine, which knows of no TLS.

mod backoff;
mod connection;
mod incoming;
mod join;
mod limits;
mod link;
mod metrics;
mod network;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::spawn_local;
use super::timer::sleep;
use crate::cluster::MemberInfo;
use crate::error::StoreError;
use crate::peer::outbox::Pushed;
use crate::peer::session::removed;
use crate::peer::{Identity, JoinAnswer, PeerMessage, PeerUrl, Roster};

pub use join::{JoinError, ask_to_join, ask_whether_known};
pub use metrics::{PeerCounters, PeerCounts, PeerMetrics};
pub use network::{
    BoxedStream, Incoming, LocalFuture, PeerListener, PeerNetwork, PeerStream, PlainNetwork,
};

use link::Link;

/// What the connections tell whoever owns them.
pub trait Handler {
    /// A member has said this, in this order. Of each request that was handed to [`Peers::send`]
    /// comes exactly one answer, be it that nothing was sent.
    fn messages(&self, from: u64, messages: Vec<PeerMessage>);

    /// Somebody with these peer URLs wants to join. `None` while nothing is known for certain.
    fn join(&self, peer_urls: &[String]) -> Option<JoinAnswer>;

    /// A member says that this one was removed from the cluster.
    fn removed(&self, by: u64);

    /// The connection to this member broke.
    fn lost(&self, _peer: u64) {}
}

/// The connections to all other members. They last until [`stop`](Peers::stop).
#[derive(Clone)]
pub struct Peers(Rc<Inner>);

struct Inner {
    own: Identity,
    network: Arc<dyn PeerNetwork>,
    handler: Rc<dyn Handler>,
    metrics: Arc<PeerMetrics>,
    roster: RefCell<Roster>,
    /// Where this member itself can be dialed.
    own_urls: RefCell<Vec<String>>,
    links: RefCell<BTreeMap<u64, Rc<Link>>>,
    /// Answers of its own to requests that nobody is going to answer.
    bounced: RefCell<Vec<(u64, PeerMessage)>>,
    is_bouncing: Cell<bool>,
    /// Connections whose other end is not known yet.
    strangers: Cell<usize>,
    is_stopped: Cell<bool>,
}

impl Peers {
    /// Listens for other members, and dials those that it is told of.
    ///
    /// # Errors
    /// A port that can't be listened on.
    pub fn start(
        own: Identity,
        network: Arc<dyn PeerNetwork>,
        handler: Rc<dyn Handler>,
        metrics: Arc<PeerMetrics>,
    ) -> io::Result<Peers> {
        let listeners = network.listen()?;
        let inner = Rc::new(Inner {
            own,
            network,
            handler,
            metrics,
            roster: RefCell::default(),
            own_urls: RefCell::default(),
            links: RefCell::default(),
            bounced: RefCell::default(),
            is_bouncing: Cell::new(false),
            strangers: Cell::new(0),
            is_stopped: Cell::new(false),
        });
        for listener in listeners {
            spawn_local(Rc::clone(&inner).accept(listener));
        }
        Ok(Peers(inner))
    }

    /// Says this to a member. What is of raft and can't be sent is lost; of a request there is an
    /// answer in any case.
    pub fn send(&self, to: u64, message: PeerMessage) {
        let link = self.0.links.borrow().get(&to).cloned();
        let pushed = match &link {
            Some(link) => link.push(&message),
            None => match &message {
                PeerMessage::Request { .. } => Pushed::Refused(StoreError::NoLeader),
                _ => Pushed::Dropped(1),
            },
        };
        if let (Pushed::Refused(error), PeerMessage::Request { number, .. }) = (pushed, message) {
            self.0.bounce(to, vec![number], &error);
        }
    }

    /// These are the members now, this one among them. Others are dialed; those that are not there
    /// any more are told that they were removed.
    pub fn set_members(&self, members: &[MemberInfo]) {
        let inner = &self.0;
        let gone = inner.roster.borrow_mut().update(members.iter().map(|member| member.id));
        for id in gone {
            let link = inner.links.borrow_mut().remove(&id);
            if let Some(link) = link {
                link.end(Some(removed(id)));
                inner.metrics.forget(id);
            }
        }
        for member in members {
            if member.id == inner.own.member_id {
                inner.own_urls.replace(member.peer_urls.clone());
                continue;
            }
            let urls = urls(member.id, &member.peer_urls);
            match inner.link(member.id) {
                Some(link) => link.set_urls(urls),
                None => drop(inner.dial_from_now_on(member.id, urls)),
            }
        }
    }

    /// These were members, before this one started: they are told so when they come.
    pub fn note_removed(&self, ids: impl IntoIterator<Item = u64>) {
        self.0.roster.borrow_mut().note_removed(ids);
    }

    /// Whether there is a connection to this member and one from it.
    pub fn is_connected(&self, id: u64) -> bool {
        self.0.links.borrow().get(&id).is_some_and(|link| link.is_whole())
    }

    /// Closes all connections.
    pub fn stop(&self) {
        self.0.is_stopped.set(true);
        for link in std::mem::take(&mut *self.0.links.borrow_mut()).into_values() {
            link.end(None);
        }
    }
}

/// Where a member is to be dialed. What makes no sense is said and passed over.
fn urls(id: u64, peer_urls: &[String]) -> Vec<PeerUrl> {
    let parse = |text: &String| match text.parse() {
        Ok(url) => Some(url),
        Err(error) => {
            eprintln!("warning: member {id:x}: {error}");
            None
        }
    };
    peer_urls.iter().filter_map(parse).collect()
}

impl Inner {
    fn link(&self, id: u64) -> Option<Rc<Link>> {
        self.links.borrow().get(&id).cloned()
    }

    fn dial_from_now_on(self: &Rc<Self>, id: u64, urls: Vec<PeerUrl>) -> Rc<Link> {
        let link = Link::new(id, urls, self.metrics.of(id));
        self.links.borrow_mut().insert(id, Rc::clone(&link));
        spawn_local(Rc::clone(self).keep(Rc::clone(&link)));
        link
    }

    /// The link to a peer that has connected. Who is of the cluster and is not known yet is dialed,
    /// too, as long as it is connected: there may be answers for it. There are not many of those.
    fn link_of(self: &Rc<Self>, id: u64, peer_urls: &[String]) -> Option<Rc<Link>> {
        if let Some(link) = self.link(id) {
            return Some(link);
        }
        let room = self.links.borrow().len() < 2 * mainstay_raft::MEMBERS;
        room.then(|| self.dial_from_now_on(id, urls(id, peer_urls)))
    }

    /// A peer that has connected is gone. If it never became a member, it is not dialed any more.
    fn forget_guest(&self, link: &Rc<Link>) {
        let id = link.id();
        let is_current = self.link(id).is_some_and(|current| Rc::ptr_eq(&current, link));
        if is_current && !self.roster.borrow().contains(id) {
            self.links.borrow_mut().remove(&id);
            link.end(None);
            self.metrics.forget(id);
        }
    }

    /// These requests to `peer` are not going to be answered by it: says so, a moment later, so that
    /// whoever tries again at once does not go round in circles.
    fn bounce(self: &Rc<Self>, peer: u64, numbers: Vec<u64>, error: &StoreError) {
        let answer = |number| PeerMessage::Answer { number, outcome: Err(error.clone()), index: 0 };
        let answers = numbers.into_iter().map(|number| (peer, answer(number)));
        self.bounced.borrow_mut().extend(answers);
        if !self.bounced.borrow().is_empty() && !self.is_bouncing.replace(true) {
            spawn_local(Rc::clone(self).deliver_bounced());
        }
    }

    async fn deliver_bounced(self: Rc<Self>) {
        sleep(limits::BOUNCE_DELAY).await;
        self.is_bouncing.set(false);
        let mut by_peer: BTreeMap<u64, Vec<PeerMessage>> = BTreeMap::new();
        for (peer, answer) in std::mem::take(&mut *self.bounced.borrow_mut()) {
            by_peer.entry(peer).or_default().push(answer);
        }
        for (peer, answers) in by_peer {
            self.handler.messages(peer, answers);
        }
    }
}
