//! Data from every place that it can come from: databases made by hand, servers with TLS, with
//! users, and without snapshots.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_bbolt::etcd::write::{Chunks, Contents, Facts, KeyVersion};
use mainstay_proto::KeyValue;
use mainstay_tests::etcd::{self, Etcd};
use mainstay_tests::etcdctl::Etcdctl;
use mainstay_tests::grpc::{Answer, Client, block_on};
use mainstay_tests::migration::{delete, fill, keys_at, look, look_at, refused, text, tool};
use mainstay_tests::process::{Directory, Mainstay};
use tokio::net::TcpListener;

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
    let file = database(&facts, versions);
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

/// An etcd that was restored with `--bump-revision`: an entry without a value says where it goes on
/// from, and all before is compacted.
#[test]
fn a_store_whose_revision_was_raised_goes_on_from_there() {
    // Near, and further than a segment of the log may span.
    for raised_by in [1_000, 10_000_000_000] {
        let version = |key: &'static str, revision: i64| {
            Version(KeyValue {
                key: key.into(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                value: "kept".into(),
                lease: 0,
            })
        };
        let revision = 7 + raised_by;
        let raised = Version(KeyValue { mod_revision: revision, ..KeyValue::default() });
        let facts = Facts { revision, compacted: revision, ..Facts::default() };
        let file = database(&facts, vec![version("a", 3), version("b", 7), raised]);
        let work = Directory::new();
        let path = |name: &str| text(&work.path().join(name)).to_owned();
        std::fs::write(path("raised.db"), &file).expect("written");
        let said = tool(&["import", "--from", &path("raised.db"), "--data-dir", &path("data")]);
        let expected = format!("revision {revision}, compacted up to {revision}; 2 versions,");
        assert!(said.contains(&expected), "{said}");
        let verified = tool(&["log", "verify", "--data-dir", &path("data")]);
        assert!(verified.contains("the log is intact"), "{verified}");
        for deleted in ["a", "b"] {
            let server = Mainstay::store(Path::new(&path("data")), &["--cores=2"]);
            block_on(async {
                let client = Client::connect(&server.etcd).await;
                let seen = look(&client).await;
                let (more, left) = if deleted == "a" { (0, 2) } else { (1, 1) };
                assert_eq!((seen.revision, seen.keys.len()), (revision + more, left));
                let older = keys_at(&client, revision - 1).await.expect_err("compacted");
                assert!(older.message.contains("has been compacted"), "{older:?}");
                delete(&client, deleted, "").await;
                assert_eq!(look(&client).await.revision, revision + more + 1);
                let read = keys_at(&client, revision).await.expect("not compacted");
                assert_eq!(read.kvs.len(), 2);
            });
            assert!(server.stop().success());
        }
    }
}

