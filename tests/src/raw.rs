//! HTTP/2 by hand, for what no library would send; and somebody else, who wants to be served meanwhile.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mainstay_proto::kv::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use prost::Message;

use crate::grpc::{self, Client};

/// Types of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// Error codes.
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The words of GOAWAY.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.payload.get(8..).unwrap_or_default()).into_owned()
    }
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS with these values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// The setting of the window that streams begin with.
pub const INITIAL_WINDOW: u16 = 4;

/// The header block of a gRPC call.
pub fn call_block(path: &str) -> Vec<u8> {
    // POST, http; the rest as literals that nobody remembers.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    };
    literal(&[0x04], path);
    literal(&[0x01], "localhost");
    literal(&[0x0f, 0x10], "application/grpc");
    literal(b"\x00\x02te", "trailers");
    block
}

/// A gRPC call of one message.
pub fn call(stream: u32, path: &str, message: &impl Message) -> Vec<u8> {
    let mut bytes = frame(kind::HEADERS, flag::END_HEADERS, stream, &call_block(path));
    bytes.extend(frame(kind::DATA, flag::END_STREAM, stream, &grpc::frame(message)));
    bytes
}

/// A connection.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// After both preface and these settings.
    pub fn connect(address: &str, values: &[(u16, u32)]) -> Raw {
        let mut raw = Raw::plain(address);
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
        raw.send(&settings(values)).expect("sent");
        raw
    }

    /// Before anything is sent.
    pub fn plain(address: &str) -> Raw {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Raw { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Another handle on the same connection.
    pub fn duplicate(&self) -> Raw {
        let stream = self.stream.try_clone().expect("a socket");
        Raw { stream, buffer: Vec::new() }
    }

    /// The next frame; `None` when the connection has ended, an error when there is none for so long.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Frame>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(frame) = self.take() {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 64 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(length) => self.buffer.extend(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        let (kind, flags) = (head[3], head[4]);
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Reads until there is a frame that is wanted; `None` when the connection ends before.
    pub fn find(&mut self, patience: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next(left).expect("something happens in time") {
                Some(frame) if wanted(&frame) => return Some(frame),
                Some(_) => {}
                None => return None,
            }
        }
    }

    /// Sends these bytes again and again until the server has enough; its last words.
    pub fn flood(mut self, next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Option<Frame> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let mut writer = self.duplicate();
        let mut next = next;
        let writing = std::thread::spawn(move || {
            let mut at = 0;
            loop {
                let mut bytes = Vec::new();
                for _ in 0..64 {
                    bytes.extend(next(at));
                    at += 1;
                }
                if writer.send(&bytes).is_err() {
                    return;
                }
            }
        });
        let goaway = self.find(PATIENCE, |frame| frame.kind == kind::GOAWAY);
        let _gone = self.stream.shutdown(Shutdown::Both);
        writing.join().expect("the writer ends");
        goaway
    }

    /// Reads to the end of the connection, whatever comes.
    pub fn rest(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut bytes = std::mem::take(&mut self.buffer);
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(bytes),
        }
    }
}

/// A client that behaves, beside those that do not.
pub struct Bystander {
    /// How long it took before they came.
    before: Duration,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    /// Writes and reads, one request after the other; first for a while alone.
    pub fn start(address: &str) -> Bystander {
        let (stop, thread) = Bystander::run(address);
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let before = p99(thread.join().expect("it is served"));
        let (stop, thread) = Bystander::run(address);
        Bystander { before, stop, thread }
    }

    fn run(address: &str) -> (Arc<AtomicBool>, JoinHandle<Vec<Duration>>) {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopping) = (address.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            grpc::block_on(async {
                let client = Client::connect(&address).await;
                let mut latencies = Vec::new();
                while latencies.is_empty() || !stopping.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    write_and_read(&client).await;
                    latencies.push(begun.elapsed());
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                latencies
            })
        });
        (stop, thread)
    }

    /// 99 of 100 writes and reads took about as long as they do alone. Whatever else the machine does
    /// makes them slow, too; a server that is held up takes seconds.
    #[track_caller]
    pub fn assert_fine(self, beside: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let p99 = p99(self.thread.join().expect("it is served all the time"));
        let fine = Duration::from_secs(1) + 10 * self.before;
        assert!(p99 < fine, "{beside}: {p99:?}, and {:?} alone", self.before);
    }
}

async fn write_and_read(client: &Client) {
    let key = bytes::Bytes::from_static(b"bystander");
    let put = PutRequest { key: key.clone(), value: key.clone(), ..Default::default() };
    client.unary::<_, PutResponse>("/etcdserverpb.KV/Put", &put).await.expect("written");
    let range = RangeRequest { key, ..Default::default() };
    let range = client.unary::<_, RangeResponse>("/etcdserverpb.KV/Range", &range);
    assert_eq!(range.await.expect("read").kvs.len(), 1);
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}
