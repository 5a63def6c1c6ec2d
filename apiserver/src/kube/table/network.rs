//! Cells of services, their endpoints, ingresses and addresses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::some_of;
use crate::kube::object::{self, Object};

/// At most so many addresses, ports or hosts are listed; the rest is a number.
const LISTED: usize = 3;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Texts joined by commas; `<none>` of none.
fn joined(list: &[Value]) -> String {
    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") }
}

pub(super) fn service_address(object: &Object, _now: i64) -> Value {
    let first = object::list_at(object, &["spec", "clusterIPs"]).first().and_then(Value::as_str);
    match first.unwrap_or_else(|| object::text_at(object, &["spec", "clusterIP"])) {
        "" => "<none>".into(),
        address => address.into(),
    }
}

pub(super) fn service_external_address(object: &Object, _now: i64) -> Value {
    let own = object::list_at(object, &["spec", "externalIPs"]);
    match object::text_at(object, &["spec", "type"]) {
        "ExternalName" => object::text_at(object, &["spec", "externalName"]).into(),
        "ClusterIP" | "NodePort" => joined(own).into(),
        "LoadBalancer" => match (load_balancer_addresses(object), own.is_empty()) {
            (balanced, true) if balanced.is_empty() => "<pending>".into(),
            (balanced, true) => balanced.into(),
            (balanced, false) if balanced.is_empty() => joined(own).into(),
            (balanced, false) => format!("{balanced},{}", joined(own)).into(),
        },
        _ => "<unknown>".into(),
    }
}

