//! Windows of both directions.

use super::*;

#[test]
fn an_answer_waits_for_its_windows() {
    let mut connection = connected();
    receive(&mut connection, &setting(4, 3));
    receive(&mut connection, &get(1));
    let key = answer(&mut connection, 1, false);
    sent(&mut connection);
    connection.send_data(key, bytes(10), true);
    assert_eq!(sent(&mut connection), ["DATA 1 flags 0, 3 bytes"]);
    assert!(!connection.can_go_on());
    // RFC 9113, section 6.9.2: a change of the initial window may make a window negative.
    receive(&mut connection, &setting(4, 1));
    receive(&mut connection, &window_update(1, 2));
    connection.send_pending();
    assert_eq!(sent(&mut connection), ["SETTINGS 0 flags 1, 0 bytes"]);
    receive(&mut connection, &window_update(1, 3));
    connection.send_pending();
    assert_eq!(sent(&mut connection), ["DATA 1 flags 0, 3 bytes"]);
    receive(&mut connection, &setting(4, 100));
    connection.send_pending();
    assert_eq!(sent(&mut connection), ["SETTINGS 0 flags 1, 0 bytes", "DATA 1 flags 1, 4 bytes"]);
    assert_eq!(connection.streams(), 0);
}

#[test]
fn streams_take_turns_in_the_connections_window() {
    let mut connection = connected();
    for id in [1, 3] {
        receive(&mut connection, &get(id));
        let key = answer(&mut connection, id, false);
        sent(&mut connection);
        connection.send_data(key, bytes(50_000), true);
    }
    // The first took what there was while it was alone.
    assert_eq!(sent(&mut connection), ["DATA 3 flags 0, 15535 bytes",]);
    receive(&mut connection, &window_update(0, 100_000));
    connection.send_pending();
    let frames = sent(&mut connection);
    assert_eq!(frames.last().map(String::as_str), Some("DATA 3 flags 1, 1697 bytes"));
}

#[test]
fn who_takes_no_answers_begins_no_streams() {
    const ANSWER: usize = 1 << 20;
    let mut connection = connected();
    receive(&mut connection, &setting(4, 0));
    let mut next = 1;
    while connection.pending <= limits::PENDING_BYTES {
        assert_eq!(receive(&mut connection, &get(next)).len(), 1, "{next} is taken");
        let key = answer(&mut connection, next, false);
        connection.send_data(key, bytes(ANSWER), true);
        next += 2;
    }
    assert_eq!(connection.streams(), limits::PENDING_BYTES / ANSWER + 1);
    assert!(!connection.keeps(ANSWER) && connection.keeps(limits::HELD_BYTES_ALWAYS));
    sent(&mut connection);
    assert!(receive(&mut connection, &get(next)).is_empty());
    assert_eq!(sent(&mut connection), [format!("RST_STREAM {next} REFUSED_STREAM")]);
    // What it asks for at last still comes, and then there is room for another.
    receive(&mut connection, &window_update(1, 10));
    connection.send_pending();
    assert_eq!(sent(&mut connection), ["DATA 1 flags 0, 10 bytes"]);
    receive(&mut connection, &frame(kind::RST_STREAM, 0, 3, &[0; 4]));
    assert_eq!(connection.pending, limits::PENDING_BYTES - 10);
    assert_eq!(receive(&mut connection, &get(next + 2)).len(), 1);
    assert!(connection.keeps(ANSWER));
    connection.account();
    let total = Held::connection();
    assert!(total.total() > limits::PENDING_BYTES);
    drop(connection);
    assert_eq!(total.total(), 0);
}

#[test]
fn trailers_need_no_window() {
    let mut connection = connected();
    receive(&mut connection, &setting(4, 0));
    receive(&mut connection, &get(1));
    let key = answer(&mut connection, 1, false);
    sent(&mut connection);
    connection.send_trailers(key, HeaderMap::new());
    assert_eq!(sent(&mut connection), ["HEADERS 1 flags 5, 0 bytes"]);
    // With data before them they wait, and come after it.
    receive(&mut connection, &get(3));
    let key = answer(&mut connection, 3, false);
    sent(&mut connection);
    connection.send_data(key, bytes(2), false);
    connection.send_trailers(key, HeaderMap::new());
    assert!(sent(&mut connection).is_empty());
    receive(&mut connection, &window_update(3, 2));
    connection.send_pending();
    assert_eq!(sent(&mut connection), ["DATA 3 flags 0, 2 bytes", "HEADERS 3 flags 5, 0 bytes"]);
}

#[test]
fn room_is_told_once_there_is_some() {
    let mut connection = connected();
    receive(&mut connection, &setting(4, 0));
    receive(&mut connection, &get(1));
    let key = answer(&mut connection, 1, false);
    assert!(!connection.has_room(key));
    connection.want_room(key);
    connection.want_room(key);
    assert_eq!(connection.next_with_room(), None);
    receive(&mut connection, &window_update(1, 9));
    assert!(connection.has_room(key) && connection.can_go_on());
    assert_eq!((connection.next_with_room(), connection.next_with_room()), (Some(key), None));
    connection.send_data(key, bytes(10), false);
    assert!(!connection.has_room(key), "a byte is kept");
    connection.want_room(key);
    receive(&mut connection, &window_update(1, 2));
    connection.send_pending();
    assert_eq!(connection.next_with_room(), Some(key));
    connection.want_room(key);
    receive(&mut connection, &frame(kind::RST_STREAM, 0, 1, &[0; 4]));
    assert_eq!(connection.next_with_room(), None, "gone");
}

