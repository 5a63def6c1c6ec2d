//! The rules of a schema: it must be structural, so that every field has one place that says what
//! it is, and its patterns and defaults must make sense.

use std::collections::HashMap;

use serde_json::Value;

use super::json_path::JsonPath;
use super::{flag, validate, word};
use crate::kube::resources::rules::place::{Errors, Place};
use crate::kube::status::FieldError;

/// Why these keywords of JSON Schema are not supported.
const FORBIDDEN: [(&str, &str); 6] = [
    ("$ref", "$ref is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("id", "id is not supported"),
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// A whole schema.
pub(super) fn schema(schema: &Place<'_>, errors: &mut Errors) {
    let mut patterns = validate::Patterns::new();
    keywords(schema, &mut patterns, errors);
    if !errors.is_empty() && errors.iter().any(|error| error.field.ends_with("$ref")) {
        return;
    }
    structure(schema, true, errors);
    metadata(schema, errors);
}

fn keywords(schema: &Place<'_>, patterns: &mut validate::Patterns, errors: &mut Errors) {
    for (keyword, why) in FORBIDDEN {
        let place = schema.child(keyword);
        if !place.is_empty() {
            errors.push(place.forbidden(why));
        }
    }
    if flag(schema.value(), "uniqueItems") {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(schema.child("uniqueItems").forbidden(why));
    }
    let pattern = schema.child("pattern");
    if !pattern.is_empty() {
        match regex::Regex::new(pattern.text()) {
            Ok(compiled) => drop(patterns.insert(pattern.text().to_owned(), compiled)),
            Err(error) => {
                let why = go_pattern_error(pattern.text(), &error);
                let why = format!("must be a valid regular expression, but isn't: {why}");
                errors.push(pattern.invalid_text(why));
            }
        }
    }
    list_keys(schema, errors);
    rules(schema, errors);
    let default = schema.child("default");
    if default.is_set() {
        let found =
            validate::validate(default.value(), schema.value(), &HashMap::new(), default.path());
        errors.extend(found);
    }
    for below in children(schema) {
        keywords(&below, patterns, errors);
    }
}

/// Go's words for what is wrong with a pattern, where they are known.
fn go_pattern_error(pattern: &str, error: &regex::Error) -> String {
    let (opened, closed) = (pattern.matches('(').count(), pattern.matches(')').count());
    if opened > closed {
        return format!("error parsing regexp: missing closing ): `{pattern}`");
    }
    if closed > opened {
        return format!("error parsing regexp: unexpected ): `{pattern}`");
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
    format!("error parsing regexp: {last}: `{pattern}`")
}

/// What tells the elements of a list apart.
fn list_keys(schema: &Place<'_>, errors: &mut Errors) {
    let kind = schema.child("x-kubernetes-list-type");
    let keys = schema.child("x-kubernetes-list-map-keys");
    let items = schema.child("items");
    if kind.is_set() && !["atomic", "set", "map"].contains(&kind.text()) {
        errors.push(kind.unsupported(&["atomic", "map", "set"]));
    }
    if kind.is_set() && word(schema.value(), "type") != "array" {
        let place = schema.child("type");
        errors.push(place.invalid_text("must be array if x-kubernetes-list-type is specified"));
    }
    if kind.text() != "map" {
        if !keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(kind.invalid_text(why));
        }
        let element = word(items.value(), "type");
        let is_atomic = word(items.value(), "x-kubernetes-map-type") == "atomic";
        if kind.text() == "set" && element == "object" && !is_atomic {
            let place = items.child("x-kubernetes-map-type");
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            errors.push(place.invalid(why));
        }
        if kind.text() == "set" && element == "array" {
            let place = items.child("x-kubernetes-list-type");
            if place.text() != "atomic" {
                let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
                errors.push(place.invalid(why));
            }
        }
        return;
    }
    if keys.is_empty() {
        errors.push(keys.required("must not be empty if x-kubernetes-list-type is map"));
        return;
    }
    let required = items.child("required").texts();
    for key in keys.items() {
        let property = items.called(format!("{}.properties[{}]", items.path(), key.text()));
        let value = items.value().get("properties").and_then(|own| own.get(key.text()));
        let Some(value) = value else {
            let why = format!("entries must all be names of item properties: {}", key.text());
            errors.push(key.invalid_text(why));
            continue;
        };
        if value.get("default").is_none() && !required.contains(&key.text()) {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{}.default", property.path()), why));
        }
    }
}

/// The rules in CEL that a schema carries.
fn rules(schema: &Place<'_>, errors: &mut Errors) {
    for rule in schema.child("x-kubernetes-validations").items() {
        let text = rule.child("rule");
        if text.text().trim().is_empty() {
            errors.push(text.required("rule is not specified"));
        }
    }
}

/// Everything that is a schema below a schema and says what a field is.
fn children<'a>(schema: &Place<'a>) -> Vec<Place<'a>> {
    let mut below = Vec::new();
    for (_, property) in schema.child("properties").entries() {
        below.push(property);
    }
    for keyword in ["additionalProperties", "items"] {
        let place = schema.child(keyword);
        if place.map().is_some() {
            below.push(place);
        }
    }
    below
}

