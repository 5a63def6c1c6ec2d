//! Rules of what keeps pods running: deployments and the like, replication controllers.

use super::place::{Errors, Place};
use super::{common, pods, selectors, storage};
use crate::kube::object::Object;
use crate::kube::registry::names;
use crate::kube::status::{FieldError, quoted};

const NO_MATCH: &str = "`selector` does not match template `labels`";

/// A selector that must be there and select something.
fn selector(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let place = spec.child("selector");
    if !place.is_set() {
        errors.push(place.required(""));
        return;
    }
    selectors::label_selector(&place, errors);
    if selectors::selects_everything(&place) {
        errors.push(place.invalid(format!("empty selector is invalid for {kind}")));
    }
}

/// The template, which the selector must match.
fn template(spec: &Place<'_>, kind: &str, claims: &[String], why: &str, errors: &mut Errors) {
    let selector = spec.child("selector");
    if selectors::is_broken(&selector) {
        errors.push(selector.invalid(why));
        return;
    }
    let place = spec.child("template");
    let everything = selector.is_set() && selectors::selects_everything(&selector);
    if !everything && !selectors::matches(&selector, &pods::labels_of_template(&place)) {
        let field = place.below(&["metadata", "labels"]);
        errors.push(field.invalid_as(pods::shown_labels(&place), NO_MATCH));
    }
    pods::template(&place, claims, errors);
    pods::restarted(&place.child("spec"), kind, errors);
}

/// A structure as kube-apiserver has it inside: its fields by their names there.
fn go_strategy(place: &Place<'_>, fields: &[(&str, &str)]) -> String {
    let rolling = place.child("rollingUpdate");
    let rolling_text = match rolling.is_set() {
        false => "null".to_owned(),
        true => {
            let texts: Vec<String> = fields
                .iter()
                .map(|(name, json_name)| format!("\"{name}\":{}", rolling.child(json_name).value()))
                .collect();
            format!("{{{}}}", texts.join(","))
        }
    };
    format!("{{\"Type\":{},\"RollingUpdate\":{rolling_text}}}", quoted(place.child("type").text()))
}

const ROLLING_FIELDS: [(&str, &str); 2] =
    [("MaxUnavailable", "maxUnavailable"), ("MaxSurge", "maxSurge")];

