//! The etcd door's plain HTTP side, bad input, and the process's own manners.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_tests::process::{Directory, Mainstay, binary};

/// Sends these bytes and reads until the server closes or says nothing for a while.
fn exchange(server: &Mainstay, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.etcd).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_millis(1500))).expect("a socket");
    stream.write_all(sent).expect("sent");
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&received).into_owned()
}

fn get(server: &Mainstay, path: &str) -> String {
    exchange(
        server,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

#[test]
fn endpoints() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    for (path, status, content_type, body) in [
        ("/health", "200 OK", "text/plain; charset=utf-8", "{\"health\":\"true\",\"reason\":\"\"}"),
        ("/health?serializable=true", "200 OK", "text/plain", "{\"health\":\"true\""),
        ("/livez", "200 OK", "text/plain; charset=utf-8", "\r\n\r\nok\n"),
        ("/readyz", "200 OK", "text/plain; charset=utf-8", "\r\n\r\nok\n"),
        ("/readyz?verbose", "200 OK", "text/plain", "[+]linearizable_read ok\n"),
        ("/readyz/serializable_read", "200 OK", "text/plain", "ok\n"),
        ("/readyz/nope", "404 Not Found", "text/plain", "404 page not found\n"),
        ("/version", "200 OK", "application/json", "{\"etcdserver\":\"3.6."),
        ("/metrics", "200 OK", "text/plain; version=0.0.4", "\netcd_server_has_leader 1\n"),
        ("/metrics", "200 OK", "text/plain", "\netcd_debugging_mvcc_current_revision 1\n"),
        ("/", "404 Not Found", "text/plain", "404 page not found\n"),
        ("/etcdserverpb.KV/Range", "415 Unsupported Media Type", "text/plain", "application/grpc"),
    ] {
        let answer = get(&server, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        assert!(answer.contains(&format!("content-type: {content_type}")), "{path}: {answer}");
        assert!(answer.contains(body), "{path}: {answer}");
    }
    let answer = exchange(
        &server,
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET"), "{answer}");
}

#[test]
fn nonsense_ends_its_connection_and_nothing_else() {
    let directory = Directory::new();
    let mut server = Mainstay::store(directory.path(), &["--cores=2"]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 600_000], b"\r\n\r\n"].concat();
    // A client that says nothing stays for the whole test.
    let silent: Vec<_> =
        (0..20).map(|_| TcpStream::connect(&server.etcd).expect("a slot")).collect();
    for (sent, expected) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "HTTP/1.1 400 "),
        (b"NONSENSE\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
        (vec![0; 100], "HTTP/1.1 400 "),
        (huge, "HTTP/1.1 431 "),
        ([preface.as_slice(), &[0xff; 64]].concat(), ""),
        ([preface.as_slice(), b"\0\0\0\x00\0\0\0\0\x01"].concat(), ""),
        (b"PRI * HTTP/2.0\r\n\r\nXX".to_vec(), "HTTP/1.1 "),
        (Vec::new(), ""),
    ] {
        let answer = exchange(&server, &sent);
        assert!(answer.contains(expected), "{:?}: {answer}", &sent[..sent.len().min(20)]);
        assert!(server.is_running(), "{}", server.stderr());
        assert!(get(&server, "/health").contains("\"true\""));
    }
    drop(silent);
}

#[test]
fn a_process_has_manners() {
    let version = Command::new(binary()).arg("--version").output().expect("it runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.starts_with("mainstay 0."), "{version}");
    assert!(version.contains("\netcd Version: 3.6."), "{version}");

    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2", "--name=me"]);
    let data = directory.path().display().to_string();
    assert!(server.banner.contains(&data), "{}", server.banner);

    let taken = format!("http://{}", server.etcd);
    let other = Directory::new();
    let other_path = other.path().display().to_string();
    let file = other.path().join("a-file");
    std::fs::write(&file, "").expect("a file");
    let file = file.display().to_string();
    for (flags, expected) in [
        (
            vec!["store", "--data-dir", &other_path, "--listen-client-urls", &taken],
            "Another process has it",
        ),
        (
            vec!["store", "--data-dir", &data, "--listen-client-urls", "http://127.0.0.1:0"],
            data.as_str(),
        ),
        (
            vec!["store", "--data-dir", &file, "--listen-client-urls", "http://127.0.0.1:0"],
            "a-file",
        ),
        (vec!["store", "--data-dri", "x"], "--data-dir"),
    ] {
        let output = Command::new(binary()).args(&flags).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{flags:?}");
        assert!(said.contains(expected), "{flags:?}: {said}");
    }

    // A client that holds its connection open does not hold up the stop.
    let mut idle = TcpStream::connect(&server.etcd).expect("the server listens");
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut first = [0; 1];
    idle.read_exact(&mut first).expect("an answer");
    let begun = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    // The kernel still remembers that connection; the port is free all the same.
    let again = Mainstay::store(directory.path(), &[&format!("--listen-client-urls={taken}")]);
    assert_eq!(format!("http://{}", again.etcd), taken);
}

#[test]
fn clients_that_keep_trying_do_not_keep_a_server_from_starting() {
    let directory = Directory::new();
    let first = Mainstay::store(directory.path(), &[]);
    let address = first.etcd.clone();
    let flag = format!("--listen-client-urls=http://{address}");
    assert!(first.stop().success());
    let trying = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while trying.load(Ordering::Relaxed) {
                // Mostly refused; what comes through is closed at once.
                drop(TcpStream::connect(&address));
            }
        });
        let restarts = std::panic::catch_unwind(|| {
            for _ in 0..8 {
                let server = Mainstay::store(directory.path(), &[&flag]);
                assert!(server.stop().success());
            }
        });
        trying.store(false, Ordering::Relaxed);
        restarts.expect("every start succeeds");
    });
}
