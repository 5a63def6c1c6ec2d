//! Kubernetes' protobuf, both ways, driven by the table: `k8s\0`, then an envelope that names the
//! kind, then the object's message. The bytes are those that a kube-apiserver would write.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use serde_json::Value;

use super::DecodeError;
use super::object::TypeMeta;
use crate::kube::schema::{Field, FieldKind, Schema, TypeId};

pub use decode::decode_message;
pub use encode::encode_message;

/// Before every object.
pub const PREFIX: &[u8; 4] = b"k8s\0";

/// An object's bytes and what its envelope says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub meta: TypeMeta,
    /// The object's message.
    pub raw: &'a [u8],
}

/// Numbers of the envelope (`runtime.Unknown`).
mod unknown {
    pub(super) const TYPE_META: u32 = 1;
    pub(super) const RAW: u32 = 2;
    pub(super) const CONTENT_ENCODING: u32 = 3;
    pub(super) const CONTENT_TYPE: u32 = 4;
    pub(super) const API_VERSION: u32 = 1;
    pub(super) const KIND: u32 = 2;
}

/// Opens an envelope.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let Some(message) = bytes.strip_prefix(PREFIX) else {
        return Err(DecodeError::new(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ));
    };
    let mut envelope = Envelope { meta: TypeMeta::default(), raw: &[] };
    for field in wire::fields("Unknown", message) {
        let (number, value) = field?;
        match number {
            unknown::TYPE_META => envelope.meta = type_meta(value.bytes()?)?,
            unknown::RAW => envelope.raw = value.bytes()?,
            _ => {}
        }
    }
    Ok(envelope)
}

fn type_meta(message: &[u8]) -> Result<TypeMeta, DecodeError> {
    let mut meta = TypeMeta::default();
    for field in wire::fields("TypeMeta", message) {
        let (number, value) = field?;
        match number {
            unknown::API_VERSION => meta.api_version = value.text()?,
            unknown::KIND => meta.kind = value.text()?,
            _ => {}
        }
    }
    Ok(meta)
}

/// A whole object: the prefix, the envelope and the message. The object's `apiVersion` and `kind`
/// go into the envelope.
pub fn encode_object(schema: &Schema, type_id: TypeId, object: &Value) -> Vec<u8> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let meta = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    enclose(&meta, &encode_message(schema, type_id, object))
}

/// The prefix, an envelope and a message in it.
fn enclose(type_meta: &TypeMeta, message: &[u8]) -> Vec<u8> {
    let mut meta = Vec::new();
    wire::put_bytes(&mut meta, unknown::API_VERSION, type_meta.api_version.as_bytes());
    wire::put_bytes(&mut meta, unknown::KIND, type_meta.kind.as_bytes());
    let mut bytes = Vec::with_capacity(message.len() + meta.len() + 24);
    bytes.extend_from_slice(PREFIX);
    wire::put_bytes(&mut bytes, unknown::TYPE_META, &meta);
    wire::put_bytes(&mut bytes, unknown::RAW, message);
    wire::put_bytes(&mut bytes, unknown::CONTENT_ENCODING, b"");
    wire::put_bytes(&mut bytes, unknown::CONTENT_TYPE, b"");
    bytes
}

/// A list that is encoded item by item, so that its items never lie in memory as trees all at once.
pub struct ListEncoder<'s> {
    schema: &'s Schema,
    item_type: TypeId,
    items: Vec<u8>,
}

impl<'s> ListEncoder<'s> {
    /// A list of objects of this type, without any so far.
    pub fn new(schema: &'s Schema, item_type: TypeId) -> ListEncoder<'s> {
        ListEncoder { schema, item_type, items: Vec::new() }
    }

    pub fn push(&mut self, item: &Value) {
        let message = encode_message(self.schema, self.item_type, item);
        wire::put_bytes(&mut self.items, list::ITEMS, &message);
    }

    /// The whole list, as [`encode_object`] would write it. `metadata` is of the type ListMeta.
    pub fn finish(self, type_meta: &TypeMeta, list_meta: TypeId, metadata: &Value) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.items.len() + 128);
        let metadata = encode_message(self.schema, list_meta, metadata);
        wire::put_bytes(&mut message, list::METADATA, &metadata);
        message.extend_from_slice(&self.items);
        enclose(type_meta, &message)
    }
}

/// Numbers that all lists of objects have in common.
mod list {
    pub(super) const METADATA: u32 = 1;
    pub(super) const ITEMS: u32 = 2;
}

/// One event of a watch: its type (`ADDED`) and the object as [`encode_object`] writes it. In a
/// stream each event stands alone, without prefix and envelope, after its length in four bytes.
pub fn encode_watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::put_bytes(&mut raw, special::ONLY, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    wire::put_bytes(&mut event, watch_event::TYPE, event_type.as_bytes());
    wire::put_bytes(&mut event, watch_event::OBJECT, &raw);
    event
}

mod watch_event {
    pub(super) const TYPE: u32 = 1;
    pub(super) const OBJECT: u32 = 2;
}

/// Numbers of the messages that stand for one JSON value.
mod special {
    /// Quantity, RawExtension, JSON, FieldsV1, and the wrapper of a list that is a map's value.
    pub(super) const ONLY: u32 = 1;
    pub(super) const SECONDS: u32 = 1;
    pub(super) const NANOS: u32 = 2;
    pub(super) const INT_OR_STRING_TYPE: u32 = 1;
    pub(super) const INT_VALUE: u32 = 2;
    pub(super) const STRING_VALUE: u32 = 3;
    pub(super) const MAP_KEY: u32 = 1;
    pub(super) const MAP_VALUE: u32 = 2;
    /// JSONSchemaPropsOrArray and -OrStringArray
    pub(super) const SCHEMA: u32 = 1;
    pub(super) const ALTERNATIVES: u32 = 2;
    /// JSONSchemaPropsOrBool
    pub(super) const ALLOWS: u32 = 1;
    pub(super) const ALLOWED_SCHEMA: u32 = 2;
}

/// The creation time is held by value too, but JSON leaves it out when it is zero.
fn is_by_value(field: &Field) -> bool {
    field.by_value || (field.json_name == "creationTimestamp" && field.kind == FieldKind::Time)
}