/// Addresses or host names in `status.loadBalancer`, in order.
pub(super) fn load_balancer_addresses(object: &Object) -> String {
    let ingress = object::list_at(object, &["status", "loadBalancer", "ingress"]);
    let address = |one: &Value| match (text(one, "ip"), text(one, "hostname")) {
        ("", hostname) => hostname.to_owned(),
        (address, _) => address.to_owned(),
    };
    let all: BTreeSet<String> = ingress.iter().map(address).filter(|one| !one.is_empty()).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn service_ports(object: &Object, _now: i64) -> Value {
    let told = object::list_at(object, &["spec", "ports"]).iter().map(|port| {
        let number = |name: &str| port.get(name).and_then(Value::as_i64).unwrap_or(0);
        let protocol = text(port, "protocol");
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node_port => format!("{}:{node_port}/{protocol}", number("port")),
        }
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { "<none>".into() } else { told.join(",").into() }
}

/// `address:port` of all that is ready.
pub(super) fn endpoints(object: &Object, _now: i64) -> Value {
    let subsets = object::list(object, "subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut all: Vec<String> = Vec::new();
    for subset in subsets.iter().filter_map(Value::as_object) {
        let addresses = object::list(subset, "addresses").iter().map(|one| text(one, "ip"));
        let ports = object::list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            let port = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            all.extend(addresses.clone().map(|address| match address.contains(':') {
                true => format!("[{address}]:{port}"),
                false => format!("{address}:{port}"),
            }));
        }
    }
    let count = all.len();
    some_of(all, LISTED, ",", count).into()
}

fn some_or_unset(all: Vec<String>) -> Value {
    let count = all.len();
    match some_of(all, LISTED, ",", count) {
        text if text.is_empty() => "<unset>".into(),
        text => text.into(),
    }
}

pub(super) fn slice_ports(object: &Object, _now: i64) -> Value {
    let told = object::list(object, "ports").iter().map(|port| {
        match (port.get("port").and_then(Value::as_i64), port.get("name").and_then(Value::as_str)) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        }
    });
    some_or_unset(told.collect())
}

pub(super) fn slice_addresses(object: &Object, _now: i64) -> Value {
    let endpoints = object::list(object, "endpoints").iter().filter_map(Value::as_object);
    let addresses = endpoints.flat_map(|one| object::list(one, "addresses"));
    some_or_unset(addresses.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The hosts of the rules; a rule without one is counted among those that are not shown.
pub(super) fn ingress_hosts(object: &Object, _now: i64) -> Value {
    let rules = object::list_at(object, &["spec", "rules"]);
    let mut shown: Vec<String> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == LISTED;
        let host = text(rule, "host");
        if !more && !host.is_empty() {
            shown.push(host.to_owned());
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".into(),
        (false, false) => shown.join(",").into(),
        (false, true) => some_of(shown, LISTED, ",", rules.len()).into(),
    }
}

pub(super) fn ingress_ports(object: &Object, _now: i64) -> Value {
    match object::list_at(object, &["spec", "tls"]).is_empty() {
        true => "80".into(),
        false => "80, 443".into(),
    }
}

pub(super) fn ingress_class_parameters(object: &Object, _now: i64) -> Value {
    let parameters = object::at(object, &["spec", "parameters"]).and_then(Value::as_object);
    let Some(parameters) = parameters else { return "<none>".into() };
    let part = |name: &str| object::text(parameters, name);
    match parameters.get("apiGroup").and_then(Value::as_str) {
        Some(group) => format!("{}.{group}/{}", part("kind"), part("name")).into(),
        None => format!("{}/{}", part("kind"), part("name")).into(),
    }
}

/// `resource.group/namespace/name` of what has an address.
pub(super) fn address_parent(object: &Object, _now: i64) -> Value {
    let parent = object::at(object, &["spec", "parentRef"]).and_then(Value::as_object);
    let Some(parent) = parent else { return "<none>".into() };
    let part = |name: &str| object::text(parent, name);
    let mut told = part("resource").to_lowercase();
    for (separator, name) in [('.', "group"), ('/', "namespace")] {
        if !part(name).is_empty() {
            told.push(separator);
            told.push_str(&part(name).to_lowercase());
        }
    }
    format!("{told}/{}", part("name")).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn services() {
        let object = into_object(json!({"spec": {
            "type": "NodePort", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"],
            "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        }}));
        assert_eq!(service_address(&object, 0), "10.0.0.5");
        assert_eq!(service_ports(&object, 0), "80:30001/TCP,53/UDP");
        assert_eq!(service_ports(&Object::new(), 0), "<none>");
    }

    #[test]
    fn external_addresses() {
        let status = json!({"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "192.0.2.1"}]}});
        for (spec, status, expected) in [
            (json!({"type": "ExternalName", "externalName": "e"}), json!({}), "e"),
            (json!({"type": "ClusterIP"}), json!({}), "<none>"),
            (json!({"type": "NodePort", "externalIPs": ["a", "b"]}), json!({}), "a,b"),
            (json!({"type": "LoadBalancer"}), json!({}), "<pending>"),
            (json!({"type": "LoadBalancer"}), status.clone(), "192.0.2.1,h"),
            (json!({"type": "LoadBalancer", "externalIPs": ["a"]}), status, "192.0.2.1,h,a"),
            (json!({}), json!({}), "<unknown>"),
        ] {
            let object = into_object(json!({"spec": spec, "status": status}));
            assert_eq!(service_external_address(&object, 0), expected);
        }
    }

    #[test]
    fn many_endpoints_are_counted() {
        let addresses: Vec<Value> = (1..=3).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let subset = json!({"addresses": addresses, "ports": [{"port": 80}, {"port": 81}]});
        let object = into_object(json!({"subsets": [subset]}));
        assert_eq!(endpoints(&object, 0), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 3 more...");
        let object = into_object(
            json!({"subsets": [{"addresses": [{"ip": "::1"}], "ports": [{"port": 1}]}]}),
        );
        assert_eq!(endpoints(&object, 0), "[::1]:1");
        assert_eq!(endpoints(&into_object(json!({"subsets": [{}]})), 0), "");
        assert_eq!(endpoints(&Object::new(), 0), "<none>");
    }

    #[test]
    fn slices() {
        let object = into_object(json!({
            "ports": [{"port": 1}, {"name": "n"}, {}, {"port": 4}], "endpoints": [{"addresses": ["a", "b"]}],
        }));
        assert_eq!(slice_ports(&object, 0), "1,n,* + 1 more...");
        assert_eq!(slice_addresses(&object, 0), "a,b");
        assert_eq!(slice_addresses(&Object::new(), 0), "<unset>");
    }

    #[test]
    fn hosts() {
        let rules = |hosts: &[&str]| {
            let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
            into_object(json!({"spec": {"rules": rules}}))
        };
        for (hosts, expected) in [
            (&[][..], "*"),
            (&["a", "", "b"], "a,b"),
            (&["a", "b", "c", "d", ""], "a,b,c + 2 more..."),
        ] {
            assert_eq!(ingress_hosts(&rules(hosts), 0), expected);
        }
    }

    #[test]
    fn references() {
        let parent = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
        let object = into_object(json!({"spec": {"parentRef": parent}}));
        assert_eq!(address_parent(&object, 0), "services/default/kubernetes");
        let parameters = json!({"apiGroup": "k8s.example.com", "kind": "P", "name": "x"});
        let object = into_object(json!({"spec": {"parameters": parameters}}));
        assert_eq!(ingress_class_parameters(&object, 0), "P.k8s.example.com/x");
        assert_eq!(ingress_class_parameters(&Object::new(), 0), "<none>");
    }
}
