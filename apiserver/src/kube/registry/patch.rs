//! Changing an object by a patch.

use serde_json::Value;

use super::context::WriteContext;
use super::create::check_namespace;
use super::patched::Patch;
use super::update::{Change, Saved, check_name, check_version, requested_version};
use super::{Registry, Target, into_object, managed};
use crate::kube::encoding::{self, BodyFormat};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::request::options::FieldValidation;
use crate::kube::status::ApiError;

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
        let patch = Patch::read(kind, body)?;
        for _ in 0..UPDATE_TRIES {
            let (old, stored) = self.load(target).await?;
            let mut new = self.patched(target, &patch, &old, context)?;
            check_name(target, &mut new)?;
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
        let schema = target.entry.schema();
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
            let mut new = self.read_applied(target, merged, context)?;
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

    /// What an apply leads to, as an object of the resource, checked as if it had been sent.
    fn read_applied(
        &self,
        target: &Target,
        merged: Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let text = Value::Object(merged).to_string();
        let refused = |problem: String| ApiError::internal(problem);
        let decoded = target.entry.decode(text.as_bytes()).map_err(refused)?;
        match context.options.field_validation {
            FieldValidation::Strict if !decoded.strict_errors.is_empty() => {
                let list = decoded.strict_errors.join(", ");
                return Err(ApiError::bad_request(format!("strict decoding error: {list}")));
            }
            FieldValidation::Warn => {
                decoded.strict_errors.into_iter().for_each(|text| context.warnings.add(text));
            }
            _ => {}
        }
        Ok(self.completed(target, into_object(decoded.value)))
    }

    /// The object with what a client may leave out.
    pub(super) fn completed(&self, target: &Target, mut object: Object) -> Object {
        let entry = &target.entry;
        (entry.strategy.defaults)(&mut object);
        entry.canonicalize(&mut object);
        object
    }
}
