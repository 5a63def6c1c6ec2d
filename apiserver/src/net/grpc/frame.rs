//! Messages on the wire: a flag byte, four bytes of length, the message.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use prost::Message;

use super::status::{Code, Status};
use crate::net::BoxError;
use crate::net::held::{self, Held, Pressure};
use crate::net::limits::{HELD_BYTES_ALWAYS, RECEIVED_BYTES_PER_CORE};
use crate::net::pace::Pace;

/// Bytes before each message.
const PREFIX_BYTES: usize = 5;

/// A message with its prefix, ready to send.
pub fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    // Single answers are checked before, and messages of streams are made to a size.
    buffer.put_u32(u32::try_from(length).expect("a message is smaller than 4 GiB"));
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// As [`encode`], for a message that is bytes already.
pub fn frame(message: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(message.len()).expect("a message is smaller than 4 GiB"));
    buffer.put_slice(message);
    buffer.freeze()
}

/// The messages that a client sends, one after the other.
///
/// Holds at most one message of at most the limit, and what came with it in one frame.
pub struct Messages<B> {
    body: B,
    /// Received and not yet handed out. A message that lies in one frame is not copied.
    chunk: Bytes,
    /// The beginning of a message that spans several frames.
    partial: BytesMut,
    limit: usize,
    /// While a message is incomplete.
    held: Held,
    /// How fast they must come; at their leisure without.
    pace: Option<Pace>,
    ended: bool,
    /// What came behind the last message.
    trailers: Option<HeaderMap>,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads messages of at most `limit` bytes.
    pub fn new(body: B, limit: usize) -> Messages<B> {
        let (chunk, partial) = (Bytes::new(), BytesMut::new());
        Messages {
            body,
            chunk,
            partial,
            limit,
            held: Held::received(),
            pace: None,
            ended: false,
            trailers: None,
        }
    }

    /// The same for who waits for all of them before doing anything: they must keep coming.
    pub fn paced(body: B, limit: usize) -> Messages<B> {
        Messages { pace: Some(Pace::default()), ..Messages::new(body, limit) }
    }

    /// The next message; `None` when the client has sent all it wanted to.
    ///
    /// Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`next`](Messages::next).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                self.held.set(0);
                return Poll::Ready(Ok(Some(message)));
            }
            if self.ended {
                let whole = self.partial.is_empty() && self.chunk.is_empty();
                return Poll::Ready(if whole { Ok(None) } else { Err(broken_off()) });
            }
            self.held.set(self.partial.len() + self.chunk.len());
            let is_much =
                self.held.bytes() > HELD_BYTES_ALWAYS && held::pressure() == Pressure::Over;
            if is_much || self.held.total() > RECEIVED_BYTES_PER_CORE {
                return Poll::Ready(Err(too_busy()));
            }
            let next = Pin::new(&mut self.body).poll_frame(context);
            if next.is_pending()
                && let Some(pace) = &mut self.pace
                && pace.is_too_slow(context)
            {
                return Poll::Ready(Err(too_slow()));
            }
            match ready!(next) {
                None => self.ended = true,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(pace) = &mut self.pace {
                            pace.came(data.len());
                        }
                        self.push(data);
                    }
                    Err(other) => self.trailers = other.into_trailers().ok(),
                },
                Some(Err(error)) => return Poll::Ready(Err(broken_by(error.into()))),
            }
        }
    }

    /// The trailers, once they have come.
    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// Whether nothing more can come.
    pub fn is_done(&self) -> bool {
        self.partial.is_empty()
            && self.chunk.is_empty()
            && (self.ended || self.body.is_end_stream())
    }

    fn push(&mut self, data: Bytes) {
        if self.partial.is_empty() && self.chunk.is_empty() {
            self.chunk = data;
            return;
        }
        let rest = std::mem::take(&mut self.chunk);
        self.partial.extend_from_slice(&rest);
        self.partial.extend_from_slice(&data);
    }

    /// The next message, if all of it is here.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let here: &[u8] = if self.partial.is_empty() { &self.chunk } else { &self.partial };
        let Some(length) = message_length(here, self.limit)? else { return Ok(None) };
        if here.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        if self.partial.is_empty() {
            self.chunk.advance(PREFIX_BYTES);
            return Ok(Some(self.chunk.split_to(length)));
        }
        let mut joined = std::mem::take(&mut self.partial).freeze();
        joined.advance(PREFIX_BYTES);
        let message = joined.split_to(length);
        self.chunk = joined;
        Ok(Some(message))
    }
}

