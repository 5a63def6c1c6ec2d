//! How a call ended: a code and a text, in trailers.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

/// gRPC's status codes, with the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All of them, at their own number.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Canceled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    fn digits(self) -> &'static str {
        const DIGITS: [&str; 17] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
            "16",
        ];
        DIGITS[self as usize]
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub code: Code,
    pub message: String,
}

impl Status {
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// What ends a call that went well.
    pub(super) fn ok_trailers() -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        headers
    }

    /// `grpc-status` and `grpc-message`.
    pub(super) fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from_static(self.code.digits()));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.message)) {
            headers.insert("grpc-message", message);
        }
    }

    /// What [`write_to`](Status::write_to) wrote.
    pub(super) fn read_from(headers: &HeaderMap) -> Option<Status> {
        let number: usize = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let message = headers.get("grpc-message").map_or(&[][..], |value| value.as_bytes());
        Some(Status::new(*Code::ALL.get(number)?, percent_decode(message)))
    }
}

/// gRPC's encoding of texts in header fields: printable ASCII but `%` stays.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text of [`percent_encode`]; what is no escape stays as it is.
fn percent_decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        let escape = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) if *byte == b'%' => {
                decoded.push(escaped);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_percent_encoded() {
        for (text, expected) in [
            ("", ""),
            ("etcdserver: key is not provided", "etcdserver: key is not provided"),
            ("100%", "100%25"),
            ("a\nb\0~", "a%0Ab%00~"),
            ("naïve", "na%C3%AFve"),
            ("\u{7f}", "%7F"),
        ] {
            assert_eq!(percent_encode(text), expected);
            assert_eq!(percent_decode(expected.as_bytes()), text);
            assert!(HeaderValue::from_str(&percent_encode(text)).is_ok());
        }
    }

    #[test]
    fn a_status_is_two_trailers() {
        for code in Code::ALL {
            let mut headers = HeaderMap::new();
            Status::new(code, "why%").write_to(&mut headers);
            assert_eq!(headers["grpc-status"], (code as u8).to_string().as_str());
            assert_eq!(headers["grpc-message"], "why%25");
        }
    }
}
