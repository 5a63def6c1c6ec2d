//! Clients that do what they should not: each is cut off in the right words, and nobody else notices.

use std::time::{Duration, Instant};

use mainstay_apiserver::net::limits;
use mainstay_proto::kv::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion};
use mainstay_tests::grpc::{self, Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};
use mainstay_tests::raw::{self, Bystander, Raw, flag, kind};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

const MIB: usize = 1 << 20;
/// What allocators and buffers may keep beside what is counted.
const SLACK: usize = 64 * MIB;
const PATIENCE: Duration = Duration::from_secs(20);

fn start(directory: &Directory, flags: &[&str]) -> Mainstay {
    let flags = [&["--cores=2"], flags].concat();
    Mainstay::store(directory.path(), &flags)
}

/// Fills one key with so many bytes.
fn put(server: &Mainstay, key: &'static str, bytes: usize) {
    let request =
        PutRequest { key: key.into(), value: vec![7; bytes].into(), ..Default::default() };
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        client.unary::<_, PutResponse>(PUT, &request).await.expect("written");
    });
}

/// A watch of one key, as a call that stays open.
fn watch(stream: u32, key: &'static str) -> Vec<u8> {
    let create = WatchCreateRequest { key: key.into(), start_revision: 1, ..Default::default() };
    let request = WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) };
    let mut bytes = raw::frame(kind::HEADERS, flag::END_HEADERS, stream, &raw::call_block(WATCH));
    bytes.extend(raw::frame(kind::DATA, 0, stream, &grpc::frame(&request)));
    bytes
}

