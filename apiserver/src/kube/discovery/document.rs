//! A finished document: its bytes and the tag that lets clients keep a copy.

use std::fmt::Write;
use std::io::Write as _;
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::kube::schema::GroupVersionKind;

/// The bytes of a document and their tag.
#[derive(Debug, Clone)]
pub struct Document {
    pub bytes: Bytes,
    /// The `ETag` header: the quoted SHA-512 of the bytes.
    pub etag: String,
    compressed: OnceLock<Bytes>,
}

impl Document {
    /// A document of JSON.
    pub fn json(value: &Value) -> Document {
        Document::new(Bytes::from(value.to_string()))
    }

    /// A document of these bytes.
    pub fn new(bytes: Bytes) -> Document {
        let etag = format!("\"{}\"", sha512_hex(&bytes));
        Document { bytes, etag, compressed: OnceLock::new() }
    }

    /// The bytes through gzip, made at the first use and kept.
    pub fn compressed(&self) -> &Bytes {
        self.compressed.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let written = encoder.write_all(&self.bytes).and_then(|()| encoder.finish());
            Bytes::from(written.expect("writing to memory works"))
        })
    }

    /// The tag without its quotes, for a URL's `hash` parameter.
    pub fn hash(&self) -> &str {
        self.etag.trim_matches('"')
    }
}

fn sha512_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA512, bytes).as_ref() {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// Tells clients which kind is stored, without telling it: the start of the SHA-256 of its name.
pub(super) fn storage_version_hash(kind: &GroupVersionKind) -> String {
    const HASHED_BYTES: usize = 8;
    let name = format!("{}/{}/{}", kind.group, kind.version, kind.kind);
    STANDARD.encode(&digest(&SHA256, name.as_bytes()).as_ref()[..HASHED_BYTES])
}
