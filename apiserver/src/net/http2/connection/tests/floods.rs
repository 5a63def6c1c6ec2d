//! What a client may not do too often.

use super::*;

/// Sends a frame until the connection has enough; how often that was, and the code.
fn flood(connection: &mut Connection, mut next: impl FnMut(u32) -> Vec<u8>) -> (u32, String) {
    for at in 0..1_000_000 {
        let events = receive(connection, &next(at));
        connection.output().clear();
        if let Some(fault) = events.iter().find(|event| event.starts_with("fault")) {
            return (at, fault.clone());
        }
    }
    panic!("nothing stops it");
}

#[test]
fn frames_that_bring_nothing_are_limited() {
    for (name, bytes) in [
        ("CVE-2019-9512 PING", frame(kind::PING, 0, 0, &[0; 8])),
        ("CVE-2019-9515 SETTINGS", frame(kind::SETTINGS, 0, 0, &[])),
        ("CVE-2019-9513 PRIORITY", frame(kind::PRIORITY, 0, 1, &[0; 5])),
        ("CVE-2019-9518 empty DATA", frame(kind::DATA, 0, 1, &[])),
        ("tiny DATA", frame(kind::DATA, 0, 1, &[7])),
        ("WINDOW_UPDATE", window_update(1, 1)),
        ("an unknown frame", frame(0xee, 0, 0, &[])),
    ] {
        let mut connection = connected();
        receive(&mut connection, &post(1));
        let (count, fault) = flood(&mut connection, |_| bytes.clone());
        assert_eq!(fault, "fault ENHANCE_YOUR_CALM", "{name}");
        assert!(count.abs_diff(limits::CONTROL_FRAMES) < 10, "{name}: {count}");
    }
}

#[test]
fn short_messages_are_no_flood() {
    // As LeaseKeepAlive has them.
    let message = [0, 0, 0, 0, 3, 8, 0x80, 1];
    let mut connection = connected();
    receive(&mut connection, &post(1));
    for cut in [8, 8, 8, 5, 3] {
        for _ in 0..limits::CONTROL_FRAMES {
            let (head, tail) = message.split_at(cut);
            let mut input = frame(kind::DATA, 0, 1, head);
            if !tail.is_empty() {
                input.extend(frame(kind::DATA, 0, 1, tail));
            }
            let events = receive(&mut connection, &input);
            assert!(events.iter().all(|event| !event.starts_with("fault")), "{events:?}");
            connection.output().clear();
        }
    }
    // Nor are they a way around the limit.
    for (name, frames) in [
        ("without anything in them", vec![&[0; 5][..]]),
        ("a byte at a time", message.chunks(1).collect()),
    ] {
        let mut connection = connected();
        receive(&mut connection, &post(1));
        let bytes = |at: u32| frame(kind::DATA, 0, 1, frames[at as usize % frames.len()]);
        let (count, fault) = flood(&mut connection, bytes);
        assert_eq!(fault, "fault ENHANCE_YOUR_CALM", "{name}");
        assert!(count < 2 * limits::CONTROL_FRAMES, "{name}: {count}");
    }
}

