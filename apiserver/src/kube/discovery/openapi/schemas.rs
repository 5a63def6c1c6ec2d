//! The `components.schemas` of a document: types of the table as OpenAPI schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::META;
use super::descriptions::{Descriptions, descriptions};
use crate::kube::schema::{Field, FieldKind, ListKind, Schema, SchemaOr, TypeDef};

const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// The schemas of these types and of all that they refer to, by name.
pub(super) fn components(schema: &Schema, names: BTreeSet<String>) -> Map<String, Value> {
    let texts = descriptions();
    let mut schemas = Map::new();
    let mut waiting = names;
    while let Some(name) = waiting.pop_first() {
        let mut value = match schema.type_named(&name) {
            Some(id) => structure(schema, schema.type_def(id), texts),
            None => leaf(&name),
        };
        describe(&mut value, texts.of_type(&name));
        let mut referenced = BTreeSet::new();
        collect_references(&value, &mut referenced);
        schemas.insert(name, value);
        waiting.extend(referenced.into_iter().filter(|name| !schemas.contains_key(name)));
    }
    schemas
}

/// Names in all `$ref`s below a value.
pub(super) fn collect_references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                names.insert(reference.trim_start_matches(PREFIX).to_owned());
            }
            map.values().for_each(|value| collect_references(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_references(value, names)),
        _ => {}
    }
}

const PREFIX: &str = "#/components/schemas/";

/// A reference to a schema by name.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("{PREFIX}{name}")})
}

fn structure(schema: &Schema, type_def: &TypeDef, texts: &Descriptions) -> Value {
    let mut value = json!({"type": "object"});
    let mut properties = Map::new();
    for field in &type_def.fields {
        let mut property = property(schema, type_def, field);
        describe(&mut property, texts.of_field(&type_def.name, &field.json_name));
        properties.insert(field.json_name.clone(), property);
    }
    if !properties.is_empty() {
        value["properties"] = properties.into();
    }
    let required = type_def.fields.iter().filter(|field| field.required);
    let required: Vec<&str> = required.map(|field| field.json_name.as_str()).collect();
    if !required.is_empty() {
        value["required"] = required.into();
    }
    if let Some(kind) = &type_def.gvk {
        value["x-kubernetes-group-version-kind"] =
            json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
    }
    if type_def.atomic {
        value["x-kubernetes-map-type"] = "atomic".into();
    }
    value
}

fn describe(value: &mut Value, text: Option<&str>) {
    if let Some(text) = text {
        value["description"] = text.into();
    }
}

fn property(schema: &Schema, owner: &TypeDef, field: &Field) -> Value {
    let mut value = kind_schema(schema, owner, &field.kind);
    if value.get("$ref").is_some() {
        // Nothing may stand beside a reference: descriptions and defaults need an object around it.
        let mut around = json!({"allOf": [value]});
        if field.by_value && matches!(field.kind, FieldKind::Struct(_)) {
            around["default"] = json!({});
        }
        value = around;
    }
    if let FieldKind::List(list, _) = &field.kind {
        let (word, keys) = match list {
            ListKind::Atomic => ("atomic", None),
            ListKind::Set => ("set", None),
            ListKind::Map(keys) => ("map", Some(keys)),
        };
        value["x-kubernetes-list-type"] = word.into();
        if let Some(keys) = keys {
            value["x-kubernetes-list-map-keys"] = keys.clone().into();
        }
    }
    if let FieldKind::Map { atomic: true, .. } = field.kind {
        value["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some(key) = &field.patch_merge_key {
        value["x-kubernetes-patch-merge-key"] = key.clone().into();
    }
    let strategy = match (field.patch_merge, field.patch_retain_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => return value,
    };
    value["x-kubernetes-patch-strategy"] = strategy.into();
    value
}

fn kind_schema(schema: &Schema, owner: &TypeDef, kind: &FieldKind) -> Value {
    let extension = |name: &str| reference(&format!("{EXTENSIONS}.{name}"));
    match kind {
        FieldKind::Boolean => json!({"type": "boolean"}),
        FieldKind::Int32 => json!({"type": "integer", "format": "int32"}),
        FieldKind::Int64 => json!({"type": "integer", "format": "int64"}),
        FieldKind::Double => json!({"type": "number", "format": "double"}),
        FieldKind::String => json!({"type": "string"}),
        FieldKind::Bytes => json!({"type": "string", "format": "byte"}),
        FieldKind::Time => reference(&format!("{META}.Time")),
        FieldKind::MicroTime => reference(&format!("{META}.MicroTime")),
        FieldKind::Quantity => reference(QUANTITY),
        FieldKind::IntOrString => reference(INT_OR_STRING),
        FieldKind::Any if owner.name.starts_with(EXTENSIONS) => extension("JSON"),
        FieldKind::Any if owner.name.ends_with(".ManagedFieldsEntry") => {
            reference(&format!("{META}.FieldsV1"))
        }
        FieldKind::Any => reference(RAW_EXTENSION),
        FieldKind::SchemaOr(SchemaOr::Array, _) => extension("JSONSchemaPropsOrArray"),
        FieldKind::SchemaOr(SchemaOr::Boolean, _) => extension("JSONSchemaPropsOrBool"),
        FieldKind::SchemaOr(SchemaOr::Strings, _) => extension("JSONSchemaPropsOrStringArray"),
        FieldKind::Struct(id) => reference(&schema.type_def(*id).name),
        FieldKind::List(_, element) => {
            json!({"type": "array", "items": kind_schema(schema, owner, element)})
        }
        FieldKind::Map { value, .. } => {
            json!({"type": "object", "additionalProperties": kind_schema(schema, owner, value)})
        }
    }
}

/// What is referred to but is no structure.
fn leaf(name: &str) -> Value {
    match name.rsplit('.').next().unwrap_or("") {
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "Quantity" => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        "IntOrString" => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        "RawExtension" | "FieldsV1" | "Patch" => json!({"type": "object"}),
        _ => json!({}),
    }
}
