//! What the client is sent: commands to frames, as far as its windows allow.

use bytes::{BufMut, Bytes};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{HeaderMap, StatusCode, response};

use super::{Closed, Connection, ErrorCode, StreamKey};
use crate::net::http2::frame::{self, FRAME_BYTES, Head, flag, kind};
use crate::net::http2::stream::{Ending, Room};
use crate::net::limits;

/// What is sent with an answer's head beside its own fields.
#[derive(Debug, Default, Clone, Copy)]
pub struct Extra<'a> {
    /// Bytes of its body, if they are known and its own fields do not say so.
    pub content_length: Option<u64>,
    /// The time of day, for answers that do not have one.
    pub date: Option<&'a HeaderValue>,
}

impl Connection {
    /// Sends the head of an answer. With `end`, it has no body.
    ///
    /// Commands for a stream that has ended meanwhile do nothing.
    pub fn respond(&mut self, key: StreamKey, head: &response::Parts, extra: Extra<'_>, end: bool) {
        if self.streams.get(key).is_none() {
            return;
        }
        self.scratch.clear();
        self.encoder.status(head.status, &mut self.scratch);
        self.encoder.fields(&head.headers, &mut self.scratch);
        if let Some(length) = extra.content_length
            && !head.headers.contains_key(CONTENT_LENGTH)
        {
            self.encoder.field(&CONTENT_LENGTH, &HeaderValue::from(length), &mut self.scratch);
        }
        if let Some(date) = extra.date
            && !head.headers.contains_key(DATE)
        {
            self.encoder.field(&DATE, date, &mut self.scratch);
        }
        self.write_block(key.id, end);
        if end {
            self.sent_all(key);
        }
    }

    /// A status and nothing else.
    pub(super) fn write_status(&mut self, stream: u32, status: StatusCode) {
        self.scratch.clear();
        self.encoder.status(status, &mut self.scratch);
        self.write_block(stream, true);
    }

    fn write_block(&mut self, stream: u32, end: bool) {
        self.pings.sent();
        let limit = self.frame_limit();
        frame::write_headers(&mut self.output, stream, &self.scratch, end, limit);
    }

    /// The largest payload to send: what the client takes, and not so much that others wait.
    fn frame_limit(&self) -> usize {
        (self.client.max_frame_size as usize).min(FRAME_BYTES)
    }

    /// All of this stream's answer is given at once: it is kept here until it is sent.
    pub fn keep(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get(key) {
            stream.progress.whole = true;
        }
    }

    /// Sends data, or keeps it until it may be sent.
    pub fn send_data(&mut self, key: StreamKey, data: Bytes, end: bool) {
        let Some(stream) = self.streams.get(key) else { return };
        debug_assert!(stream.ending.is_none(), "nothing follows the end");
        if !data.is_empty() {
            self.pending += data.len();
            stream.pending.push_back(data);
        }
        if end {
            stream.ending = Some(Ending::Data);
        }
        self.send_in_turn(key);
    }

    /// Ends an answer with trailers, after all its data.
    pub fn send_trailers(&mut self, key: StreamKey, trailers: HeaderMap) {
        let Some(stream) = self.streams.get(key) else { return };
        debug_assert!(stream.ending.is_none(), "nothing follows the end");
        stream.ending = Some(Ending::Trailers(trailers));
        self.send_in_turn(key);
    }

