//! What a patch leads to, as an object; and how it is told when it is none.

use http::StatusCode;
use serde_json::Value;

use super::context::WriteContext;
use super::patch::PatchKind;
use super::{Registry, Target, into_object};
use crate::kube::codec::{self, json_text};
use crate::kube::object::Object;
use crate::kube::patch::json::{JsonPatchError, UNPROCESSABLE_MESSAGE};
use crate::kube::patch::strategic::StrategicError;
use crate::kube::patch::{go_value, json, merge, repeated_keys, strategic};
use crate::kube::request::options::FieldValidation;
use crate::kube::schema::{FieldKind, Schema, TypeId};
use crate::kube::status::{ApiError, FieldError, Named};

/// A patch that could be read.
pub(super) struct Patch {
    kind: PatchKind,
    value: Value,
    /// Fields that it names twice.
    problems: Vec<String>,
}

impl Patch {
    pub(super) fn read(kind: PatchKind, body: &[u8]) -> Result<Patch, ApiError> {
        let node = codec::json::parse(body).map_err(|error| {
            let error = ApiError::bad_request(error.to_string());
            if kind == PatchKind::Merge { error.prefixed("error decoding patch") } else { error }
        })?;
        let mut problems = Vec::new();
        repeated_keys(&node, "", &mut problems);
        if kind == PatchKind::Json {
            problems.iter_mut().for_each(|problem| problem.insert_str(0, "json patch "));
        }
        Ok(Patch { kind, value: node.into_value(), problems })
    }
}

impl Registry {
    /// The object that the patch makes of the old one, checked as if it had been sent.
    pub(super) fn patched(
        &self,
        target: &Target,
        patch: &Patch,
        old: &Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let (schema, type_id) = (target.entry.schema(), target.entry.resource.type_id);
        let tree = apply_patch(schema, type_id, patch.kind, &patch.value, old)?;
        let shown = || match patch.kind {
            PatchKind::Strategic => go_value(&patch.value),
            _ => touched_text(schema, type_id, &tree, old),
        };
        if patch.kind == PatchKind::Strategic
            && let Some(problem) = strategic::conversion_problem(schema, type_id, &tree)
        {
            return Err(no_object(&shown(), &problem));
        }
        let decoded = target.entry.decode(tree.to_string().as_bytes());
        let decoded = decoded.map_err(|problem| no_object(&shown(), &problem))?;
        let problems: Vec<&String> = patch.problems.iter().chain(&decoded.strict_errors).collect();
        match context.options.field_validation {
            FieldValidation::Strict if !problems.is_empty() => {
                let list: Vec<&str> = problems.iter().map(|text| text.as_str()).collect();
                let problem = format!("strict decoding error: {}", list.join(", "));
                return Err(no_object(&shown(), &problem));
            }
            FieldValidation::Warn => {
                problems.iter().for_each(|problem| context.warnings.add(problem.as_str()));
            }
            _ => {}
        }
        Ok(self.completed(target, into_object(decoded.value)))
    }
}

/// The answer to a patch that leads to no object of the kind.
fn no_object(shown: &str, problem: &str) -> ApiError {
    let nothing = Named { group: "", kind: "" };
    ApiError::invalid(nothing, "", &[FieldError::invalid("patch", shown, problem)])
}

/// The patched document as kube-apiserver tells it: objects that the patch went into have their
/// keys in alphabetical order, all others are as they were written.
fn touched_text(schema: &Schema, type_id: TypeId, patched: &Value, old: &Object) -> String {
    let mut text = String::new();
    let old = Value::Object(old.clone());
    write_touched(schema, &FieldKind::Struct(type_id), patched, Some(&old), &mut text);
    text
}

