//! Bodies: of requests as they come, of answers whole or streamed by something on this core.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::held::{self, Held, Pressure};
use super::http2::ReceivedBody;
use super::limits::{HELD_BYTES_ALWAYS, RECEIVED_BYTES_PER_CORE};
use super::pace::Pace;

/// What a body that breaks off says.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// In the extensions of an answer: it is to a request that may have changed something. Whoever has no
/// room for it must not say that the request can be made again.
#[derive(Debug, Clone, Copy)]
pub struct Effective;

/// The body of an answer.
///
/// It need not be `Send`: a connection never leaves its core. A streamed body is polled only while
/// the connection has room for more, and dropped when the client is gone.
pub struct BoxedBody(Inner);

enum Inner {
    /// At most one data frame, then at most one set of trailers; the sum is known.
    Whole {
        data: Option<Bytes>,
        trailers: Option<Box<HeaderMap>>,
    },
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>),
}

impl fmt::Debug for BoxedBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BoxedBody").finish_non_exhaustive()
    }
}

impl BoxedBody {
    /// No body at all.
    pub fn empty() -> BoxedBody {
        BoxedBody(Inner::Whole { data: None, trailers: None })
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> BoxedBody {
        let bytes = bytes.into();
        let data = (!bytes.is_empty()).then_some(bytes);
        BoxedBody(Inner::Whole { data, trailers: None })
    }

    /// These bytes, then trailers: a unary gRPC answer.
    pub fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> BoxedBody {
        BoxedBody(Inner::Whole { data: Some(bytes), trailers: Some(Box::new(trailers)) })
    }

    /// Whether nothing of it has to be waited for.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.0, Inner::Whole { .. })
    }

    /// Bytes of it that are here already, and not at their source.
    pub(super) fn kept_bytes(&self) -> usize {
        match &self.0 {
            Inner::Whole { data, .. } => data.as_ref().map_or(0, Bytes::len),
            Inner::Streamed(_) => 0,
        }
    }

    /// Any body.
    pub fn new<B>(body: B) -> BoxedBody
    where
        B: Body<Data = Bytes, Error = BoxError> + 'static,
    {
        BoxedBody(Inner::Streamed(Box::pin(body)))
    }

    /// Each item of `stream` as one chunk; an error breaks the connection (HTTP/1.1) or resets the
    /// stream (HTTP/2).
    pub fn stream<S>(stream: S) -> BoxedBody
    where
        S: Stream<Item = Result<Bytes, BoxError>> + 'static,
    {
        BoxedBody::new(http_body_util::StreamBody::new(stream.map(|item| item.map(Frame::data))))
    }
}

impl Body for BoxedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Whole { data, trailers } => Poll::Ready(
                data.take()
                    .map(Frame::data)
                    .or_else(|| trailers.take().map(|trailers| Frame::trailers(*trailers)))
                    .map(Ok),
            ),
            Inner::Streamed(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Inner::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            // gRPC answers carry no content-length: trailers follow.
            Inner::Whole { trailers: Some(_), .. } => SizeHint::default(),
            Inner::Whole { data, trailers: None } => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            Inner::Streamed(body) => body.size_hint(),
        }
    }
}

/// The body of a request, while the client sends it.
///
/// The client is held up when nobody reads.
#[derive(Debug)]
pub enum RequestBody {
    Empty,
    Http1(Incoming),
    Http2(ReceivedBody),
    /// Not a client's own: made of what one sent.
    Made(BoxedBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Http1(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|result| result.map_err(BoxError::from))),
            RequestBody::Http2(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|result| result.map_err(BoxError::from))),
            RequestBody::Made(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Http1(body) => body.is_end_stream(),
            RequestBody::Http2(body) => body.is_end_stream(),
            RequestBody::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Http1(body) => body.size_hint(),
            RequestBody::Http2(body) => body.size_hint(),
            RequestBody::Made(body) => body.size_hint(),
        }
    }
}

/// Why a request's body could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// More than `limit` bytes.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// This core is receiving so much that it can't keep more.
    #[error("too many bytes of requests are being received at once, try again later")]
    Busy,
    /// The client takes too long.
    #[error("the request body comes too slowly")]
    Slow,
    /// The client went away or broke the protocol.
    #[error("the request body broke off: {0}")]
    Broken(BoxError),
}

/// Reads a whole body, at most `limit` bytes of it.
pub async fn collect<B>(body: B, limit: usize) -> Result<Bytes, CollectError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(CollectError::TooLarge { limit });
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut held = Held::received();
    let mut pace = Pace::default();
    loop {
        let next = std::future::poll_fn(|context| match body.as_mut().poll_frame(context) {
            Poll::Pending if pace.is_too_slow(context) => Poll::Ready(Err(CollectError::Slow)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(frame) => {
                let frame = frame.transpose();
                Poll::Ready(frame.map_err(|error| CollectError::Broken(error.into())))
            }
        });
        let Some(frame) = next.await? else { break };
        let Ok(data) = frame.into_data() else { continue };
        pace.came(data.len());
        let length = first.len() + joined.len() + data.len();
        if length > limit {
            return Err(CollectError::TooLarge { limit });
        }
        held.set(length);
        let is_much = length > HELD_BYTES_ALWAYS && held::pressure() == Pressure::Over;
        if is_much || held.total() > RECEIVED_BYTES_PER_CORE {
            return Err(CollectError::Busy);
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use futures_util::stream;

    fn chunks(parts: &[&'static str]) -> BoxedBody {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        BoxedBody::stream(stream::iter(parts))
    }

    #[test]
    fn collects_up_to_the_limit() {
        for (parts, limit, expected) in [
            (&[][..], 0, Some("")),
            (&["abc"], 3, Some("abc")),
            (&["abc"], 2, None),
            (&["ab", "", "c"], 3, Some("abc")),
            (&["ab", "cd", "ef"], 6, Some("abcdef")),
            (&["ab", "cd", "ef"], 5, None),
        ] {
            let answer = collect(chunks(parts), limit).now_or_never().expect("nothing to wait for");
            match (answer, expected) {
                (Ok(bytes), Some(expected)) => assert_eq!(bytes, expected),
                (Err(CollectError::TooLarge { limit: told }), None) => assert_eq!(told, limit),
                (other, expected) => panic!("{parts:?} {limit}: {other:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_core_receives_so_much_at_a_time() {
        let mut others = Held::received();
        for (held, good) in
            [(RECEIVED_BYTES_PER_CORE - 3, true), (RECEIVED_BYTES_PER_CORE - 2, false)]
        {
            others.set(held);
            let answer =
                collect(chunks(&["ab", "c"]), 9).now_or_never().expect("nothing to wait for");
            match answer {
                Ok(bytes) if good => assert_eq!(bytes, "abc"),
                Err(CollectError::Busy) if !good => {}
                other => panic!("{held}: {other:?}"),
            }
            assert_eq!(others.total(), held, "all is given back");
        }
    }

    #[test]
    fn a_declared_length_is_refused_before_it_is_read() {
        let answer = collect(BoxedBody::full("abcdef"), 5).now_or_never();
        assert!(matches!(answer, Some(Err(CollectError::TooLarge { limit: 5 }))));
    }

    #[test]
    fn a_whole_body_ends_with_its_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let mut body = BoxedBody::with_trailers(Bytes::from_static(b"x"), trailers);
        let mut next = || {
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never().flatten()
        };
        assert!(next().is_some_and(|frame| frame.is_ok_and(|frame| frame.is_data())));
        assert!(next().is_some_and(|frame| frame.is_ok_and(|frame| frame.is_trailers())));
        assert!(next().is_none());
    }
}
