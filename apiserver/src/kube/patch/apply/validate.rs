//! Checks an applied configuration against the schema table, with the texts of kube-apiserver.

use std::collections::BTreeSet;

use serde_json::Value;

use super::path::PathElement;
use super::shape::{Members, Scalar, Shape, Types, list_element, shape};
use crate::kube::patch::go_format::{go_type, go_value};
use crate::kube::patch::limits::{MAX_APPLY_PROBLEMS, MAX_OWNED_DEPTH};
use crate::kube::schema::{FieldKind, ListKind, TypeDef};

/// Everything that is wrong with the value, as one text.
pub(super) fn validate(types: Types<'_>, kind: &FieldKind, value: &Value) -> Result<(), String> {
    let mut walker = Walker { types, path: Vec::new(), errors: Vec::new() };
    walker.validate(kind, value);
    match walker.errors.as_slice() {
        [] => Ok(()),
        [error] => Err(error.clone()),
        errors => {
            let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
            Err(format!("errors:{}", lines.concat()))
        }
    }
}

struct Walker<'a> {
    types: Types<'a>,
    path: Vec<PathElement>,
    errors: Vec<String>,
}

impl Walker<'_> {
    fn fail(&mut self, message: String) {
        if self.errors.len() >= MAX_APPLY_PROBLEMS {
            return;
        }
        let path: String = self.path.iter().map(PathElement::to_string).collect();
        self.errors.push(match path.as_str() {
            "" => message,
            path => format!("{path}: {message}"),
        });
    }

    fn validate(&mut self, kind: &FieldKind, value: &Value) {
        // Null is allowed everywhere; what is too deep is taken as it is.
        if value.is_null() || self.path.len() > MAX_OWNED_DEPTH {
            return;
        }
        match (shape(self.types, kind, Some(value)), value) {
            (Shape::Scalar(scalar), _) => {
                if let Err(message) = check_scalar(scalar, value) {
                    self.fail(message);
                }
            }
            (Shape::List { list, element }, Value::Array(items)) => {
                self.validate_items(list, element, items);
            }
            (Shape::List { .. }, other) => {
                self.fail(format!("expected list, got &{{{}}}", go_value(other)));
            }
            (Shape::Map { members, .. }, Value::Object(fields)) => {
                for (name, field) in fields {
                    self.path.push(PathElement::Field(name.clone()));
                    let (kind, declared) = members.kind(name);
                    match members {
                        Members::Fields(type_def) if !declared && !is_open(type_def) => {
                            self.fail("field not declared in schema".to_string());
                        }
                        _ => self.validate(kind, field),
                    }
                    self.path.pop();
                }
            }
            (Shape::Map { .. }, other) => {
                self.fail(format!("expected map, got &{{{}}}", go_value(other)));
            }
        }
    }

    fn validate_items(&mut self, list: &ListKind, element: &FieldKind, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let step = match list {
                ListKind::Atomic => PathElement::Index(index as i64),
                _ => match list_element(self.types, list, element, item) {
                    Ok(key) => key,
                    Err(error) => return self.fail(format!("element {index}: {error}")),
                },
            };
            if *list != ListKind::Atomic && !seen.insert(step.clone()) {
                self.fail(format!("duplicate entries for key {step}"));
            }
            self.path.push(step);
            self.validate(element, item);
            self.path.pop();
        }
    }
}

/// A structure without any field is open: `type: object` in a schema, and nothing more.
fn is_open(type_def: &TypeDef) -> bool {
    type_def.fields.is_empty()
}

fn check_scalar(scalar: Scalar, value: &Value) -> Result<(), String> {
    match scalar {
        Scalar::Number if !value.is_number() => {
            Err(format!("expected numeric (int or float), got {}", go_type(value)))
        }
        Scalar::String if !value.is_string() => Err(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_source(value)
        )),
        Scalar::Boolean if !value.is_boolean() => {
            Err(format!("expected boolean, got &{{{}}}", go_value(value)))
        }
        Scalar::Untyped if value.is_array() || value.is_object() => {
            Err(format!("expected any scalar, got &{{{}}}", go_value(value)))
        }
        _ => Ok(()),
    }
}

/// The value as Go source, which is what `%#v` prints.
fn go_source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, field)| format!("{name:?}:{}", go_source(field)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        scalar => go_value(scalar),
    }
}