pub fn deployment(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    common::non_negative(&spec.child("replicas"), &mut errors);
    selector(&spec, "deployment", &mut errors);
    template(&spec, "ReplicaSet", &[], "invalid label selector", &mut errors);
    deployment_strategy(&spec.child("strategy"), &mut errors);
    common::non_negative(&spec.child("minReadySeconds"), &mut errors);
    common::non_negative(&spec.child("revisionHistoryLimit"), &mut errors);
    let deadline = spec.child("progressDeadlineSeconds");
    common::non_negative(&deadline, &mut errors);
    let ready = spec.child("minReadySeconds").number_or_zero();
    if deadline.number().is_some_and(|seconds| seconds <= ready) {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
    errors
}

fn deployment_strategy(place: &Place<'_>, errors: &mut Errors) {
    let rolling = place.child("rollingUpdate");
    match place.child("type").text() {
        "Recreate" if rolling.is_set() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(rolling.forbidden(why));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let [unavailable, surge] =
                ["maxUnavailable", "maxSurge"].map(|name| rolling.child(name));
            common::amount_or_percentage(&unavailable, errors);
            common::amount_or_percentage(&surge, errors);
            if common::amount(unavailable.value()) == 0 && common::amount(surge.value()) == 0 {
                errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            common::at_most_all(&unavailable, errors);
        }
        _ => {
            let shown = go_strategy(place, &ROLLING_FIELDS);
            let supported = ["Recreate", "RollingUpdate"];
            errors.push(FieldError::not_supported_raw(place.path(), &shown, &supported));
        }
    }
}

pub fn replica_set(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    common::non_negative(&spec.child("replicas"), &mut errors);
    common::non_negative(&spec.child("minReadySeconds"), &mut errors);
    selector(&spec, "deployment", &mut errors);
    template(&spec, "ReplicaSet", &[], "invalid label selector", &mut errors);
    errors
}

pub fn daemon_set(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let selector = spec.child("selector");
    selectors::label_selector(&selector, &mut errors);
    let place = spec.child("template");
    let labels = pods::labels_of_template(&place);
    let everything = selector.is_set() && selectors::selects_everything(&selector);
    if !selectors::is_broken(&selector) && !everything && !selectors::matches(&selector, &labels) {
        let field = place.below(&["metadata", "labels"]);
        errors.push(field.invalid_as(pods::shown_labels(&place), NO_MATCH));
    }
    if everything {
        errors.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    pods::template(&place, &[], &mut errors);
    pods::restarted(&place.child("spec"), "DaemonSet", &mut errors);
    common::non_negative(&spec.child("minReadySeconds"), &mut errors);
    daemon_strategy(&spec.child("updateStrategy"), &mut errors);
    common::non_negative(&spec.child("revisionHistoryLimit"), &mut errors);
    errors
}

fn daemon_strategy(place: &Place<'_>, errors: &mut Errors) {
    let rolling = place.child("rollingUpdate");
    match place.child("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errors.push(rolling.required("")),
        "RollingUpdate" => {
            let fields = ["maxUnavailable", "maxSurge"].map(|name| rolling.child(name));
            fields.iter().for_each(|field| common::amount_or_percentage(field, errors));
            fields.iter().for_each(|field| common::at_most_all(field, errors));
            let [unavailable, surge] = fields;
            match (common::amount(unavailable.value()) != 0, common::amount(surge.value()) != 0) {
                (true, true) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.push(surge.invalid(why));
                }
                (false, false) => {
                    errors.push(unavailable.required("cannot be 0 when maxSurge is 0"));
                }
                _ => {}
            }
        }
        _ => {
            let shown = go_strategy(place, &ROLLING_FIELDS);
            let supported = ["RollingUpdate", "OnDelete"];
            errors.push(FieldError::not_supported_raw(place.path(), &shown, &supported));
        }
    }
}

/// The rules that new stateful sets alone have: what they are about never changes.
pub fn of_new_stateful_sets(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    for claim in spec.child("volumeClaimTemplates").items() {
        storage::claim_spec(&claim.child("spec"), &mut errors);
    }
    common::named_if_set(&spec.child("serviceName"), names::dns_label, &mut errors);
    errors
}

/// The rules of every stateful set.
pub fn stateful_set(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let policy = spec.child("podManagementPolicy");
    match policy.text() {
        "" => errors.push(policy.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    stateful_strategy(&spec.child("updateStrategy"), &mut errors);
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"].iter().filter(|_| retention.is_set()) {
        common::listed(&retention.child(field), &["Retain", "Delete"], &mut errors);
    }
    let claims = spec.child("volumeClaimTemplates");
    common::non_negative(&spec.child("replicas"), &mut errors);
    common::non_negative(&spec.child("minReadySeconds"), &mut errors);
    common::non_negative(&spec.below(&["ordinals", "start"]), &mut errors);
    selector(&spec, "statefulset", &mut errors);
    let names: Vec<String> = claims
        .items()
        .iter()
        .map(|claim| claim.below(&["metadata", "name"]).text().to_owned())
        .collect();
    template(&spec, "StatefulSet", &names, "", &mut errors);
    errors
}

fn stateful_strategy(place: &Place<'_>, errors: &mut Errors) {
    let rolling = place.child("rollingUpdate");
    match place.child("type").text() {
        "" => errors.push(place.required("")),
        "OnDelete" if rolling.is_set() => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            let shown = format!(
                "{{\"Partition\":{},\"MaxUnavailable\":{}}}",
                rolling.child("partition").number_or_zero(),
                rolling.child("maxUnavailable").value()
            );
            errors.push(FieldError::invalid_raw(rolling.path(), &shown, why));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            common::non_negative(&rolling.child("partition"), errors);
            let most = rolling.child("maxUnavailable");
            if most.is_set() {
                common::amount_or_percentage(&most, errors);
                if common::amount(most.value()) == 0 {
                    errors.push(most.invalid("cannot be 0"));
                }
                common::at_most_all(&most, errors);
            }
        }
        _ => {
            let fields = [("Partition", "partition"), ("MaxUnavailable", "maxUnavailable")];
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            let shown = go_strategy(place, &fields);
            errors.push(FieldError::invalid_raw(place.path(), &shown, why));
        }
    }
}

/// What of a stateful set may change.
pub fn stateful_set_change(new: &Object, old: &Object) -> Errors {
    const CHANGEABLE: [&str; 7] = [
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "revisionHistoryLimit",
        "template",
        "updateStrategy",
    ];
    if super::same_but_for(new, old, &CHANGEABLE) {
        return Errors::new();
    }
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![FieldError::forbidden("spec", why)]
}

pub fn selector_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let selector = |object| Place::of(object, "spec").child("selector");
    common::immutable(&selector(new), &selector(old), &mut errors);
    errors
}

pub fn replication_controller(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    common::non_negative(&spec.child("minReadySeconds"), &mut errors);
    let selector = spec.child("selector");
    common::required(&selector, &mut errors);
    common::required_value(&spec.child("replicas"), &mut errors);
    common::non_negative(&spec.child("replicas"), &mut errors);
    let place = spec.child("template");
    if !place.is_set() {
        errors.push(place.required(""));
        return errors;
    }
    let labels = pods::labels_of_template(&place);
    let wanted = selector.map().into_iter().flatten();
    if !wanted.fold(true, |all, (key, value)| all && labels.get(key) == Some(value)) {
        let field = place.below(&["metadata", "labels"]);
        errors.push(field.invalid_as(pods::shown_labels(&place), NO_MATCH));
    }
    pods::template(&place, &[], &mut errors);
    pods::restarted(&place.child("spec"), "ReplicationController", &mut errors);
    errors
}

