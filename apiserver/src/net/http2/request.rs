//! From decoded fields to a request: the rules of RFC 9113, section 8.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, Version};

use super::hpack::Field;
use crate::net::limits;

/// What a header block came to.
#[expect(clippy::large_enum_variant, reason = "the largest is the most frequent by far")]
pub(super) enum Outcome {
    /// A request, and how many bytes its body is going to have, if it says so.
    Request(Request<()>, Option<u64>),
    /// To be answered with this status and nothing else.
    Refuse(StatusCode),
    /// Not a request at all: a stream error.
    Malformed,
}

/// A field, or all of them, break a rule.
pub(super) struct Malformed;

/// Collects the fields of one block.
#[derive(Default)]
pub(super) struct Collector {
    method: Option<Method>,
    path: Option<PathAndQuery>,
    authority: Option<HeaderValue>,
    scheme: bool,
    protocol: bool,
    headers: HeaderMap,
    list_bytes: usize,
    malformed: bool,
}

impl Collector {
    pub(super) fn new() -> Collector {
        Collector { headers: HeaderMap::with_capacity(8), ..Collector::default() }
    }

    pub(super) fn take(&mut self, field: Field, bytes: usize) {
        self.list_bytes += bytes;
        if !self.malformed && !self.is_too_large() {
            self.malformed = self.add(field).is_err();
        }
    }

    fn is_too_large(&self) -> bool {
        self.list_bytes > limits::HEADER_LIST_BYTES as usize
    }

    fn add(&mut self, field: Field) -> Result<(), Malformed> {
        match field {
            Field::Malformed(_) => Err(Malformed),
            Field::Header(name, value) => {
                let of_http1 = super::hpack::is_of_connection(&name)
                    || name == header::TE && value != "trailers";
                if of_http1 {
                    return Err(Malformed);
                }
                // The map holds 32768 fields; the list's limit is reached long before.
                self.headers.append(name, value);
                Ok(())
            }
            // Pseudo-header fields come before all others ...
            _ if !self.headers.is_empty() => Err(Malformed),
            // ... and once.
            Field::Method(method) => once(self.method.replace(method).is_none()),
            Field::Path(path) => once(self.path.replace(path).is_none()),
            Field::Authority(value) => once(self.authority.replace(value).is_none()),
            Field::Scheme => once(!std::mem::replace(&mut self.scheme, true)),
            Field::Protocol => once(!std::mem::replace(&mut self.protocol, true)),
        }
    }

    /// The request that the fields make.
    pub(super) fn request(mut self) -> Outcome {
        if self.is_too_large() {
            return Outcome::Refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        // Without a setting of ours, nobody may send a :protocol.
        let (Some(method), false, false) = (self.method, self.malformed, self.protocol) else {
            return Outcome::Malformed;
        };
        if method == Method::CONNECT {
            let good = !self.scheme && self.path.is_none() && self.authority.is_some();
            return if good {
                Outcome::Refuse(StatusCode::NOT_IMPLEMENTED)
            } else {
                Outcome::Malformed
            };
        }
        let (Some(path), true) = (self.path, self.scheme) else {
            return Outcome::Malformed;
        };
        if path.as_str() == "*" && method != Method::OPTIONS {
            return Outcome::Malformed;
        }
        let Ok(content_length) = content_length(&self.headers) else {
            return Outcome::Malformed;
        };
        if let Some(authority) = self.authority.filter(|authority| !authority.is_empty()) {
            self.headers.insert(header::HOST, authority);
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        Outcome::Request(request, content_length)
    }

    /// The trailers that the fields make.
    pub(super) fn trailers(self) -> Result<HeaderMap, Malformed> {
        let pseudo = self.method.is_some()
            || self.path.is_some()
            || self.authority.is_some()
            || self.scheme
            || self.protocol;
        if self.malformed || pseudo || self.is_too_large() {
            return Err(Malformed);
        }
        Ok(self.headers)
    }
}

fn once(first: bool) -> Result<(), Malformed> {
    if first { Ok(()) } else { Err(Malformed) }
}

/// The one content-length, if there is any; several must be equal.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.as_bytes();
        if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
            return Err(());
        }
        let value = text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        if length.is_some_and(|length| length != value) {
            return Err(());
        }
        length = Some(value);
    }
    Ok(length)
}
