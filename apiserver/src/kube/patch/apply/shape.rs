//! How server-side apply sees a value: as a scalar, a list or a map, by the schema table. Where
//! the table says nothing (`Any`), the value itself decides: lists are atomic, and maps are so in
//! built-in types, while those of custom resources are granular.

use serde_json::{Map, Value};

use super::path::PathElement;
use crate::kube::patch::limits::MAX_OWNED_DEPTH;
use crate::kube::schema::{FieldKind, ListKind, Schema, TypeDef};

/// The table, and how many levels may still be told apart.
#[derive(Clone, Copy)]
pub(super) struct Types<'a> {
    schema: &'a Schema,
    levels: usize,
}

impl<'a> Types<'a> {
    pub(super) fn new(schema: &'a Schema) -> Types<'a> {
        Types { schema, levels: MAX_OWNED_DEPTH }
    }

    /// For the values below a value.
    pub(super) fn below(self) -> Types<'a> {
        Types { levels: self.levels.saturating_sub(1), ..self }
    }
}

/// The kind of everything the table does not know.
pub(super) static ANY: FieldKind = FieldKind::Any;

static ATOMIC: ListKind = ListKind::Atomic;

/// A kind, resolved.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Scalar(Scalar),
    List { list: &'a ListKind, element: &'a FieldKind },
    Map { atomic: bool, members: Members<'a> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    String,
    Number,
    Boolean,
    /// Any of them.
    Untyped,
}

/// What is below a map.
#[derive(Clone, Copy)]
pub(super) enum Members<'a> {
    /// The fields of a structure.
    Fields(&'a TypeDef),
    /// Any names, with values of one kind.
    Values(&'a FieldKind),
}

impl<'a> Members<'a> {
    /// The kind of a field, and whether the structure declares it.
    pub(super) fn kind(self, name: &str) -> (&'a FieldKind, bool) {
        match self {
            Members::Fields(type_def) => match type_def.field(name) {
                Some(field) => (&field.kind, true),
                None => (&ANY, type_def.open),
            },
            Members::Values(kind) => (kind, false),
        }
    }
}

/// The shape of a kind. For `Any` it is that of the value; of null and of nothing, a map's.
/// What is too deep is taken as a whole.
pub(super) fn shape<'a>(types: Types<'a>, kind: &'a FieldKind, value: Option<&Value>) -> Shape<'a> {
    match (types.levels, shape_of_kind(types.schema, kind, value)) {
        (0, Shape::List { element, .. }) => Shape::List { list: &ATOMIC, element },
        (0, Shape::Map { members, .. }) => Shape::Map { atomic: true, members },
        (_, shape) => shape,
    }
}

fn shape_of_kind<'a>(schema: &'a Schema, kind: &'a FieldKind, value: Option<&Value>) -> Shape<'a> {
    match kind {
        FieldKind::Boolean => Shape::Scalar(Scalar::Boolean),
        FieldKind::Int32 | FieldKind::Int64 | FieldKind::Double => Shape::Scalar(Scalar::Number),
        FieldKind::String | FieldKind::Bytes | FieldKind::Time | FieldKind::MicroTime => {
            Shape::Scalar(Scalar::String)
        }
        FieldKind::Quantity | FieldKind::IntOrString => Shape::Scalar(Scalar::Untyped),
        FieldKind::Struct(type_id) => {
            let type_def = schema.type_def(*type_id);
            Shape::Map { atomic: type_def.atomic, members: Members::Fields(type_def) }
        }
        FieldKind::List(list, element) => Shape::List { list, element },
        FieldKind::Map { atomic, value } => {
            Shape::Map { atomic: *atomic, members: Members::Values(value) }
        }
        _ => match value {
            Some(Value::Array(_)) => Shape::List { list: &ATOMIC, element: &ANY },
            Some(Value::Object(_)) | Some(Value::Null) | None => Shape::Map {
                atomic: std::ptr::eq(schema, Schema::builtin()),
                members: Members::Values(&ANY),
            },
            Some(_) => Shape::Scalar(Scalar::Untyped),
        },
    }
}

pub(super) fn as_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn as_list(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

/// What tells an element of a set or a keyed list apart, or why nothing does.
pub(super) fn list_element(
    types: Types<'_>,
    list: &ListKind,
    element: &FieldKind,
    item: &Value,
) -> Result<PathElement, String> {
    let refuse = |reason: &str| Err(reason.to_string());
    match list {
        ListKind::Atomic => refuse("invalid indexing of non-associative list"),
        ListKind::Set => match item {
            Value::Object(_) => {
                refuse("associative list without keys has an element that's a map type")
            }
            Value::Array(_) => refuse("not supported: associative list with lists as elements"),
            Value::Null => {
                refuse("associative list without keys has an element that's an explicit null")
            }
            scalar => Ok(PathElement::Value(scalar.clone())),
        },
        ListKind::Map(keys) => match item {
            Value::Null => refuse("associative list with keys may not have a null element"),
            Value::Object(fields) => keyed_element(types.schema, keys, element, fields),
            _ => refuse("associative list with keys may not have non-map elements"),
        },
    }
}

fn keyed_element(
    schema: &Schema,
    keys: &[String],
    element: &FieldKind,
    fields: &Map<String, Value>,
) -> Result<PathElement, String> {
    let mut key: Vec<(String, Value)> = keys
        .iter()
        .filter_map(|name| {
            let value =
                fields.get(name).cloned().or_else(|| default_of_key(schema, element, name))?;
            Some((name.clone(), value))
        })
        .collect();
    if key.is_empty() && !keys.is_empty() {
        let names: Vec<String> = keys.iter().map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    key.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(PathElement::Key(key))
}

/// The default of a key that an element leaves out. Among the built-in types only the protocol
/// of ports has one; the table does not carry defaults.
fn default_of_key(schema: &Schema, element: &FieldKind, key: &str) -> Option<Value> {
    let FieldKind::Struct(type_id) = element else {
        return None;
    };
    let has_protocol = ["io.k8s.api.core.v1.ContainerPort", "io.k8s.api.core.v1.ServicePort"]
        .contains(&schema.type_def(*type_id).name.as_str());
    (has_protocol && key == "protocol").then(|| Value::from("TCP"))
}
