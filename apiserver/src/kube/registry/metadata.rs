//! `metadata`: what the server sets in it, and the rules of all objects.

use serde_json::Value;

use super::context::{Now, Random};
use super::names::{self, NameRule};
use crate::kube::limits::ANNOTATION_BYTES;
use crate::kube::object::{self, Object};
use crate::kube::status::FieldError;

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", ORPHAN_FINALIZER, FOREGROUND_FINALIZER];
pub const ORPHAN_FINALIZER: &str = "orphan";
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// Names that are generated end in five random characters, within this many bytes.
const GENERATED_NAME_BASE_BYTES: usize = 58;

/// What a client can't set in a new object.
const SET_BY_SERVER: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// Takes out of a new object what only the server sets.
pub fn wipe_new(object: &mut Object) {
    let metadata = object::metadata_mut(object);
    for name in SET_BY_SERVER {
        metadata.remove(name);
    }
}

/// Gives a new object its identity.
pub fn fill_new(object: &mut Object, now: Now, random: &Random) {
    wipe_new(object);
    let metadata = object::metadata_mut(object);
    metadata.insert("uid".to_owned(), random.uuid().into());
    metadata.insert("creationTimestamp".to_owned(), now.seconds().into());
}

/// A name for an object that has only `generateName`; `None` when it has neither or has a name.
pub fn generated_name(object: &Object, random: &Random) -> Option<String> {
    let prefix = object::meta_text(object, "generateName");
    if prefix.is_empty() || !object::name(object).is_empty() {
        return None;
    }
    let mut end = prefix.len().min(GENERATED_NAME_BASE_BYTES);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    Some(format!("{}{}", &prefix[..end], random.name_suffix()))
}

/// The rules of every new or changed object's metadata.
pub fn validate(object: &Object, namespaced: bool, name_rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Object::new();
    let metadata = object::metadata(object).unwrap_or(&empty);
    let generate_name = object::text(metadata, "generateName");
    if !generate_name.is_empty() {
        for why in name_rule(&names::masked_trailing_dash(generate_name)) {
            errors.push(FieldError::invalid("metadata.generateName", generate_name, why));
        }
    }
    let name = object::text(metadata, "name");
    if name.is_empty() {
        let why = "name or generateName is required";
        errors.push(FieldError::required("metadata.name", why));
    } else {
        for why in name_rule(name) {
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
    }
    let namespace = object::text(metadata, "namespace");
    if namespaced && namespace.is_empty() {
        errors.push(FieldError::required("metadata.namespace", ""));
    } else if namespaced {
        for why in names::dns_label(namespace) {
            errors.push(FieldError::invalid("metadata.namespace", namespace, why));
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
    if generation < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", generation, why));
    }
    errors.extend(labels(object::map(metadata, "labels"), "metadata.labels"));
    errors.extend(annotations(object::map(metadata, "annotations")));
    errors.extend(owner_references(metadata.get("ownerReferences")));
    errors.extend(finalizers(object::list(metadata, "finalizers")));
    errors
}

/// The rules of a map of labels.
pub fn labels(labels: Option<&Object>, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        for why in names::qualified_name(key) {
            errors.push(FieldError::invalid(field, key.as_str(), why));
        }
        let value = value.as_str().unwrap_or("");
        for why in names::label_value(value) {
            errors.push(FieldError::invalid(field, value, why));
        }
    }
    errors
}

fn annotations(annotations: Option<&Object>) -> Vec<FieldError> {
    const FIELD: &str = "metadata.annotations";
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        let lower_case = key.to_lowercase();
        for why in names::qualified_name(&lower_case) {
            errors.push(FieldError::invalid(FIELD, key.as_str(), why));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATION_BYTES {
        errors.push(FieldError::too_long(FIELD, ANNOTATION_BYTES));
    }
    errors
}

fn finalizers(finalizers: &[Value]) -> Vec<FieldError> {
    const FIELD: &str = "metadata.finalizers";
    let mut errors = Vec::new();
    let names: Vec<&str> = finalizers.iter().filter_map(Value::as_str).collect();
    for (index, name) in names.iter().enumerate() {
        for why in names::qualified_name(name) {
            errors.push(FieldError::invalid(FIELD, *name, why));
        }
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("{FIELD}[{index}]"), *name, why));
        }
    }
    if names.contains(&ORPHAN_FINALIZER) && names.contains(&FOREGROUND_FINALIZER) {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(FIELD, Value::from(finalizers), why));
    }
    errors
}

