//! Tables of the core group (pods have a file of their own) and of leases.

use serde_json::Value;

use super::{
    AGE, Cells, Column, Layout, META, NAME, age_cell, age_of_time, column, name_cell, text_or_none,
};
use crate::kube::object::{self, Object};
use crate::kube::resources::selector_text;

pub(super) fn layout(plural: &str) -> Option<Layout> {
    Some(match plural {
        "namespaces" => Layout {
            columns: const { &[NAME, column("Status", "string", 0, "Active or Terminating."), AGE] },
            cells: |object, now| {
                let phase = object::text_at(object, &["status", "phase"]);
                vec![name_cell(object), phase.into(), age_cell(object, now)]
            },
        },
        "configmaps" => Layout {
            columns: const {
                &[
                    NAME,
                    column("Data", "string", 0, "The number of entries.")
                        .of("io.k8s.api.core.v1.ConfigMap", "data"),
                    AGE,
                ]
            },
            cells: |object, now| {
                let count = entries(object, "data") + entries(object, "binaryData");
                vec![name_cell(object), count.into(), age_cell(object, now)]
            },
        },
        "secrets" => Layout {
            columns: const {
                &[
                    NAME,
                    column("Type", "string", 0, "What the data is for.")
                        .of("io.k8s.api.core.v1.Secret", "type"),
                    column("Data", "string", 0, "The number of entries.")
                        .of("io.k8s.api.core.v1.Secret", "data"),
                    AGE,
                ]
            },
            cells: |object, now| {
                let kind = object::text(object, "type");
                let count = entries(object, "data");
                vec![name_cell(object), kind.into(), count.into(), age_cell(object, now)]
            },
        },
        "serviceaccounts" => Layout {
            columns: const {
                &[
                    NAME,
                    column("Secrets", "string", 0, "The number of its secrets.")
                        .of("io.k8s.api.core.v1.ServiceAccount", "secrets"),
                    AGE,
                ]
            },
            cells: |object, now| {
                let count = object::list(object, "secrets").len();
                vec![name_cell(object), count.into(), age_cell(object, now)]
            },
        },
        "services" => Layout { columns: SERVICE, cells: service },
        "nodes" => Layout { columns: NODE, cells: node },
        "events" => Layout { columns: EVENT, cells: event },
        "endpoints" => Layout {
            columns: const {
                &[
                    NAME,
                    column("Endpoints", "string", 0, "Addresses and ports.")
                        .of("io.k8s.api.core.v1.Endpoints", "subsets"),
                    AGE,
                ]
            },
            cells: |object, now| {
                vec![name_cell(object), endpoints(object).into(), age_cell(object, now)]
            },
        },
        _ => return None,
    })
}

pub(super) const LEASES: Layout = Layout {
    columns: const { &[NAME, column("Holder", "string", 0, "Who holds the lease."), AGE] },
    cells: |object, now| {
        let holder = object::text_at(object, &["spec", "holderIdentity"]);
        vec![name_cell(object), holder.into(), age_cell(object, now)]
    },
};

fn entries(object: &Object, field: &str) -> usize {
    object::map(object, field).map_or(0, Object::len)
}

const SERVICE: &[Column] = &[
    NAME,
    column("Type", "string", 0, "How the service is reached.")
        .of("io.k8s.api.core.v1.ServiceSpec", "type"),
    column("Cluster-IP", "string", 0, "Its address in the cluster.")
        .of("io.k8s.api.core.v1.ServiceSpec", "clusterIP"),
    column("External-IP", "string", 0, "Its addresses outside of the cluster.")
        .of("io.k8s.api.core.v1.ServiceSpec", "externalIPs"),
    column("Port(s)", "string", 0, "The ports that it serves.")
        .of("io.k8s.api.core.v1.ServiceSpec", "ports"),
    AGE,
    column("Selector", "string", 1, "The labels of the pods that it leads to.")
        .of("io.k8s.api.core.v1.ServiceSpec", "selector"),
];

fn service(object: &Object, now: i64) -> Cells {
    let selector = selector_text(object::at(object, &["spec", "selector"]).unwrap_or(&Value::Null));
    let selector = if selector.is_empty() { "<none>".to_owned() } else { selector };
    vec![
        name_cell(object),
        object::text_at(object, &["spec", "type"]).into(),
        text_or_none(object, &["spec", "clusterIP"]),
        external_address(object).into(),
        service_ports(object).into(),
        age_cell(object, now),
        selector.into(),
    ]
}