#[test]
fn a_full_output_stops_everybody() {
    let mut connection = connected();
    receive(&mut connection, &setting(4, 1 << 30));
    receive(&mut connection, &window_update(0, 1 << 30));
    receive(&mut connection, &get(1));
    let key = answer(&mut connection, 1, false);
    connection.send_data(key, bytes(1 << 20), true);
    assert!(connection.is_output_full() && !connection.has_room(key));
    let limit = limits::CONNECTION_OUTPUT_BYTES + (16 << 10) + HEAD_BYTES;
    assert!(connection.output().len() <= limit);
    let mut data = 0;
    for _ in 0..5 {
        data += sent(&mut connection).iter().filter(|frame| frame.starts_with("DATA")).count();
        connection.send_pending();
    }
    assert_eq!((data, connection.streams()), (64, 0));
}

#[test]
fn a_client_gets_its_windows_back_in_large_steps() {
    let mut connection = connected();
    receive(&mut connection, &post(1));
    let mut updates = Vec::new();
    for _ in 0..128 {
        assert_eq!(
            receive(&mut connection, &frame(kind::DATA, 0, 1, &[0; 16_384])),
            ["1 16384 bytes"]
        );
        updates.extend(sent(&mut connection));
    }
    assert_eq!(
        updates,
        ["WINDOW_UPDATE 1 +1048576", "WINDOW_UPDATE 0 +2097152", "WINDOW_UPDATE 1 +1048576"]
    );
}

#[test]
fn padding_counts_and_is_given_back() {
    let mut connection = connected();
    receive(&mut connection, &post(1));
    let mut payload = vec![0; 16_384];
    payload[0] = 255;
    for _ in 0..1000 {
        assert_eq!(
            receive(&mut connection, &frame(kind::DATA, flag::PADDED, 1, &payload)),
            ["1 16128 bytes"]
        );
    }
}

#[test]
fn more_than_the_window_is_an_error() {
    let data = frame(kind::DATA, 0, 1, &[0; 16_384]);
    let mut connection = connected();
    receive(&mut connection, &post(1));
    // Nothing is consumed here.
    for _ in 0..limits::STREAM_WINDOW_BYTES / 16_384 {
        assert!(matches!(connection.receive(&mut &data[..]), Ok(Some(Event::Data { .. }))));
    }
    let result = connection.receive(&mut &data[..]);
    assert!(
        matches!(result, Ok(Some(Event::Reset { code: ErrorCode::FLOW_CONTROL_ERROR, .. }))),
        "{result:?}"
    );
    let mut connection = connected();
    receive(&mut connection, &[post(1), post(3), post(5)].concat());
    let mut fault = None;
    for at in 0..3 * limits::STREAM_WINDOW_BYTES / 16_384 {
        let data = frame(kind::DATA, 0, 1 + 2 * (at % 3), &[0; 16_384]);
        fault = connection.receive(&mut &data[..]).err();
        if fault.is_some() {
            assert_eq!(at, limits::CONNECTION_WINDOW_BYTES / 16_384);
            break;
        }
    }
    assert_eq!(fault.map(|fault| fault.code), Some(ErrorCode::FLOW_CONTROL_ERROR));
}

#[test]
fn answers_that_are_not_taken_are_dropped_after_a_while() {
    const ANSWER: usize = 2 << 20;
    let mut connection = connected();
    receive(&mut connection, &setting(4, 0));
    for id in [1, 3, 5] {
        receive(&mut connection, &get(id));
        let key = answer(&mut connection, id, false);
        if id != 3 {
            connection.keep(key);
        }
        connection.send_data(key, bytes(ANSWER), true);
    }
    sent(&mut connection);
    let mut dropped = Vec::new();
    for check in 1..=limits::STALLED_CHECKS + 1 {
        assert!(dropped.is_empty(), "at check {check}");
        // One takes enough each time, the others nothing.
        let taken = ANSWER as u32 / 60;
        let windows = [window_update(5, taken), window_update(0, taken)].concat();
        receive(&mut connection, &windows);
        connection.send_pending();
        sent(&mut connection);
        dropped = connection.check().expect("no fault");
    }
    assert_eq!(dropped.iter().map(|key| key.id).collect::<Vec<_>>(), [1]);
    assert_eq!(sent(&mut connection), ["RST_STREAM 1 ENHANCE_YOUR_CALM"]);
    assert!(connection.needs_checks());

    // A little may wait for ever.
    let mut connection = connected();
    receive(&mut connection, &setting(4, 0));
    receive(&mut connection, &get(1));
    let key = answer(&mut connection, 1, false);
    connection.keep(key);
    connection.send_data(key, bytes(limits::PENDING_BYTES_FREE), true);
    for _ in 0..10 * limits::STALLED_CHECKS {
        assert!(connection.check().expect("no fault").is_empty());
    }
}

#[test]
fn who_takes_answers_may_have_more_waiting() {
    let mut connection = connected();
    receive(&mut connection, &get(1));
    let key = answer(&mut connection, 1, false);
    connection.send_data(key, bytes(limits::PENDING_BYTES + 200_000), true);
    assert!(connection.keeps(1 << 20), "it takes what it is sent");
    for _ in 0..2 {
        connection.check().expect("no fault");
    }
    assert!(!connection.keeps(1 << 20), "it did, some time ago");
    receive(&mut connection, &[window_update(1, 50_000), window_update(0, 50_000)].concat());
    connection.output().clear();
    connection.send_pending();
    assert!(connection.keeps(1 << 20), "it does again");
}
