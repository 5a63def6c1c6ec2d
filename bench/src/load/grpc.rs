//! gRPC over HTTP/2, as little of it as a load generator needs: unary calls and one streaming
//! call, over the `h2` crate. Requests arrive as finished frames.

use super::template::GRPC_PREFIX_BYTES;
use crate::limits;
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Uri, Version};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;
use thiserror::Error;

/// The calls that workloads make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `etcdserverpb.KV/Range`
    Range,
    /// `etcdserverpb.KV/Put`
    Put,
    /// `etcdserverpb.KV/Txn`
    Txn,
    /// `etcdserverpb.Watch/Watch`
    Watch,
    /// `etcdserverpb.Maintenance/Status`
    Status,
    /// `etcdserverpb.Cluster/MemberAdd`
    MemberAdd,
}

const METHODS: [(Method, &str); 6] = [
    (Method::Range, "/etcdserverpb.KV/Range"),
    (Method::Put, "/etcdserverpb.KV/Put"),
    (Method::Txn, "/etcdserverpb.KV/Txn"),
    (Method::Watch, "/etcdserverpb.Watch/Watch"),
    (Method::Status, "/etcdserverpb.Maintenance/Status"),
    (Method::MemberAdd, "/etcdserverpb.Cluster/MemberAdd"),
];

/// Why a call failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// The connection could not be opened.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// host:port
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// The connection or the stream broke.
    #[error("connection broken: {0}")]
    Transport(String),
    /// The server answered with a gRPC status other than OK.
    #[error("grpc status {code}: {message}")]
    Status {
        /// The gRPC code.
        code: u32,
        /// The server's words, cut to a bounded length.
        message: String,
    },
    /// The server broke a rule of the protocol.
    #[error("bad answer: {0}")]
    Protocol(&'static str),
    /// No answer in time.
    #[error("no answer within the request timeout")]
    Timeout,
    /// Others kept writing the key first.
    #[error("gave up an update after {0} conflicts")]
    Conflicts(u32),
}

impl CallError {
    /// True when the connection has to be opened again before the next call.
    #[must_use]
    pub fn breaks_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Transport(_))
    }
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Transport(error.to_string())
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
}

impl Endpoint {
    /// Parses `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// Says what is wrong with the text: `https`, a path, or a missing port.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err(format!("{text}: TLS is not measured, use the plain http:// endpoint"));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if authority.contains('/') || port.is_none() {
            return Err(format!("{text:?} is no endpoint, expected http://HOST:PORT"));
        }
        Ok(Self { authority: authority.to_owned() })
    }

    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// One HTTP/2 connection, opened again after it broke. Lives on one thread.
pub struct Channel {
    endpoint: Endpoint,
    uris: [Uri; METHODS.len()],
    headers: HeaderMap,
    sender: RefCell<SendRequest<Bytes>>,
    generation: Cell<u64>,
    reconnecting: tokio::sync::Mutex<()>,
}

impl Channel {
    /// Opens the connection; must run inside a tokio `LocalSet`.
    ///
    /// # Errors
    /// [`CallError::Connect`] with the system's reason, or a timeout.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, CallError> {
        let sender = open_connection(endpoint).await?;
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        let uris = METHODS.map(|(_, path)| format!("http://{}{path}", endpoint.authority).parse());
        if uris.iter().any(Result::is_err) {
            return Err(CallError::Protocol("the endpoint makes no valid URI"));
        }
        let uris = uris.map(Result::unwrap_or_default);
        Ok(Self {
            endpoint: endpoint.clone(),
            uris,
            headers,
            sender: RefCell::new(sender),
            generation: Cell::new(0),
            reconnecting: tokio::sync::Mutex::new(()),
        })
    }

    /// Which opening of the connection is in use, for [`Channel::recover`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Waits a little and opens the connection again, unless another client did since
    /// generation `seen`. Failure is not reported: the next call fails again and is counted.
    pub async fn recover(&self, seen: u64) {
        tokio::time::sleep(limits::RECONNECT_PAUSE).await;
        let _one_at_a_time = self.reconnecting.lock().await;
        if self.generation.get() != seen {
            return;
        }
        if let Ok(sender) = open_connection(&self.endpoint).await {
            self.sender.replace(sender);
            self.generation.set(seen + 1);
        }
    }

    /// A unary call: sends the frame and returns the response message.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unary(
        &self,
        method: Method,
        frame: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        tokio::time::timeout(timeout, self.unary_unbounded(method, frame))
            .await
            .unwrap_or(Err(CallError::Timeout))
    }

    async fn unary_unbounded(&self, method: Method, frame: Bytes) -> Result<Bytes, CallError> {
        let (response, mut stream) = self.start(method).await?;
        stream.send_data(frame, true)?;
        let (head, body) = response.await?.into_parts();
        check_head(&head)?;
        read_unary(body).await
    }

    /// A bidirectional call: the sending half, and the receiving half once it answers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(
        &self,
        method: Method,
        first_frame: Bytes,
    ) -> Result<(SendStream<Bytes>, FrameReader), CallError> {
        let (response, mut stream) = self.start(method).await?;
        stream.send_data(first_frame, false)?;
        let (head, body) = response.await?.into_parts();
        check_head(&head)?;
        Ok((stream, FrameReader { body, buffer: BytesMut::new(), ready: VecDeque::new() }))
    }

    async fn start(
        &self,
        method: Method,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), CallError> {
        let mut request = Request::new(());
        *request.method_mut() = HttpMethod::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uris[method as usize].clone();
        *request.headers_mut() = self.headers.clone();
        let mut sender = self.sender.borrow().clone();
        std::future::poll_fn(|context| sender.poll_ready(context)).await?;
        Ok(sender.send_request(request, false)?)
    }
}

