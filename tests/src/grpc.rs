//! A small gRPC client over HTTP/2 that can also send what no good client would.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long any one answer may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs an async test.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(TIMEOUT, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: no answer within {TIMEOUT:?}"),
    }
}

/// One connection.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Bytes>,
    authority: String,
    /// Shown with every call.
    token: Option<String>,
    /// Every call says that it is of no use without a leader.
    requires_leader: bool,
}

/// Everything that a call gave back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub http_status: StatusCode,
    pub headers: HeaderMap,
    pub data: Bytes,
    pub trailers: HeaderMap,
}

/// How a call failed: gRPC's code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u32,
    pub message: String,
}

impl Answer {
    /// `grpc-status` and `grpc-message`, from the trailers or the headers.
    pub fn failure(&self) -> Option<Failure> {
        let field = |name| self.trailers.get(name).or_else(|| self.headers.get(name));
        let code = field("grpc-status").expect("a gRPC answer").to_str().expect("digits");
        let message = field("grpc-message").map_or("", |text| text.to_str().expect("ASCII"));
        let code = code.parse().expect("digits");
        (code != 0).then(|| Failure { code, message: percent_decode(message) })
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// A message with its prefix.
pub fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).expect("room");
    bytes.freeze()
}

impl Client {
    /// `address` as in `127.0.0.1:2379`, or the path of a Unix socket.
    pub async fn connect(address: &str) -> Client {
        Client::try_connect(address).await.expect("the server listens")
    }

    /// `None` when nobody is there.
    pub async fn try_connect(address: &str) -> Option<Client> {
        if address.starts_with('/') {
            let stream = UnixStream::connect(address).await.ok()?;
            return Client::over(stream, "localhost").await;
        }
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Client::over(stream, address).await
    }

