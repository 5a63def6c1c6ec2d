//! The etcd door, driven by the real etcdctl.

use std::time::Duration;

use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::process::{Directory, Mainstay};

/// A server of its own for one test, and etcdctl for it; `None` when there is no etcdctl.
fn start(what: &str) -> Option<(Directory, Mainstay, Etcdctl)> {
    if !etcdctl::is_present() {
        etcdctl::skipped(what);
        return None;
    }
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let client = Etcdctl::new(&server.etcd);
    Some((directory, server, client))
}

#[test]
fn put_get_delete() {
    let Some((_directory, _server, etcdctl)) = start("put, get, del") else { return };
    assert_eq!(etcdctl.ok(&["put", "/a/1", "one"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "/a/2", "two"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "/b", "b"]), "OK\n");
    assert_eq!(etcdctl.ok(&["get", "/a/1"]), "/a/1\none\n");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "/a/"]), "/a/1\none\n/a/2\ntwo\n");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "/a/", "--keys-only"]), "/a/1\n\n/a/2\n\n");
    assert_eq!(etcdctl.ok(&["get", "--from-key", "/a/2", "--print-value-only"]), "two\nb\n");
    assert_eq!(
        etcdctl.ok(&["get", "--prefix", "/", "--order=DESCEND", "--limit=2", "--keys-only"]),
        "/b\n\n/a/2\n\n"
    );
    let json = etcdctl.ok(&["get", "--prefix", "/a/", "--limit=1", "-w=fields"]);
    assert!(json.contains("\"Count\" : 2"), "{json}");
    assert_eq!(etcdctl.ok(&["put", "/b", "c", "--prev-kv"]), "OK\n/b\nb\n");
    assert_eq!(etcdctl.ok(&["get", "/b", "--rev=4"]), "/b\nb\n");
    assert_eq!(etcdctl.ok(&["del", "--prefix", "/a/", "--prev-kv"]), "2\n/a/1\none\n/a/2\ntwo\n");
    assert_eq!(etcdctl.ok(&["del", "/a/1"]), "0\n");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "/a/"]), "");
    assert!(etcdctl.fails(&["put", "", "x"]).contains("etcdserver: key is not provided"));
    let fails = etcdctl.fails(&["get", "/b", "--rev=1000"]);
    assert!(fails.contains("etcdserver: mvcc: required revision is a future revision"), "{fails}");
}

#[test]
fn transactions() {
    let Some((_directory, _server, etcdctl)) = start("txn") else { return };
    etcdctl.ok(&["put", "k", "old"]);
    let swap = "value(\"k\") = \"old\"\n\nput k new\nget k\n\nget k\n\n";
    assert_eq!(etcdctl.run_with(&["txn"], swap).stdout, "SUCCESS\n\nOK\n\nk\nnew\n");
    assert_eq!(etcdctl.run_with(&["txn"], swap).stdout, "FAILURE\n\nk\nnew\n");
    let create = "mod(\"fresh\") = \"0\"\n\nput fresh 1\n\n\n";
    assert_eq!(etcdctl.run_with(&["txn"], create).stdout, "SUCCESS\n\nOK\n");
    assert_eq!(etcdctl.run_with(&["txn"], create).stdout, "FAILURE\n");
    let twice = etcdctl.run_with(&["txn"], "\nput k 1\nput k 2\n\n\n");
    assert!(twice.stderr.contains("duplicate key given in txn request"), "{}", twice.stderr);
    // Keys of several owners, one revision.
    let many: String = (0..20).map(|number| format!("put many/{number} x\n")).collect();
    let said = etcdctl.run_with(&["txn"], &format!("\n{many}\n\n"));
    assert!(said.success, "{}", said.stderr);
    let found = etcdctl.ok(&["get", "--prefix", "many/", "-w=fields"]);
    let revisions: std::collections::BTreeSet<_> =
        found.lines().filter(|line| line.contains("ModRevision")).collect();
    assert_eq!(revisions.len(), 1, "{found}");
}

#[test]
fn watching() {
    let Some((_directory, _server, etcdctl)) = start("watch") else { return };
    etcdctl.ok(&["put", "/w/early", "0"]);
    let mut watch = etcdctl.start(&["watch", "--prefix", "/w/", "--prev-kv", "--rev=2"]);
    assert_eq!(watch.next(3), "PUT|/w/early|0", "history, without a version before");
    etcdctl.ok(&["put", "/w/early", "1"]);
    assert_eq!(watch.next(5), "PUT|/w/early|0|/w/early|1");
    etcdctl.ok(&["put", "/elsewhere", "x"]);
    etcdctl.ok(&["del", "/w/early"]);
    assert_eq!(watch.next(5), "DELETE|/w/early|1|/w/early|");
}

