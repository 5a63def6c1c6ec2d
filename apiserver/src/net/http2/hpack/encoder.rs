//! Header blocks of answers.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::decoder::ENTRY_OVERHEAD;
use super::{integer, static_table};

/// The largest table that we use, whatever the client offers.
const TABLE_BYTES: usize = 4096;
/// A value that is longer is not worth an entry.
const VALUE_BYTES: usize = 128;

/// Encodes the header blocks of one connection, in order.
///
/// Fields that most answers share are put into the table; all others are written as they are.
/// Strings are not Huffman-coded: that saves few bytes and costs more time than the rest.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The newest entry first.
    entries: VecDeque<(HeaderName, HeaderValue)>,
    bytes: usize,
    limit: usize,
    /// The client changed its limit, and the next block must say that we know.
    limit_changed: Option<SizeChange>,
}

/// The smallest size since the last block, and the last one (RFC 7541, section 4.2).
#[derive(Debug, Clone, Copy)]
struct SizeChange {
    smallest: usize,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { entries: VecDeque::new(), bytes: 0, limit: TABLE_BYTES, limit_changed: None }
    }
}

impl Encoder {
    /// Takes over SETTINGS_HEADER_TABLE_SIZE.
    pub(crate) fn set_limit(&mut self, bytes: u32) {
        let limit = (bytes as usize).min(TABLE_BYTES);
        if limit == self.limit {
            return;
        }
        let smallest = self.limit_changed.map_or(limit, |change| change.smallest.min(limit));
        self.limit = limit;
        self.limit_changed = Some(SizeChange { smallest });
        self.evict(smallest);
    }

    /// Begins a block: `:status`, for an answer's first.
    pub(crate) fn status(&mut self, status: StatusCode, output: &mut BytesMut) {
        self.begin(output);
        match static_table::status(status.as_u16()) {
            Some(index) => integer::encode(output, index, 7, 0x80),
            None => {
                integer::encode(output, static_table::STATUS, 4, 0);
                string(status.as_str().as_bytes(), output);
            }
        }
    }

    /// Fields of an answer; those that make no sense in HTTP/2 are left out.
    pub(crate) fn fields(&mut self, fields: &HeaderMap, output: &mut BytesMut) {
        for (name, value) in fields {
            if !is_of_connection(name) {
                self.field(name, value, output);
            }
        }
    }

    /// A block of trailers.
    pub(crate) fn trailers(&mut self, fields: &HeaderMap, output: &mut BytesMut) {
        self.begin(output);
        self.fields(fields, output);
    }

    pub(crate) fn field(&mut self, name: &HeaderName, value: &HeaderValue, output: &mut BytesMut) {
        let keep = is_repeated(name) && value.len() <= VALUE_BYTES;
        if keep
            && let Some(at) =
                self.entries.iter().position(|entry| (&entry.0, &entry.1) == (name, value))
        {
            integer::encode(output, static_table::LENGTH + 1 + at, 7, 0x80);
            return;
        }
        let (prefix_bits, pattern) = if keep { (6, 0x40) } else { (4, 0) };
        match static_table::name(name.as_str()) {
            Some(index) => integer::encode(output, index, prefix_bits, pattern),
            None => {
                output.put_u8(pattern);
                string(name.as_str().as_bytes(), output);
            }
        }
        string(value.as_bytes(), output);
        if keep {
            self.insert(name, value);
        }
    }

    fn begin(&mut self, output: &mut BytesMut) {
        if let Some(change) = self.limit_changed.take() {
            if change.smallest < self.limit {
                integer::encode(output, change.smallest, 5, 0x20);
            }
            integer::encode(output, self.limit, 5, 0x20);
        }
    }

    /// As the client does with what it just read.
    fn insert(&mut self, name: &HeaderName, value: &HeaderValue) {
        let size = entry_bytes(name, value);
        self.evict(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.bytes += size;
            self.entries.push_front((name.clone(), value.clone()));
        }
    }

    fn evict(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.bytes -= entry_bytes(&name, &value);
        }
    }
}

fn entry_bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + ENTRY_OVERHEAD
}

/// Fields with few values, which most answers have.
fn is_repeated(name: &HeaderName) -> bool {
    *name == header::CONTENT_TYPE
        || *name == header::CACHE_CONTROL
        || *name == header::VARY
        || matches!(
            name.as_str(),
            "grpc-status" | "x-kubernetes-pf-flowschema-uid" | "x-kubernetes-pf-prioritylevel-uid"
        )
}

/// Fields that speak of an HTTP/1.1 connection (RFC 9113, section 8.2.2).
pub(in crate::net::http2) fn is_of_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn string(bytes: &[u8], output: &mut BytesMut) {
    integer::encode(output, bytes.len(), 7, 0);
    output.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http2::hpack::{Decoder, Field};
    use proptest::prelude::*;

    fn headers(fields: &[(&'static str, String)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        fields.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    #[test]
    fn what_is_repeated_costs_one_byte() {
        let mut encoder = Encoder::default();
        let fields = headers(&[("content-type", "application/grpc".to_owned())]);
        let trailers = headers(&[("grpc-status", "0".to_owned())]);
        let mut sizes = Vec::new();
        for _ in 0..2 {
            let mut output = BytesMut::new();
            encoder.status(StatusCode::OK, &mut output);
            encoder.fields(&fields, &mut output);
            sizes.push(output.len());
            output.clear();
            encoder.trailers(&trailers, &mut output);
            sizes.push(output.len());
        }
        assert_eq!(sizes, [19, 15, 2, 1]);
    }

    #[test]
    fn a_smaller_table_is_acknowledged() {
        let mut encoder = Encoder::default();
        let fields = headers(&[("content-type", "text/plain".to_owned())]);
        encoder.fields(&fields, &mut BytesMut::new());
        encoder.set_limit(0);
        encoder.set_limit(100_000);
        let mut output = BytesMut::new();
        encoder.trailers(&fields, &mut output);
        assert_eq!(output[..5], [0x20, 0x3f, 0xe1, 0x1f, 0x5f], "sizes 0 and 4096, a new entry");
        encoder.set_limit(8);
        output.clear();
        encoder.trailers(&fields, &mut output);
        assert_eq!(output[..2], [0x28, 0x5f]);
        assert!(encoder.entries.is_empty());
    }

    #[test]
    fn fields_of_the_connection_are_left_out() {
        let mut output = BytesMut::new();
        let fields = headers(&[("connection", "close".to_owned()), ("upgrade", "x".to_owned())]);
        Encoder::default().trailers(&fields, &mut output);
        assert!(output.is_empty());
    }

    proptest! {
        /// Whatever is encoded under whatever limits, a decoder of the other side reads it.
        #[test]
        fn a_decoder_follows(
            blocks in prop::collection::vec(
                (prop::option::of(0u32..200), prop::collection::vec((0usize..6, 0usize..200), 0..8)),
                1..20,
            ),
        ) {
            const NAMES: [&str; 6] =
                ["content-type", "grpc-status", "vary", "etag", "audit-id", "content-length"];
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for (limit, fields) in blocks {
                if let Some(limit) = limit {
                    encoder.set_limit(limit);
                }
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| (NAMES[*name], value.to_string())).collect();
                let fields = headers(&fields);
                let mut output = BytesMut::new();
                encoder.trailers(&fields, &mut output);
                let mut found = HeaderMap::new();
                decoder.decode(&output, |field, _| match field {
                    Field::Header(name, value) => { found.append(name, value); }
                    other => panic!("{other:?}"),
                }).expect("decodable");
                prop_assert_eq!(found, fields);
            }
        }
    }
}
