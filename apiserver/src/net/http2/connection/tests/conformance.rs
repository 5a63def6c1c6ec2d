//! The cases of h2spec for servers, by its sections and names.

use super::*;

/// What one side does.
pub(super) enum Step {
    Client(Vec<u8>),
    /// The server ends its answer to the client's request.
    Answer(u32),
}
use Step::{Answer, Client};

pub(super) fn check(cases: Vec<(&str, Vec<Step>, &[&str])>) {
    for (name, steps, expected) in cases {
        let mut connection = connected();
        let mut found = Vec::new();
        for step in steps {
            match step {
                Client(bytes) => found.extend(receive(&mut connection, &bytes)),
                Answer(id) => {
                    answer(&mut connection, id, true);
                    sent(&mut connection);
                }
            }
        }
        found.extend(sent(&mut connection));
        assert_eq!(found, expected, "{name}");
    }
}

pub(super) fn whole(block: &[u8]) -> Vec<Step> {
    vec![Client(frame(kind::HEADERS, WHOLE, 1, block))]
}

const PROTOCOL: &[&str] = &["fault PROTOCOL_ERROR", "GOAWAY 0 PROTOCOL_ERROR"];
const FRAME_SIZE: &[&str] = &["fault FRAME_SIZE_ERROR", "GOAWAY 0 FRAME_SIZE_ERROR"];
pub(super) const MALFORMED: &[&str] = &["RST_STREAM 1 PROTOCOL_ERROR"];

#[test]
fn preface() {
    for (name, hello) in [
        ("3.4/1 an invalid preface", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()),
        ("3.4/2 no SETTINGS", [PREFACE, &frame(kind::PING, 0, 0, &[0; 8])].concat()),
        ("3.4 an acknowledgement first", [PREFACE, &frame(kind::SETTINGS, 1, 0, &[])].concat()),
    ] {
        let mut connection = Connection::default();
        assert_eq!(receive(&mut connection, &hello), ["fault PROTOCOL_ERROR"], "{name}");
        assert_eq!(
            sent(&mut connection).last().map(String::as_str),
            Some("GOAWAY 0 PROTOCOL_ERROR")
        );
        assert!(connection.is_finished());
        assert_eq!(receive(&mut connection, &get(1)), ["fault PROTOCOL_ERROR"], "it stays so");
    }
}

