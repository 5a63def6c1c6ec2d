//! Rules of autoscalers.

use super::place::{Errors, Place};
use super::{common, compute};
use crate::kube::object::Object;
use crate::kube::registry::names;

const SOURCES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const MOST_PERIOD_SECONDS: i64 = 1800;
const MOST_WINDOW_SECONDS: i64 = 3600;

pub fn autoscaler(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let (least, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
    if least.number().is_some_and(|number| number < 1) {
        errors.push(least.invalid("must be greater than or equal to 1"));
    }
    match most.number_or_zero() {
        0 => errors.push(most.required("must be set and greater than 0")),
        number if number < 0 => {
            errors.push(most.invalid("must be greater than or equal to 1"));
        }
        _ => {}
    }
    if least.number().is_some_and(|number| most.number_or_zero() < number) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(most.invalid_number(why));
    }
    let old_version = crate::kube::object::text(object, "apiVersion") == "autoscaling/v1";
    reference(&spec.child("scaleTargetRef"), old_version, &mut errors);
    for metric in spec.child("metrics").items() {
        metric_rules(&metric, &mut errors);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.below(&["behavior", direction]);
        if rules.is_set() {
            scaling_rules(&rules, &mut errors);
        }
    }
    errors
}

fn reference(place: &Place<'_>, any_group: bool, errors: &mut Errors) {
    common::required_name(&place.child("kind"), names::path_segment, errors);
    common::required_name(&place.child("name"), names::path_segment, errors);
    let version = place.child("apiVersion");
    match version.text().matches('/').count() {
        0 if !any_group && !is_core(place) => {
            errors.push(version.invalid_text("apiVersion must specify API group"));
        }
        0 | 1 => {}
        _ => {
            let why = format!("unexpected GroupVersion string: {}", version.text());
            errors.push(version.invalid_text(why));
        }
    }
}

/// The one kind of the group without a name that has a scale.
fn is_core(place: &Place<'_>) -> bool {
    place.child("apiVersion").text() == "v1"
        && place.child("kind").text() == "ReplicationController"
}

fn metric_rules(metric: &Place<'_>, errors: &mut Errors) {
    let kind = metric.child("type");
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    common::listed(&kind, &SOURCES, errors);
    let fields = ["object", "external", "pods", "resource", "containerResource"];
    let set: Vec<&str> = fields.into_iter().filter(|field| metric.child(field).is_set()).collect();
    if let Some(first) = set.first() {
        source(first, &metric.child(first), errors);
    }
    let expected = match kind.text() {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => "",
    };
    if expected.is_empty() {
        errors.push(kind.unsupported(&SOURCES));
    } else if !set.contains(&expected) {
        let why = "must populate information for the given metric source";
        errors.push(metric.child(expected).required(why));
    }
    for other in set.iter().filter(|field| set.len() != 1 && **field != expected) {
        let why = "must populate the given metric source only";
        errors.push(metric.child(other).forbidden(why));
    }
}

fn source(kind: &str, place: &Place<'_>, errors: &mut Errors) {
    let target_place = place.child("target");
    let [value, average, utilization] =
        ["value", "averageValue", "averageUtilization"].map(|name| target_place.child(name));
    match kind {
        "object" => {
            reference(&place.child("describedObject"), true, errors);
            identifier(&place.child("metric"), errors);
            target(&target_place, errors);
            if !value.is_set() && !average.is_set() {
                errors.push(average.required("must set either a target value or averageValue"));
            }
        }
        "external" => {
            identifier(&place.child("metric"), errors);
            target(&target_place, errors);
            if !value.is_set() && !average.is_set() {
                let why = "must set either a target value for metric or a per-pod target";
                errors.push(average.required(why));
            }
            if value.is_set() && average.is_set() {
                let why = "may not set both a target value for metric and a per-pod target";
                errors.push(value.forbidden(why));
            }
        }
        "pods" => {
            identifier(&place.child("metric"), errors);
            target(&target_place, errors);
            if !average.is_set() {
                errors.push(average.required("must specify a positive target averageValue"));
            }
        }
        _ => {
            let name = place.child("name");
            if name.is_empty() {
                errors.push(name.required("must specify a resource name"));
            } else if kind == "containerResource" {
                compute::container_resource(name.text(), &name, errors);
            }
            let container = place.child("container");
            if kind == "containerResource" && container.is_empty() {
                errors.push(container.required("must specify a container"));
            } else if kind == "containerResource" {
                common::named(&container, names::dns_label, errors);
            }
            target(&target_place, errors);
            if !utilization.is_set() && !average.is_set() {
                let why = "must set either a target raw value or a target utilization";
                errors.push(utilization.required(why));
            }
            if utilization.is_set() && average.is_set() {
                let why = "may not set both a target raw value and a target utilization";
                errors.push(average.forbidden(why));
            }
        }
    }
}