/// A database file that is made by hand.
fn database(facts: &Facts, versions: Vec<Version>) -> Vec<u8> {
    let contents = Contents::new(facts, versions).expect("all of it fits");
    let plan = contents.plan();
    let mut chunks = Chunks::new(contents.into(), plan);
    let mut file = Vec::new();
    while let Some(chunk) = chunks.next_chunk(1 << 20) {
        file.extend_from_slice(&chunk);
    }
    file
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn from_a_server_with_tls() {
    let (data, work) = (Directory::new(), Directory::new());
    let listen = "--listen-client-urls=https://127.0.0.1:0";
    let server = Mainstay::store(data.path(), &["--cores=1", listen, "--client-cert-auth"]);
    let endpoint = format!("https://{}", server.etcd);
    let file = |name: &str| text(&data.path().join("pki").join(name)).to_owned();
    let (authority, certificate, key) = (file("ca.crt"), file("admin.crt"), file("admin.key"));
    let to = text(&work.path().join("data")).to_owned();
    let source = ["import", "--endpoints", &endpoint, "--data-dir", &to];
    for (flags, expected) in [
        (&[][..], "https needs --cacert"),
        (&["--cacert", &key], "no certificate in it"),
        // A client without a certificate is sent away once it has begun to talk.
        (&["--cacert", &authority], "asking https://"),
    ] {
        let said = refused(&[&source[..], flags].concat());
        assert!(said.contains(expected), "{flags:?}: {said}");
        assert!(!Path::new(&to).exists());
    }
    let all = ["--cacert", &authority, "--cert", &certificate, "--key", &key];
    let said = tool(&[&source[..], &all].concat());
    assert!(said.contains("revision 1, "), "{said}");
}

#[test]
fn users_and_roles_come_along_unless_left_behind() {
    if !etcd::is_present("import of users and roles") {
        return;
    }
    let (data, work) = (Directory::new(), Directory::new());
    let etcd = Etcd::start(data.path());
    let etcdctl = Etcdctl::new(&etcd.address);
    etcdctl.ok(&["put", "k", "v"]);
    etcdctl.ok(&["user", "add", "root:secret"]);
    etcdctl.ok(&["role", "add", "reader"]);
    etcdctl.ok(&["role", "grant-permission", "reader", "read", "a", "b"]);
    etcdctl.ok(&["user", "add", "bob:hidden"]);
    etcdctl.ok(&["user", "grant-role", "bob", "reader"]);
    etcdctl.ok(&["user", "grant-role", "root", "root"]);
    etcdctl.ok(&["auth", "enable"]);
    let path = |name: &str| text(&work.path().join(name)).to_owned();
    let source = ["import", "--endpoints", &etcd.address, "--data-dir"];
    let said = refused(&[&source[..], &[&path("none")]].concat());
    assert!(said.contains("the server refused: "), "{said}");
    let said = refused(&[&source[..], &[&path("none"), "--user", "root:wrong"]].concat());
    assert!(said.contains("authentication failed"), "{said}");
    let said = tool(&[&source[..], &[&path("with"), "--user", "root:secret"]].concat());
    assert!(said.contains(" 2 users, ") && !said.contains("warning"), "{said}");
    let listed = tool(&["log", "dump", "--data-dir", &path("with")]);
    assert!(listed.contains("document etcd-auth ("), "{listed}");
    // A server that asks for passwords gives a snapshot to root alone; the users are in it.
    let server = Mainstay::store(Path::new(&path("with")), &["--cores=1"]);
    let saved = path("saved.db");
    let save = ["export", "--endpoints", &server.etcd, "--to", &saved];
    let said = refused(&save);
    assert!(said.contains("the server refused: "), "{said}");
    tool(&[&save[..], &["--user", "root:secret"]].concat());
    assert!(server.stop().success());
    let said = tool(&["import", "--from", &saved, "--data-dir", &path("again")]);
    assert!(said.contains(" 2 users, 1 roles;"), "{said}");
    let left = ["--user", "root:secret", "--without-auth"];
    let said = tool(&[&source[..], &[&path("without")], &left].concat());
    assert!(said.contains("2 users and 1 roles were left behind: everybody can"), "{said}");
    let listed = tool(&["log", "dump", "--data-dir", &path("without")]);
    assert!(!listed.contains("etcd-auth"), "{listed}");
    // And out again with the users: a real etcd asks for passwords as before.
    tool(&["export", "--data-dir", &path("with"), "--to", &path("out.db")]);
    let restored = path("restored");
    let restore = format!("--data-dir={restored}");
    etcdctl.ok(&["snapshot", "restore", &path("out.db"), &restore]);
    etcd.stop();
    let etcd = Etcd::start(Path::new(&restored));
    let etcdctl = Etcdctl::new(&etcd.address);
    assert!(etcdctl.fails(&["get", "k"]).contains("user name is empty"));
    assert_eq!(etcdctl.ok(&["get", "k", "--user=root:secret"]), "k\nv\n");
    assert!(etcdctl.fails(&["get", "k", "--user=bob:hidden"]).contains("permission denied"));
}

/// Passes calls on to a server, but has no snapshots.
async fn without_snapshots(listener: TcpListener, behind: Client) {
    let (socket, _) = listener.accept().await.expect("a client");
    let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let behind = behind.clone();
        tokio::spawn(async move {
            let (parts, mut body) = request.into_parts();
            let mut sent = Vec::new();
            while let Some(chunk) = body.data().await {
                sent.extend_from_slice(&chunk.expect("a body"));
            }
            let head = http::Response::builder().header("content-type", "application/grpc");
            if parts.uri.path().ends_with("/Snapshot") {
                let head = head.header("grpc-status", "12").body(()).expect("a head");
                respond.send_response(head, true).expect("sent");
                return;
            }
            let headers = [("content-type", "application/grpc"), ("te", "trailers")];
            let answer: Answer = behind.raw(parts.uri.path(), &headers, sent.into()).await;
            let head = head.body(()).expect("a head");
            let mut stream = respond.send_response(head, false).expect("sent");
            stream.send_data(answer.data, false).expect("sent");
            stream.send_trailers(answer.trailers).expect("sent");
        });
    }
}

