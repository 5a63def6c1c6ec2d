//! Rules of services.

use super::place::{Errors, Place};
use super::{addresses, common, containers, selectors};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::{FieldError, quoted};

const KINDS: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const MOST_AFFINITY_SECONDS: i64 = 86_400;
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub fn service(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let kind = spec.child("type").text();
    let headless = spec.child("clusterIP").text() == "None";
    let ports = spec.child("ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(ports.required(""));
    }
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        let field = format!("{}[0]", spec.child("clusterIPs").path());
        let why = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid(field, "None", why));
    }
    if kind == "ExternalName" {
        external_name(&spec, &mut errors);
    }
    port_rules(&ports, &mut errors);
    selectors::labels(&spec.child("selector"), &mut errors);
    affinity(&spec, &mut errors);
    cluster_addresses(&spec, &mut errors);
    for address in spec.child("externalIPs").items() {
        let before = errors.len();
        addresses::lenient_address(&address, &mut errors);
        if errors.len() == before {
            addresses::reachable(&address, &mut errors);
        }
    }
    common::one_of(&spec.child("type"), &KINDS, &mut errors);
    repeated_ports(&ports, kind, &mut errors);
    load_balancer(object, &spec, &mut errors);
    traffic(&spec, &mut errors);
    errors
}

fn external_name(spec: &Place<'_>, errors: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.child(field).is_empty() {
            let why = "may not be set for ExternalName services";
            errors.push(spec.child(field).forbidden(why));
        }
    }
    let name = spec.child("externalName");
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    if text.is_empty() {
        errors.push(name.required(""));
    } else {
        let why = names::dns_subdomain(text);
        errors.extend(why.into_iter().map(|why| name.invalid_as(text, why)));
    }
}

fn port_rules(ports: &Place<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let name = port.child("name");
        if ports.len() > 1 && name.is_empty() {
            errors.push(name.required(""));
        } else if !name.is_empty() {
            common::named(&name, names::dns_label, errors);
            if seen.contains(&name.text()) {
                errors.push(name.duplicate());
            }
            seen.push(name.text());
        }
        common::port_number(&port.child("port"), errors);
        common::one_of(&port.child("protocol"), &containers::PROTOCOLS, errors);
        if port.child("targetPort").is_set() {
            common::port_number_or_name(&port.child("targetPort"), errors);
        }
        let protocol = port.child("appProtocol");
        if protocol.is_set() {
            common::named(&protocol, names::qualified_name, errors);
        }
    }
}

fn repeated_ports(ports: &Place<'_>, kind: &str, errors: &mut Errors) {
    let items = ports.items();
    let node_port = |port: &Place<'_>| port.child("nodePort").number_or_zero();
    if kind == "ClusterIP" {
        for port in items.iter().filter(|port| node_port(port) != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(port.child("nodePort").forbidden(why));
        }
    }
    let protocol = |port: &Place<'_>| port.child("protocol").text().to_owned();
    for (index, port) in items.iter().enumerate() {
        let same = |other: &Place<'_>| {
            node_port(other) == node_port(port) && protocol(other) == protocol(port)
        };
        if node_port(port) != 0 && items[..index].iter().any(same) {
            errors.push(port.child("nodePort").duplicate());
        }
    }
    for (index, port) in items.iter().enumerate() {
        let number = port.child("port").number_or_zero();
        let same = |other: &Place<'_>| {
            other.child("port").number_or_zero() == number && protocol(other) == protocol(port)
        };
        if items[..index].iter().any(same) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}",
                quoted(&protocol(port))
            );
            errors.push(FieldError::duplicate_raw(port.path(), &shown, ""));
        }
    }
}

