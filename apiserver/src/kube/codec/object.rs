//! A request body as an object: its kind, the words around a decoding error, and what the checks
//! for unknown fields found.

use std::fmt::Write;

use thiserror::Error;

use super::limits::SHOWN_BYTES;
use super::node::Node;
use super::typed::{Decoded, decode_node};
use super::{DecodeError, json, protobuf, yaml};
use crate::kube::schema::{GroupVersionKind, Schema, TypeId};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// What a document says of itself; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

/// Why a body is not the object that the path asks for. Each is a 400 with reason BadRequest.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ObjectError {
    /// The bytes can't be read at all.
    #[error(
        "the object provided is unrecognized (must be of type {expected}): {problem} ({shown})"
    )]
    Unrecognized { expected: String, problem: String, shown: String },
    /// They can be read, but are no such object.
    #[error("{kind} in version \"{version}\" cannot be handled as a {expected}: {problem}")]
    CannotBeHandled { kind: String, version: String, expected: String, problem: String },
}

impl ObjectError {
    /// The object of this kind can't be handled where `expected` is, because of `problem`.
    pub fn cannot_be_handled(
        found: &GroupVersionKind,
        expected: &str,
        problem: impl Into<String>,
    ) -> ObjectError {
        ObjectError::CannotBeHandled {
            kind: found.kind.clone(),
            version: found.version.clone(),
            expected: expected.to_owned(),
            problem: problem.into(),
        }
    }

    pub fn unrecognized(expected: &str, problem: impl Into<String>, bytes: &[u8]) -> ObjectError {
        ObjectError::Unrecognized {
            expected: expected.to_owned(),
            problem: problem.into(),
            shown: shown(bytes),
        }
    }
}

/// What a document says of itself.
pub fn type_meta(node: &Node<'_>) -> Result<TypeMeta, DecodeError> {
    const TARGET: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                          Kind string \"json:\\\"kind,omitempty\\\"\" }";
    let text = |name: &str, field: &str| match node.member(name) {
        None | Some(Node::Null) => Ok(String::new()),
        Some(Node::String(text)) => Ok(text.as_ref().to_owned()),
        Some(other) => Err(DecodeError::new(format!(
            "json: cannot unmarshal {} into Go struct field .{field} of type string",
            other.word()
        ))),
    };
    match node {
        Node::Object(_) | Node::Null => Ok(TypeMeta {
            api_version: text("apiVersion", "apiVersion")?,
            kind: text("kind", "kind")?,
        }),
        other => Err(DecodeError::new(format!(
            "json: cannot unmarshal {} into Go value of type {TARGET}",
            other.word()
        ))),
    }
}

/// Decodes a body that should be of the kind `expected`, whose type is `type_id`. A body that does
/// not say its kind or version has the expected ones; they are filled in.
///
/// The strict errors of the result are for the caller to turn into warnings or, with
/// [`Decoded::strict_problem`], into an error.
pub fn decode_object(
    schema: &Schema,
    type_id: TypeId,
    expected: &GroupVersionKind,
    format: Format,
    bytes: &[u8],
) -> Result<Decoded, ObjectError> {
    let document = read(format, bytes)
        .map_err(|problem| ObjectError::unrecognized(&expected.kind, problem, bytes))?;
    let found = found_kind(&document.meta, expected);
    let cannot = |problem: String| ObjectError::cannot_be_handled(&found, &expected.kind, problem);
    if found != *expected {
        return Err(cannot(wrong_kind(schema, &found, expected)));
    }
    let decoded = match document.content {
        Content::Node(node) => decode_node(schema, type_id, node),
        Content::Message(message) => protobuf::decode_message(schema, type_id, message)
            .map(|value| Decoded { value, strict_errors: Vec::new() }),
    };
    let mut decoded = decoded.map_err(|error| cannot(error.to_string()))?;
    decoded.strict_errors.splice(0..0, document.strict_error);
    decoded.value["kind"] = expected.kind.clone().into();
    decoded.value["apiVersion"] = api_version(expected).into();
    Ok(decoded)
}

/// A body that could be read, before it is held against a type.
struct Document<'a> {
    meta: TypeMeta,
    content: Content<'a>,
    /// Keys that come twice, which only YAML's reader knows.
    strict_error: Option<String>,
}

enum Content<'a> {
    Node(Node<'a>),
    Message(&'a [u8]),
}

fn read(format: Format, bytes: &[u8]) -> Result<Document<'_>, String> {
    let about_json =
        |error: DecodeError| format!("couldn't get version/kind; json parse error: {error}");
    let (node, strict_error) = match format {
        Format::Json => (json::parse(bytes).map_err(about_json)?, None),
        Format::Yaml => {
            let document = yaml::parse(bytes).map_err(|error| error.to_string())?;
            let strict_error = document.strict_error();
            (document.node, strict_error)
        }
        Format::Protobuf => {
            let envelope = protobuf::open(bytes).map_err(|error| error.to_string())?;
            let content = Content::Message(envelope.raw);
            return Ok(Document { meta: envelope.meta, content, strict_error: None });
        }
    };
    let meta = type_meta(&node).map_err(about_json)?;
    Ok(Document { meta, content: Content::Node(node), strict_error })
}

/// `group/version`, or the version alone for the core group.
pub fn api_version(kind: &GroupVersionKind) -> String {
    match kind.group.as_str() {
        "" => kind.version.clone(),
        group => format!("{group}/{}", kind.version),
    }
}

fn found_kind(meta: &TypeMeta, expected: &GroupVersionKind) -> GroupVersionKind {
    let mut found = expected.clone();
    if !meta.api_version.is_empty() {
        let (group, version) = meta.api_version.split_once('/').unwrap_or(("", &meta.api_version));
        found.group = group.to_owned();
        found.version = version.to_owned();
    }
    if !meta.kind.is_empty() {
        found.kind = meta.kind.clone();
    }
    found
}

fn wrong_kind(schema: &Schema, found: &GroupVersionKind, expected: &GroupVersionKind) -> String {
    match schema.type_of_kind(found) {
        Some(_) => format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            found.version,
            found.kind,
            internal_package(&expected.group),
            expected.kind
        ),
        None => format!(
            "no kind \"{}\" is registered for version \"{}\" in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\"",
            found.kind,
            api_version(found)
        ),
    }
}

/// The Go package of a group's internal types: `core`, `apps`, `rbac`.
fn internal_package(group: &str) -> &str {
    match group.split('.').next().unwrap_or("") {
        "" => "core",
        first => first,
    }
}

/// The first bytes of a body in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let mut text = String::new();
    for byte in bytes.iter().take(SHOWN_BYTES) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > SHOWN_BYTES {
        text.push_str(" ...");
    }
    text
}

impl Decoded {
    /// The problem to report when unknown and duplicate fields are refused.
    pub fn strict_problem(&self) -> Option<String> {
        match self.strict_errors.is_empty() {
            true => None,
            false => Some(format!("strict decoding error: {}", self.strict_errors.join(", "))),
        }
    }

    /// The texts of the warnings to give when unknown and duplicate fields are accepted.
    pub fn warnings(&self) -> Vec<String> {
        let problems = self
            .strict_errors
            .iter()
            .map(|error| error.strip_prefix(yaml::STRICT_PREFIX).unwrap_or(error));
        problems.flat_map(|error| error.split("\n  ")).map(str::to_owned).collect()
    }
}
