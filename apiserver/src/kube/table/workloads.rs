//! Cells of workloads, configuration, quotas and claims of devices.

use serde_json::Value;

use crate::kube::object::{self, Object};

pub(super) fn ready_of_desired(object: &Object, _now: i64) -> Value {
    let ready = object::integer_at(object, &["status", "readyReplicas"]);
    let desired = object::integer_at(object, &["spec", "replicas"]);
    format!("{ready}/{desired}").into()
}

/// `kind.group/name` of the owner that controls a revision.
pub(super) fn revision_controller(object: &Object, _now: i64) -> Value {
    let owners = object::list_at(object, &["metadata", "ownerReferences"]).iter();
    let mut owners = owners.filter_map(Value::as_object);
    let controls = |owner: &&Object| owner.get("controller") == Some(&Value::Bool(true));
    let Some(owner) = owners.find(controls) else { return "<none>".into() };
    let kind = object::text(owner, "kind").to_lowercase();
    let name = object::text(owner, "name");
    match object::text(owner, "apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    }
}

pub(super) fn config_map_entries(object: &Object, _now: i64) -> Value {
    let entries = |field: &str| object::map(object, field).map_or(0, Object::len);
    (entries("data") + entries("binaryData")).into()
}

/// `resource: used/hard` of the resources that are limits, or of those that are not.
pub(super) fn quota(object: &Object, limits: bool) -> Value {
    let Some(hard) = object::at(object, &["status", "hard"]).and_then(Value::as_object) else {
        return "".into();
    };
    let mut names: Vec<&String> =
        hard.keys().filter(|name| name.starts_with("limits.") == limits).collect();
    names.sort_unstable();
    let quantity = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "0".to_owned(),
    };
    let told = names.into_iter().map(|name| {
        let used = quantity(object::at(object, &["status", "used", name]));
        format!("{name}: {used}/{}", quantity(hard.get(name)))
    });
    told.collect::<Vec<_>>().join(", ").into()
}

/// Whether a claim has devices, and whether somebody uses them.
pub(super) fn resource_claim_state(object: &Object, _now: i64) -> Value {
    let deleted = object::is_being_deleted(object);
    let allocated = object::at(object, &["status", "allocation"]).is_some_and(|one| !one.is_null());
    let reserved = !object::list_at(object, &["status", "reservedFor"]).is_empty();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    let states = states.iter().filter(|(holds, _)| *holds).map(|(_, state)| *state);
    states.collect::<Vec<_>>().join(",").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn quotas_tell_limits_apart() {
        let object = into_object(json!({"status": {
            "hard": {"requests.cpu": "2", "pods": "5", "limits.cpu": "4"}, "used": {"pods": "1"},
        }}));
        assert_eq!(quota(&object, false), "pods: 1/5, requests.cpu: 0/2");
        assert_eq!(quota(&object, true), "limits.cpu: 0/4");
        assert_eq!(quota(&Object::new(), true), "");
    }

    #[test]
    fn controllers_of_revisions() {
        let owner = |version: &str| {
            into_object(json!({"metadata": {"ownerReferences": [
                {"kind": "X", "name": "no"},
                {"kind": "DaemonSet", "apiVersion": version, "name": "d", "controller": true},
            ]}}))
        };
        assert_eq!(revision_controller(&owner("apps/v1"), 0), "daemonset.apps/d");
        assert_eq!(revision_controller(&owner("v1"), 0), "daemonset/d");
        assert_eq!(revision_controller(&Object::new(), 0), "<none>");
    }

    #[test]
    fn states_of_claims() {
        for (object, expected) in [
            (json!({}), "pending"),
            (json!({"status": {"allocation": {}}}), "allocated"),
            (json!({"status": {"allocation": {}, "reservedFor": [{}]}}), "allocated,reserved"),
            (json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}}), "deleted"),
        ] {
            assert_eq!(resource_claim_state(&into_object(object), 0), expected);
        }
    }
}
