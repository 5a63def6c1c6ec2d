//! How much of what a quota counts one object uses.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kube::object::{self, Object};
use crate::kube::schema::Resource;
use crate::kube::schema::quantity::Quantity;

/// Amounts by the names that quotas have for them.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// What an object uses.
pub(super) fn usage(row: &Resource, object: &Object) -> Amounts {
    let mut amounts = Amounts::new();
    let counted = match row.group.as_str() {
        "" => format!("count/{}", row.plural),
        group => format!("count/{}.{group}", row.plural),
    };
    add(&mut amounts, &counted, one());
    if !row.group.is_empty() {
        return amounts;
    }
    match row.plural.as_str() {
        "pods" => pod(object, &mut amounts),
        "services" => service(object, &mut amounts),
        "persistentvolumeclaims" => claim(object, &mut amounts),
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            add(&mut amounts, &row.plural, one());
        }
        _ => {}
    }
    amounts
}

fn one() -> Quantity {
    whole(1)
}

fn whole(number: usize) -> Quantity {
    Quantity::parse(&number.to_string()).expect("a whole number is a quantity")
}

/// Adds an amount to what is there.
pub(super) fn add(amounts: &mut Amounts, name: &str, amount: Quantity) {
    let sum = match amounts.get(name) {
        Some(own) => own.plus(&amount),
        None => amount,
    };
    amounts.insert(name.to_owned(), sum);
}

/// Whether a pod has ended: then it uses nothing any more.
fn has_ended(pod: &Object) -> bool {
    matches!(object::text_at(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

fn pod(pod: &Object, amounts: &mut Amounts) {
    if has_ended(pod) {
        return;
    }
    add(amounts, "pods", one());
    for kind in ["requests", "limits"] {
        let mut sums = Amounts::new();
        for container in object::list_at(pod, &["spec", "containers"]) {
            for (name, amount) in amounts_of(container, kind) {
                add(&mut sums, &name, amount);
            }
        }
        // One after the other: what matters is the one that needs most.
        for container in object::list_at(pod, &["spec", "initContainers"]) {
            for (name, amount) in amounts_of(container, kind) {
                let is_more = sums.get(&name).is_none_or(|sum| sum.compare(&amount).is_lt());
                if is_more {
                    sums.insert(name, amount);
                }
            }
        }
        for (name, amount) in sums {
            let short = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
            if kind == "requests" && short {
                add(amounts, &name, amount.clone());
            }
            add(amounts, &format!("{kind}.{name}"), amount);
        }
    }
}

fn amounts_of(container: &Value, kind: &str) -> Vec<(String, Quantity)> {
    let amounts = container["resources"][kind].as_object();
    let read = |(name, amount): (&String, &Value)| {
        Some((name.clone(), Quantity::parse(amount.as_str()?).ok()?))
    };
    amounts.into_iter().flatten().filter_map(read).collect()
}

fn service(service: &Object, amounts: &mut Amounts) {
    add(amounts, "services", one());
    let kind = object::text_at(service, &["spec", "type"]);
    let ports = object::list_at(service, &["spec", "ports"]);
    let allocates = object::at(service, &["spec", "allocateLoadBalancerNodePorts"]);
    let node_ports = match kind {
        "NodePort" => ports.len(),
        "LoadBalancer" if allocates != Some(&Value::Bool(false)) => ports.len(),
        "LoadBalancer" => ports.iter().filter(|port| port.get("nodePort").is_some()).count(),
        _ => 0,
    };
    if node_ports > 0 {
        add(amounts, "services.nodeports", whole(node_ports));
    }
    if kind == "LoadBalancer" {
        add(amounts, "services.loadbalancers", one());
    }
}

fn claim(claim: &Object, amounts: &mut Amounts) {
    add(amounts, "persistentvolumeclaims", one());
    let class = object::text_at(claim, &["spec", "storageClassName"]);
    let of_class = |name: &str| format!("{class}.storageclass.storage.k8s.io/{name}");
    if !class.is_empty() {
        add(amounts, &of_class("persistentvolumeclaims"), one());
    }
    let storage = object::text_at(claim, &["spec", "resources", "requests", "storage"]);
    if let Ok(storage) = Quantity::parse(storage) {
        if !class.is_empty() {
            add(amounts, &of_class("requests.storage"), storage.clone());
        }
        add(amounts, "requests.storage", storage);
    }
}

/// Whether a quota with these scopes counts a pod.
pub(super) fn is_in_scope(quota: &Object, pod: &Object) -> bool {
    let is_best_effort = crate::kube::resources::quality_of_service(pod) == "BestEffort";
    let ends = object::at(pod, &["spec", "activeDeadlineSeconds"]).is_some();
    let class = object::text_at(pod, &["spec", "priorityClassName"]);
    let has = |scope: &str| match scope {
        "BestEffort" => is_best_effort,
        "NotBestEffort" => !is_best_effort,
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "PriorityClass" => !class.is_empty(),
        _ => true,
    };
    let scopes = object::list_at(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let selected = object::list_at(quota, &["spec", "scopeSelector", "matchExpressions"]);
    let mut scopes = scopes;
    scopes.all(has)
        && selected.iter().all(|expression| {
            let scope = expression["scopeName"].as_str().unwrap_or("");
            let values = expression["values"].as_array();
            let listed = values.is_some_and(|values| values.iter().any(|value| value == class));
            match (scope, expression["operator"].as_str().unwrap_or("")) {
                ("PriorityClass", "In") => listed,
                ("PriorityClass", "NotIn") => !listed,
                (scope, "DoesNotExist") => !has(scope),
                (scope, _) => has(scope),
            }
        })
}

/// Whether a quota counts pods of some kinds only.
pub(super) fn has_scopes(quota: &Object) -> bool {
    !object::list_at(quota, &["spec", "scopes"]).is_empty()
        || !object::list_at(quota, &["spec", "scopeSelector", "matchExpressions"]).is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    fn texts(amounts: Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn what_objects_use() {
        let container =
            |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}});
        let mut amounts = Amounts::new();
        let object = json!({"spec": {"containers": [container("100m"), container("1")],
            "initContainers": [container("3")]}});
        pod(&into_object(object), &mut amounts);
        assert_eq!(texts(amounts), ["cpu=3", "limits.cpu=4", "pods=1", "requests.cpu=3"]);
        let mut amounts = Amounts::new();
        let object = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        service(&into_object(object), &mut amounts);
        let expected = ["services=1", "services.loadbalancers=1", "services.nodeports=2"];
        assert_eq!(texts(amounts), expected);
        let mut amounts = Amounts::new();
        pod(&into_object(json!({"status": {"phase": "Failed"}})), &mut amounts);
        assert!(amounts.is_empty());
    }

    #[test]
    fn scopes() {
        let quota = |scope: &str| into_object(json!({"spec": {"scopes": [scope]}}));
        let plain = into_object(json!({"spec": {"containers": [{}]}}));
        for (scope, expected) in
            [("BestEffort", true), ("NotBestEffort", false), ("NotTerminating", true)]
        {
            assert_eq!(is_in_scope(&quota(scope), &plain), expected, "{scope}");
        }
    }
}
