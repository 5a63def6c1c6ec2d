//! Coming from a real etcd and going back to it: keys, revisions, versions and leases stay.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use mainstay_bbolt::etcd::write::{Chunks, Contents, Facts, KeyVersion};
use mainstay_proto::kv::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest, TxnResponse,
};
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use mainstay_proto::{Event, KeyValue};
use mainstay_tests::etcd::{self, Etcd};
use mainstay_tests::etcdctl::Etcdctl;
use mainstay_tests::grpc::{Client, Failure, block_on};
use mainstay_tests::process::{Directory, Mainstay, mainstayctl};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A lease: id, seconds granted, the keys that hang on it.
type Lease = (i64, i64, Vec<Bytes>);

/// Everything that a client can see of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    keys: Vec<KeyValue>,
    leases: Vec<Lease>,
}

/// All keys at a revision; 0 for the newest.
async fn keys_at(client: &Client, revision: i64) -> Result<RangeResponse, Failure> {
    let everything = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..RangeRequest::default()
    };
    client.unary("/etcdserverpb.KV/Range", &everything).await
}

async fn look(client: &Client) -> Seen {
    let read = keys_at(client, 0).await.expect("a range");
    let listed: LeaseLeasesResponse = client
        .unary("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {})
        .await
        .expect("leases");
    let mut leases = Vec::new();
    for lease in listed.leases {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let status: LeaseTimeToLiveResponse =
            client.unary("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.expect("a lease");
        assert!(status.ttl > 0 && status.ttl <= status.granted_ttl, "{status:?}");
        let mut keys = status.keys;
        keys.sort();
        leases.push((status.id, status.granted_ttl, keys));
    }
    leases.sort();
    Seen { revision: read.header.expect("a header").revision, keys: read.kvs, leases }
}

fn look_at(address: &str) -> Seen {
    block_on(async { look(&Client::connect(address).await).await })
}

/// All events from a revision on, up to another one.
async fn events(client: &Client, from: i64, upto: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: from,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) };
    let mut stream = client.stream_with(WATCH, &request).await;
    let mut events: Vec<Event> = Vec::new();
    while events.last().and_then(|event| event.kv.as_ref()).is_none_or(|kv| kv.mod_revision < upto)
    {
        let response: WatchResponse = stream.next().await.expect("the watch goes on");
        assert!(!response.canceled, "{response:?}");
        events.extend(response.events);
    }
    events
}

/// Writes a little of everything: values small, empty and large, versions, deletions, leases,
/// transactions with several keys, and names as a Kubernetes API server has them.
async fn fill(client: &Client) {
    let put = async |key: String, value: Vec<u8>, lease: i64| {
        let request =
            PutRequest { key: key.into(), value: value.into(), lease, ..PutRequest::default() };
        let _: PutResponse = client.unary("/etcdserverpb.KV/Put", &request).await.expect("a put");
    };
    for (id, ttl) in [(7, 3_600), (i64::MAX - 3, 100_000)] {
        let request = LeaseGrantRequest { id, ttl };
        let _: LeaseGrantResponse =
            client.unary("/etcdserverpb.Lease/LeaseGrant", &request).await.expect("a grant");
    }
    for number in 0..300 {
        let name = format!("/registry/pods/namespace-{}/pod-{number}", number % 7);
        put(name, vec![b'x'; number * 13 % 5_000], 0).await;
    }
    for number in 0..50 {
        put(format!("/registry/masterleases/{}", number % 5), b"again".to_vec(), 7).await;
        put("/registry/events/e".to_owned(), vec![number; 3], i64::MAX - 3).await;
    }
    put("/empty".to_owned(), Vec::new(), 0).await;
    put("/large".to_owned(), vec![0xfe; 1_400_000], 0).await;
    let operations = |values: &[&'static str]| TxnRequest {
        success: values
            .iter()
            .map(|key| RequestOp {
                request: Some(Request::Put(PutRequest {
                    key: (*key).into(),
                    value: "of a transaction".into(),
                    ..PutRequest::default()
                })),
            })
            .collect(),
        ..TxnRequest::default()
    };
    let request = operations(&["/txn/c", "/txn/a", "/txn/b"]);
    let _: TxnResponse = client.unary("/etcdserverpb.KV/Txn", &request).await.expect("a txn");
    delete(client, "/registry/pods/namespace-3/", "/registry/pods/namespace-30").await;
    put("/registry/pods/namespace-3/pod-3".to_owned(), b"born again".to_vec(), 0).await;
    delete(client, "/empty", "").await;
}

