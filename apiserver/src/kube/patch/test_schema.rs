//! Small schema tables for tests, written in a compact notation.

use std::sync::Arc;

use crate::kube::schema::{Field, FieldKind, ListKind, Schema, TypeDef, TypeId};

/// Builds a table. A type is `(name, fields)`, atomic when its name starts with `!`; a field is
/// `(JSON name, kind)`. Kinds: `string`, `int32`, `int64`, `double`, `boolean`, `quantity`, `time`,
/// `any`, `bytes`, `int-or-string`, `map KIND`, `!map KIND` (atomic), `list KIND`, `set KIND`,
/// `list[key,key] KIND`, or a type's name. Before the kind may stand `@merge`, `@merge(key)`,
/// `@retain`, `@value` and `@required`.
pub(super) fn schema(types: &[(&str, &[(&str, &str)])]) -> Schema {
    let names: Vec<&str> = types.iter().map(|(name, _)| name.trim_start_matches('!')).collect();
    let types = types
        .iter()
        .map(|(name, fields)| {
            let mut fields: Vec<Field> =
                fields.iter().map(|(json_name, kind)| field(&names, json_name, kind)).collect();
            fields.sort_by(|a, b| a.json_name.cmp(&b.json_name));
            Arc::new(TypeDef {
                name: format!("test.{}", name.trim_start_matches('!')),
                fields,
                gvk: None,
                atomic: name.starts_with('!'),
                open: false,
            })
        })
        .collect();
    Schema::new(types, Vec::new())
}

/// The type of this short name.
pub(super) fn type_id(schema: &Schema, name: &str) -> TypeId {
    let name = format!("test.{name}");
    let place = schema.types().iter().position(|t| t.name == name);
    TypeId(place.expect("a type of the table") as u32)
}

fn field(names: &[&str], json_name: &str, notation: &str) -> Field {
    let mut field = Field::new(json_name, FieldKind::Any);
    let mut rest = notation;
    while let Some((word, after)) = rest.split_once(' ').filter(|_| rest.starts_with('@')) {
        match word {
            "@required" => field.required = true,
            "@value" => field.by_value = true,
            "@retain" => field.patch_retain_keys = true,
            "@merge" => field.patch_merge = true,
            _ => {
                field.patch_merge = true;
                let key = word.strip_prefix("@merge(").and_then(|k| k.strip_suffix(')'));
                field.patch_merge_key = Some(key.expect("@merge(key)").to_string());
            }
        }
        rest = after;
    }
    field.kind = kind(names, rest);
    field
}

fn kind(names: &[&str], notation: &str) -> FieldKind {
    if let Some((word, after)) = notation.split_once(' ') {
        let inner = Box::new(kind(names, after));
        return match word {
            "map" | "!map" => FieldKind::Map { atomic: word == "!map", value: inner },
            "list" => FieldKind::List(ListKind::Atomic, inner),
            "set" => FieldKind::List(ListKind::Set, inner),
            _ => {
                let keys = word.strip_prefix("list[").and_then(|k| k.strip_suffix(']'));
                let keys = keys.expect("list[key]").split(',').map(str::to_string);
                FieldKind::List(ListKind::Map(keys.collect()), inner)
            }
        };
    }
    match notation {
        "string" => FieldKind::String,
        "int32" => FieldKind::Int32,
        "int64" => FieldKind::Int64,
        "double" => FieldKind::Double,
        "boolean" => FieldKind::Boolean,
        "quantity" => FieldKind::Quantity,
        "time" => FieldKind::Time,
        "any" => FieldKind::Any,
        "bytes" => FieldKind::Bytes,
        "int-or-string" => FieldKind::IntOrString,
        name => {
            let place = names.iter().position(|n| *n == name);
            FieldKind::Struct(TypeId(place.expect("a known kind") as u32))
        }
    }
}
