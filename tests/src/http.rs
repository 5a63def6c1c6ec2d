//! Plain HTTP/1.1, one request to a connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer, with its head as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Gets a path of `address`, as in `127.0.0.1:2379`.
#[track_caller]
pub fn get(address: &str, path: &str) -> HttpAnswer {
    get_as(address, path, "")
}

/// The same with more lines in the head, each with its end.
#[track_caller]
pub fn get_as(address: &str, path: &str, lines: &str) -> HttpAnswer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
    exchange(address, &head)
}

/// Posts JSON to a path of `address`.
#[track_caller]
pub fn post(address: &str, path: &str, json: &str) -> HttpAnswer {
    let length = json.len();
    exchange(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n{json}"
        ),
    )
}

#[track_caller]
fn exchange(address: &str, request: &str) -> HttpAnswer {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("an answer that ends");
    let text = String::from_utf8_lossy(&received).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    HttpAnswer { status, head: head.to_owned(), body: body.to_owned() }
}
