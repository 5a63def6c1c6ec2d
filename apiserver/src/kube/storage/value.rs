//! Objects as stored bytes: JSON as kube-apiserver writes it, `kind`, `apiVersion` and `metadata`
//! first, without the resourceVersion, which is the key's revision and put in when the object is
//! read. Bytes in that order are sent to clients without being parsed.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use crate::kube::codec;
use crate::kube::codec::node::Node;
use crate::kube::object::{self, Object};

/// What stored protobuf begins with.
pub const PROTOBUF_PREFIX: &[u8] = b"k8s\0";

const LEADING_FIELDS: [&str; 3] = ["kind", "apiVersion", "metadata"];

/// Writes an object's JSON with the leading fields first.
pub fn write_json(object: &Object, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    let leading = LEADING_FIELDS.iter().filter_map(|name| object.get_key_value(*name));
    let others = object.iter().filter(|(name, _)| !LEADING_FIELDS.contains(&name.as_str()));
    for (name, value) in leading.chain(others) {
        if !first {
            out.push(b',');
        }
        first = false;
        write_value(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a tree of JSON with text keys can be written");
}

/// The bytes to store: no resourceVersion, a newline at the end.
pub fn encode(object: &Object) -> Bytes {
    let mut stored = object.clone();
    object::metadata_mut(&mut stored).remove("resourceVersion");
    let mut out = Vec::with_capacity(1024);
    write_json(&stored, &mut out);
    out.push(b'\n');
    Bytes::from(out)
}

/// Why stored bytes are no object.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("unable to decode an object of {key}: {why}")]
    Malformed { key: String, why: String },
    #[error("unable to decode an object of {key}: it is stored as protobuf")]
    Protobuf { key: String },
}

/// The object in stored bytes, its resourceVersion put in.
pub fn decode(key: &[u8], value: &[u8], revision: i64) -> Result<Object, ValueError> {
    let key_text = || String::from_utf8_lossy(key).into_owned();
    if value.starts_with(PROTOBUF_PREFIX) {
        return Err(ValueError::Protobuf { key: key_text() });
    }
    // The codec's reader: whatever it let in, it can read again.
    match codec::json::parse(value).map(Node::into_value) {
        Ok(Value::Object(mut object)) => {
            set_revision(&mut object, revision);
            Ok(object)
        }
        Ok(_) => Err(ValueError::Malformed { key: key_text(), why: "no object".to_owned() }),
        Err(error) => Err(ValueError::Malformed { key: key_text(), why: error.to_string() }),
    }
}

pub fn set_revision(object: &mut Object, revision: i64) {
    object::metadata_mut(object).insert("resourceVersion".to_owned(), revision.to_string().into());
}

/// How stored bytes of one resource begin, and so how they are sent without being parsed.
#[derive(Debug, Clone)]
pub struct Splice {
    /// `{"kind":"Pod","apiVersion":"v1","metadata":{`
    prefix: String,
}

impl Splice {
    pub fn new(api_version: &str, kind: &str) -> Splice {
        Splice {
            prefix: format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{"
            ),
        }
    }

    /// Writes the stored object with its resourceVersion; `typed` as a whole object, else as an
    /// item of a list, which has no `kind` and `apiVersion`. `false` when the bytes don't begin as
    /// expected: then they must be parsed.
    pub fn write(&self, value: &[u8], revision: i64, typed: bool, out: &mut BytesMut) -> bool {
        let Some(rest) = value.strip_prefix(self.prefix.as_bytes()) else { return false };
        // An object has a name, so something follows in `metadata`.
        if rest.first() != Some(&b'"') {
            return false;
        }
        let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
        out.reserve(value.len() + 48);
        out.put_slice(if typed { self.prefix.as_bytes() } else { b"{\"metadata\":{" });
        out.put_slice(format!("\"resourceVersion\":\"{revision}\",").as_bytes());
        out.put_slice(rest);
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Object {
        match json!({"apiVersion": "v1", "kind": "Pod", "spec": {}, "metadata": {"name": "p", "resourceVersion": "3"}})
        {
            Value::Object(object) => object,
            _ => unreachable!("an object is written above"),
        }
    }

    #[test]
    fn stored_bytes_come_back_with_their_revision() {
        let bytes = encode(&pod());
        assert_eq!(
            &bytes[..],
            b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"p\"},\"spec\":{}}\n"
        );
        let object = decode(b"/k", &bytes, 9).unwrap();
        assert_eq!(object["metadata"]["resourceVersion"], "9");
    }

    #[test]
    fn splicing_gives_what_parsing_gives() {
        let bytes = encode(&pod());
        let splice = Splice::new("v1", "Pod");
        for typed in [true, false] {
            let mut out = BytesMut::new();
            assert!(splice.write(&bytes, 9, typed, &mut out));
            let spliced: Value = serde_json::from_slice(&out).unwrap();
            let mut expected = decode(b"/k", &bytes, 9).unwrap();
            if !typed {
                expected.remove("kind");
                expected.remove("apiVersion");
            }
            assert_eq!(spliced, Value::Object(expected));
        }
        let mut out = BytesMut::new();
        assert!(!splice.write(b"{\"apiVersion\":\"v1\"}", 9, true, &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn what_is_deep_can_be_read_again() {
        const LEVELS: usize = 200;
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(LEVELS), "]".repeat(LEVELS));
        assert!(decode(b"/k", deep.as_bytes(), 1).is_ok());
    }

    #[test]
    fn protobuf_is_told_apart() {
        assert!(matches!(decode(b"/k", b"k8s\0x", 1), Err(ValueError::Protobuf { .. })));
        assert!(matches!(decode(b"/k", b"[]", 1), Err(ValueError::Malformed { .. })));
    }
}
