//! Notices of progress, while there is history that was not sent yet.

use mainstay_proto::kv::{PutRequest, PutResponse};
use mainstay_proto::watch::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchRequestUnion, WatchResponse,
};
use mainstay_tests::grpc::{Client, Stream, block_on};
use mainstay_tests::process::{Directory, Mainstay};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Writes of a mebibyte: more than memory keeps for watchers, so that the first are in the log alone.
const WRITES: i64 = 80;
const VALUE_BYTES: usize = 1 << 20;

fn send(stream: &mut Stream<WatchRequest, WatchResponse>, request: WatchRequestUnion) {
    stream.send(&WatchRequest { request_union: Some(request) });
}

#[test]
fn progress_does_not_overtake_history() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        let mut newest = 0;
        for _ in 0..WRITES {
            let value = vec![b'v'; VALUE_BYTES].into();
            let request = PutRequest { key: "k".into(), value, ..PutRequest::default() };
            let answer: PutResponse = client.unary(PUT, &request).await.expect("a put");
            newest = answer.header.expect("a header").revision;
        }
        // In the log; in memory, in several batches; the last one alone.
        for behind in [WRITES, 20, 1] {
            let mut stream: Stream<WatchRequest, WatchResponse> = client.stream(WATCH).await;
            let create = |key: &'static str, start_revision| {
                let create =
                    WatchCreateRequest { key: key.into(), start_revision, ..Default::default() };
                WatchRequestUnion::Create(create)
            };
            // Beside one that has nothing to tell.
            send(&mut stream, create("other", 0));
            send(&mut stream, create("k", newest + 1 - behind));
            for _ in 0..3 {
                send(&mut stream, WatchRequestUnion::Progress(WatchProgressRequest {}));
            }
            let mut seen = 0;
            loop {
                let response = stream.next().await.expect("open");
                assert!(!response.canceled, "{response:?}");
                if response.watch_id == -1 {
                    let revision = response.header.expect("a header").revision;
                    assert_eq!((seen, revision), (behind, newest), "{behind} behind");
                    break;
                }
                seen += response.events.len() as i64;
            }
        }
    });
    assert!(server.stop().success());
}