/// Compacts in the middle, and writes on. Gives the revision compacted to.
async fn compact_and_go_on(client: &Client) -> i64 {
    let revision = look(client).await.revision - 120;
    let request = CompactionRequest { revision, physical: true };
    let _: CompactionResponse =
        client.unary("/etcdserverpb.KV/Compact", &request).await.expect("a compaction");
    delete(client, "/registry/pods/namespace-5/", "/registry/pods/namespace-50").await;
    revision
}

async fn delete(client: &Client, key: &'static str, range_end: &'static str) {
    let request = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..DeleteRangeRequest::default()
    };
    let _: DeleteRangeResponse =
        client.unary("/etcdserverpb.KV/DeleteRange", &request).await.expect("a deletion");
}

/// Runs etcdctl without a server.
#[track_caller]
fn etcdctl(arguments: &[&str]) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(arguments)
        .output()
        .expect("etcdctl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "etcdctl {arguments:?}: {said}{errors}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}

/// Saves a snapshot of a server, checks it as etcdctl does, and starts a real etcd from it.
fn etcd_from_snapshot(address: &str, directory: &Path) -> Etcd {
    let file = directory.join("snapshot.db");
    Etcdctl::new(address).ok(&["snapshot", "save", text(&file)]);
    etcd_from_file(&file, directory)
}

