//! Reads OpenAPI definitions (JSON schema with Kubernetes' extensions) into rows.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::SchemaError;

/// One structure, as a row of the table.
#[derive(Debug, Default)]
pub(crate) struct TypeRow {
    /// `group/version/Kind` of every kind that the structure is.
    pub(crate) kinds: Vec<String>,
    pub(crate) atomic: bool,
    pub(crate) fields: BTreeMap<String, FieldRow>,
}

#[derive(Debug)]
pub(crate) struct FieldRow {
    /// The kind in the table's notation, such as `[]string`.
    pub(crate) kind: String,
    pub(crate) required: bool,
    /// Held by value rather than by pointer, see the README beside the table.
    pub(crate) value: bool,
    /// Written even when it is zero, although it is optional.
    pub(crate) always: bool,
    /// Field numbers from the outermost message inwards; more than one for inline messages.
    pub(crate) numbers: Vec<u32>,
    pub(crate) merge: bool,
    pub(crate) merge_key: Option<String>,
    pub(crate) retain_keys: bool,
}

pub(crate) type Types = BTreeMap<String, TypeRow>;

/// Definitions that are a way to write a value, not a structure, and the table's word for each.
const SCALARS: [(&str, &str); 11] = [
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intorstring"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "any"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "any"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "any"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "schemaorarray",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "schemaorbool",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "schemaorstrings",
    ),
];

/// Reads the member `$defs`.
pub(crate) fn parse(text: &str) -> Result<Types, SchemaError> {
    let document: Value = serde_json::from_str(text)?;
    let definitions = object(document.get("$defs"), "$defs")?;
    let mut types = Types::new();
    for (name, definition) in definitions {
        if scalar(name).is_none() {
            types.insert(name.clone(), parse_type(name, object(Some(definition), name)?)?);
        }
    }
    Ok(types)
}

fn scalar(name: &str) -> Option<&'static str> {
    SCALARS.iter().find(|(scalar, _)| *scalar == name).map(|(_, kind)| *kind)
}

fn parse_type(name: &str, definition: &Map<String, Value>) -> Result<TypeRow, SchemaError> {
    let required = strings(definition.get("required"));
    let mut row = TypeRow {
        kinds: kinds(definition),
        atomic: text(definition, "x-kubernetes-map-type") == Some("atomic"),
        ..TypeRow::default()
    };
    let none = Map::new();
    let properties = definition.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (field, property) in properties {
        let place = format!("{name}.{field}");
        let property = object(Some(property), &place)?;
        let strategy = text(property, "x-kubernetes-patch-strategy").unwrap_or("");
        row.fields.insert(
            field.clone(),
            FieldRow {
                kind: kind(property, &place)?,
                required: required.contains(field),
                value: false,
                always: false,
                numbers: Vec::new(),
                merge: strategy.split(',').any(|part| part == "merge"),
                retain_keys: strategy.split(',').any(|part| part == "retainKeys"),
                merge_key: text(property, "x-kubernetes-patch-merge-key").map(str::to_owned),
            },
        );
    }
    Ok(row)
}

fn kinds(definition: &Map<String, Value>) -> Vec<String> {
    let list = definition.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
    let mut kinds: Vec<String> = list
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|kind| {
            let part = |name| text(kind, name).unwrap_or("");
            format!("{}/{}/{}", part("group"), part("version"), part("kind"))
        })
        .collect();
    kinds.sort();
    kinds
}

fn kind(property: &Map<String, Value>, place: &str) -> Result<String, SchemaError> {
    if let Some(reference) = text(property, "$ref") {
        let name = reference.trim_start_matches("#/$defs/");
        return Ok(scalar(name).unwrap_or(name).to_owned());
    }
    let format = text(property, "format").unwrap_or("");
    Ok(match (plain_type(property), format) {
        ("boolean", _) => "bool".to_owned(),
        ("integer", "int32") => "int32".to_owned(),
        ("integer", "int64") => "int64".to_owned(),
        ("number", _) => "double".to_owned(),
        ("string", "byte") => "bytes".to_owned(),
        ("string", _) => "string".to_owned(),
        ("array", _) => list_kind(property, place)?,
        ("object", _) => map_kind(property, place)?,
        (other, _) => return Err(problem(place, &format!("type {other:?} is not known"))),
    })
}

