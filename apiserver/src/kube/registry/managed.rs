//! `metadata.managedFields`: who set which field, by way of the patch module's bookkeeping.

use http::StatusCode;
use serde_json::{Value, json};

use super::Target;
use super::context::WriteContext;
use super::into_object;
use crate::kube::object::{self, Object};
use crate::kube::patch::apply::{
    self, ApplyError, Conflict, FieldFilter, Request, update_managed_fields,
};
use crate::kube::schema::{Schema, TypeId};
use crate::kube::status::ApiError;

/// Calls `work` with the request as the bookkeeping wants it.
fn with_request<T>(
    schema: &Schema,
    target: &Target,
    context: &WriteContext,
    work: impl FnOnce(&Request<'_>) -> T,
) -> T {
    let entry = &target.entry;
    let row = &entry.resource;
    let filter = match target.subresource.as_str() {
        // Requests for certificates are the server's and the signer's, not the client's.
        "" if row.group == "certificates.k8s.io" => {
            FieldFilter::except_fields(&[&["spec"], &["status"]])
        }
        "status" if row.group == "apps" && row.plural == "deployments" => {
            FieldFilter::except_fields(&[&["spec"], &["metadata", "labels"]])
        }
        "approval" => FieldFilter::except_fields(&[&["spec"]]),
        "status" => FieldFilter::except_fields(&[&["spec"]]),
        "" if entry.has_subresource("status") && !entry.strategy.whole_updates => {
            FieldFilter::except_fields(&[&["status"]])
        }
        _ => FieldFilter::All,
    };
    let now = context.now.seconds();
    work(&Request {
        schema,
        type_id: entry.resource.type_id,
        api_version: &entry.api_version,
        manager: &context.field_manager,
        subresource: &target.subresource,
        now: &now,
        filter: &filter,
    })
}

/// Records that the manager of `context` made `new` of `old` by a create, an update or a patch.
pub fn track_update(
    schema: &Schema,
    target: &Target,
    old: Option<&Object>,
    new: &mut Object,
    context: &WriteContext,
) {
    with_request(schema, target, context, |request| update_managed_fields(request, old, new));
}

/// Records who made an object of a subresource's own kind, which is not stored.
pub fn track_request(
    schema: &Schema,
    type_id: TypeId,
    subresource: &str,
    object: &mut Object,
    context: &WriteContext,
) {
    let api_version = object::text(object, "apiVersion").to_owned();
    let now = context.now.seconds();
    let request = Request {
        schema,
        type_id,
        api_version: &api_version,
        manager: &context.field_manager,
        subresource,
        now: &now,
        filter: &FieldFilter::All,
    };
    update_managed_fields(&request, None, object);
}

/// What an apply makes of the live object; its managed fields are up to date.
pub fn apply(
    schema: &Schema,
    target: &Target,
    live: Option<&Object>,
    applied: &Value,
    context: &WriteContext,
) -> Result<Object, ApiError> {
    let force = context.options.force;
    let result = with_request(schema, target, context, |request| {
        apply::apply(request, live, applied, force)
    });
    result.map_err(apply_error)
}

fn apply_error(error: ApplyError) -> ApiError {
    match error {
        ApplyError::BadRequest(text) => ApiError::bad_request(text),
        ApplyError::Internal(text) => ApiError::internal(text),
        ApplyError::Conflicts(conflicts) => {
            let causes: Vec<Value> = conflicts
                .list()
                .iter()
                .map(|conflict| {
                    json!({
                        "reason": Conflict::CAUSE,
                        "message": conflict.cause_message(),
                        "field": conflict.path,
                    })
                })
                .collect();
            let details = into_object(json!({"causes": causes}));
            ApiError::new(StatusCode::CONFLICT, "Conflict", conflicts.to_string())
                .with_details(details)
        }
    }
}

/// Whether two objects differ in nothing but the times of their managed fields.
pub fn same_but_times(left: &Object, right: &Object) -> bool {
    without_times(left) == without_times(right)
}

fn without_times(object: &Object) -> Object {
    let mut object = object.clone();
    let metadata = object::metadata_mut(&mut object);
    metadata.remove("resourceVersion");
    if let Some(Value::Array(entries)) = metadata.get_mut("managedFields") {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_make_a_difference() {
        let with = |time: &str, manager: &str| {
            into_object(
                json!({"metadata": {"resourceVersion": time, "managedFields": [{"manager": manager, "time": time}]}}),
            )
        };
        assert!(same_but_times(&with("1", "a"), &with("2", "a")));
        assert!(!same_but_times(&with("1", "a"), &with("1", "b")));
    }
}
