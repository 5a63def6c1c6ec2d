//! One connection as a state machine: bytes in, events out; commands in, bytes out.
//!
//! `receive` and `headers` read what the client sends, `send` writes what it is answered, `checks` looks
//! from time to time whether it behaves. None knows a socket, a clock or a task: who drives a
//! connection has these.

mod checks;
mod headers;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use send::Extra;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};

use super::error::{ErrorCode, Fault};
use super::floods::Floods;
use super::frame;
use super::hpack::{Decoder, Encoder};
use super::pings::Pings;
use super::settings::{self, ClientSettings, DEFAULT_WINDOW, LARGEST_WINDOW};
use super::stream::{Closed, RecentlyClosed, StreamKey, Streams};
use super::window::{ReceiveWindow, SendWindow};
use crate::net::held::Held;
use crate::net::{Bounds, limits};

/// What the client did.
#[derive(Debug)]
pub enum Event {
    /// It asks for something. With `end`, the request has no body.
    Request { stream: StreamKey, request: Request<()>, end: bool },
    /// A part of a request's body; [`Connection::consume`] makes room for as much again.
    Data { stream: StreamKey, data: Bytes, end: bool },
    /// The end of a request's body.
    Trailers { stream: StreamKey, trailers: HeaderMap },
    /// The stream is no more, by the client's wish or because of its fault.
    Reset { stream: StreamKey, code: ErrorCode },
}

/// How far a graceful end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// We said that we are going to leave; requests that are under way are still taken.
    Announced,
    /// No new stream is taken.
    Decided,
}

/// The server's side of a connection.
#[derive(Debug)]
pub struct Connection {
    /// Bytes of the preface that were received.
    preface: usize,
    /// The first frame was what it must be.
    settings_seen: bool,
    /// The beginning of a frame whose end is not here.
    partial: BytesMut,
    /// The beginning of a header block whose end is not here.
    block: Option<headers::Block>,
    decoder: Decoder,
    encoder: Encoder,
    client: ClientSettings,
    streams: Streams,
    recently_closed: RecentlyClosed,
    /// The largest number of a stream that the client began.
    last_stream: u32,
    receive_window: ReceiveWindow,
    send_window: SendWindow,
    /// To be written to the client.
    output: BytesMut,
    /// A header block while it is made.
    scratch: BytesMut,
    /// What streams have to send and may not.
    pending: usize,
    /// ... and have sent since the last check, and before it.
    sent: usize,
    sent_before: usize,
    /// All that this connection makes the process hold.
    held: Held,
    /// Streams that have something to send and may, each in its turn.
    senders: VecDeque<StreamKey>,
    /// Streams that wanted room for data and have it, as far as they are concerned.
    roomy: VecDeque<StreamKey>,
    floods: Floods,
    pings: Pings,
    /// The time, as [`set_time`](Connection::set_time) told it.
    now_ms: u64,
    bounds: Bounds,
    /// Checks so far, for what happens every few of them.
    checks: u32,
    /// Checks since the connection began, or since a frame did whose end is not here.
    waiting: u32,
    leaving: Leaving,
    client_leaves: bool,
    fault: Option<Fault>,
}

/// In pings of ours: asks whether the client is there.
const KEEP_ALIVE: [u8; 8] = *b"are you?";
/// In pings of ours: once it is answered, the client knows that we leave.
const LEAVING: [u8; 8] = *b"leaving!";

impl Default for Connection {
    fn default() -> Connection {
        Connection::new(Bounds::default())
    }
}

impl Connection {
    /// One that has not received anything.
    pub fn new(bounds: Bounds) -> Connection {
        let mut output = BytesMut::new();
        settings::write_own(&mut output, bounds.streams_per_connection);
        frame::write_window_update(
            &mut output,
            0,
            limits::CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW,
        );
        Connection {
            preface: 0,
            settings_seen: false,
            partial: BytesMut::new(),
            block: None,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            client: ClientSettings::default(),
            streams: Streams::default(),
            recently_closed: RecentlyClosed::default(),
            last_stream: 0,
            receive_window: ReceiveWindow::new(limits::CONNECTION_WINDOW_BYTES),
            send_window: SendWindow::new(DEFAULT_WINDOW),
            output,
            scratch: BytesMut::new(),
            pending: 0,
            sent: 0,
            sent_before: 0,
            held: Held::connection(),
            senders: VecDeque::new(),
            roomy: VecDeque::new(),
            floods: Floods::default(),
            pings: Pings::new(bounds.ping_interval),
            now_ms: 0,
            bounds,
            checks: 0,
            waiting: 0,
            leaving: Leaving::No,
            client_leaves: false,
            fault: None,
        }
    }

    /// What is to be written to the client; whoever writes takes it off the front.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Gives the output's memory back, if it is empty, larger than `bytes`, and nobody is going to
    /// need it soon.
    pub fn shrink_output(&mut self, bytes: usize) {
        if self.output.is_empty() && self.streams.is_empty() && self.output.capacity() > bytes {
            self.output = BytesMut::new();
        }
    }

    /// So much waits to be written that nothing should be added, nor read.
    pub fn is_output_full(&self) -> bool {
        self.output.len() >= limits::CONNECTION_OUTPUT_BYTES
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Nothing more will come of this connection: it may be closed once its output is written.
    pub fn is_finished(&self) -> bool {
        let leaving = self.leaving == Leaving::Decided || self.client_leaves;
        self.fault.is_some() || leaving && self.streams.is_empty()
    }

    /// Asks the client whether it is there; whatever it sends is an answer.
    pub fn ping(&mut self) {
        frame::write_ping(&mut self.output, false, KEEP_ALIVE);
    }

    /// Tells the time, in milliseconds of any clock that does not go back.
    pub fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Begins a graceful end: open streams go on, and those that the client begins before it
    /// hears of it.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            frame::write_goaway(&mut self.output, LARGEST_WINDOW, ErrorCode::NO_ERROR, "");
            frame::write_ping(&mut self.output, false, LEAVING);
        }
    }

    /// From here on no stream is taken.
    fn decide_to_leave(&mut self) {
        if self.leaving == Leaving::Announced {
            self.leaving = Leaving::Decided;
            frame::write_goaway(&mut self.output, self.last_stream, ErrorCode::NO_ERROR, "");
        }
    }

    fn close(&mut self, stream: StreamKey, closed: Closed) {
        if let Some(stream) = self.streams.get(stream) {
            self.pending -= stream.pending_bytes();
        }
        if self.streams.remove(stream) {
            self.recently_closed.push(stream.id, closed);
        }
    }
}
