//! The connection that this member has dialed to another one, for what it has to say.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Inner;
use super::backoff::Backoff;
use super::connection::{Ended, receive, shake_hands};
use super::limits::{DIAL_TIMEOUT, LINGER, PING_INTERVAL, REMOVED_PAUSE, SILENCE_MS, WRITE_MS};
use super::metrics::PeerCounters;
use super::network::BoxedStream;
use crate::error::StoreError;
use crate::peer::frame::Kind;
use crate::peer::outbox::Pushed;
use crate::peer::{
    Event, Outbox, PeerMessage, PeerUrl, Refusal, RefusalReason, Roster, Session, limits, wire,
};
use crate::runtime::local::Flag;
use crate::runtime::pacing::Pacing;
use crate::runtime::random;
use crate::runtime::timer::{monotonic_ms, monotonic_us, sleep, timeout};

/// One peer.
pub(super) struct Link {
    id: u64,
    urls: RefCell<Vec<PeerUrl>>,
    outbox: RefCell<Outbox>,
    /// There is something to be sent, or the end has come.
    wake: Flag,
    /// The peer has just been heard of: it can be dialed.
    hurry: Flag,
    is_ended: Cell<bool>,
    /// Counts the connections that the peer has opened, and whether the last one is open.
    heard: Cell<(u64, bool)>,
    counters: Arc<PeerCounters>,
}