fn write_touched(
    schema: &Schema,
    kind: &FieldKind,
    new: &Value,
    old: Option<&Value>,
    out: &mut String,
) {
    const ANY: &FieldKind = &FieldKind::Any;
    match (new, old) {
        (new, Some(old)) if new == old => json_text::write(schema, kind, new, out),
        (Value::Object(new), Some(Value::Object(old))) => {
            out.push('{');
            for (index, (key, value)) in new.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json_text::write_any(&Value::from(key.as_str()), out);
                out.push(':');
                let kind = match kind {
                    FieldKind::Struct(id) => {
                        schema.type_def(*id).field(key).map_or(ANY, |field| &field.kind)
                    }
                    FieldKind::Map { value, .. } => value,
                    _ => ANY,
                };
                write_touched(schema, kind, value, old.get(key), out);
            }
            out.push('}');
        }
        (Value::Array(new), Some(Value::Array(old))) => {
            let kind = if let FieldKind::List(_, element) = kind { element } else { ANY };
            out.push('[');
            for (index, value) in new.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_touched(schema, kind, value, old.get(index), out);
            }
            out.push(']');
        }
        (new, _) => json_text::write_any(new, out),
    }
}

/// Applies a JSON, merge or strategic merge patch to an object of a type.
pub(super) fn apply_patch(
    schema: &Schema,
    type_id: TypeId,
    kind: PatchKind,
    patch: &Value,
    old: &Object,
) -> Result<Value, ApiError> {
    let mut document = Value::Object(old.clone());
    match kind {
        PatchKind::Json => json::apply(&document, patch).map_err(|error| match error {
            JsonPatchError::Decode(text) => ApiError::bad_request(text),
            JsonPatchError::TooManyOperations(_) => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                error.to_string(),
            ),
            JsonPatchError::DoesNotApply(_) => unprocessable(),
        }),
        PatchKind::Merge => {
            merge::apply(&mut document, patch.clone())
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            Ok(document)
        }
        PatchKind::Strategic => strategic::apply(schema, type_id, document, patch.clone()).map_err(
            |error| match error {
                StrategicError::BadRequest(text) => ApiError::bad_request(text),
                StrategicError::Unprocessable(_) => unprocessable(),
                StrategicError::Internal(text) => ApiError::internal(text),
            },
        ),
        PatchKind::Apply => unreachable!("server-side apply takes its own road"),
    }
}

fn unprocessable() -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", UNPROCESSABLE_MESSAGE)
        .with_details(Object::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_patch_left_alone_keeps_its_order() {
        let schema = Schema::builtin();
        let type_id = schema.type_named("io.k8s.api.core.v1.Secret").expect("a type");
        let old = into_object(json!({
            "kind": "Secret", "apiVersion": "v1", "type": "Opaque",
            "metadata": {"uid": "u", "name": "x", "labels": {"b": "<", "a": "2"}},
        }));
        let patch = json!({"bogus": 1});
        let patched =
            apply_patch(schema, type_id, PatchKind::Merge, &patch, &old).expect("applies");
        let expected = r#"{"apiVersion":"v1","bogus":1,"kind":"Secret","metadata":{"name":"x","uid":"u","labels":{"a":"2","b":"\u003c"}},"type":"Opaque"}"#;
        assert_eq!(touched_text(schema, type_id, &patched, &old), expected);
        let patch = json!({"metadata": {"labels": {"c": "3"}}});
        let patched =
            apply_patch(schema, type_id, PatchKind::Merge, &patch, &old).expect("applies");
        let expected = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"labels":{"a":"2","b":"\u003c","c":"3"},"name":"x","uid":"u"},"type":"Opaque"}"#;
        assert_eq!(touched_text(schema, type_id, &patched, &old), expected);
    }

    #[test]
    fn repeated_fields_of_patches_are_told() {
        for (kind, body, expected) in [
            (
                PatchKind::Merge,
                r#"{"a":{"b":1,"b":2},"a":3}"#,
                &["duplicate field \"a.b\"", "duplicate field \"a\""][..],
            ),
            (
                PatchKind::Json,
                r#"[{"op":"add","op":"test"}]"#,
                &["json patch duplicate field \"[0].op\""],
            ),
            (PatchKind::Merge, r#"{"a":[{"b":1},{"b":1}]}"#, &[]),
        ] {
            assert_eq!(Patch::read(kind, body.as_bytes()).expect("JSON").problems, expected);
        }
    }
}
