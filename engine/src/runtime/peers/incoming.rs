//! The connections that other members have opened to this one, for what they have to say.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use futures_util::future::{Either, select};
use futures_util::io::AsyncWriteExt;
use futures_util::poll;

use super::Inner;
use super::connection::{Ended, receive, say_goodbye, send_output, shake_hands};
use super::limits::{ACCEPT_RETRY, HANDSHAKE_TIMEOUT, IDLE_MS, PING_INTERVAL, STRANGERS};
use super::link::Link;
use super::network::{BoxedStream, Incoming, PeerListener};
use crate::error::StoreError;
use crate::peer::session::removed;
use crate::peer::{Event, PeerFacts, PeerMessage, RefusalReason, Session, limits, wire};
use crate::runtime::pacing::Pacing;
use crate::runtime::spawn_local;
use crate::runtime::timer::{monotonic_ms, sleep, timeout};

/// One more who has not said who it is; until it is dropped.
struct Stranger(Rc<Inner>);

impl Stranger {
    fn new(inner: &Rc<Inner>) -> Option<Stranger> {
        let strangers = inner.strangers.get();
        if strangers >= STRANGERS {
            return None;
        }
        inner.strangers.set(strangers + 1);
        Some(Stranger(Rc::clone(inner)))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.set(self.0.strangers.get() - 1);
    }
}

