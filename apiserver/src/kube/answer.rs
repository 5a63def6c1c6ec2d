//! What a request led to, and how it becomes a response: code, headers, encoding, compression.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::encoding::{encode_value, has_protobuf};
use super::limits::GZIP_MIN_BYTES;
use super::request::negotiation::{Encoding, Representation};
use super::status::ApiError;
use crate::net::BoxedBody;

/// The headers of every response.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A response with whatever body.
pub type Answer = Response<BoxedBody>;

fn build(code: StatusCode, content_type: &'static str, body: BoxedBody) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = build(code, "text/plain; charset=utf-8", BoxedBody::full(text));
    let nosniff = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

/// The answer to a path that leads nowhere.
pub fn page_not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A document in the representation that the client wants.
pub fn document(code: StatusCode, document: &Value, representation: Representation) -> Answer {
    let encoding = match representation.encoding {
        Encoding::Protobuf if !has_protobuf(document) => Encoding::Json,
        encoding => encoding,
    };
    encoded(code, encode_value(document, encoding, representation.pretty), encoding)
}

/// Bytes that are encoded already.
pub fn encoded(code: StatusCode, bytes: Bytes, encoding: Encoding) -> Answer {
    build(code, encoding.content_type(), BoxedBody::full(bytes))
}

/// A body that is made while it is sent.
pub fn streamed(content_type: &'static str, body: BoxedBody) -> Answer {
    build(StatusCode::OK, content_type, body)
}

/// A refusal as a `Status`.
pub fn error(error: &ApiError, representation: Representation) -> Answer {
    let mut answer = document(error.code(), &error.to_value(), representation);
    if let Some(seconds) = error.status().retry_after_seconds {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Puts `Warning` headers on an answer, one for each text.
pub fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    for text in warnings {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            headers.append(WARNING, value);
        }
    }
}

/// Whether the client takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(http::header::ACCEPT_ENCODING).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.split(';').next().unwrap_or("").trim() == "gzip")
}

/// Compresses a whole body that is large enough for it to pay.
pub fn gzip(bytes: Bytes, answer: Answer) -> Answer {
    let (mut parts, _) = answer.into_parts();
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    if bytes.len() < GZIP_MIN_BYTES {
        return Response::from_parts(parts, BoxedBody::full(bytes));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    match compressed {
        Ok(compressed) => {
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(parts, BoxedBody::full(compressed))
        }
        Err(_) => Response::from_parts(parts, BoxedBody::full(bytes)),
    }
}

/// A gzip stream that is fed chunk by chunk.
pub struct GzipStream(Option<GzEncoder<Vec<u8>>>);

impl GzipStream {
    pub fn new() -> GzipStream {
        GzipStream(Some(GzEncoder::new(Vec::new(), Compression::fast())))
    }

    /// The compressed bytes that are ready after this chunk.
    pub fn push(&mut self, chunk: &[u8]) -> Bytes {
        let Some(encoder) = &mut self.0 else { return Bytes::new() };
        encoder.write_all(chunk).expect("writing to memory works");
        Bytes::from(std::mem::take(encoder.get_mut()))
    }

    /// The rest.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.0.take().map(|encoder| encoder.finish().expect("writing to memory works"));
        Bytes::from(rest.unwrap_or_default())
    }
}

impl Default for GzipStream {
    fn default() -> GzipStream {
        GzipStream::new()
    }
}

/// Bytes gathered so far, when there are enough of them to be sent.
pub fn take_full(buffer: &mut BytesMut, at_least: usize) -> Option<Bytes> {
    (buffer.len() >= at_least).then(|| buffer.split().freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn warnings_are_quoted() {
        let mut headers = HeaderMap::new();
        add_warnings(&mut headers, &["unknown field \"a\"".to_owned()]);
        assert_eq!(headers[WARNING], "299 - \"unknown field \\\"a\\\"\"");
    }

    #[test]
    fn gzip_streams_come_back() {
        let mut stream = GzipStream::new();
        let mut sent = Vec::new();
        for chunk in [&b"hello "[..], b"", b"world"] {
            sent.extend_from_slice(&stream.push(chunk));
        }
        sent.extend_from_slice(&stream.finish());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&sent[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
    }

    #[test]
    fn who_takes_gzip() {
        for (value, expected) in [("gzip", true), ("deflate, gzip;q=1.0", true), ("br", false)] {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", value.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected);
        }
    }
}