/// Every field has a type, and nothing is specified twice.
fn structure(schema: &Place<'_>, is_root: bool, errors: &mut Errors) {
    for below in children(schema) {
        structure(&below, false, errors);
    }
    let value = schema.value();
    let kind = schema.child("type");
    let is_open = flag(value, "x-kubernetes-preserve-unknown-fields");
    let is_either = flag(value, "x-kubernetes-int-or-string");
    let is_object = flag(value, "x-kubernetes-embedded-resource");
    if kind.is_empty() {
        if is_root {
            errors.push(kind.required("must not be empty at the root"));
        } else if !is_either && !is_open {
            errors.push(kind.required("must not be empty for specified object fields"));
        }
    } else if !TYPES.contains(&kind.text()) {
        errors.push(kind.unsupported(&TYPES));
    } else if is_root && kind.text() != "object" {
        errors.push(kind.invalid_text("must be object at the root"));
    }
    if is_object {
        if kind.text() != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(kind.invalid_text(why));
        }
        let properties = schema.child("properties");
        if properties.is_empty() && !is_open {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            errors.push(properties.required(why));
        }
    }
    let additional = schema.child("additionalProperties");
    if additional.is_set() && !schema.child("properties").is_empty() {
        errors
            .push(additional.forbidden("additionalProperties and properties are mutual exclusive"));
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in schema.child(keyword).items() {
            value_rules(&part, is_either, errors);
        }
    }
    let not = schema.child("not");
    if not.map().is_some() {
        value_rules(&not, is_either, errors);
    }
}

/// Alternatives may only say which values are valid, not what a field is.
fn value_rules(schema: &Place<'_>, is_either: bool, errors: &mut Errors) {
    const NOT_HERE: [&str; 8] = [
        "additionalProperties",
        "default",
        "description",
        "nullable",
        "title",
        "type",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-preserve-unknown-fields",
    ];
    for keyword in NOT_HERE {
        let place = schema.child(keyword);
        if place.is_empty() || (keyword == "type" && is_either) {
            continue;
        }
        let shown = if keyword == "type" {
            "must be empty to be structural"
        } else {
            "must be undefined to be structural"
        };
        errors.push(place.forbidden(shown));
    }
    for below in children(schema) {
        value_rules(&below, is_either, errors);
    }
}

/// A schema may say of metadata only how objects are named.
fn metadata(schema: &Place<'_>, errors: &mut Errors) {
    let Some((_, metadata)) =
        schema.child("properties").entries().into_iter().find(|(key, _)| *key == "metadata")
    else {
        return;
    };
    let properties = metadata.child("properties").entries();
    let is_known = |key: &str| ["name", "generateName"].contains(&key);
    if properties.iter().any(|(key, _)| !is_known(key)) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(metadata.forbidden(why));
    }
}

/// Whether a path leads to a field by which objects can be selected.
pub(super) fn selected(schema: &Value, path: &str) -> Result<(), &'static str> {
    const NO_PATH: &str = "is an invalid path: does not refer to a valid field";
    let parsed = JsonPath::parse(path);
    let Some(fields) = parsed.as_ref().and_then(JsonPath::fields) else {
        return Err("is an invalid path: must be a simple path of fields");
    };
    if fields.first() == Some(&"metadata") {
        return Err("must not point to fields in metadata");
    }
    let mut at = schema;
    for field in fields {
        at = at.get("properties").and_then(|own| own.get(field)).ok_or(NO_PATH)?;
    }
    match word(at, "type") {
        "string" | "boolean" | "integer" => Ok(()),
        _ => Err(
            "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(value: Value) -> Vec<String> {
        let mut errors = Errors::new();
        schema(&Place::at("s", &value), &mut errors);
        errors.iter().map(|error| format!("{}: {}", error.field, error.message())).collect()
    }

    #[test]
    fn schemas_are_structural() {
        let property = |property: Value| json!({"type": "object", "properties": {"a": property}});
        for (value, expected) in [
            (property(json!({"type": "string"})), &[][..]),
            (property(json!({"x-kubernetes-int-or-string": true})), &[]),
            (
                json!({"properties": {"spec": {"properties": {"a": {}}}}}),
                &[
                    "s.properties[spec].properties[a].type: Required value: must not be empty for specified object fields",
                    "s.properties[spec].type: Required value: must not be empty for specified object fields",
                    "s.type: Required value: must not be empty at the root",
                ],
            ),
            (
                property(json!({"$ref": "#/x"})),
                &["s.properties[a].$ref: Forbidden: $ref is not supported"],
            ),
            (
                property(json!({"type": "integer", "default": "x"})),
                &[
                    "s.properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
                ],
            ),
            (
                property(json!({"type": "string", "pattern": "("})),
                &[
                    "s.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
                ],
            ),
        ] {
            assert_eq!(messages(value.clone()), expected, "{value}");
        }
    }

    #[test]
    fn fields_that_select() {
        let schema = json!({"properties": {"spec": {"properties": {
            "color": {"type": "string"}, "tags": {"type": "array"}}}}});
        assert_eq!(selected(&schema, ".spec.color"), Ok(()));
        assert!(selected(&schema, ".spec.tags").is_err());
        assert!(selected(&schema, ".nope").is_err());
    }
}
