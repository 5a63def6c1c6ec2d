//! The normal form: what of an object is written out. Go leaves out an optional field that is zero
//! (`omitempty`) and writes a structure held by value even when nobody set it; the table says which.

use serde_json::{Map, Number, Value};

use crate::kube::schema::{Field, FieldKind, Schema, TypeId};

/// Brings an object to the form in which a kube-apiserver writes it: empty optional lists and maps
/// are dropped, zero values as the table says, and what is always written is there.
pub fn normalize(schema: &Schema, type_id: TypeId, object: &mut Value) {
    if let Value::Object(members) = object {
        normalize_struct(schema, type_id, members);
    }
}

/// Forgets lists and maps without elements, in an object in its normal form: protobuf, in which
/// objects are stored, does not tell them from none.
pub fn forget_empty(schema: &Schema, type_id: TypeId, object: &mut Value) {
    forget_empty_below(schema, &FieldKind::Struct(type_id), object);
}

fn forget_empty_below(schema: &Schema, kind: &FieldKind, value: &mut Value) {
    match (kind, value) {
        (FieldKind::Struct(id) | FieldKind::SchemaOr(_, id), Value::Object(members)) => {
            for field in &schema.type_def(*id).fields {
                let Some(value) = members.get_mut(&field.json_name) else { continue };
                match (&field.kind, &mut *value) {
                    (FieldKind::List(..), Value::Array(list)) if list.is_empty() => {
                        *value = Value::Null;
                    }
                    (FieldKind::Map { .. }, Value::Object(map)) if map.is_empty() => {
                        *value = Value::Null;
                    }
                    (kind, value) => forget_empty_below(schema, kind, value),
                }
            }
        }
        (FieldKind::List(_, kind), Value::Array(elements)) => {
            elements.iter_mut().for_each(|element| forget_empty_below(schema, kind, element));
        }
        (FieldKind::Map { value: kind, .. }, Value::Object(members)) => {
            members.values_mut().for_each(|member| forget_empty_below(schema, kind, member));
        }
        _ => {}
    }
}

fn normalize_struct(schema: &Schema, type_id: TypeId, members: &mut Map<String, Value>) {
    for field in &schema.type_def(type_id).fields {
        match members.get_mut(&field.json_name) {
            Some(value) => {
                normalize_value(schema, &field.kind, value);
                if is_left_out(field, value) {
                    members.remove(&field.json_name);
                }
            }
            None => {
                if let Some(value) = written_when_absent(schema, field) {
                    members.insert(field.json_name.clone(), value);
                }
            }
        }
    }
}

fn normalize_value(schema: &Schema, kind: &FieldKind, value: &mut Value) {
    match (kind, value) {
        (FieldKind::Struct(id) | FieldKind::SchemaOr(_, id), Value::Object(members)) => {
            normalize_struct(schema, *id, members);
        }
        (FieldKind::List(_, kind), Value::Array(elements)) => {
            elements.iter_mut().for_each(|element| normalize_value(schema, kind, element));
        }
        (FieldKind::SchemaOr(_, id), Value::Array(elements)) => {
            let kind = FieldKind::Struct(*id);
            elements.iter_mut().for_each(|element| normalize_value(schema, &kind, element));
        }
        (FieldKind::Map { value: kind, .. }, Value::Object(members)) => {
            members.values_mut().for_each(|member| normalize_value(schema, kind, member));
        }
        _ => {}
    }
}

/// Whether Go's `omitempty` drops this value.
fn is_left_out(field: &Field, value: &Value) -> bool {
    if field.required || field.always_written {
        return false;
    }
    match (&field.kind, value) {
        (FieldKind::Any, _) => false,
        (_, Value::Null) => !is_struct_like(&field.kind),
        (FieldKind::List(..), Value::Array(list)) => list.is_empty(),
        (FieldKind::Map { .. }, Value::Object(map)) => map.is_empty(),
        (FieldKind::Bytes, Value::String(text)) => text.is_empty(),
        (FieldKind::String, Value::String(text)) => field.by_value && text.is_empty(),
        (FieldKind::Boolean, Value::Bool(value)) => field.by_value && !value,
        (FieldKind::Int32 | FieldKind::Int64, Value::Number(number)) => {
            field.by_value && number.as_i64() == Some(0)
        }
        (FieldKind::Double, Value::Number(number)) => {
            field.by_value && number.as_f64() == Some(0.0)
        }
        _ => false,
    }
}

/// Structures and what Go makes of one: `omitempty` does nothing to them.
fn is_struct_like(kind: &FieldKind) -> bool {
    matches!(
        kind,
        FieldKind::Struct(_)
            | FieldKind::Time
            | FieldKind::MicroTime
            | FieldKind::Quantity
            | FieldKind::IntOrString
    )
}

/// What Go writes for a field that nobody set.
fn written_when_absent(schema: &Schema, field: &Field) -> Option<Value> {
    let by_value = field.by_value && (is_struct_like(&field.kind) || field.kind == FieldKind::Any);
    let always = field.required || field.always_written;
    match &field.kind {
        // A structure that must be there but is held by a pointer.
        FieldKind::Struct(_) if always && !field.by_value => Some(Value::Null),
        kind if always || by_value => Some(zero(schema, kind)),
        _ => None,
    }
}

/// The zero value of a kind, as it is written.
pub(super) fn zero(schema: &Schema, kind: &FieldKind) -> Value {
    match kind {
        FieldKind::Boolean => Value::Bool(false),
        FieldKind::Int32 | FieldKind::Int64 | FieldKind::Double | FieldKind::IntOrString => {
            Value::Number(Number::from(0))
        }
        FieldKind::String => Value::String(String::new()),
        FieldKind::Quantity => Value::String("0".to_owned()),
        FieldKind::Struct(id) => {
            let mut members = Map::new();
            normalize_struct(schema, *id, &mut members);
            Value::Object(members)
        }
        FieldKind::Bytes
        | FieldKind::Time
        | FieldKind::MicroTime
        | FieldKind::Any
        | FieldKind::SchemaOr(..)
        | FieldKind::List(..)
        | FieldKind::Map { .. } => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_without_elements_are_none_once_stored() {
        let schema = Schema::builtin();
        for (name, object, expected) in [
            (
                "io.k8s.api.rbac.v1.Role",
                json!({"rules": []}),
                json!({"metadata": {}, "rules": null}),
            ),
            (
                "io.k8s.api.rbac.v1.Role",
                json!({"rules": [{"verbs": []}]}),
                json!({"metadata": {}, "rules": [{"verbs": null}]}),
            ),
            (
                "io.k8s.api.core.v1.LimitRange",
                json!({"spec": {"limits": []}}),
                json!({"metadata": {}, "spec": {"limits": null}}),
            ),
        ] {
            let type_id = schema.type_named(name).unwrap();
            let mut object = object;
            normalize(schema, type_id, &mut object);
            forget_empty(schema, type_id, &mut object);
            assert_eq!(object, expected, "{name}");
        }
    }
}
