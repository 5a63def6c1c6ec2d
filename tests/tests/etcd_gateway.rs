//! The etcd door's JSON gateway as a client with plain HTTP sees it: answers, statuses, streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mainstay_tests::process::{Directory, Mainstay};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a request whose body ends with `body`, and more of its head in `headers`.
fn send(server: &Mainstay, head: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&server.etcd).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = format!("{head} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// The status and the body of one answer.
fn exchange(server: &Mainstay, head: &str, body: &str) -> (u16, String) {
    exchange_with(server, head, "", body)
}

fn exchange_with(server: &Mainstay, head: &str, headers: &str, body: &str) -> (u16, String) {
    let headers = format!("Connection: close\r\nContent-Length: {}\r\n{headers}", body.len());
    let mut answer = String::new();
    send(server, head, &headers, body).read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains("content-type: application/json"), "{answer}");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn metric(server: &Mainstay, name: &str) -> String {
    let mut page = String::new();
    let headers = "Connection: close\r\n";
    send(server, "GET /metrics", headers, "").read_to_string(&mut page).expect("a page");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.expect("the metric is there").to_owned()
}

/// The JSON lines of a streamed answer.
fn lines(stream: &TcpStream) -> impl Iterator<Item = serde_json::Value> + use<> {
    let reader = BufReader::new(stream.try_clone().expect("a socket"));
    // Between them are the head and the sizes of chunks.
    let lines = reader.lines().map_while(Result::ok).filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(&line).expect("JSON"))
}

/// One chunk of a body that is sent piece by piece.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn answers_and_statuses() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let large = format!(r#"{{"key":"YQ==","value":"{}"}}"#, "A".repeat(2_200_000));
    for (head, body, status, part) in [
        ("POST /v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#, 200, r#""revision":"2""#),
        ("POST /v3/kv/range", r#"{"key":"YQ=="} and more"#, 200, r#""value":"Yg=="}],"count":"1""#),
        ("POST /v3/kv/range", "", 400, r#"{"code":3,"message":"etcdserver: key is not provided"}"#),
        ("POST /v3/maintenance/status", "", 200, r#""version":"3.6."#),
        ("POST /v3/kv/lease/leases", "{}", 200, r#"{"header":{"#),
        ("POST /v3/auth/status", "{}", 200, r#""authRevision":"1""#),
        ("POST /v3/auth/user/list", "{}", 200, r#"{"header":{"#),
        ("POST /v3/lease/revoke", r#"{"ID":"7"}"#, 404, r#"{"code":5,"message":"etcdserver: req"#),
        ("POST /v3/kv/put", &large, 400, "etcdserver: request is too large"),
        ("POST /v3/kv/put", "[", 400, r#"{"code":3,"message":"unexpected EOF"}"#),
        ("POST /v3/kv/nope", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("GET /v3/kv/range", "", 501, r#"{"code":12,"message":"Method Not Allowed"}"#),
        ("POST /v3/maintenance/snapshot", "{}", 200, "\"version\":\"3.6.0\"}}\n"),
        ("POST /v3/watch", "nonsense", 400, r#"{"code":3,"#),
        ("POST /v3/lease/keepalive", r#"{"ID":5}{"ID":6}"#, 200, "\"ID\":\"6\"}}\n"),
    ] {
        let answer = exchange(&server, head, body);
        assert_eq!(answer.0, status, "{head} {part}: {}", answer.1);
        assert!(answer.1.contains(part), "{head} {part}: {}", answer.1);
    }
}

#[test]
fn deadlines() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let body = r#"{"key":"YQ=="}"#;
    for (timeout, status, part) in [
        ("20S", 200, r#"{"header":{"#),
        ("1n", 504, r#"{"code":4,"message":"context deadline exceeded"}"#),
        ("soon", 400, r#"{"code":3,"message":"invalid grpc-timeout: soon"}"#),
    ] {
        let header = format!("Grpc-Timeout: {timeout}\r\n");
        let answer = exchange_with(&server, "POST /v3/kv/put", &header, body);
        assert_eq!(answer.0, status, "{timeout}: {}", answer.1);
        assert!(answer.1.contains(part), "{timeout}: {}", answer.1);
    }
}

#[test]
fn a_watch_is_a_stream_both_ways() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let create = chunk(r#"{"create_request":{"key":"YQ=="}}"#);
    let mut stream = send(&server, "POST /v3/watch", "Transfer-Encoding: chunked\r\n", &create);
    let mut lines = lines(&stream);
    let mut next = || lines.next().expect("another line");
    assert_eq!(next()["result"]["created"], true);

    let (status, _) = exchange(&server, "POST /v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#);
    assert_eq!(status, 200);
    assert_eq!(next()["result"]["events"][0]["kv"]["value"], "Yg==");

    // Another watcher, its request in two pieces.
    for piece in [r#"{"create_request":{"key":"#, r#""Yg==","watch_id":"5"}}"#] {
        stream.write_all(chunk(piece).as_bytes()).expect("sent");
    }
    let created = next();
    assert_eq!(
        (&created["result"]["created"], &created["result"]["watch_id"]),
        (&true.into(), &"5".into())
    );
    stream.write_all(chunk(r#"{"cancel_request":{"watch_id":5}}"#).as_bytes()).expect("sent");
    assert_eq!(next()["result"]["canceled"], true);

    stream.write_all(chunk("{]}").as_bytes()).expect("sent");
    assert_eq!(next()["error"]["code"], 3);
    assert_eq!(lines.next(), None);
}

/// A watcher of a key that never changes has nothing to write, so nothing fails when nobody reads.
#[test]
fn a_watch_ends_with_its_client() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let body = r#"{"create_request":{"key":"YQ=="}}"#;
    let headers = format!("Content-Length: {}\r\n", body.len());
    let stream = send(&server, "POST /v3/watch", &headers, body);
    assert!(lines(&stream).next().is_some(), "the watcher is made");
    let watchers = "etcd_debugging_mvcc_watcher_total";
    assert_eq!(metric(&server, watchers), "1");
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    while metric(&server, watchers) != "0" {
        assert!(Instant::now() < deadline, "the watcher stays");
        std::thread::sleep(Duration::from_millis(50));
    }
}
