//! Objects that `kubectl apply` managed on the client side carry their last configuration in an
//! annotation. When kubectl goes over to server-side apply it may change what that configuration
//! set, without a conflict, and the annotation is kept up to date.

use serde_json::{Map, Value};

use super::Request;
use super::compare::{compare, field_set_of};
use super::field_set::FieldSet;
use super::shape::Types;
use super::validate::validate;
use crate::kube::patch::limits::MAX_ANNOTATION_BYTES;
use crate::kube::schema::FieldKind;

/// The only manager this is done for.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that the last client-side configuration set and that still have its values. `None`
/// without a readable annotation.
pub(super) fn allowed_changes(
    request: &Request<'_>,
    live: &Map<String, Value>,
) -> Option<FieldSet> {
    let text = annotations(live)?.get(ANNOTATION)?.as_str()?;
    let configuration: Value = serde_json::from_str(text).ok()?;
    if configuration.get("apiVersion")?.as_str()? != request.api_version {
        return None;
    }
    let kind = FieldKind::Struct(request.type_id);
    let types = Types::new(request.schema);
    validate(types, &kind, &configuration).ok()?;
    let mut set = field_set_of(types, &kind, &configuration);
    let changes =
        compare(request.schema, request.type_id, configuration.as_object()?, live).ok()?;
    set.subtract(&changes.modified);
    set.subtract(&changes.added);
    set.subtract(&changes.removed);
    Some(set)
}

/// Writes the configuration into the annotation of an object that has it.
pub(super) fn refresh(object: &mut Map<String, Value>, configuration: &Value) {
    let in_use = annotations(object)
        .and_then(|annotations| annotations.get(ANNOTATION))
        .and_then(Value::as_str)
        .is_some_and(|text| !text.is_empty());
    if !in_use {
        return;
    }
    let mut configuration = configuration.clone();
    if let Some(annotations) =
        configuration.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = object
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let text = format!("{configuration}\n");
    annotations.insert(ANNOTATION.to_string(), Value::from(text));
    let bytes: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > MAX_ANNOTATION_BYTES {
        annotations.remove(ANNOTATION);
    }
}

fn annotations(object: &Map<String, Value>) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}