fn external_address(object: &Object) -> String {
    let own: Vec<&str> = object::list_at(object, &["spec", "externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match object::text_at(object, &["spec", "type"]) {
        "ExternalName" => object::text_at(object, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" => {
            let ingress = object::list_at(object, &["status", "loadBalancer", "ingress"]);
            let address = |one: &Value| {
                let text = |name: &str| one.get(name).and_then(Value::as_str).map(str::to_owned);
                text("ip").or_else(|| text("hostname"))
            };
            let mut all: Vec<String> = ingress.iter().filter_map(address).collect();
            all.extend(own.iter().map(|text| (*text).to_owned()));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if own.is_empty() => "<none>".to_owned(),
        _ => own.join(","),
    }
}

fn service_ports(object: &Object) -> String {
    let ports = object::list_at(object, &["spec", "ports"]);
    if ports.is_empty() {
        return "<none>".to_owned();
    }
    let text = |port: &Value| {
        let number = |name: &str| port.get(name).and_then(Value::as_i64).unwrap_or(0);
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("");
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node_port => format!("{}:{node_port}/{protocol}", number("port")),
        }
    };
    ports.iter().map(text).collect::<Vec<_>>().join(",")
}

const NODE: &[Column] = &[
    NAME,
    column("Status", "string", 0, "Whether the node is ready."),
    column("Roles", "string", 0, "What the node is for."),
    AGE,
    column("Version", "string", 0, "The version of its kubelet.")
        .of("io.k8s.api.core.v1.NodeSystemInfo", "kubeletVersion"),
    column("Internal-IP", "string", 1, "Its address in the cluster.")
        .of("io.k8s.api.core.v1.NodeStatus", "addresses"),
    column("External-IP", "string", 1, "Its address outside of the cluster.")
        .of("io.k8s.api.core.v1.NodeStatus", "addresses"),
    column("OS-Image", "string", 1, "Its operating system.")
        .of("io.k8s.api.core.v1.NodeSystemInfo", "osImage"),
    column("Kernel-Version", "string", 1, "The version of its kernel.")
        .of("io.k8s.api.core.v1.NodeSystemInfo", "kernelVersion"),
    column("Container-Runtime", "string", 1, "What runs its containers.")
        .of("io.k8s.api.core.v1.NodeSystemInfo", "containerRuntimeVersion"),
];

fn node(object: &Object, now: i64) -> Cells {
    let info = |name: &str| match object::text_at(object, &["status", "nodeInfo", name]) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    let address = |kind: &str| {
        let found = object::list_at(object, &["status", "addresses"])
            .iter()
            .find(|one| one.get("type").and_then(Value::as_str) == Some(kind));
        let text = found.and_then(|one| one.get("address")).and_then(Value::as_str);
        Value::from(text.unwrap_or("<none>"))
    };
    vec![
        name_cell(object),
        node_status(object).into(),
        node_roles(object).into(),
        age_cell(object, now),
        object::text_at(object, &["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn node_status(object: &Object) -> String {
    let ready = object::list_at(object, &["status", "conditions"])
        .iter()
        .find(|one| one.get("type").and_then(Value::as_str) == Some("Ready"));
    let status = ready.and_then(|one| one.get("status")).and_then(Value::as_str);
    let mut text = match status {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object::at(object, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn node_roles(object: &Object) -> String {
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
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

const EVENT: &[Column] = &[
    column("Last Seen", "string", 0, "The time since it was last observed.")
        .of("io.k8s.api.core.v1.Event", "lastTimestamp"),
    column("Type", "string", 0, "Normal or Warning.").of("io.k8s.api.core.v1.Event", "type"),
    column("Reason", "string", 0, "Why it happened, in a word.")
        .of("io.k8s.api.core.v1.Event", "reason"),
    column("Object", "string", 0, "What it is about.")
        .of("io.k8s.api.core.v1.Event", "involvedObject"),
    column("Subobject", "string", 1, "The part of the object that it is about.")
        .of("io.k8s.api.core.v1.ObjectReference", "fieldPath"),
    column("Source", "string", 1, "Who reports it.").of("io.k8s.api.core.v1.Event", "source"),
    column("Message", "string", 0, "What happened, in a sentence.")
        .of("io.k8s.api.core.v1.Event", "message"),
    column("First Seen", "string", 1, "The time since it was first observed.")
        .of("io.k8s.api.core.v1.Event", "firstTimestamp"),
    column("Count", "string", 1, "How often it was observed.")
        .of("io.k8s.api.core.v1.Event", "count"),
    column("Name", "string", 1, "The event's own name.").of(META, "name"),
];

fn event(object: &Object, now: i64) -> Cells {
    let text = |names: [&str; 2]| match object::text(object, names[0]) {
        "" => object::text(object, names[1]),
        text => text,
    };
    let event_time = object::text(object, "eventTime");
    let first = match text(["firstTimestamp", "deprecatedFirstTimestamp"]) {
        "" => event_time,
        time => time,
    };
    let series = object::text_at(object, &["series", "lastObservedTime"]);
    let last = match text(["lastTimestamp", "deprecatedLastTimestamp"]) {
        _ if !series.is_empty() => series,
        "" => first,
        time => time,
    };
    let involved =
        object::map(object, "involvedObject").or_else(|| object::map(object, "regarding"));
    let empty = Object::new();
    let involved = involved.unwrap_or(&empty);
    let target = match object::text(involved, "name") {
        "" => object::text(involved, "kind").to_lowercase(),
        name => format!("{}/{name}", object::text(involved, "kind").to_lowercase()),
    };
    let count = match object::integer_at(object, &["series", "count"]) {
        0 => object::integer_at(object, &["count"])
            .max(object::integer_at(object, &["deprecatedCount"]))
            .max(1),
        count => count,
    };
    vec![
        age_of_time(last, now).into(),
        object::text(object, "type").into(),
        object::text(object, "reason").into(),
        target.into(),
        object::text(involved, "fieldPath").into(),
        event_source(object).into(),
        text(["message", "note"]).trim().into(),
        age_of_time(first, now).into(),
        count.into(),
        name_cell(object),
    ]
}

fn event_source(object: &Object) -> String {
    let part = |name: &str| {
        let core = object::text_at(object, &["source", name]);
        if core.is_empty() { object::text_at(object, &["deprecatedSource", name]) } else { core }
    };
    let component = match part("component") {
        "" => match object::text(object, "reportingComponent") {
            "" => object::text(object, "reportingController"),
            text => text,
        },
        text => text,
    };
    let host = match part("host") {
        "" => object::text(object, "reportingInstance"),
        text => text,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

/// At most so many endpoints are listed; the rest is a number.
const LISTED_ENDPOINTS: usize = 3;

fn endpoints(object: &Object) -> String {
    let mut all: Vec<String> = Vec::new();
    for subset in object::list(object, "subsets").iter().filter_map(Value::as_object) {
        let addresses = object::list(subset, "addresses");
        let addresses = addresses.iter().filter_map(|one| one.get("ip").and_then(Value::as_str));
        let ports = object::list(subset, "ports");
        for address in addresses {
            if ports.is_empty() {
                all.push(address.to_owned());
            }
            for port in ports {
                let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
                all.push(format!("{address}:{number}"));
            }
        }
    }
    let surplus = all.len().saturating_sub(LISTED_ENDPOINTS);
    all.truncate(LISTED_ENDPOINTS);
    match (all.is_empty(), surplus) {
        (true, _) => "<none>".to_owned(),
        (false, 0) => all.join(","),
        (false, surplus) => format!("{} + {surplus} more...", all.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn services() {
        let object = into_object(json!({"metadata": {"name": "s"}, "spec": {
            "type": "NodePort", "clusterIP": "10.0.0.5",
            "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            "selector": {"app": "x"},
        }}));
        assert_eq!(
            service(&object, 0),
            [
                json!("s"),
                json!("NodePort"),
                json!("10.0.0.5"),
                json!("<none>"),
                json!("80:30001/TCP,53/UDP"),
                json!("<unknown>"),
                json!("app=x")
            ]
        );
    }

    #[test]
    fn nodes() {
        let object = into_object(json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]},
        }));
        assert_eq!(node_status(&object), "NotReady,SchedulingDisabled");
        assert_eq!(node_roles(&object), "a,worker");
    }

    #[test]
    fn many_endpoints_are_counted() {
        let addresses: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let object =
            into_object(json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}));
        assert_eq!(endpoints(&object), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    }
}