/// The data of a controller's revision is any object.
pub fn controller_revision(object: &Object) -> Errors {
    let mut errors = Errors::new();
    common::non_negative(&Place::of(object, "revision"), &mut errors);
    let data = Place::of(object, "data");
    if !data.is_set() {
        errors.push(data.required("data is mandatory"));
    } else if data.map().is_none() {
        errors.push(data.required("data must be a valid JSON object"));
    }
    errors
}

/// The status of a workload: counts are not below 0 and not above what they are parts of.
pub fn status_change(new: &Object, old: &Object) -> Errors {
    const PARTS: [&str; 4] =
        ["updatedReplicas", "currentReplicas", "fullyLabeledReplicas", "readyReplicas"];
    let mut errors = Errors::new();
    let status = Place::of(new, "status");
    let daemon = crate::kube::object::text(new, "kind") == "DaemonSet";
    for (name, value) in status.map().into_iter().flatten() {
        if value.as_i64().is_some_and(|number| number < 0) {
            errors.push(status.child(name).invalid(common::NEGATIVE));
        }
    }
    let count = |name: &str| status.child(name).number_or_zero();
    for field in PARTS.iter().chain(&["availableReplicas"]).filter(|_| !daemon) {
        if count(field) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            errors.push(status.child(field).invalid_number(why));
        }
    }
    if !daemon && count("availableReplicas") > count("readyReplicas") {
        let stateful = crate::kube::object::text(new, "kind") == "StatefulSet";
        let whole = if stateful { "status.readyReplicas" } else { "readyReplicas" };
        let why = format!("cannot be greater than {whole}");
        errors.push(status.child("availableReplicas").invalid_number(why));
    }
    let collisions = status.child("collisionCount");
    let before = Place::of(old, "status").child("collisionCount").number_or_zero();
    if collisions.number_or_zero() < before {
        errors.push(collisions.invalid_number("cannot be decremented"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    fn workload(more: Value) -> Object {
        let container = json!({
            "name": "c", "image": "i", "imagePullPolicy": "Always",
            "terminationMessagePolicy": "File",
        });
        let mut spec = into_object(json!({
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "restartPolicy": "Always", "dnsPolicy": "Default", "containers": [container],
                "terminationGracePeriodSeconds": 30,
            }},
            "strategy": {"type": "Recreate"}, "updateStrategy": {"type": "OnDelete"},
            "podManagementPolicy": "OrderedReady",
        }));
        spec.extend(into_object(more));
        into_object(json!({"spec": spec}))
    }

    #[test]
    fn workloads_are_checked() {
        type Rule = fn(&Object) -> Errors;
        let rolling = |unavailable: Value, surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (deployment, json!({}), &[]),
            (deployment, json!({"replicas": -1}), &["spec.replicas"]),
            (
                deployment,
                json!({"selector": null}),
                &["spec.selector", "spec.template.metadata.labels"],
            ),
            (deployment, json!({"selector": {}}), &["spec.selector"]),
            (deployment, json!({"strategy": {"type": "X"}}), &["spec.strategy"]),
            (
                deployment,
                json!({"strategy": rolling(json!(0), json!(0))}),
                &["spec.strategy.rollingUpdate.maxUnavailable"],
            ),
            (
                deployment,
                json!({"strategy": rolling(json!("200%"), json!("x%"))}),
                &[
                    "spec.strategy.rollingUpdate.maxSurge",
                    "spec.strategy.rollingUpdate.maxUnavailable",
                ],
            ),
            (
                deployment,
                json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
                &["spec.progressDeadlineSeconds"],
            ),
            (
                daemon_set,
                json!({"updateStrategy": rolling(json!(1), json!(1))}),
                &["spec.updateStrategy.rollingUpdate.maxSurge"],
            ),
            (
                daemon_set,
                json!({"selector": {"matchLabels": {"a": "c"}}}),
                &["spec.template.metadata.labels"],
            ),
            (replica_set, json!({"replicas": -2}), &["spec.replicas"]),
            (stateful_set, json!({"ordinals": {"start": -1}}), &["spec.ordinals.start"]),
            (stateful_set, json!({"podManagementPolicy": "X"}), &["spec.podManagementPolicy"]),
            (of_new_stateful_sets, json!({"serviceName": "A"}), &["spec.serviceName"]),
            (replication_controller, json!({"selector": {}, "replicas": 1}), &["spec.selector"]),
        ];
        for (rule, more, expected) in cases {
            let errors = rule(&workload(more.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{more}");
        }
    }

    #[test]
    fn a_strategy_is_shown_as_it_is_inside() {
        let errors = deployment(&workload(json!({"strategy": {"type": "X"}})));
        assert_eq!(
            errors[0].message(),
            "Unsupported value: {\"Type\":\"X\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\""
        );
    }
}
