//! Custom resources: definitions become rows of the table at run time, and their objects take the
//! road of all others. A schema is kept as the JSON that it is; what it says of an object is in one
//! file each: `prune` what does not belong, `defaults`, `validate`, and `types` for apply.

pub mod columns;
mod decode;
pub mod defaults;
pub mod definition;
pub mod follow;
pub mod json_path;
pub mod names;
pub mod prune;
pub mod rules;
mod schema_rules;
mod types;
pub mod validate;

use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

pub use decode::decode;

use self::columns::Column;
use self::json_path::JsonPath;
use super::object::Object;
use super::schema::{Resource, Schema};
use super::status::FieldError;

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition that is being deleted until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What is special about one version of one custom resource.
#[derive(Debug)]
pub struct CustomType {
    pub kind: String,
    /// The types of its objects, for server-side apply.
    pub types: Schema,
    /// `openAPIV3Schema`.
    pub schema: Value,
    /// The patterns of the schema, compiled.
    pub patterns: HashMap<String, Regex>,
    pub columns: Vec<Column>,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<String>,
    pub scale: Option<ScalePaths>,
    pub has_status: bool,
    /// The definition is being deleted: nothing new is made.
    pub is_terminating: bool,
    /// Reading an object may add to it, so that its stored bytes can't be sent as they are.
    pub has_defaults: bool,
}

/// Where an object has its replicas.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    pub replicas: JsonPath,
    pub status_replicas: JsonPath,
    pub selector: Option<JsonPath>,
}

/// One version of a custom resource.
#[derive(Debug)]
pub struct Row {
    pub resource: Resource,
    pub custom: CustomType,
}

impl CustomType {
    /// Brings an object that is read or sent into the form that the schema wants.
    pub fn complete(&self, object: &mut Object) {
        let mut value = Value::Object(std::mem::take(object));
        defaults::apply(&mut value, &self.schema);
        defaults::drop_nulls(&mut value, &self.schema);
        *object = super::registry::into_object(value);
    }

    /// The rules of a whole object.
    pub fn validate(&self, object: &Object) -> Vec<FieldError> {
        let kind = super::object::text(object, "kind");
        if kind != self.kind {
            let why = format!("must be {}", self.kind);
            return vec![FieldError::invalid("kind", kind, why)];
        }
        let value = Value::Object(object.clone());
        let mut errors = validate::validate(&value, &self.schema, &self.patterns, "");
        errors.extend(validate::lists(&value, &self.schema));
        if let Some(scale) = &self.scale {
            errors.extend(scale_number(&value, &scale.replicas));
        }
        errors
    }

    /// The rules of a status, which is all that an update of it is held against.
    pub fn validate_status(&self, object: &Object) -> Vec<FieldError> {
        let whole = Value::Object(object.clone());
        let mut errors = Vec::new();
        if let (Some(status), Some(schema)) =
            (object.get("status"), self.schema["properties"].get("status"))
        {
            errors = validate::validate(status, schema, &self.patterns, "status");
            errors.extend(validate::lists(status, schema));
        }
        if let Some(scale) = &self.scale {
            errors.extend(scale_number(&whole, &scale.status_replicas));
        }
        errors
    }
}

/// A number of replicas must be one.
fn scale_number(object: &Value, path: &JsonPath) -> Option<FieldError> {
    match path.find(object)? {
        Value::Null => None,
        Value::Number(number) if number.is_i64() => {
            let replicas = number.as_i64().unwrap_or(0);
            let why = match replicas {
                ..0 => "should be a non-negative integer",
                number if number > i64::from(i32::MAX) => {
                    "should be less than or equal to 2147483647"
                }
                _ => return None,
            };
            Some(FieldError::invalid(path.text(), replicas, why))
        }
        other => {
            let kind = match other {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                Value::Object(_) => "map[string]interface {}",
                _ => "float64",
            };
            let shown = super::patch::go_value(other);
            let why = format!(
                "{} accessor error: {shown} is of the type {kind}, expected int64",
                path.text()
            );
            Some(FieldError::invalid(path.text(), 0, why))
        }
    }
}

/// Whether a schema says so.
fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

/// A text of a schema; empty when it has none.
fn word<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Whether all versions say the same of something, so that it is told as one of the definition.
fn is_same_everywhere(versions: &Value, field: &str) -> bool {
    let mut versions = versions.as_array().into_iter().flatten();
    let Some(first) = versions.next() else { return true };
    versions.all(|version| version.get(field) == first.get(field))
}
