//! Rules of nodes, runtime and priority classes, disruption budgets and leases.

use super::place::{Errors, Place};
use super::{addresses, common, compute, scheduling, selectors, storage};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const MOST_PRIORITY: i64 = 1_000_000_000;
const SYSTEM: &str = "system-";
/// The classes that every cluster has, with their values.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// The rules of a new node.
pub fn new_node(node: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(node, "spec");
    scheduling::taints(&spec.child("taints").called("metadata.taints"), &mut errors);
    storage::node_resources(&Place::of(node, "status"), &mut errors);
    let ranges = spec.child("podCIDRs");
    for range in ranges.items() {
        addresses::lenient_range(&range, &mut errors);
    }
    if let [first, second, ..] = ranges.texts()[..]
        && (ranges.len() > 2 || first.contains(':') == second.contains(':'))
    {
        errors.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
    }
    errors
}

/// What of a node may not change, and the rules of what may.
pub fn node_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    storage::node_resources(&Place::of(new, "status"), &mut errors);
    let addresses = Place::of(new, "status").child("addresses").items();
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|other| other.value() == address.value()) {
            let text = |field| crate::kube::status::quoted(address.child(field).text());
            let shown = format!("{{\"Type\":{},\"Address\":{}}}", text("type"), text("address"));
            errors.push(FieldError::duplicate_raw(address.path(), &shown, ""));
        }
    }
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let why = "node updates may not change podCIDR except from \"\" to valid";
    let (ranges, old_ranges) = (now.child("podCIDRs"), before.child("podCIDRs").texts());
    if !old_ranges.is_empty() && ranges.len() != old_ranges.len() {
        errors.push(ranges.forbidden(why));
    } else if !old_ranges.is_empty() {
        for _ in ranges.texts().iter().zip(&old_ranges).filter(|(one, other)| one != other) {
            errors.push(ranges.forbidden(why));
        }
    }
    let provider = now.child("providerID");
    let old_provider = before.child("providerID").text();
    if !old_provider.is_empty() && old_provider != provider.text() {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(provider.forbidden(why));
    }
    scheduling::taints(&now.child("taints").called("metadata.taints"), &mut errors);
    errors
}

pub fn runtime_class(class: &Object) -> Errors {
    let mut errors = Errors::new();
    common::required_name(&Place::of(class, "handler"), names::dns_label, &mut errors);
    let fixed = Place::of(class, "overhead").child("podFixed");
    for (name, amount) in fixed.entries() {
        let place = amount.called(format!("overhead.limits[{name}]"));
        compute::container_resource(name, &place, &mut errors);
        compute::amount(name, &place, &mut errors);
    }
    let scheduling_place = Place::of(class, "scheduling");
    selectors::labels(&scheduling_place.child("nodeSelector"), &mut errors);
    scheduling::tolerations(&scheduling_place.child("tolerations"), &mut errors);
    errors
}

pub fn priority_class(class: &Object) -> Errors {
    let mut errors = Errors::new();
    let (name, value) = (object::name(class), Place::of(class, "value"));
    if name.starts_with(SYSTEM) {
        if let Err(error) = known_class(name, value.number_or_zero(), class) {
            let why = format!(
                "priority class names with '{SYSTEM}' prefix are reserved for system use only. error: {error}"
            );
            errors.push(FieldError::forbidden("metadata.name", why));
        }
    } else if value.number_or_zero() > MOST_PRIORITY {
        let why = format!("maximum allowed value of a user defined priority is {MOST_PRIORITY}");
        errors.push(value.forbidden(why));
    }
    let policy = Place::of(class, "preemptionPolicy");
    if policy.is_set() {
        common::one_of(&policy, &["PreemptLowerPriority", "Never"], &mut errors);
    }
    errors
}

fn known_class(name: &str, value: i64, class: &Object) -> Result<(), String> {
    let Some((_, expected)) = SYSTEM_CLASSES.iter().find(|(own, _)| *own == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *expected {
        return Err(format!("value of {name} PriorityClass must be {expected}"));
    }
    if Place::of(class, "globalDefault").is_true() {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

pub fn priority_class_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let value = |class| Place::of(class, "value").number_or_zero();
    if value(new) != value(old) {
        errors.push(Place::of(new, "value").forbidden("may not be changed in an update."));
    }
    let policy = |class| Place::of(class, "preemptionPolicy");
    common::immutable(&policy(new), &policy(old), &mut errors);
    errors
}

pub fn disruption_budget(budget: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(budget, "spec");
    let fields = ["minAvailable", "maxUnavailable"].map(|name| spec.child(name));
    if fields.iter().all(Place::is_set) {
        let selector = spec.child("selector");
        let policy = spec.child("unhealthyPodEvictionPolicy");
        let shown = format!(
            "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
            fields[0].value(),
            selector.value(),
            fields[1].value(),
            policy.value()
        );
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid_raw(spec.path(), &shown, why));
    }
    for amount in fields.iter().filter(|amount| amount.is_set()) {
        common::amount_or_percentage(amount, &mut errors);
        common::at_most_all(amount, &mut errors);
    }
    selectors::label_selector(&spec.child("selector"), &mut errors);
    let policy = spec.child("unhealthyPodEvictionPolicy");
    common::one_of_if_set(&policy, &["AlwaysAllow", "IfHealthyBudget"], &mut errors);
    errors
}

pub fn lease(lease: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(lease, "spec");
    let duration = spec.child("leaseDurationSeconds");
    if duration.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    common::non_negative(&spec.child("leaseTransitions"), &mut errors);
    let (strategy, holder) = (spec.child("strategy"), spec.child("preferredHolder"));
    if strategy.is_set() {
        lease_strategy(&strategy, &mut errors);
    }
    if !holder.is_empty() && strategy.is_empty() {
        errors.push(holder.forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}

/// A strategy of our own, or one with a domain.
fn lease_strategy(place: &Place<'_>, errors: &mut Errors) {
    if place.text().contains('/') {
        common::named(place, names::qualified_name, errors);
    } else {
        common::listed(place, &["OldestEmulationVersion"], errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn the_rest_of_a_cluster_is_checked() {
        type Rule = fn(&Object) -> Errors;
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (
                new_node,
                json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}}),
                &["spec.podCIDRs"],
            ),
            (
                new_node,
                json!({"spec": {"taints": [{"key": "a", "effect": "X"}]}}),
                &["metadata.taints[0].effect"],
            ),
            (runtime_class, json!({"handler": "A"}), &["handler"]),
            (
                runtime_class,
                json!({"handler": "h", "overhead": {"podFixed": {"x": "1"}}}),
                &["overhead.limits[x]", "overhead.limits[x]"],
            ),
            (
                priority_class,
                json!({"metadata": {"name": "a"}, "value": 1_000_000_001}),
                &["value"],
            ),
            (
                priority_class,
                json!({"metadata": {"name": "system-x"}, "value": 1}),
                &["metadata.name"],
            ),
            (
                disruption_budget,
                json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}),
                &["spec"],
            ),
            (disruption_budget, json!({"spec": {"minAvailable": "200%"}}), &["spec.minAvailable"]),
            (
                lease,
                json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
                &["spec.leaseDurationSeconds", "spec.leaseTransitions"],
            ),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }
}