impl Link {
    pub(super) fn new(id: u64, urls: Vec<PeerUrl>, counters: Arc<PeerCounters>) -> Rc<Link> {
        Rc::new(Link {
            id,
            urls: RefCell::new(urls),
            outbox: RefCell::default(),
            wake: Flag::default(),
            hurry: Flag::default(),
            is_ended: Cell::new(false),
            heard: Cell::default(),
            counters,
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn set_urls(&self, urls: Vec<PeerUrl>) {
        *self.urls.borrow_mut() = urls;
    }

    pub(super) fn counters(&self) -> &PeerCounters {
        &self.counters
    }

    pub(super) fn push(&self, message: &PeerMessage) -> Pushed {
        let pushed = self.outbox.borrow_mut().push(message);
        match pushed {
            Pushed::Queued => {}
            Pushed::Dropped(count) => self.counters.sent_failed(count),
            Pushed::Refused(_) => self.counters.sent_failed(1),
        }
        self.wake.raise();
        pushed
    }

    /// There are connections in both directions.
    pub(super) fn is_whole(&self) -> bool {
        self.outbox.borrow().is_connected() && self.heard.get().1
    }

    /// The peer has opened a connection. Gives its number, and the requests whose answers were lost
    /// with the one before.
    pub(super) fn heard(&self) -> (u64, Vec<u64>) {
        let (number, was_open) = self.heard.get();
        self.heard.set((number + 1, true));
        let mut outbox = self.outbox.borrow_mut();
        let lost = if was_open { outbox.set_heard(false) } else { Vec::new() };
        outbox.set_heard(true);
        self.hurry.raise();
        (number + 1, lost)
    }

    /// The peer has a connection to here.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.get().1
    }

    /// Whether the connection of this number is the newest one.
    pub(super) fn is_heard_by(&self, number: u64) -> bool {
        self.heard.get().0 == number
    }

    /// The connection of this number is over. Gives the requests whose answers were lost with it.
    pub(super) fn unheard(&self, number: u64) -> Vec<u64> {
        if !self.is_heard_by(number) {
            return Vec::new();
        }
        self.heard.set((number, false));
        self.outbox.borrow_mut().set_heard(false)
    }

    /// Whether the request of this number is to be answered, and is from now on answered.
    pub(super) fn answered(&self, number: u64) -> bool {
        self.outbox.borrow_mut().answered(number)
    }

    /// There is nothing more to say to this peer, but why.
    pub(super) fn end(&self, why: Option<String>) {
        self.is_ended.set(true);
        let mut outbox = self.outbox.borrow_mut();
        if let (Some(text), true) = (why, outbox.is_connected()) {
            let reason = RefusalReason::Removed;
            outbox.say(&wire::refusal(&Refusal { reason, text }));
        }
        self.wake.raise();
        self.hurry.raise();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.get()
    }
}

/// What a connection's tasks share.
struct Progress {
    heard_ms: Cell<u64>,
    /// When the write began that is under way.
    writing_ms: Cell<Option<u64>>,
}

impl Inner {
    /// Keeps a connection to this peer until it is no member any more.
    pub(super) async fn keep(self: Rc<Self>, link: Rc<Link>) {
        let mut backoff = Backoff::new(random().unwrap_or_default() ^ link.id);
        let mut said = String::new();
        let mut attempt = 0;
        while !link.is_ended() {
            let url = {
                let urls = link.urls.borrow();
                urls.get(attempt % urls.len().max(1)).cloned()
            };
            attempt += 1;
            let ended = match &url {
                Some(url) => self.dial(&link, url).await,
                None => Err(Ended::TooSlow("it has no peer URL")),
            };
            let (ended, was_open) = match ended {
                Ok((stream, session)) => {
                    backoff.reset();
                    said.clear();
                    (self.talk(&link, stream, session).await, true)
                }
                Err(ended) => (ended, false),
            };
            self.lost(&link);
            if was_open {
                self.handler.lost(link.id);
            }
            if link.is_ended() {
                return;
            }
            let place = url.map_or_else(String::new, |url| format!(" at {url}"));
            let text = format!("member {:x}{place}: {ended}", link.id);
            // Once, and not at each attempt.
            if said != text {
                let what = if was_open { "lost the connection to" } else { "can't reach" };
                eprintln!("warning: {what} {text}");
                said = text;
            }
            let removed = matches!(&ended, Ended::Session(error) if error.says_removed());
            if removed {
                self.handler.removed(link.id);
            }
            let pause = if removed { REMOVED_PAUSE } else { backoff.next_pause() };
            // What was heard before does not count.
            link.hurry.lower();
            let _heard_of = timeout(pause, link.hurry.lowered()).await;
        }
    }

    /// Takes note that there is no connection.
    fn lost(self: &Rc<Self>, link: &Link) {
        link.counters.disconnected();
        let lost = link.outbox.borrow_mut().disconnect();
        self.bounce(link.id, lost, &StoreError::LeaderChanged);
    }

    async fn dial(&self, link: &Link, url: &PeerUrl) -> Result<(BoxedStream, Session), Ended> {
        let dialed = timeout(DIAL_TIMEOUT, self.network.dial(url)).await;
        let mut stream = dialed.ok_or(Ended::TooSlow("it does not answer"))??;
        let own_urls = self.own_urls.borrow().clone();
        let mut session = Session::dial(self.own.clone(), own_urls, link.id);
        let peer = shake_hands(&mut stream, &mut session, &Roster::default).await?;
        if link.is_ended() {
            return Err(Ended::Over);
        }
        link.outbox.borrow_mut().connect(peer.version);
        link.counters.connected();
        Ok((stream, session))
    }

    /// Sends what there is, until something goes wrong.
    async fn talk(&self, link: &Link, stream: BoxedStream, session: Session) -> Ended {
        let now_ms = monotonic_ms();
        let progress = Progress { heard_ms: Cell::new(now_ms), writing_ms: Cell::new(None) };
        let (reader, mut writer) = stream.split();
        let ended = {
            let write = pin!(write(link, &mut writer, &progress));
            let read = pin!(listen(link, reader, session, &progress));
            let watch = pin!(watch(link, &progress));
            match select(write, select(read, watch)).await {
                Either::Left((ended, _))
                | Either::Right((Either::Left((ended, _)) | Either::Right((ended, _)), _)) => ended,
            }
        };
        let _too_slow = timeout(LINGER, writer.close()).await;
        ended
    }
}

/// Writes whatever waits, all of it in one piece.
async fn write(link: &Link, writer: &mut (impl AsyncWrite + Unpin), progress: &Progress) -> Ended {
    let mut batch = Vec::with_capacity(limits::BATCH_BYTES);
    let mut pacing = Pacing::begin();
    loop {
        link.outbox.borrow_mut().fill(&mut batch);
        if batch.is_empty() {
            if link.is_ended() {
                return Ended::Over;
            }
            link.wake.lowered().await;
            pacing = Pacing::begin();
            continue;
        }
        progress.writing_ms.set(Some(monotonic_ms()));
        let written = async {
            writer.write_all(&batch).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
        progress.writing_ms.set(None);
        link.counters.sent(batch.len());
        batch.clear();
        // The socket may take everything at once, and others have work, too.
        if !link.outbox.borrow().is_empty() {
            pacing.pause().await;
        }
    }
}

/// Hears what the other end has to say on this connection: that it is there, or why it is not.
async fn listen(
    link: &Link,
    mut reader: impl AsyncRead + Unpin,
    mut session: Session,
    progress: &Progress,
) -> Ended {
    let roster = Roster::default();
    loop {
        match session.next_event(&roster) {
            Ok(Some(Event::Pong(sent_us))) => {
                let now_us = monotonic_us();
                progress.heard_ms.set(now_us / 1000);
                link.counters.round_trip(now_us.saturating_sub(sent_us));
            }
            Ok(Some(_)) => {}
            Ok(None) => match receive(&mut reader, &mut session).await {
                Ok(count) => link.counters.received(count),
                Err(ended) => return ended,
            },
            Err(error) => return error.into(),
        }
        let output = session.take_output();
        if !output.is_empty() {
            link.outbox.borrow_mut().say(&output);
            link.wake.raise();
        }
    }
}

/// Looks now and then whether the connection still leads somewhere.
async fn watch(link: &Link, progress: &Progress) -> Ended {
    loop {
        let now_ms = monotonic_ms();
        if now_ms.saturating_sub(progress.heard_ms.get()) > SILENCE_MS {
            return Ended::TooSlow("it does not answer any more");
        }
        let since = progress.writing_ms.get();
        if since.is_some_and(|since| now_ms.saturating_sub(since) > WRITE_MS) {
            return Ended::TooSlow("it takes nothing of what is sent");
        }
        let ping = wire::ping(Kind::Ping, crate::peer::NEWEST_VERSION, monotonic_us());
        link.outbox.borrow_mut().say(&ping);
        link.wake.raise();
        sleep(PING_INTERVAL).await;
    }
}
