//! The `scale` subresource: the number of replicas, of whatever has replicas.

use serde_json::{Value, json};

use super::context::WriteContext;
use super::patch::PatchKind;
use super::patched::apply_patch;
use super::update::{Change, check_version, requested_version};
use super::{Registry, Target, into_object};
use crate::kube::crd::ScalePaths;
use crate::kube::crd::json_path::JsonPath;
use crate::kube::encoding::{self, BodyFormat};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::registry::catalog::Entry;
use crate::kube::resources::selector_text;
use crate::kube::schema::{GroupVersionKind, Schema};
use crate::kube::status::{ApiError, FieldError, Named};

const SCALE: Named<'_> = Named { group: "autoscaling", kind: "Scale" };

impl Registry {
    pub async fn get_scale(&self, target: &Target) -> Result<Object, ApiError> {
        let (object, _) = self.load(target).await?;
        Ok(scale_of(&target.entry, &object))
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
        let schema = Schema::builtin();
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
            let scale = change(&scale_of(&target.entry, &old))?;
            check_version(target, requested_version(&scale)?, &old)?;
            let replicas = object::integer_at(&scale, &["spec", "replicas"]);
            if replicas < 0 {
                let why = "must be greater than or equal to 0";
                let errors = [FieldError::invalid("spec.replicas", replicas, why)];
                return Err(ApiError::invalid(SCALE, &target.name, &errors));
            }
            let mut new = old.clone();
            set_replicas(&target.entry, &mut new, replicas);
            let change = Change::Untracked(new);
            if let Some(saved) = self.try_save(target, change, &old, &stored, context).await? {
                return Ok(scale_of(&target.entry, &saved.object));
            }
        }
        Err(ApiError::modified(target.resource(), &target.name))
    }
}

/// Where an object of this resource has its replicas.
fn paths(entry: &Entry) -> Option<&ScalePaths> {
    entry.custom.as_ref().and_then(|custom| custom.scale.as_ref())
}

fn set_replicas(entry: &Entry, object: &mut Object, replicas: i64) {
    let custom = paths(entry).and_then(|paths| paths.replicas.fields());
    let path = custom.unwrap_or_else(|| vec!["spec", "replicas"]);
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().fold(object, |object, name| object::map_mut(object, name));
    parent.insert((*last).to_owned(), replicas.into());
}

/// The number of wanted replicas, that of those there are, and what selects their pods.
fn replicas_of(entry: &Entry, object: &Object) -> (i64, i64, String) {
    let Some(paths) = paths(entry) else {
        let selector = object::at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
        return (
            object::integer_at(object, &["spec", "replicas"]),
            object::integer_at(object, &["status", "replicas"]),
            selector_text(selector),
        );
    };
    let value = Value::Object(object.clone());
    let number = |path: &JsonPath| path.find(&value).and_then(Value::as_i64).unwrap_or(0);
    let selector = paths.selector.as_ref().and_then(|path| path.find(&value)?.as_str());
    let selector = selector.unwrap_or("").to_owned();
    (number(&paths.replicas), number(&paths.status_replicas), selector)
}

/// The `Scale` of an object.
fn scale_of(entry: &Entry, object: &Object) -> Object {
    let mut metadata = Object::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object::at(object, &["metadata", name]) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    let (replicas, current, selector) = replicas_of(entry, object);
    let mut spec = Object::new();
    if replicas != 0 {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    let mut status = Object::new();
    status.insert("replicas".to_owned(), current.into());
    if !selector.is_empty() {
        status.insert("selector".to_owned(), selector.into());
    }
    into_object(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec,
        "status": status,
    }))
}
