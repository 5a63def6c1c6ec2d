//! Header blocks: requests and trailers (RFC 9113, sections 4.3, 6.2, 6.10 and 8).

use std::mem;

use bytes::BytesMut;
use http::StatusCode;

use super::receive::Received;
use super::{Closed, Connection, ErrorCode, Event, Fault, Leaving, StreamKey};
use crate::net::http2::frame::{self, Head, flag};
use crate::net::http2::hpack::DecodeError;
use crate::net::http2::request::{Collector, Outcome};
use crate::net::http2::stream::{Position, Progress, Room, Stream};
use crate::net::http2::window::{ReceiveWindow, SendWindow};
use crate::net::limits;

/// A header block on its way.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    end_stream: bool,
    /// The stream claims to depend on itself.
    depends_on_itself: bool,
    pub(super) bytes: BytesMut,
    /// CONTINUATION frames so far.
    continuations: u32,
    /// Checks since it began.
    pub(super) checks: u32,
}

impl Connection {
    pub(super) fn headers(&mut self, head: &Head, payload: &[u8]) -> Received {
        if head.stream.is_multiple_of(2) {
            return Err(Fault::protocol("HEADERS on a stream that no client may begin"));
        }
        let mut bytes = frame::unpad(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let Some((priority, rest)) = bytes.split_first_chunk::<5>() else {
                return Err(Fault::frame_size("the priority of HEADERS takes five bytes"));
            };
            depends_on_itself = frame::number(&priority[..4]) == Some(head.stream);
            bytes = rest;
        }
        let block = Block {
            stream: head.stream,
            end_stream: head.has(flag::END_STREAM),
            depends_on_itself,
            bytes: BytesMut::new(),
            continuations: 0,
            checks: 0,
        };
        if head.has(flag::END_HEADERS) {
            return self.block(&block, bytes);
        }
        self.block = Some(Block { bytes: BytesMut::from(bytes), ..block });
        Ok(None)
    }

    pub(super) fn continuation(&mut self, head: &Head, payload: &[u8]) -> Received {
        let Some(mut block) = self.block.take() else {
            return Err(Fault::protocol("CONTINUATION of nothing"));
        };
        block.continuations += 1;
        if block.continuations > limits::CONTINUATION_FRAMES {
            return Err(Fault::calm("too many CONTINUATION frames"));
        }
        if block.bytes.len() + payload.len() > limits::HEADER_LIST_BYTES as usize {
            return Err(Fault::calm("the header block is too large"));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            let bytes = mem::take(&mut block.bytes);
            return self.block(&block, &bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A whole header block: decoded in any case, for the sake of the table.
    fn block(&mut self, block: &Block, bytes: &[u8]) -> Received {
        let mut fields = Collector::new();
        self.decoder.decode(bytes, |field, size| fields.take(field, size)).map_err(
            |error: DecodeError| Fault::new(ErrorCode::COMPRESSION_ERROR, error.reason()),
        )?;
        if let Some(key) = self.streams.find(block.stream) {
            return self.trailers(key, block, fields);
        }
        if block.stream <= self.last_stream {
            return self.headers_of_closed(block.stream).map(|()| None);
        }
        self.last_stream = block.stream;
        if self.leaving == Leaving::Decided {
            // The client was told and tries again elsewhere.
            return Ok(None);
        }
        if block.depends_on_itself {
            return self.refuse(block.stream, ErrorCode::PROTOCOL_ERROR).map(|()| None);
        }
        let most = self.bounds.streams_per_connection as usize;
        if self.streams.len() >= most || self.is_held_up() {
            return self.refuse(block.stream, ErrorCode::REFUSED_STREAM).map(|()| None);
        }
        match fields.request() {
            Outcome::Malformed => {
                self.refuse(block.stream, ErrorCode::PROTOCOL_ERROR).map(|()| None)
            }
            Outcome::Refuse(status) => self.answer_at_once(block, status).map(|()| None),
            Outcome::Request(_, Some(1..)) if block.end_stream => {
                self.refuse(block.stream, ErrorCode::PROTOCOL_ERROR).map(|()| None)
            }
            Outcome::Request(request, content_left) => {
                self.floods.earn();
                let stream = self.open(block, content_left);
                Ok(Some(Event::Request { stream, request, end: block.end_stream }))
            }
        }
    }

    fn open(&mut self, block: &Block, content_left: Option<u64>) -> StreamKey {
        self.streams.insert(Stream {
            id: block.stream,
            receive_window: ReceiveWindow::new(limits::STREAM_WINDOW_BYTES),
            receive_ended: block.end_stream,
            content_left,
            position: Position::default(),
            send_window: SendWindow::new(self.client.initial_window_size),
            pending: Default::default(),
            ending: None,
            queued: false,
            room: Room::NotWanted,
            progress: Progress::default(),
        })
    }

    /// Answers without troubling anybody.
    fn answer_at_once(&mut self, block: &Block, status: StatusCode) -> Result<(), Fault> {
        self.write_status(block.stream, status);
        if block.end_stream {
            self.recently_closed.push(block.stream, Closed::Finished);
            return self.floods.control_frame();
        }
        self.refuse(block.stream, ErrorCode::NO_ERROR)
    }

    fn trailers(&mut self, key: StreamKey, block: &Block, fields: Collector) -> Received {
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        if stream.receive_ended {
            return self.stream_error(key, ErrorCode::STREAM_CLOSED);
        }
        let whole = stream.content_left.unwrap_or(0) == 0;
        match fields.trailers() {
            Ok(trailers) if block.end_stream && whole && !block.depends_on_itself => {
                stream.receive_ended = true;
                Ok(Some(Event::Trailers { stream: key, trailers }))
            }
            _ => self.stream_error(key, ErrorCode::PROTOCOL_ERROR),
        }
    }

    fn headers_of_closed(&mut self, stream: u32) -> Result<(), Fault> {
        match self.recently_closed.find(stream) {
            Some(Closed::ResetByUs) => self.floods.control_frame(),
            Some(Closed::ResetByClient) => self.refuse(stream, ErrorCode::STREAM_CLOSED),
            Some(Closed::Finished) => {
                Err(Fault::new(ErrorCode::STREAM_CLOSED, "HEADERS on a stream that has ended"))
            }
            None => Err(Fault::protocol("the number of a new stream is not larger than the last")),
        }
    }
}
