//! What is allowed and yet worth a word: warnings about new and changed objects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::rules::place::Place;
use crate::kube::object::{self, Object};
use crate::kube::registry::catalog::Entry;
use crate::kube::schema::quantity::Quantity;

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// The warnings about an object.
pub fn of(entry: &Entry, object: &Object) -> Vec<String> {
    let row = &entry.resource;
    match (row.group.as_str(), row.plural.as_str()) {
        ("", "pods") => pod_spec(&Place::of(object, "spec")),
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => pod_spec(&Place::of(object, "spec").below(&["template", "spec"])),
        ("batch", "cronjobs") => {
            let job = Place::of(object, "spec").below(&["jobTemplate", "spec"]);
            pod_spec(&job.below(&["template", "spec"]))
        }
        ("", "services") => service(object),
        ("", "secrets") => secret(object),
        ("networking.k8s.io", "ingresses") => ingress(object),
        _ => Vec::new(),
    }
}

fn pod_spec(spec: &Place<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.below(&["affinity", kind]);
        let required = affinity.child("requiredDuringSchedulingIgnoredDuringExecution").items();
        let preferred = affinity.child("preferredDuringSchedulingIgnoredDuringExecution").items();
        let preferred = preferred.iter().map(|term| term.child("podAffinityTerm"));
        for term in required.into_iter().chain(preferred) {
            warn_of_no_selector(&term, &mut warnings);
        }
    }
    for constraint in spec.child("topologySpreadConstraints").items() {
        warn_of_no_selector(&constraint, &mut warnings);
    }
    for field in ["initContainers", "containers"] {
        for container in spec.child(field).items() {
            for kind in ["limits", "requests"] {
                warn_of_parts_of_bytes(&container.child("resources").child(kind), &mut warnings);
            }
        }
    }
    warnings
}

fn warn_of_no_selector(term: &Place<'_>, warnings: &mut Vec<String>) {
    let selector = term.child("labelSelector");
    if !selector.is_set() {
        warnings.push(format!("{}: {NO_SELECTOR}", selector.path()));
    }
}

fn warn_of_parts_of_bytes(amounts: &Place<'_>, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let text = amounts.child(name).text();
        let is_whole = Quantity::parse(text).is_ok_and(|quantity| quantity.is_whole());
        if !text.is_empty() && !is_whole {
            let place = format!("{}[{name}]", amounts.path());
            warnings.push(format!(
                "{place}: fractional byte value \"{text}\" is invalid, must be an integer"
            ));
        }
    }
}

fn service(service: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let text = |name: &str| object::text_at(service, &["spec", name]);
    if text("clusterIP") == "None" {
        if !text("loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if text("sessionAffinity") == "ClientIP" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    if !object::list_at(service, &["spec", "externalIPs"]).is_empty() {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    warnings
}

/// A certificate and its key should be ones, and belong together.
fn secret(secret: &Object) -> Vec<String> {
    if object::text(secret, "type") != "kubernetes.io/tls" {
        return Vec::new();
    }
    let decoded =
        |name: &str| STANDARD.decode(object::text_at(secret, &["data", name])).unwrap_or_default();
    let has_pem = |bytes: &[u8]| bytes.windows(11).any(|window| window == b"-----BEGIN ");
    let why = match (has_pem(&decoded("tls.crt")), has_pem(&decoded("tls.key"))) {
        (false, _) => "tls: failed to find any PEM data in certificate input",
        (true, false) => "tls: failed to find any PEM data in key input",
        (true, true) => return Vec::new(),
    };
    vec![why.to_owned()]
}

fn ingress(ingress: &Object) -> Vec<String> {
    const OLD: &str = "kubernetes.io/ingress.class";
    let annotation = object::at(ingress, &["metadata", "annotations", OLD]);
    match annotation {
        Some(Value::String(_)) => vec![format!(
            "annotation \"{OLD}\" is deprecated, please use 'spec.ingressClassName' instead"
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn services_and_secrets() {
        let headless =
            into_object(json!({"spec": {"clusterIP": "None", "sessionAffinity": "ClientIP"}}));
        assert_eq!(service(&headless), ["spec.SessionAffinity is ignored for headless services"]);
        let tls = into_object(json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}));
        assert_eq!(secret(&tls), ["tls: failed to find any PEM data in certificate input"]);
    }

    #[test]
    fn pods() {
        let spec = json!({
            "containers": [{"resources": {"limits": {"memory": "1500m", "cpu": "1500m"}}}],
            "topologySpreadConstraints": [{"labelSelector": {}}, {}],
        });
        assert_eq!(
            pod_spec(&Place::at("spec", &spec)),
            [
                "spec.topologySpreadConstraints[1].labelSelector: a null labelSelector results in matching no pod",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            ]
        );
    }
}
