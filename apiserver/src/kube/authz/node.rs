//! What kubelets may do: their own node, and what the pods on it need.

use serde_json::Value;

use super::Attributes;
use crate::kube::authn::User;
use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::request::field_selector::FieldSelector;
use crate::kube::status::ApiError;

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const READS: [&str; 3] = ["get", "list", "watch"];

/// The node that a user is; none for everybody else.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(NODE_PREFIX).filter(|_| user.is_in(NODES_GROUP))
}

/// Whether a node may do something; an error tells why not, an empty text that nothing is known of
/// it here.
pub async fn authorize(
    registry: &Registry,
    node: &str,
    asked: &Attributes<'_>,
    fields: &FieldSelector,
) -> Result<(), String> {
    let reads = READS.contains(&asked.verb) && asked.subresource.is_empty();
    let refuse = |why: &str| Err(why.to_owned());
    match (asked.group, asked.resource) {
        ("", "secrets" | "configmaps") if !reads => refuse("can only read resources of this type"),
        ("", "secrets" | "configmaps") if asked.name.is_empty() => refuse("No Object name found"),
        ("", "persistentvolumeclaims" | "persistentvolumes")
            if asked.verb == "get" && asked.subresource.is_empty() =>
        {
            related(registry, node, asked).await
        }
        ("", "secrets" | "configmaps") => related(registry, node, asked).await,
        ("", "serviceaccounts") if asked.subresource == "token" => match asked.verb {
            "create" => related(registry, node, asked).await,
            _ => refuse("can only create tokens for service accounts"),
        },
        ("", "nodes") if reads => {
            if asked.name == node {
                Ok(())
            } else if asked.name.is_empty() {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            } else {
                Err(format!("node '{node}' cannot read '{}', only its own Node object", asked.name))
            }
        }
        ("", "pods") if reads => match asked.verb {
            "get" => related(registry, node, asked).await,
            _ if fields.exact("spec.nodeName") == Some(node) => Ok(()),
            _ => refuse("can only list/watch pods with spec.nodeName field selector"),
        },
        ("coordination.k8s.io", "leases") if asked.namespace != LEASE_NAMESPACE => {
            Err(format!("can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"))
        }
        ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes") => {
            let is_new = asked.verb == "create";
            let verbs = ["create", "delete", "get", "patch", "update"];
            if !verbs.contains(&asked.verb) || !asked.subresource.is_empty() {
                refuse("can only get, create, update, patch, or delete a node's own object")
            } else if !is_new && asked.name != node {
                refuse("can only access node lease with the same name as the requesting node")
            } else {
                Ok(())
            }
        }
        _ => by_role(registry, asked),
    }
}

/// Everything else is what the role for nodes says.
fn by_role(registry: &Registry, asked: &Attributes<'_>) -> Result<(), String> {
    let rules = registry.policy.rules_of_role("ClusterRole", "", "system:node");
    match rules.unwrap_or_default().iter().any(|rule| rule.allows(asked)) {
        true => Ok(()),
        false => Err(String::new()),
    }
}

/// Whether a pod on the node has to do with the object.
async fn related(registry: &Registry, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    match is_related(registry, node, asked).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("no relationship found between node '{node}' and this object")),
        Err(error) => Err(error.status().message.clone()),
    }
}

async fn is_related(
    registry: &Registry,
    node: &str,
    asked: &Attributes<'_>,
) -> Result<bool, ApiError> {
    if asked.resource != "persistentvolumes" {
        return has_pod(registry, node, asked.namespace, asked.resource, asked.name).await;
    }
    let Some(entry) = registry.catalog.entry("", "v1", "persistentvolumes") else {
        return Ok(false);
    };
    let target = Target {
        entry: entry.clone(),
        namespace: String::new(),
        name: asked.name.to_owned(),
        subresource: String::new(),
    };
    let Some((volume, _)) = registry.find(&target).await? else { return Ok(false) };
    let claim = |field: &str| object::text_at(&volume, &["spec", "claimRef", field]);
    let (namespace, name) = (claim("namespace"), claim("name"));
    has_pod(registry, node, namespace, "persistentvolumeclaims", name).await
}

