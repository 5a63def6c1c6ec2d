//! Bodies as custom objects: what every object has is checked here, everything else is left to the
//! schema.

use serde_json::Value;

use super::{CustomType, prune};
use crate::kube::codec::node::Node;
use crate::kube::codec::{self, Decoded, Format, ObjectError};
use crate::kube::patch::repeated_keys;
use crate::kube::schema::{GroupVersionKind, Schema};
use crate::kube::status::ApiError;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Reads a body that should be an object of this kind. A wrong kind is let through: validation
/// tells it.
pub fn decode(
    custom: &CustomType,
    expected: &GroupVersionKind,
    format: Format,
    body: &[u8],
) -> Result<Decoded, ApiError> {
    let (node, mut problems) = read(expected, format, body)?;
    let cannot = |problem: String| {
        let error = ObjectError::cannot_be_handled(expected, &expected.kind, problem);
        ApiError::bad_request(error.to_string())
    };
    let mut value = node.into_value();
    let Value::Object(members) = &mut value else {
        return Err(cannot("the document is no object".to_owned()));
    };
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or("");
    for (name, shown) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if text(name).is_empty() {
            let body = String::from_utf8_lossy(body);
            return Err(ApiError::bad_request(format!("Object '{shown}' is missing in '{body}'")));
        }
    }
    let version = codec::api_version(expected);
    if text("apiVersion") != version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            text("apiVersion")
        )));
    }
    let schema = Schema::builtin();
    if let (Some(metadata), Some(type_id)) =
        (members.get_mut("metadata"), schema.type_named(OBJECT_META))
    {
        let decoded = codec::decode_node(schema, type_id, Node::from_value(metadata))
            .map_err(|error| cannot(error.to_string()))?;
        *metadata = decoded.value;
        let own = decoded.strict_errors.iter().filter(|text| text.starts_with("unknown"));
        problems.extend(own.map(|text| text.replacen("field \"", "field \"metadata.", 1)));
    }
    let mut unknown = Vec::new();
    prune::prune(&mut value, &custom.schema, "", true, &mut unknown);
    unknown.sort();
    problems.extend(unknown);
    Ok(Decoded { value, strict_errors: problems })
}

/// The document, and which fields it has twice.
fn read<'a>(
    expected: &GroupVersionKind,
    format: Format,
    body: &'a [u8],
) -> Result<(Node<'a>, Vec<String>), ApiError> {
    let refused = |problem: String| {
        ApiError::bad_request(ObjectError::unrecognized(&expected.kind, problem, body).to_string())
    };
    match format {
        Format::Json => {
            let node = codec::json::parse(body).map_err(|error| {
                refused(format!("couldn't get version/kind; json parse error: {error}"))
            })?;
            let mut problems = Vec::new();
            repeated_keys(&node, "", &mut problems);
            Ok((node, problems))
        }
        Format::Yaml => {
            let document = codec::yaml::parse(body).map_err(|error| refused(error.to_string()))?;
            let problems = document.strict_error().into_iter().collect();
            Ok((document.node, problems))
        }
        Format::Protobuf => {
            Err(ApiError::unsupported_media_type(&["application/json", "application/yaml"]))
        }
    }
}
