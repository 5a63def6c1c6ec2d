//! HTTP/1.1 and HTTP/2 on one connection of this core.
//!
//! [`Server::serve_connection`] is the one way in, whatever the stream (plain or TLS). It finds
//! out which of the two the client speaks, enforces [`limits`](super::limits) and calls the
//! handler once for each request; requests of one connection run beside each other.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use rustls::pki_types::CertificateDer;

use super::body::{BoxedBody, RequestBody};
use super::http2::PREFACE;
use super::http2::driver::{self, DriveError, World};
use super::rt::{CoreTimer, HyperStream, ReadBuffer, read_buffer};
use super::{Bounds, limits};

/// What is known about the client of a connection, for every request on it.
#[derive(Debug, Clone, Default)]
pub struct ConnectionInfo {
    pub peer_address: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The client's certificate and what it sent to prove it, its own first. Verified against
    /// the client CA; empty when it sent none.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// Which protocol was negotiated by ALPN, if any.
    pub protocol: Option<Protocol>,
    /// How many watchers its streams have, where a door counts them.
    pub watchers: Cell<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// What all connections of a core share.
#[derive(Clone)]
pub struct Server {
    timer: CoreTimer,
    buffer: ReadBuffer,
    shutdown: Shutdown,
    bounds: Bounds,
}

/// Why a connection ended before its time. Nobody but a log wants to know.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("the client sent nothing for {} s", limits::FIRST_BYTES_TIMEOUT.as_secs())]
    Silent,
    #[error("the head of a request took longer than {} s", limits::FIRST_HEAD_TIMEOUT.as_secs())]
    SlowHead,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http1(#[from] hyper::Error),
    #[error("{0}")]
    Http2(#[from] DriveError),
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// One for each core and door. Connections end gracefully once `shutdown` is requested.
    pub fn new(shutdown: Shutdown, bounds: Bounds) -> Server {
        Server { timer: CoreTimer::default(), buffer: read_buffer(), shutdown, bounds }
    }

    /// The buffer that its connections read into.
    pub(super) fn buffer(&self) -> &ReadBuffer {
        &self.buffer
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Serves one connection until the client closes it, it breaks, or shutdown.
    ///
    /// `handler` is called once for each request, with the facts about the connection. Its future
    /// runs on this core beside those of other requests and is dropped when the client gives up;
    /// it need not be `Send`. The body of its answer may stream ([`BoxedBody::stream`]).
    pub async fn serve_connection<S, H, F>(
        &self,
        mut stream: S,
        info: Rc<ConnectionInfo>,
        handler: H,
    ) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
        F: Future<Output = Response<BoxedBody>> + 'static,
    {
        let (protocol, prefix) = match info.protocol {
            Some(protocol) => (protocol, Bytes::new()),
            None => timer::timeout(limits::FIRST_BYTES_TIMEOUT, detect(&mut stream))
                .await
                .ok_or(ConnectionError::Silent)??,
        };
        let handler = move |request, info| guarded(handler(request, info));
        match protocol {
            Protocol::Http1 => self.serve_http1(stream, prefix, info, handler).await,
            Protocol::Http2 => {
                let shutdown = self.shutdown.clone();
                let world = World {
                    sleep: |duration| Box::pin(timer::sleep(duration)),
                    wall_clock: timer::wall_clock,
                    monotonic_ms: timer::monotonic_ms,
                    shutdown: Box::pin(async move { shutdown.requested().await }),
                    buffer: self.buffer.clone(),
                };
                let handler = move |request| handler(request, info.clone());
                Ok(driver::serve(stream, &prefix, world, self.bounds, handler).await?)
            }
        }
    }

    async fn serve_http1<S, H, F>(
        &self,
        stream: S,
        prefix: Bytes,
        info: Rc<ConnectionInfo>,
        handler: H,
    ) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
        F: Future<Output = Response<BoxedBody>> + 'static,
    {
        let stream = HyperStream::new(stream, prefix, self.buffer.clone(), self.timer.clone());
        let asked = Rc::new(Cell::new(false));
        let has_asked = asked.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            asked.set(true);
            let answer = handler(request.map(RequestBody::Http1), info.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut connection = pin!(self.http1().serve_connection(stream, service));
        let mut shutdown = pin!(self.shutdown.requested());
        // hyper's own limit also counts the time between requests, so it is a long one.
        let mut head = Some(hyper::rt::Timer::sleep(&self.timer, limits::FIRST_HEAD_TIMEOUT));
        let ended = poll_fn(|context| {
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(result.map_err(ConnectionError::from)));
            }
            if shutdown.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            let in_time = head.as_mut().is_none_or(|head| head.as_mut().poll(context).is_pending());
            if in_time {
                return Poll::Pending;
            }
            head = None;
            if has_asked.get() {
                return Poll::Pending;
            }
            Poll::Ready(Some(Err(ConnectionError::SlowHead)))
        });
        match ended.await {
            Some(result) => return result,
            None => connection.as_mut().graceful_shutdown(),
        }
        bounded(connection).await
    }

    fn http1(&self) -> hyper::server::conn::http1::Builder {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(self.timer.clone())
            .header_read_timeout(limits::IDLE_TIMEOUT)
            .max_buf_size(limits::HTTP1_HEADER_BYTES)
            // As Go's server: who closes has gone, and what streams to him ends. Nothing else would
            // tell when there is nothing to write, and a watch may be silent for days.
            .half_close(false);
        builder
    }
}

/// Lets a handler that panics cost its own request and nothing else. What must not be used after a
/// panic guards itself: the store ends the process.
async fn guarded<F>(answer: F) -> Response<BoxedBody>
where
    F: Future<Output = Response<BoxedBody>>,
{
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            let mut answer = Response::new(BoxedBody::full("the server made a mistake\n"));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    }
}

/// The rest of a connection that was asked to end, as long as it may take.
async fn bounded<C>(connection: C) -> Result<(), ConnectionError>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    match timer::timeout(limits::SHUTDOWN_GRACE, connection).await {
        Some(result) => Ok(result?),
        None => Ok(()),
    }
}

/// Reads until it is clear what the client speaks; gives back what was read.
pub(super) async fn detect<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> std::io::Result<(Protocol, Bytes)> {
    let mut buffer = [0; PREFACE.len()];
    let mut length = 0;
    while length < buffer.len() && PREFACE.starts_with(&buffer[..length]) {
        match stream.read(&mut buffer[length..]).await? {
            0 => break,
            read => length += read,
        }
    }
    let protocol = if buffer[..length] == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((protocol, Bytes::copy_from_slice(&buffer[..length])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::io::Cursor;

    #[test]
    fn a_panic_costs_one_request() {
        let panics = guarded(async { panic!("on purpose") });
        let answer = panics.now_or_never().expect("no waiting");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let works = guarded(async { Response::new(BoxedBody::empty()) });
        assert_eq!(works.now_or_never().expect("no waiting").status(), StatusCode::OK);
    }

    #[test]
    fn the_preface_tells_http2_from_http1() {
        for (sent, protocol) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Protocol::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Protocol::Http2),
            (b"PRI * HTTP/1.1\r\n\r\n", Protocol::Http1),
            (b"PRI * HTTP/2.0\r\n", Protocol::Http1),
            (b"", Protocol::Http1),
            (b"P", Protocol::Http1),
        ] {
            let mut stream = Cursor::new(sent);
            let (detected, read) =
                detect(&mut stream).now_or_never().expect("no waiting").expect("no error");
            assert_eq!(detected, protocol, "{sent:?}");
            assert!(sent.starts_with(&read) && read.len() <= PREFACE.len());
        }
    }
}
