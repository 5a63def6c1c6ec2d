//! Rules of endpoints and endpoint slices.

use super::place::{Errors, Place};
use super::{addresses, common, containers, selectors};
use crate::kube::object::Object;
use crate::kube::registry::names;

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_HINTS: usize = 8;
const MOST_TOPOLOGY_LABELS: usize = 16;

pub fn endpoints(object: &Object) -> Errors {
    let mut errors = Errors::new();
    for subset in Place::of(object, "subsets").items() {
        let lists = ["addresses", "notReadyAddresses"].map(|name| subset.child(name));
        if lists.iter().all(Place::is_empty) {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for address in lists.iter().flat_map(Place::items) {
            let ip = address.child("ip");
            addresses::lenient_address(&ip, &mut errors);
            common::named_if_set(&address.child("hostname"), names::dns_label, &mut errors);
            let node = address.child("nodeName");
            if node.is_set() {
                common::named(&node, names::dns_subdomain, &mut errors);
            }
            match addresses::parse_leniently(ip.text()) {
                None => errors.push(ip.invalid_text("must be a valid IP address")),
                Some(_) => addresses::reachable(&ip, &mut errors),
            }
        }
        let ports = subset.child("ports");
        for port in ports.items() {
            let name = port.child("name");
            if ports.len() > 1 && name.is_empty() {
                errors.push(name.required(""));
            }
            common::named_if_set(&name, names::dns_label, &mut errors);
            common::port_number(&port.child("port"), &mut errors);
            common::one_of(&port.child("protocol"), &containers::PROTOCOLS, &mut errors);
            application(&port, &mut errors);
        }
    }
    errors
}

fn application(port: &Place<'_>, errors: &mut Errors) {
    let protocol = port.child("appProtocol");
    if protocol.is_set() {
        common::named(&protocol, names::qualified_name, errors);
    }
}

pub fn slice(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let kind = Place::of(object, "addressType");
    common::one_of(&kind, &["FQDN", "IPv4", "IPv6"], &mut errors);
    ports(&Place::of(object, "ports"), &mut errors);
    let list = Place::of(object, "endpoints");
    if list.len() > MOST_ENDPOINTS {
        errors.push(list.too_many(MOST_ENDPOINTS));
        return errors;
    }
    for endpoint in list.items() {
        one_endpoint(&endpoint, kind.text(), &mut errors);
    }
    errors
}

fn ports(place: &Place<'_>, errors: &mut Errors) {
    if place.len() > MOST_PORTS {
        errors.push(place.too_many(MOST_PORTS));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in place.items() {
        let name = port.child("name");
        common::named_if_set(&name, names::dns_label, errors);
        if seen.contains(&name.text()) {
            errors.push(name.duplicate_of(name.text()));
        }
        seen.push(name.text());
        let protocol = port.child("protocol");
        common::required_value(&protocol, errors);
        common::one_of_if_set(&protocol, &containers::PROTOCOLS, errors);
        application(&port, errors);
    }
}

fn one_endpoint(endpoint: &Place<'_>, kind: &str, errors: &mut Errors) {
    let list = endpoint.child("addresses");
    if list.is_empty() {
        errors.push(list.required("must contain at least 1 address"));
    } else if list.len() > MOST_ADDRESSES {
        errors.push(list.too_many(MOST_ADDRESSES));
    }
    for address in list.items() {
        let before = errors.len();
        let six = address.text().contains(':');
        match kind {
            "IPv4" => addresses::lenient_address(&address, errors),
            "IPv6" => addresses::strict_address(&address, errors),
            "FQDN" => domain(&address, errors),
            _ => {}
        }
        if errors.len() > before || !kind.starts_with("IP") {
            continue;
        }
        if six != (kind == "IPv6") {
            errors.push(list.invalid_as(address.text(), format!("must be an {kind} address")));
        }
        addresses::reachable(&address, errors);
    }
    let node = endpoint.child("nodeName");
    if node.is_set() {
        common::named(&node, names::dns_subdomain, errors);
    }
    let topology = endpoint.child("deprecatedTopology");
    if topology.len() > MOST_TOPOLOGY_LABELS {
        errors.push(topology.too_many(MOST_TOPOLOGY_LABELS));
    }
    selectors::labels(&topology, errors);
    let host = endpoint.child("hostname");
    if host.is_set() {
        common::named(&host, names::dns_label, errors);
    }
    hints(&endpoint.child("hints"), errors);
}

/// A name below at least one other.
fn domain(place: &Place<'_>, errors: &mut Errors) {
    let name = place.text().strip_suffix('.').unwrap_or(place.text());
    if place.is_empty() {
        errors.push(place.required(""));
        return;
    }
    let why = names::dns_subdomain(name);
    if !why.is_empty() {
        errors.push(place.invalid_as(name, why.join(",")));
    } else if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(place.invalid_as(name, why));
    }
}

fn hints(place: &Place<'_>, errors: &mut Errors) {
    for (field, rule) in [
        ("forZones", names::label_value as names::NameRule),
        ("forNodes", names::dns_subdomain as names::NameRule),
    ] {
        let list = place.child(field);
        if list.len() > MOST_HINTS {
            errors.push(list.too_many(MOST_HINTS));
            return;
        }
        let mut seen: Vec<&str> = Vec::new();
        for name in list.items().iter().map(|hint| hint.child("name")) {
            if seen.contains(&name.text()) {
                errors.push(name.duplicate_of(name.text()));
            }
            seen.push(name.text());
            common::named(&name, rule, errors);
        }
    }
}

pub fn slice_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let kind = |object| Place::of(object, "addressType");
    common::immutable(&kind(new), &kind(old), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn endpoints_are_checked() {
        type Rule = fn(&Object) -> Errors;
        let slice_of = |kind: &str, address: &str| json!({"addressType": kind, "endpoints": [{"addresses": [address]}]});
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (endpoints, json!({"subsets": [{}]}), &["subsets[0]"]),
            (
                endpoints,
                json!({"subsets": [{"addresses": [{"ip": "x"}]}]}),
                &["subsets[0].addresses[0].ip", "subsets[0].addresses[0].ip"],
            ),
            (
                endpoints,
                json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 0, "protocol": "TCP"}]}]}),
                &["subsets[0].ports[0].port"],
            ),
            (slice, slice_of("IPv4", "10.0.0.1"), &[]),
            (slice, slice_of("IPv4", "2001:db8::1"), &["endpoints[0].addresses"]),
            (slice, slice_of("FQDN", "a"), &["endpoints[0].addresses[0]"]),
            (slice, slice_of("X", "a"), &["addressType"]),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }
}
