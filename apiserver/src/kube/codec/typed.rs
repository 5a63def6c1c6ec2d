//! A document held against a type of the table, as Go's decoder does it into structures: unknown
//! fields are reported and dropped, a value of the wrong type is an error, and quantities and
//! timestamps get their one form.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::DecodeError;
use super::limits::STRICT_ERRORS;
use super::node::{Node, number};
use super::normal::{normalize, zero};
use crate::kube::schema::quantity::Quantity;
use crate::kube::schema::timestamp::{Precision, Timestamp};
use crate::kube::schema::{FieldKind, ListKind, Schema, SchemaOr, TypeId};

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// What a kube-apiserver would hold: known fields only, in their normal form.
    pub value: Value,
    /// Unknown and duplicate fields, in the document's order, such as `unknown field "spec.foo"`.
    pub strict_errors: Vec<String>,
}

/// Holds a document against a type. Afterwards it is in the normal form, see [`normalize`].
pub fn decode_node(
    schema: &Schema,
    type_id: TypeId,
    node: Node<'_>,
) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder {
        schema,
        path: Path::default(),
        strict_errors: Vec::new(),
        quiet: 0,
        type_error: None,
    };
    let mut value = decoder.value(&FieldKind::Struct(type_id), node)?;
    if let Some(error) = decoder.type_error {
        return Err(error);
    }
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    normalize(schema, type_id, &mut value);
    Ok(Decoded { value, strict_errors: decoder.strict_errors })
}

/// Where the decoder is, for messages.
#[derive(Debug, Default)]
struct Path {
    /// With list places: `spec.containers[0].ports`
    full: String,
    /// Field names only, as Go tells them: `spec.containers.ports`
    fields: String,
    /// The structure that has the current field.
    owner: String,
}

struct Decoder<'s> {
    schema: &'s Schema,
    path: Path,
    strict_errors: Vec<String>,
    /// Above zero inside values that Go decodes without strictness.
    quiet: u32,
    /// The first value of a wrong type: Go goes on and reports it at the end.
    type_error: Option<DecodeError>,
}

