//! Services: what is left out, and where their addresses come from.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::Strategy;
use crate::kube::object::{self, Object};
use crate::kube::registry::names;

/// `--service-cluster-ip-range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: u32,
    prefix_bits: u32,
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from(self.network), self.prefix_bits)
    }
}

/// Why a range can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no IPv4 range of at least 4 addresses such as 10.96.0.0/12")]
pub struct AddressRangeError(String);

impl AddressRange {
    pub fn parse(text: &str) -> Result<AddressRange, AddressRangeError> {
        let error = || AddressRangeError(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let prefix_bits: u32 = bits.parse().map_err(|_| error())?;
        if !(8..=30).contains(&prefix_bits) {
            return Err(error());
        }
        let mask = u32::MAX << (32 - prefix_bits);
        Ok(AddressRange { network: u32::from(address) & mask, prefix_bits })
    }

    /// Addresses that may be given to services: neither network nor broadcast.
    pub fn usable(self) -> u32 {
        (1 << (32 - self.prefix_bits)) - 2
    }

    /// The usable address of this number, from 0.
    pub fn address(self, index: u32) -> Ipv4Addr {
        assert!(index < self.usable(), "an address outside of the range");
        Ipv4Addr::from(self.network + 1 + index)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.network);
        offset >= 1 && offset <= self.usable()
    }
}

pub(super) fn strategy() -> Strategy {
    Strategy {
        defaults: default_service,
        prepare_update: |new, old| {
            keep_addresses(new, old);
            drop_what_the_old_type_had(new, old);
        },
        name_rule: names::dns_label,
        create_on_update: true,
        returns_deleted: true,
        ..Strategy::default()
    }
}

fn default_service(object: &mut Object) {
    let spec = object::map_mut(object, "spec");
    object::default_text(spec, "sessionAffinity", "None");
    object::default_text(spec, "type", "ClusterIP");
    if object::text(spec, "sessionAffinity") == "ClientIP" {
        let config = object::map_mut(spec, "sessionAffinityConfig");
        object::default(object::map_mut(config, "clientIP"), "timeoutSeconds", 10_800);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    if let Some(Value::Array(ports)) = spec.get_mut("ports") {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            object::default_text(port, "protocol", "TCP");
            let unset = match port.get("targetPort") {
                None | Some(Value::Null) => true,
                Some(target) => target == &json!(0) || target == &json!(""),
            };
            if unset && let Some(number) = port.get("port").cloned() {
                port.insert("targetPort".to_owned(), number);
            }
        }
    }
    let kind = object::text(spec, "type").to_owned();
    let has_addresses = !object::list(spec, "externalIPs").is_empty();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && has_addresses)
    {
        object::default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        object::default_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        object::default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// An update that names no addresses keeps those that the service has.
fn keep_addresses(new: &mut Object, old: &Object) {
    let kind = object::text_at(new, &["spec", "type"]).to_owned();
    if kind == "ExternalName" || object::text_at(old, &["spec", "type"]) == "ExternalName" {
        return;
    }
    let empty = Object::new();
    let before = object::map(old, "spec").unwrap_or(&empty);
    let spec = object::map_mut(new, "spec");
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if object::same(spec.get(field), None) || spec.get(field) == Some(&json!("")) {
            object::copy_field(before, spec, field);
        }
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        keep_node_ports(spec, before);
    }
}

/// Of a service that becomes one of another type goes what only the old type has, unless the client
/// changed it along.
fn drop_what_the_old_type_had(new: &mut Object, old: &Object) {
    let empty = Object::new();
    let before = object::map(old, "spec").unwrap_or(&empty);
    let spec = object::map_mut(new, "spec");
    let (was, is) = (object::text(before, "type"), object::text(spec, "type").to_owned());
    if was == is {
        return;
    }
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if has_node_ports(was) && !has_node_ports(&is) {
        let number = |port: &Value| port.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
        let numbers = |ports: &[Value]| ports.iter().map(number).collect::<Vec<i64>>();
        if numbers(object::list(before, "ports")) == numbers(object::list(spec, "ports"))
            && let Some(Value::Array(ports)) = spec.get_mut("ports")
        {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                port.remove("nodePort");
            }
        }
    }
    let mut gone = Vec::new();
    if is == "ExternalName" {
        gone.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
        gone.push("internalTrafficPolicy");
    }
    if was == "LoadBalancer" {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"]);
    }
    if !has_node_ports(&is) && object::list(spec, "externalIPs").is_empty() {
        gone.push("externalTrafficPolicy");
    }
    for field in gone {
        if object::same(spec.get(field), before.get(field)) {
            spec.remove(field);
        }
    }
}

fn keep_node_ports(spec: &mut Object, before: &Object) {
    let old_ports = object::list(before, "ports").to_vec();
    let Some(Value::Array(ports)) = spec.get_mut("ports") else { return };
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        if object::integer_at(port, &["nodePort"]) != 0 {
            continue;
        }
        let same = |old: &&Value| {
            old.get("port") == port.get("port") && old.get("protocol") == port.get("protocol")
        };
        let found = old_ports.iter().find(same).and_then(|old| old.get("nodePort")).cloned();
        if let Some(number) = found {
            port.insert("nodePort".to_owned(), number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn ranges() {
        let range = AddressRange::parse("10.0.0.0/24").unwrap();
        assert_eq!(range.usable(), 254);
        assert_eq!(range.address(0), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(range.address(253), Ipv4Addr::new(10, 0, 0, 254));
        assert!(range.contains(Ipv4Addr::new(10, 0, 0, 254)));
        assert!(!range.contains(Ipv4Addr::new(10, 0, 0, 0)));
        assert!(!range.contains(Ipv4Addr::new(10, 0, 0, 255)));
        for text in ["", "10.0.0.0", "10.0.0.0/31", "x/24", "fd00::/64"] {
            assert!(AddressRange::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_gets_its_defaults() {
        let mut service = into_object(json!({"spec": {"ports": [{"port": 80}]}}));
        default_service(&mut service);
        assert_eq!(
            service["spec"],
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            })
        );
    }
}
