//! One end of a connection between members: bytes in, events and bytes out.
//!
//! Whoever dials greets first. The other end looks whether it is the one that was meant, and whether
//! the greeter is of its cluster; if so it greets back, and if not it says why and closes. Both then speak the
//! newest version of the protocol that both know. On a connection the dialer sends the messages; the
//! other end answers pings, and has a connection of its own for what it has to say.

use std::collections::BTreeSet;

use super::frame::{FrameError, Kind, Reader, Received};
use super::message::{Hello, Identity, JoinAnswer, PeerMessage, Refusal, RefusalReason};
use super::wire::{self, WireError};
use super::{LEAST_VERSION, NEWEST_VERSION};

/// Removed members that are remembered, to be told so. Who is forgotten is told that nobody knows it.
const REMOVED: usize = 1024;

/// Whom a member talks to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    members: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

impl Roster {
    /// These were removed, as is known from before.
    pub fn note_removed(&mut self, ids: impl IntoIterator<Item = u64>) {
        self.removed.extend(ids.into_iter().filter(|id| !self.members.contains(id)));
        while self.removed.len() > REMOVED {
            self.removed.pop_first();
        }
    }

    /// These are the members now. Gives those that are not any more.
    pub fn update(&mut self, members: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let members: BTreeSet<u64> = members.into_iter().collect();
        let gone: Vec<u64> = self.members.difference(&members).copied().collect();
        self.members = members;
        self.removed = self.removed.difference(&self.members).copied().collect();
        self.note_removed(gone.iter().copied());
        gone
    }

    pub fn contains(&self, id: u64) -> bool {
        self.members.contains(&id)
    }

    pub fn has_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    pub identity: Identity,
    /// Of the protocol, for this connection.
    pub version: u16,
    /// Where a dialer itself can be dialed.
    pub peer_urls: Vec<String>,
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// Both ends know each other.
    Opened(PeerFacts),
    Message(PeerMessage),
    /// A ping of this number has come back.
    Pong(u64),
    /// Somebody with these peer URLs wants to know who is a member.
    JoinQuestion(Vec<String>),
    JoinAnswer(JoinAnswer),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The other end says so.
    #[error("it refuses: {}", .0.text)]
    Refused(Refusal),
    /// This end says so.
    #[error("refused: {}", .0.text)]
    Refusing(Refusal),
    #[error("a {0:?} message where none may be")]
    Unexpected(Kind),
    #[error("a message of member {found:x} to member {to:x} on the connection of member {from:x}")]
    Impostor { from: u64, found: u64, to: u64 },
}

