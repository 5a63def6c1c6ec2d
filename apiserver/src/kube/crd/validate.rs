//! Objects held against a schema, with the messages of kube-apiserver's validator.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Number, Value};

use super::{flag, word};
use crate::kube::schema::timestamp::{Precision, Timestamp};
use crate::kube::status::FieldError;

/// Compiled patterns, by their text.
pub type Patterns = HashMap<String, Regex>;

/// The rules that a value breaks. `prefix` is the field that it is; messages don't name that.
pub fn validate(
    value: &Value,
    schema: &Value,
    patterns: &Patterns,
    prefix: &str,
) -> Vec<FieldError> {
    let mut check = Check { patterns, prefix, errors: Vec::new() };
    check.value(value, schema, "");
    check.errors
}

struct Check<'a> {
    patterns: &'a Patterns,
    prefix: &'a str,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    fn field(&self, path: &str) -> String {
        match (self.prefix, path) {
            ("", "") => "<nil>".to_owned(),
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        }
    }

    /// The rule is broken: the field `path` in the body, and `why`.
    fn invalid(&mut self, path: &str, value: &Value, why: &str) {
        let error =
            FieldError::invalid(self.field(path), value.clone(), format!("{path} in body {why}"));
        self.errors.push(error);
    }

    fn value(&mut self, value: &Value, schema: &Value, path: &str) {
        if !self.fits_type(value, schema, path) {
            return;
        }
        self.combinations(value, schema, path);
        match value {
            Value::String(text) => self.text(text, value, schema, path),
            Value::Number(number) => self.number(number, value, schema, path),
            Value::Array(list) => self.list(list, value, schema, path),
            _ => {}
        }
        self.enumeration(value, schema, path);
        if let Value::Object(members) = value {
            self.members(members, value, schema, path);
        }
    }

    fn fits_type(&mut self, value: &Value, schema: &Value, path: &str) -> bool {
        let wanted = word(schema, "type");
        if value.is_null() && flag(schema, "nullable") {
            return false;
        }
        let found = type_of(value);
        let wanted = match wanted {
            "" if flag(schema, "x-kubernetes-int-or-string") => {
                if found == "integer" || found == "string" {
                    return true;
                }
                "integer,string"
            }
            "" => return true,
            wanted => wanted,
        };
        if found == wanted || (wanted == "number" && found == "integer") {
            return true;
        }
        let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
        self.errors.push(FieldError::type_invalid(self.field(path), found, detail));
        false
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn combinations(&mut self, value: &Value, schema: &Value, path: &str) {
        let list = |name: &str| schema.get(name).and_then(Value::as_array);
        let broken = |schema: &Value| {
            let mut check =
                Check { patterns: self.patterns, prefix: self.prefix, errors: Vec::new() };
            check.value(value, schema, path);
            check.errors
        };
        let mut errors = Vec::new();
        let field = self.field("");
        let mut refuse = |why: String| errors.push(FieldError::invalid(field.clone(), "", why));
        let mut details = Vec::new();
        if let Some(schemas) = list("anyOf")
            && schemas.iter().all(|schema| !broken(schema).is_empty())
        {
            refuse(format!("\"{path}\" must validate at least one schema (anyOf)"));
            details.extend(schemas.iter().map(&broken).min_by_key(Vec::len).unwrap_or_default());
        }
        if let Some(schemas) = list("oneOf") {
            let valid = schemas.iter().filter(|schema| broken(schema).is_empty()).count();
            if valid == 0 {
                refuse(format!(
                    "\"{path}\" must validate one and only one schema (oneOf). Found none valid"
                ));
                details
                    .extend(schemas.iter().map(&broken).min_by_key(Vec::len).unwrap_or_default());
            } else if valid > 1 {
                refuse(format!(
                    "\"{path}\" must validate one and only one schema (oneOf). Found {valid} valid alternatives"
                ));
            }
        }
        if let Some(schemas) = list("allOf") {
            let found: Vec<Vec<FieldError>> = schemas.iter().map(&broken).collect();
            let valid = found.iter().filter(|errors| errors.is_empty()).count();
            if valid < schemas.len() {
                let rest = if valid == 0 { ". None validated" } else { "" };
                refuse(format!("\"{path}\" must validate all the schemas (allOf){rest}"));
                details.extend(found.into_iter().flatten());
            }
        }
        if let Some(schema) = schema.get("not").filter(|schema| schema.is_object())
            && broken(schema).is_empty()
        {
            refuse(format!("\"{path}\" must not validate the schema (not)"));
        }
        self.errors.extend(errors);
        self.errors.extend(details);
    }

    fn text(&mut self, text: &str, value: &Value, schema: &Value, path: &str) {
        let length = text.chars().count() as u64;
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(bound) = bound("maxLength")
            && length > bound
        {
            self.errors.push(FieldError::too_long(self.field(path), bound as usize));
        }
        if let Some(bound) = bound("minLength")
            && length < bound
        {
            self.invalid(path, value, &format!("should be at least {bound} chars long"));
        }
        let pattern = word(schema, "pattern");
        if self.patterns.get(pattern).is_some_and(|compiled| !compiled.is_match(text)) {
            self.invalid(path, value, &format!("should match '{pattern}'"));
        }
        let format = word(schema, "format");
        if !has_format(text, format) {
            let detail = format!("{path} in body must be of type {format}: \"{text}\"");
            self.errors.push(FieldError::type_invalid(self.field(path), text, detail));
        }
    }

    fn number(&mut self, number: &Number, value: &Value, schema: &Value, path: &str) {
        let (Some(own), wide) = (number.as_f64(), number.as_i64()) else { return };
        let bound = |name: &'static str| {
            schema.get(name).and_then(Value::as_f64).map(|bound| (bound, name))
        };
        if let Some((factor, name)) = bound("multipleOf")
            && (own / factor).fract() != 0.0
        {
            let shown = shown_number(&schema[name]);
            self.invalid(path, value, &format!("should be a multiple of {shown}"));
        }
        if let Some((bound, name)) = bound("maximum") {
            let shown = shown_number(&schema[name]);
            if flag(schema, "exclusiveMaximum") && own >= bound {
                self.invalid(path, value, &format!("should be less than {shown}"));
            } else if own > bound {
                self.invalid(path, value, &format!("should be less than or equal to {shown}"));
            }
        }
        if let Some((bound, name)) = bound("minimum") {
            let shown = shown_number(&schema[name]);
            if flag(schema, "exclusiveMinimum") && own <= bound {
                self.invalid(path, value, &format!("should be greater than {shown}"));
            } else if own < bound {
                self.invalid(path, value, &format!("should be greater than or equal to {shown}"));
            }
        }
        let fits = match word(schema, "format") {
            "int32" => wide.is_some_and(|number| i32::try_from(number).is_ok()),
            _ => true,
        };
        if !fits {
            let why = "Checked value must be of type integer with format int32 in body";
            let message = format!("{why}: {number}");
            self.errors.push(FieldError::invalid(self.field(path), value.clone(), message));
        }
    }

    fn list(&mut self, list: &[Value], value: &Value, schema: &Value, path: &str) {
        if let Some(items) = schema.get("items") {
            for (index, item) in list.iter().enumerate() {
                self.value(item, items, &format!("{path}[{index}]"));
            }
        }
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(bound) = bound("minItems")
            && (list.len() as u64) < bound
        {
            self.invalid(path, value, &format!("should have at least {bound} items"));
        }
        if let Some(bound) = bound("maxItems")
            && list.len() as u64 > bound
        {
            let field = self.field(path);
            self.errors.push(FieldError::too_many(field, list.len(), bound as usize));
        }
        let repeats =
            || list.iter().enumerate().any(|(index, value)| list[..index].contains(value));
        if flag(schema, "uniqueItems") && repeats() {
            self.invalid(path, value, "shouldn't contain duplicates");
        }
    }

    fn enumeration(&mut self, value: &Value, schema: &Value, path: &str) {
        let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return };
        if allowed.iter().any(|one| same_value(one, value)) {
            return;
        }
        let shown: Vec<String> = allowed
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        self.errors.push(FieldError::not_supported(self.field(path), value.clone(), &shown));
    }

    fn members(
        &mut self,
        members: &serde_json::Map<String, Value>,
        value: &Value,
        schema: &Value,
        path: &str,
    ) {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(bound) = bound("minProperties")
            && (members.len() as u64) < bound
        {
            self.invalid(path, value, &format!("should have at least {bound} properties"));
        }
        if let Some(bound) = bound("maxProperties")
            && members.len() as u64 > bound
        {
            let field = self.field(path);
            self.errors.push(FieldError::too_many(field, members.len(), bound as usize));
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                self.errors.push(FieldError::required(self.field(&below(name)), ""));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties").filter(|schema| schema.is_object());
        for (key, value) in members {
            let own = properties.and_then(|own| own.get(key)).or(additional);
            if let Some(schema) = own {
                self.value(value, schema, &below(key));
            }
        }
    }
}