fn affinity(spec: &Place<'_>, errors: &mut Errors) {
    let kind = spec.child("sessionAffinity");
    common::one_of(&kind, &["ClientIP", "None"], errors);
    let seconds = spec.below(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
    if kind.text() == "ClientIP" {
        let allowed = 1..=MOST_AFFINITY_SECONDS;
        if !seconds.is_set() {
            errors.push(seconds.required("when session affinity type is ClientIP"));
        } else if !allowed.contains(&seconds.number_or_zero()) {
            let why = format!("must be greater than 0 and less than {MOST_AFFINITY_SECONDS}");
            errors.push(seconds.invalid(why));
        }
    }
}

fn cluster_addresses(spec: &Place<'_>, errors: &mut Errors) {
    if spec.child("type").text() == "ExternalName" {
        return;
    }
    let (one, all) = (spec.child("clusterIP"), spec.child("clusterIPs"));
    let listed = all.texts();
    if one.is_empty() && !listed.is_empty() {
        errors.push(all.invalid("must be empty when `clusterIP` is not specified"));
    } else if !one.is_empty() && listed.first().is_some_and(|first| *first != one.text()) {
        errors.push(all.invalid("first value must match `clusterIP`"));
    }
    let families = spec.child("ipFamilies");
    for (index, family) in families.items().iter().enumerate() {
        common::listed(family, &FAMILIES, errors);
        if families.texts()[..index].contains(&family.text()) {
            errors.push(family.duplicate());
        }
    }
    common::one_of_if_set(&spec.child("ipFamilyPolicy"), &FAMILY_POLICIES, errors);
    let before = errors.len();
    let shown = if listed.is_empty() && !one.is_empty() {
        vec![one.called(format!("{}[0]", all.path()))]
    } else {
        all.items()
    };
    for (index, address) in shown.iter().enumerate() {
        match address.text() {
            "None" if index == 0 && shown.len() > 1 => {
                errors.push(all.invalid("'None' must be the first and only value"));
            }
            "None" if index == 0 => {}
            _ => addresses::lenient_address(address, errors),
        }
    }
    if shown.len() > 2 {
        errors.push(all.invalid("may only hold up to 2 values"));
    }
    if errors.len() > before {
        return;
    }
    let six = |text: &str| text.contains(':');
    if let [first, second] = listed[..]
        && six(first) == six(second)
    {
        errors.push(all.invalid("may specify no more than one IP for each IP family"));
    }
    for (index, (address, family)) in shown.iter().zip(families.texts()).enumerate() {
        let fits = address.text() == "None" || six(address.text()) == (family == "IPv6");
        if !fits && FAMILIES.contains(&family) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(address.invalid(why));
        }
    }
}

fn load_balancer(object: &Object, spec: &Place<'_>, errors: &mut Errors) {
    let balanced = spec.child("type").text() == "LoadBalancer";
    let field = format!("{}.LoadBalancerSourceRanges", spec.path());
    let ranges = spec.child("loadBalancerSourceRanges").called(field);
    let annotation = object::text_at(object, &["metadata", "annotations", SOURCE_RANGES]);
    if !ranges.is_empty() {
        if !balanced {
            errors.push(ranges.forbidden(ONLY_BALANCED));
        }
        for range in ranges.items() {
            let trimmed = range.text().trim().into();
            addresses::lenient_range(&Place::at(range.path(), &trimmed), errors);
        }
    } else if !annotation.is_empty() {
        let field = format!("metadata.annotations[{SOURCE_RANGES}]");
        if !balanced {
            errors.push(FieldError::forbidden(&field, ONLY_BALANCED));
        }
        for range in annotation.trim().split(',').filter(|range| !range.is_empty()) {
            let trimmed = range.trim().into();
            addresses::lenient_range(&Place::at(field.as_str(), &trimmed), errors);
        }
    }
    let allocate = spec.child("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balanced {
        errors.push(allocate.forbidden(ONLY_BALANCED));
    }
    let class = spec.child("loadBalancerClass");
    if class.is_set() && balanced {
        common::named(&class, names::qualified_name, errors);
    } else if class.is_set() {
        errors.push(class.forbidden(ONLY_BALANCED));
    }
}

/// Whether anybody outside of the cluster reaches the service.
fn is_external(spec: &Place<'_>) -> bool {
    let kind = spec.child("type").text();
    matches!(kind, "LoadBalancer" | "NodePort")
        || (kind == "ClusterIP" && !spec.child("externalIPs").is_empty())
}

fn needs_health_check(spec: &Place<'_>) -> bool {
    spec.child("type").text() == "LoadBalancer"
        && spec.child("externalTrafficPolicy").text() == "Local"
}

fn traffic(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.child("externalTrafficPolicy");
    if is_external(spec) {
        common::one_of(&policy, &["Cluster", "Local"], errors);
    } else if !policy.is_empty() {
        errors.push(policy.invalid("may only be set for externally-accessible services"));
    }
    let health = spec.child("healthCheckNodePort");
    if health.number_or_zero() != 0 {
        if needs_health_check(spec) {
            common::port_number(&health, errors);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(health.invalid(why));
        }
    }
    let policy = spec.child("internalTrafficPolicy");
    if !policy.is_set() && spec.child("type").text() != "ExternalName" {
        errors.push(policy.required(""));
    }
    common::one_of_if_set(&policy, &["Cluster", "Local"], errors);
    common::one_of_if_set(&spec.child("trafficDistribution"), &DISTRIBUTIONS, errors);
}

/// A new service has addresses of one family: the cluster has no other.
pub fn new_service(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let policy = spec.child("ipFamilyPolicy");
    let free = spec.child("clusterIP").text() == "None" && spec.child("selector").is_empty();
    let addressed = spec.child("type").text() != "ExternalName";
    if policy.text() == "RequireDualStack" && addressed && !free {
        errors.push(policy.invalid("this cluster is not configured for dual-stack services"));
    }
    errors
}