fn owner_references(references: Option<&Value>) -> Vec<FieldError> {
    const FIELD: &str = "metadata.ownerReferences";
    let mut errors = Vec::new();
    let Some(all) = references.and_then(Value::as_array) else { return errors };
    let mut controller: Option<String> = None;
    for reference in all.iter().filter_map(Value::as_object) {
        let text = |name| object::text(reference, name);
        let (group, version) =
            text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
        if version.is_empty() {
            let why = "version must not be empty";
            errors.push(FieldError::invalid(format!("{FIELD}.apiVersion"), version, why));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                let field = format!("{FIELD}.{name}");
                errors.push(FieldError::invalid(field, "", "must not be empty"));
            }
        }
        if text("kind") == "Event" && (group.is_empty() || group == "events.k8s.io") {
            let why = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            let shown = owner_text(reference);
            errors.push(FieldError::invalid_raw(FIELD, &shown, why));
        }
        if reference.get("controller") == Some(&Value::Bool(true)) {
            let this = text("name").to_owned();
            if let Some(first) = &controller {
                let shown: Vec<String> =
                    all.iter().filter_map(Value::as_object).map(owner_text).collect();
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    controller_text(reference, &this)
                );
                let shown = format!("[{}]", shown.join(","));
                errors.push(FieldError::invalid_raw(FIELD, &shown, why));
            } else {
                controller = Some(controller_text(reference, &this));
            }
        }
    }
    errors
}

fn controller_text(reference: &Object, name: &str) -> String {
    format!("{}/{name}", object::text(reference, "kind"))
}

