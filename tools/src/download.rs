//! Fetches a snapshot of a running server (Maintenance.Snapshot) into a file.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request};
use mainstay_proto::maintenance::{SnapshotRequest, SnapshotResponse};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::files::Draft;
use crate::progress::Progress;

const METHOD: &str = "/etcdserverpb.Maintenance/Snapshot";

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// The largest message taken. etcd sends 32 KiB each.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Bytes that may be on their way.
const WINDOW_BYTES: u32 = 4 << 20;

/// A gRPC message's prefix: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// Writes a snapshot of the server at `endpoint` to `path`, with its checksum at the end, which
/// has been checked. Gives its length.
pub(crate) fn snapshot(endpoint: &str, path: &Path) -> Result<u64, Failure> {
    let address = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    if address.starts_with("https://") {
        return Err(Failure::other(
            "https endpoints are not supported here: run `etcdctl snapshot save FILE` with its \
             --cacert, --cert and --key, and give that file instead",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::other)?;
    let result = runtime.block_on(fetch(address, path));
    result.map_err(|failure| Failure::other(format!("snapshot of {endpoint}: {failure}")))
}

async fn fetch(address: &str, path: &Path) -> Result<u64, Failure> {
    let mut draft = Draft::create(path)?;
    let mut stream = Messages::open(address).await?;
    let mut progress = Progress::new("fetching the snapshot");
    let mut context = digest::Context::new(&digest::SHA256);
    let mut held: Option<Bytes> = None;
    let mut received = 0;
    // The checksum is the last message: hold one back.
    while let Some(SnapshotResponse { blob, remaining_bytes, .. }) = stream.next().await? {
        if let Some(before) = held.replace(blob) {
            context.update(&before);
            received += before.len() as u64;
            draft.write(&before)?;
        }
        progress.show(received, received + remaining_bytes);
    }
    let Some(sum) = held.filter(|_| received > 0) else {
        return Err(Failure::other("the server sent nothing"));
    };
    if context.finish().as_ref() != &sum[..] {
        return Err(Failure::other("what arrived does not match the server's checksum"));
    }
    draft.write(&sum)?;
    draft.complete()?;
    progress.end();
    Ok(received + sum.len() as u64)
}

/// The messages of the call's answer.
struct Messages {
    body: RecvStream,
    headers: HeaderMap,
    buffer: BytesMut,
}

impl Messages {
    async fn open(address: &str) -> Result<Messages, Failure> {
        let socket = in_time(TcpStream::connect(address)).await?.map_err(Failure::other)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) =
            in_time(builder.handshake(socket)).await?.map_err(Failure::other)?;
        tokio::spawn(async move {
            // Its end shows in the streams.
            let _ended = connection.await;
        });
        let request = Request::builder()
            .method("POST")
            .uri(format!("http://{address}{METHOD}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(Failure::other)?;
        let mut sender = sender.ready().await.map_err(Failure::other)?;
        let (response, mut sending) =
            sender.send_request(request, false).map_err(Failure::other)?;
        let message = SnapshotRequest {}.encode_to_vec();
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.put_slice(&message);
        sending.send_data(frame.freeze(), true).map_err(Failure::other)?;
        let (parts, body) = in_time(response).await?.map_err(Failure::other)?.into_parts();
        if parts.status != http::StatusCode::OK {
            return Err(Failure::other(format!("the server answered with {}", parts.status)));
        }
        Ok(Messages { body, headers: parts.headers, buffer: BytesMut::new() })
    }

    /// The next message; `None` at the end of a call that went well.
    async fn next(&mut self) -> Result<Option<SnapshotResponse>, Failure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(chunk) = in_time(self.body.data()).await? else {
                let trailers = in_time(self.body.trailers()).await?.map_err(Failure::other)?;
                check_status(&trailers.unwrap_or_default(), &self.headers)?;
                return Ok(None);
            };
            let chunk = chunk.map_err(Failure::other)?;
            self.body.flow_control().release_capacity(chunk.len()).map_err(Failure::other)?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    fn take(&mut self) -> Result<Option<SnapshotResponse>, Failure> {
        let Some(mut length) = self.buffer.get(1..PREFIX_BYTES) else { return Ok(None) };
        let length = length.get_u32() as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(Failure::other(format!("the server sent a message of {length} bytes")));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let message = self.buffer.split_to(length).freeze();
        SnapshotResponse::decode(message).map(Some).map_err(Failure::other)
    }
}

fn check_status(trailers: &HeaderMap, headers: &HeaderMap) -> Result<(), Failure> {
    let field = |name| trailers.get(name).or_else(|| headers.get(name));
    let text = |name| field(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(Failure::other(format!("the server refused it: {message} (gRPC code {code})")))
        }
        None => Err(Failure::other("the answer broke off")),
    }
}

async fn in_time<F: Future>(future: F) -> Result<F::Output, Failure> {
    timeout(SILENCE, future)
        .await
        .map_err(|_| Failure::other(format!("silent for {} seconds", SILENCE.as_secs())))
}
