//! The rules of pods and pod templates that clients run into most often.

use serde_json::Value;

use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// The rules of a pod's spec, whose place is `field` (`spec`, `spec.template.spec`).
pub(super) fn validate_spec(spec: &Object, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let containers = object::list(spec, "containers");
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for list in ["containers", "initContainers"] {
        let elements = object::list(spec, list).iter().filter_map(Value::as_object);
        for (index, container) in elements.enumerate() {
            let place = format!("{field}.{list}[{index}]");
            let name = object::text(container, "name");
            if seen.contains(&name) && !name.is_empty() {
                errors.push(FieldError::duplicate(format!("{place}.name"), name));
            }
            seen.push(name);
            errors.extend(validate_container(container, &place));
        }
    }
    let policy = object::text(spec, "restartPolicy");
    if !RESTART_POLICIES.contains(&policy) {
        let place = format!("{field}.restartPolicy");
        errors.push(FieldError::not_supported(place, policy, &RESTART_POLICIES));
    }
    let policy = object::text(spec, "dnsPolicy");
    if !DNS_POLICIES.contains(&policy) {
        let place = format!("{field}.dnsPolicy");
        errors.push(FieldError::not_supported(place, policy, &DNS_POLICIES));
    }
    errors
}

fn validate_container(container: &Object, place: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::text(container, "name");
    if name.is_empty() {
        errors.push(FieldError::required(format!("{place}.name"), ""));
    } else {
        for why in names::dns_label(name) {
            errors.push(FieldError::invalid(format!("{place}.name"), name, why));
        }
    }
    if object::text(container, "image").is_empty() {
        errors.push(FieldError::required(format!("{place}.image"), ""));
    }
    let policy = object::text(container, "imagePullPolicy");
    if !PULL_POLICIES.contains(&policy) {
        let field = format!("{place}.imagePullPolicy");
        errors.push(FieldError::not_supported(field, policy, &PULL_POLICIES));
    }
    let ports = object::list(container, "ports").iter().filter_map(Value::as_object);
    for (index, port) in ports.enumerate() {
        let number = object::integer_at(port, &["containerPort"]);
        let field = format!("{place}.ports[{index}].containerPort");
        if number == 0 {
            errors.push(FieldError::required(field, ""));
        } else if !(1..=65_535).contains(&number) {
            let why = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(field, number, why));
        }
        let protocol = object::text(port, "protocol");
        if !PROTOCOLS.contains(&protocol) {
            let field = format!("{place}.ports[{index}].protocol");
            errors.push(FieldError::not_supported(field, protocol, &PROTOCOLS));
        }
    }
    errors
}

/// The rules of the template of a workload whose pods are always started again.
pub(super) fn validate_template(object: &Object) -> Vec<FieldError> {
    const FIELD: &str = "spec.template.spec";
    let empty = Object::new();
    let spec = object::at(object, &["spec", "template", "spec"]).and_then(Value::as_object);
    let spec = spec.unwrap_or(&empty);
    let mut errors = validate_spec(spec, FIELD);
    let policy = object::text(spec, "restartPolicy");
    if RESTART_POLICIES.contains(&policy) && policy != "Always" {
        let field = format!("{FIELD}.restartPolicy");
        errors.push(FieldError::not_supported(field, policy, &["Always"]));
    }
    errors
}

/// What an update of a pod may change.
pub(super) fn validate_pod_update(new: &Object, old: &Object) -> Vec<FieldError> {
    if changeable_aside(new) == changeable_aside(old) {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )]
}

/// The spec without what may change.
fn changeable_aside(pod: &Object) -> Object {
    let mut spec = object::map(pod, "spec").cloned().unwrap_or_default();
    let changeable = [
        "activeDeadlineSeconds",
        "ephemeralContainers",
        "schedulingGates",
        "terminationGracePeriodSeconds",
        "tolerations",
    ];
    for field in changeable {
        spec.remove(field);
    }
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = spec.get_mut(list) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    fn fields(spec: Value) -> Vec<String> {
        let mut spec = into_object(spec);
        object::default(&mut spec, "restartPolicy", "Always");
        object::default(&mut spec, "dnsPolicy", "Default");
        validate_spec(&spec, "spec").into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn specs_are_checked() {
        let good = json!({"name": "c", "image": "i", "imagePullPolicy": "Always"});
        for (spec, expected) in [
            (json!({"containers": [good]}), &[][..]),
            (json!({}), &["spec.containers"]),
            (json!({"containers": [good, good]}), &["spec.containers[1].name"]),
            (
                json!({"containers": [{"name": "Bad_C", "imagePullPolicy": "Always"}]}),
                &["spec.containers[0].name", "spec.containers[0].image"],
            ),
            (json!({"containers": [good], "restartPolicy": "Sometimes"}), &["spec.restartPolicy"]),
        ] {
            assert_eq!(fields(spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn images_may_change_and_little_else() {
        let pod = |image: &str, node: &str| {
            into_object(
                json!({"spec": {"nodeName": node, "containers": [{"name": "c", "image": image}]}}),
            )
        };
        assert!(validate_pod_update(&pod("b", "n"), &pod("a", "n")).is_empty());
        assert_eq!(validate_pod_update(&pod("a", "m"), &pod("a", "n")).len(), 1);
    }
}
