//! The result of a strategic merge patch becomes an object without passing through JSON text, and
//! kube-apiserver words the errors of that road differently from those of its JSON decoder.

use serde_json::Value;

use super::go_kind;
use crate::kube::patch::go_format::go_type;
use crate::kube::schema::{FieldKind, Schema, TypeId};

/// Why the patched document is not an object of the type; `None` when it is one, or when its text
/// forms (quantities, times) are to be judged by the decoder. kube-apiserver answers 422: the
/// field `patch` is invalid, its value is the patch as [`crate::kube::patch::go_value`] prints it.
pub fn conversion_problem(schema: &Schema, type_id: TypeId, document: &Value) -> Option<String> {
    problem(schema, &FieldKind::Struct(type_id), document)
}

fn problem(schema: &Schema, kind: &FieldKind, value: &Value) -> Option<String> {
    match (kind, value) {
        (_, Value::Null) => None,
        (FieldKind::Struct(type_id), Value::Object(fields)) => {
            let type_def = schema.type_def(*type_id);
            fields
                .iter()
                .find_map(|(name, value)| problem(schema, &type_def.field(name)?.kind, value))
        }
        (FieldKind::Struct(_), other) => {
            Some(format!("cannot restore struct from: {}", value_kind(other)))
        }
        (FieldKind::List(_, element), Value::Array(items)) => {
            items.iter().find_map(|item| problem(schema, element, item))
        }
        (FieldKind::Bytes, Value::String(_)) => None,
        (FieldKind::List(..) | FieldKind::Bytes, other) => {
            Some(format!("cannot restore slice from {}", value_kind(other)))
        }
        (FieldKind::Map { value: kind, .. }, Value::Object(fields)) => {
            fields.values().find_map(|value| problem(schema, kind, value))
        }
        (FieldKind::Map { .. }, other) => {
            Some(format!("cannot restore map from {}", value_kind(other)))
        }
        _ => scalar_problem(kind, value),
    }
}

fn scalar_problem(kind: &FieldKind, value: &Value) -> Option<String> {
    let fits = match kind {
        FieldKind::Boolean => value.is_boolean(),
        FieldKind::Int32 | FieldKind::Int64 => {
            value.as_f64().is_some_and(|number| number.trunc() == number)
        }
        FieldKind::Double => value.is_number(),
        FieldKind::String => value.is_string(),
        _ => true,
    };
    if fits {
        return None;
    }
    // Go converts between numbers, and from integers to text, but JSON does not mean it.
    let convertible = match kind {
        FieldKind::Int32 | FieldKind::Int64 => value.is_number(),
        FieldKind::String => value.is_i64() || value.is_u64(),
        _ => false,
    };
    Some(match convertible {
        true => format!("cannot convert {} to {}", go_type(value), go_kind(kind)),
        false => format!("unrecognized type: {}", go_kind(kind)),
    })
}

/// The kind of the Go value that holds a decoded JSON value.
fn value_kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
        scalar => go_type(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::patch::test_schema;
    use serde_json::json;

    #[test]
    fn words_problems_as_kube_apiserver() {
        let schema = test_schema::schema(&[
            (
                "Root",
                &[
                    ("labels", "map string"),
                    ("replicas", "int32"),
                    ("items", "list Item"),
                    ("item", "Item"),
                    ("on", "boolean"),
                    ("share", "double"),
                    ("data", "bytes"),
                    ("limit", "quantity"),
                    ("raw", "any"),
                ],
            ),
            ("Item", &[("name", "string")]),
        ]);
        let root = test_schema::type_id(&schema, "Root");
        for (document, expected) in [
            (json!({"labels": {"a": "b"}, "replicas": 1, "items": [{"name": "x"}]}), None),
            (json!({"replicas": 2.0, "share": 1, "data": "YQ==", "limit": 5, "raw": [1]}), None),
            (json!({"unknown": 1, "replicas": null}), None),
            (json!({"replicas": "x"}), Some("unrecognized type: int32")),
            (json!({"replicas": 1.5}), Some("cannot convert float64 to int32")),
            (json!({"on": "x"}), Some("unrecognized type: bool")),
            (json!({"items": [{"name": 1}]}), Some("cannot convert int64 to string")),
            (json!({"items": [{"name": true}]}), Some("unrecognized type: string")),
            (json!({"labels": ["a"]}), Some("cannot restore map from slice")),
            (json!({"labels": "a"}), Some("cannot restore map from string")),
            (json!({"items": {"name": "x"}}), Some("cannot restore slice from map")),
            (json!({"item": []}), Some("cannot restore struct from: slice")),
            (json!({"item": 1}), Some("cannot restore struct from: int64")),
            (json!({"data": 1}), Some("cannot restore slice from int64")),
        ] {
            assert_eq!(
                conversion_problem(&schema, root, &document).as_deref(),
                expected,
                "{document}"
            );
        }
    }
}
