//! What the client sends: frames to events (RFC 9113, sections 3.4, 4, 5.1 and 6).

use std::mem;

use bytes::Bytes;

use super::{Closed, Connection, ErrorCode, Event, Fault, LEAVING, StreamKey};
use crate::net::held::{self, Pressure};
use crate::net::http2::PREFACE;
use crate::net::http2::frame::{self, FRAME_BYTES, HEAD_BYTES, Head, flag, kind};
use crate::net::limits;

/// What a frame led to.
pub(super) type Received = Result<Option<Event>, Fault>;

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
        self.read(input).inspect_err(|fault| self.fail(*fault))
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
                self.waiting = 0;
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
            self.waiting = 0;
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
        let stream = self.streams.find(head.stream);
        let open = stream.and_then(|stream| self.streams.get(stream));
        let completes = open.is_some_and(|stream| stream.position.advance(data));
        if data.len() >= limits::TINY_DATA_BYTES || end {
            self.floods.earn();
        } else if completes {
            self.floods.message();
        } else {
            self.floods.control_frame()?;
        }
        let Some(key) = stream else {
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
        if self.receive_window.held() > limits::HELD_BYTES_ALWAYS
            && held::pressure() == Pressure::Over
        {
            self.consume_of_connection(length);
            return self.stream_error(key, ErrorCode::ENHANCE_YOUR_CALM);
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
            self.pings.received(self.now_ms, !self.streams.is_empty())?;
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
    pub(super) fn stream_error(&mut self, stream: StreamKey, code: ErrorCode) -> Received {
        if let Some(stream) = self.streams.get(stream) {
            self.pending -= stream.pending_bytes();
        }
        self.streams.remove(stream);
        self.refuse(stream.id, code)?;
        Ok(Some(Event::Reset { stream, code }))
    }

    /// Resets a stream that is not, or not any more, among the open ones.
    pub(super) fn refuse(&mut self, stream: u32, code: ErrorCode) -> Result<(), Fault> {
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
