//! Rules of limit ranges and resource quotas.

use super::place::{Errors, Place};
use super::{common, compute};
use crate::kube::object::Object;
use crate::kube::registry::names;
use crate::kube::schema::quantity::Quantity;
use crate::kube::status::FieldError;

/// What a quota can count besides names with a domain.
const QUOTA_RESOURCES: [&str; 18] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
];
const POD_RESOURCES: [&str; 8] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const CONFLICTS: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn is_quota_resource(name: &str) -> bool {
    QUOTA_RESOURCES.contains(&name)
        || name == "services.loadbalancers"
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

/// Whether a scope can limit what is counted.
fn covers(scope: &str, resource: &str) -> bool {
    let of_pods = POD_RESOURCES.contains(&resource)
        || ["limits.ephemeral-storage", "requests.ephemeral-storage"].contains(&resource)
        || resource.contains("hugepages-");
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
        }
        _ => of_pods,
    }
}

pub fn quota(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    for (name, amount) in spec.child("hard").entries() {
        compute::resource_name(name, &amount, &mut errors);
        if !name.contains('/') && !is_quota_resource(name) {
            errors.push(amount.invalid_as(name, "must be a standard resource for quota"));
        }
        compute::amount(name, &amount, &mut errors);
    }
    let resources: Vec<&str> =
        spec.child("hard").entries().into_iter().map(|(name, _)| name).collect();
    scopes(&spec.child("scopes"), &resources, &mut errors);
    selector(&spec.child("scopeSelector"), &resources, &mut errors);
    errors
}

fn conflicts(scopes: &[&str], place: &Place<'_>, errors: &mut Errors) {
    for pair in CONFLICTS {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.push(place.invalid("conflicting scopes"));
        }
    }
}

fn scopes(place: &Place<'_>, resources: &[&str], errors: &mut Errors) {
    let all = place.texts();
    for scope in &all {
        if !SCOPES.contains(scope) {
            errors.push(place.invalid("unsupported scope"));
        }
        for _ in resources.iter().filter(|name| is_quota_resource(name) && !covers(scope, name)) {
            errors.push(place.invalid("unsupported scope applied to resource"));
        }
    }
    conflicts(&all, place, errors);
}

fn selector(selector: &Place<'_>, resources: &[&str], errors: &mut Errors) {
    let place = selector.child("matchExpressions");
    let mut all: Vec<&str> = Vec::new();
    for requirement in place.items() {
        let called =
            |field: &str| requirement.child(field).called(format!("{}.{field}", place.path()));
        let (scope, operator, values) = (called("scopeName"), called("operator"), called("values"));
        if !SCOPES.contains(&scope.text()) {
            errors.push(scope.invalid_text("unsupported scope"));
        }
        for _ in
            resources.iter().filter(|name| is_quota_resource(name) && !covers(scope.text(), name))
        {
            let why = "unsupported scope applied to resource";
            errors.push(place.invalid_as(selector.value().clone(), why));
        }
        let exists_alone = !["PriorityClass", "VolumeAttributesClass"].contains(&scope.text());
        if SCOPES.contains(&scope.text()) && exists_alone && operator.text() != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(operator.invalid_text(why));
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(values.required(why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(values.invalid(why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid_text("not a valid selector operator")),
        }
        all.push(scope.text());
    }
    conflicts(&all, &place, errors);
}

/// What a quota counts within does not change.
pub fn quota_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let scopes = |object| Place::of(object, "spec").child("scopes");
    let sorted = |object| {
        let mut all = scopes(object).texts();
        all.sort_unstable();
        all.dedup();
        all
    };
    if sorted(new) != sorted(old) {
        errors.push(scopes(new).invalid(common::IMMUTABLE));
    }
    errors
}

pub fn limit_range(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let mut seen: Vec<&str> = Vec::new();
    for limit in Place::of(object, "spec").child("limits").items() {
        let kind = limit.child("type");
        let before = errors.len();
        common::named(&kind, names::qualified_name, &mut errors);
        let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.text());
        if errors.len() == before && !kind.text().contains('/') && !standard {
            let why = "must be a standard limit type or fully qualified";
            errors.push(kind.invalid_text(why));
        }
        if seen.contains(&kind.text()) {
            errors.push(kind.duplicate_of(kind.text()));
        }
        seen.push(kind.text());
        one_limit(&limit, &mut errors);
    }
    errors
}