impl Decoder<'_> {
    /// The value, or `Null` where Go would leave the field as it was. Only what goes deeper stands
    /// here: the less stack a level needs, the better.
    fn value(&mut self, kind: &FieldKind, node: Node<'_>) -> Result<Value, DecodeError> {
        match (kind, node) {
            (FieldKind::SchemaOr(or, id), node) => self.schema_or(*or, *id, node),
            (FieldKind::Struct(id), Node::Object(members)) => self.structure(*id, members),
            (FieldKind::List(_, element), Node::List(list)) => self.list(element, list),
            (FieldKind::Map { value, .. }, Node::Object(members)) => self.map(value, members),
            (kind, node) => self.scalar(kind, node),
        }
    }

    fn scalar(&mut self, kind: &FieldKind, node: Node<'_>) -> Result<Value, DecodeError> {
        match (kind, node) {
            (FieldKind::Any, node) => Ok(node.into_value()),
            (FieldKind::Quantity, node) => quantity(node),
            (_, Node::Null) => Ok(Value::Null),
            (FieldKind::Boolean, Node::Boolean(value)) => Ok(Value::Bool(value)),
            (FieldKind::String, Node::String(text)) => Ok(Value::String(text.into_owned())),
            (FieldKind::Int32 | FieldKind::IntOrString, Node::Number(digits)) => {
                Ok(self.integer(&digits, i64::from(i32::MIN), i64::from(i32::MAX), "int32"))
            }
            (FieldKind::Int64, Node::Number(digits)) => {
                Ok(self.integer(&digits, i64::MIN, i64::MAX, "int64"))
            }
            (FieldKind::Double, Node::Number(digits)) => Ok(match number(&digits) {
                Some(number) => Value::Number(number),
                None => self.wrong_type(&format!("number {digits}"), "float64"),
            }),
            (FieldKind::Bytes, Node::String(text)) => bytes(&text),
            (FieldKind::Time, Node::String(text)) => timestamp(&text, Precision::Seconds),
            (FieldKind::MicroTime, Node::String(text)) => timestamp(&text, Precision::Micros),
            (FieldKind::IntOrString, Node::String(text)) => Ok(Value::String(text.into_owned())),
            (kind, node) => Ok(self.wrong_type(node.word(), &go_type(self.schema, kind))),
        }
    }

    fn structure(
        &mut self,
        id: TypeId,
        members: Vec<(Cow<'_, str>, Node<'_>)>,
    ) -> Result<Value, DecodeError> {
        let schema = self.schema;
        let type_def = schema.type_def(id);
        let owner = std::mem::replace(&mut self.path.owner, short_name(&type_def.name).to_owned());
        let mut object = Map::new();
        let mut seen: Vec<&str> = Vec::new();
        for (key, node) in members {
            let Some(field) = type_def.field(&key) else {
                self.strict("unknown", &key);
                continue;
            };
            if seen.contains(&field.json_name.as_str()) {
                self.strict("duplicate", &key);
            }
            seen.push(&field.json_name);
            let lengths = self.enter_field(&key);
            let value = self.value(&field.kind, node);
            self.leave(lengths);
            // Null leaves a field as it was; Go's pointers, lists and maps are nil then.
            match value? {
                Value::Null if field.by_value => {}
                Value::Null => drop(object.remove(&field.json_name)),
                value => put(&mut object, &field.json_name, value),
            }
        }
        self.path.owner = owner;
        Ok(Value::Object(object))
    }

    fn list(&mut self, element: &FieldKind, list: Vec<Node<'_>>) -> Result<Value, DecodeError> {
        let mut values = Vec::with_capacity(list.len());
        for (index, node) in list.into_iter().enumerate() {
            let length = self.path.full.len();
            let _ = write!(self.path.full, "[{index}]");
            let value = self.value(element, node);
            self.path.full.truncate(length);
            values.push(self.or_zero(element, value?));
        }
        Ok(Value::Array(values))
    }

    fn map(
        &mut self,
        kind: &FieldKind,
        members: Vec<(Cow<'_, str>, Node<'_>)>,
    ) -> Result<Value, DecodeError> {
        let mut object = Map::new();
        for (key, node) in members {
            if object.contains_key(key.as_ref()) {
                self.strict("duplicate", &key);
            }
            let length = self.path.full.len();
            push_key(&mut self.path.full, &key);
            let value = self.value(kind, node);
            self.path.full.truncate(length);
            let value = self.or_zero(kind, value?);
            object.insert(key.into_owned(), value);
        }
        Ok(Value::Object(object))
    }

    /// A null element or map value is the zero value of its type.
    fn or_zero(&self, kind: &FieldKind, value: Value) -> Value {
        match value {
            Value::Null if *kind != FieldKind::Any => zero(self.schema, kind),
            value => value,
        }
    }

    /// The place of a schema in a custom resource's schema. Go decodes it on its own, not strictly.
    fn schema_or(
        &mut self,
        or: SchemaOr,
        id: TypeId,
        node: Node<'_>,
    ) -> Result<Value, DecodeError> {
        self.quiet += 1;
        let value = match (or, node) {
            (_, Node::Null) => Ok(Value::Null),
            (_, node @ Node::Object(_)) => self.value(&FieldKind::Struct(id), node),
            (SchemaOr::Array, Node::List(list)) => self.list(&FieldKind::Struct(id), list),
            (SchemaOr::Strings, Node::List(list)) => self.list(&FieldKind::String, list),
            (SchemaOr::Boolean, Node::Boolean(value)) => Ok(Value::Bool(value)),
            (SchemaOr::Boolean, _) => Err(DecodeError::new("boolean or JSON schema expected")),
            (_, _) => Ok(Value::Null),
        };
        self.quiet -= 1;
        value
    }

    fn integer(&mut self, digits: &str, low: i64, high: i64, go_type: &str) -> Value {
        match digits.parse::<i64>() {
            Ok(value) if (low..=high).contains(&value) => Value::Number(Number::from(value)),
            _ => self.wrong_type(&format!("number {digits}"), go_type),
        }
    }

    fn wrong_type(&mut self, found: &str, go_type: &str) -> Value {
        let place = match self.path.fields.is_empty() {
            true => "Go value".to_owned(),
            false => format!("Go struct field {}.{}", self.path.owner, self.path.fields),
        };
        self.type_error.get_or_insert_with(|| {
            DecodeError::new(format!(
                "json: cannot unmarshal {found} into {place} of type {go_type}"
            ))
        });
        Value::Null
    }

    fn strict(&mut self, what: &str, key: &str) {
        if self.quiet > 0 || self.strict_errors.len() >= STRICT_ERRORS {
            return;
        }
        let mut path = self.path.full.clone();
        push_key(&mut path, key);
        let message = format!("{what} field \"{path}\"");
        if !self.strict_errors.contains(&message) {
            self.strict_errors.push(message);
        }
    }

    fn enter_field(&mut self, key: &str) -> (usize, usize) {
        let lengths = (self.path.full.len(), self.path.fields.len());
        push_key(&mut self.path.full, key);
        push_key(&mut self.path.fields, key);
        lengths
    }

    fn leave(&mut self, lengths: (usize, usize)) {
        self.path.full.truncate(lengths.0);
        self.path.fields.truncate(lengths.1);
    }
}