#[test]
fn frames() {
    let priority = |dependency: u32| [&dependency.to_be_bytes()[..], &[255]].concat();
    check(vec![
        ("4.1/1 an unknown type", vec![Client(frame(0x16, 0, 0, &[0; 8]))], &[]),
        (
            "4.1/2 undefined flags",
            vec![Client(frame(kind::PING, 0x16, 0, &[0; 8]))],
            &["PING 0 flags 1, 8 bytes"],
        ),
        (
            "4.2/1 a DATA frame of 2^14 bytes",
            vec![Client(post(1)), Client(frame(kind::DATA, 1, 1, &[0; 16_384]))],
            &["1 POST /", "1 16384 bytes, end"],
        ),
        (
            "4.2/2 a large DATA frame",
            vec![Client(post(1)), Client(frame(kind::DATA, 1, 1, &[0; 16_385]))],
            &["1 POST /", "fault FRAME_SIZE_ERROR", "GOAWAY 1 FRAME_SIZE_ERROR"],
        ),
        (
            "4.2/3 a large HEADERS frame",
            vec![Client(frame(kind::HEADERS, WHOLE, 1, &[0; 16_385]))],
            FRAME_SIZE,
        ),
        (
            "4.3/1 an invalid header block",
            whole(&[0x40]),
            &["fault COMPRESSION_ERROR", "GOAWAY 0 COMPRESSION_ERROR"],
        ),
        (
            "4.3/2 PRIORITY amid a header block",
            vec![
                Client(frame(kind::HEADERS, 1, 1, GET)),
                Client(frame(kind::PRIORITY, 0, 1, &priority(0))),
            ],
            PROTOCOL,
        ),
        (
            "4.3/3 HEADERS of another stream amid a header block",
            vec![Client(frame(kind::HEADERS, 1, 1, GET)), Client(get(3))],
            PROTOCOL,
        ),
        (
            "5.5/2 an unknown type amid a header block",
            vec![Client(frame(kind::HEADERS, 1, 1, GET)), Client(frame(0x16, 0, 0, &[]))],
            PROTOCOL,
        ),
        ("6.1/1 DATA of no stream", vec![Client(frame(kind::DATA, 1, 0, b"x"))], PROTOCOL),
        (
            "6.1/3 DATA with invalid padding",
            vec![Client(post(1)), Client(frame(kind::DATA, 9, 1, b"\x06test"))],
            &["1 POST /", "fault PROTOCOL_ERROR", "GOAWAY 1 PROTOCOL_ERROR"],
        ),
        ("6.2/2 HEADERS of no stream", vec![Client(frame(kind::HEADERS, WHOLE, 0, GET))], PROTOCOL),
        (
            "6.2/4 HEADERS with invalid padding",
            vec![Client(frame(kind::HEADERS, WHOLE | 8, 1, &[9, 0x82, 0x86, 0x84]))],
            PROTOCOL,
        ),
        (
            "generic/3.2 HEADERS with padding and priority",
            vec![Client(frame(
                kind::HEADERS,
                WHOLE | 8 | 0x20,
                1,
                &[2, 0, 0, 0, 0, 255, 0x82, 0x86, 0x84, 0, 0],
            ))],
            &["1 GET /, end"],
        ),
        (
            "6.3/1 PRIORITY of no stream",
            vec![Client(frame(kind::PRIORITY, 0, 0, &priority(0)))],
            PROTOCOL,
        ),
        (
            "6.3/2 PRIORITY of another length",
            vec![Client(get(1)), Client(frame(kind::PRIORITY, 0, 1, &[0; 4]))],
            &["1 GET /, end", "1 reset FRAME_SIZE_ERROR", "RST_STREAM 1 FRAME_SIZE_ERROR"],
        ),
        (
            "5.3.1/1 HEADERS that depend on themselves",
            vec![Client(frame(
                kind::HEADERS,
                WHOLE | 0x20,
                1,
                &[0, 0, 0, 1, 255, 0x82, 0x86, 0x84],
            ))],
            MALFORMED,
        ),
        (
            "5.3.1/2 PRIORITY that depends on itself",
            vec![Client(get(1)), Client(frame(kind::PRIORITY, 0, 1, &priority(1)))],
            &["1 GET /, end", "1 reset PROTOCOL_ERROR", "RST_STREAM 1 PROTOCOL_ERROR"],
        ),
        (
            "6.4/1 RST_STREAM of no stream",
            vec![Client(frame(kind::RST_STREAM, 0, 0, &[0; 4]))],
            PROTOCOL,
        ),
        (
            "6.4/2 RST_STREAM of an idle stream",
            vec![Client(frame(kind::RST_STREAM, 0, 1, &[0; 4]))],
            PROTOCOL,
        ),
        (
            "6.4/3 RST_STREAM of another length",
            vec![Client(post(1)), Client(frame(kind::RST_STREAM, 0, 1, &[0; 3]))],
            &["1 POST /", "fault FRAME_SIZE_ERROR", "GOAWAY 1 FRAME_SIZE_ERROR"],
        ),
        (
            "6.5/1 an acknowledgement with a payload",
            vec![Client(frame(kind::SETTINGS, 1, 0, &[0; 6]))],
            FRAME_SIZE,
        ),
        ("6.5/2 SETTINGS of a stream", vec![Client(frame(kind::SETTINGS, 0, 1, &[]))], PROTOCOL),
        (
            "6.5/3 SETTINGS of another length",
            vec![Client(frame(kind::SETTINGS, 0, 0, &[0; 5]))],
            FRAME_SIZE,
        ),
        ("6.5.2/1 ENABLE_PUSH other than 0 and 1", vec![Client(setting(2, 2))], PROTOCOL),
        (
            "6.5.2/2 INITIAL_WINDOW_SIZE too large",
            vec![Client(setting(4, 1 << 31))],
            &["fault FLOW_CONTROL_ERROR", "GOAWAY 0 FLOW_CONTROL_ERROR"],
        ),
        ("6.5.2/3 MAX_FRAME_SIZE too small", vec![Client(setting(5, 16_383))], PROTOCOL),
        ("6.5.2/4 MAX_FRAME_SIZE too large", vec![Client(setting(5, 1 << 24))], PROTOCOL),
        (
            "6.5.2/5 an unknown setting",
            vec![Client(setting(255, 1))],
            &["SETTINGS 0 flags 1, 0 bytes"],
        ),
        (
            "6.6 PUSH_PROMISE of a client",
            vec![Client(frame(kind::PUSH_PROMISE, 4, 1, &[0; 4]))],
            PROTOCOL,
        ),
        (
            "6.7/1 PING",
            vec![Client(frame(kind::PING, 0, 0, b"12345678"))],
            &["PING 0 flags 1, 8 bytes"],
        ),
        ("6.7/2 PING that answers", vec![Client(frame(kind::PING, 1, 0, b"12345678"))], &[]),
        ("6.7/3 PING of a stream", vec![Client(frame(kind::PING, 0, 1, &[0; 8]))], PROTOCOL),
        (
            "6.7/4 PING of another length",
            vec![Client(frame(kind::PING, 0, 0, &[0; 6]))],
            FRAME_SIZE,
        ),
        ("6.8/1 GOAWAY of a stream", vec![Client(frame(kind::GOAWAY, 0, 1, &[0; 8]))], PROTOCOL),
        (
            "6.8 GOAWAY of another length",
            vec![Client(frame(kind::GOAWAY, 0, 0, &[0; 7]))],
            FRAME_SIZE,
        ),
        ("6.9/1 WINDOW_UPDATE by 0", vec![Client(window_update(0, 0))], PROTOCOL),
        (
            "6.9/2 WINDOW_UPDATE of a stream by 0",
            vec![Client(get(1)), Client(window_update(1, 0))],
            &["1 GET /, end", "1 reset PROTOCOL_ERROR", "RST_STREAM 1 PROTOCOL_ERROR"],
        ),
        (
            "6.9/3 WINDOW_UPDATE of another length",
            vec![Client(frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]))],
            FRAME_SIZE,
        ),
        (
            "6.9.1/2 a window above 2^31-1",
            vec![Client(window_update(0, 0x7fff_ffff))],
            &["fault FLOW_CONTROL_ERROR", "GOAWAY 0 FLOW_CONTROL_ERROR"],
        ),
        (
            "6.9.1/3 a stream's window above 2^31-1",
            vec![Client(get(1)), Client(window_update(1, 0x7fff_ffff))],
            &["1 GET /, end", "1 reset FLOW_CONTROL_ERROR", "RST_STREAM 1 FLOW_CONTROL_ERROR"],
        ),
        (
            "6.10/1 CONTINUATION frames",
            vec![
                Client(frame(kind::HEADERS, 1, 1, &GET[..1])),
                Client(frame(kind::CONTINUATION, 0, 1, &GET[1..2])),
                Client(frame(kind::CONTINUATION, 4, 1, &GET[2..])),
            ],
            &["1 GET /, end"],
        ),
        (
            "6.10/2 another frame than CONTINUATION",
            vec![Client(frame(kind::HEADERS, 1, 1, GET)), Client(frame(kind::DATA, 1, 1, b"x"))],
            PROTOCOL,
        ),
        (
            "6.10/3 CONTINUATION of no stream",
            vec![
                Client(frame(kind::HEADERS, 1, 1, GET)),
                Client(frame(kind::CONTINUATION, 4, 0, &[])),
            ],
            PROTOCOL,
        ),
        (
            "6.10/4 CONTINUATION after HEADERS that end",
            vec![Client(frame(kind::CONTINUATION, 4, 1, GET))],
            PROTOCOL,
        ),
        (
            "6.10/5 CONTINUATION after CONTINUATION that ends",
            vec![
                Client(frame(kind::HEADERS, 1, 1, GET)),
                Client(frame(kind::CONTINUATION, 4, 1, &[])),
                Client(frame(kind::CONTINUATION, 4, 1, &[])),
            ],
            &["1 GET /, end", "fault PROTOCOL_ERROR", "GOAWAY 1 PROTOCOL_ERROR"],
        ),
        (
            "7/1 GOAWAY with an unknown code",
            vec![
                Client(frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff])),
                Client(frame(kind::PING, 0, 0, &[0; 8])),
            ],
            &["PING 0 flags 1, 8 bytes"],
        ),
        (
            "7/2 RST_STREAM with an unknown code",
            vec![Client(get(1)), Client(frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 0xff]))],
            &["1 GET /, end", "1 reset error code 0xff"],
        ),
    ]);
}