/// An owner reference with its fields in their usual order.
fn owner_text(reference: &Object) -> String {
    let order = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let fields: Vec<String> = order
        .iter()
        .filter_map(|name| reference.get(*name).map(|value| format!("\"{name}\":{value}")))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Removes repeated owner references; gives the uids that were repeated.
pub fn dedup_owner_references(object: &mut Object) -> Vec<String> {
    let metadata = object::metadata_mut(object);
    let Some(Value::Array(references)) = metadata.get_mut("ownerReferences") else {
        return Vec::new();
    };
    let mut repeated = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(references.len());
    for reference in references.drain(..) {
        if kept.contains(&reference) {
            let uid = reference.get("uid").and_then(Value::as_str).unwrap_or("").to_owned();
            if !repeated.contains(&uid) {
                repeated.push(uid);
            }
        } else {
            kept.push(reference);
        }
    }
    *references = kept;
    repeated
}

/// Fields of metadata that only the server may change.
const KEPT_BY_SERVER: [&str; 2] = ["deletionTimestamp", "deletionGracePeriodSeconds"];

/// Gives a changed object what an update can't change, before it is checked.
pub fn carry_over(new: &mut Object, old: &Object) {
    let empty = Object::new();
    let old = object::metadata(old).unwrap_or(&empty);
    let new = object::metadata_mut(new);
    for name in KEPT_BY_SERVER {
        object::copy_field(old, new, name);
    }
    for name in ["creationTimestamp", "uid", "namespace"] {
        if new.get(name).is_none_or(|value| value.is_null() || value.as_str() == Some("")) {
            object::copy_field(old, new, name);
        }
    }
    new.remove("selfLink");
}

/// The rules of a change of metadata.
pub fn validate_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Object::new();
    let new = object::metadata(new).unwrap_or(&empty);
    let old = object::metadata(old).unwrap_or(&empty);
    let old_finalizers = object::list(old, "finalizers");
    if old.get("deletionTimestamp").is_some_and(|time| !time.is_null()) {
        let added: Vec<String> = object::list(new, "finalizers")
            .iter()
            .filter(|name| !old_finalizers.contains(name))
            .map(Value::to_string)
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
    for name in ["name", "namespace", "uid", "creationTimestamp"] {
        let (now, before) = (new.get(name), old.get(name));
        if !object::same(now, before) {
            let value = now.cloned().unwrap_or(Value::from(""));
            let why = "field is immutable";
            errors.push(FieldError::invalid(format!("metadata.{name}"), value, why));
        }
    }
    errors.extend(labels(object::map(new, "labels"), "metadata.labels"));
    errors.extend(annotations(object::map(new, "annotations")));
    errors.extend(owner_references(new.get("ownerReferences")));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(|error| format!("{}: {}", error.field, error.message())).collect()
    }

    #[test]
    fn names_are_required_and_checked() {
        let object = into_object(json!({"metadata": {"namespace": "n"}}));
        let errors = validate(&object, true, names::dns_subdomain);
        assert_eq!(
            texts(&errors),
            ["metadata.name: Required value: name or generateName is required"]
        );
        let object = into_object(json!({"metadata": {"name": "A", "namespace": "n"}}));
        assert_eq!(validate(&object, true, names::dns_subdomain).len(), 1);
        assert_eq!(validate(&object, false, names::path_segment).len(), 1);
    }

    #[test]
    fn finalizers_need_a_domain() {
        for (finalizers, expected) in [
            (json!(["kubernetes", "example.com/f"]), 0),
            (json!(["plain"]), 1),
            (json!(["orphan", "foregroundDeletion"]), 1),
            (json!(["Bad Name"]), 2),
        ] {
            let object = into_object(json!({"metadata": {"name": "x", "finalizers": finalizers}}));
            assert_eq!(validate(&object, false, names::dns_subdomain).len(), expected);
        }
    }

    #[test]
    fn owners_are_checked() {
        let owner = |kind: &str, uid: &str| json!({"apiVersion": "v1", "kind": kind, "name": "o", "uid": uid, "controller": true});
        for (references, expected) in [
            (json!([owner("ConfigMap", "1")]), 0),
            (json!([owner("ConfigMap", "1"), owner("ConfigMap", "2")]), 1),
            (json!([owner("Event", "1")]), 1),
            (json!([{"kind": "ConfigMap", "name": "o"}]), 2),
        ] {
            let object =
                into_object(json!({"metadata": {"name": "x", "ownerReferences": references}}));
            let errors = validate(&object, false, names::dns_subdomain);
            assert_eq!(errors.len(), expected, "{:?}", texts(&errors));
        }
        let mut twice = into_object(
            json!({"metadata": {"ownerReferences": [owner("A", "1"), owner("A", "1")]}}),
        );
        assert_eq!(dedup_owner_references(&mut twice), ["1"]);
        assert_eq!(object::list_at(&twice, &["metadata", "ownerReferences"]).len(), 1);
    }

    #[test]
    fn what_only_the_server_changes() {
        let old = into_object(
            json!({"metadata": {"name": "x", "uid": "1", "creationTimestamp": "t", "deletionTimestamp": "d", "finalizers": ["a/b"]}}),
        );
        let mut new = into_object(json!({"metadata": {"name": "x", "finalizers": ["a/b", "a/c"]}}));
        carry_over(&mut new, &old);
        assert_eq!(object::uid(&new), "1");
        assert!(object::is_being_deleted(&new));
        assert_eq!(
            texts(&validate_update(&new, &old)),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a/c\"}"
            ]
        );
        object::metadata_mut(&mut new).insert("uid".to_owned(), "2".into());
        assert_eq!(validate_update(&new, &old).len(), 2);
    }

    #[test]
    fn generated_names_are_short_enough() {
        let random = Random::default();
        let object = into_object(json!({"metadata": {"generateName": "a".repeat(250)}}));
        assert_eq!(generated_name(&object, &random).unwrap().len(), 63);
        let named = into_object(json!({"metadata": {"generateName": "a-", "name": "b"}}));
        assert_eq!(generated_name(&named, &random), None);
    }
}
