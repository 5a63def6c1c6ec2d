//! Rules of what says where a pod runs: affinity, tolerations, taints, topology spread.

use super::place::{Errors, Place};
use super::{common, selectors};
use crate::kube::registry::names;
use crate::kube::status::{FieldError, quoted};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const WEIGHT: &str = "must be in the range 1-100";
pub const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `affinity` of a pod.
pub fn affinity(place: &Place<'_>, errors: &mut Errors) {
    let node = place.child("nodeAffinity");
    if node.child(REQUIRED).is_set() {
        selectors::node_selector(&node.child(REQUIRED), errors);
    }
    for term in node.child(PREFERRED).items() {
        weight(&term, errors);
        selectors::node_term(&term.child("preference"), false, errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for term in place.below(&[kind, REQUIRED]).items() {
            pod_term(&term, errors);
        }
        for term in place.below(&[kind, PREFERRED]).items() {
            weight(&term, errors);
            pod_term(&term.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Place<'_>, errors: &mut Errors) {
    let weight = term.child("weight");
    if !(1..=100).contains(&weight.number_or_zero()) {
        errors.push(weight.invalid_number(WEIGHT));
    }
}

fn pod_term(term: &Place<'_>, errors: &mut Errors) {
    selectors::label_selector(&term.child("labelSelector"), errors);
    selectors::label_selector(&term.child("namespaceSelector"), errors);
    for namespace in term.child("namespaces").items() {
        let place = namespace.called(format!("{}.namespace", term.path()));
        common::named(&place, names::dns_label, errors);
    }
    label_keys(term, errors);
    let key = term.child("topologyKey");
    if key.is_empty() {
        errors.push(key.required("can not be empty"));
    }
    common::named(&key, names::qualified_name, errors);
}

/// `matchLabelKeys` and `mismatchLabelKeys`, which add to a selector.
fn label_keys(term: &Place<'_>, errors: &mut Errors) {
    let selector = term.child("labelSelector");
    let fields = [term.child("matchLabelKeys"), term.child("mismatchLabelKeys")];
    for keys in fields.iter().filter(|keys| !keys.is_empty()) {
        if !selector.is_set() {
            errors.push(keys.forbidden("must not be specified when labelSelector is not set"));
            continue;
        }
        for key in keys.items() {
            common::named(&key, names::qualified_name, errors);
        }
    }
    let [matching, mismatching] = fields;
    let mut used: Vec<&str> =
        selector.child("matchLabels").entries().into_iter().map(|(key, _)| key).collect();
    for expression in selector.child("matchExpressions").items() {
        let key = expression.child("key").text();
        let index = matching.texts().iter().rposition(|own| *own == key);
        if let Some(index) = index
            && used.contains(&key)
        {
            let field = format!("{}[{index}]", term.path());
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(field, key, why));
        }
        used.push(key);
    }
    for key in matching.items().iter().filter(|key| mismatching.texts().contains(&key.text())) {
        errors.push(key.invalid_text("exists in both matchLabelKeys and mismatchLabelKeys"));
    }
}

/// `tolerations` of a pod.
pub fn tolerations(place: &Place<'_>, errors: &mut Errors) {
    for toleration in place.items() {
        let [key, operator, value, effect] =
            ["key", "operator", "value", "effect"].map(|name| toleration.child(name));
        common::named_if_set(&key, names::qualified_name, errors);
        if key.is_empty() && operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.invalid_text(why));
        }
        if toleration.child("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(effect.invalid_text(why));
        }
        match operator.text() {
            "" | "Equal" => {
                let why = names::label_value(value.text());
                if !why.is_empty() {
                    errors.push(operator.invalid_as(value.text(), why.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(operator.invalid_as(value.text(), why));
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                errors.push(operator.unsupported(&["Equal", "Exists", "Lt", "Gt"]));
            }
            _ => errors.push(operator.unsupported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            common::listed(&effect, &TAINT_EFFECTS, errors);
        }
    }
}

/// `taints` of a node.
pub fn taints(place: &Place<'_>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in place.items() {
        common::named(&taint.child("key"), names::qualified_name, errors);
        let value = taint.child("value");
        let why = names::label_value(value.text());
        if !why.is_empty() {
            errors.push(value.invalid_text(why.join(";")));
        }
        common::one_of(&taint.child("effect"), &TAINT_EFFECTS, errors);
        let pair = (taint.child("key").text(), taint.child("effect").text());
        if seen.contains(&pair) {
            let shown = format!(
                "{{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":null}}",
                quoted(pair.0),
                quoted(value.text()),
                quoted(pair.1)
            );
            let why = "taints must be unique by key and effect pair";
            errors.push(FieldError::duplicate_raw(taint.path(), &shown, why));
        }
        seen.push(pair);
    }
}

/// `topologySpreadConstraints` of a pod.
pub fn spread(place: &Place<'_>, errors: &mut Errors) {
    let items = place.items();
    for (index, constraint) in items.iter().enumerate() {
        let [key, action] = ["topologyKey", "whenUnsatisfiable"].map(|name| constraint.child(name));
        common::positive(&constraint.child("maxSkew"), errors);
        if key.is_empty() {
            errors.push(key.required("can not be empty"));
        }
        common::listed(&action, &["DoNotSchedule", "ScheduleAnyway"], errors);
        let same = |other: &Place<'_>| {
            other.child("topologyKey").text() == key.text()
                && other.child("whenUnsatisfiable").text() == action.text()
        };
        if items[index + 1..].iter().any(same) {
            let field = format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path());
            let shown = format!("{{{}, {}}}", key.text(), action.text());
            errors.push(FieldError::duplicate(field, shown));
        }
        let domains = constraint.child("minDomains");
        if domains.is_set() {
            common::positive(&domains, errors);
            if action.text() != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    action.text()
                );
                errors.push(domains.invalid(why));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            common::one_of_if_set(&constraint.child(policy), &["Honor", "Ignore"], errors);
        }
        label_keys(constraint, errors);
        selectors::label_selector(&constraint.child("labelSelector"), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_are_checked() {
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), 0),
            (json!({"key": "a", "value": "b"}), 0),
            (json!({"value": "b"}), 1),
            (json!({"key": "a", "operator": "Exists", "value": "b"}), 1),
            (json!({"key": "a", "tolerationSeconds": 1}), 1),
            (json!({"key": "a", "effect": "X"}), 1),
        ] {
            let list = json!([toleration]);
            let mut errors = Errors::new();
            tolerations(&Place::at("t", &list), &mut errors);
            assert_eq!(errors.len(), expected, "{toleration}: {errors:?}");
        }
    }

    #[test]
    fn spread_constraints_are_told_apart() {
        let one = json!({"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"});
        let list = json!([one, one]);
        let mut errors = Errors::new();
        spread(&Place::at("s", &list), &mut errors);
        assert_eq!(errors[0].field, "s[0].{topologyKey, whenUnsatisfiable}");
        assert_eq!(errors[0].message(), "Duplicate value: \"{z, DoNotSchedule}\"");
    }
}
