//! Cells of nodes and of the control plane's components.

use serde_json::Value;

use crate::kube::object::{self, Object};

/// The entry of `status.conditions` of this type.
pub(super) fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Object> {
    let conditions = object::list_at(object, &["status", "conditions"]).iter();
    conditions.filter_map(Value::as_object).find(|one| object::text(one, "type") == kind)
}

pub(super) fn status(object: &Object, _now: i64) -> Value {
    let status = condition(object, "Ready").map(|ready| object::text(ready, "status"));
    let mut text = match status {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object::at(object, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        text.push_str(",SchedulingDisabled");
    }
    text.into()
}

/// Told by labels: `node-role.kubernetes.io/ROLE`, or `kubernetes.io/role` with the role as value.
pub(super) fn roles(object: &Object, _now: i64) -> Value {
    const PREFIX: &str = "node-role.kubernetes.io/";
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in object::labels(object).into_iter().flatten() {
        if let Some(role) = key.strip_prefix(PREFIX).filter(|role| !role.is_empty()) {
            roles.push(role);
        } else if key == "kubernetes.io/role" {
            roles.extend(value.as_str().filter(|role| !role.is_empty()));
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",").into() }
}

/// The node's first address of this type.
pub(super) fn address(object: &Object, kind: &str) -> Value {
    let addresses = object::list_at(object, &["status", "addresses"]).iter();
    let mut addresses = addresses.filter_map(Value::as_object);
    let found = addresses.find(|one| object::text(one, "type") == kind);
    found.map_or("<none>", |one| object::text(one, "address")).into()
}

/// What a component says of its health.
pub(super) fn component(object: &Object, part: &str) -> Value {
    let conditions = object::list(object, "conditions").iter();
    let mut conditions = conditions.filter_map(Value::as_object);
    let healthy = conditions.find(|one| object::text(one, "type") == "Healthy");
    match (healthy, part) {
        (None, "status") => "Unknown".into(),
        (None, _) => "".into(),
        (Some(condition), "status") => match object::text(condition, "status") {
            "True" => "Healthy".into(),
            _ => "Unhealthy".into(),
        },
        (Some(condition), part) => object::text(condition, part).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn nodes() {
        let object = into_object(json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": ""}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            },
        }));
        assert_eq!(status(&object, 0), "NotReady,SchedulingDisabled");
        assert_eq!(roles(&object, 0), "a,worker");
        assert_eq!(address(&object, "InternalIP"), "192.0.2.1");
        assert_eq!(address(&object, "ExternalIP"), "<none>");
    }

    #[test]
    fn components() {
        let object = into_object(json!({
            "conditions": [{"type": "Healthy", "status": "False", "message": "m", "error": "e"}],
        }));
        let told = ["status", "message", "error"].map(|part| component(&object, part));
        assert_eq!(told, ["Unhealthy", "m", "e"]);
        assert_eq!(component(&Object::new(), "status"), "Unknown");
    }
}
