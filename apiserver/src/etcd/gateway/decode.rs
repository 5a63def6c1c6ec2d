//! JSON to the bytes of a protobuf message, with the rules and the error texts of protojson.
//!
//! As in etcd's gateway, members and enumeration names that nobody knows are passed over.

use std::collections::BTreeSet;

use prost::encoding::{WireType, encode_key, encode_varint};
use thiserror::Error;

use super::reader::{Reader, Token};
use super::shape::{Field, Kind, Names, Shape, camel};
use super::value;
use crate::kube::codec::json;

/// Why text is no message; clients know these messages.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{0}")]
pub(super) struct DecodeError(String);

impl DecodeError {
    /// protojson's errors begin with a word and a no-break space.
    pub(super) fn proto(message: String) -> DecodeError {
        DecodeError(format!("proto:\u{a0}{message}"))
    }
}

/// The protobuf bytes of the one JSON value that `text` is. Depth is bounded by the JSON parser.
pub(super) fn message(text: &[u8], shape: &Shape) -> Result<Vec<u8>, DecodeError> {
    json::parse(text).map_err(|error| DecodeError(syntax(&error.to_string())))?;
    let mut encoded = Vec::new();
    object(&mut Reader::new(text), shape, &mut encoded)?;
    Ok(encoded)
}

/// etcd decodes from a stream, which words one error in another way.
fn syntax(message: &str) -> String {
    match message {
        "unexpected end of JSON input" => "unexpected EOF".to_owned(),
        other => other.to_owned(),
    }
}

/// What a message has had so far.
#[derive(Default)]
struct Seen {
    numbers: BTreeSet<u32>,
    oneofs: BTreeSet<&'static str>,
}

fn object(reader: &mut Reader<'_>, shape: &Shape, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let open = reader.next();
    if open.raw != b"{" {
        return Err(reader.unexpected(open));
    }
    let mut seen = Seen::default();
    while !reader.at_end() {
        let name = reader.next();
        match name.string().and_then(|name| shape.named(&name)) {
            Some(field) => member(reader, name, field, &mut seen, out)?,
            None => reader.skip_value(),
        }
    }
    Ok(())
}

fn member(
    reader: &mut Reader<'_>,
    name: Token<'_>,
    field: &Field,
    seen: &mut Seen,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    if !seen.numbers.insert(field.number) {
        return Err(reader.invalid(name, "duplicate field "));
    }
    if reader.peek().raw == b"null" {
        reader.skip_value();
        return Ok(());
    }
    if field.repeated {
        return list(reader, field, out);
    }
    if let Some(oneof) = field.oneof
        && !seen.oneofs.insert(oneof)
    {
        let mut error = reader.invalid(name, "error parsing ");
        error.0 += &format!(", oneof {oneof} is already set");
        return Err(error);
    }
    element(reader, field, out)
}

fn list(reader: &mut Reader<'_>, field: &Field, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let open = reader.next();
    if open.raw != b"[" {
        return Err(reader.unexpected(open));
    }
    while !reader.at_end() {
        element(reader, field, out)?;
    }
    Ok(())
}

/// One value with its key.
fn element(reader: &mut Reader<'_>, field: &Field, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    if let Kind::Message(shape) = field.kind {
        let mut inner = Vec::new();
        object(reader, shape, &mut inner)?;
        delimited(field.number, &inner, out);
        return Ok(());
    }
    let token = reader.next();
    match scalar(token, field.kind) {
        Some(Scalar::Varint(number)) => {
            encode_key(field.number, WireType::Varint, out);
            encode_varint(number, out);
        }
        Some(Scalar::Bytes(bytes)) => delimited(field.number, &bytes, out),
        Some(Scalar::Unknown) => {}
        None => {
            let name: String = camel(field.name).collect();
            let what = format!("invalid value for {} field {name}: ", kind_name(field.kind));
            return Err(reader.invalid(token, &what));
        }
    }
    Ok(())
}

fn delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

enum Scalar {
    Varint(u64),
    Bytes(Vec<u8>),
    /// A name that the enumeration does not have.
    Unknown,
}

/// What a token means as `kind`; `None` when it can't be one.
fn scalar(token: Token<'_>, kind: Kind) -> Option<Scalar> {
    Some(match kind {
        Kind::Bool => match token.raw {
            b"true" => Scalar::Varint(1),
            b"false" => Scalar::Varint(0),
            _ => return None,
        },
        Kind::Int64 => Scalar::Varint(i64::try_from(integer(token)?).ok()? as u64),
        Kind::Uint64 => Scalar::Varint(u64::try_from(integer(token)?).ok()?),
        Kind::Uint32 => Scalar::Varint(u32::try_from(integer(token)?).ok()?.into()),
        Kind::Enum(names) => return enumeration(token, names),
        Kind::String => Scalar::Bytes(token.string()?.into_owned().into_bytes()),
        Kind::Bytes => Scalar::Bytes(value::base64(&token.string()?)?),
        Kind::Message(_) => return None,
    })
}

/// A number, or a string that is one.
fn integer(token: Token<'_>) -> Option<i128> {
    match token.string() {
        Some(text) => value::integer(&text),
        None => value::integer(std::str::from_utf8(token.raw).ok()?),
    }
}

fn enumeration(token: Token<'_>, names: &Names) -> Option<Scalar> {
    if let Some(name) = token.string() {
        let number = names.iter().position(|known| *known == name);
        return Some(number.map_or(Scalar::Unknown, |number| Scalar::Varint(number as u64)));
    }
    let number = i32::try_from(value::integer(std::str::from_utf8(token.raw).ok()?)?).ok()?;
    // Negative ones are sign-extended to 64 bits on the wire.
    Some(Scalar::Varint(i64::from(number) as u64))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(_) => "message",
    }
}
