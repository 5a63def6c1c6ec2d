//! NodeRestriction: a kubelet writes its own node and the pods on it, and of them not everything.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kube::authn::User;
use crate::kube::authz::node::node_of;
use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target};
use crate::kube::status::ApiError;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of Kubernetes that a kubelet may set on its node.
const OWN_LABELS: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains below which a kubelet may set any label.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// A new object of a kubelet, or a changed one with the old one.
pub(super) fn write(
    target: &Target,
    user: &User,
    new: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let Some(node) = node_of(user) else { return Ok(()) };
    let row = &target.entry.resource;
    let name = if target.name.is_empty() { object::name(new) } else { target.name.as_str() };
    let problem = match (row.group.as_str(), row.plural.as_str(), old) {
        ("", "nodes", old) => own_node(node, name, new, old, &target.subresource),
        ("", "pods", None) => mirror_pod(node, new),
        ("", "pods", Some(old)) => pod_status(node, new, old, &target.subresource),
        ("coordination.k8s.io", "leases", _) if name != node => {
            Some("can only access node lease with the same name as the requesting node".to_owned())
        }
        ("storage.k8s.io", "csinodes", _) if name != node => {
            Some("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => None,
    };
    match problem {
        Some(why) => Err(ApiError::forbidden(target.resource(), name, &why)),
        None => Ok(()),
    }
}

fn own_node(
    node: &str,
    name: &str,
    new: &Object,
    old: Option<&Object>,
    subresource: &str,
) -> Option<String> {
    if name != node {
        return Some(format!("node \"{node}\" is not allowed to modify node \"{name}\""));
    }
    let empty = Object::new();
    let before = old.and_then(object::labels).unwrap_or(&empty);
    let now = object::labels(new).unwrap_or(&empty);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    let forbidden: Vec<&str> =
        changed.map(String::as_str).filter(|key| !is_own_label(key)).collect();
    if !forbidden.is_empty() {
        let what = if old.is_some() { "modify" } else { "set" };
        return Some(format!("is not allowed to {what} labels: {}", forbidden.join(", ")));
    }
    let old = old.filter(|_| subresource.is_empty())?;
    let differs = |path: &[&str]| !object::same(object::at(new, path), object::at(old, path));
    if differs(&["spec", "taints"]) {
        return Some(format!("node \"{node}\" is not allowed to modify taints"));
    }
    if differs(&["metadata", "ownerReferences"]) {
        return Some(format!("node \"{node}\" is not allowed to modify ownerReferences"));
    }
    None
}

fn is_own_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_below = |root: &str| domain == root || domain.ends_with(&format!(".{root}"));
    let is_reserved = is_below("node-restriction.kubernetes.io");
    let is_of_kubernetes = is_below("kubernetes.io") || is_below("k8s.io");
    !is_reserved
        && (!is_of_kubernetes
            || OWN_LABELS.contains(&key)
            || OWN_DOMAINS.iter().any(|root| is_below(root)))
}

/// A kubelet creates pods only to show those that it runs from files.
fn mirror_pod(node: &str, pod: &Object) -> Option<String> {
    if object::at(pod, &["metadata", "annotations", MIRROR]).is_none() {
        return Some(format!(
            "pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"
        ));
    }
    if object::text_at(pod, &["spec", "nodeName"]) != node {
        return Some(format!(
            "node \"{node}\" can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = object::list_at(pod, &["metadata", "ownerReferences"]);
    let is_own = |owner: &Value| {
        owner["kind"] == "Node" && owner["apiVersion"] == "v1" && owner["name"] == node
    };
    match owners {
        [owner] if is_own(owner) && owner["controller"] != true => Some(format!(
            "node \"{node}\" can only create pods with a controller owner reference set to itself"
        )),
        [owner] if is_own(owner) => None,
        _ => Some(format!(
            "node \"{node}\" can only create pods with an owner reference set to itself"
        )),
    }
}

fn pod_status(node: &str, new: &Object, old: &Object, subresource: &str) -> Option<String> {
    if subresource != "status" {
        return None;
    }
    if object::text_at(old, &["spec", "nodeName"]) != node {
        return Some(format!(
            "node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if !object::same(
        object::at(new, &["metadata", "labels"]),
        object::at(old, &["metadata", "labels"]),
    ) {
        return Some(format!("node \"{node}\" cannot update labels through pod status"));
    }
    None
}

/// The deletion of a pod by a kubelet, `evict` when by an eviction.
pub(super) async fn delete(
    registry: &Registry,
    target: &Target,
    user: &User,
    evicts: bool,
) -> Result<(), ApiError> {
    let row = &target.entry.resource;
    let Some(node) = node_of(user) else { return Ok(()) };
    if !row.group.is_empty() || row.plural != "pods" {
        return Ok(());
    }
    let Some((pod, _)) = registry.find(target).await? else { return Ok(()) };
    if object::text_at(&pod, &["spec", "nodeName"]) == node {
        return Ok(());
    }
    let why = match evicts {
        true => format!("node {node} can only evict pods with spec.nodeName set to itself"),
        false => format!("node \"{node}\" can only delete pods with spec.nodeName set to itself"),
    };
    Err(ApiError::forbidden(target.resource(), &target.name, &why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn labels_that_nodes_may_set() {
        for (key, expected) in [
            ("kubernetes.io/hostname", true),
            ("example.com/ok", true),
            ("plain", true),
            ("kubernetes.io/custom", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("kubelet.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
        ] {
            assert_eq!(is_own_label(key), expected, "{key}");
        }
    }

    #[test]
    fn nodes_change_little_of_themselves() {
        let old = into_object(json!({"metadata": {"name": "n"}, "spec": {}}));
        let tainted =
            into_object(json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a"}]}}));
        assert_eq!(own_node("n", "n", &old, Some(&old), ""), None);
        let why = own_node("n", "n", &tainted, Some(&old), "");
        assert_eq!(why.as_deref(), Some("node \"n\" is not allowed to modify taints"));
        assert!(own_node("n", "m", &old, Some(&old), "").is_some());
        assert!(mirror_pod("n", &tainted).is_some());
    }
}
