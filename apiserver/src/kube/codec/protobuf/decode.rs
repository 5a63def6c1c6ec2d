//! A message to an object.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::wire::{Wire, fields, take_varint};
use super::{DecodeError, special};
use crate::kube::codec::limits::DEPTH;
use crate::kube::codec::normal::{normalize, zero};
use crate::kube::codec::{json, node};
use crate::kube::schema::quantity::Quantity;
use crate::kube::schema::timestamp::{Precision, Timestamp};
use crate::kube::schema::{Field, FieldKind, Schema, SchemaOr, TypeDef, TypeId};

/// Decodes the message of a type; the object is in the normal form. Unknown fields are dropped.
pub fn decode_message(
    schema: &Schema,
    type_id: TypeId,
    message: &[u8],
) -> Result<Value, DecodeError> {
    let mut decoder = Decoder { schema, depth: 0 };
    let mut value = decoder.structure(type_id, message)?;
    normalize(schema, type_id, &mut value);
    Ok(value)
}

struct Decoder<'s> {
    schema: &'s Schema,
    depth: usize,
}

impl Decoder<'_> {
    fn structure(&mut self, id: TypeId, message: &[u8]) -> Result<Value, DecodeError> {
        let schema = self.schema;
        let mut object = Map::new();
        self.message(schema.type_def(id), &mut Vec::new(), message, &mut object)?;
        Ok(Value::Object(object))
    }

    /// Reads a message into an object; `outer` are the numbers of the inline messages around it.
    fn message(
        &mut self,
        type_def: &TypeDef,
        outer: &mut Vec<u32>,
        message: &[u8],
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(DecodeError::new("exceeded max depth"));
        }
        let owner = type_def.name.rsplit('.').next().unwrap_or("");
        for field in fields(owner, message) {
            let (number, value) = field?;
            let known = type_def
                .fields
                .iter()
                .find(|field| field.protobuf == number && field.protobuf_outer == *outer);
            if let Some(field) = known {
                self.field(field, value, object)?;
                continue;
            }
            outer.push(number);
            if type_def.fields.iter().any(|field| field.protobuf_outer.starts_with(outer)) {
                self.message(type_def, outer, value.bytes()?, object)?;
            }
            outer.pop();
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        match &field.kind {
            FieldKind::List(_, element) => self.list_field(field, element, wire, object),
            FieldKind::Map { value, .. } => self.map_field(field, value, wire, object),
            kind => {
                let value = self.value(kind, wire)?;
                object.insert(field.json_name.clone(), value);
                Ok(())
            }
        }
    }

    fn list_field(
        &mut self,
        field: &Field,
        element: &FieldKind,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let list = object.entry(field.json_name.as_str()).or_insert(Value::Array(vec![]));
        match list {
            Value::Array(list) => self.elements(element, wire, list),
            _ => Ok(()),
        }
    }

    fn map_field(
        &mut self,
        field: &Field,
        kind: &FieldKind,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let (key, value) = self.entry(kind, wire.bytes()?)?;
        let map = object.entry(field.json_name.as_str()).or_insert(Value::Object(Map::new()));
        map[&key] = value;
        Ok(())
    }

    /// One element, or packed numbers.
    fn elements(
        &mut self,
        element: &FieldKind,
        wire: Wire<'_>,
        list: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        let is_number = matches!(element, FieldKind::Boolean | FieldKind::Int32 | FieldKind::Int64);
        if let (true, Wire::Bytes(mut packed)) = (is_number, wire) {
            while !packed.is_empty() {
                let number = Wire::Varint(take_varint(&mut packed)?);
                list.push(self.value(element, number)?);
            }
            return Ok(());
        }
        list.push(self.value(element, wire)?);
        Ok(())
    }

    fn entry(&mut self, kind: &FieldKind, entry: &[u8]) -> Result<(String, Value), DecodeError> {
        let mut key = String::new();
        let mut value = None;
        for field in fields("MapEntry", entry) {
            match field? {
                (special::MAP_KEY, wire) => key = wire.text()?,
                (special::MAP_VALUE, wire) => value = Some(self.map_value(kind, wire)?),
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| zero(self.schema, kind))))
    }

    /// A list that is a map's value has a message of its own around it.
    fn map_value(&mut self, kind: &FieldKind, wire: Wire<'_>) -> Result<Value, DecodeError> {
        let FieldKind::List(_, element) = kind else { return self.value(kind, wire) };
        let mut list = Vec::new();
        for field in fields("ExtraValue", wire.bytes()?) {
            if let (special::ONLY, wire) = field? {
                self.elements(element, wire, &mut list)?;
            }
        }
        Ok(Value::Array(list))
    }

    /// Only what goes deeper stands here: the less stack a level needs, the better.
    fn value(&mut self, kind: &FieldKind, wire: Wire<'_>) -> Result<Value, DecodeError> {
        match kind {
            FieldKind::SchemaOr(or, id) => self.schema_or(*or, *id, wire.bytes()?),
            FieldKind::Struct(id) => self.structure(*id, wire.bytes()?),
            kind => scalar(kind, wire),
        }
    }

    fn schema_or(
        &mut self,
        or: SchemaOr,
        id: TypeId,
        message: &[u8],
    ) -> Result<Value, DecodeError> {
        let schema = FieldKind::Struct(id);
        let mut allows = false;
        let mut list = Vec::new();
        let mut alone = None;
        for field in fields("JSONSchemaPropsOr", message) {
            match (or, field?) {
                (SchemaOr::Boolean, (special::ALLOWS, wire)) => allows = wire.varint()? != 0,
                (SchemaOr::Boolean, (special::ALLOWED_SCHEMA, wire))
                | (SchemaOr::Array | SchemaOr::Strings, (special::SCHEMA, wire)) => {
                    alone = Some(self.value(&schema, wire)?);
                }
                (SchemaOr::Array, (special::ALTERNATIVES, wire)) => {
                    list.push(self.value(&schema, wire)?);
                }
                (SchemaOr::Strings, (special::ALTERNATIVES, wire)) => {
                    list.push(Value::String(wire.text()?));
                }
                _ => {}
            }
        }
        Ok(match (alone, or) {
            (Some(schema), _) => schema,
            (None, SchemaOr::Boolean) => Value::Bool(allows),
            (None, _) if list.is_empty() => Value::Null,
            (None, _) => Value::Array(list),
        })
    }
}