#[test]
fn floods_are_cut_off_and_cost_nobody_anything() {
    let directory = Directory::new();
    let server = start(&directory, &["--grpc-keepalive-min-time=0"]);
    let open = raw::frame(kind::HEADERS, flag::END_HEADERS, 1, &raw::call_block(WATCH));
    let begun = raw::frame(kind::HEADERS, 0, 1, &raw::call_block(WATCH));
    let before = server.memory_bytes();
    type Next = fn(u32) -> Vec<u8>;
    let floods: [(&str, &[u8], Next); 12] = [
        ("pings", &[], |_| raw::frame(kind::PING, 0, 0, &[0; 8])),
        ("settings", &[], |_| raw::settings(&[(raw::INITIAL_WINDOW, 9)])),
        ("settings of many streams", &open, |at| raw::settings(&[(4, 1 + at % 2)])),
        ("priorities", &[], |_| raw::frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("window updates", &open, |_| raw::window_update(1, 1)),
        ("empty data", &open, |_| raw::frame(kind::DATA, 0, 1, &[])),
        ("tiny data", &open, |_| raw::frame(kind::DATA, 0, 1, &[0])),
        ("continuations", &begun, |_| raw::frame(kind::CONTINUATION, 0, 1, &[])),
        ("full continuations", &begun, |_| raw::frame(kind::CONTINUATION, 0, 1, &[0; 16_384])),
        ("rapid resets", &[], |at| {
            let block = raw::call_block(RANGE);
            let mut bytes = raw::frame(kind::HEADERS, flag::END_HEADERS, 2 * at + 1, &block);
            bytes.extend(raw::frame(kind::RST_STREAM, 0, 2 * at + 1, &[0, 0, 0, 8]));
            bytes
        }),
        ("streams that the server resets", &[], |at| {
            raw::frame(kind::HEADERS, flag::END_HEADERS, 2 * at + 1, &[0x82])
        }),
        ("frames of no kind", &[], |_| raw::frame(0xee, 0, 0, &[0; 100])),
    ];
    for (name, hello, next) in floods {
        let bystander = Bystander::start(&server.etcd);
        let mut raw = Raw::connect(&server.etcd, &[]);
        raw.send(hello).expect("sent");
        let goaway = raw.flood(next).unwrap_or_else(|| panic!("{name}: no GOAWAY"));
        assert_eq!(goaway.code(), raw::ENHANCE_YOUR_CALM, "{name}: {}", goaway.text());
        bystander.assert_fine(name);
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(grown < SLACK, "{name}: {grown} bytes more");
    }
    assert!(server.stop().success());
}

#[test]
fn early_pings_are_answered_as_grpc_servers_do() {
    let directory = Directory::new();
    let server = start(&directory, &["--grpc-keepalive-min-time=1s"]);
    let mut raw = Raw::connect(&server.etcd, &[]);
    raw.send(&watch(1, "k")).expect("sent");
    let ping = raw::frame(kind::PING, 0, 0, &[1; 8]);
    for _ in 0..4 {
        raw.send(&ping).expect("sent");
        let pong = raw.find(PATIENCE, |frame| frame.kind == kind::PING);
        assert!(pong.is_some_and(|frame| frame.flags == flag::ACK), "far enough apart");
        std::thread::sleep(Duration::from_millis(1100));
    }
    let goaway = raw.flood(move |_| ping.clone()).expect("a GOAWAY");
    assert_eq!((goaway.code(), goaway.text().as_str()), (raw::ENHANCE_YOUR_CALM, "too_many_pings"));
    assert!(server.stop().success());
}

#[test]
fn who_answers_no_ping_is_gone() {
    let directory = Directory::new();
    let flags = ["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"];
    let server = start(&directory, &flags);
    let mut silent = Raw::connect(&server.etcd, &[]);
    let mut lively = Raw::connect(&server.etcd, &[]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let ping = lively.find(PATIENCE, |frame| frame.kind == kind::PING).expect("open");
        let pong = raw::frame(kind::PING, flag::ACK, 0, &ping.payload);
        lively.send(&pong).expect("open");
    }
    assert!(silent.find(PATIENCE, |_| false).is_none(), "it ends");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(server.stop().success());
}

#[test]
fn connections_are_limited_and_the_refused_are_told() {
    let directory = Directory::new();
    let server = start(
        &directory,
        &["--max-connections=4", "--listen-client-urls=http://127.0.0.1:0,https://127.0.0.1:0"],
    );
    let (plain, encrypted) = server.etcd.split_once(", https://").expect("two URLs");
    let held: Vec<Raw> = (0..4)
        .map(|_| {
            let mut raw = Raw::connect(plain, &[]);
            raw.find(PATIENCE, |frame| frame.kind == kind::SETTINGS).expect("served");
            raw
        })
        .collect();
    let goaway = Raw::connect(plain, &[]).find(PATIENCE, |frame| frame.kind == kind::GOAWAY);
    let goaway = goaway.expect("told");
    assert_eq!(goaway.code(), raw::ENHANCE_YOUR_CALM);
    assert_eq!(goaway.text(), "too many connections");
    let get = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let ask = |address: &str| {
        let mut raw = Raw::plain(address);
        raw.send(get).expect("sent");
        String::from_utf8_lossy(&raw.rest(PATIENCE).expect("an end")).into_owned()
    };
    assert!(ask(plain).starts_with("HTTP/1.1 503 "), "{}", ask(plain));
    assert!(server.stderr().contains("no room for more clients"), "{}", server.stderr());
    // Each listener has its own number; TLS is closed without a word.
    let crowd: Vec<Raw> = (0..4).map(|_| Raw::plain(encrypted)).collect();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ask(encrypted), "");
    drop((held, crowd));
    let begun = Instant::now();
    while !ask(plain).starts_with("HTTP/1.1 200 ") {
        assert!(begun.elapsed() < PATIENCE, "there is room again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.stop().success());
}

#[test]
fn slow_clients_are_cut_off_in_time() {
    let directory = Directory::new();
    let server = start(&directory, &[]);
    put(&server, "large", MIB);
    let address = server.etcd.as_str();
    let bystander = Bystander::start(address);
    // Sends a byte now and then until the server ends it; when that was, and all that it said.
    let drip = |mut raw: Raw, byte: u8| {
        let begun = Instant::now();
        let mut writer = raw.duplicate();
        let writing = std::thread::spawn(move || {
            while writer.send(&[byte]).is_ok() {
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let rest = raw.rest(Duration::from_secs(90)).expect("an end");
        let lasted = begun.elapsed();
        drop(raw);
        writing.join().expect("the writer ends");
        (lasted, rest)
    };
    let seconds = |from: u64, to: u64| Duration::from_secs(from)..Duration::from_secs(to);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (lasted, _) = drip(Raw::plain(address), b'G');
            assert!(seconds(9, 20).contains(&lasted), "HTTP/1.1 head: {lasted:?}");
        });
        scope.spawn(|| {
            let mut raw = Raw::plain(address);
            let begun = Instant::now();
            assert_eq!(raw.rest(Duration::from_secs(90)).expect("an end"), b"");
            assert!(seconds(29, 45).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        });
        scope.spawn(|| {
            let mut raw = Raw::plain(address);
            let head = "POST /v3/kv/range HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{";
            raw.send(head.as_bytes()).expect("sent");
            let (lasted, said) = drip(raw, b' ');
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.contains("comes too slowly"), "{said}");
            assert!(seconds(14, 120).contains(&lasted), "HTTP/1.1 body: {lasted:?}");
        });
        scope.spawn(|| {
            // A header block without an end, in a connection that is otherwise lively.
            let mut raw = Raw::connect(address, &[]);
            let begun = Instant::now();
            raw.send(&raw::frame(kind::HEADERS, 0, 1, &raw::call_block(RANGE))).expect("sent");
            let goaway = raw.find(PATIENCE, |frame| frame.kind == kind::GOAWAY).expect("told");
            assert_eq!(goaway.code(), raw::ENHANCE_YOUR_CALM);
            assert!(seconds(9, 20).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        });
        scope.spawn(|| {
            // A call's message that never comes.
            let mut raw = Raw::connect(address, &[]);
            let begun = Instant::now();
            let head = raw::frame(kind::HEADERS, flag::END_HEADERS, 1, &raw::call_block(PUT));
            raw.send(&head).expect("sent");
            raw.send(&raw::frame(kind::DATA, 0, 1, &[0, 0, 0, 1, 0])).expect("sent");
            let reset = raw.find(Duration::from_secs(40), |frame| frame.kind == kind::RST_STREAM);
            assert!(reset.is_some_and(|frame| frame.stream == 1));
            assert!(seconds(14, 35).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        });
        scope.spawn(|| {
            // Takes nothing from its socket, though its windows are wide open.
            let mut raw = Raw::connect(address, &[(raw::INITIAL_WINDOW, 0x7fff_ffff)]);
            raw.send(&raw::window_update(0, 0x7000_0000)).expect("sent");
            let range = RangeRequest { key: "large".into(), ..Default::default() };
            for at in 0..64 {
                raw.send(&raw::call(2 * at + 1, RANGE, &range)).expect("sent");
            }
            let begun = Instant::now();
            std::thread::sleep(Duration::from_secs(45));
            // What the kernel had is still there, and then it ends.
            let received = raw.rest(PATIENCE).expect("an end").len();
            assert!(received < 64 * MIB, "{received}");
            assert!(begun.elapsed() < Duration::from_secs(60));
        });
    });
    bystander.assert_fine("beside them");
    assert!(server.stop().success());
}

#[test]
fn answers_that_are_not_taken_are_bounded() {
    let directory = Directory::new();
    let server = start(&directory, &[]);
    put(&server, "large", MIB);
    let before = server.memory_bytes();
    let bystander = Bystander::start(&server.etcd);
    // A window of nothing, and 200 MiB of answers.
    let mut raw = Raw::connect(&server.etcd, &[(raw::INITIAL_WINDOW, 0)]);
    let range = RangeRequest { key: "large".into(), ..Default::default() };
    for at in 0..200 {
        raw.send(&raw::call(2 * at + 1, RANGE, &range)).expect("sent");
    }
    let begun = Instant::now();
    let (mut refused, mut dropped) = (0, 0);
    while dropped < 7 {
        let frame = raw.next(Duration::from_secs(60)).expect("in time").expect("open");
        match frame.kind {
            kind::PING if frame.flags == 0 => {
                let pong = raw::frame(kind::PING, flag::ACK, 0, &frame.payload);
                raw.send(&pong).expect("open");
            }
            kind::RST_STREAM if frame.code() == raw::REFUSED_STREAM => refused += 1,
            kind::RST_STREAM => {
                assert_eq!(frame.code(), raw::ENHANCE_YOUR_CALM);
                dropped += 1;
            }
            // "etcdserver: too many requests", and nothing else.
            kind::HEADERS if frame.flags & flag::END_STREAM != 0 => refused += 1,
            _ => {}
        }
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(grown < SLACK, "{grown} bytes more");
    }
    // Fewer than ten are kept, and these not for long.
    assert!(refused >= 190, "{refused} refused");
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(60)).contains(&lasted), "{lasted:?}");
    bystander.assert_fine("beside them");
    assert!(server.stop().success());
}

#[test]
fn all_clients_together_hold_no_more_than_the_process_may() {
    let directory = Directory::new();
    let budget = 96 * MIB;
    let flag = format!("--max-held-bytes={budget}");
    let server = start(&directory, &[&flag]);
    put(&server, "large", MIB);
    let before = server.memory_bytes();
    let bystander = Bystander::start(&server.etcd);
    let range = RangeRequest { key: "large".into(), ..Default::default() };
    let mut crowd = Vec::new();
    // Each may hold eight; two hundred would hold more than a gigabyte. Watches hold as much.
    for number in 0..200u32 {
        let mut raw = Raw::connect(&server.etcd, &[(raw::INITIAL_WINDOW, number % 2)]);
        for at in 0..20 {
            let bytes = match number % 2 {
                0 => raw::call(2 * at + 1, RANGE, &range),
                _ => watch(2 * at + 1, "large"),
            };
            // It may be refused already.
            let _sent = raw.send(&bytes);
        }
        crowd.push(raw);
        // What is asked for is work, too: not all of it at once.
        std::thread::sleep(Duration::from_millis(20));
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(grown < budget + SLACK, "{grown} bytes more with {number} connections");
    }
    bystander.assert_fine("beside them");
    // Who comes now is told so, or served.
    drop(crowd);
    let begun = Instant::now();
    block_on(async {
        while Client::try_connect(&server.etcd).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "there is room again");
        }
    });
    assert!(server.stop().success());
}

