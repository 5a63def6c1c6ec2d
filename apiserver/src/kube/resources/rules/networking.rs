//! Rules of ingresses, network policies and ranges for services.

use super::place::{Errors, Place};
use super::{addresses, common, selectors, services};
use crate::kube::object::Object;
use crate::kube::registry::names;

const POLICY_PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "\\"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];
const MOST_CONTROLLER_BYTES: usize = 250;
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

pub fn ingress(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let (rules, default) = (spec.child("rules"), spec.child("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(spec.invalid_as(rules.value().clone(), why));
    }
    if default.is_set() {
        backend(&default, &mut errors);
    }
    for rule in rules.items() {
        host_rule(&rule, &mut errors);
    }
    for tls in spec.child("tls").items() {
        for host in tls.child("hosts").items() {
            host_pattern(&host, &mut errors);
        }
        common::named_if_set(&tls.child("secretName"), names::dns_subdomain, &mut errors);
    }
    let class = spec.child("ingressClassName");
    if class.is_set() {
        common::named(&class, names::dns_subdomain, &mut errors);
    }
    errors
}

/// A new ingress names one class only.
pub fn new_ingress(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let annotations = Place::of(object, "metadata").child("annotations");
    let own = annotations.child(INGRESS_CLASS).called(format!("annotations.{INGRESS_CLASS}"));
    let class = Place::of(object, "spec").child("ingressClassName");
    if own.is_set() && class.is_set() && own.text() != class.text() {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(own.invalid(why));
    }
    errors
}

fn host_pattern(host: &Place<'_>, errors: &mut Errors) {
    match host.text().contains('*') {
        true => common::named(host, names::wildcard_subdomain, errors),
        false => common::named(host, names::dns_subdomain, errors),
    }
}

fn host_rule(rule: &Place<'_>, errors: &mut Errors) {
    let host = rule.child("host");
    if !host.is_empty() {
        if addresses::parse_leniently(host.text()).is_some() {
            errors.push(host.invalid("must be a DNS name, not an IP address"));
        }
        host_pattern(&host, errors);
    }
    let http = rule.child("http");
    if !http.is_set() {
        return;
    }
    common::required(&http.child("paths"), errors);
    for path in http.child("paths").items() {
        http_path(&path, errors);
    }
}

fn http_path(place: &Place<'_>, errors: &mut Errors) {
    let (kind, path) = (place.child("pathType"), place.child("path"));
    let text = path.text();
    if kind.is_empty() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    match kind.text() {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(path.invalid_text("must be an absolute path"));
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad)) {
                errors.push(path.invalid_text(format!("must not contain '{bad}'")));
            }
            for bad in BAD_ENDS.iter().filter(|bad| text.ends_with(**bad)) {
                errors.push(path.invalid_text(format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
            errors.push(path.invalid_text("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.unsupported(&PATH_TYPES)),
    }
    backend(&place.child("backend"), errors);
}

fn backend(place: &Place<'_>, errors: &mut Errors) {
    let (resource, service) = (place.child("resource"), place.child("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => {
            errors.push(place.invalid_as("", "cannot set both resource and service backends"));
        }
        (true, false) => reference(&resource, errors),
        (false, true) => service_backend(place, &service, errors),
        (false, false) => {
            errors.push(place.invalid_as("", "resource or service backend is required"));
        }
    }
}

fn service_backend(place: &Place<'_>, service: &Place<'_>, errors: &mut Errors) {
    common::required_name(&service.child("name"), names::dns_label, errors);
    let port = service.child("port");
    let (name, number) = (port.child("name"), port.child("number"));
    match (!name.is_empty(), number.number_or_zero() != 0) {
        (true, true) => {
            errors.push(place.invalid_as("", "cannot set both port name & port number"));
        }
        (true, false) => common::named(&name, common::port_name, errors),
        (false, true) => common::port_number(&number, errors),
        (false, false) => errors.push(place.required("port name or number is required")),
    }
}

fn reference(place: &Place<'_>, errors: &mut Errors) {
    let group = place.child("apiGroup");
    if group.is_set() {
        common::named(&group, names::dns_subdomain, errors);
    }
    common::required_name(&place.child("kind"), names::path_segment, errors);
    common::required_name(&place.child("name"), names::path_segment, errors);
}

pub fn ingress_status(object: &Object) -> Errors {
    let mut errors = Errors::new();
    for point in Place::of(object, "status").below(&["loadBalancer", "ingress"]).items() {
        if !point.child("ip").is_empty() {
            addresses::lenient_address(&point.child("ip"), &mut errors);
        }
        services::host_name(&point.child("hostname"), &mut errors);
    }
    errors
}

pub fn ingress_class(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let controller = spec.child("controller");
    if controller.text().len() > MOST_CONTROLLER_BYTES {
        errors.push(controller.too_long(MOST_CONTROLLER_BYTES));
    }
    common::domain_prefixed_path(&controller, &mut errors);
    let parameters = spec.child("parameters");
    if !parameters.is_set() {
        return errors;
    }
    reference(&parameters, &mut errors);
    let (scope, namespace) = (parameters.child("scope"), parameters.child("namespace"));
    match scope.text() {
        "" => errors.push(scope.required("")),
        "Namespace" if !namespace.is_set() => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => common::named(&namespace, names::dns_label, &mut errors),
        "Cluster" if namespace.is_set() => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        _ => common::listed(&scope, &["Cluster", "Namespace"], &mut errors),
    }
    errors
}

pub fn policy(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    selectors::label_selector(&spec.child("podSelector"), &mut errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.child(direction).items() {
            for port in rule.child("ports").items() {
                policy_port(&port, &mut errors);
            }
            for peer in rule.child(peers).items() {
                policy_peer(&peer, &mut errors);
            }
        }
    }
    let types = spec.child("policyTypes");
    if types.len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
        return errors;
    }
    for kind in types.items() {
        common::listed(&kind, &["Ingress", "Egress"], &mut errors);
    }
    errors
}

fn policy_port(place: &Place<'_>, errors: &mut Errors) {
    common::one_of_if_set(&place.child("protocol"), &POLICY_PROTOCOLS, errors);
    let (port, end) = (place.child("port"), place.child("endPort"));
    if !port.is_set() {
        if end.is_set() {
            errors.push(end.invalid("may not be specified when `port` is not specified"));
        }
    } else if let Some(number) = port.number() {
        common::port_number(&port, errors);
        if end.number().is_some_and(|end| end < number) {
            errors.push(end.invalid_as(number, "must be greater than or equal to `port`"));
        }
        if end.is_set() {
            common::port_number(&end, errors);
        }
    } else {
        if end.is_set() {
            errors.push(end.invalid("may not be specified when `port` is non-numeric"));
        }
        common::named(&port, common::port_name, errors);
    }
}

fn policy_peer(peer: &Place<'_>, errors: &mut Errors) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if peer.child(field).is_set() {
            count += 1;
            selectors::label_selector(&peer.child(field), errors);
        }
    }
    let block = peer.child("ipBlock");
    if block.is_set() {
        count += 1;
        address_block(&block, errors);
    }
    if count == 0 {
        errors.push(peer.required("must specify a peer"));
    } else if count > 1 && block.is_set() {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn address_block(block: &Place<'_>, errors: &mut Errors) {
    let range = block.child("cidr");
    if range.is_empty() {
        errors.push(range.required(""));
        return;
    }
    let before = errors.len();
    addresses::lenient_range(&range, errors);
    if errors.len() > before {
        return;
    }
    for except in block.child("except").items() {
        addresses::lenient_range(&except, errors);
        if !addresses::lies_within(except.text(), range.text()) {
            errors.push(except.invalid_text("must be a strict subset of `cidr`"));
        }
    }
}

pub fn address(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let parent = Place::of(object, "spec").child("parentRef");
    if !parent.is_set() {
        errors.push(parent.required(""));
        return errors;
    }
    common::named_if_set(&parent.child("group"), names::dns_subdomain, &mut errors);
    common::required_name(&parent.child("resource"), names::path_segment, &mut errors);
    common::required_name(&parent.child("name"), names::path_segment, &mut errors);
    common::named_if_set(&parent.child("namespace"), names::path_segment, &mut errors);
    errors
}

/// The name of an address object is the address.
pub fn address_name(name: &str) -> Vec<String> {
    let value = name.into();
    let mut errors = Errors::new();
    addresses::strict_address(&Place::at("", &value), &mut errors);
    let shown = format!("Invalid value: {}: ", crate::kube::status::quoted(name));
    errors.iter().map(|error| error.message().replacen(&shown, "", 1)).collect()
}

pub fn service_ranges(object: &Object) -> Errors {
    let mut errors = Errors::new();
    ranges(&Place::of(object, "spec").child("cidrs"), &mut errors);
    errors
}

fn ranges(place: &Place<'_>, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(place.required("at least one CIDR required"));
        return;
    }
    if place.len() > 2 {
        errors.push(place.invalid("may only hold up to 2 values"));
        return;
    }
    for range in place.items() {
        addresses::strict_range(&range, errors);
    }
    if let [first, second] = place.texts()[..]
        && first.contains(':') == second.contains(':')
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(place.invalid(why));
    }
}

/// A second range may be added, and nothing else.
pub fn service_ranges_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let now = Place::of(new, "spec").child("cidrs");
    let before = Place::of(old, "spec").child("cidrs").texts();
    match (before.len(), now.len()) {
        (old_count, count) if old_count == count => {
            for (range, old) in now.items().iter().zip(before) {
                if range.text() != old {
                    errors.push(range.invalid(common::IMMUTABLE));
                }
            }
        }
        (1, 2) => {
            if now.texts()[0] != before[0] {
                errors.push(now.items()[0].invalid(common::IMMUTABLE));
            }
            ranges(&now, &mut errors);
        }
        _ => errors.push(now.invalid(common::IMMUTABLE)),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn networking_is_checked() {
        type Rule = fn(&Object) -> Errors;
        let path = |more: Value| {
            let mut path = into_object(json!({"path": "/", "pathType": "Prefix", "backend": {
                "service": {"name": "s", "port": {"number": 80}},
            }}));
            path.extend(into_object(more));
            json!({"spec": {"rules": [{"http": {"paths": [path]}}]}})
        };
        let peer = |more: Value| json!({"spec": {"ingress": [{"from": [more]}]}});
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (ingress, path(json!({})), &[]),
            (ingress, json!({"spec": {}}), &["spec"]),
            (ingress, path(json!({"pathType": null})), &["spec.rules[0].http.paths[0].pathType"]),
            (
                ingress,
                path(json!({"path": "/a//b/.."})),
                &["spec.rules[0].http.paths[0].path", "spec.rules[0].http.paths[0].path"],
            ),
            (ingress, path(json!({"backend": {}})), &["spec.rules[0].http.paths[0].backend"]),
            (
                ingress_class,
                json!({"spec": {"controller": "a.example/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}}),
                &["spec.parameters.namespace"],
            ),
            (policy, peer(json!({})), &["spec.ingress[0].from[0]"]),
            (
                policy,
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
                &["spec.ingress[0].from[0].ipBlock.except[0]"],
            ),
            (
                service_ranges,
                json!({"spec": {"cidrs": ["10.0.0.0/8", "11.0.0.0/8"]}}),
                &["spec.cidrs"],
            ),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
        assert!(address_name("10.0.0.1").is_empty());
        assert_eq!(address_name("x"), [addresses::ADDRESS]);
    }
}