/// What of a service may not change.
pub fn service_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let kind = |spec: &Place<'_>| spec.child("type").text().to_owned();
    if kind(&now) != "ExternalName" && kind(&before) != "ExternalName" {
        primary(&now, &before, &mut errors);
    }
    let class = now.child("loadBalancerClass");
    let balanced = kind(&now) == "LoadBalancer" && kind(&before) == "LoadBalancer";
    if balanced && class.value() != before.child("loadBalancerClass").value() {
        errors.push(class.invalid("may not change once set"));
    }
    let health = |spec: &Place<'_>| spec.child("healthCheckNodePort").number_or_zero();
    if needs_health_check(&now) && needs_health_check(&before) && health(&now) != health(&before) {
        errors.push(now.child("healthCheckNodePort").forbidden(common::IMMUTABLE));
    }
    errors
}

/// The first address and the first family stay.
fn primary(now: &Place<'_>, before: &Place<'_>, errors: &mut Errors) {
    let first = |spec: &Place<'_>, field: &str| {
        let list = spec.child(field).texts();
        list.first().map_or(String::new(), |text| (*text).to_owned())
    };
    let old = first(before, "clusterIPs");
    if !old.is_empty() && first(now, "clusterIPs") != old {
        let list = now.child("clusterIPs");
        let field = format!("{}[0]", list.path());
        match list.is_empty() {
            true => {
                let why = "primary clusterIP can not be unset";
                errors.push(FieldError::invalid(field, list.value().clone(), why));
            }
            false => {
                let why = "may not change once set";
                errors.push(FieldError::invalid(field, list.value().clone(), why));
            }
        }
    }
    let old = first(before, "ipFamilies");
    if !old.is_empty() && first(now, "ipFamilies") != old {
        let list = now.child("ipFamilies");
        let why = match list.is_empty() {
            true => "primary ipFamily can not be unset",
            false => "may not change once set",
        };
        errors.push(FieldError::invalid(format!("{}[0]", list.path()), list.value().clone(), why));
    }
}

/// The status of a service.
pub fn status(new: &Object) -> Errors {
    let mut errors = Errors::new();
    let ingress = Place::of(new, "status").below(&["loadBalancer", "ingress"]);
    let balanced = object::text_at(new, &["spec", "type"]) == "LoadBalancer";
    if !balanced && !ingress.is_empty() {
        errors.push(ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return errors;
    }
    for point in ingress.items() {
        let (address, mode) = (point.child("ip"), point.child("ipMode"));
        if !address.is_empty() {
            addresses::lenient_address(&address, &mut errors);
        }
        if !mode.is_set() && !address.is_empty() {
            errors.push(mode.required("must be specified when `ip` is set"));
        } else if mode.is_set() && address.is_empty() {
            errors.push(mode.forbidden("may not be specified when `ip` is not set"));
        } else {
            common::one_of_if_set(&mode, &["Proxy", "VIP"], &mut errors);
        }
        host_name(&point.child("hostname"), &mut errors);
    }
    errors
}

/// A host, by name and not by address.
pub fn host_name(place: &Place<'_>, errors: &mut Errors) {
    if place.is_empty() {
        return;
    }
    common::named(place, names::dns_subdomain, errors);
    if addresses::parse_leniently(place.text()).is_some() {
        errors.push(place.invalid("must be a DNS name, not an IP address"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn services_are_checked() {
        let port = |more: Value| {
            let mut port = into_object(json!({"port": 80, "targetPort": 80, "protocol": "TCP"}));
            port.extend(into_object(more));
            Value::from(port)
        };
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"ports": []}), &["spec.ports"]),
            (
                json!({"ports": [port(json!({})), port(json!({}))]}),
                &["spec.ports[0].name", "spec.ports[1].name", "spec.ports[1]"],
            ),
            (json!({"ports": [port(json!({"nodePort": 30000}))]}), &["spec.ports[0].nodePort"]),
            (json!({"clusterIP": "x"}), &["spec.clusterIPs[0]"]),
            (
                json!({"externalIPs": ["0.0.0.0", "x"]}),
                &["spec.externalIPs[0]", "spec.externalIPs[1]", "spec.externalTrafficPolicy"],
            ),
            (json!({"externalTrafficPolicy": "Local"}), &["spec.externalTrafficPolicy"]),
            (json!({"sessionAffinity": "X"}), &["spec.sessionAffinity"]),
            (json!({"loadBalancerClass": "a/b"}), &["spec.loadBalancerClass"]),
            (json!({"type": "ExternalName"}), &["spec.externalName"]),
        ] {
            let mut spec = into_object(json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [port(json!({}))],
            }));
            spec.extend(into_object(more.clone()));
            let errors = service(&into_object(json!({"spec": spec})));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{more}");
        }
    }

    #[test]
    fn the_first_address_stays() {
        let service = |address: &str| {
            into_object(json!({"spec": {"type": "ClusterIP", "clusterIPs": [address]}}))
        };
        assert!(service_change(&service("10.0.0.1"), &service("10.0.0.1")).is_empty());
        let errors = service_change(&service("10.0.0.2"), &service("10.0.0.1"));
        assert_eq!(errors[0].field, "spec.clusterIPs[0]");
    }
}