#[test]
fn requests_that_are_not_read_are_bounded() {
    let directory = Directory::new();
    let server = start(&directory, &["--max-held-bytes=67108864"]);
    let before = server.memory_bytes();
    let bystander = Bystander::start(&server.etcd);
    // Watches whose answers have no window do not read; their clients send what the windows take, in
    // pieces that would cost many times their length if each were kept.
    let mut crowd = Vec::new();
    for _ in 0..40 {
        let mut raw = Raw::connect(&server.etcd, &[(raw::INITIAL_WINDOW, 0)]);
        let head = raw::frame(kind::HEADERS, flag::END_HEADERS, 1, &raw::call_block(WATCH));
        let mut bytes = head;
        for _ in 0..(limits::STREAM_WINDOW_BYTES as usize / 100) {
            bytes.extend(raw::frame(kind::DATA, 0, 1, &[0; 100]));
        }
        let _sent = raw.send(&bytes);
        crowd.push(raw);
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB + SLACK, "{grown} bytes more");
    }
    bystander.assert_fine("beside them");
    assert!(server.stop().success());
}

#[test]
fn streams_and_requests_have_a_size() {
    let directory = Directory::new();
    let flags = ["--max-concurrent-streams=10", "--max-request-bytes=4194304"];
    let server = start(&directory, &flags);
    let mut raw = Raw::connect(&server.etcd, &[]);
    let settings = raw.find(PATIENCE, |frame| frame.kind == kind::SETTINGS).expect("settings");
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 10]));
    for at in 0..11 {
        raw.send(&watch(2 * at + 1, "k")).expect("sent");
    }
    let reset = raw.find(PATIENCE, |frame| frame.kind == kind::RST_STREAM).expect("refused");
    assert_eq!((reset.stream, reset.code()), (21, raw::REFUSED_STREAM));
    put(&server, "k", 3 * MIB);
    let request =
        PutRequest { key: "k".into(), value: vec![7; 4 * MIB].into(), ..Default::default() };
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let refused = client.unary::<_, PutResponse>(PUT, &request).await.expect_err("too large");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (3, "etcdserver: request is too large")
        );
        let range = RangeRequest { key: "k".into(), ..Default::default() };
        let found: RangeResponse = client.unary(RANGE, &range).await.expect("read");
        assert_eq!(found.kvs[0].value.len(), 3 * MIB);
    });
    assert!(server.stop().success());
}

