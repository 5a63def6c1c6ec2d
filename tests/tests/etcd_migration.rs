//! Coming from a real etcd and going back to it: keys, revisions, versions and leases stay.

use std::path::Path;
use std::process::Command;

use mainstay_proto::{Event, KeyValue};
use mainstay_tests::etcd::{self, Etcd};
use mainstay_tests::etcdctl::Etcdctl;
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::migration::{
    Seen, compact_and_go_on, delete, events, fill, keys_at, look, look_at, refused, text, tool,
};
use mainstay_tests::process::{Directory, Mainstay};

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
