//! The bytes of a protobuf message to JSON: published names, 64-bit numbers as strings, bytes in
//! base64, nothing that is not there.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::shape::{Field, Kind, Shape};
use crate::etcd::limits;

/// The bytes are not a message of this shape. Those of our own services always are.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("the answer is not the message that it should be")]
pub(super) struct Malformed;

/// Appends `bytes`, a message of `shape`, to `out`.
pub(super) fn message(bytes: &[u8], shape: &Shape, out: &mut String) -> Result<(), Malformed> {
    nested(bytes, shape, limits::GATEWAY_DEPTH, out)
}

/// Writes fields as they come: those that repeat come together.
fn nested(
    mut bytes: &[u8],
    shape: &Shape,
    depth: usize,
    out: &mut String,
) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    out.push('{');
    let mut last: Option<&Field> = None;
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes).map_err(|_| Malformed)?;
        let Some(field) = shape.numbered(number) else {
            let context = DecodeContext::default();
            skip_field(wire_type, number, &mut bytes, context).map_err(|_| Malformed)?;
            continue;
        };
        match last {
            Some(last) if last.number == number && last.repeated => out.push(','),
            Some(last) if last.number >= number => return Err(Malformed),
            last => {
                if let Some(last) = last {
                    out.push_str(if last.repeated { "]," } else { "," });
                }
                let open = if field.repeated { "[" } else { "" };
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\"{}\":{open}", field.name);
            }
        }
        value(&mut bytes, wire_type, field, depth, out)?;
        last = Some(field);
    }
    if last.is_some_and(|last| last.repeated) {
        out.push(']');
    }
    out.push('}');
    Ok(())
}

fn value(
    bytes: &mut &[u8],
    wire_type: WireType,
    field: &Field,
    depth: usize,
    out: &mut String,
) -> Result<(), Malformed> {
    let varint = |bytes: &mut &[u8]| match wire_type {
        WireType::Varint => decode_varint(bytes).map_err(|_| Malformed),
        _ => Err(Malformed),
    };
    let _infallible = match field.kind {
        Kind::Bool => write!(out, "{}", varint(bytes)? != 0),
        Kind::Int64 => write!(out, "\"{}\"", varint(bytes)? as i64),
        Kind::Uint64 => write!(out, "\"{}\"", varint(bytes)?),
        Kind::Uint32 => write!(out, "{}", varint(bytes)? as u32),
        Kind::Enum(names) => {
            let number = varint(bytes)? as i32;
            match usize::try_from(number).ok().and_then(|number| names.get(number)) {
                Some(name) => write!(out, "\"{name}\""),
                None => write!(out, "{number}"),
            }
        }
        Kind::String => {
            let text = std::str::from_utf8(delimited(bytes, wire_type)?).map_err(|_| Malformed)?;
            write!(out, "{}", serde_json::Value::from(text))
        }
        Kind::Bytes => {
            out.push('"');
            STANDARD.encode_string(delimited(bytes, wire_type)?, out);
            out.push('"');
            Ok(())
        }
        Kind::Message(shape) => {
            return nested(delimited(bytes, wire_type)?, shape, depth, out);
        }
    };
    Ok(())
}

fn delimited<'a>(bytes: &mut &'a [u8], wire_type: WireType) -> Result<&'a [u8], Malformed> {
    if wire_type != WireType::LengthDelimited {
        return Err(Malformed);
    }
    let length = decode_varint(bytes).map_err(|_| Malformed)?;
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (value, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(value)
}
