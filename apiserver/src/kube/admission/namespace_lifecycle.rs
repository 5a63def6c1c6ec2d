//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going, and some
//! namespaces can't go.

use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::status::{ApiError, Named};

/// Namespaces that the system itself lives in.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

const NAMESPACES: Named<'_> = Named { group: "", kind: "namespaces" };

pub(super) async fn create(
    registry: &Registry,
    target: &Target,
    object: &Object,
) -> Result<(), ApiError> {
    if !target.entry.resource.namespaced {
        return Ok(());
    }
    let namespace = object::namespace(object);
    let key = crate::kube::storage::keys::object("namespaces", "", namespace);
    let (stored, _) = registry.storage.get(key.as_bytes()).await.map_err(storage_error)?;
    let Some(stored) = stored else {
        return Err(ApiError::not_found(NAMESPACES, namespace));
    };
    let Some(entry) = registry.catalog.entry("", "v1", "namespaces") else { return Ok(()) };
    let found = registry.decode(entry, &stored)?;
    if object::is_being_deleted(&found)
        || object::text_at(&found, &["status", "phase"]) == "Terminating"
    {
        return Err(terminating(target, object, namespace));
    }
    Ok(())
}

fn terminating(target: &Target, object: &Object, namespace: &str) -> ApiError {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let error = ApiError::forbidden(target.resource(), object::name(object), &why);
    let mut details = error.status().details.clone().unwrap_or_default();
    details.insert(
        "causes".to_owned(),
        serde_json::json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]),
    );
    error.with_details(details)
}

pub(super) fn delete(target: &Target) -> Result<(), ApiError> {
    let row = &target.entry.resource;
    if row.group.is_empty()
        && row.plural == "namespaces"
        && IMMORTAL.contains(&target.name.as_str())
    {
        return Err(ApiError::forbidden(
            NAMESPACES,
            &target.name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}
