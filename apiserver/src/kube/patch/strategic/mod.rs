//! Strategic merge patch: a merge patch whose lists merge by key, as the schema table says, and
//! which carries directives (`$patch`, `$retainKeys`, `$setElementOrder/x`,
//! `$deleteFromPrimitiveList/x`). `list` merges lists, `order` puts their elements in
//! place, `conversion` tells why the result is not an object of the type.

mod conversion;
mod list;
mod order;

pub use self::conversion::conversion_problem;
use serde_json::{Map, Value};
use thiserror::Error;

use super::depth::nests_at_most;
use super::go_format::{go_string_verb, go_type, go_value, json_kind};
use super::limits::MAX_PATCH_DEPTH;
use super::merge::remove_nulls;
use crate::kube::schema::{Field, FieldKind, Schema, TypeId};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";

/// Why a strategic merge patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StrategicError {
    /// Answered with 400 and this text.
    #[error("{0}")]
    BadRequest(String),
    /// Answered with 422; the message is [`super::json::UNPROCESSABLE_MESSAGE`].
    #[error("{0}")]
    Unprocessable(String),
    /// Answered, as kube-apiserver does, with 500, no reason, and this text.
    #[error("{0}")]
    Internal(String),
}

/// Merges the patch into the document of the given type.
pub fn apply(
    schema: &Schema,
    type_id: TypeId,
    document: Value,
    patch: Value,
) -> Result<Value, StrategicError> {
    if !nests_at_most(&patch, MAX_PATCH_DEPTH, &mut 0) {
        return Err(StrategicError::BadRequest("exceeded max depth".to_string()));
    }
    let patch = match patch {
        Value::Object(patch) => patch,
        Value::Null => Map::new(),
        other => {
            return Err(StrategicError::BadRequest(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_kind(&other)
            )));
        }
    };
    let document = match document {
        Value::Object(document) => document,
        Value::Null => Map::new(),
        other => return Err(wrong_type("map[string]interface {}", &other)),
    };
    let merger = Merger { schema };
    merger.merge_map(document, patch, &FieldKind::Struct(type_id)).map(Value::Object)
}

struct Merger<'a> {
    schema: &'a Schema,
}

/// How a list merges: what its elements are and by which key they match.
struct ListRule<'a> {
    element: &'a FieldKind,
    merges: bool,
    merge_key: Option<&'a str>,
}

