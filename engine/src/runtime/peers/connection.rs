//! What both kinds of connections do alike: bytes from the socket to a session, and its words out.

use std::io;

use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::limits::{HANDSHAKE_TIMEOUT, LINGER};
use super::network::BoxedStream;
use crate::peer::{Event, PeerFacts, Roster, Session, SessionError};
use crate::runtime::timer::timeout;

/// Why a connection ended, or did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("the other end closed it{}", if *.0 { " in the middle of a message" } else { "" })]
    Closed(bool),
    #[error("{0}")]
    TooSlow(&'static str),
    /// There is another one in its place, or no need for it any more.
    #[error("it is not needed any more")]
    Over,
}

/// Receives once. How many bytes there were.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    session: &mut Session,
) -> Result<usize, Ended> {
    let count = stream.read(session.space()).await?;
    if count == 0 {
        return Err(Ended::Closed(session.is_within_message()));
    }
    session.filled(count);
    Ok(count)
}

/// Sends what the session has to say itself.
pub(super) async fn send_output(
    stream: &mut (impl AsyncWrite + Unpin),
    session: &mut Session,
) -> io::Result<()> {
    let output = session.take_output();
    if !output.is_empty() {
        stream.write_all(&output).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// The greetings of both ends, within their time: who is at the other one.
pub(super) async fn shake_hands(
    stream: &mut BoxedStream,
    session: &mut Session,
    roster: &dyn Fn() -> Roster,
) -> Result<PeerFacts, Ended> {
    let greetings = async {
        loop {
            send_output(stream, session).await?;
            receive(stream, session).await?;
            match session.next_event(&roster()) {
                Ok(None) => {}
                Ok(Some(Event::Opened(peer))) => {
                    send_output(stream, session).await?;
                    return Ok(peer);
                }
                Ok(Some(other)) => unreachable!("nothing comes before a greeting: {other:?}"),
                Err(error) => return Err(Ended::Session(error)),
            }
        }
    };
    let greeted = timeout(HANDSHAKE_TIMEOUT, greetings).await;
    let greeted = greeted.unwrap_or(Err(Ended::TooSlow("it does not say who it is")));
    if greeted.is_err() {
        say_goodbye(stream, session).await;
    }
    greeted
}

/// Tells the other end why, if it wants to hear it, and closes.
pub(super) async fn say_goodbye(stream: &mut (impl AsyncWrite + Unpin), session: &mut Session) {
    let goodbye = async {
        let _gone = send_output(stream, session).await;
        let _gone = stream.close().await;
    };
    let _too_slow = timeout(LINGER, goodbye).await;
}
