//! What the client sends: frames to events (RFC 9113, sections 3.4, 4, 5.1 and 6).

use std::mem;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::{Closed, Connection, ErrorCode, Event, Fault, LEAVING, Leaving, StreamKey};
use crate::net::http2::PREFACE;
use crate::net::http2::frame::{self, FRAME_BYTES, HEAD_BYTES, Head, flag, kind};
use crate::net::http2::hpack::DecodeError;
use crate::net::http2::request::{Collector, Outcome};
use crate::net::http2::stream::{Room, Stream};
use crate::net::http2::window::{ReceiveWindow, SendWindow};
use crate::net::limits;

/// A header block on its way.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    end_stream: bool,
    /// The stream claims to depend on itself.
    depends_on_itself: bool,
    bytes: BytesMut,
    /// CONTINUATION frames so far.
    continuations: u32,
}

/// What a frame led to.
type Received = Result<Option<Event>, Fault>;

impl Connection {
    /// Reads from the front of `input` up to the next event. `None` when all was read.
    ///
    /// # Errors
    /// The connection can't go on: what waits to be written says so to the client, and then the
    /// connection is to be closed.
    pub fn receive(&mut self, input: &mut &[u8]) -> Received {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.read(input).inspect_err(|fault| {
            self.fault = Some(*fault);
            frame::write_goaway(&mut self.output, self.last_stream, fault.code, fault.reason);
        })
    }

    fn read(&mut self, input: &mut &[u8]) -> Received {
        while self.preface < PREFACE.len() {
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            if byte != PREFACE[self.preface] {
                return Err(Fault::protocol("the connection does not begin as HTTP/2 does"));
            }
            self.preface += 1;
            *input = rest;
        }
        loop {
            let event = if self.partial.is_empty() {
                let Some((head, payload)) = whole_frame(input)? else {
                    self.partial.extend_from_slice(mem::take(input));
                    return Ok(None);
                };
                self.frame(head, payload)?
            } else {
                if !self.complete(input)? {
                    return Ok(None);
                }
                let mut partial = mem::take(&mut self.partial);
                let event = match whole_frame(&mut &partial[..])? {
                    Some((head, payload)) => self.frame(head, payload)?,
                    None => unreachable!("the frame was completed"),
                };
                partial.clear();
                self.partial = partial;
                event
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Moves bytes from `input` to `partial` until that is one frame; whether it is.
    fn complete(&mut self, input: &mut &[u8]) -> Result<bool, Fault> {
        self.take_up_to(HEAD_BYTES, input);
        let Some(head) = self.partial.first_chunk() else { return Ok(false) };
        let total = HEAD_BYTES + checked(Head::parse(*head))?.length;
        self.take_up_to(total, input);
        Ok(self.partial.len() == total)
    }

    fn take_up_to(&mut self, length: usize, input: &mut &[u8]) {
        let missing = length.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.partial.extend_from_slice(taken);
        *input = rest;
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Received {
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Fault::protocol("a frame comes amid a header block"));
        }
        if !self.settings_seen {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Fault::protocol("the first frame is not SETTINGS"));
            }
            self.settings_seen = true;
        }
        match head.kind {
            kind::DATA => self.data(&head, payload),
            kind::HEADERS => self.headers(&head, payload),
            kind::CONTINUATION => self.continuation(&head, payload),
            kind::PRIORITY => self.priority(&head, payload),
            kind::RST_STREAM => self.reset_by_client(&head, payload),
            kind::SETTINGS => self.settings(&head, payload).map(|()| None),
            kind::PING => self.ping_received(&head, payload).map(|()| None),
            kind::GOAWAY => self.goaway(&head, payload).map(|()| None),
            kind::WINDOW_UPDATE => self.window_update(&head, payload),
            kind::PUSH_PROMISE => Err(Fault::protocol("clients do not push")),
            // To be ignored, whatever it is.
            _ => self.floods.control_frame().map(|()| None),
        }
    }

    fn is_idle(&self, stream: u32) -> bool {
        stream > self.last_stream || stream.is_multiple_of(2)
    }