    /// Breaks an answer off.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        if self.streams.get(key).is_some() {
            frame::write_reset(&mut self.output, key.id, code);
            self.close(key, Closed::ResetByUs);
        }
    }

    /// The body of a request was read so far: the client may send as much again.
    pub fn consume(&mut self, key: StreamKey, bytes: u32) {
        self.consume_of_connection(bytes);
        if let Some(stream) = self.streams.get(key)
            && let Some(increment) = stream.receive_window.consume(bytes)
            && !stream.receive_ended
        {
            frame::write_window_update(&mut self.output, key.id, increment);
        }
    }

    pub(super) fn consume_of_connection(&mut self, bytes: u32) {
        if let Some(increment) = self.receive_window.consume(bytes) {
            frame::write_window_update(&mut self.output, 0, increment);
        }
    }

    /// Whether data for this stream would be sent now and not kept.
    pub fn has_room(&mut self, key: StreamKey) -> bool {
        self.has_room_for_more() && self.streams.get(key).is_some_and(|stream| stream.has_room())
    }

    fn has_room_for_any(&self) -> bool {
        self.send_window.available() > 0 && !self.is_output_full()
    }

    /// The same for what is still at its source.
    fn has_room_for_more(&self) -> bool {
        self.has_room_for_any() && !self.is_paused()
    }

    /// Whether [`send_pending`](Connection::send_pending) or
    /// [`next_with_room`](Connection::next_with_room) would do something.
    pub fn can_go_on(&self) -> bool {
        self.has_room_for_any() && !self.senders.is_empty()
            || self.has_room_for_more() && !self.roomy.is_empty()
    }

    /// [`next_with_room`](Connection::next_with_room) is going to name this stream, once.
    pub fn want_room(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get(key)
            && stream.room == Room::NotWanted
        {
            stream.room = Room::Wanted;
            self.window_opened(key);
        }
    }

    /// A stream that wanted room for data, now that there is some.
    pub fn next_with_room(&mut self) -> Option<StreamKey> {
        if !self.has_room_for_more() {
            return None;
        }
        while let Some(key) = self.roomy.pop_front() {
            if let Some(stream) = self.streams.get(key) {
                stream.room = Room::NotWanted;
                return Some(key);
            }
        }
        None
    }

    /// A stream's window may be larger, or its data is sent: see what can go on.
    pub(super) fn window_opened(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.pending.is_empty() && stream.ending.is_some() {
            // The end of an answer needs neither a window nor a turn.
            self.send_end(key);
        } else if stream.may_send_data() && !stream.queued {
            stream.queued = true;
            self.senders.push_back(key);
        } else if stream.room == Room::Wanted && stream.has_room() {
            stream.room = Room::Listed;
            self.roomy.push_back(key);
        }
    }

    /// Sends what may be sent, a frame of each stream in turn, until the output is full.
    pub fn send_pending(&mut self) {
        while !self.is_output_full()
            && let Some(key) = self.senders.pop_front()
        {
            let Some(stream) = self.streams.get(key) else { continue };
            if self.send_window.available() == 0 {
                self.senders.push_front(key);
                return;
            }
            stream.queued = false;
            self.send_frame(key);
            self.window_opened(key);
        }
    }

    /// Sends at once when nobody waits for a turn.
    fn send_in_turn(&mut self, key: StreamKey) {
        self.window_opened(key);
        if self.senders.len() == 1 {
            self.send_pending();
        }
    }

    /// The next frame of a stream's answer.
    fn send_frame(&mut self, key: StreamKey) {
        let limit = self.frame_limit();
        let Some(stream) = self.streams.get(key) else { return };
        let Some(data) = stream.pending.front_mut() else { return };
        let length = data
            .len()
            .min(limit)
            .min(stream.send_window.available())
            .min(self.send_window.available());
        if length == 0 {
            return;
        }
        let part = data.split_to(length);
        if data.is_empty() {
            stream.pending.pop_front();
        }
        stream.send_window.spend(length);
        stream.progress.sent += length;
        let end = stream.pending.is_empty() && matches!(stream.ending, Some(Ending::Data));
        self.send_window.spend(length);
        self.pending -= length;
        self.sent += length;
        self.floods.earn();
        self.pings.sent();
        let flags = if end { flag::END_STREAM } else { 0 };
        Head { length, kind: kind::DATA, flags, stream: key.id }.write(&mut self.output);
        self.output.put_slice(&part);
        if end {
            self.sent_all(key);
        }
    }

    fn send_end(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        match stream.ending.take() {
            None => return,
            Some(Ending::Data) => {
                Head { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: key.id }
                    .write(&mut self.output);
            }
            Some(Ending::Trailers(trailers)) => {
                self.scratch.clear();
                self.encoder.trailers(&trailers, &mut self.scratch);
                self.write_block(key.id, true);
            }
        }
        self.sent_all(key);
    }

    /// The answer is complete, and with it the stream: nobody would read what the client adds.
    fn sent_all(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.receive_ended {
            self.close(key, Closed::Finished);
        } else {
            self.reset(key, ErrorCode::NO_ERROR);
        }
    }
}

const _: () = assert!(limits::STREAM_SEND_BUFFER_BYTES <= limits::CONNECTION_OUTPUT_BYTES);
