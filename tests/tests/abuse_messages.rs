//! Clients that ask for much in good form: they are served, or refused in words that are true, and cost
//! no more memory than they may.

use std::time::Duration;

use mainstay_proto::kv::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest,
};
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use mainstay_tests::grpc::{Client, Stream, block_on};
use mainstay_tests::process::{Directory, Mainstay};
use mainstay_tests::raw::{self, Bystander, Raw, flag, kind};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

const MIB: usize = 1 << 20;
/// What allocators and buffers may keep beside what is counted.
const SLACK: usize = 64 * MIB;

fn start(directory: &Directory, flags: &[&str]) -> Mainstay {
    Mainstay::store(directory.path(), &[&["--cores=2"], flags].concat())
}

type WatchStream = Stream<WatchRequest, WatchResponse>;

/// Adds a watcher of a key so long.
async fn watch(stream: &mut WatchStream, number: usize, key_bytes: usize) -> WatchResponse {
    let mut key = format!("{number:08}").into_bytes();
    key.resize(key_bytes, b'k');
    let create = WatchCreateRequest { key: key.into(), ..Default::default() };
    stream.send(&WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) });
    stream.next().await.expect("an answer")
}

#[test]
fn watchers_hold_no_more_than_the_process_may() {
    const KEY_BYTES: usize = 4 << 10;
    let directory = Directory::new();
    let budget = 64 * MIB;
    let server = start(&directory, &[&format!("--max-held-bytes={budget}")]);
    let before = server.memory_bytes();
    let bystander = Bystander::start(&server.etcd);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut stream: WatchStream = client.stream(WATCH).await;
        // Far more than there is room for.
        let mut made = 0;
        let refused = loop {
            let answer = watch(&mut stream, made, KEY_BYTES).await;
            if answer.canceled {
                break answer;
            }
            made += 1;
            assert!(made < 2 * budget / KEY_BYTES, "nobody is refused");
        };
        assert!(refused.created && refused.watch_id == -1, "{refused:?}");
        assert_eq!(refused.cancel_reason, "etcdserver: too many requests");
        assert!(made > budget / KEY_BYTES / 8, "{made} watchers");
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(grown < budget + SLACK, "{grown} bytes more for {made} watchers");
        // The others of the stream go on, and a stream with few watchers may have them.
        let mut small: WatchStream = client.stream(WATCH).await;
        assert!(!watch(&mut small, 0, 10).await.canceled);
        let put = |key: Vec<u8>| PutRequest { key: key.into(), ..Default::default() };
        let mut key = format!("{:08}", 7).into_bytes();
        key.resize(KEY_BYTES, b'k');
        let _: PutResponse = client.unary(PUT, &put(key)).await.expect("written");
        assert_eq!(stream.next().await.expect("an event").watch_id, 7);
        // What is gone makes room.
        drop(stream);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let mut number = 1;
        while number < 100 {
            match watch(&mut small, number, KEY_BYTES).await.canceled {
                false => number += 1,
                true => assert!(std::time::Instant::now() < deadline, "there is room again"),
            }
        }
    });
    bystander.assert_fine("beside them");
    assert!(server.stop().success());
}

#[test]
fn all_leases_may_be_renewed_at_once() {
    const RENEWALS: usize = 25_000;
    // The client's own HTTP/2 takes no more than 200 small frames that wait to be read.
    const WAITING: usize = 100;
    let directory = Directory::new();
    let server = start(&directory, &[]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let grant = LeaseGrantRequest { ttl: 600, id: 7 };
        let _: LeaseGrantResponse =
            client.unary("/etcdserverpb.Lease/LeaseGrant", &grant).await.expect("a lease");
        let mut stream: Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
            client.stream(KEEP_ALIVE).await;
        for _ in 0..WAITING {
            stream.send(&LeaseKeepAliveRequest { id: 7 });
        }
        for number in 0..RENEWALS {
            if number + WAITING < RENEWALS {
                stream.send(&LeaseKeepAliveRequest { id: 7 });
            }
            let answer = stream.next().await.unwrap_or_else(|| panic!("cut off after {number}"));
            assert_eq!((answer.id, answer.ttl), (7, 600));
        }
    });
    assert!(server.stop().success());
}

/// Transactions that write, and whose answers are too many to be kept for a client that takes none.
#[test]
fn what_was_written_is_not_told_to_be_written_again() {
    const WRITES: u32 = 40;
    let directory = Directory::new();
    let server = start(&directory, &[]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let large =
            PutRequest { key: "large".into(), value: vec![7; MIB].into(), ..Default::default() };
        let _: PutResponse = client.unary(PUT, &large).await.expect("written");
    });
    let mut raw = Raw::connect(&server.etcd, &[(raw::INITIAL_WINDOW, 0)]);
    let mut calls = Vec::new();
    for number in 0..WRITES {
        let key = format!("written/{number}").into();
        let operations = [
            Request::Put(PutRequest { key, ..Default::default() }),
            Request::Range(RangeRequest { key: "large".into(), ..Default::default() }),
        ];
        let success = operations.map(|operation| RequestOp { request: Some(operation) }).to_vec();
        let transaction = TxnRequest { success, ..Default::default() };
        calls.extend(raw::call(2 * number + 1, TXN, &transaction));
    }
    raw.send(&calls).expect("sent");
    // Each is answered: with a message that has no window, or with why there is none.
    let (mut answered, mut told, mut refused, mut words) = (0, 0, 0, String::new());
    while answered + told + refused < WRITES {
        let frame = raw.next(Duration::from_secs(30)).expect("in time").expect("open");
        match frame.kind {
            kind::RST_STREAM if frame.code() == raw::REFUSED_STREAM => refused += 1,
            kind::HEADERS if frame.flags & flag::END_STREAM != 0 => {
                told += 1;
                words += &String::from_utf8_lossy(&frame.payload);
            }
            kind::HEADERS => answered += 1,
            _ => {}
        }
    }
    assert!(answered > 0 && told > 0, "{answered} answered, {told} told, {refused} refused");
    // The end of these is unknown, and not that they did not happen.
    assert!(words.contains("etcdserver: request timed out"), "{words}");
    assert!(!words.contains("too many requests"), "{words}");
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let all = RangeRequest {
            key: "written/".into(),
            range_end: "written0".into(),
            ..Default::default()
        };
        let found: RangeResponse = client.unary(RANGE, &all).await.expect("read");
        assert_eq!(found.count, i64::from(WRITES - refused), "what was refused was not begun");
    });
    assert!(server.stop().success());
}
