//! The core group, but for pods and services, which have files of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::pods::default_pod_template;
use super::{Strategy, storage};
use crate::kube::limits::DATA_BYTES;
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

/// `--event-ttl`'s default, seconds.
const EVENT_TTL_SECONDS: i64 = 3600;

pub(super) fn strategy(plural: &str) -> Strategy {
    let usual = Strategy::default();
    match plural {
        "configmaps" => Strategy {
            validate: validate_config_map,
            validate_update: validate_config_map_update,
            ..usual
        },
        "secrets" => Strategy {
            defaults: default_secret,
            validate: validate_secret,
            validate_update: validate_secret_update,
            ..usual
        },
        "namespaces" => Strategy {
            defaults: label_namespace,
            prepare_create: prepare_namespace,
            prepare_update: keep_namespace_finalizers,
            name_rule: names::dns_label,
            ..usual
        },
        "nodes" => Strategy {
            defaults: default_node,
            prepare_create: prepare_node,
            keeps_status_on_create: true,
            ..usual
        },
        "serviceaccounts" => Strategy { returns_deleted: true, ..usual },
        "events" => Strategy { create_on_update: true, ttl_seconds: EVENT_TTL_SECONDS, ..usual },
        "endpoints" => Strategy { defaults: default_endpoints, create_on_update: true, ..usual },
        "limitranges" => {
            Strategy { defaults: default_limit_range, create_on_update: true, ..usual }
        }
        "podtemplates" => Strategy {
            defaults: |object| default_pod_template(object::map_mut(object, "template")),
            create_on_update: true,
            generation: true,
            returns_deleted: true,
            ..usual
        },
        "replicationcontrollers" => Strategy {
            defaults: default_replication_controller,
            generation: true,
            orphans_by_default: true,
            ..usual
        },
        "persistentvolumeclaims" | "persistentvolumes" => storage::core_strategy(plural),
        "resourcequotas" => Strategy { returns_deleted: true, ..usual },
        _ => usual,
    }
}

fn data_bytes(map: Option<&Object>) -> usize {
    map.into_iter().flatten().map(|(_, value)| value.as_str().map_or(0, str::len)).sum()
}

fn decoded_bytes(map: Option<&Object>) -> usize {
    let decoded = |value: &Value| {
        let text = value.as_str().unwrap_or("");
        let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
        (text.len() / 4 * 3).saturating_sub(padding)
    };
    map.into_iter().flatten().map(|(_, value)| decoded(value)).sum()
}

fn validate_keys(map: Option<&Object>, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, _) in map.into_iter().flatten() {
        for why in names::config_key(key) {
            errors.push(FieldError::invalid(format!("{field}[{key}]"), key.as_str(), why));
        }
    }
    errors
}

fn validate_config_map(object: &Object) -> Vec<FieldError> {
    let (data, binary) = (object::map(object, "data"), object::map(object, "binaryData"));
    let mut errors = validate_keys(data, "data");
    for (key, _) in data.into_iter().flatten() {
        if binary.is_some_and(|binary| binary.contains_key(key)) {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(format!("data[{key}]"), key.as_str(), why));
        }
    }
    errors.extend(validate_keys(binary, "binaryData"));
    if data_bytes(data) + decoded_bytes(binary) > DATA_BYTES {
        errors.push(FieldError::too_long("[]", DATA_BYTES));
    }
    errors
}

fn immutable_fields(new: &Object, old: &Object, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return errors;
    }
    let why = "field is immutable when `immutable` is set";
    if new.get("immutable") != Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields {
        if !object::same(new.get(*field), old.get(*field)) {
            errors.push(FieldError::forbidden(*field, why));
        }
    }
    errors
}

fn validate_config_map_update(new: &Object, old: &Object) -> Vec<FieldError> {
    immutable_fields(new, old, &["data", "binaryData"])
}

