//! An object to a message: fields in the order of their numbers. What is held by value is written
//! even when it is zero, as the generated Go code does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{is_by_value, special, wire};
use crate::kube::schema::timestamp::{Precision, Timestamp};
use crate::kube::schema::{Field, FieldKind, Schema, SchemaOr, TypeId};

/// Encodes an object as the message of its type. The object is one that was decoded: a value that
/// does not fit its field is written as zero.
pub fn encode_message(schema: &Schema, type_id: TypeId, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder { schema }.structure(type_id, object, &mut out);
    out
}

struct Encoder<'s> {
    schema: &'s Schema,
}

impl Encoder<'_> {
    fn structure(&self, id: TypeId, object: &Value, out: &mut Vec<u8>) {
        let none = Map::new();
        let members = object.as_object().unwrap_or(&none);
        let fields = self.schema.type_def(id).fields.iter();
        let mut fields: Vec<&Field> = fields.filter(|field| field.protobuf != 0).collect();
        fields.sort_by_key(|field| path(field));
        self.message(&fields, 0, members, out);
    }

    /// Writes fields, sorted by their paths, from this depth of inline messages on.
    fn message(
        &self,
        mut fields: &[&Field],
        depth: usize,
        members: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) {
        while let Some(first) = fields.first() {
            let Some(&number) = first.protobuf_outer.get(depth) else {
                self.field(first, members.get(&first.json_name), out);
                fields = &fields[1..];
                continue;
            };
            let inline = fields.iter().take_while(|field| {
                field.protobuf_outer.get(depth).is_some_and(|outer| *outer == number)
            });
            let (inline, rest) = fields.split_at(inline.count());
            let mut inner = Vec::new();
            self.message(inline, depth + 1, members, &mut inner);
            wire::put_bytes(out, number, &inner);
            fields = rest;
        }
    }

    fn field(&self, field: &Field, value: Option<&Value>, out: &mut Vec<u8>) {
        let number = field.protobuf;
        match (&field.kind, value) {
            (FieldKind::List(_, element), Some(Value::Array(list))) => {
                list.iter().for_each(|value| self.value(element, number, value, out));
            }
            (FieldKind::Map { value: kind, .. }, Some(Value::Object(map))) => {
                for (key, value) in map {
                    let mut entry = Vec::new();
                    wire::put_bytes(&mut entry, special::MAP_KEY, key.as_bytes());
                    self.map_value(kind, value, &mut entry);
                    wire::put_bytes(out, number, &entry);
                }
            }
            (FieldKind::List(..) | FieldKind::Map { .. }, _) => {}
            (FieldKind::Bytes | FieldKind::SchemaOr(..), None | Some(Value::Null)) => {}
            (kind, None | Some(Value::Null)) if is_by_value(field) => {
                self.value(kind, number, &Value::Null, out);
            }
            (_, None | Some(Value::Null)) => {}
            (kind, Some(value)) => self.value(kind, number, value, out),
        }
    }

    fn map_value(&self, kind: &FieldKind, value: &Value, entry: &mut Vec<u8>) {
        let FieldKind::List(_, element) = kind else {
            return self.value(kind, special::MAP_VALUE, value, entry);
        };
        let mut wrapper = Vec::new();
        for value in value.as_array().into_iter().flatten() {
            self.value(element, special::ONLY, value, &mut wrapper);
        }
        wire::put_bytes(entry, special::MAP_VALUE, &wrapper);
    }

    fn value(&self, kind: &FieldKind, number: u32, value: &Value, out: &mut Vec<u8>) {
        match kind {
            FieldKind::Boolean => {
                wire::put_varint(out, number, u64::from(value.as_bool().unwrap_or(false)));
            }
            FieldKind::Int32 | FieldKind::Int64 => {
                wire::put_varint(out, number, value.as_i64().unwrap_or(0) as u64);
            }
            FieldKind::Double => wire::put_double(out, number, value.as_f64().unwrap_or(0.0)),
            FieldKind::String => {
                wire::put_bytes(out, number, value.as_str().unwrap_or("").as_bytes());
            }
            FieldKind::Bytes => {
                let bytes = STANDARD.decode(value.as_str().unwrap_or("")).unwrap_or_default();
                wire::put_bytes(out, number, &bytes);
            }
            _ => {
                let mut message = Vec::new();
                self.special(kind, value, &mut message);
                wire::put_bytes(out, number, &message);
            }
        }
    }

    /// Kinds that have a message of their own.
    fn special(&self, kind: &FieldKind, value: &Value, message: &mut Vec<u8>) {
        match kind {
            FieldKind::Time => timestamp(value, Precision::Seconds, message),
            FieldKind::MicroTime => timestamp(value, Precision::Micros, message),
            FieldKind::Quantity => {
                let text = value.as_str().unwrap_or("0");
                wire::put_bytes(message, special::ONLY, text.as_bytes());
            }
            FieldKind::IntOrString => {
                wire::put_varint(
                    message,
                    special::INT_OR_STRING_TYPE,
                    u64::from(value.is_string()),
                );
                let number = value.as_i64().unwrap_or(0) as u64;
                wire::put_varint(message, special::INT_VALUE, number);
                let text = value.as_str().unwrap_or("");
                wire::put_bytes(message, special::STRING_VALUE, text.as_bytes());
            }
            FieldKind::Any if value.is_null() => {}
            FieldKind::Any => {
                wire::put_bytes(message, special::ONLY, value.to_string().as_bytes());
            }
            FieldKind::SchemaOr(or, id) => self.schema_or(*or, *id, value, message),
            FieldKind::Struct(id) => self.structure(*id, value, message),
            _ => {}
        }
    }

    fn schema_or(&self, or: SchemaOr, id: TypeId, value: &Value, message: &mut Vec<u8>) {
        let schema = FieldKind::Struct(id);
        match (or, value) {
            (SchemaOr::Boolean, value) => {
                let allows = value.as_bool().unwrap_or(value.is_object());
                wire::put_varint(message, special::ALLOWS, u64::from(allows));
                if value.is_object() {
                    self.value(&schema, special::ALLOWED_SCHEMA, value, message);
                }
            }
            (SchemaOr::Array, Value::Array(list)) => {
                for value in list {
                    self.value(&schema, special::ALTERNATIVES, value, message);
                }
            }
            (SchemaOr::Strings, Value::Array(list)) => {
                for value in list {
                    self.value(&FieldKind::String, special::ALTERNATIVES, value, message);
                }
            }
            (_, value) => self.value(&schema, special::SCHEMA, value, message),
        }
    }
}

/// The numbers to a field, from the outermost message on.
fn path(field: &Field) -> Vec<u32> {
    let mut path = field.protobuf_outer.clone();
    path.push(field.protobuf);
    path
}

/// No time at all is an empty message.
fn timestamp(value: &Value, precision: Precision, message: &mut Vec<u8>) {
    let time = value.as_str().and_then(|text| Timestamp::parse(text, precision).ok());
    if let Some(time) = time {
        wire::put_varint(message, special::SECONDS, time.seconds as u64);
        let nanos = if precision == Precision::Micros { time.nanos } else { 0 };
        wire::put_varint(message, special::NANOS, u64::from(nanos));
    }
}
