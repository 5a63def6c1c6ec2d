//! Rules of names and amounts of resources: requests, limits, capacities.

use std::cmp::Ordering;

use super::common;
use super::place::{Errors, Place};
use crate::kube::registry::names;
use crate::kube::schema::quantity::Quantity;
use crate::kube::status::FieldError;

const HUGE_PAGES: &str = "hugepages-";
const STANDARD: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];
/// What can only be counted.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that belongs to somebody else's domain.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// The key of a map of resources.
pub fn resource_name(name: &str, place: &Place<'_>, errors: &mut Errors) -> bool {
    let why = names::qualified_name(name);
    let before = errors.len();
    errors.extend(why.into_iter().map(|why| place.invalid_as(name, why)));
    if errors.len() == before && !name.contains('/') && !is_standard(name) {
        let why = "must be a standard resource type or fully qualified";
        errors.push(place.invalid_as(name, why));
    }
    errors.len() == before
}

/// The key of a container's requests and limits.
pub fn container_resource(name: &str, place: &Place<'_>, errors: &mut Errors) {
    resource_name(name, place, errors);
    if !name.contains('/') {
        let own = ["cpu", "memory", "ephemeral-storage"].contains(&name);
        if !own && !name.starts_with(HUGE_PAGES) {
            let why = "must be a standard resource for containers";
            errors.push(place.invalid_as(name, why));
        }
    } else if !is_native(name) && !is_extended(name) {
        let why = "doesn't follow extended resource name standard";
        errors.push(place.invalid_as(name, why));
    }
}

fn pod_resource(name: &str, place: &Place<'_>, errors: &mut Errors) {
    let fits = ["cpu", "memory"].contains(&name) || name.starts_with(HUGE_PAGES);
    if resource_name(name, place, errors) && !fits {
        errors.push(FieldError::not_supported(
            place.path(),
            name,
            &["cpu", "hugepages-", "memory"],
        ));
    }
}

/// An amount of a resource: not negative, and whole if it can only be counted.
pub fn amount(name: &str, place: &Place<'_>, errors: &mut Errors) {
    common::non_negative_quantity(place, errors);
    let whole = COUNTED.contains(&name) || is_extended(name);
    if whole && common::quantity(place).is_some_and(|quantity| !is_whole(&quantity)) {
        errors.push(place.invalid("must be an integer"));
    }
}

/// Whether a quantity has no fraction.
pub fn is_whole(quantity: &Quantity) -> bool {
    let text = quantity.to_string();
    !text.ends_with(['m', 'u', 'n']) && !text.contains("e-") && !text.contains('.')
}

/// `resources` of a container.
pub fn container_requirements(place: &Place<'_>, claims: &[&str], errors: &mut Errors) {
    requirements(place, container_resource, claims, errors);
}

/// `resources` of a whole pod.
pub fn pod_requirements(place: &Place<'_>, errors: &mut Errors) {
    if place.child("claims").is_set() {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(place.child("claims").forbidden(why));
    }
    requirements(place, pod_resource, &[], errors);
}

fn requirements(
    place: &Place<'_>,
    rule: fn(&str, &Place<'_>, &mut Errors),
    claims: &[&str],
    errors: &mut Errors,
) {
    let (limits, requests) = (place.child("limits"), place.child("requests"));
    let entries = [limits.entries(), requests.entries()].concat();
    for (name, amount_place) in limits.entries() {
        rule(name, &amount_place, errors);
        amount(name, &amount_place, errors);
    }
    for (name, requested) in requests.entries() {
        rule(name, &requested, errors);
        amount(name, &requested, errors);
        let limit = limits.entries().into_iter().find(|(own, _)| *own == name);
        match limit {
            Some((_, limit)) => compare(name, &requests, &requested, &limit, errors),
            None if !may_be_overcommitted(name) => {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(limits.required(why));
            }
            None => {}
        }
    }
    let any = |wanted: fn(&str) -> bool| entries.iter().any(|(name, _)| wanted(name));
    if any(|name| name.starts_with(HUGE_PAGES)) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(place.forbidden("HugePages require cpu or memory"));
    }
    claim_names(&place.child("claims"), claims, errors);
}

fn compare(
    name: &str,
    requests: &Place<'_>,
    requested: &Place<'_>,
    limit: &Place<'_>,
    errors: &mut Errors,
) {
    let (Some(amount), Some(most)) = (common::quantity(requested), common::quantity(limit)) else {
        return;
    };
    let order = amount.compare(&most);
    let shown = amount.to_string();
    if order != Ordering::Equal && !may_be_overcommitted(name) {
        let why = format!("must be equal to {name} limit of {most}");
        errors.push(requests.invalid_as(shown, why));
    } else if order == Ordering::Greater {
        let why = format!("must be less than or equal to {name} limit of {most}");
        errors.push(requests.invalid_as(shown, why));
    }
}

fn claim_names(place: &Place<'_>, known: &[&str], errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for claim in place.items() {
        let name = claim.child("name").text();
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        let request = claim.child("request");
        common::named_if_set(&request, names::dns_label, errors);
        let key = match request.text() {
            "" => name.to_owned(),
            request => format!("{name}/{request}"),
        };
        let covers = |other: &String| other.split_once('/').is_some_and(|(own, _)| own == name);
        if seen.contains(&name.to_owned()) {
            errors.push(claim.duplicate_of(name));
        } else if seen.contains(&key) {
            errors.push(claim.duplicate_of(key.as_str()));
        } else if request.is_empty() && seen.iter().any(covers) {
            errors.push(claim.duplicate_of(name));
        }
        seen.push(key);
        if !known.contains(&name) {
            let mut known = known.to_vec();
            known.sort_unstable();
            let which = match known.is_empty() {
                true => " which is empty".to_owned(),
                false => format!(": {}", known.join(", ")),
            };
            let why = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.push(FieldError::not_found_because(claim.path(), name, &why));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_limits() {
        for (value, expected) in [
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}), vec![]),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                vec!["Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                json!({"requests": {"example.com/a": "1"}}),
                vec!["Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                json!({"limits": {"example.com/a": "1500m"}}),
                vec!["Invalid value: \"1500m\": must be an integer"],
            ),
            (
                json!({"limits": {"pods": "1"}}),
                vec!["Invalid value: \"pods\": must be a standard resource for containers"],
            ),
            (
                json!({"claims": [{"name": "a"}]}),
                vec!["Not found: \"a\": must be one of the names in pod.spec.resourceClaims: b, c"],
            ),
        ] {
            let mut errors = Errors::new();
            container_requirements(&Place::at("resources", &value), &["c", "b"], &mut errors);
            let texts: Vec<String> = errors.iter().map(FieldError::message).collect();
            assert_eq!(texts, expected, "{value}");
        }
    }
}
