//! Bytes in, events and frames out: the cases of h2spec, flow control, floods, arbitrary bytes.

mod conformance;
mod floods;
mod flow;
mod messages;
mod properties;

use bytes::{BufMut, Bytes};
use http::{Response, StatusCode};

use super::*;
use crate::net::http2::PREFACE;
use crate::net::http2::connection::send::Extra;
use crate::net::http2::frame::{HEAD_BYTES, Head, flag, kind};

/// GET / over http: the shortest request.
pub(super) const GET: &[u8] = &[0x82, 0x86, 0x84];
/// The same with POST.
pub(super) const POST: &[u8] = &[0x83, 0x86, 0x84];
pub(super) const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

/// A frame of the client.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut output = BytesMut::new();
    Head { length: payload.len(), kind, flags, stream }.write(&mut output);
    output.put_slice(payload);
    output.to_vec()
}

pub(super) fn get(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, stream, GET)
}

pub(super) fn post(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, POST)
}

pub(super) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// A connection after both sides' settings.
pub(super) fn connected() -> Connection {
    let mut connection = Connection::default();
    let mut hello = PREFACE.to_vec();
    hello.extend(frame(kind::SETTINGS, 0, 0, &[]));
    assert!(receive(&mut connection, &hello).is_empty());
    assert_eq!(
        sent(&mut connection),
        ["SETTINGS 0 flags 0, 18 bytes", "WINDOW_UPDATE 0 +4128769", "SETTINGS 0 flags 1, 0 bytes"]
    );
    connection
}

/// What happens upon these bytes, in words.
pub(super) fn receive(connection: &mut Connection, mut input: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        match connection.receive(&mut input) {
            Ok(Some(event)) => events.push(words(connection, event)),
            Ok(None) => return events,
            Err(fault) => {
                events.push(format!("fault {}", fault.code));
                return events;
            }
        }
    }
}

fn words(connection: &mut Connection, event: Event) -> String {
    let ending = |end| if end { ", end" } else { "" };
    match event {
        Event::Request { stream, request, end } => {
            format!("{} {} {}{}", stream.id, request.method(), request.uri(), ending(end))
        }
        Event::Data { stream, data, end } => {
            connection.consume(stream, data.len() as u32);
            format!("{} {} bytes{}", stream.id, data.len(), ending(end))
        }
        Event::Trailers { stream, trailers } => {
            format!("{} {} trailers", stream.id, trailers.len())
        }
        Event::Reset { stream, code } => format!("{} reset {code}", stream.id),
    }
}

/// The frames that wait to be written, in words.
pub(super) fn sent(connection: &mut Connection) -> Vec<String> {
    let mut output = connection.output().split();
    let mut frames = Vec::new();
    while !output.is_empty() {
        let head = Head::parse(*output.first_chunk().expect("whole frames"));
        let payload = output.split_to(HEAD_BYTES + head.length).split_off(HEAD_BYTES);
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four"));
        let stream = head.stream;
        frames.push(match head.kind {
            kind::RST_STREAM => format!("RST_STREAM {stream} {}", ErrorCode(number(0))),
            kind::GOAWAY => format!("GOAWAY {} {}", number(0), ErrorCode(number(4))),
            kind::WINDOW_UPDATE => format!("WINDOW_UPDATE {stream} +{}", number(0)),
            other => {
                let name = match other {
                    kind::DATA => "DATA",
                    kind::HEADERS => "HEADERS",
                    kind::SETTINGS => "SETTINGS",
                    kind::PING => "PING",
                    kind::CONTINUATION => "CONTINUATION",
                    _ => panic!("the server sends no frame {other}"),
                };
                format!("{name} {stream} flags {}, {} bytes", head.flags, head.length)
            }
        });
    }
    frames
}

pub(super) fn find(connection: &Connection, id: u32) -> StreamKey {
    connection.streams.find(id).expect("the stream is open")
}

/// Answers 200, with a body to follow or without.
pub(super) fn answer(connection: &mut Connection, id: u32, end: bool) -> StreamKey {
    let key = find(connection, id);
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::OK;
    connection.respond(key, &head, Extra::default(), end);
    key
}

pub(super) fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}