#[test]
fn leases() {
    let Some((_directory, _server, etcdctl)) = start("lease") else { return };
    let granted = etcdctl.ok(&["lease", "grant", "600"]);
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(600s)\n"));
    etcdctl.ok(&["put", "leased/1", "x", &format!("--lease={id}")]);
    etcdctl.ok(&["put", "leased/2", "x", &format!("--lease={id}")]);
    let left = etcdctl.ok(&["lease", "timetolive", &id, "--keys"]);
    assert!(left.contains("granted with TTL(600s), remaining("), "{left}");
    assert!(left.contains("attached keys([leased/1 leased/2])"), "{left}");
    assert!(etcdctl.ok(&["lease", "list"]).contains(&id));
    let renewed = etcdctl.ok(&["lease", "keep-alive", "--once", &id]);
    assert_eq!(renewed, format!("lease {id} keepalived with TTL(600)\n"));
    assert_eq!(etcdctl.ok(&["lease", "revoke", &id]), format!("lease {id} revoked\n"));
    assert_eq!(etcdctl.ok(&["get", "--prefix", "leased/"]), "", "keys go with their lease");
    let gone = etcdctl.ok(&["lease", "timetolive", &id]);
    assert!(gone.contains("already expired"), "{gone}");
    assert!(etcdctl.fails(&["lease", "revoke", &id]).contains("requested lease not found"));
    assert!(etcdctl.fails(&["put", "k", "v", "--lease=77"]).contains("requested lease not found"));

    let granted = etcdctl.ok(&["lease", "grant", "1"]);
    assert!(granted.contains("TTL(2s)"), "two seconds at least: {granted}");
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    etcdctl.ok(&["put", "short", "x", &format!("--lease={id}")]);
    let mut seconds = 0;
    while !etcdctl.ok(&["get", "short"]).is_empty() {
        seconds += 1;
        assert!(seconds < 15, "the lease does not expire");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn compaction() {
    let Some((_directory, _server, etcdctl)) = start("compaction") else { return };
    for value in 1..=5 {
        etcdctl.ok(&["put", "k", &value.to_string()]);
    }
    assert_eq!(etcdctl.ok(&["compaction", "4", "--physical"]), "compacted revision 4\n");
    let fails = etcdctl.fails(&["get", "k", "--rev=3"]);
    assert!(fails.contains("required revision has been compacted"), "{fails}");
    assert_eq!(etcdctl.ok(&["get", "k", "--rev=4"]), "k\n3\n");
    assert!(etcdctl.fails(&["compaction", "4"]).contains("has been compacted"));
    assert!(etcdctl.fails(&["compaction", "99"]).contains("is a future revision"));
    let fails = etcdctl.run_with(&["watch", "k", "--rev=2"], "");
    let said = format!("{}{}", fails.stdout, fails.stderr);
    assert!(said.contains("required revision has been compacted"), "{said}");
}

#[test]
fn about_the_server() {
    let Some((_directory, server, etcdctl)) = start("endpoint, member, alarm, auth") else {
        return;
    };
    let healthy = etcdctl.run_with(&["endpoint", "health"], "");
    assert!(
        healthy.success && format!("{}{}", healthy.stdout, healthy.stderr).contains("is healthy"),
        "{healthy:?}"
    );
    etcdctl.ok(&["put", "k", "v"]);
    let status = etcdctl.ok(&["endpoint", "status", "-w=json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let status = &status[0]["Status"];
    assert_eq!(status["header"]["revision"], 2, "{status}");
    assert_eq!(status["leader"], status["header"]["member_id"], "{status}");
    assert!(status["version"].as_str().is_some_and(|version| version.starts_with("3.6.")));
    assert!(status["dbSize"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    // With a URL for an endpoint, etcdctl 3.4 asks for the authority "http://127.0.0.1:..." in whole.
    let url = Etcdctl::new(&format!("http://{}", server.etcd));
    let table = url.ok(&["endpoint", "status", "-w=table"]);
    assert!(table.contains("| IS LEADER |"), "{table}");
    let members = etcdctl.ok(&["member", "list"]);
    assert!(members.contains(", started, default, http://localhost:2380, http://127.0.0.1:"));
    assert_eq!(etcdctl.ok(&["alarm", "list"]), "");
    assert!(etcdctl.ok(&["defrag"]).contains("Finished defragmenting"));
    assert_eq!(etcdctl.ok(&["user", "list"]), "");
    assert_eq!(etcdctl.ok(&["user", "add", "u:p"]), "User u created\n");
    assert_eq!(etcdctl.ok(&["user", "list"]), "u\n");
    assert!(etcdctl.fails(&["member", "remove", "77"]).contains("member not found"));
    assert!(etcdctl.fails(&["snapshot", "save", "/nonexistent/x"]).contains("x"));
}

#[test]
fn a_restart_finds_everything() {
    if !etcdctl::is_present() {
        etcdctl::skipped("restart");
        return;
    }
    let directory = Directory::new();
    let mut member = None;
    for round in 0..4 {
        let server = Mainstay::store(directory.path(), &["--cores=2"]);
        let etcdctl = Etcdctl::new(&server.etcd);
        for earlier in 0..round {
            let key = format!("round/{earlier}");
            assert_eq!(etcdctl.ok(&["get", &key]), format!("{key}\n{earlier}\n"));
        }
        etcdctl.ok(&["put", &format!("round/{round}"), &round.to_string()]);
        let said = etcdctl.ok(&["get", "round/0", "-w=fields"]);
        let revision = format!("\"Revision\" : {}\n", round + 2);
        assert!(said.contains(&revision), "round {round}: {said}");
        let members = etcdctl.ok(&["member", "list"]);
        let id = members.split(',').next().expect("an id").to_owned();
        assert_eq!(*member.get_or_insert_with(|| id.clone()), id, "the member stays the same");
        if round % 2 == 0 {
            assert!(server.stop().success());
        } else {
            server.kill();
        }
    }
}
