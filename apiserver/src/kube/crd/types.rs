//! The types of a custom resource's objects, for server-side apply.

use std::sync::Arc;

use serde_json::Value;

use super::{flag, word};
use crate::kube::schema::{Field, FieldKind, ListKind, Schema, TypeDef, TypeId};

/// Types of metadata, which are those of all objects.
const METADATA: [&str; 3] = ["ObjectMeta", "ManagedFieldsEntry", "OwnerReference"];
const METADATA_PACKAGE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The types of a schema; the first one is the object's own.
pub(super) fn types_of(schema: &Value, name: &str) -> Schema {
    let mut types = Vec::new();
    for (index, short) in METADATA.iter().enumerate() {
        types.push(Arc::new(metadata_type(short)));
        debug_assert_eq!(types.len(), index + 1, "metadata types have fixed places");
    }
    let mut builder = Builder { types };
    builder.structure(schema, name, true);
    Schema::new(builder.types, Vec::new())
}

/// The type of a whole object in [`types_of`].
pub(super) fn root(schema: &Schema) -> TypeId {
    TypeId(schema.types().len() as u32 - 1)
}

/// A built-in type of metadata; custom resources show its fields by name.
fn metadata_type(short: &str) -> TypeDef {
    let builtin = Schema::builtin();
    let id = builtin.type_named(&format!("{METADATA_PACKAGE}{short}"));
    let of = builtin.type_def(id.expect("metadata has its types"));
    let fields = of
        .fields
        .iter()
        .map(|field| Field { protobuf: 0, ..copy_of(field, moved(&field.kind)) })
        .collect();
    TypeDef { name: of.name.clone(), fields, gvk: None, atomic: of.atomic, open: false }
}

fn copy_of(field: &Field, kind: FieldKind) -> Field {
    Field {
        required: field.required,
        by_value: field.by_value,
        always_written: field.always_written,
        ..Field::new(field.json_name.as_str(), kind)
    }
}

/// A kind with types named by their places here.
fn moved(kind: &FieldKind) -> FieldKind {
    match kind {
        FieldKind::Struct(id) => {
            let name = &Schema::builtin().type_def(*id).name;
            let place = METADATA.iter().position(|short| name.ends_with(&format!(".{short}")));
            place.map_or(FieldKind::Any, |place| FieldKind::Struct(TypeId(place as u32)))
        }
        FieldKind::List(list, element) => FieldKind::List(list.clone(), Box::new(moved(element))),
        FieldKind::Map { atomic, value } => {
            FieldKind::Map { atomic: *atomic, value: Box::new(moved(value)) }
        }
        other => other.clone(),
    }
}

struct Builder {
    types: Vec<Arc<TypeDef>>,
}

impl Builder {
    fn kind(&mut self, schema: &Value, name: &str) -> FieldKind {
        if flag(schema, "x-kubernetes-int-or-string") {
            return FieldKind::IntOrString;
        }
        match word(schema, "type") {
            "object" => self.object(schema, name),
            "array" => {
                let element = match schema.get("items") {
                    Some(items) => self.kind(items, name),
                    None => FieldKind::Any,
                };
                FieldKind::List(list_kind(schema), Box::new(element))
            }
            "string" => FieldKind::String,
            "integer" => FieldKind::Int64,
            "number" => FieldKind::Double,
            "boolean" => FieldKind::Boolean,
            _ => FieldKind::Any,
        }
    }

    fn object(&mut self, schema: &Value, name: &str) -> FieldKind {
        let atomic = word(schema, "x-kubernetes-map-type") == "atomic";
        let is_object = flag(schema, "x-kubernetes-embedded-resource");
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(value) = schema.get("additionalProperties").filter(|one| one.is_object()) {
            let value = Box::new(self.kind(value, name));
            return FieldKind::Map { atomic, value };
        }
        let is_open = flag(schema, "x-kubernetes-preserve-unknown-fields")
            || flag(schema, "additionalProperties");
        if is_open && !is_object && properties.is_none_or(|own| own.is_empty()) {
            return FieldKind::Map { atomic, value: Box::new(FieldKind::Any) };
        }
        FieldKind::Struct(self.structure(schema, name, is_object))
    }

    fn structure(&mut self, schema: &Value, name: &str, is_object: bool) -> TypeId {
        let mut fields = Vec::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (key, schema) in properties.into_iter().flatten() {
            let implicit = is_object && ["apiVersion", "kind", "metadata"].contains(&key.as_str());
            if !implicit {
                let kind = self.kind(schema, &format!("{name}.{key}"));
                fields.push(Field::new(key.as_str(), kind));
            }
        }
        if is_object {
            fields.push(Field::new("apiVersion", FieldKind::String));
            fields.push(Field::new("kind", FieldKind::String));
            fields.push(Field::new("metadata", FieldKind::Struct(TypeId(0))));
        }
        fields.sort_by(|left, right| left.json_name.cmp(&right.json_name));
        let type_def = TypeDef {
            name: name.to_owned(),
            fields,
            gvk: None,
            atomic: word(schema, "x-kubernetes-map-type") == "atomic",
            open: flag(schema, "x-kubernetes-preserve-unknown-fields"),
        };
        self.types.push(Arc::new(type_def));
        TypeId(self.types.len() as u32 - 1)
    }
}

fn list_kind(schema: &Value) -> ListKind {
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    match word(schema, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            ListKind::Map(keys.map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_becomes_types() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}}});
        let types = types_of(&schema, "g/v1.Thing");
        let object = types.type_def(root(&types));
        let names: Vec<&str> = object.fields.iter().map(|f| f.json_name.as_str()).collect();
        assert_eq!(names, ["apiVersion", "kind", "metadata", "spec"]);
        let FieldKind::Struct(spec) = object.fields[3].kind else { panic!("a structure") };
        let tags = types.type_def(spec).field("tags").expect("a field");
        assert_eq!(tags.kind, FieldKind::List(ListKind::Set, Box::new(FieldKind::String)));
        let FieldKind::Struct(metadata) = object.fields[2].kind else { panic!("a structure") };
        assert!(types.type_def(metadata).field("finalizers").is_some());
    }
}