fn scalar(kind: &FieldKind, wire: Wire<'_>) -> Result<Value, DecodeError> {
    Ok(match kind {
        FieldKind::Boolean => Value::Bool(wire.varint()? != 0),
        FieldKind::Int32 => Value::Number(Number::from(wire.varint()? as i32)),
        FieldKind::Int64 => Value::Number(Number::from(wire.varint()? as i64)),
        FieldKind::Double => {
            node::number(&wire.double()?.to_string()).map_or(Value::Null, Value::Number)
        }
        FieldKind::String => Value::String(wire.text()?),
        FieldKind::Bytes => Value::String(STANDARD.encode(wire.bytes()?)),
        FieldKind::Time => timestamp(wire.bytes()?, Precision::Seconds)?,
        FieldKind::MicroTime => timestamp(wire.bytes()?, Precision::Micros)?,
        FieldKind::Quantity => Value::String(quantity(wire.bytes()?)?),
        FieldKind::IntOrString => int_or_string(wire.bytes()?)?,
        FieldKind::Any => raw(wire.bytes()?)?,
        FieldKind::Struct(_)
        | FieldKind::SchemaOr(..)
        | FieldKind::List(..)
        | FieldKind::Map { .. } => {
            return Err(DecodeError::new("a list or map stands where protobuf has none"));
        }
    })
}