#[test]
fn too_many_header_fields_are_refused() {
    let directory = Directory::new();
    let server = start(&directory, &[]);
    let before = server.memory_bytes();
    // HTTP/2: small on the wire, large once decoded; the connection goes on.
    let mut raw = Raw::connect(&server.etcd, &[]);
    let mut block = raw::call_block(RANGE);
    // A field that is remembered, named 4,000 times.
    block.extend(b"\x40\x01a\x7f\x81\x1e");
    block.extend([b'x'; 4000]);
    block.extend([0xbe; 4000]);
    raw.send(&raw::frame(kind::HEADERS, 0, 1, &block[..8000])).expect("sent");
    raw.send(&raw::frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[8000..])).expect("sent");
    let answer = raw.find(PATIENCE, |frame| frame.kind == kind::HEADERS).expect("an answer");
    assert!(String::from_utf8_lossy(&answer.payload).contains("431") || answer.payload.len() < 10);
    raw.send(&watch(3, "k")).expect("sent");
    let next = raw.find(PATIENCE, |frame| frame.kind == kind::HEADERS && frame.stream == 3);
    assert!(next.is_some(), "the next call is served");
    // HTTP/1.1: a head that does not end.
    let mut raw = Raw::plain(&server.etcd);
    raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n").expect("sent");
    let mut writer = raw.duplicate();
    let writing = std::thread::spawn(move || {
        let field = format!("field: {}\r\n", "x".repeat(8000));
        while writer.send(field.as_bytes()).is_ok() {}
    });
    let said = raw.rest(PATIENCE).expect("an end");
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{}", said.len());
    drop(raw);
    writing.join().expect("the writer ends");
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown < SLACK, "{grown} bytes more");
    assert!(server.stop().success());
}