#[test]
fn from_a_server_without_snapshots_key_by_key() {
    let (data, work) = (Directory::new(), Directory::new());
    let server = Mainstay::store(data.path(), &["--cores=2"]);
    let to = text(&work.path().join("data")).to_owned();
    let said = block_on(async {
        let client = Client::connect(&server.etcd).await;
        fill(&client).await;
        // More than fits on a few pages.
        for number in 0..2_100 {
            let request = mainstay_proto::kv::PutRequest {
                key: format!("/many/{number}").into(),
                ..Default::default()
            };
            let _: mainstay_proto::kv::PutResponse =
                client.unary("/etcdserverpb.KV/Put", &request).await.expect("a put");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = listener.local_addr().expect("bound").to_string();
        tokio::spawn(without_snapshots(listener, client));
        let arguments: Vec<String> =
            ["import", "--endpoints", &endpoint, "--data-dir", &to].map(str::to_owned).to_vec();
        let run = move || tool(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.expect("no panic")
    });
    assert!(
        said.contains("the server has no snapshots: the newest versions were listed"),
        "{said}"
    );
    let before = look_at(&server.etcd);
    assert!(before.keys.len() > 2_300, "{}", before.keys.len());
    let moved = Mainstay::store(Path::new(&to), &["--cores=2"]);
    assert_eq!(look_at(&moved.etcd), before);
}

/// A store that has written a snapshot of its own, and is read from it.
#[test]
fn from_a_data_directory_with_a_snapshot_of_its_own() {
    let (data, work) = (Directory::new(), Directory::new());
    let path = |name: &str| text(&work.path().join(name)).to_owned();
    let server = Mainstay::store(data.path(), &["--cores=2"]);
    let before = block_on(async {
        let client = Client::connect(&server.etcd).await;
        fill(&client).await;
        // Enough for a quiet store to write a snapshot.
        for number in 0..16 {
            let request = mainstay_proto::kv::PutRequest {
                key: format!("/fill/{}", number % 4).into(),
                value: vec![number; 1_400_000].into(),
                ..Default::default()
            };
            let _: mainstay_proto::kv::PutResponse =
                client.unary("/etcdserverpb.KV/Put", &request).await.expect("a put");
        }
        let folder = data.path().join("member/snap");
        let deadline = Instant::now() + Duration::from_secs(120);
        let has_snapshot = || {
            let mut entries = folder.read_dir().into_iter().flatten().flatten();
            entries.any(|entry| entry.path().extension().is_some_and(|end| end == "snap"))
        };
        while !has_snapshot() {
            assert!(Instant::now() < deadline, "no snapshot");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // And something behind it.
        delete(&client, "/fill/2", "").await;
        look(&client).await
    });
    assert!(server.stop().success());
    let directory = text(data.path());
    let said = tool(&["snapshot", "inspect", "--data-dir", directory]);
    assert!(said.contains(": intact; index "), "{said}");
    let said = tool(&["snapshot", "inspect", "--data-dir", directory, "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(said.trim()).expect("one line of JSON");
    assert_eq!(said["leases"], 2, "{said}");
    tool(&["log", "verify", "--data-dir", directory]);
    tool(&["export", "--data-dir", directory, "--to", &path("out.db")]);
    tool(&["import", "--from", &path("out.db"), "--data-dir", &path("data")]);
    let moved = Mainstay::store(Path::new(&path("data")), &["--cores=1"]);
    assert_eq!(look_at(&moved.etcd), before);
}