#[test]
fn stream_states() {
    let data = |stream| Client(frame(kind::DATA, 1, stream, b"x"));
    let reset = |stream| Client(frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    let continuation = |stream| Client(frame(kind::CONTINUATION, 4, stream, GET));
    let late = |code: &'static str| ["1 GET /, end", code];
    check(vec![
        ("5.1/1 idle: DATA", vec![data(1)], PROTOCOL),
        ("5.1/2 idle: RST_STREAM", vec![reset(1)], PROTOCOL),
        ("5.1/3 idle: WINDOW_UPDATE", vec![Client(window_update(1, 1))], PROTOCOL),
        ("5.1/4 idle: CONTINUATION", vec![continuation(1)], PROTOCOL),
        (
            "5.1/5 half closed: DATA",
            vec![Client(get(1)), data(1)],
            &["1 GET /, end", "1 reset STREAM_CLOSED", "RST_STREAM 1 STREAM_CLOSED"],
        ),
        (
            "5.1/6 half closed: HEADERS",
            vec![Client(get(1)), Client(get(1))],
            &["1 GET /, end", "1 reset STREAM_CLOSED", "RST_STREAM 1 STREAM_CLOSED"],
        ),
        (
            "5.1/7 half closed: CONTINUATION",
            vec![Client(get(1)), continuation(1)],
            &["1 GET /, end", "fault PROTOCOL_ERROR", "GOAWAY 1 PROTOCOL_ERROR"],
        ),
        (
            "5.1/8 closed by RST_STREAM: DATA",
            vec![Client(get(1)), reset(1), data(1)],
            &["1 GET /, end", "1 reset CANCEL", "RST_STREAM 1 STREAM_CLOSED"],
        ),
        (
            "5.1/9 closed by RST_STREAM: HEADERS",
            vec![Client(get(1)), reset(1), Client(get(1))],
            &["1 GET /, end", "1 reset CANCEL", "RST_STREAM 1 STREAM_CLOSED"],
        ),
        (
            "5.1/11 closed: DATA",
            vec![Client(get(1)), Answer(1), data(1)],
            &late("RST_STREAM 1 STREAM_CLOSED"),
        ),
        (
            "5.1/12 closed: HEADERS",
            vec![Client(get(1)), Answer(1), Client(get(1))],
            &["1 GET /, end", "fault STREAM_CLOSED", "GOAWAY 1 STREAM_CLOSED"],
        ),
        (
            "5.1 closed: WINDOW_UPDATE, RST_STREAM and PRIORITY may be late",
            vec![
                Client(get(1)),
                Answer(1),
                Client(window_update(1, 1)),
                reset(1),
                Client(frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
            ],
            &["1 GET /, end"],
        ),
        (
            "5.1 reset by the server: what is on its way is ignored",
            vec![
                Client(post(1)),
                Answer(1),
                Client(frame(kind::DATA, 0, 1, b"x")),
                Client(frame(kind::HEADERS, WHOLE, 1, &[])),
            ],
            &["1 POST /"],
        ),
        ("5.1.1/1 an even stream", vec![Client(get(2))], PROTOCOL),
        (
            "5.1.1/2 a smaller stream",
            vec![Client(get(5)), Client(get(3))],
            &["5 GET /, end", "fault PROTOCOL_ERROR", "GOAWAY 5 PROTOCOL_ERROR"],
        ),
    ]);
}
