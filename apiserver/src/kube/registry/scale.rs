//! The `scale` subresource: the number of replicas, of whatever has replicas.

use serde_json::{Value, json};

use super::context::WriteContext;
use super::patch::{PatchKind, apply_patch};
use super::update::{Change, check_version, requested_version};
use super::{Registry, Target, into_object};
use crate::kube::encoding::{self, BodyFormat};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::resources::selector_text;
use crate::kube::schema::GroupVersionKind;
use crate::kube::status::{ApiError, FieldError, Named};

const SCALE: Named<'_> = Named { group: "autoscaling", kind: "Scale" };

impl Registry {
    pub async fn get_scale(&self, target: &Target) -> Result<Object, ApiError> {
        let (object, _) = self.load(target).await?;
        Ok(scale_of(&object))
    }

    /// Sets the replicas to those of a `Scale`.
    pub async fn update_scale(
        &self,
        target: &Target,
        scale: Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let name = object::name(&scale);
        if !name.is_empty() && name != target.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        self.save_scale(target, context, |_| Ok(scale.clone())).await
    }

    pub async fn patch_scale(
        &self,
        target: &Target,
        kind: PatchKind,
        body: &[u8],
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let patch = encoding::decode_value(body, BodyFormat::Json)?;
        let gvk = GroupVersionKind {
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
        };
        let schema = self.catalog.schema;
        let type_id = schema.type_of_kind(&gvk).ok_or_else(ApiError::no_such_path)?;
        self.save_scale(target, context, |old| {
            apply_patch(schema, type_id, kind, &patch, old).map(into_object)
        })
        .await
    }

    async fn save_scale(
        &self,
        target: &Target,
        context: &WriteContext,
        change: impl Fn(&Object) -> Result<Object, ApiError>,
    ) -> Result<Object, ApiError> {
        for _ in 0..UPDATE_TRIES {
            let (old, stored) = self.load(target).await?;
            let scale = change(&scale_of(&old))?;
            check_version(target, requested_version(&scale)?, &old)?;
            let replicas = object::integer_at(&scale, &["spec", "replicas"]);
            if replicas < 0 {
                let why = "must be greater than or equal to 0";
                let errors = [FieldError::invalid("spec.replicas", replicas, why)];
                return Err(ApiError::invalid(SCALE, &target.name, &errors));
            }
            let mut new = old.clone();
            object::map_mut(&mut new, "spec").insert("replicas".to_owned(), replicas.into());
            let change = Change::Untracked(new);
            if let Some(saved) = self.try_save(target, change, &old, &stored, context).await? {
                return Ok(scale_of(&saved.object));
            }
        }
        Err(ApiError::modified(target.resource(), &target.name))
    }
}

/// The `Scale` of an object with `spec.replicas`.
fn scale_of(object: &Object) -> Object {
    let mut metadata = Object::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object::at(object, &["metadata", name]) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    let mut spec = Object::new();
    let replicas = object::integer_at(object, &["spec", "replicas"]);
    if replicas != 0 {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    let mut status = Object::new();
    status
        .insert("replicas".to_owned(), object::integer_at(object, &["status", "replicas"]).into());
    let selector = selector_text(object::at(object, &["spec", "selector"]).unwrap_or(&Value::Null));
    if !selector.is_empty() {
        status.insert("selector".to_owned(), selector.into());
    }
    into_object(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec,
        "status": status,
    }))
}