#[test]
fn resets_are_limited_until_the_allowance_is_renewed() {
    // CVE-2023-44487: begin and reset.
    let rapid = |at: u32| {
        let id = 2 * at + 1;
        [get(id), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    };
    let mut connection = connected();
    let (count, fault) = flood(&mut connection, rapid);
    assert_eq!((count, fault.as_str()), (limits::RESETS, "fault ENHANCE_YOUR_CALM"));
    // CVE-2019-9514: make the server reset.
    let malformed = |at: u32| frame(kind::HEADERS, WHOLE, 2 * at + 1, &[0x82]);
    let (count, fault) = flood(&mut connected(), malformed);
    assert_eq!((count, fault.as_str()), (limits::RESETS, "fault ENHANCE_YOUR_CALM"));
    let mut connection = connected();
    let mut at = 0;
    for _ in 0..3 {
        for _ in 0..limits::RESETS {
            receive(&mut connection, &rapid(at));
            connection.output().clear();
            at += 1;
        }
        for _ in 0..limits::RENEWAL_CHECKS {
            connection.check().expect("no fault");
        }
    }
    assert_eq!(receive(&mut connection, &get(2 * at + 1)).len(), 1, "a patient client is served");
}

#[test]
fn slow_frames_are_cut_off() {
    let half_frame = post(1)[..5].to_vec();
    let open_block = frame(kind::HEADERS, 0, 1, GET);
    for (name, hello, bytes, checks) in [
        ("no preface", false, &b""[..], limits::HEADER_CHECKS),
        ("half a preface", false, &PREFACE[..9], limits::HEADER_CHECKS),
        ("a header block without an end", true, &open_block, limits::HEADER_CHECKS),
        ("half a frame", true, &half_frame, limits::FRAME_CHECKS),
    ] {
        let mut connection = if hello { connected() } else { Connection::default() };
        connection.output().clear();
        assert!(receive(&mut connection, bytes).is_empty());
        assert!(connection.needs_checks(), "{name}");
        for check in 0..checks {
            assert!(connection.check().is_ok(), "{name}, check {check}");
        }
        let fault = connection.check().expect_err(name);
        assert_eq!(fault.code, ErrorCode::ENHANCE_YOUR_CALM, "{name}");
        assert_eq!(sent(&mut connection), ["GOAWAY 0 ENHANCE_YOUR_CALM"], "{name}");
    }
    // Who gets on may go on for ever.
    let mut connection = connected();
    for at in 0..100 {
        let bytes = get(2 * at + 1);
        receive(&mut connection, &bytes[..5]);
        connection.check().expect("no fault");
        assert_eq!(receive(&mut connection, &bytes[5..]).len(), 1);
    }
}

#[test]
fn early_pings_are_strikes_where_grpc_rules() {
    let bounds =
        Bounds { ping_interval: Some(std::time::Duration::from_secs(5)), ..Bounds::default() };
    let mut connection = Connection::new(bounds);
    let hello = [PREFACE.to_vec(), frame(kind::SETTINGS, 0, 0, &[]), post(1)].concat();
    receive(&mut connection, &hello);
    connection.output().clear();
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    for second in 0..10 {
        connection.set_time(6000 * second);
        assert!(receive(&mut connection, &ping).is_empty(), "they are far enough apart");
    }
    let (count, fault) = flood(&mut connection, |_| ping.clone());
    assert_eq!((count, fault.as_str()), (limits::PING_STRIKES, "fault ENHANCE_YOUR_CALM"));
}

#[test]
fn useful_work_earns_an_allowance() {
    let mut connection = connected();
    for at in 0..2 * limits::CONTROL_FRAMES {
        let id = 2 * at + 1;
        let input = [get(id), window_update(0, 1), frame(kind::PING, 0, 0, &[0; 8])].concat();
        assert_eq!(receive(&mut connection, &input), [format!("{id} GET /, end")]);
        answer(&mut connection, id, true);
        connection.output().clear();
    }
}

#[test]
fn header_blocks_are_limited() {
    // CVE-2024-27316, and CVE-2019-9516 (no names) among them.
    let mut connection = connected();
    receive(&mut connection, &frame(kind::HEADERS, 0, 1, GET));
    let (count, fault) = flood(&mut connection, |_| frame(kind::CONTINUATION, 0, 1, &[]));
    assert_eq!((count, fault.as_str()), (limits::CONTINUATION_FRAMES, "fault ENHANCE_YOUR_CALM"));
    let mut connection = connected();
    receive(&mut connection, &frame(kind::HEADERS, 0, 1, GET));
    let (count, fault) = flood(&mut connection, |_| frame(kind::CONTINUATION, 0, 1, &[0; 16_384]));
    assert_eq!((count, fault.as_str()), (15, "fault ENHANCE_YOUR_CALM"));
}

#[test]
fn streams_are_limited() {
    let mut connection = connected();
    for at in 0..limits::STREAMS_PER_CONNECTION {
        assert_eq!(receive(&mut connection, &get(2 * at + 1)).len(), 1);
    }
    let id = 2 * limits::STREAMS_PER_CONNECTION + 1;
    assert!(receive(&mut connection, &get(id)).is_empty());
    assert_eq!(sent(&mut connection), [format!("RST_STREAM {id} REFUSED_STREAM")]);
    answer(&mut connection, 1, true);
    assert_eq!(receive(&mut connection, &get(id + 2)).len(), 1, "one ended, one is taken");
}