/// A repeated object adds to the first one, as it does in Go; anything else replaces it.
fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    match (object.get_mut(name), value) {
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (_, value) => drop(object.insert(name.to_owned(), value)),
    }
}

fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn quantity(node: Node<'_>) -> Result<Value, DecodeError> {
    let text = match &node {
        Node::Null => return Ok(Value::Null),
        Node::String(text) | Node::Number(text) => text.trim(),
        // Go reads the JSON text itself, which is never a quantity.
        _ => "{}",
    };
    match Quantity::parse(text) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(error) => Err(DecodeError::new(error.to_string())),
    }
}

fn timestamp(text: &str, precision: Precision) -> Result<Value, DecodeError> {
    let time = Timestamp::parse(text, precision).map_err(DecodeError::new)?;
    Ok(Value::String(time.format(precision)))
}

/// Base64, in its one form; line breaks are allowed as in Go.
fn bytes(text: &str) -> Result<Value, DecodeError> {
    let joined: Cow<'_, str> = match text.contains(['\r', '\n']) {
        true => Cow::Owned(text.replace(['\r', '\n'], "")),
        false => Cow::Borrowed(text),
    };
    match STANDARD.decode(joined.as_bytes()) {
        Ok(bytes) => Ok(Value::String(STANDARD.encode(bytes))),
        Err(error) => {
            let place = base64_error_place(text, &error);
            Err(DecodeError::new(format!("illegal base64 data at input byte {place}")))
        }
    }
}

/// Go counts line breaks and, for a wrong length, names the end of the last whole group.
fn base64_error_place(text: &str, error: &base64::DecodeError) -> usize {
    match error {
        base64::DecodeError::InvalidByte(place, _) => *place,
        base64::DecodeError::InvalidLastSymbol { offset, .. } => *offset,
        _ => text.len() / 4 * 4,
    }
}

/// `Pod` of `io.k8s.api.core.v1.Pod`.
fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// What Go calls the type of a field; named string types are told as `string`.
fn go_type(schema: &Schema, kind: &FieldKind) -> String {
    match kind {
        FieldKind::Boolean => "bool".to_owned(),
        FieldKind::Int32 | FieldKind::IntOrString => "int32".to_owned(),
        FieldKind::Int64 => "int64".to_owned(),
        FieldKind::Double => "float64".to_owned(),
        FieldKind::Bytes => "[]uint8".to_owned(),
        FieldKind::String | FieldKind::Time | FieldKind::MicroTime | FieldKind::Quantity => {
            "string".to_owned()
        }
        FieldKind::Any | FieldKind::SchemaOr(..) => "interface {}".to_owned(),
        FieldKind::Struct(id) => {
            let mut parts = schema.type_def(*id).name.rsplit('.');
            let name = parts.next().unwrap_or("");
            format!("{}.{name}", parts.next().unwrap_or(""))
        }
        FieldKind::List(ListKind::Atomic | ListKind::Set | ListKind::Map(_), element) => {
            format!("[]{}", go_type(schema, element))
        }
        FieldKind::Map { value, .. } if **value == FieldKind::Quantity => {
            "v1.ResourceList".to_owned()
        }
        FieldKind::Map { value, .. } => format!("map[string]{}", go_type(schema, value)),
    }
}

#[cfg(test)]
mod tests;