async fn open_connection(endpoint: &Endpoint) -> Result<SendRequest<Bytes>, CallError> {
    let failed =
        |reason: String| CallError::Connect { endpoint: endpoint.authority.clone(), reason };
    let handshake = async {
        let stream = tokio::net::TcpStream::connect(&endpoint.authority)
            .await
            .map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| failed(error.to_string()))
    };
    let (sender, connection) = tokio::time::timeout(limits::CONNECT_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(failed("timed out".to_owned())))?;
    // The driver ends with the connection; callers see its error on their own streams.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

fn check_head(head: &http::response::Parts) -> Result<(), CallError> {
    if head.status != http::StatusCode::OK {
        return Err(CallError::Protocol("the HTTP status is not 200"));
    }
    if head.headers.contains_key("grpc-status") {
        return check_status(&head.headers);
    }
    Ok(())
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let code = headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = headers.get("grpc-message").map_or(&b""[..], HeaderValue::as_bytes);
            let message = String::from_utf8_lossy(message);
            let message = message.chars().take(limits::ERROR_MESSAGE_CHARS_MAX).collect();
            Err(CallError::Status { code, message })
        }
        None => Err(CallError::Protocol("no grpc-status in the trailers")),
    }
}

async fn read_unary(mut body: RecvStream) -> Result<Bytes, CallError> {
    let mut frame = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        if frame.is_empty() && joined.is_empty() {
            frame = chunk; // the usual case: one chunk holds everything
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&frame);
        }
        if joined.len() + chunk.len() > limits::RESPONSE_BYTES_MAX {
            return Err(CallError::Protocol("the response is larger than the limit"));
        }
        joined.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    check_status(&trailers)?;
    if !joined.is_empty() {
        frame = joined.freeze();
    }
    match frame_length(&frame)? {
        Some(length) if frame.len() == GRPC_PREFIX_BYTES + length => {
            Ok(frame.slice(GRPC_PREFIX_BYTES..))
        }
        _ => Err(CallError::Protocol("the response is not exactly one message")),
    }
}

/// The length of the message whose prefix starts `bytes`; `None` while the prefix is incomplete.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>, CallError> {
    let Some(([flag, length @ ..], _)) = bytes.split_first_chunk::<GRPC_PREFIX_BYTES>() else {
        return Ok(None);
    };
    if *flag != 0 {
        return Err(CallError::Protocol("a compressed message was not asked for"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > limits::RESPONSE_BYTES_MAX {
        return Err(CallError::Protocol("the response is larger than the limit"));
    }
    Ok(Some(length))
}

/// Splits the bytes of a streaming answer into messages.
pub struct FrameReader {
    body: RecvStream,
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
}

impl FrameReader {
    /// The next message; `None` when the server ended the stream without an error.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            let Some(chunk) = self.body.data().await else {
                let trailers = self.body.trailers().await?.unwrap_or_default();
                return check_status(&trailers).map(|()| None);
            };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.buffer.extend_from_slice(&chunk);
            split_frames(&mut self.buffer, &mut self.ready)?;
        }
    }
}

fn split_frames(buffer: &mut BytesMut, ready: &mut VecDeque<Bytes>) -> Result<(), CallError> {
    while let Some(length) = frame_length(buffer)? {
        if buffer.len() < GRPC_PREFIX_BYTES + length {
            break;
        }
        let mut frame = buffer.split_to(GRPC_PREFIX_BYTES + length);
        ready.push_back(frame.split_off(GRPC_PREFIX_BYTES).freeze());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("http://127.0.0.1:2379", Some("127.0.0.1:2379")),
            ("localhost:2379/", Some("localhost:2379")),
            ("http://[::1]:2379", Some("[::1]:2379")),
            ("https://127.0.0.1:2379", None),
            ("http://127.0.0.1", None),
            ("http://127.0.0.1:2379/v3", None),
        ] {
            let parsed = Endpoint::parse(text).ok();
            assert_eq!(parsed.as_ref().map(Endpoint::authority), expected, "{text}");
        }
    }

    #[test]
    fn frames_are_split_wherever_the_chunks_end() {
        let stream =
            [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"z"].concat();
        for step in 1..=stream.len() {
            let (mut buffer, mut ready) = (BytesMut::new(), VecDeque::new());
            for chunk in stream.chunks(step) {
                buffer.extend_from_slice(chunk);
                split_frames(&mut buffer, &mut ready).unwrap();
            }
            assert_eq!(ready, [&b"abc"[..], b"", b"z"], "chunks of {step}");
        }
        let compressed = &mut BytesMut::from(&[1u8, 0, 0, 0, 0][..]);
        assert!(split_frames(compressed, &mut VecDeque::new()).is_err());
    }

    #[test]
    fn status_of_trailers() {
        for (headers, expected) in [
            (&[("grpc-status", "0")][..], Ok(())),
            (&[], Err(CallError::Protocol("no grpc-status in the trailers"))),
            (
                &[("grpc-status", "8"), ("grpc-message", "too many requests")],
                Err(CallError::Status { code: 8, message: "too many requests".into() }),
            ),
        ] {
            let map = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>();
            assert_eq!(check_status(&map), expected);
        }
    }
}
