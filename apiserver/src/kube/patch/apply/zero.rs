//! The object that nobody has set anything in.

use serde_json::{Map, Value};

use crate::kube::schema::{Field, FieldKind, Schema, TypeId};

/// How deep structures held by value can be nested. A type cannot hold itself by value, so this
/// only stops on a broken table.
const MAX_DEPTH: usize = 32;

/// A new object of the type as kube-apiserver writes it: what is held by value or required is
/// there and empty (`spec: {}`). Fields that an object has anyway are set by nobody, so objects
/// being created are compared with this one.
pub fn empty_object(schema: &Schema, type_id: TypeId) -> Value {
    zero_struct(schema, type_id, 0)
}

fn zero_struct(schema: &Schema, type_id: TypeId, depth: usize) -> Value {
    let mut object = Map::new();
    if depth < MAX_DEPTH {
        for field in &schema.type_def(type_id).fields {
            if let Some(zero) = zero_field(schema, field, depth) {
                object.insert(field.json_name.clone(), zero);
            }
        }
    }
    Value::Object(object)
}

fn zero_field(schema: &Schema, field: &Field, depth: usize) -> Option<Value> {
    match &field.kind {
        FieldKind::Struct(type_id) if field.by_value => {
            Some(zero_struct(schema, *type_id, depth + 1))
        }
        FieldKind::Quantity if field.by_value => Some(Value::from("0")),
        FieldKind::IntOrString if field.by_value => Some(Value::from(0)),
        FieldKind::Time | FieldKind::MicroTime if field.by_value || field.required => {
            Some(Value::Null)
        }
        _ if !field.required => None,
        FieldKind::Boolean => Some(Value::from(false)),
        FieldKind::Int32 | FieldKind::Int64 | FieldKind::Double => Some(Value::from(0)),
        FieldKind::String => Some(Value::from("")),
        _ => Some(Value::Null),
    }
}