fn list_kind(property: &Map<String, Value>, place: &str) -> Result<String, SchemaError> {
    let element = kind(object(property.get("items"), place)?, place)?;
    let keys = strings(property.get("x-kubernetes-list-map-keys")).join(",");
    Ok(match text(property, "x-kubernetes-list-type") {
        Some("set") => format!("[set]{element}"),
        Some("map") => format!("[{keys}]{element}"),
        _ => format!("[]{element}"),
    })
}

fn map_kind(property: &Map<String, Value>, place: &str) -> Result<String, SchemaError> {
    let value = kind(object(property.get("additionalProperties"), place)?, place)?;
    let atomic = text(property, "x-kubernetes-map-type") == Some("atomic");
    Ok(format!("{{{}}}{value}", if atomic { "atomic" } else { "" }))
}

/// The type, leaving out the `null` that the package adds everywhere.
fn plain_type(property: &Map<String, Value>) -> &str {
    match property.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("")
        }
        _ => "",
    }
}

fn object<'a>(
    value: Option<&'a Value>,
    place: &str,
) -> Result<&'a Map<String, Value>, SchemaError> {
    value.and_then(Value::as_object).ok_or_else(|| problem(place, "an object is expected"))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn problem(place: &str, problem: &str) -> SchemaError {
    SchemaError::Definition { place: place.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definitions of one structure `t.T` with this one property.
    fn with_property(property: &str) -> String {
        format!(
            "{{\"$defs\": {{\"t.T\": {{\"properties\": {{\"f\": {property}}}, \"required\": [\"f\"]}}}}}}"
        )
    }

    #[test]
    fn kinds_of_fields() {
        for (property, kind) in [
            (r#"{"type": ["string", "null"]}"#, "string"),
            (r#"{"type": "string", "format": "byte"}"#, "bytes"),
            (r#"{"type": "integer", "format": "int64"}"#, "int64"),
            (r#"{"type": "number", "format": "double"}"#, "double"),
            (r##"{"$ref": "#/$defs/a.B"}"##, "a.B"),
            (r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.Time"}"##, "time"),
            (r#"{"type": "array", "items": {"type": "string"}}"#, "[]string"),
            (
                r#"{"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}"#,
                "[set]string",
            ),
            (
                r##"{"type": "array", "items": {"$ref": "#/$defs/a.B"},
                   "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["x", "y"]}"##,
                "[x,y]a.B",
            ),
            (r#"{"type": "object", "additionalProperties": {"type": "boolean"}}"#, "{}bool"),
            (
                r#"{"type": "object", "additionalProperties": {"type": "string"},
                   "x-kubernetes-map-type": "atomic"}"#,
                "{atomic}string",
            ),
        ] {
            let types = parse(&with_property(property)).unwrap();
            let field = &types["t.T"].fields["f"];
            assert_eq!((field.kind.as_str(), field.required), (kind, true), "{property}");
        }
    }

    #[test]
    fn patch_words_and_kinds() {
        let text = r#"{"$defs": {"t.T": {"x-kubernetes-map-type": "atomic",
            "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "T"}],
            "properties": {"f": {"type": "array", "items": {"type": "string"},
            "x-kubernetes-patch-strategy": "merge,retainKeys", "x-kubernetes-patch-merge-key": "k"}}}}}"#;
        let types = parse(text).unwrap();
        let row = &types["t.T"];
        assert!(row.atomic);
        assert_eq!(row.kinds, ["g/v1/T"]);
        let field = &row.fields["f"];
        assert!(field.merge && field.retain_keys && !field.required);
        assert_eq!(field.merge_key.as_deref(), Some("k"));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (text, message) in [
            ("{}", "the definitions: $defs: an object is expected"),
            (
                &with_property(r#"{"type": "strange"}"#)[..],
                "the definitions: t.T.f: type \"strange\" is not known",
            ),
            (
                &with_property(r#"{"type": "array"}"#)[..],
                "the definitions: t.T.f: an object is expected",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }
}
