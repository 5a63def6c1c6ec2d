//! Rules of environment variables and of what they and downward API files point to.

use super::common;
use super::place::{Errors, Place};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const FIELDS_OF_VARIABLES: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const FIELDS_OF_FILES: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `env` of a container.
pub fn variables(place: &Place<'_>, errors: &mut Errors) {
    for variable in place.items() {
        common::required_name(&variable.child("name"), common::environment_name, errors);
        if variable.child("valueFrom").is_set() {
            source(&variable, errors);
        }
    }
}

fn source(variable: &Place<'_>, errors: &mut Errors) {
    let from = variable.child("valueFrom");
    let sources = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let mut count = 0;
    for name in sources {
        let place = from.child(name);
        if !place.is_set() {
            continue;
        }
        count += 1;
        match name {
            "fieldRef" => field(&place, &FIELDS_OF_VARIABLES, errors),
            "resourceFieldRef" => resource_field(&place, false, errors),
            "fileKeyRef" => file_key(&place, errors),
            _ => key(&place, errors),
        }
    }
    let value_is_set = !variable.child("value").is_empty();
    if count == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(from.invalid_as("", why));
    } else if value_is_set {
        errors.push(from.invalid_as("", "may not be specified when `value` is not empty"));
    } else if count > 1 {
        let why = "may not have more than one field specified at a time";
        errors.push(from.invalid_as("", why));
    }
}

fn key(place: &Place<'_>, errors: &mut Errors) {
    common::named(&place.child("name"), names::dns_subdomain, errors);
    common::required_name(&place.child("key"), names::config_key, errors);
}

fn file_key(place: &Place<'_>, errors: &mut Errors) {
    common::required_name(&place.child("key"), common::environment_name, errors);
    common::required_name(&place.child("volumeName"), names::dns_label, errors);
    let path = place.child("path");
    common::required(&path, errors);
    common::no_backsteps(&path, errors);
}

/// `envFrom` of a container.
pub fn bundles(place: &Place<'_>, errors: &mut Errors) {
    for bundle in place.items() {
        common::named_if_set(&bundle.child("prefix"), common::environment_name, errors);
        let mut count = 0;
        for name in ["configMapRef", "secretRef"] {
            let reference = bundle.child(name);
            if reference.is_set() {
                count += 1;
                common::required_name(&reference.child("name"), names::dns_subdomain, errors);
            }
        }
        if count == 0 {
            let why = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(place.invalid_as("", why));
        } else if count > 1 {
            let why = "may not have more than one field specified at a time";
            errors.push(place.invalid_as("", why));
        }
    }
}

/// The field of a pod that a file in a volume holds.
pub fn field_of_file(place: &Place<'_>, errors: &mut Errors) {
    field(place, &FIELDS_OF_FILES, errors);
}

fn field(place: &Place<'_>, supported: &[&str], errors: &mut Errors) {
    for name in ["apiVersion", "fieldPath"] {
        if place.child(name).is_empty() {
            errors.push(place.child(name).required(""));
            return;
        }
    }
    let path = place.child("fieldPath");
    let text = path.text();
    if let Some((base, key)) = text.strip_suffix("']").and_then(|text| text.split_once("['")) {
        let why = match base {
            "metadata.annotations" => names::qualified_name(&key.to_lowercase()),
            "metadata.labels" => names::qualified_name(key),
            _ => {
                let why = "error converting fieldPath: field label does not support subscript";
                errors.push(path.invalid_text(why));
                return;
            }
        };
        errors.extend(why.into_iter().map(|why| place.invalid_as(key, why)));
    } else if !FIELDS_OF_FILES.contains(&text) && !FIELDS_OF_VARIABLES.contains(&text) {
        let why = format!("error converting fieldPath: field label not supported: {text}");
        errors.push(path.invalid_text(why));
    } else if !supported.contains(&text) {
        errors.push(path.unsupported(supported));
    }
}

/// The resource of a container, in a variable or a file (which must name the container).
pub fn resource_field(place: &Place<'_>, in_file: bool, errors: &mut Errors) {
    let resource = place.child("resource");
    let name = resource.text();
    let huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if in_file && place.child("containerName").is_empty() {
        errors.push(place.child("containerName").required(""));
    } else if name.is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&name) && !huge {
        errors.push(resource.unsupported(&RESOURCES));
    }
    let divisor = place.child("divisor");
    let unit = divisor.text();
    if unit.is_empty() || unit == "0" {
        return;
    }
    let sizes = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the";
    let why = match name.split_once('.').map_or("", |(_, kind)| kind) {
        "cpu" if !["1", "1m"].contains(&unit) => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        "memory" if !SIZES.contains(&unit) => format!("{sizes} memory resource"),
        "ephemeral-storage" if !SIZES.contains(&unit) => {
            format!("{sizes} local ephemeral storage resource")
        }
        _ if huge && !SIZES.contains(&unit) => format!("{sizes} hugepages resource"),
        _ => return,
    };
    errors.push(FieldError::invalid(divisor.path(), name, why));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_checked() {
        let field = |path: &str| json!({"name": "a", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        for (variable, expected) in [
            (json!({"name": "a", "value": "b"}), 0),
            (json!({"name": ""}), 1),
            (json!({"name": "a=b"}), 1),
            (json!({"name": "a", "valueFrom": {}}), 1),
            (json!({"name": "a", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}), 0),
            (json!({"name": "a", "valueFrom": {"secretKeyRef": {"name": "s"}}}), 1),
            (field("metadata.labels['a']"), 0),
            (field("metadata.labels"), 1),
            (field("spec.x"), 1),
            (
                json!({"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "5"}}}),
                1,
            ),
        ] {
            let list = json!([variable]);
            let mut errors = Errors::new();
            variables(&Place::at("env", &list), &mut errors);
            assert_eq!(errors.len(), expected, "{variable}: {errors:?}");
        }
    }
}