async fn has_pod(
    registry: &Registry,
    node: &str,
    namespace: &str,
    resource: &str,
    name: &str,
) -> Result<bool, ApiError> {
    let Some(entry) = registry.catalog.entry("", "v1", "pods") else { return Ok(false) };
    if namespace.is_empty() || name.is_empty() {
        return Ok(false);
    }
    let directory = entry.directory(namespace);
    let directory = directory.as_bytes();
    let page = registry.storage.range(directory, directory, 0, 0).await.map_err(storage_error)?;
    for stored in &page.items {
        let pod = registry.decode(entry, stored)?;
        let is_here = object::text_at(&pod, &["spec", "nodeName"]) == node;
        if is_here && uses(&pod, resource, name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a pod is, or names, this object of its namespace.
fn uses(pod: &Object, resource: &str, name: &str) -> bool {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    match resource {
        "pods" => object::name(pod) == name,
        "serviceaccounts" => object::text_at(pod, &["spec", "serviceAccountName"]) == name,
        "secrets" => {
            let places =
                ["secret", "secretRef", "secretKeyRef", "imagePullSecrets", "nodePublishSecretRef"];
            names(spec, &places, name)
        }
        "configmaps" => names(spec, &["configMap", "configMapRef", "configMapKeyRef"], name),
        "persistentvolumeclaims" => {
            let volumes = object::list_at(pod, &["spec", "volumes"]);
            volumes.iter().any(|volume| {
                let ephemeral = volume.get("ephemeral").is_some_and(Value::is_object);
                let own = volume["name"].as_str().unwrap_or("");
                volume["persistentVolumeClaim"]["claimName"] == name
                    || (ephemeral && format!("{}-{own}", object::name(pod)) == name)
            })
        }
        _ => false,
    }
}

/// Whether a reference in one of these fields, anywhere in a value, has the name.
fn names(value: &Value, fields: &[&str], name: &str) -> bool {
    let is_it = |reference: &Value| {
        ["name", "secretName"].iter().any(|field| reference.get(*field).is_some_and(|n| n == name))
    };
    match value {
        Value::Object(members) => members.iter().any(|(field, value)| {
            let refers = fields.contains(&field.as_str())
                && match value {
                    Value::Array(list) => list.iter().any(is_it),
                    one => is_it(one),
                };
            refers || names(value, fields, name)
        }),
        Value::Array(list) => list.iter().any(|value| names(value, fields, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn what_pods_use() {
        let pod = into_object(json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "s", "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "file"}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "c", "ephemeral": {}},
                {"name": "d", "projected": {"sources": [{"configMap": {"name": "root"}}]}},
            ],
            "containers": [{"name": "secret", "env": [
                {"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
        }}));
        for (resource, name, expected) in [
            ("secrets", "file", true),
            ("secrets", "pull", true),
            ("secrets", "key", true),
            ("secrets", "root", false),
            ("secrets", "secret", false),
            ("configmaps", "root", true),
            ("configmaps", "file", false),
            ("persistentvolumeclaims", "claim", true),
            ("persistentvolumeclaims", "p-c", true),
            ("persistentvolumeclaims", "p-a", false),
            ("serviceaccounts", "s", true),
            ("pods", "p", true),
        ] {
            assert_eq!(uses(&pod, resource, name), expected, "{resource} {name}");
        }
    }

    #[test]
    fn nodes_are_users_of_a_group() {
        let user = |name: &str, group: &str| User {
            name: name.to_owned(),
            groups: vec![group.to_owned()],
            ..User::default()
        };
        assert_eq!(node_of(&user("system:node:a", "system:nodes")), Some("a"));
        assert_eq!(node_of(&user("system:node:a", "dev")), None);
        assert_eq!(node_of(&user("a", "system:nodes")), None);
    }
}