fn validate_secret_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = immutable_fields(new, old, &["data"]);
    if !object::same(new.get("type"), old.get("type")) {
        let value = object::text(new, "type");
        errors.push(FieldError::invalid("type", value, "field is immutable"));
    }
    errors
}

/// `stringData` is a way to write `data`.
fn default_secret(object: &mut Object) {
    object::default_text(object, "type", "Opaque");
    if let Some(Value::Object(texts)) = object.remove("stringData") {
        let data = object::map_mut(object, "data");
        for (key, text) in texts {
            let encoded = STANDARD.encode(text.as_str().unwrap_or(""));
            data.insert(key, encoded.into());
        }
    }
    if let Some(Value::Object(data)) = object.get_mut("data") {
        for value in data.values_mut().filter(|value| value.is_null()) {
            *value = "".into();
        }
    }
}

fn validate_secret(object: &Object) -> Vec<FieldError> {
    let data = object::map(object, "data");
    let mut errors = validate_keys(data, "data");
    if decoded_bytes(data) > DATA_BYTES {
        errors.push(FieldError::too_long("data", DATA_BYTES));
    }
    let filled = |key: &str| {
        data.and_then(|data| data.get(key)).and_then(Value::as_str).is_some_and(|v| !v.is_empty())
    };
    let present = |key: &str| data.is_some_and(|data| data.contains_key(key));
    let mut require = |key: &str, fulfilled: bool| {
        if !fulfilled {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match object::text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            if object::text_at(object, &["metadata", "annotations", name]).is_empty() {
                let field = format!("metadata.annotations[{name}]");
                errors.push(FieldError::required(field, ""));
            }
        }
        "kubernetes.io/dockercfg" => require(".dockercfg", present(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            require(".dockerconfigjson", present(".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" if !present("username") && !present("password") => {
            require("username", false);
            require("password", false);
        }
        "kubernetes.io/ssh-auth" => require("ssh-privatekey", filled("ssh-privatekey")),
        "kubernetes.io/tls" => {
            require("tls.crt", present("tls.crt"));
            require("tls.key", present("tls.key"));
        }
        _ => {}
    }
    errors
}

fn label_namespace(object: &mut Object) {
    let name = object::name(object).to_owned();
    if !name.is_empty() {
        let labels = object::map_mut(object::metadata_mut(object), "labels");
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

fn prepare_namespace(object: &mut Object) {
    label_namespace(object);
    let spec = object::map_mut(object, "spec");
    let has_own = object::list(spec, "finalizers").iter().any(|name| name == "kubernetes");
    if !has_own {
        let mut finalizers = object::list(spec, "finalizers").to_vec();
        finalizers.push("kubernetes".into());
        spec.insert("finalizers".to_owned(), finalizers.into());
    }
    object.insert("status".to_owned(), json!({"phase": "Active"}));
}

/// `spec.finalizers` is changed by way of `finalize` alone.
fn keep_namespace_finalizers(new: &mut Object, old: &Object) {
    object::copy_field(old, new, "spec");
    object::copy_field(old, new, "status");
}

fn default_node(object: &mut Object) {
    if let Some(Value::Object(status)) = object.get_mut("status")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        let allocatable = object::map_mut(status, "allocatable");
        for (name, quantity) in capacity.as_object().into_iter().flatten() {
            object::default(allocatable, name, quantity.clone());
        }
    }
    let spec = object::map_mut(object, "spec");
    let first = object::list(spec, "podCIDRs").first().cloned();
    match (object::text(spec, "podCIDR").to_owned(), first) {
        // The old field wins over a list that says otherwise.
        (one, first) if !one.is_empty() && first.as_ref().and_then(Value::as_str) != Some(&one) => {
            spec.insert("podCIDRs".to_owned(), json!([one]));
        }
        (one, Some(first)) if one.is_empty() => {
            spec.insert("podCIDR".to_owned(), first);
        }
        _ => {}
    }
}

/// A new node is not ready until somebody says so (TaintNodesByCondition).
fn prepare_node(object: &mut Object) {
    const KEY: &str = "node.kubernetes.io/not-ready";
    let spec = object::map_mut(object, "spec");
    let mut taints = object::list(spec, "taints").to_vec();
    if !taints.iter().any(|taint| taint.get("key").and_then(Value::as_str) == Some(KEY)) {
        taints.push(json!({"key": KEY, "effect": "NoSchedule"}));
        spec.insert("taints".to_owned(), taints.into());
    }
}

fn default_endpoints(object: &mut Object) {
    let Some(Value::Array(subsets)) = object.get_mut("subsets") else { return };
    for subset in subsets.iter_mut().filter_map(Value::as_object_mut) {
        let Some(Value::Array(ports)) = subset.get_mut("ports") else { continue };
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            object::default_text(port, "protocol", "TCP");
        }
    }
}

/// A container's default limits are its maxima, its default requests its default limits.
fn default_limit_range(object: &mut Object) {
    let spec = object::map_mut(object, "spec");
    let Some(Value::Array(limits)) = spec.get_mut("limits") else { return };
    for limit in limits.iter_mut().filter_map(Value::as_object_mut) {
        if object::text(limit, "type") != "Container" {
            continue;
        }
        for (from, to) in
            [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
        {
            let Some(quantities) = object::map(limit, from).cloned() else { continue };
            let target = object::map_mut(limit, to);
            for (name, quantity) in quantities {
                object::default(target, &name, quantity);
            }
        }
    }
}

fn default_replication_controller(object: &mut Object) {
    let template_labels = object::at(object, &["spec", "template", "metadata", "labels"]).cloned();
    let spec = object::map_mut(object, "spec");
    object::default(spec, "replicas", 1);
    if spec.get("template").is_some_and(Value::is_object) {
        default_pod_template(object::map_mut(spec, "template"));
    }
    if let Some(labels) = template_labels {
        if object::map(spec, "selector").is_none_or(Object::is_empty) {
            spec.insert("selector".to_owned(), labels.clone());
        }
        let metadata = object::metadata_mut(object);
        if object::map(metadata, "labels").is_none_or(Object::is_empty) {
            metadata.insert("labels".to_owned(), labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn secrets() {
        let mut secret = into_object(json!({"stringData": {"a": "x"}, "data": {"b": null}}));
        default_secret(&mut secret);
        assert_eq!(secret["data"], json!({"a": "eA==", "b": ""}));
        assert_eq!(secret["type"], "Opaque");
        for (kind, data, errors) in [
            ("Opaque", json!({}), 0),
            ("Opaque", json!({"bad key": ""}), 1),
            ("kubernetes.io/tls", json!({"tls.crt": ""}), 1),
            ("kubernetes.io/basic-auth", json!({}), 2),
            ("kubernetes.io/ssh-auth", json!({"ssh-privatekey": ""}), 1),
        ] {
            let secret = into_object(json!({"type": kind, "data": data}));
            assert_eq!(validate_secret(&secret).len(), errors, "{kind}");
        }
    }

    #[test]
    fn config_maps_have_a_size() {
        let large = into_object(json!({"data": {"a": "x".repeat(DATA_BYTES + 1)}}));
        assert_eq!(
            validate_config_map(&large)[0].message(),
            "Too long: may not be more than 1048576 bytes"
        );
        let exact = into_object(json!({"data": {"a": "x".repeat(DATA_BYTES)}}));
        assert!(validate_config_map(&exact).is_empty());
    }

    #[test]
    fn immutable_means_it() {
        let old = into_object(json!({"immutable": true, "data": {"a": "1"}}));
        let new = into_object(json!({"data": {"a": "2"}}));
        assert_eq!(validate_config_map_update(&new, &old).len(), 2);
        assert!(validate_config_map_update(&old, &old).is_empty());
        assert!(validate_config_map_update(&old, &new).is_empty());
    }
}