fn identifier(place: &Place<'_>, errors: &mut Errors) {
    let name = place.child("name");
    if name.is_empty() {
        errors.push(name.required("must specify a metric name"));
    } else {
        common::named(&name, names::path_segment, errors);
    }
}

fn target(place: &Place<'_>, errors: &mut Errors) {
    let kind = place.child("type");
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind.text()) {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(kind.invalid_text(why));
    }
    for field in ["value", "averageValue"] {
        let amount = place.child(field);
        if amount.is_set() && !common::sign(&amount).is_gt() {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let utilization = place.child("averageUtilization");
    if utilization.number().is_some_and(|number| number < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

fn scaling_rules(rules: &Place<'_>, errors: &mut Errors) {
    let window = rules.child("stabilizationWindowSeconds");
    if window.number_or_zero() < 0 {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.number_or_zero() > MOST_WINDOW_SECONDS {
        let why = format!("must be less than or equal to {MOST_WINDOW_SECONDS}");
        errors.push(window.invalid(why));
    }
    common::one_of_if_set(&rules.child("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    let policies = rules.child("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        common::listed(&policy.child("type"), &["Percent", "Pods"], errors);
        common::positive(&policy.child("value"), errors);
        let period = policy.child("periodSeconds");
        common::positive(&period, errors);
        if period.number_or_zero() > MOST_PERIOD_SECONDS {
            let why = format!("must be less than or equal to {MOST_PERIOD_SECONDS}");
            errors.push(period.invalid(why));
        }
    }
    common::non_negative_quantity(&rules.child("tolerance"), errors);
}

/// The status of an autoscaler.
pub fn status(object: &Object) -> Errors {
    let mut errors = Errors::new();
    for field in ["currentReplicas", "desiredReplicas"] {
        common::non_negative(&Place::of(object, "status").child(field), &mut errors);
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn autoscalers_are_checked() {
        let metric = |more: Value| json!({"metrics": [more]});
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"maxReplicas": 0}), &["spec.maxReplicas", "spec.maxReplicas"]),
            (
                json!({"scaleTargetRef": {"kind": "A", "name": "b", "apiVersion": "v1"}}),
                &["spec.scaleTargetRef.apiVersion"],
            ),
            (metric(json!({"type": "X"})), &["spec.metrics[0].type", "spec.metrics[0].type"]),
            (metric(json!({"type": "Pods"})), &["spec.metrics[0].pods"]),
            (
                metric(
                    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}),
                ),
                &["spec.metrics[0].resource.target.averageUtilization"],
            ),
            (
                json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 4000}}}),
                &[
                    "spec.behavior.scaleUp.stabilizationWindowSeconds",
                    "spec.behavior.scaleUp.policies",
                ],
            ),
        ] {
            let mut spec = into_object(json!({
                "minReplicas": 1, "maxReplicas": 2,
                "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            }));
            spec.extend(into_object(more.clone()));
            let errors = autoscaler(&into_object(json!({"spec": spec})));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{more}");
        }
    }
}