impl Inner {
    /// Takes connections until the end.
    pub(super) async fn accept(self: Rc<Self>, listener: Box<dyn PeerListener>) {
        while !self.is_stopped.get() {
            // Nobody tells when to stop: it looks.
            match timeout(PING_INTERVAL, listener.accept()).await {
                None => {}
                Some(Ok(incoming)) => {
                    // Who comes when there are too many is cut off, and comes again.
                    if let Some(stranger) = Stranger::new(&self) {
                        spawn_local(Rc::clone(&self).serve(incoming, stranger));
                    }
                }
                Some(Err(error)) => {
                    eprintln!("warning: can't accept a peer's connection: {error}");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, incoming: Incoming, stranger: Stranger) {
        let Incoming { address, stream } = incoming;
        let ended = match timeout(HANDSHAKE_TIMEOUT, stream).await {
            Some(Ok(stream)) => self.meet(stream, stranger).await,
            Some(Err(error)) => Err(error.into()),
            None => Err(Ended::TooSlow("its TLS handshake takes too long")),
        };
        match ended {
            // Members come and go: the other direction says so.
            Ok(()) | Err(Ended::Over | Ended::Closed(false)) => {}
            Err(_) if self.is_stopped.get() => {}
            Err(ended) => eprintln!("warning: connection of a peer from {address}: {ended}"),
        }
    }

    /// Finds out who is there, and hears what it has to say.
    async fn meet(
        self: &Rc<Self>,
        mut stream: BoxedStream,
        stranger: Stranger,
    ) -> Result<(), Ended> {
        let mut session = Session::accept(self.own.clone());
        let roster = || self.roster.borrow().clone();
        let peer = shake_hands(&mut stream, &mut session, &roster).await?;
        if peer.identity.member_id == 0 {
            return self.answer_join(stream, session).await;
        }
        drop(stranger);
        let link = self.link_of(peer.identity.member_id, &peer.peer_urls).ok_or(Ended::Over)?;
        let (number, lost) = link.heard();
        self.bounce(peer.identity.member_id, lost, &StoreError::LeaderChanged);
        let ended = self.hear(&link, number, &peer, &mut stream, &mut session).await;
        let lost = link.unheard(number);
        self.bounce(peer.identity.member_id, lost, &StoreError::LeaderChanged);
        if !link.is_heard() {
            self.forget_guest(&link);
        }
        if matches!(ended, Ended::Session(_) | Ended::Closed(true) | Ended::TooSlow(_)) {
            link.counters().received_failed();
        }
        if link.is_ended() && self.roster.borrow().has_removed(peer.identity.member_id) {
            session.refuse(RefusalReason::Removed, removed(peer.identity.member_id));
        }
        say_goodbye(&mut stream, &mut session).await;
        Err(ended)
    }

    /// Hands on what comes, until something goes wrong.
    async fn hear(
        &self,
        link: &Link,
        number: u64,
        peer: &PeerFacts,
        stream: &mut BoxedStream,
        session: &mut Session,
    ) -> Ended {
        let received_ms = Cell::new(monotonic_ms());
        let watch = pin!(async {
            loop {
                sleep(PING_INTERVAL).await;
                if self.is_stopped.get() || link.is_ended() || !link.is_heard_by(number) {
                    return Ended::Over;
                }
                if monotonic_ms().saturating_sub(received_ms.get()) > IDLE_MS {
                    return Ended::TooSlow("nothing is heard any more");
                }
            }
        });
        let from = peer.identity.member_id;
        let hear = pin!(async {
            let mut pacing = Pacing::begin();
            loop {
                let messages = match self.events(link, session) {
                    Ok(messages) => messages,
                    Err(ended) => return ended,
                };
                if !messages.is_empty() {
                    self.handler.messages(from, messages);
                }
                if let Err(error) = send_output(stream, session).await {
                    return error.into();
                }
                let received = {
                    let mut receiving = pin!(receive(stream, session));
                    match poll!(&mut receiving) {
                        // Much may come in one go, and others have work, too.
                        Poll::Ready(received) => {
                            pacing.pause().await;
                            received
                        }
                        Poll::Pending => {
                            let received = receiving.await;
                            pacing = Pacing::begin();
                            received
                        }
                    }
                };
                match received {
                    Ok(count) => link.counters().received(count),
                    Err(ended) => return ended,
                }
                received_ms.set(monotonic_ms());
            }
        });
        match select(hear, watch).await {
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
        }
    }

    /// What was said in what has been received.
    fn events(&self, link: &Link, session: &mut Session) -> Result<Vec<PeerMessage>, Ended> {
        let mut messages = Vec::new();
        // A replaced connection has nothing to say any more, least of all of answers.
        while let Some(event) = session.next_event(&self.roster.borrow())? {
            match event {
                Event::Message(PeerMessage::Answer { number, .. }) if !link.answered(number) => {}
                Event::Message(message) => messages.push(message),
                Event::JoinQuestion(_) | Event::JoinAnswer(_) => {}
                Event::Opened(_) | Event::Pong(_) => {}
            }
        }
        Ok(messages)
    }

    /// Somebody who is no member asks who is one.
    async fn answer_join(
        &self,
        mut stream: BoxedStream,
        mut session: Session,
    ) -> Result<(), Ended> {
        let question = async {
            loop {
                let event = session.next_event(&self.roster.borrow())?;
                match event {
                    Some(Event::JoinQuestion(peer_urls)) => return Ok::<_, Ended>(peer_urls),
                    Some(_) => {}
                    None => drop(receive(&mut stream, &mut session).await?),
                }
            }
        };
        let question = timeout(HANDSHAKE_TIMEOUT, question).await;
        let peer_urls = question.ok_or(Ended::TooSlow("it does not ask what it came for"))??;
        let version = session.peer().map_or(crate::peer::NEWEST_VERSION, |peer| peer.version);
        let answer = self.handler.join(&peer_urls);
        match answer.and_then(|answer| wire::join_answer(&answer, version)) {
            Some(mut answer) => {
                let mut bytes = Vec::with_capacity(limits::FRAME_BYTES);
                while !answer.write_frame(&mut bytes) {}
                let written = async {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                };
                let too_slow = Ended::TooSlow("it does not take the answer");
                timeout(HANDSHAKE_TIMEOUT, written).await.ok_or(too_slow)??;
            }
            None => {
                let text = "this member does not know for certain who is a member: ask again, or \
                            ask another one";
                session.refuse(RefusalReason::NotReady, text.to_owned());
            }
        }
        say_goodbye(&mut stream, &mut session).await;
        Ok(())
    }
}
