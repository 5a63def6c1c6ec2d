//! JSON merge patch (RFC 7386), with the error texts of kube-apiserver.

use serde_json::{Map, Value};
use thiserror::Error;

use super::depth::nests_at_most;
use super::go_format::json_kind;
use super::limits::MAX_PATCH_DEPTH;

/// The patch is not a JSON object that can be used. kube-apiserver answers 400 with this text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergePatchError {
    /// The patch is a list, a string, a number or a boolean.
    #[error(
        "error decoding patch: json: cannot unmarshal {0} into Go value of type map[string]interface {{}}"
    )]
    NotAnObject(&'static str),
    /// The patch nests deeper than [`MAX_PATCH_DEPTH`].
    #[error("error decoding patch: exceeded max depth")]
    TooDeep,
    /// The patch is `null`, which would delete the whole document.
    #[error("Invalid JSON Patch")]
    Null,
}

/// Merges the patch into the document: null deletes, objects merge, everything else replaces.
pub fn apply(document: &mut Value, patch: Value) -> Result<(), MergePatchError> {
    if !nests_at_most(&patch, MAX_PATCH_DEPTH, &mut 0) {
        return Err(MergePatchError::TooDeep);
    }
    let fields = match patch {
        Value::Object(fields) => fields,
        Value::Null => return Err(MergePatchError::Null),
        other => return Err(MergePatchError::NotAnObject(json_kind(&other))),
    };
    match document {
        Value::Object(target) => merge_fields(target, fields),
        other => {
            let mut replacement = Value::Object(fields);
            remove_nulls(&mut replacement);
            *other = replacement;
        }
    }
    Ok(())
}

/// The patch that makes `modified` out of `original`; `None` when they are equal.
pub fn diff(original: &Value, modified: &Value) -> Option<Value> {
    if original == modified {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (original, modified) else {
        return Some(modified.clone());
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        let change = match old.get(name) {
            Some(before) => diff(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    Some(Value::Object(patch))
}

fn merge_fields(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, mut change) in patch {
        if change.is_null() {
            target.remove(&name);
            continue;
        }
        match (target.get_mut(&name), change) {
            (Some(Value::Object(current)), Value::Object(fields)) => merge_fields(current, fields),
            // A list or scalar in place of an object is taken as it is, nulls below it included.
            (Some(current @ Value::Object(_)), other) => *current = other,
            (_, other) => {
                change = other;
                remove_nulls(&mut change);
                target.insert(name, change);
            }
        }
    }
}

/// Removes null fields of objects, however deep. Null elements of lists stay.
pub(super) fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn merges_as_rfc_7386_says() {
        for (document, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!(["a"]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({"x": 1}), json!({"x": [null, {"y": null}]}), json!({"x": [null, {}]})),
        ] {
            let mut result = document.clone();
            apply(&mut result, patch.clone()).expect("an object patch applies");
            assert_eq!(result, expected, "{document} with {patch}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_object() {
        for (patch, expected) in [
            (
                json!([]),
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            (
                json!("x"),
                "error decoding patch: json: cannot unmarshal string into Go value of type map[string]interface {}",
            ),
            (json!(null), "Invalid JSON Patch"),
        ] {
            let mut document = json!({"a": 1});
            let error = apply(&mut document, patch).expect_err("must be refused");
            assert_eq!(error.to_string(), expected);
            assert_eq!(document, json!({"a": 1}), "a refused patch changes nothing");
        }
    }

    /// Objects without nulls, which merge patches cannot express.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..5i64).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-d]", value, 0..4)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_difference_applied_gives_the_other_document(a in document(), b in document()) {
            let mut result = a.clone();
            if let Some(patch) = diff(&a, &b) {
                apply(&mut result, patch).expect("a difference of objects is an object");
            }
            prop_assert_eq!(result, b);
        }
    }
}
