//! JSON to messages and back: what is taken, what is refused in which words, and that nothing that
//! a client sends can do more harm than to be refused.

use std::future::poll_fn;
use std::pin::Pin;

use futures_util::FutureExt;
use http_body::Body as _;
use mainstay_proto::kv as proto;
use mainstay_proto::watch::WatchResponse;
use mainstay_proto::{Event, EventType, KeyValue, ResponseHeader};
use proptest::prelude::*;

use super::tables::{admin, kv};
use super::*;

fn decoded<M: prost::Message + Default>(text: &str, shape: &Shape) -> M {
    let bytes = decode::message(text.as_bytes(), shape).expect("good JSON");
    M::decode(&bytes[..]).expect("a good message")
}

fn encoded(message: &impl prost::Message, shape: &Shape) -> String {
    let mut text = String::new();
    encode::message(&message.encode_to_vec(), shape, &mut text).expect("a message of this shape");
    text
}

#[test]
fn requests_are_read_in_either_spelling() {
    let expected = proto::RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: -5,
        sort_order: 2,
        keys_only: true,
        ..proto::RangeRequest::default()
    };
    for text in [
        r#"{"key":"YQ==","range_end":"Yg==","limit":"-5","sort_order":"DESCEND","keys_only":true}"#,
        r#"{"key":"YQ","rangeEnd":"Yg","limit":-5,"sortOrder":2,"keysOnly":true}"#,
        r#" {"limit":-50e-1,"revision":null,"nobody":{"knows":[1,"}"]},"key":"YQ==",
             "rangeEnd":"Yg==","sort_target":"SIDEWAYS","sortOrder":"DESCEND","keysOnly":true} "#,
    ] {
        let text = text.trim();
        assert_eq!(decoded::<proto::RangeRequest>(text, &kv::RANGE_REQUEST), expected, "{text}");
    }
}

#[test]
fn a_member_of_a_group_counts_even_when_it_is_zero() {
    let text = r#"{"compare":[{"createRevision":0,"target":"CREATE","key":"YQ=="}],
        "success":[{"requestTxn":{"failure":[{"request_delete_range":{}}]}},{}]}"#;
    let request: proto::TxnRequest = decoded(text, &kv::TXN_REQUEST);
    let target = &request.compare[0].target_union;
    assert_eq!(*target, Some(proto::TargetUnion::CreateRevision(0)));
    let Some(proto::Request::Txn(inner)) = &request.success[0].request else {
        panic!("{request:?}");
    };
    let deletion = proto::Request::DeleteRange(proto::DeleteRangeRequest::default());
    assert_eq!(inner.failure[0].request, Some(deletion));
    assert_eq!(request.success[1].request, None);
}

