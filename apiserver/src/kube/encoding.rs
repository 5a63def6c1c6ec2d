//! The way to the codecs: bodies to objects, objects to bodies.

use bytes::Bytes;
use serde_json::Value;

use super::codec;
use super::object::Object;
use super::registry::into_object;
use super::request::negotiation::{BODIES, Encoding};
use super::request::options::FieldValidation;
use super::schema::{GroupVersionKind, Schema, TypeId};
use super::status::ApiError;
use super::storage::value;

/// What a body says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Yaml,
}

impl BodyFormat {
    /// The format of a `Content-Type`; absent means JSON.
    pub fn of_content_type(content_type: &str) -> Result<BodyFormat, ApiError> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "" | "application/json" => Ok(BodyFormat::Json),
            "application/yaml" => Ok(BodyFormat::Yaml),
            _ => Err(ApiError::unsupported_media_type(&BODIES)),
        }
    }
}

/// An object from a body, and what a client should be warned about.
#[derive(Debug)]
pub struct Decoded {
    pub object: Object,
    pub warnings: Vec<String>,
}

/// Reads an object of `kind` from a request's body: known fields only, in their normal form.
pub fn decode_object(
    schema: &Schema,
    type_id: TypeId,
    kind: &GroupVersionKind,
    body: &[u8],
    format: BodyFormat,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let format = match format {
        BodyFormat::Json => codec::Format::Json,
        BodyFormat::Yaml => codec::Format::Yaml,
    };
    let refused = |error: codec::ObjectError| ApiError::bad_request(error.to_string());
    let decoded = codec::decode_object(schema, type_id, kind, format, body).map_err(refused)?;
    if validation == FieldValidation::Strict
        && let Some(problem) = decoded.strict_problem()
    {
        return Err(refused(codec::ObjectError::cannot_be_handled(kind, &kind.kind, problem)));
    }
    let warnings = match validation {
        FieldValidation::Warn => decoded.strict_errors,
        FieldValidation::Ignore | FieldValidation::Strict => Vec::new(),
    };
    Ok(Decoded { object: into_object(decoded.value), warnings })
}

/// Reads any JSON or YAML.
pub fn decode_value(body: &[u8], format: BodyFormat) -> Result<Value, ApiError> {
    match format {
        BodyFormat::Json => {
            serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))
        }
        BodyFormat::Yaml => codec::yaml::parse(body)
            .map(|document| document.node.into_value())
            .map_err(|error| ApiError::bad_request(error.to_string())),
    }
}

/// An object that is stored as protobuf.
pub fn decode_stored_protobuf(
    _schema: &Schema,
    key: &[u8],
    _bytes: &[u8],
) -> Result<Object, String> {
    let error = value::ValueError::Protobuf { key: String::from_utf8_lossy(key).into_owned() };
    Err(error.to_string())
}

/// Brings an object into the form that it has after a kube-apiserver has read it: fields that are
/// always there are there, fields that are zero and may be left out are left out.
pub fn canonicalize(schema: &Schema, type_id: TypeId, object: &mut Object) {
    let mut value = Value::Object(std::mem::take(object));
    codec::normalize(schema, type_id, &mut value);
    *object = into_object(value);
}

/// Writes any document.
pub fn encode_value(document: &Value, encoding: Encoding, pretty: bool) -> Bytes {
    let mut out = Vec::with_capacity(512);
    match (encoding, document) {
        (Encoding::Yaml, _) => {
            let text = serde_saphyr::to_string(document).unwrap_or_default();
            out.extend_from_slice(text.as_bytes());
        }
        (Encoding::Json, _) if pretty => {
            serde_json::to_writer_pretty(&mut out, document)
                .expect("a tree of JSON with text keys can be written");
        }
        (Encoding::Json, Value::Object(object)) => value::write_json(object, &mut out),
        (Encoding::Json, _) => {
            serde_json::to_writer(&mut out, document)
                .expect("a tree of JSON with text keys can be written");
        }
    }
    if encoding == Encoding::Json {
        out.push(b'\n');
    }
    Bytes::from(out)
}
