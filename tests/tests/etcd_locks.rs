//! Locks and elections, through the JSON gateway: who waits for whom, and who gives up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mainstay_tests::process::{Directory, Mainstay};
use serde_json::{Value, json};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must happen to those who have to wait.
const QUIET: Duration = Duration::from_millis(300);

/// A call whose answer may take a while.
struct Call(TcpStream);

impl Call {
    fn start(server: &Mainstay, path: &str, body: &Value) -> Call {
        let mut stream = TcpStream::connect(&server.etcd).expect("the server listens");
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        Call(stream)
    }

    fn is_waiting(&mut self) -> bool {
        self.0.set_read_timeout(Some(QUIET)).expect("a socket");
        self.0.peek(&mut [0]).is_err()
    }

    fn answer(mut self) -> Value {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut text = String::new();
        self.0.read_to_string(&mut text).expect("an answer in time");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).expect("JSON")
    }
}

fn call(server: &Mainstay, path: &str, body: &Value) -> Value {
    Call::start(server, path, body).answer()
}

fn grant(server: &Mainstay, ttl: i64) -> Value {
    call(server, "/v3/lease/grant", &json!({ "TTL": ttl }))["ID"].clone()
}

fn revoke(server: &Mainstay, lease: &Value) {
    let answer = call(server, "/v3/lease/revoke", &json!({ "ID": lease }));
    assert!(answer["header"].is_object(), "{answer}");
}

/// Waits until so many keys exist.
fn wait_for_keys(server: &Mainstay, count: &str) {
    let deadline = Instant::now() + PATIENCE;
    let all = json!({ "key": "AA==", "range_end": "AA==", "count_only": true });
    loop {
        let found = call(server, "/v3/kv/range", &all);
        if found["count"].as_str().unwrap_or("0") == count {
            return;
        }
        assert!(Instant::now() < deadline, "not {count} keys but {found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_line() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let leases: Vec<Value> = (0..4).map(|_| grant(&server, 600)).collect();
    let request = |number: usize| json!({ "name": "bG9jaw==", "lease": leases[number] });
    let first = call(&server, "/v3/lock/lock", &request(0));
    assert_eq!(call(&server, "/v3/lock/lock", &request(0))["key"], first["key"], "held already");

    let mut waiting = Vec::new();
    for number in 1..4 {
        waiting.push(Call::start(&server, "/v3/lock/lock", &request(number)));
        // In this order.
        wait_for_keys(&server, &(number + 1).to_string());
    }
    let mut fourth = waiting.pop().expect("three calls");
    let third = waiting.pop().expect("three calls");
    let mut second = waiting.pop().expect("three calls");
    assert!(second.is_waiting() && fourth.is_waiting());

    // One that gives up is no longer in the way.
    drop(third);
    wait_for_keys(&server, "3");

    call(&server, "/v3/lock/unlock", &json!({ "key": first["key"] }));
    let second = second.answer();
    assert!(second["key"].is_string(), "{second}");
    assert!(fourth.is_waiting());
    revoke(&server, &leases[1]);
    assert!(fourth.answer()["key"].is_string());

    // A lease that ends while its owner waits.
    let mut late = Call::start(&server, "/v3/lock/lock", &request(2));
    wait_for_keys(&server, "2");
    assert!(late.is_waiting());
    revoke(&server, &leases[2]);
    revoke(&server, &leases[3]);
    assert_eq!(late.answer(), json!({ "code": 2, "message": "mutex: session is expired" }));
}

#[test]
fn leadership_goes_on_and_observers_are_told() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let name = "ZQ==";
    let observer = Call::start(&server, "/v3/election/observe", &json!({ "name": name }));
    observer.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let lines = BufReader::new(observer.0).lines().map_while(Result::ok);
    let mut told = lines.filter(|line| line.starts_with('{')).map(|line| {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        line["result"]["kv"]["value"].clone()
    });

    let campaign = |value: &str| {
        let lease = grant(&server, 600);
        json!({ "name": name, "lease": lease, "value": value })
    };
    let leader = call(&server, "/v3/election/campaign", &campaign("YQ=="))["leader"].clone();
    assert_eq!(told.next(), Some("YQ==".into()));
    let mut next = Call::start(&server, "/v3/election/campaign", &campaign("Yg=="));
    assert!(next.is_waiting());

    let proclaimed = json!({ "leader": leader, "value": "Yw==" });
    let answer = call(&server, "/v3/election/proclaim", &proclaimed);
    assert!(answer["header"].is_object(), "{answer}");
    assert_eq!(told.next(), Some("Yw==".into()));
    let found = call(&server, "/v3/election/leader", &json!({ "name": name }));
    assert_eq!(found["kv"]["value"], "Yw==");

    call(&server, "/v3/election/resign", &json!({ "leader": leader }));
    assert_eq!(next.answer()["leader"]["name"], name);
    assert_eq!(told.next(), Some("Yg==".into()));
    let not_leader = json!({ "code": 2, "message": "election: not leader" });
    assert_eq!(call(&server, "/v3/election/proclaim", &proclaimed), not_leader);
    for path in ["/v3/election/proclaim", "/v3/election/resign"] {
        let message = "\"leader\" field must be provided";
        assert_eq!(call(&server, path, &json!({})), json!({ "code": 2, "message": message }));
    }
}