fn etcd_from_file(file: &Path, directory: &Path) -> Etcd {
    let restored = directory.join("restored");
    let status = etcdctl(&["snapshot", "status", text(file), "--write-out=json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(status["totalKey"].as_u64() > Some(0), "{status}");
    etcdctl(&["snapshot", "restore", text(file), &format!("--data-dir={}", text(&restored))]);
    Etcd::start(&restored)
}

#[test]
fn a_real_etcd_starts_from_a_snapshot() {
    if !etcd::is_present("an etcd started from Mainstay's snapshot") {
        return;
    }
    let (data, other) = (Directory::new(), Directory::new());
    let server = Mainstay::store(data.path(), &["--cores=2"]);
    block_on(async { fill(&Client::connect(&server.etcd).await).await });
    let before = look_at(&server.etcd);
    assert!(before.keys.len() > 250 && before.leases.len() == 2);
    let etcd = etcd_from_snapshot(&server.etcd, other.path());
    let after = look_at(&etcd.address);
    // etcd keeps leases' keys from what it reads, too: all of it must be the same.
    assert_eq!(after, before);
    // And it goes on: the next revision follows the last.
    let next = block_on(async {
        let client = Client::connect(&etcd.address).await;
        delete(&client, "/large", "").await;
        look(&client).await
    });
    assert_eq!(next.revision, before.revision + 1);
    assert!(server.stop().success());
}

#[test]
fn an_empty_store_is_a_snapshot_too() {
    if !etcd::is_present("a snapshot of an empty store") {
        return;
    }
    let (data, other) = (Directory::new(), Directory::new());
    let server = Mainstay::store(data.path(), &["--cores=1"]);
    let etcd = etcd_from_snapshot(&server.etcd, other.path());
    let after = look_at(&etcd.address);
    assert_eq!((after.revision, after.keys.len(), after.leases.len()), (1, 0, 0));
}

/// Runs mainstayctl; gives what it said on both outputs.
#[track_caller]
fn tool(arguments: &[&str]) -> String {
    let output = Command::new(mainstayctl()).args(arguments).output().expect("mainstayctl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mainstayctl {arguments:?}: {said}{errors}");
    said + &errors
}

/// Runs mainstayctl, which must refuse; gives its words.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = Command::new(mainstayctl()).args(arguments).output().expect("mainstayctl runs");
    assert!(!output.status.success(), "mainstayctl {arguments:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What an etcd shows: now, and in its history from `compacted` on.
struct Original {
    seen: Seen,
    compacted: i64,
    history: Vec<(i64, Vec<KeyValue>)>,
    events: Vec<Event>,
}

impl Original {
    async fn of(client: &Client, compacted: i64) -> Original {
        let seen = look(client).await;
        let mut history = Vec::new();
        for revision in (compacted..=seen.revision).step_by(17) {
            let read = keys_at(client, revision).await.expect("not compacted");
            history.push((revision, read.kvs));
        }
        let events = events(client, compacted + 1, seen.revision).await;
        Original { seen, compacted, history, events }
    }

    /// Holds a server against it.
    fn compare(&self, address: &str) {
        block_on(async {
            let client = Client::connect(address).await;
            assert_eq!(look(&client).await, self.seen);
            for (revision, keys) in &self.history {
                let read = keys_at(&client, *revision).await.expect("not compacted");
                assert!(read.kvs == *keys, "the keys at revision {revision}");
            }
            let older = keys_at(&client, self.compacted - 1).await.expect_err("compacted");
            assert!(older.message.contains("required revision has been compacted"), "{older:?}");
            let events = events(&client, self.compacted + 1, self.seen.revision).await;
            assert_eq!(events.len(), self.events.len());
            for (one, other) in events.iter().zip(&self.events) {
                assert_eq!((&one.kv, one.kind), (&other.kv, other.kind));
                assert_eq!(one.prev_kv, other.prev_kv, "{:?}", one.kv);
            }
        });
    }
}

#[test]
fn an_etcd_moves_in_with_its_history() {
    if !etcd::is_present("import of an etcd's data") {
        return;
    }
    let (data, work) = (Directory::new(), Directory::new());
    let etcd = Etcd::start(&data.path().join("etcd"));
    let original = block_on(async {
        let client = Client::connect(&etcd.address).await;
        fill(&client).await;
        let compacted = compact_and_go_on(&client).await;
        Original::of(&client, compacted).await
    });
    let path = |name: &str| text(&work.path().join(name)).to_owned();
    let file = path("snapshot.db");
    Etcdctl::new(&etcd.address).ok(&["snapshot", "save", &file]);

    // Three ways in.
    let said = tool(&["import", "--from", &file, "--data-dir", &path("a")]);
    let expected =
        format!("revision {}, compacted up to {};", original.seen.revision, original.compacted);
    assert!(said.contains(&expected) && said.contains(" 2 leases,"), "{said}");
    tool(&["import", "--endpoints", &etcd.address, "--data-dir", &path("b")]);
    let directory = text(&data.path().join("etcd")).to_owned();
    let said = refused(&["import", "--from", &directory, "--data-dir", &path("c")]);
    assert!(said.contains("in use by an etcd"), "{said}");
    etcd.stop();
    let said = tool(&["import", "--from", &directory, "--data-dir", &path("c")]);
    assert!(said.contains("warning: changes that the etcd had not moved"), "{said}");
    let said = refused(&["import", "--from", &file, "--data-dir", &path("a")]);
    assert!(said.contains("is not empty"), "{said}");

    for (name, cores) in [("a", "--cores=2"), ("b", "--cores=1"), ("c", "--cores=2")] {
        let verified = tool(&["log", "verify", "--data-dir", &path(name)]);
        assert!(verified.contains("the log is intact"), "{verified}");
        let server = Mainstay::store(Path::new(&path(name)), &[cores]);
        original.compare(&server.etcd);
        assert!(server.stop().success());
        // And once more from what it has written since.
        let server = Mainstay::store(Path::new(&path(name)), &[]);
        original.compare(&server.etcd);
        assert!(server.stop().success());
    }

    // And out again, to a real etcd: the newest state.
    let exported = path("exported.db");
    let said = tool(&["export", "--data-dir", &path("a"), "--to", &exported]);
    assert!(said.contains(&format!("at revision {}", original.seen.revision)), "{said}");
    let etcd = etcd_from_file(Path::new(&exported), work.path());
    assert_eq!(look_at(&etcd.address), original.seen);
}

#[test]
fn a_damaged_snapshot_is_refused_and_leaves_nothing_behind() {
    if !etcd::is_present("import of a damaged snapshot") {
        return;
    }
    let (data, work) = (Directory::new(), Directory::new());
    let server = Mainstay::store(data.path(), &["--cores=1"]);
    block_on(async { fill(&Client::connect(&server.etcd).await).await });
    let path = |name: &str| text(&work.path().join(name)).to_owned();
    tool(&["export", "--endpoints", &server.etcd, "--to", &path("good.db")]);
    let said = refused(&["export", "--endpoints", &server.etcd, "--to", &path("good.db")]);
    assert!(said.contains("is there already"), "{said}");
    let said = refused(&["log", "verify", "--data-dir", text(data.path())]);
    assert!(said.contains("is in use by another process"), "{said}");

    let good = std::fs::read(path("good.db")).expect("just written");
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    std::fs::write(path("changed.db"), &changed).expect("written");
    std::fs::write(path("cut.db"), &good[..good.len() / 2 / 4096 * 4096]).expect("written");
    for (file, flags, expected) in [
        ("changed.db", &[][..], "checksum at its end does not match"),
        ("cut.db", &[], "it was cut short"),
        ("none.db", &[], "No such file"),
    ] {
        let (file, to) = (path(file), path("to"));
        let mut arguments = vec!["import", "--from", &file, "--data-dir", &to];
        arguments.extend_from_slice(flags);
        let said = refused(&arguments);
        assert!(said.contains(expected), "{said}");
        assert!(!Path::new(&to).exists() && !Path::new(&path("to.importing")).exists());
    }
    tool(&["import", "--from", &path("good.db"), "--data-dir", &path("to")]);
    let before = look_at(&server.etcd);
    let moved = Mainstay::store(Path::new(&path("to")), &["--cores=2"]);
    assert_eq!(look_at(&moved.etcd), before);
}

/// A version for a database that is made by hand.
#[derive(Debug)]
struct Version(KeyValue);

impl KeyVersion for Version {
    fn key(&self) -> &[u8] {
        &self.0.key
    }
    fn value(&self) -> &[u8] {
        &self.0.value
    }
    fn create_revision(&self) -> i64 {
        self.0.create_revision
    }
    fn mod_revision(&self) -> i64 {
        self.0.mod_revision
    }
    fn version(&self) -> i64 {
        self.0.version
    }
    fn lease(&self) -> i64 {
        self.0.lease
    }
}

/// An etcd that has been written to for years: its keys' revisions are billions apart, which is
/// more than a segment of the log may span.
#[test]
fn keys_of_very_different_age_are_found() {
    let version = |key: &str, mod_revision: i64, version: i64| {
        Version(KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            create_revision: if version == 0 { 0 } else { mod_revision.min(3) },
            mod_revision,
            version,
            value: if version == 0 {
                Bytes::new()
            } else {
                format!("{key} at {mod_revision}").into()
            },
            lease: 0,
        })
    };
    let compacted = 90_000_000_000;
    let live = [("a", 3), ("b", 9_000_000_000), ("c", 40_000_000_000), ("d", compacted)];
    let mut versions: Vec<Version> =
        live.iter().map(|&(key, revision)| version(key, revision, 1)).collect();
    // All of them change after the compaction, so that older reads are answered from the log.
    for (number, (key, _)) in (1..).zip(live) {
        versions.push(version(key, compacted + number, i64::from(key != "b") * 2));
    }
    let revision = compacted + 4;
    let facts = Facts { revision, compacted, ..Facts::default() };
    let contents = Contents::new(&facts, versions);
    let plan = contents.plan();
    let mut chunks = Chunks::new(contents.into(), plan);
    let mut file = Vec::new();
    while let Some(chunk) = chunks.next_chunk(1 << 20) {
        file.extend_from_slice(&chunk);
    }
    let work = Directory::new();
    let path = |name: &str| text(&work.path().join(name)).to_owned();
    std::fs::write(path("old.db"), &file).expect("written");
    tool(&["import", "--from", &path("old.db"), "--data-dir", &path("data")]);
    let verified = tool(&["log", "verify", "--data-dir", &path("data")]);
    assert!(verified.contains("the log is intact"), "{verified}");
    for cores in ["--cores=1", "--cores=2"] {
        let server = Mainstay::store(Path::new(&path("data")), &[cores]);
        block_on(async {
            let client = Client::connect(&server.etcd).await;
            let seen = look(&client).await;
            assert_eq!((seen.revision, seen.keys.len()), (revision, 3));
            for older in compacted..revision {
                let read = keys_at(&client, older).await.expect("not compacted");
                let changed = (older - compacted) as usize;
                let mut expected: Vec<(String, i64)> = Vec::new();
                for (number, (key, before)) in live.iter().enumerate() {
                    let now =
                        if number < changed { compacted + 1 + number as i64 } else { *before };
                    if number >= changed || *key != "b" {
                        expected.push(((*key).to_owned(), now));
                    }
                }
                let found: Vec<(String, i64)> = read
                    .kvs
                    .iter()
                    .map(|kv| {
                        assert_eq!(
                            kv.value,
                            format!("{} at {}", text_of(&kv.key), kv.mod_revision)
                        );
                        (text_of(&kv.key), kv.mod_revision)
                    })
                    .collect();
                assert_eq!(found, expected, "at revision {older}");
            }
        });
        assert!(server.stop().success());
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
