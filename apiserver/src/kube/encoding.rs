//! The way to the codecs: bodies to objects, objects to bodies.

use bytes::Bytes;
use serde_json::Value;

use super::codec::TypeMeta;
use super::codec::node::Node;
use super::codec::{self, protobuf};
use super::object::Object;
use super::registry::into_object;
use super::request::negotiation::{BODIES, Encoding};
use super::schema::{GroupVersionKind, Resource, Schema, TypeId};
use super::status::ApiError;
use super::storage::value;

/// What a body says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

impl BodyFormat {
    /// The format of a `Content-Type`; absent means JSON.
    pub fn of_content_type(content_type: &str) -> Result<BodyFormat, ApiError> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "" | "application/json" => Ok(BodyFormat::Json),
            "application/yaml" => Ok(BodyFormat::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
            _ => Err(ApiError::unsupported_media_type(&BODIES)),
        }
    }
}

impl From<BodyFormat> for codec::Format {
    fn from(format: BodyFormat) -> codec::Format {
        match format {
            BodyFormat::Json => codec::Format::Json,
            BodyFormat::Yaml => codec::Format::Yaml,
            BodyFormat::Protobuf => codec::Format::Protobuf,
        }
    }
}

/// Reads any JSON or YAML.
pub fn decode_value(body: &[u8], format: BodyFormat) -> Result<Value, ApiError> {
    let read = match format {
        BodyFormat::Json => codec::json::parse(body).map(Node::into_value),
        BodyFormat::Yaml => codec::yaml::parse(body).map(|document| document.node.into_value()),
        BodyFormat::Protobuf => return Err(ApiError::unsupported_media_type(&BODIES)),
    };
    read.map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Reads the options of a deletion.
pub fn decode_delete_options(body: &[u8], format: BodyFormat) -> Result<Value, ApiError> {
    const TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
    if format != BodyFormat::Protobuf {
        return decode_value(body, format).map_err(|error| {
            let why = &error.status().message;
            ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
        });
    }
    let schema = Schema::builtin();
    let refused = |error: codec::DecodeError| ApiError::bad_request(error.to_string());
    let envelope = protobuf::open(body).map_err(refused)?;
    let type_id = schema.type_named(TYPE).ok_or_else(ApiError::no_such_path)?;
    protobuf::decode_message(schema, type_id, envelope.raw).map_err(refused)
}

/// An object that is stored as protobuf.
pub fn decode_stored_protobuf(schema: &Schema, key: &[u8], bytes: &[u8]) -> Result<Object, String> {
    let wrong = |why: String| {
        let key = String::from_utf8_lossy(key).into_owned();
        value::ValueError::Malformed { key, why }.to_string()
    };
    let envelope = protobuf::open(bytes).map_err(|error| wrong(error.to_string()))?;
    let meta = &envelope.meta;
    let (group, version) = meta.api_version.split_once('/').unwrap_or(("", &meta.api_version));
    let kind = GroupVersionKind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: meta.kind.clone(),
    };
    let unknown =
        || wrong(format!("there is no kind {} in version {}", meta.kind, meta.api_version));
    let type_id = schema.type_of_kind(&kind).ok_or_else(unknown)?;
    let decoded = protobuf::decode_message(schema, type_id, envelope.raw);
    let mut object = into_object(decoded.map_err(|error| wrong(error.to_string()))?);
    object.insert("kind".to_owned(), meta.kind.as_str().into());
    object.insert("apiVersion".to_owned(), meta.api_version.as_str().into());
    Ok(object)
}

/// Brings an object into the form that it has after a kube-apiserver has read it: fields that are
/// always there are there, fields that are zero and may be left out are left out.
pub fn canonicalize(schema: &Schema, type_id: TypeId, object: &mut Object) {
    let mut value = Value::Object(std::mem::take(object));
    codec::normalize(schema, type_id, &mut value);
    *object = into_object(value);
}

/// Like [`canonicalize`], for an object that is about to be stored: as it is when it is read again.
pub fn canonicalize_to_store(schema: &Schema, type_id: TypeId, object: &mut Object) {
    let mut value = Value::Object(std::mem::take(object));
    codec::normalize(schema, type_id, &mut value);
    codec::forget_empty(schema, type_id, &mut value);
    *object = into_object(value);
}

/// Writes any document.
pub fn encode_value(document: &Value, encoding: Encoding, pretty: bool) -> Bytes {
    let mut out = Vec::with_capacity(512);
    match (encoding, document) {
        (Encoding::Yaml, _) => return Bytes::from(codec::yaml_text::write(document)),
        (Encoding::Protobuf, _) => return encode_protobuf(document),
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
    out.push(b'\n');
    Bytes::from(out)
}

/// A list in protobuf, that grows item by item.
pub struct ProtobufList {
    encoder: protobuf::ListEncoder<'static>,
    type_meta: TypeMeta,
}

impl ProtobufList {
    /// A list of the objects of a built-in resource.
    pub fn new(resource: &Resource) -> ProtobufList {
        let kind = resource.gvk();
        let api_version = match kind.group.as_str() {
            "" => kind.version,
            group => format!("{group}/{}", kind.version),
        };
        ProtobufList {
            encoder: protobuf::ListEncoder::new(Schema::builtin(), resource.type_id),
            type_meta: TypeMeta { api_version, kind: format!("{}List", kind.kind) },
        }
    }

    pub fn push(&mut self, object: Object) {
        self.encoder.push(&Value::Object(object));
    }

    /// The whole list.
    pub fn finish(self, metadata: &Value) -> Bytes {
        const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
        let list_meta = Schema::builtin().type_named(LIST_META).expect("the table has ListMeta");
        Bytes::from(self.encoder.finish(&self.type_meta, list_meta, metadata))
    }
}

/// The type that has the same protobuf fields as an object or a list of nothing but metadata.
const METADATA_ONLY: [(&str, &str); 2] = [
    ("PartialObjectMetadata", "io.k8s.api.core.v1.ConfigMap"),
    ("PartialObjectMetadataList", "io.k8s.api.core.v1.ConfigMapList"),
];

/// Whether a document has a protobuf form.
pub fn has_protobuf(document: &Value) -> bool {
    protobuf_type(document).is_some()
}

fn protobuf_type(document: &Value) -> Option<TypeId> {
    let schema = Schema::builtin();
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or("");
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    if let Some((_, name)) = METADATA_ONLY.iter().find(|(kind, _)| *kind == text("kind")) {
        return schema.type_named(name);
    }
    schema.type_of_kind(&GroupVersionKind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: text("kind").to_owned(),
    })
}

/// A document without a protobuf form is written as JSON; callers ask [`has_protobuf`] before.
fn encode_protobuf(document: &Value) -> Bytes {
    match protobuf_type(document) {
        Some(type_id) => Bytes::from(protobuf::encode_object(Schema::builtin(), type_id, document)),
        None => encode_value(document, Encoding::Json, false),
    }
}
