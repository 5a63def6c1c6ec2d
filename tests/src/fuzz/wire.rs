//! Bytes of etcd clients: HTTP/2, header blocks, gRPC, messages and their JSON.

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::Response;
use mainstay_apiserver::etcd::{json_of_answer, request_of_json};
use mainstay_apiserver::net::BoxedBody;
use mainstay_apiserver::net::grpc::Messages;
use mainstay_apiserver::net::http2::connection::Extra;
use mainstay_apiserver::net::http2::{Connection, Event, PREFACE};
use mainstay_proto::{auth, cluster, kv, lease, maintenance, watch};
use prost::Message;

use crate::raw::{flag, frame, kind, settings};

/// Gives these bytes to a connection and answers every request; what it said.
fn run(pieces: &[&[u8]]) -> Vec<u8> {
    let mut connection = Connection::default();
    for mut input in pieces.iter().copied() {
        loop {
            match connection.receive(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Request { stream, .. })) => {
                    let (head, ()) = Response::new(()).into_parts();
                    connection.respond(stream, &head, Extra::default(), false);
                    connection.send_data(stream, Bytes::from_static(&[7; 100]), true);
                }
                Ok(Some(Event::Data { stream, data, .. })) => {
                    connection.consume(stream, data.len() as u32);
                }
                Ok(Some(Event::Trailers { .. } | Event::Reset { .. })) => {}
                Err(_) => return connection.output().to_vec(),
            }
            connection.send_pending();
        }
        connection.account();
    }
    // Its checks, too, after whatever came.
    let output = connection.output().to_vec();
    for _ in 0..10 {
        let _fault = connection.check();
    }
    output
}

/// What a client sends after the preface. How it is cut makes no difference.
pub fn http2(data: &[u8]) {
    let hello = [PREFACE, &settings(&[])].concat();
    let (first, rest) = data.split_at(data.len() / 2);
    let whole = run(&[&hello, data]);
    assert_eq!(run(&[&hello, first, rest]), whole, "cut in two");
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(run(&[&[&hello[..]][..], &bytes].concat()), whole, "byte by byte");
}

/// Header blocks, one after the other: each begins with its length. They share a table.
pub fn hpack(data: &[u8]) {
    let mut bytes = [PREFACE, &settings(&[])].concat();
    let mut rest = data;
    let mut stream = 1;
    while let [length, tail @ ..] = rest {
        let (block, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        let flags = flag::END_HEADERS | flag::END_STREAM;
        bytes.extend(frame(kind::HEADERS, flags, stream, block));
        stream += 2;
        rest = tail;
    }
    run(&[&bytes]);
}

/// Frames of gRPC messages, however they come. The first byte says how they are cut.
pub fn grpc_framing(data: &[u8]) {
    const LIMIT: usize = 1000;
    let Some((&cut, data)) = data.split_first() else { return };
    let read = |step: usize| {
        let chunks: Vec<_> =
            data.chunks(step).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let mut messages = Messages::new(BoxedBody::stream(stream::iter(chunks)), LIMIT);
        let mut found = Vec::new();
        loop {
            match messages.next().now_or_never().expect("all of it is here") {
                Ok(Some(message)) => found.push(message),
                Ok(None) => return (found, None),
                Err(status) => return (found, Some(status.message)),
            }
        }
    };
    let whole = read(data.len().max(1));
    assert!(whole.0.iter().all(|message| message.len() <= LIMIT));
    assert_eq!(read(usize::from(cut).max(1)), whole, "cut each {cut} bytes");
}

/// A message; the first byte says which. What was decoded comes back when it is encoded.
pub fn etcd_message(data: &[u8]) {
    fn check<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) {
        if let Ok(message) = M::decode(data) {
            let again = M::decode(&message.encode_to_vec()[..]).expect("its own encoding");
            assert!(again == message, "{message:?} became {again:?}");
        }
    }
    let Some((&which, data)) = data.split_first() else { return };
    match which % 10 {
        0 => check::<kv::RangeRequest>(data),
        1 => check::<kv::PutRequest>(data),
        2 => check::<kv::DeleteRangeRequest>(data),
        3 => check::<kv::TxnRequest>(data),
        4 => check::<kv::CompactionRequest>(data),
        5 => check::<watch::WatchRequest>(data),
        6 => check::<lease::LeaseGrantRequest>(data),
        7 => check::<maintenance::AlarmRequest>(data),
        8 => check::<auth::AuthenticateRequest>(data),
        _ => check::<cluster::MemberAddRequest>(data),
    }
}

const PATHS: [&str; 6] = [
    "/v3/kv/range",
    "/v3/kv/put",
    "/v3/kv/txn",
    "/v3/watch",
    "/v3/lease/grant",
    "/v3/cluster/member/add",
];

/// The gateway's JSON; the first byte says for which path. What it makes of a text is a message,
/// and of any bytes as an answer it makes JSON or nothing.
pub fn gateway_json(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let path = PATHS[usize::from(which) % PATHS.len()];
    if let Ok(message) = request_of_json(path, data).expect("a path") {
        let read = match path {
            "/v3/kv/range" => kv::RangeRequest::decode(&message[..]).map(|_| ()),
            "/v3/kv/put" => kv::PutRequest::decode(&message[..]).map(|_| ()),
            "/v3/kv/txn" => kv::TxnRequest::decode(&message[..]).map(|_| ()),
            "/v3/watch" => watch::WatchRequest::decode(&message[..]).map(|_| ()),
            "/v3/lease/grant" => lease::LeaseGrantRequest::decode(&message[..]).map(|_| ()),
            _ => cluster::MemberAddRequest::decode(&message[..]).map(|_| ()),
        };
        if let Err(error) = read {
            // Both have a bound for what lies within what, and they need not be the same.
            assert!(error.to_string().contains("recursion"), "{path}: {error}");
        }
    }
    if let Ok(text) = json_of_answer(path, data).expect("a path") {
        serde_json::from_str::<serde_json::Value>(&text)
            .unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
    }
}
