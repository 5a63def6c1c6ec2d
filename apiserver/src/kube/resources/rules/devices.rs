//! Rules of devices: what is offered, asked for and classed; not of the expressions in selectors.

use super::common;
use super::place::{Errors, Place};
use super::selectors;
use crate::kube::object::Object;
use crate::kube::registry::names;

const MODES: [&str; 2] = ["All", "ExactCount"];
const MOST_REQUESTS: usize = 32;
const MOST_SELECTORS: usize = 32;
const MOST_SUBREQUESTS: usize = 8;
const MOST_DEVICES: usize = 128;
const WHERE: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];

pub fn claim(object: &Object) -> Errors {
    let mut errors = Errors::new();
    claim_spec(&Place::of(object, "spec"), &mut errors);
    errors
}

pub fn template(object: &Object) -> Errors {
    let mut errors = Errors::new();
    claim_spec(&Place::of(object, "spec").child("spec"), &mut errors);
    errors
}

fn claim_spec(spec: &Place<'_>, errors: &mut Errors) {
    let requests = spec.below(&["devices", "requests"]);
    if requests.len() > MOST_REQUESTS {
        errors.push(requests.too_many(MOST_REQUESTS));
    }
    let mut seen: Vec<&str> = Vec::new();
    for request in requests.items() {
        let name = request.child("name");
        common::required_name(&name, names::dns_label, errors);
        let (exactly, first) = (request.child("exactly"), request.child("firstAvailable"));
        match (exactly.is_set(), !first.is_empty()) {
            (false, false) => {
                let why = "exactly one of `exactly` or `firstAvailable` is required";
                errors.push(request.required(why));
            }
            (true, true) => {
                let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                errors.push(request.invalid_unshown(why));
            }
            (true, false) => wish(&exactly, errors),
            (false, true) => alternatives(&first, errors),
        }
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(request.duplicate_of(name.text()));
        }
        seen.push(name.text());
    }
}

fn alternatives(place: &Place<'_>, errors: &mut Errors) {
    if place.len() > MOST_SUBREQUESTS {
        errors.push(place.too_many(MOST_SUBREQUESTS));
    }
    let mut seen: Vec<&str> = Vec::new();
    for alternative in place.items() {
        let name = alternative.child("name");
        common::required_name(&name, names::dns_label, errors);
        wish(&alternative, errors);
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(alternative.duplicate_of(name.text()));
        }
        seen.push(name.text());
    }
}

fn wish(place: &Place<'_>, errors: &mut Errors) {
    common::required_name(&place.child("deviceClassName"), names::dns_subdomain, errors);
    device_selectors(&place.child("selectors"), errors);
    let (mode, count) = (place.child("allocationMode"), place.child("count"));
    match mode.text() {
        "All" if count.number_or_zero() != 0 => {
            errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "All" => {}
        "ExactCount" => common::positive(&count, errors),
        _ => errors.push(mode.unsupported(&MODES)),
    }
}

fn device_selectors(place: &Place<'_>, errors: &mut Errors) {
    if place.len() > MOST_SELECTORS {
        errors.push(place.too_many(MOST_SELECTORS));
    }
    for selector in place.items() {
        let expression = selector.child("cel");
        if !expression.is_set() {
            errors.push(expression.required(""));
        } else {
            common::required(&expression.child("expression"), errors);
        }
    }
}

pub fn class(object: &Object) -> Errors {
    let mut errors = Errors::new();
    device_selectors(&Place::of(object, "spec").child("selectors"), &mut errors);
    errors
}

pub fn slice(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    super::storage::driver_name(&spec.child("driver"), &mut errors);
    let pool = spec.child("pool");
    common::required_name(&pool.child("name"), pool_name, &mut errors);
    common::positive(&pool.child("resourceSliceCount"), &mut errors);
    common::non_negative(&pool.child("generation"), &mut errors);
    let told = |name: &&str| {
        let place = spec.child(name);
        !place.is_empty() && !place.is_false()
    };
    let count = WHERE.iter().filter(|name| told(name)).count();
    let either = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match count {
        0 => errors.push(spec.required(either)),
        1 => {}
        _ => errors.push(spec.invalid_unshown(format!("{either}, but multiple fields are set"))),
    }
    common::named_if_set(&spec.child("nodeName"), names::dns_subdomain, &mut errors);
    if spec.child("nodeSelector").is_set() {
        selectors::node_selector(&spec.child("nodeSelector"), &mut errors);
    }
    let devices = spec.child("devices");
    if devices.len() > MOST_DEVICES {
        errors.push(devices.too_many(MOST_DEVICES));
    }
    let mut seen: Vec<&str> = Vec::new();
    for device in devices.items() {
        let name = device.child("name");
        common::required_name(&name, names::dns_label, &mut errors);
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(device.duplicate_of(name.text()));
        }
        seen.push(name.text());
    }
    errors
}

/// Domains, one behind the other.
fn pool_name(name: &str) -> Vec<String> {
    name.split('/').flat_map(names::dns_subdomain).collect()
}

/// What is asked for does not change.
pub fn spec_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    common::immutable(&Place::of(new, "spec"), &Place::of(old, "spec"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn devices_are_checked() {
        type Rule = fn(&Object) -> Errors;
        let asked = |wish: Value| json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": wish}]}}});
        let exact = |count: i64| json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": count});
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (claim, asked(exact(1)), &[]),
            (claim, asked(exact(-1)), &["spec.devices.requests[0].exactly.count"]),
            (
                claim,
                json!({"spec": {"devices": {"requests": [{"name": "r"}]}}}),
                &["spec.devices.requests[0]"],
            ),
            (class, json!({"spec": {"selectors": [{}]}}), &["spec.selectors[0].cel"]),
            (
                slice,
                json!({"spec": {"driver": "d", "pool": {"name": ""}, "devices": [{"name": "a"}, {"name": "a"}]}}),
                &["spec.pool.name", "spec.pool.resourceSliceCount", "spec", "spec.devices[1]"],
            ),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }
}