impl SessionError {
    /// Whether the other end says that this member was removed from the cluster.
    pub fn says_removed(&self) -> bool {
        matches!(self, SessionError::Refused(refusal) if refusal.reason == RefusalReason::Removed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Called this member, or (0) anybody, to ask who is a member.
    Dialer(u64),
    Acceptor,
}

#[derive(Debug)]
enum State {
    Greeting,
    Open(PeerFacts),
    Over,
}

/// One end of a connection.
pub struct Session {
    own: Identity,
    side: Side,
    reader: Reader,
    state: State,
    output: Vec<u8>,
}

impl Session {
    /// The end that dialed member `to`, and can itself be dialed at `peer_urls`.
    pub fn dial(own: Identity, peer_urls: Vec<String>, to: u64) -> Session {
        let mut session = Session::new(own, Side::Dialer(to));
        session.greet(to, peer_urls);
        session
    }

    /// The end of somebody who is no member yet and asks who is one.
    pub fn ask_to_join(name: &str) -> Session {
        let own = Identity { name: name.to_owned(), ..Identity::default() };
        Session::dial(own, Vec::new(), 0)
    }

    /// The end that was dialed.
    pub fn accept(own: Identity) -> Session {
        Session::new(own, Side::Acceptor)
    }

    fn new(own: Identity, side: Side) -> Session {
        let (reader, state, output) = (Reader::default(), State::Greeting, Vec::new());
        Session { own, side, reader, state, output }
    }

    fn greet(&mut self, to: u64, peer_urls: Vec<String>) {
        let (least_version, newest_version) = (LEAST_VERSION, NEWEST_VERSION);
        let identity = self.own.clone();
        let hello = Hello { identity, to, least_version, newest_version, peer_urls };
        self.output.extend(wire::hello(&hello));
    }

    /// Where received bytes go; see [`Reader::space`].
    pub fn space(&mut self) -> &mut [u8] {
        self.reader.space()
    }

    /// So many bytes were received there.
    pub fn filled(&mut self, count: usize) {
        self.reader.filled(count);
    }

    /// Whether the other end stopped in the middle of something.
    pub fn is_within_message(&self) -> bool {
        self.reader.is_within_message()
    }

    /// What the session itself has to say, to be sent before anything else, and before the
    /// connection is closed because of an error.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Who is at the other end, once that is known.
    pub fn peer(&self) -> Option<&PeerFacts> {
        match &self.state {
            State::Open(peer) => Some(peer),
            State::Greeting | State::Over => None,
        }
    }

    /// Tells the other end why it is not talked to any more.
    pub fn refuse(&mut self, reason: RefusalReason, text: String) {
        self.output.extend(wire::refusal(&Refusal { reason, text }));
        self.state = State::Over;
    }

    /// The next event in what was received. After an error there is nothing more.
    pub fn next_event(&mut self, roster: &Roster) -> Result<Option<Event>, SessionError> {
        let event = self.event(roster);
        if let Err(error) = &event {
            self.explain(error);
            self.state = State::Over;
        }
        event
    }

    fn event(&mut self, roster: &Roster) -> Result<Option<Event>, SessionError> {
        if matches!(self.state, State::Over) {
            return Ok(None);
        }
        while let Some(received) = self.reader.next_message()? {
            if received.kind == Kind::Refused {
                return Err(SessionError::Refused(wire::decode_refusal(&received)?));
            }
            match &self.state {
                State::Greeting => return self.greeted(&received, roster).map(Some),
                State::Open(peer) => {
                    let peer = peer.clone();
                    if let Some(event) = self.opened(&received, &peer)? {
                        return Ok(Some(event));
                    }
                }
                State::Over => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Says to the other end what is wrong, unless it was it who said so.
    fn explain(&mut self, error: &SessionError) {
        let refusal = match error {
            SessionError::Refused(_) => return,
            SessionError::Refusing(refusal) => refusal.clone(),
            other => Refusal { reason: RefusalReason::Malformed, text: other.to_string() },
        };
        self.output.extend(wire::refusal(&refusal));
    }

    fn greeted(&mut self, received: &Received, roster: &Roster) -> Result<Event, SessionError> {
        let hello = wire::decode_hello(received)?;
        let version = self.check(&hello, roster).map_err(SessionError::Refusing)?;
        if self.side == Side::Acceptor {
            self.greet(hello.identity.member_id, Vec::new());
        }
        self.reader.agree(version);
        let Hello { identity, peer_urls, .. } = hello;
        let peer = PeerFacts { identity, version, peer_urls };
        self.state = State::Open(peer.clone());
        Ok(Event::Opened(peer))
    }

    /// Whether this is somebody to talk to, and in which version. One that nobody here has heard of
    /// is, if it is of the cluster: it may even lead by now, and bring the news of itself.
    fn check(&self, hello: &Hello, roster: &Roster) -> Result<u16, Refusal> {
        let refuse = |reason, text| Err(Refusal { reason, text });
        let (own, other) = (&self.own, &hello.identity);
        let version = hello.newest_version.min(NEWEST_VERSION);
        if version < hello.least_version.max(LEAST_VERSION) {
            let (least, newest) = (hello.least_version, hello.newest_version);
            let text = format!(
                "{} speaks versions {least} to {newest} of the peer protocol, {} speaks \
                 {LEAST_VERSION} to {NEWEST_VERSION}: upgrade the older one",
                person(other),
                person(own),
            );
            return refuse(RefusalReason::Version, text);
        }
        // Somebody who asks to join, at either end, knows nothing yet.
        let asks = match self.side {
            Side::Dialer(to) => to == 0,
            Side::Acceptor => other.member_id == 0,
        };
        if asks {
            return Ok(version);
        }
        if own.cluster_id != other.cluster_id {
            let text = format!(
                "cluster ID mismatch: {} is of cluster {:x}, {} of cluster {:x}. Their \
                 --initial-cluster or --initial-cluster-token differed when they began, or a data \
                 directory is of another cluster",
                person(own),
                own.cluster_id,
                person(other),
                other.cluster_id,
            );
            return refuse(RefusalReason::OtherCluster, text);
        }
        match self.side {
            Side::Dialer(to) if other.member_id != to => {
                let text = format!(
                    "{} is at the peer URL of member {to:x}: correct its peer URLs (member update)",
                    person(other),
                );
                refuse(RefusalReason::OtherMember, text)
            }
            Side::Acceptor if hello.to != own.member_id => {
                let text = format!(
                    "{} is at the peer URL of member {:x}: correct its peer URLs (member update)",
                    person(own),
                    hello.to,
                );
                refuse(RefusalReason::OtherMember, text)
            }
            Side::Acceptor if roster.has_removed(other.member_id) => {
                refuse(RefusalReason::Removed, removed(other.member_id))
            }
            Side::Dialer(_) | Side::Acceptor => Ok(version),
        }
    }

    fn opened(
        &mut self,
        received: &Received,
        peer: &PeerFacts,
    ) -> Result<Option<Event>, SessionError> {
        let is_guest = peer.identity.member_id == 0 || self.side == Side::Dialer(0);
        match (received.kind, self.side) {
            (Kind::Ping, _) => {
                let number = wire::decode_ping(received)?;
                self.output.extend(wire::ping(Kind::Pong, peer.version, number));
                Ok(None)
            }
            (Kind::Pong, _) => Ok(Some(Event::Pong(wire::decode_ping(received)?))),
            (Kind::JoinQuestion, Side::Acceptor) => {
                Ok(Some(Event::JoinQuestion(wire::decode_join_question(received)?)))
            }
            (Kind::JoinAnswer, Side::Dialer(0)) => {
                Ok(Some(Event::JoinAnswer(wire::decode_join_answer(received)?)))
            }
            (
                Kind::Raft | Kind::Append | Kind::Snapshot | Kind::Request | Kind::Answer,
                Side::Acceptor,
            ) if !is_guest => {
                let message = wire::decode(received)?;
                self.check_sender(&message, peer)?;
                Ok(Some(Event::Message(message)))
            }
            (kind, _) => Err(SessionError::Unexpected(kind)),
        }
    }

    /// Nobody speaks for anybody else.
    fn check_sender(&self, message: &PeerMessage, peer: &PeerFacts) -> Result<(), SessionError> {
        let PeerMessage::Raft(message) = message else { return Ok(()) };
        let from = peer.identity.member_id;
        if message.from != from || message.to != self.own.member_id {
            let (found, to) = (message.from, message.to);
            return Err(SessionError::Impostor { from, found, to });
        }
        Ok(())
    }
}

/// What a member is told that was removed.
pub fn removed(id: u64) -> String {
    format!(
        "member {id:x} was removed from the cluster for good: add it anew, with an empty data directory"
    )
}

fn person(identity: &Identity) -> String {
    if identity.name.is_empty() {
        format!("member {:x}", identity.member_id)
    } else {
        format!("member {:x} ({})", identity.member_id, identity.name)
    }
}
