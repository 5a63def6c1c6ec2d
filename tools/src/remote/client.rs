//! A connection, and calls on it.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use mainstay_proto::auth::{AuthenticateRequest, AuthenticateResponse};
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::{Access, tls};
use crate::failure::Failure;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// The largest message taken. etcd sends snapshots in messages of 32 KiB, lists in one.
const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// Bytes that may be on their way.
const WINDOW_BYTES: u32 = 4 << 20;

/// A gRPC message's prefix: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the server refused: {message} (gRPC code {code})")]
    Refused { code: u32, message: String },
    #[error(transparent)]
    Broken(#[from] h2::Error),
    #[error("the server was silent for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("{0}")]
    Failed(String),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure::other(error)
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> CallError {
        CallError::Failed(failure.to_string())
    }
}

pub(super) struct Client {
    sender: SendRequest<Bytes>,
    /// As in `http://127.0.0.1:2379`.
    base: String,
    token: Option<String>,
}

impl Client {
    /// Connects, and signs in when a user was given.
    pub(super) async fn connect(endpoint: &str, access: &Access) -> Result<Client, Failure> {
        let (secure, address) = match endpoint.split_once("://") {
            Some(("https", address)) => (true, address),
            Some(("http", address)) => (false, address),
            Some((scheme, _)) => {
                return Err(Failure::other(format!("{scheme}:// is neither http nor https")));
            }
            None => (false, endpoint),
        };
        let address = address.trim_end_matches('/');
        let socket = in_time(TcpStream::connect(address)).await?.map_err(Failure::other)?;
        socket.set_nodelay(true).map_err(Failure::other)?;
        let (sender, base) = if secure {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(host.to_owned()).map_err(Failure::other)?;
            let connecting = tls::connector(access)?.connect(name, socket.compat());
            let socket = in_time(connecting).await?.map_err(Failure::other)?;
            (handshake(socket.compat()).await?, format!("https://{address}"))
        } else {
            (handshake(socket).await?, format!("http://{address}"))
        };
        let mut client = Client { sender, base, token: None };
        if let Some(user) = &access.user {
            client.token = Some(client.sign_in(user).await?);
        }
        Ok(client)
    }

    async fn sign_in(&self, user: &str) -> Result<String, Failure> {
        let (name, password) = user
            .split_once(':')
            .ok_or_else(|| Failure::other("--user takes the name, a colon and the password"))?;
        let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer: AuthenticateResponse =
            self.unary("/etcdserverpb.Auth/Authenticate", &request).await?;
        Ok(answer.token)
    }

    /// A call of one message each way.
    pub(super) async fn unary<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, CallError> {
        let mut answers = self.stream::<Q, A>(path, request).await?;
        let answer = answers.next().await?;
        while answers.next().await?.is_some() {}
        answer.ok_or_else(|| CallError::Failed("the server sent no answer".to_owned()))
    }

    /// A call of one message there and many back.
    pub(super) async fn stream<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<Answers<A>, CallError> {
        let mut head = Request::builder()
            .method("POST")
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = &self.token {
            head = head.header("token", token);
        }
        let head = head.body(()).map_err(|error| CallError::Failed(error.to_string()))?;
        let mut sender = in_time(self.sender.clone().ready()).await??;
        let (response, mut sending) = sender.send_request(head, false)?;
        let length = request.encoded_len();
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
        frame.put_u8(0);
        frame.put_u32(length as u32);
        request.encode_raw(&mut frame);
        sending.send_data(frame.freeze(), true)?;
        let (parts, body) = in_time(response).await??.into_parts();
        if parts.status != StatusCode::OK {
            return Err(CallError::Failed(format!("the server answered with {}", parts.status)));
        }
        let buffer = BytesMut::new();
        Ok(Answers { body, headers: parts.headers, buffer, kind: std::marker::PhantomData })
    }
}

async fn handshake(
    socket: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<SendRequest<Bytes>, Failure> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let (sender, connection) = in_time(builder.handshake(socket)).await?.map_err(Failure::other)?;
    // Its end shows in the streams.
    tokio::task::spawn_local(async move {
        let _ended = connection.await;
    });
    Ok(sender)
}

/// The messages of a call's answer.
pub(super) struct Answers<A> {
    body: RecvStream,
    headers: HeaderMap,
    buffer: BytesMut,
    kind: std::marker::PhantomData<A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next message; `None` at the end of a call that went well.
    pub(super) async fn next(&mut self) -> Result<Option<A>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(chunk) = in_time(self.body.data()).await? else {
                let trailers = in_time(self.body.trailers()).await??.unwrap_or_default();
                check_status(&trailers, &self.headers)?;
                return Ok(None);
            };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    fn take(&mut self) -> Result<Option<A>, CallError> {
        let Some(mut length) = self.buffer.get(1..PREFIX_BYTES) else { return Ok(None) };
        let length = length.get_u32() as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(CallError::Failed(format!("the server sent a message of {length} bytes")));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let message = self.buffer.split_to(length).freeze();
        A::decode(message).map(Some).map_err(|error| CallError::Failed(error.to_string()))
    }
}

fn check_status(trailers: &HeaderMap, headers: &HeaderMap) -> Result<(), CallError> {
    let field = |name| trailers.get(name).or_else(|| headers.get(name));
    let text = |name| field(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let code = text("grpc-status").and_then(|code| code.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default().into_owned();
            Err(CallError::Refused { code, message })
        }
        None => Err(CallError::Failed("the answer broke off".to_owned())),
    }
}

async fn in_time<F: Future>(future: F) -> Result<F::Output, CallError> {
    timeout(SILENCE, future).await.map_err(|_| CallError::Silent)
}
