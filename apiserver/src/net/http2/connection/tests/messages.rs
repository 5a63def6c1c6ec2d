//! The cases of h2spec that are about messages (RFC 9113, section 8), and the connection's end.

use super::conformance::Step::Client;
use super::conformance::{MALFORMED, Step, check, whole};
use super::*;

/// GET with these bytes after its pseudo-header fields.
fn get_with(fields: &[u8]) -> Vec<Step> {
    let block = [GET, fields].concat();
    vec![Client(frame(kind::HEADERS, WHOLE, 1, &block))]
}

/// A literal field that is not put into the table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0, name.len() as u8];
    block.extend_from_slice(name.as_bytes());
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
    block
}

fn of_field(name: &str, value: &str) -> Vec<Step> {
    get_with(&field(name, value))
}

#[test]
fn messages() {
    let trailers =
        |flags, block: &[u8]| vec![Client(post(1)), Client(frame(kind::HEADERS, flags, 1, block))];
    let length = |value: &str, data: &[&[u8]]| {
        let block = [POST, &field("content-length", value)].concat();
        let mut steps = vec![Client(frame(kind::HEADERS, flag::END_HEADERS, 1, &block))];
        for (at, part) in data.iter().enumerate() {
            steps.push(Client(frame(kind::DATA, u8::from(at == data.len() - 1), 1, part)));
        }
        steps
    };
    let reset = &["1 POST /", "1 reset PROTOCOL_ERROR", "RST_STREAM 1 PROTOCOL_ERROR"];
    check(vec![
        ("8.1/1 a second HEADERS frame that is not the end", trailers(4, &field("a", "b")), reset),
        ("8.1 trailers", trailers(WHOLE, &field("a", "b")), &["1 POST /", "1 1 trailers"]),
        ("8.1.2/1 an upper-case name", of_field("X-TEST", "ok"), MALFORMED),
        ("8.1.2.1/1 an unknown pseudo-header field", of_field(":test", "ok"), MALFORMED),
        ("8.1.2.1/2 the pseudo-header field of an answer", get_with(&[0x88]), MALFORMED),
        ("8.1.2.1/3 a pseudo-header field as a trailer", trailers(WHOLE, &[0x82]), reset),
        (
            "8.1.2.1/4 a pseudo-header field after others",
            whole(&[&field("a", "b"), GET].concat()),
            MALFORMED,
        ),
        ("8.1.2.2/1 connection", of_field("connection", "keep-alive"), MALFORMED),
        ("8.1.2.2 transfer-encoding", of_field("transfer-encoding", "chunked"), MALFORMED),
        ("8.1.2.2/2 te", of_field("te", "trailers, deflate"), MALFORMED),
        ("8.1.2.2 te: trailers", of_field("te", "trailers"), &["1 GET /, end"]),
        ("8.1.2.3/1 an empty path", whole(&[0x82, 0x86, 0x04, 0x00]), MALFORMED),
        ("8.1.2.3/2 no method", whole(&[0x86, 0x84]), MALFORMED),
        ("8.1.2.3/3 no scheme", whole(&[0x82, 0x84]), MALFORMED),
        ("8.1.2.3/4 no path", whole(&[0x82, 0x86]), MALFORMED),
        ("8.1.2.3/5 two methods", whole(&[0x82, 0x82, 0x86, 0x84]), MALFORMED),
        ("8.1.2.3/6 two schemes", whole(&[0x82, 0x86, 0x86, 0x84]), MALFORMED),
        ("8.1.2.3/7 two paths", whole(&[0x82, 0x86, 0x84, 0x84]), MALFORMED),
        ("8.1.2.6/1 less data than content-length", length("2", &[b"x"]), reset),
        (
            "8.1.2.6/2 less data than content-length, in frames",
            length("4", &[b"x", b"y"]),
            &["1 POST /", "1 1 bytes", "1 reset PROTOCOL_ERROR", "RST_STREAM 1 PROTOCOL_ERROR"],
        ),
        ("8.1.2.6 more data than content-length", length("1", &[b"xy"]), reset),
        (
            "8.1.2.6 as much data as content-length",
            length("2", &[b"xy"]),
            &["1 POST /", "1 2 bytes, end"],
        ),
        ("8.1.2.6 a content-length without a body", of_field("content-length", "1"), MALFORMED),
        ("8.1.2.6 a content-length that is no number", of_field("content-length", "+1"), MALFORMED),
        (
            "8.5 CONNECT is not implemented",
            whole(&[&[0x02, 7][..], b"CONNECT", &[0x01, 1], b"a"].concat()),
            &["HEADERS 1 flags 5, 5 bytes"],
        ),
        (
            "RFC 8441 CONNECT with an unexpected :protocol",
            get_with(&[&[0x02, 7][..], b"CONNECT"].concat()),
            MALFORMED,
        ),
        (
            "10.5.1 a header list that is too large is answered 431",
            whole(
                &[
                    GET,
                    &[&[0x40, 1][..], b"a", &[0x7f, 0xa1, 0x1d], &[b'x'; 3_872]].concat(),
                    &[0xbe; 70],
                ]
                .concat(),
            ),
            &["HEADERS 1 flags 5, 5 bytes"],
        ),
    ]);
}

#[test]
fn the_authority_is_any_visible_text() {
    for (authority, host) in [
        ("http://127.0.0.1:2379", Some("http://127.0.0.1:2379")),
        ("localhost", Some("localhost")),
        ("passthrough:///unix:/a.sock", Some("passthrough:///unix:/a.sock")),
        ("#initially=[127.0.0.1:2379]", Some("#initially=[127.0.0.1:2379]")),
        ("", None),
    ] {
        let mut block = GET.to_vec();
        block.extend([0x01, authority.len() as u8]);
        block.extend_from_slice(authority.as_bytes());
        let mut connection = connected();
        let input = frame(kind::HEADERS, WHOLE, 1, &block);
        match connection.receive(&mut &input[..]) {
            Ok(Some(Event::Request { request, .. })) => {
                let found = request.headers().get("host").map(|host| host.as_bytes());
                assert_eq!(found, host.map(str::as_bytes));
                assert_eq!((request.uri().path(), request.uri().authority()), ("/", None));
                assert_eq!(request.version(), http::Version::HTTP_2);
            }
            other => panic!("{authority}: {other:?}"),
        }
    }
}

#[test]
fn a_graceful_end_waits_for_streams() {
    let mut connection = connected();
    receive(&mut connection, &get(1));
    connection.leave();
    connection.leave();
    assert_eq!(sent(&mut connection), ["GOAWAY 2147483647 NO_ERROR", "PING 0 flags 0, 8 bytes"]);
    assert_eq!(receive(&mut connection, &get(3)), ["3 GET /, end"], "it may not have heard yet");
    receive(&mut connection, &frame(kind::PING, 1, 0, &LEAVING));
    assert_eq!(sent(&mut connection), ["GOAWAY 3 NO_ERROR"]);
    assert!(receive(&mut connection, &get(5)).is_empty(), "not taken, and not answered");
    answer(&mut connection, 1, true);
    assert!(!connection.is_finished());
    answer(&mut connection, 3, true);
    assert!(connection.is_finished());
}
