//! Where the etcd door listens: Unix sockets, several URLs, HTTP apart from gRPC.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mainstay_proto::kv::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay, binary};
use mainstay_tests::tls;
use rustls::StreamOwned;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

async fn put_and_get(address: &str, key: &str) {
    let client = Client::connect(address).await;
    let put = PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
    let _put: PutResponse = client.unary(PUT, &put).await.expect("put");
    let range = RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found: RangeResponse = client.unary(RANGE, &range).await.expect("read");
    assert_eq!(found.kvs.len(), 1, "{address}");
}

/// One HTTP/1.1 exchange.
fn get(mut stream: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The URLs of a line of the banner.
fn urls(server: &Mainstay, name: &str) -> Vec<String> {
    let line = server.banner.lines().find_map(|line| line.trim().strip_prefix(name));
    line.expect("the line").split(',').map(|url| url.trim().to_owned()).collect()
}

#[test]
fn a_unix_socket_is_served_beside_a_port() {
    let directory = Directory::new();
    let socket = directory.path().join("etcd.sock");
    let path = socket.to_str().expect("UTF-8");
    let listen = format!("--listen-client-urls=http://127.0.0.1:0,unix://{path}");
    let data = directory.path().join("data");
    for (flag, mode) in [("--unix-socket-mode=0660", 0o660), ("--unix-socket-mode=0600", 0o600)] {
        let server = Mainstay::store(&data, &["--cores=2", &listen, flag]);
        let found = std::fs::symlink_metadata(&socket).expect("the socket's file");
        assert_eq!(found.permissions().mode() & 0o777, mode);
        block_on(async {
            // More connections than cores: all of them accept.
            for key in 0..8 {
                put_and_get(path, &format!("unix-{key}")).await;
            }
            let tcp = urls(&server, "etcd v3:")[0].clone();
            put_and_get(tcp.strip_prefix("http://").expect("plain"), "tcp").await;
        });
        let answer = get(UnixStream::connect(&socket).expect("it listens"), "/health");
        assert!(answer.contains("\"health\":\"true\""), "{answer}");
        if etcdctl::is_present() {
            let etcdctl = Etcdctl::new(&format!("unix://{path}"));
            assert_eq!(etcdctl.ok(&["get", "tcp", "--print-value-only"]), "v\n");
            let mut watch = etcdctl.start(&["watch", "tcp", "--rev=1"]);
            assert_eq!(watch.next(3), "PUT|tcp|v");
        } else {
            etcdctl::skipped("etcdctl over a Unix socket");
        }
        assert!(server.stop().success());
        assert!(!socket.exists(), "it goes with its server");
    }
}

#[test]
fn tls_over_a_unix_socket() {
    let directory = Directory::new();
    let socket = directory.path().join("tls.sock");
    let data = directory.path().join("data");
    let listen = format!("--listen-client-urls=unixs://{}", socket.display());
    let server = Mainstay::store(&data, &["--cores=2", &listen, "--auto-tls"]);
    let trusted = std::fs::read_to_string(data.join("pki/ca.crt")).expect("our own authority");
    let session = tls::session(&trusted, None, rustls::ALL_VERSIONS).expect("a session");
    let stream = UnixStream::connect(&socket).expect("it listens");
    let (answer, _) = tls::get_over(StreamOwned::new(session, stream), "/health").expect("served");
    assert!(answer.contains("\"true\""), "{answer}");
    let other = tls::Authority::new("another CA").pem;
    let session = tls::session(&other, None, rustls::ALL_VERSIONS).expect("a session");
    let stream = UnixStream::connect(&socket).expect("it listens");
    assert!(tls::get_over(StreamOwned::new(session, stream), "/health").is_err());
    assert!(server.stop().success());
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let directory = Directory::new();
    let socket = directory.path().join("etcd.sock");
    let start = |socket: &Path| {
        Command::new(binary())
            .args(["store", "--cores=1", "--data-dir"])
            .arg(directory.path().join("other"))
            .arg(format!("--listen-client-urls=unix://{}", socket.display()))
            .output()
            .expect("it runs")
    };
    let refused = |expected: &str| {
        let output = start(&socket);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    let somebody = UnixListener::bind(&socket).expect("free");
    refused("Another process listens there");
    drop(somebody);
    // A process that another test is starting has it until it becomes another program.
    while UnixStream::connect(&socket).is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Nobody any more: taken over. And a server that is killed leaves a socket behind.
    let listen = format!("--listen-client-urls=unix://{}", socket.display());
    for round in 0..2 {
        let server = Mainstay::store(&directory.path().join("data"), &["--cores=1", &listen]);
        block_on(put_and_get(socket.to_str().expect("UTF-8"), &round.to_string()));
        refused("Another process listens there");
        server.kill();
        assert!(socket.exists());
    }
    std::fs::remove_file(&socket).expect("it is there");
    std::fs::write(&socket, "dear").expect("free");
    refused("no socket");
    assert_eq!(std::fs::read(&socket).expect("untouched"), b"dear");
}

#[test]
fn http_can_have_a_port_of_its_own() {
    let directory = Directory::new();
    let server = Mainstay::store(
        directory.path(),
        &["--cores=2", "--listen-client-http-urls=http://127.0.0.1:0"],
    );
    let address =
        |line: &str| urls(&server, line)[0].strip_prefix("http://").expect("plain").to_owned();
    let (grpc, http) = (address("etcd v3:"), address("etcd HTTP:"));
    let connect = |address: &str| TcpStream::connect(address).expect("it listens");
    let answer = get(connect(&http), "/health");
    assert!(answer.contains("200 OK") && answer.contains("\"true\""), "{answer}");
    assert!(get(connect(&http), "/metrics").contains("etcd_server_id"));
    let answer = get(connect(&grpc), "/health");
    assert!(answer.contains("404") && answer.contains("--listen-client-http-urls"), "{answer}");
    block_on(async {
        put_and_get(&grpc, "k").await;
        let client = Client::connect(&http).await;
        let range = RangeRequest { key: "k".into(), ..Default::default() };
        let refused = client.unary::<_, RangeResponse>(RANGE, &range).await.expect_err("refused");
        assert_eq!(refused.code, 12);
        assert!(refused.message.contains("--listen-client-urls"), "{}", refused.message);
    });
    assert!(server.stop().success());
}

#[test]
fn plain_and_encrypted_ports_beside_each_other() {
    let directory = Directory::new();
    let server = Mainstay::store(
        directory.path(),
        &[
            "--cores=2",
            "--client-cert-auth",
            "--listen-client-urls=http://127.0.0.1:0,https://127.0.0.1:0",
        ],
    );
    assert!(server.stderr().contains("have no effect on http://127.0.0.1"), "{}", server.stderr());
    let found = urls(&server, "etcd v3:");
    let [plain, encrypted] = &found[..] else { panic!("{found:?}") };
    block_on(put_and_get(plain.strip_prefix("http://").expect("plain"), "k"));
    if !etcdctl::is_present() {
        etcdctl::skipped("TLS beside a plain port");
        return;
    }
    let file = |flag: &str, name: &str| {
        format!("--{flag}={}", directory.path().join("pki").join(name).display())
    };
    let flags = vec![file("cacert", "ca.crt"), file("cert", "admin.crt"), file("key", "admin.key")];
    let etcdctl = Etcdctl::new(encrypted).with(flags);
    assert_eq!(etcdctl.ok(&["get", "k", "--print-value-only"]), "v\n");
    assert!(server.stop().success());
}