#[test]
fn errors_are_those_of_etcds_gateway() {
    for (text, message) in [
        ("{", "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        (r#"{"key": "!!!"}"#, "proto:\u{a0}(line 1:9): invalid value for bytes field key: \"!!!\""),
        (r#"{"key": 5}"#, "proto:\u{a0}(line 1:9): invalid value for bytes field key: 5"),
        (
            "{\n \"é\": 1,\n \"é\": 2, \"range_end\": true}",
            "proto:\u{a0}(line 3:23): invalid value for bytes field rangeEnd: true",
        ),
        (
            r#"{"limit":"9223372036854775808"}"#,
            "proto:\u{a0}(line 1:10): invalid value for int64 field limit: \"9223372036854775808\"",
        ),
        (
            r#"{"keys_only":"true"}"#,
            "proto:\u{a0}(line 1:14): invalid value for bool field keysOnly: \"true\"",
        ),
        (
            r#"{"sort_order":1.5}"#,
            "proto:\u{a0}(line 1:15): invalid value for enum field sortOrder: 1.5",
        ),
        (r#"{"key":{}}"#, "proto:\u{a0}(line 1:8): invalid value for bytes field key: {"),
        (r#"{"limit":1,"limit":1}"#, "proto:\u{a0}(line 1:12): duplicate field \"limit\""),
        ("[]", "proto:\u{a0}syntax error (line 1:1): unexpected token ["),
        ("null", "proto:\u{a0}syntax error (line 1:1): unexpected token null"),
    ] {
        let error = decode::message(text.as_bytes(), &kv::RANGE_REQUEST).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
    for (text, message) in [
        (r#"{"success":{}}"#, "proto:\u{a0}syntax error (line 1:12): unexpected token {"),
        (r#"{"success":[null]}"#, "proto:\u{a0}syntax error (line 1:13): unexpected token null"),
        (
            r#"{"success":[{"requestPut":{},"request_range":{}}]}"#,
            "proto:\u{a0}(line 1:30): error parsing \"request_range\", oneof \
             etcdserverpb.RequestOp.request is already set",
        ),
    ] {
        let error = decode::message(text.as_bytes(), &kv::TXN_REQUEST).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn wrong_values_are_shown_in_part_when_they_are_long() {
    let text = format!(r#"{{"key":"{}"}}"#, "!".repeat(100_000));
    let error = decode::message(text.as_bytes(), &kv::PUT_REQUEST).expect_err("no base64");
    assert!(error.to_string().len() < 400 && error.to_string().ends_with("!..."));
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| {
        let open = r#"{"success":[{"request_txn":"#.repeat(levels);
        format!("{open}{{}}{}", "}]}".repeat(levels))
    };
    let error = |text: &str| {
        decode::message(text.as_bytes(), &kv::TXN_REQUEST).map_err(|error| error.to_string())
    };
    assert!(error(&nested(80)).is_ok());
    assert_eq!(error(&nested(100)), Err("exceeded max depth".to_owned()));
    assert_eq!(error(&nested(100_000)), Err("exceeded max depth".to_owned()));
    // An answer as deep as no request can make it.
    let deep = (0..200).fold(Vec::new(), |inner, _| {
        let message = [grpc_key(3, inner.len()), inner].concat();
        [grpc_key(4, message.len()), message].concat()
    });
    let mut text = String::new();
    assert_eq!(encode::message(&deep, &kv::TXN_RESPONSE, &mut text), Ok(()));
    let deep = [grpc_key(3, deep.len()), deep].concat();
    assert!(encode::message(&deep, &kv::TXN_RESPONSE, &mut text).is_err());
}

/// The key and length of a field that holds `length` bytes.
fn grpc_key(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes
}

#[test]
fn answers_have_published_names_and_nothing_empty() {
    let header = Some(ResponseHeader { cluster_id: u64::MAX, revision: 7, ..Default::default() });
    let kv = KeyValue { key: "k\u{0}".into(), version: -1, ..KeyValue::default() };
    let range = proto::RangeResponse { header, kvs: vec![kv.clone(), kv], more: true, count: 2 };
    assert_eq!(
        encoded(&range, &kv::RANGE_RESPONSE),
        r#"{"header":{"cluster_id":"18446744073709551615","revision":"7"},"kvs":[{"key":"awA=","version":"-1"},{"key":"awA=","version":"-1"}],"more":true,"count":"2"}"#
    );
    let event = |kind: EventType| Event { kind: kind.into(), ..Event::default() };
    let watch = WatchResponse {
        watch_id: -1,
        cancel_reason: "so \"what\"\n".to_owned(),
        events: vec![event(EventType::Put), event(EventType::Delete)],
        ..WatchResponse::default()
    };
    assert_eq!(
        encoded(&watch, &kv::WATCH_RESPONSE),
        r#"{"watch_id":"-1","cancel_reason":"so \"what\"\n","events":[{},{"type":"DELETE"}]}"#
    );
    let lease = mainstay_proto::lease::LeaseTimeToLiveResponse {
        id: 5,
        keys: vec!["a".into(), "".into()],
        ..Default::default()
    };
    let expected = r#"{"ID":"5","keys":["YQ==",""]}"#;
    assert_eq!(encoded(&lease, &admin::LEASE_TIME_TO_LIVE_RESPONSE), expected);
    assert_eq!(encoded(&proto::PutResponse::default(), &kv::PUT_RESPONSE), "{}");
}

#[test]
fn every_path_is_routed() {
    for path in routes::PATHS {
        assert!(is_path(path) && routes::find(path).is_some(), "{path}");
    }
    assert!(routes::find("/v3/kv").is_none() && routes::find("/v3/kv/range/").is_none());
}

#[test]
fn a_body_is_bounded() {
    let text = Bytes::from(vec![b' '; limits::GATEWAY_BYTES + 1]);
    for (body, code) in [
        (BoxedBody::full(text.slice(1..)), None),
        (BoxedBody::full(text.clone()), Some(Code::ResourceExhausted)),
        (BoxedBody::stream(stream::iter([Ok(text)])), Some(Code::ResourceExhausted)),
    ] {
        let read = whole(RequestBody::Made(body), limits::GATEWAY_BYTES, &kv::RANGE_REQUEST);
        let read = read.now_or_never().expect("nothing to wait for");
        assert_eq!(read.err().map(|status| status.code), code);
    }
}

/// All that a stream of requests makes of `chunks`, until it ends or fails.
fn streamed_requests(chunks: Vec<Bytes>) -> (Vec<Bytes>, Option<Status>) {
    let chunks = stream::iter(chunks.into_iter().map(Ok));
    let body = RequestBody::Made(BoxedBody::stream(chunks));
    let mut requests = Requests::new(body, &kv::RANGE_REQUEST);
    let mut messages = Vec::new();
    loop {
        let next = poll_fn(|context| Pin::new(&mut requests).poll_frame(context));
        match next.now_or_never().expect("nothing to wait for") {
            None => return (messages, None),
            Some(Ok(frame)) => messages.push(frame.into_data().expect("data alone")),
            Some(Err(error)) => {
                let status = error.downcast::<Status>().expect("a status");
                return (messages, Some(*status));
            }
        }
    }
}

#[test]
fn a_stream_of_requests_is_cut_into_messages() {
    let text = r#"{"limit":1} {"key":"YX0="}{}"#;
    let expected: Vec<Bytes> = [r#"{"limit":1}"#, r#"{"key":"YX0="}"#, "{}"]
        .map(|text| grpc::frame(&decode::message(text.as_bytes(), &kv::RANGE_REQUEST).unwrap()))
        .to_vec();
    for size in 1..=text.len() {
        let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        assert_eq!(streamed_requests(chunks), (expected.clone(), None), "chunks of {size}");
    }
    for (text, count, message) in [
        ("", 0, None),
        ("  \n", 0, None),
        ("{} {", 1, Some("unexpected EOF")),
        ("{}x", 1, Some("invalid character 'x' looking for beginning of value")),
    ] {
        let (messages, status) = streamed_requests(vec![Bytes::from_static(text.as_bytes())]);
        let message = message.map(str::to_owned);
        assert_eq!((messages.len(), status.map(|status| status.message)), (count, message));
    }
    let endless = vec![Bytes::from(vec![b'['; 1 << 20]); 64];
    let (_, status) = streamed_requests(endless);
    assert_eq!(status.expect("too large").code, Code::ResourceExhausted);
}

/// Text that looks like JSON more often than not.
fn json_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "1e9",
        "-0.5",
        "\"key\":",
        "\"YQ==\"",
        "\"success\":[",
        "{\"request_put\":",
        "\"requestRange\"",
        "\"limit\":",
        " ",
        "\n",
        "é",
        "\\u00",
        "\"filters\":[\"NOPUT\",",
        "\"create_request\":{",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for path in routes::PATHS {
            let route = routes::find(path).expect("routed");
            let _refused = decode::message(&bytes, route.request);
            let _refused = encode::message(&bytes, route.response, &mut String::new());
        }
    }

    #[test]
    fn nothing_like_json_is_too_strange(text in json_like()) {
        for shape in [&kv::TXN_REQUEST, &kv::WATCH_REQUEST, &kv::RANGE_REQUEST] {
            if let Ok(bytes) = decode::message(text.as_bytes(), shape) {
                let mut again = String::new();
                let written = encode::message(&bytes, shape, &mut again);
                // Fields in another order than the table's are none of our own services' messages.
                if written.is_ok() {
                    let reread = decode::message(again.as_bytes(), shape);
                    prop_assert_eq!(reread, Ok(bytes), "{} became {}", text, again);
                }
            }
        }
    }

    #[test]
    fn what_is_written_can_be_read(
        key in prop::collection::vec(any::<u8>(), 0..50),
        value in prop::collection::vec(any::<u8>(), 0..50),
        lease in any::<i64>(),
        prev_kv in any::<bool>(),
    ) {
        let request = proto::PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            prev_kv,
            ..Default::default()
        };
        let text = encoded(&request, &kv::PUT_REQUEST);
        prop_assert_eq!(decoded::<proto::PutRequest>(&text, &kv::PUT_REQUEST), request);
    }
}
