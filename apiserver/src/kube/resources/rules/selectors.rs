//! Rules of labels and of what selects by them.

use super::common;
use super::place::{Errors, Place};
use crate::kube::object::Object;
use crate::kube::registry::names;

const NO_OPERATOR: &str = "not a valid selector operator";

/// A map of labels.
pub fn labels(place: &Place<'_>, errors: &mut Errors) {
    for (key, value) in place.entries() {
        errors.extend(names::qualified_name(key).into_iter().map(|why| place.invalid_as(key, why)));
        let text = value.text();
        errors.extend(names::label_value(text).into_iter().map(|why| place.invalid_as(text, why)));
    }
}

/// A map of annotations.
pub fn annotations(place: &Place<'_>, errors: &mut Errors) {
    for (key, _) in place.entries() {
        let why = names::qualified_name(&key.to_lowercase());
        errors.extend(why.into_iter().map(|why| place.invalid_as(key, why)));
    }
}

/// A label selector: `matchLabels` and `matchExpressions`.
pub fn label_selector(place: &Place<'_>, errors: &mut Errors) {
    labels(&place.child("matchLabels"), errors);
    for requirement in place.child("matchExpressions").items() {
        label_requirement(&requirement, errors);
    }
}

fn label_requirement(place: &Place<'_>, errors: &mut Errors) {
    let values = place.child("values");
    match place.child("operator").text() {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(values.required(why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(values.forbidden(why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.push(place.child("operator").invalid_text(NO_OPERATOR)),
    }
    common::named(&place.child("key"), names::qualified_name, errors);
    for value in values.items() {
        common::named(&value, names::label_value, errors);
    }
}

/// Whether a selector can't be used to select.
pub fn is_broken(place: &Place<'_>) -> bool {
    let mut errors = Errors::new();
    label_selector(place, &mut errors);
    !errors.is_empty()
}

/// Whether a selector has no requirement.
pub fn selects_everything(place: &Place<'_>) -> bool {
    place.child("matchLabels").is_empty() && place.child("matchExpressions").is_empty()
}

/// Whether labels fulfil a selector.
pub fn matches(selector: &Place<'_>, labels: &Object) -> bool {
    selector.map().is_some_and(|selector| super::super::selector_matches(selector, labels))
}

/// A node selector: terms of which one must be fulfilled.
pub fn node_selector(place: &Place<'_>, errors: &mut Errors) {
    let terms = place.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_term(&term, true, errors);
    }
}

/// One term of a node selector; `strict` about the values of labels.
pub fn node_term(place: &Place<'_>, strict: bool, errors: &mut Errors) {
    for requirement in place.child("matchExpressions").items() {
        node_requirement(&requirement, strict, errors);
    }
    for requirement in place.child("matchFields").items() {
        node_field(&requirement, errors);
    }
}

fn node_requirement(place: &Place<'_>, strict: bool, errors: &mut Errors) {
    let values = place.child("values");
    match place.child("operator").text() {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(values.required(why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(values.forbidden(why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(values.required(why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.push(place.child("operator").invalid_text(NO_OPERATOR)),
    }
    common::named(&place.child("key"), names::qualified_name, errors);
    for value in values.items().iter().filter(|_| strict) {
        common::named(value, names::label_value, errors);
    }
}

fn node_field(place: &Place<'_>, errors: &mut Errors) {
    let values = place.child("values");
    match place.child("operator").text() {
        "In" | "NotIn" if values.len() != 1 => {
            let why =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(values.required(why));
        }
        "In" | "NotIn" => {}
        _ => errors.push(place.child("operator").invalid_text(NO_OPERATOR)),
    }
    if place.child("key").text() != "metadata.name" {
        errors.push(place.child("key").invalid_text("not a valid field selector key"));
        return;
    }
    for value in values.items() {
        common::named(&value, names::dns_subdomain, errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_checked() {
        type Rule = fn(&Place<'_>, &mut Errors);
        let expression = |operator: &str, values: serde_json::Value| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        let term = |operator: &str, values: serde_json::Value| json!({"nodeSelectorTerms": [expression(operator, values)]});
        let cases: Vec<(Rule, serde_json::Value, &[&str])> = vec![
            (
                label_selector,
                json!({"matchLabels": {"a b": "-"}}),
                &["f.matchLabels", "f.matchLabels"],
            ),
            (label_selector, expression("In", json!(["x"])), &[]),
            (label_selector, expression("In", json!([])), &["f.matchExpressions[0].values"]),
            (label_selector, expression("Exists", json!(["x"])), &["f.matchExpressions[0].values"]),
            (label_selector, expression("Gt", json!(["1"])), &["f.matchExpressions[0].operator"]),
            (node_selector, json!({}), &["f.nodeSelectorTerms"]),
            (node_selector, term("Gt", json!(["1"])), &[]),
            (
                node_selector,
                term("Gt", json!([])),
                &["f.nodeSelectorTerms[0].matchExpressions[0].values"],
            ),
        ];
        for (rule, value, expected) in cases {
            let mut errors = Errors::new();
            rule(&Place::at("f", &value), &mut errors);
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{value}");
        }
    }
}
