//! Changing an object by a patch.

use serde_json::Value;

use super::context::WriteContext;
use super::create::check_namespace;
use super::update::{Change, Saved, check_name, check_version, requested_version};
use super::{Registry, Target, managed};
use crate::kube::encoding::{self, BodyFormat};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::patch::json::{JsonPatchError, UNPROCESSABLE_MESSAGE};
use crate::kube::patch::strategic::StrategicError;
use crate::kube::patch::{json, merge, strategic};
use crate::kube::status::{ApiError, FieldError, Named};
use http::StatusCode;

/// The four ways to patch, by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchKind {
    pub fn of_content_type(content_type: &str) -> Option<PatchKind> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(PatchKind::Json),
            "application/merge-patch+json" => Some(PatchKind::Merge),
            "application/strategic-merge-patch+json" => Some(PatchKind::Strategic),
            "application/apply-patch+yaml" => Some(PatchKind::Apply),
            _ => None,
        }
    }
}

impl Registry {
    /// Applies a JSON, merge or strategic merge patch.
    pub async fn patch(
        &self,
        target: &Target,
        kind: PatchKind,
        body: &[u8],
        context: &WriteContext,
    ) -> Result<Saved, ApiError> {
        let patch = encoding::decode_value(body, BodyFormat::Json);
        let patch = match kind {
            PatchKind::Merge => patch.map_err(|error| error.prefixed("error decoding patch"))?,
            _ => patch?,
        };
        for _ in 0..UPDATE_TRIES {
            let (old, stored) = self.load(target).await?;
            let patched = self.patched(target, kind, &patch, &old)?;
            let new = self.read_patched(target, patched, context)?;
            check_version(target, requested_version(&new)?, &old)?;
            let change = Change::Untracked(new);
            if let Some(saved) = self.try_save(target, change, &old, &stored, context).await? {
                return Ok(saved);
            }
        }
        Err(ApiError::modified(target.resource(), &target.name))
    }

    /// Server-side apply: creates the object or changes it into what the manager says.
    pub async fn apply(
        &self,
        target: &Target,
        body: &[u8],
        context: &WriteContext,
    ) -> Result<Saved, ApiError> {
        let schema = self.catalog.schema;
        let applied = encoding::decode_value(body, BodyFormat::Yaml).map_err(|error| {
            error.prefixed("error decoding YAML: error converting YAML to JSON")
        })?;
        for _ in 0..UPDATE_TRIES {
            let found = self.find(target).await?;
            let live = found.as_ref().map(|(old, _)| old);
            if live.is_none() && !target.subresource.is_empty() {
                return Err(target.not_found());
            }
            let merged = managed::apply(schema, target, live, &applied, context)?;
            let mut new = self.read_patched(target, Value::Object(merged), context)?;
            let Some((old, stored)) = &found else {
                object::metadata_mut(&mut new).remove("resourceVersion");
                check_name(target, &mut new)?;
                check_namespace(target, &mut new)?;
                let object = self.create_tracked(target, new, context).await?;
                return Ok(Saved { object, created: true });
            };
            check_version(target, requested_version(&new)?, old)?;
            let change = Change::Tracked(new);
            if let Some(saved) = self.try_save(target, change, old, stored, context).await? {
                return Ok(saved);
            }
        }
        Err(ApiError::modified(target.resource(), &target.name))
    }

    fn patched(
        &self,
        target: &Target,
        kind: PatchKind,
        patch: &Value,
        old: &Object,
    ) -> Result<Value, ApiError> {
        apply_patch(self.catalog.schema, target.entry.resource.type_id, kind, patch, old)
    }

    /// The patched tree as an object of the resource, checked as if it had been sent.
    fn read_patched(
        &self,
        target: &Target,
        patched: Value,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let entry = &target.entry;
        let text = patched.to_string();
        let decoded = encoding::decode_untold(
            self.catalog.schema,
            entry.resource.type_id,
            &entry.gvk(),
            text.as_bytes(),
            context.options.field_validation,
        )
        .map_err(|why| {
            let nothing = Named { group: "", kind: "" };
            let errors = [FieldError::invalid("patch", text.as_str(), why)];
            ApiError::invalid(nothing, "", &errors)
        })?;
        for warning in decoded.warnings {
            context.warnings.add(warning);
        }
        let mut object = decoded.object;
        (entry.strategy.defaults)(&mut object);
        encoding::canonicalize(self.catalog.schema, entry.resource.type_id, &mut object);
        Ok(object)
    }
}

/// Applies a JSON, merge or strategic merge patch to an object of a type.
pub(super) fn apply_patch(
    schema: &crate::kube::schema::Schema,
    type_id: crate::kube::schema::TypeId,
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