    fn data(&mut self, head: &Head, payload: &[u8]) -> Received {
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("DATA on a stream that is not open"));
        }
        let data = frame::unpad(head, payload)?;
        // A frame's length is checked: at most 2^14.
        let length = payload.len() as u32;
        self.receive_window.receive(length).map_err(|_| {
            Fault::new(ErrorCode::FLOW_CONTROL_ERROR, "more data than the connection's window")
        })?;
        let end = head.has(flag::END_STREAM);
        if data.is_empty() && !end {
            self.floods.control_frame()?;
        } else {
            self.floods.earn();
        }
        let Some(key) = self.streams.find(head.stream) else {
            self.consume_of_connection(length);
            return match self.recently_closed.find(head.stream) {
                Some(Closed::ResetByUs) => self.floods.control_frame().map(|()| None),
                _ => self.refuse(head.stream, ErrorCode::STREAM_CLOSED).map(|()| None),
            };
        };
        if let Err(code) = self.count_data(key, length, data.len(), end) {
            self.consume_of_connection(length);
            return self.stream_error(key, code);
        }
        self.consume(key, length - data.len() as u32);
        if data.is_empty() && !end {
            return Ok(None);
        }
        Ok(Some(Event::Data { stream: key, data: Bytes::copy_from_slice(data), end }))
    }

    /// Counts a DATA frame on its stream.
    fn count_data(
        &mut self,
        key: StreamKey,
        frame_bytes: u32,
        data_bytes: usize,
        end: bool,
    ) -> Result<(), ErrorCode> {
        let stream = self.streams.get(key).ok_or(ErrorCode::STREAM_CLOSED)?;
        if stream.receive_ended {
            return Err(ErrorCode::STREAM_CLOSED);
        }
        let window = &mut stream.receive_window;
        window.receive(frame_bytes).map_err(|_| ErrorCode::FLOW_CONTROL_ERROR)?;
        if let Some(left) = &mut stream.content_left {
            *left = left.checked_sub(data_bytes as u64).ok_or(ErrorCode::PROTOCOL_ERROR)?;
            if end && *left > 0 {
                return Err(ErrorCode::PROTOCOL_ERROR);
            }
        }
        stream.receive_ended = end;
        Ok(())
    }

    fn headers(&mut self, head: &Head, payload: &[u8]) -> Received {
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
        };
        if head.has(flag::END_HEADERS) {
            return self.block(&block, bytes);
        }
        self.block = Some(Block { bytes: BytesMut::from(bytes), ..block });
        Ok(None)
    }

    fn continuation(&mut self, head: &Head, payload: &[u8]) -> Received {
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
        if self.streams.len() >= limits::STREAMS_PER_CONNECTION as usize {
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
            send_window: SendWindow::new(self.client.initial_window_size),
            pending: Default::default(),
            ending: None,
            queued: false,
            room: Room::NotWanted,
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

    fn priority(&mut self, head: &Head, payload: &[u8]) -> Received {
        if head.stream == 0 {
            return Err(Fault::protocol("PRIORITY of no stream"));
        }
        self.floods.control_frame()?;
        // Priorities are deprecated and have no effect; the frame is checked all the same.
        let code = match payload.split_first_chunk::<4>() {
            Some((dependency, [_])) if frame::number(dependency) != Some(head.stream) => {
                return Ok(None);
            }
            Some((_, [_])) => ErrorCode::PROTOCOL_ERROR,
            _ => ErrorCode::FRAME_SIZE_ERROR,
        };
        match self.streams.find(head.stream) {
            Some(key) => self.stream_error(key, code),
            // A stream that is not open can't be reset.
            None => Err(Fault::new(code, "a malformed PRIORITY frame")),
        }
    }

    fn reset_by_client(&mut self, head: &Head, payload: &[u8]) -> Received {
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("RST_STREAM of a stream that is not open"));
        }
        let Ok(code) = payload.try_into().map(u32::from_be_bytes) else {
            return Err(Fault::frame_size("RST_STREAM takes four bytes"));
        };
        self.floods.reset()?;
        let Some(stream) = self.streams.find(head.stream) else { return Ok(None) };
        self.close(stream, Closed::ResetByClient);
        Ok(Some(Event::Reset { stream, code: ErrorCode(code) }))
    }

    fn settings(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("SETTINGS of a stream"));
        }
        self.floods.control_frame()?;
        if head.has(flag::ACK) {
            return match payload {
                [] => Ok(()),
                _ => Err(Fault::frame_size("an acknowledgement of settings is empty")),
            };
        }
        let before = self.client.initial_window_size;
        self.client.update(payload)?;
        self.encoder.set_limit(self.client.header_table_size);
        let change = i64::from(self.client.initial_window_size) - i64::from(before);
        if change != 0 {
            self.change_all_windows(change)?;
        }
        Head { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }
            .write(&mut self.output);
        Ok(())
    }

    fn change_all_windows(&mut self, change: i64) -> Result<(), Fault> {
        for (_, stream) in self.streams.all() {
            stream.send_window.change(change).map_err(|_| {
                Fault::new(ErrorCode::FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
            })?;
        }
        if change > 0 {
            for key in self.streams.keys().collect::<Vec<_>>() {
                self.window_opened(key);
            }
        }
        Ok(())
    }

    fn ping_received(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("PING of a stream"));
        }
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Err(Fault::frame_size("PING takes eight bytes"));
        };
        self.floods.control_frame()?;
        if !head.has(flag::ACK) {
            frame::write_ping(&mut self.output, true, payload);
        } else if payload == LEAVING {
            self.decide_to_leave();
        }
        Ok(())
    }

    fn goaway(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("GOAWAY of a stream"));
        }
        if payload.len() < 8 {
            return Err(Fault::frame_size("GOAWAY takes at least eight bytes"));
        }
        self.client_leaves = true;
        self.floods.control_frame()
    }

    fn window_update(&mut self, head: &Head, payload: &[u8]) -> Received {
        let Some(increment) = frame::number(payload) else {
            return Err(Fault::frame_size("WINDOW_UPDATE takes four bytes"));
        };
        self.floods.control_frame()?;
        if head.stream == 0 {
            if increment == 0 {
                return Err(Fault::protocol("WINDOW_UPDATE by nothing"));
            }
            return match self.send_window.change(i64::from(increment)) {
                Ok(()) => Ok(None),
                Err(_) => Err(Fault::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "the connection's window is larger than 2^31-1",
                )),
            };
        }
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("WINDOW_UPDATE of a stream that is not open"));
        }
        let Some(key) = self.streams.find(head.stream) else { return Ok(None) };
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        if increment == 0 {
            return self.stream_error(key, ErrorCode::PROTOCOL_ERROR);
        }
        if stream.send_window.change(i64::from(increment)).is_err() {
            return self.stream_error(key, ErrorCode::FLOW_CONTROL_ERROR);
        }
        self.window_opened(key);
        Ok(None)
    }

    /// Ends a stream because of what the client did on it.
    fn stream_error(&mut self, stream: StreamKey, code: ErrorCode) -> Received {
        self.streams.remove(stream);
        self.refuse(stream.id, code)?;
        Ok(Some(Event::Reset { stream, code }))
    }

    /// Resets a stream that is not, or not any more, among the open ones.
    fn refuse(&mut self, stream: u32, code: ErrorCode) -> Result<(), Fault> {
        self.floods.reset()?;
        frame::write_reset(&mut self.output, stream, code);
        self.recently_closed.push(stream, Closed::ResetByUs);
        Ok(())
    }
}

/// A frame must not be longer than we said.
fn checked(head: Head) -> Result<Head, Fault> {
    if head.length > FRAME_BYTES {
        return Err(Fault::frame_size("a frame is longer than 16384 bytes"));
    }
    Ok(head)
}

/// Takes a frame from the front of `input`, if all of it is there.
fn whole_frame<'a>(input: &mut &'a [u8]) -> Result<Option<(Head, &'a [u8])>, Fault> {
    let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let head = checked(Head::parse(*head))?;
    let Some((payload, rest)) = rest.split_at_checked(head.length) else { return Ok(None) };
    *input = rest;
    Ok(Some((head, payload)))
}