/// Zero is no time at all. A second has as many nanoseconds as it likes, also less than none: Go's
/// `time.Unix` carries them over, and so does this.
fn timestamp(message: &[u8], precision: Precision) -> Result<Value, DecodeError> {
    const SECOND: i32 = 1_000_000_000;
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for field in fields("Timestamp", message) {
        match field? {
            (special::SECONDS, wire) => seconds = wire.varint()? as i64,
            (special::NANOS, wire) => nanos = wire.varint()? as i32,
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    // What is less than can be told goes first, towards zero.
    nanos = match precision {
        Precision::Seconds => 0,
        Precision::Micros => nanos / 1000 * 1000,
    };
    let seconds = seconds.saturating_add(i64::from(nanos.div_euclid(SECOND)));
    let nanos = nanos.rem_euclid(SECOND) as u32;
    Ok(Value::String(Timestamp { seconds, nanos }.format(precision)))
}

/// As kube-apiserver does, it is brought into its own form, and must be one.
fn quantity(message: &[u8]) -> Result<String, DecodeError> {
    let mut text = "0".to_owned();
    for field in fields("Quantity", message) {
        if let (special::ONLY, wire) = field? {
            let quantity = Quantity::parse(&wire.text()?);
            text = quantity.map_err(|error| DecodeError::new(error.to_string()))?.to_string();
        }
    }
    Ok(text)
}

fn int_or_string(message: &[u8]) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in fields("IntOrString", message) {
        match field? {
            (special::INT_OR_STRING_TYPE, wire) => is_text = wire.varint()? == 1,
            (special::INT_VALUE, wire) => number = wire.varint()? as i32,
            (special::STRING_VALUE, wire) => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { Value::from(number) })
}

/// Bytes of JSON.
fn raw(message: &[u8]) -> Result<Value, DecodeError> {
    let mut bytes: &[u8] = &[];
    for field in fields("RawExtension", message) {
        if let (special::ONLY, wire) = field? {
            bytes = wire.bytes()?;
        }
    }
    match bytes.is_empty() {
        true => Ok(Value::Null),
        false => Ok(json::parse(bytes)?.into_value()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_one_form() {
        for (text, expected) in [
            ("100m", Some("100m")),
            ("000m", Some("0")),
            ("1000m", Some("1")),
            ("1Gi", Some("1Gi")),
            ("", None),
            ("much", None),
        ] {
            let mut message = vec![special::ONLY as u8 * 8 + 2, text.len() as u8];
            message.extend_from_slice(text.as_bytes());
            assert_eq!(quantity(&message).ok().as_deref(), expected, "{text}");
        }
        assert_eq!(quantity(&[]).as_deref(), Ok("0"), "nothing is zero");
    }

    #[test]
    fn nanoseconds_are_carried_over() {
        let message = |seconds: i64, nanos: i64| {
            let mut message = Vec::new();
            super::super::wire::put_varint(&mut message, special::SECONDS, seconds as u64);
            super::super::wire::put_varint(&mut message, special::NANOS, nanos as u64);
            message
        };
        for (seconds, nanos, precision, expected) in [
            (1, 2_000_000, Precision::Micros, Some("1970-01-01T00:00:01.002000Z")),
            (1, 1_999_999_999, Precision::Micros, Some("1970-01-01T00:00:02.999999Z")),
            (1, -1_000, Precision::Micros, Some("1970-01-01T00:00:00.999999Z")),
            (1, -999, Precision::Micros, Some("1970-01-01T00:00:01.000000Z")),
            (1, 1_999_999_999, Precision::Seconds, Some("1970-01-01T00:00:01Z")),
            (i64::MAX, i64::from(i32::MAX), Precision::Micros, Some("9999-12-31T23:59:59.147483Z")),
            (0, 0, Precision::Micros, None),
        ] {
            let found = timestamp(&message(seconds, nanos), precision).expect("a timestamp");
            assert_eq!(found.as_str(), expected, "{seconds} {nanos}");
        }
    }
}