/// The JSON type of a value, a whole number being an integer.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Equal, whole numbers of either form being the same.
fn same_value(left: &Value, right: &Value) -> bool {
    left == right
        || matches!((left.as_f64(), right.as_f64()), (Some(left), Some(right)) if left == right)
}

/// A bound as Go prints a float64.
fn shown_number(value: &Value) -> String {
    crate::kube::patch::go_value(value)
}

/// Whether a text has a format; one that is not known has any text.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => [Precision::Seconds, Precision::Micros]
            .into_iter()
            .any(|precision| Timestamp::parse(text, precision).is_ok()),
        "date" => {
            text.len() == 10
                && Timestamp::parse(&format!("{text}T00:00:00Z"), Precision::Seconds).is_ok()
        }
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => {
            let hex = text.replace('-', "");
            hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "hostname" => {
            let label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            text.len() <= 255 && text.split('.').all(label)
        }
        _ => true,
    }
}

/// Elements that stand twice in a set, or whose keys stand twice in a map list.
pub fn lists(value: &Value, schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    repeated(value, schema, "", &mut errors);
    errors
}

fn repeated(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties").filter(|one| one.is_object());
            for (key, value) in members {
                let own = properties.and_then(|own| own.get(key));
                let place = match (own, path) {
                    (None, path) => format!("{path}[{key}]"),
                    (_, "") => key.clone(),
                    (_, path) => format!("{path}.{key}"),
                };
                if let Some(schema) = own.or(additional) {
                    repeated(value, schema, &place, errors);
                }
            }
        }
        Value::Array(list) => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let identity = |value: &Value| match word(schema, "x-kubernetes-list-type") {
                "set" => Some(value.clone()),
                "map" => Some(key_of(value, keys.map_or(&[][..], Vec::as_slice))),
                _ => None,
            };
            let identities: Vec<Option<Value>> = list.iter().map(identity).collect();
            for (index, own) in identities.iter().enumerate() {
                if let Some(own) = own
                    && identities[..index].iter().flatten().any(|other| other == own)
                {
                    errors.push(FieldError::duplicate(format!("{path}[{index}]"), own.clone()));
                }
            }
            let Some(items) = schema.get("items") else { return };
            for (index, item) in list.iter().enumerate() {
                repeated(item, items, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn key_of(element: &Value, keys: &[Value]) -> Value {
    let names = keys.iter().filter_map(Value::as_str);
    let own = names.filter_map(|name| Some((name.to_owned(), element.get(name)?.clone())));
    Value::Object(own.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(value: Value, schema: Value) -> Vec<String> {
        let pattern = word(&schema["properties"]["a"], "pattern").to_owned();
        let patterns = HashMap::from([(pattern.clone(), Regex::new(&pattern).unwrap())]);
        let mut errors = validate(&value, &schema, &patterns, "");
        errors.extend(lists(&value, &schema));
        errors.iter().map(|error| format!("{}: {}", error.field, error.message())).collect()
    }

    #[test]
    fn messages_are_those_of_the_recorded_server() {
        for (value, field, expected) in [
            (
                json!({"a": 11}),
                json!({"type": "integer", "maximum": 10}),
                "a: Invalid value: 11: a in body should be less than or equal to 10",
            ),
            (
                json!({"a": "x"}),
                json!({"type": "integer"}),
                "a: Invalid value: \"string\": a in body must be of type integer: \"string\"",
            ),
            (
                json!({"a": "x"}),
                json!({"type": "string", "enum": ["r", "b"]}),
                "a: Unsupported value: \"x\": supported values: \"r\", \"b\"",
            ),
            (
                json!({"a": "X"}),
                json!({"type": "string", "pattern": "^[a-z]+$"}),
                "a: Invalid value: \"X\": a in body should match '^[a-z]+$'",
            ),
            (
                json!({"a": [1, 1]}),
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}),
                "a[1]: Duplicate value: 1",
            ),
            (
                json!({"a": 1.2}),
                json!({"type": "number", "multipleOf": 0.5}),
                "a: Invalid value: 1.2: a in body should be a multiple of 0.5",
            ),
        ] {
            let schema = json!({"type": "object", "properties": {"a": field}});
            assert_eq!(messages(value, schema), [expected]);
        }
        let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {}}});
        assert_eq!(messages(json!({}), schema), ["a: Required value"]);
    }

    #[test]
    fn what_is_allowed_passes() {
        for (value, field) in [
            (json!({"a": null}), json!({"type": "string", "nullable": true})),
            (json!({"a": 5}), json!({"x-kubernetes-int-or-string": true})),
            (json!({"a": 5}), json!({"type": "number"})),
            (
                json!({"a": "2024-01-01T00:00:00Z"}),
                json!({"type": "string", "format": "date-time"}),
            ),
            (json!({"a": 1}), json!({"anyOf": [{"type": "string"}, {"type": "integer"}]})),
        ] {
            let schema = json!({"type": "object", "properties": {"a": field}});
            assert_eq!(messages(value.clone(), schema), Vec::<String>::new(), "{value}");
        }
    }
}