fn one_limit(limit: &Place<'_>, errors: &mut Errors) {
    let kind = limit.child("type").text();
    let names = |field: &str, errors: &mut Errors| {
        for (name, amount) in limit.child(field).entries() {
            match kind {
                "Pod" | "Container" => compute::container_resource(name, &amount, errors),
                _ => {
                    compute::resource_name(name, &amount, errors);
                }
            }
        }
    };
    names("max", errors);
    names("min", errors);
    for field in ["default", "defaultRequest"] {
        if kind != "Pod" {
            names(field, errors);
        } else if !limit.child(field).is_empty() {
            let why = "may not be specified when `type` is 'Pod'";
            errors.push(limit.child(field).forbidden(why));
        }
    }
    let sizes = ["min", "max"].map(|field| limit.below(&[field, "storage"]));
    if kind == "PersistentVolumeClaim" && sizes.iter().all(|size| !size.is_set()) {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.child("limits").required(why));
    }
    names("maxLimitRequestRatio", errors);
    let mut keys: Vec<&str> = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
        .iter()
        .flat_map(|field| limit.child(field).entries())
        .map(|(name, _)| name)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        order_of_amounts(limit, key, kind, errors);
    }
}

fn order_of_amounts(limit: &Place<'_>, key: &str, kind: &str, errors: &mut Errors) {
    let amount = |field: &str| {
        let entries = limit.child(field).entries();
        entries
            .into_iter()
            .find(|(name, _)| *name == key)
            .and_then(|(_, one)| common::quantity(&one))
    };
    let defaulted = |field: &str| if kind == "Pod" { None } else { amount(field) };
    let (least, most) = (amount("min"), amount("max"));
    let (usual, request) = (defaulted("default"), defaulted("defaultRequest"));
    let mut check = |field: &str,
                     small: &Option<Quantity>,
                     large: &Option<Quantity>,
                     shown: &Option<Quantity>,
                     words: (&str, &str)| {
        if let (Some(small), Some(large), Some(shown)) = (small, large, shown)
            && small.compare(large).is_gt()
        {
            let why =
                format!("{} value {small} is greater than {} value {large}", words.0, words.1);
            let field = format!("{}.{field}[{key}]", limit.path());
            errors.push(FieldError::invalid(field, shown.to_string(), why));
        }
    };
    check("min", &least, &most, &least, ("min", "max"));
    check("defaultRequest", &least, &request, &request, ("min", "default request"));
    check("defaultRequest", &request, &most, &request, ("default request", "max"));
    check("defaultRequest", &request, &usual, &request, ("default request", "default limit"));
    check("default", &least, &usual, &least, ("min", "default"));
    check("default", &usual, &most, &most, ("default", "max"));
    let one = Quantity::parse("1").expect("one is a quantity");
    if let Some(ratio) = amount("maxLimitRequestRatio")
        && ratio.compare(&one).is_lt()
    {
        let field = format!("{}.maxLimitRequestRatio[{key}]", limit.path());
        let why = format!("ratio {ratio} is less than 1");
        errors.push(FieldError::invalid(field, ratio.to_string(), why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn quotas_and_ranges_are_checked() {
        type Rule = fn(&Object) -> Errors;
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (quota, json!({"spec": {"hard": {"pods": "1", "count/x.example.com": "2"}}}), &[]),
            (quota, json!({"spec": {"hard": {"pods": "-1"}}}), &["spec.hard[pods]"]),
            (
                quota,
                json!({"spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}}),
                &["spec.scopes"],
            ),
            (
                quota,
                json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}}),
                &["spec.scopeSelector.matchExpressions.values"],
            ),
            (
                limit_range,
                json!({"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}}),
                &["spec.limits[0].default"],
            ),
            (
                limit_range,
                json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
                &["spec.limits[0].min[cpu]"],
            ),
            (limit_range, json!({"spec": {"limits": [{"type": "X"}]}}), &["spec.limits[0].type"]),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }
}