impl<'a> Merger<'a> {
    /// Merges one object of kind `kind`. The order of the steps matters: a directive for the
    /// whole object, then the keys to retain, the ordered lists, and last everything else.
    fn merge_map(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        kind: &'a FieldKind,
    ) -> Result<Map<String, Value>, StrategicError> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    patch.remove(DIRECTIVE);
                    Ok(patch)
                }
                Some("delete") => Ok(Map::new()),
                _ => Err(unknown_patch_type(directive, &patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.merge_ordered_lists(&mut original, &mut patch, kind)?;
        for (name, value) in patch {
            self.merge_field(&mut original, name, value, kind)?;
        }
        Ok(original)
    }

    fn merge_field(
        &self,
        original: &mut Map<String, Value>,
        name: String,
        value: Value,
        kind: &'a FieldKind,
    ) -> Result<(), StrategicError> {
        let (name, deletes) = if name.starts_with(DELETE_FROM_PRIMITIVE_LIST) {
            let list = list_of_directive(
                &name,
                DELETE_FROM_PRIMITIVE_LIST,
                "invalid patch format of primitive list",
            )?;
            (list.to_string(), true)
        } else {
            (name, false)
        };
        if value.is_null() {
            original.remove(&name);
            return Ok(());
        }
        let merged = match (original.get_mut(&name).map(Value::take), value) {
            (Some(Value::Object(before)), Value::Object(change)) => {
                let field = self.field(kind, &name)?;
                Value::Object(self.merge_map(before, change, &field.kind)?)
            }
            (Some(Value::Array(before)), Value::Array(change)) => {
                let rule = self.list_rule(kind, &name)?;
                Value::Array(self.merge_list_field(before, change, &rule, deletes)?)
            }
            (Some(before), _) if deletes => before,
            (None, _) if deletes => return Ok(()),
            (_, mut change) => {
                remove_nulls(&mut change);
                if !remove_directives(&mut change) {
                    original.remove(&name);
                    return Ok(());
                }
                change
            }
        };
        original.insert(name, merged);
        Ok(())
    }

    /// Handles every `$setElementOrder/x` of the patch together with the list x, and takes both
    /// out of the patch.
    fn merge_ordered_lists(
        &self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        kind: &'a FieldKind,
    ) -> Result<(), StrategicError> {
        let directives: Vec<String> =
            patch.keys().filter(|name| name.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
        for directive in directives {
            let order = take_list(patch, &directive)?.unwrap_or_default();
            let name = list_of_directive(
                &directive,
                SET_ELEMENT_ORDER,
                "invalid patch format of setElementOrder list",
            )?;
            let before = take_list(original, name)?;
            let change = take_list(patch, name)?;
            let rule = self.list_rule(kind, name)?;
            if let Some(change) = &change {
                order::check_agrees(change, &order, rule.merge_key)?;
            }
            let server_order = before.clone().unwrap_or_default();
            let merged = match (before, change) {
                (Some(before), None) => before,
                (None, Some(change)) => {
                    let mut added = Value::Array(change);
                    remove_directives(&mut added);
                    match added {
                        Value::Array(added) => added,
                        _ => continue,
                    }
                }
                (Some(before), Some(change)) => {
                    self.merge_list_field(before, change, &rule, false)?
                }
                (None, None) => continue,
            };
            list::element_type(&[&server_order, &merged])?;
            let ordered = order::arrange(merged, &order, &server_order, rule.merge_key)?;
            original.insert(name.to_string(), Value::Array(ordered));
        }
        Ok(())
    }

    fn field(&self, kind: &'a FieldKind, name: &str) -> Result<&'a Field, StrategicError> {
        let FieldKind::Struct(type_id) = kind else {
            return Err(StrategicError::Internal(format!(
                "merging an object in json but data type is not struct, instead is: {}",
                go_kind(kind)
            )));
        };
        let schema: &'a Schema = self.schema;
        let type_def = schema.type_def(*type_id);
        type_def.field(name).ok_or_else(|| {
            let struct_name = type_def.name.rsplit('.').next().unwrap_or_default();
            StrategicError::Internal(format!(
                "unable to find api field in struct {struct_name} for the json field {name:?}"
            ))
        })
    }

    fn list_rule(&self, kind: &'a FieldKind, name: &str) -> Result<ListRule<'a>, StrategicError> {
        let field = self.field(kind, name)?;
        match &field.kind {
            FieldKind::List(_, element) if matches!(**element, FieldKind::List(..)) => {
                Err(StrategicError::Internal("unexpected slice of slice".to_string()))
            }
            FieldKind::List(_, element) => Ok(ListRule {
                element,
                merges: field.patch_merge,
                merge_key: field.patch_merge_key.as_deref(),
            }),
            _ => Err(StrategicError::Internal(format!(
                "expected slice or array type, but got: {}",
                go_kind(kind)
            ))),
        }
    }
}

/// `$retainKeys`: the only fields that stay; everything the patch sets must be among them.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), StrategicError> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad_format =
        || StrategicError::BadRequest("invalid patch format of retainKeys".to_string());
    let Value::Array(retained) = retained else {
        return Err(bad_format());
    };
    let retained: std::collections::BTreeSet<&str> =
        retained.iter().filter_map(Value::as_str).collect();
    for (name, value) in patch.iter() {
        let exempt = value.is_null()
            || name.starts_with(DELETE_FROM_PRIMITIVE_LIST)
            || name.starts_with(SET_ELEMENT_ORDER);
        if !exempt && !retained.contains(name.as_str()) {
            return Err(bad_format());
        }
    }
    original.retain(|name, _| retained.contains(name.as_str()));
    Ok(())
}

/// Takes objects that carry `$patch` out of the value. False when the value is one itself.
fn remove_directives(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            if fields.contains_key(DIRECTIVE) {
                return false;
            }
            fields.retain(|_, field| remove_directives(field));
        }
        Value::Array(items) => items.retain_mut(remove_directives),
        _ => {}
    }
    true
}

/// The `x` of `$directive/x`.
fn list_of_directive<'a>(
    name: &'a str,
    directive: &str,
    error: &str,
) -> Result<&'a str, StrategicError> {
    name.strip_prefix(directive)
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| StrategicError::BadRequest(error.to_string()))
}

fn take_list(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<Vec<Value>>, StrategicError> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(wrong_type("[]interface {}", &other)),
    }
}

fn wrong_type(expected: &str, actual: &Value) -> StrategicError {
    StrategicError::Internal(format!("expected a {expected}, but received a {}", go_type(actual)))
}

fn unknown_patch_type(directive: &Value, patch: &Map<String, Value>) -> StrategicError {
    StrategicError::Internal(format!(
        "unknown patch type: {} in map: {}",
        go_string_verb(directive),
        go_value(&Value::Object(patch.clone()))
    ))
}

fn no_merge_key(element: &Value, merge_key: &str) -> StrategicError {
    StrategicError::Internal(format!(
        "map: {} does not contain declared merge key: {merge_key}",
        go_value(element)
    ))
}

/// The kind of Go type that holds such a field.
fn go_kind(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Boolean => "bool",
        FieldKind::Int32 => "int32",
        FieldKind::Int64 => "int64",
        FieldKind::Double => "float64",
        FieldKind::String => "string",
        FieldKind::Bytes | FieldKind::List(..) => "slice",
        FieldKind::Map { .. } => "map",
        FieldKind::Time
        | FieldKind::MicroTime
        | FieldKind::Quantity
        | FieldKind::IntOrString
        | FieldKind::Any
        | FieldKind::SchemaOr(..)
        | FieldKind::Struct(_) => "struct",
    }
}

#[cfg(test)]
mod tests;