    async fn over<S>(stream: S, authority: &str) -> Option<Client>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = h2::client::handshake(stream).await.ok()?;
        tokio::spawn(async move {
            let _ended = connection.await;
        });
        let authority = authority.to_owned();
        Some(Client { sender, authority, token: None, requires_leader: false })
    }

    /// The same connection, with a token for every call.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same connection, with calls that end when there is no leader.
    pub fn requiring_leader(&self) -> Client {
        Client { requires_leader: true, ..self.clone() }
    }

    fn request(&self, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request =
            Request::builder().method("POST").uri(format!("http://{}{path}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("token", token);
        }
        if self.requires_leader {
            request = request.header("hasleader", "true");
        }
        request.body(()).expect("a good request")
    }

    /// Sends these bytes to a path with these headers, and reads all that comes back.
    pub async fn raw(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        in_time(path, self.try_raw(path, headers, body)).await.expect("an answer")
    }

    /// `None` when the connection breaks before there is an answer.
    async fn try_raw(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Option<Answer> {
        let mut sender = self.sender.clone().ready().await.ok()?;
        let (response, mut stream) =
            sender.send_request(self.request(path, headers), false).ok()?;
        // The server may refuse and reset before it has everything.
        let _refused = stream.send_data(body, true);
        let (parts, mut body) = response.await.ok()?.into_parts();
        let mut data = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let Ok(chunk) = chunk else { break };
            body.flow_control().release_capacity(chunk.len()).expect("open");
            data.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
        let (http_status, headers, data) = (parts.status, parts.headers, data.freeze());
        Some(Answer { http_status, headers, data, trailers })
    }

    /// A unary call.
    pub async fn unary<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, Failure> {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = self.raw(path, &headers, frame(request)).await;
        assert_eq!(answer.http_status, StatusCode::OK);
        match answer.failure() {
            Some(failure) => Err(failure),
            None => Ok(A::decode(&answer.data[5..]).expect("a message")),
        }
    }

    /// A unary call; `None` when the connection breaks before the answer is complete.
    pub async fn try_unary<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Option<Result<A, Failure>> {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = self.try_raw(path, &headers, frame(request)).await?;
        let complete = answer.trailers.contains_key("grpc-status")
            || answer.headers.contains_key("grpc-status");
        if !complete {
            return None;
        }
        Some(match answer.failure() {
            Some(failure) => Err(failure),
            None => Ok(A::decode(answer.data.get(5..)?).expect("a message")),
        })
    }

    /// A call of one message there and many back.
    pub async fn open<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Stream<Q, A> {
        let (response, mut sending) = self.begin(path).await;
        sending.send_data(frame(request), true).expect("open");
        Stream::of(path, response, sending).await
    }

    /// A call of many messages each way that begins with one of ours: etcd answers nothing before.
    pub async fn stream_with<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Stream<Q, A> {
        let (response, mut sending) = self.begin(path).await;
        sending.send_data(frame(request), false).expect("open");
        Stream::of(path, response, sending).await
    }

    /// The same; `None` when the connection is broken or breaks before there is an answer.
    pub async fn try_stream_with<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Option<Stream<Q, A>> {
        let mut sender = self.sender.clone().ready().await.ok()?;
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let sent = sender.send_request(self.request(path, &headers), false);
        let (response, mut sending) = sent.ok()?;
        sending.send_data(frame(request), false).ok()?;
        let (parts, receiving) = response.await.ok()?.into_parts();
        let (headers, buffer) = (parts.headers, BytesMut::new());
        Some(Stream { sending, receiving, headers, buffer, kinds: PhantomData })
    }

    /// A call of many messages each way.
    pub async fn stream<Q: Message, A: Message + Default>(&self, path: &str) -> Stream<Q, A> {
        let (response, sending) = self.begin(path).await;
        Stream::of(path, response, sending).await
    }

    async fn begin(&self, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = self.sender.clone().ready().await.expect("a connection");
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        sender.send_request(self.request(path, &headers), false).expect("sent")
    }
}

/// An open call.
pub struct Stream<Q, A> {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    headers: HeaderMap,
    buffer: BytesMut,
    kinds: PhantomData<(Q, A)>,
}

impl<Q: Message, A: Message + Default> Stream<Q, A> {
    async fn of(path: &str, response: ResponseFuture, sending: SendStream<Bytes>) -> Stream<Q, A> {
        let response = in_time(path, response).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let (parts, receiving) = response.into_parts();
        let (headers, buffer) = (parts.headers, BytesMut::new());
        Stream { sending, receiving, headers, buffer, kinds: PhantomData }
    }

    pub fn send(&mut self, request: &Q) {
        self.sending.send_data(frame(request), false).expect("open");
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.sending.send_data(Bytes::new(), true).expect("open");
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<A> {
        in_time("the next message", self.try_next()).await.expect("open")
    }

    /// The next message; `None` when the connection broke, `Some(None)` at a proper end.
    pub async fn try_next(&mut self) -> Option<Option<A>> {
        loop {
            if let Some(message) = self.take_message() {
                return Some(Some(message));
            }
            match self.receiving.data().await {
                None => return Some(None),
                Some(Err(error)) => {
                    eprintln!("the stream broke: {error}");
                    return None;
                }
                Some(Ok(chunk)) => {
                    self.receiving.flow_control().release_capacity(chunk.len()).ok()?;
                    self.buffer.extend_from_slice(&chunk);
                }
            }
        }
    }

    fn take_message(&mut self) -> Option<A> {
        let length = self.buffer.get(1..5)?.get_u32() as usize;
        if self.buffer.len() < 5 + length {
            return None;
        }
        let message = self.buffer.split_to(5 + length);
        Some(A::decode(&message[5..]).expect("a message"))
    }

    /// Whether nothing comes for a while.
    pub async fn is_quiet(&mut self, duration: Duration) -> bool {
        tokio::time::timeout(duration, self.next()).await.is_err()
    }

    /// How the call ended.
    pub async fn end(mut self) -> Option<Failure> {
        while self.next().await.is_some() {}
        let trailers = self.receiving.trailers().await.expect("open").unwrap_or_default();
        let headers = self.headers;
        Answer { http_status: StatusCode::OK, headers, data: Bytes::new(), trailers }.failure()
    }
}