/// What a body's error means: a body made here may say it itself.
fn broken_by(error: BoxError) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(reason) => Status::new(Code::Canceled, format!("the request broke off: {reason}")),
    }
}

/// There is no room for what a client sends, or wants to be sent. etcd's words, which clients know.
pub fn too_busy() -> Status {
    Status::new(Code::ResourceExhausted, "etcdserver: too many requests")
}

/// There is no room for the answer, and what it tells of may have happened. etcd's words for a write
/// that it does not know the end of: clients must not take it for one that failed.
pub fn unknown_outcome() -> Status {
    Status::new(Code::Unavailable, "etcdserver: request timed out")
}

fn too_slow() -> Status {
    Status::new(Code::DeadlineExceeded, "grpc: the request comes too slowly")
}

fn broken_off() -> Status {
    Status::new(Code::Internal, "unexpected EOF: the last message is incomplete")
}

/// The length that a prefix announces; `None` while the prefix is not complete.
fn message_length(bytes: &[u8], limit: usize) -> Result<Option<usize>, Status> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [flag, length @ ..] = *prefix;
    match flag {
        0 => {}
        1 => {
            return Err(Status::new(
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ));
        }
        other => {
            return Err(Status::new(
                Code::Internal,
                format!("grpc: received unexpected payload format {other}"),
            ));
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({length} vs. {limit})"),
        ));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::BoxedBody;
    use futures_util::{FutureExt, stream};
    use proptest::prelude::*;

    fn messages(chunks: Vec<Bytes>, limit: usize) -> Result<Vec<Bytes>, Status> {
        let body = BoxedBody::stream(stream::iter(chunks.into_iter().map(Ok)));
        let mut reader = Messages::new(body, limit);
        let mut found = Vec::new();
        while let Some(message) = reader.next().now_or_never().expect("nothing to wait for")? {
            found.push(message);
        }
        assert!(reader.is_done());
        Ok(found)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    #[test]
    fn malformed_frames_are_refused_in_words() {
        for (sent, expected) in [
            (&[1, 0, 0, 0, 0][..], "compressed flag set"),
            (&[7, 0, 0, 0, 0], "payload format 7"),
            (&[0, 0, 0, 0, 9], "unexpected EOF"),
            (&[0, 0, 0], "unexpected EOF"),
            (&[0, 0, 0, 0, 11], "grpc: received message larger than max (11 vs. 10)"),
            (&[0, 255, 255, 255, 255], "(4294967295 vs. 10)"),
        ] {
            let error = messages(vec![Bytes::copy_from_slice(sent)], 10).expect_err("malformed");
            assert!(error.message.contains(expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn a_core_receives_so_much_at_a_time() {
        let whole = Bytes::from(framed(b"abc"));
        let mut others = Held::received();
        others.set(RECEIVED_BYTES_PER_CORE - 1);
        // What is complete is not held.
        assert_eq!(messages(vec![whole.clone()], 10).expect("it is complete"), ["abc"]);
        let parts = || vec![whole.slice(..6), whole.slice(6..)];
        let error = messages(parts(), 10).expect_err("too much");
        assert_eq!(error.code, Code::ResourceExhausted);
        others.set(0);
        assert_eq!(messages(parts(), 10).expect("there is room"), ["abc"]);
        assert_eq!(others.total(), 0);
    }

    proptest! {
        #[test]
        fn messages_survive_any_split(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(message)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]]));
            let found = messages(chunks.collect(), 100).expect("well formed");
            prop_assert_eq!(found, sent);
        }
    }

    #[test]
    fn an_encoded_message_carries_its_length() {
        #[derive(Clone, PartialEq, Message)]
        struct Number {
            #[prost(uint32, tag = "1")]
            value: u32,
        }
        assert_eq!(encode(&Number { value: 300 })[..], [0, 0, 0, 0, 3, 8, 0xac, 2]);
        assert_eq!(encode(&Number { value: 0 })[..], [0, 0, 0, 0, 0]);
    }
}
