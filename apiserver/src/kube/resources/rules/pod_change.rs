//! What of a pod may change, by which door.

use serde_json::Value;

use super::place::{Errors, Place};
use super::{addresses, common, pods};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

/// A change of the pod itself.
pub fn change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    for field in CONTAINERS {
        let list = now.child(field);
        if list.len() != before.child(field).len() {
            errors.push(list.forbidden("pod updates may not add or remove containers"));
            return errors;
        }
        for container in list.items() {
            common::required(&container.child("image"), &mut errors);
            pods::trimmed_image(&container, &mut errors);
        }
    }
    let deadline = now.child("activeDeadlineSeconds");
    match (deadline.number(), before.child("activeDeadlineSeconds").number()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            common::within(&deadline, 0, i64::from(i32::MAX), &mut errors);
            return errors;
        }
        (Some(seconds), Some(old)) if old < seconds => {
            errors.push(deadline.invalid("must be less than or equal to previous value"));
            return errors;
        }
        (None, Some(_)) => {
            errors.push(deadline.invalid("must not update from a positive integer to nil value"));
        }
        _ => {}
    }
    tolerations(&now.child("tolerations"), &before.child("tolerations"), &mut errors);
    gates(&now.child("schedulingGates"), &before.child("schedulingGates"), &mut errors);
    if changeable_aside(new, old) != changeable_aside(old, old) {
        errors.push(FieldError::forbidden("spec", CHANGEABLE));
    }
    errors
}

/// Tolerations may be added; those with seconds may get other seconds.
fn tolerations(now: &Place<'_>, before: &Place<'_>, errors: &mut Errors) {
    let timeless = |toleration: &Place<'_>| {
        let mut own = toleration.map().cloned().unwrap_or_default();
        own.remove("tolerationSeconds");
        own
    };
    let all = now.items();
    for old in before.items() {
        if !all.iter().any(|toleration| timeless(toleration) == timeless(&old)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(now.forbidden(why));
            return;
        }
    }
}

/// Gates may be taken away.
fn gates(now: &Place<'_>, before: &Place<'_>, errors: &mut Errors) {
    let names = |list: &Place<'_>| -> Vec<String> {
        list.items().iter().map(|gate| gate.child("name").text().to_owned()).collect()
    };
    let known = names(before);
    for gate in now.items() {
        let name = gate.child("name").text();
        if !known.iter().any(|own| own == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(gate.forbidden(why));
        }
    }
}

/// The spec with what may change as it was before.
fn changeable_aside(pod: &Object, old: &Object) -> Object {
    let mut spec = object::map(pod, "spec").cloned().unwrap_or_default();
    let before = object::map(old, "spec").cloned().unwrap_or_default();
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        spec.remove(field);
    }
    let grace = "terminationGracePeriodSeconds";
    let was_negative = object::integer_at(&before, &[grace]) < 0;
    if was_negative && object::integer_at(&spec, &[grace]) == 1 {
        object::copy_field(&before, &mut spec, grace);
    }
    for field in CONTAINERS {
        for container in elements(&mut spec, field) {
            container.remove("image");
        }
    }
    if !object::list(&before, "schedulingGates").is_empty() {
        spec.remove("nodeSelector");
        if let Some(Value::Object(affinity)) = spec.get_mut("affinity") {
            affinity.remove("nodeAffinity");
        }
        if object::same(spec.get("affinity"), None) {
            spec.remove("affinity");
        }
    }
    spec
}

fn elements<'a>(spec: &'a mut Object, field: &str) -> impl Iterator<Item = &'a mut Object> {
    let list = spec.get_mut(field).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// A change by way of `ephemeralcontainers`: some may be added.
pub fn ephemeral_change(new: &Object, old: &Object) -> Errors {
    let mut errors = pods::pod(new);
    let list = Place::of(new, "spec").child("ephemeralContainers");
    for before in Place::of(old, "spec").child("ephemeralContainers").items() {
        let name = before.child("name").text();
        let found = list.items().into_iter().find(|now| now.child("name").text() == name);
        match found {
            None => {
                let why = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(list.forbidden(why));
            }
            Some(now) if now.value() != before.value() => {
                let why = format!("existing ephemeral containers \"{name}\" may not be changed\n");
                errors.push(list.forbidden(why));
            }
            Some(_) => {}
        }
    }
    errors
}

/// A change by way of `resize`: processor and memory of containers.
pub fn resize(new: &Object, old: &Object) -> Errors {
    let mut errors = pods::pod(new);
    let class = super::super::pods::quality_of_service;
    if class(new) != class(old) {
        let shown = object::text_at(new, &["status", "qosClass"]);
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", shown, why));
    }
    for field in CONTAINERS {
        let before = Place::of(old, "spec").child(field).items();
        for container in Place::of(new, "spec").child(field).items() {
            let name = container.child("name").text();
            let Some(old) = before.iter().find(|old| old.child("name").text() == name) else {
                continue;
            };
            for kind in ["requests", "limits"] {
                let amounts = container.child("resources").child(kind);
                let own = amounts.map();
                let is_kept = |key: &str| own.is_some_and(|own| own.contains_key(key));
                let old = old.child("resources").child(kind);
                if old.entries().iter().any(|(key, _)| !is_kept(key)) {
                    let what = format!("resource {kind} cannot be removed");
                    errors.push(amounts.forbidden(what));
                }
            }
        }
    }
    if resizable_aside(new) != resizable_aside(old) {
        errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
    }
    errors
}

fn resizable_aside(pod: &Object) -> Object {
    let mut spec = object::map(pod, "spec").cloned().unwrap_or_default();
    for field in CONTAINERS {
        for container in elements(&mut spec, field) {
            let Some(Value::Object(resources)) = container.get_mut("resources") else { continue };
            for kind in ["limits", "requests"] {
                if let Some(Value::Object(amounts)) = resources.get_mut(kind) {
                    amounts.remove("cpu");
                    amounts.remove("memory");
                    if amounts.is_empty() {
                        resources.remove(kind);
                    }
                }
            }
        }
    }
    spec
}

/// A change of the status.
pub fn status(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "status"), Place::of(old, "status"));
    for condition in now.child("conditions").items() {
        let generation = condition.child("observedGeneration");
        if generation.number_or_zero() < 0 {
            errors.push(generation.invalid("must be a non-negative integer"));
        }
        let kind = condition.child("type").called(format!("{}.Type", condition.path()));
        if !matches!(kind.text(), "PodScheduled" | "Ready" | "Initialized") {
            common::named(&kind, names::qualified_name, &mut errors);
        }
    }
    let nominated = now.child("nominatedNodeName");
    let changed = nominated.text() != before.child("nominatedNodeName").text();
    if changed && !nominated.is_empty() {
        common::named(&nominated, names::dns_subdomain, &mut errors);
        if !object::text_at(old, &["spec", "nodeName"]).is_empty() {
            let why = "may not be set on pods that are already bound to a node";
            errors.push(nominated.forbidden(why));
        }
    }
    let generation = now.child("observedGeneration");
    if generation.number_or_zero() < 0 {
        errors.push(generation.invalid("must be a non-negative integer"));
    }
    common::immutable(&now.child("qosClass"), &before.child("qosClass"), &mut errors);
    ended_containers(old, &now, &before, &mut errors);
    for field in ["podIPs", "hostIPs"] {
        for address in now.child(field).items() {
            addresses::lenient_address(&address.child("ip").called(address.path()), &mut errors);
        }
    }
    errors
}

/// A container that has ended does not begin again unless it is to be started again.
fn ended_containers(old: &Object, now: &Place<'_>, before: &Place<'_>, errors: &mut Errors) {
    let policy = object::text_at(old, &["spec", "restartPolicy"]);
    for status in before.child("containerStatuses").items() {
        let ended = status.below(&["state", "terminated"]);
        let code = ended.child("exitCode").number_or_zero();
        let starts_again = policy == "Always" || (policy == "OnFailure" && code != 0);
        if !ended.is_set() || starts_again {
            continue;
        }
        let name = status.child("name").text();
        let statuses = now.child("containerStatuses").items();
        let again = statuses.iter().any(|one| {
            one.child("name").text() == name && !one.below(&["state", "terminated"]).is_set()
        });
        if again {
            let why = "may not be transitioned to non-terminated state";
            errors.push(status.child("state").forbidden(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    fn pod(more: Value) -> Object {
        let mut spec = into_object(json!({"containers": [{"name": "c", "image": "a"}]}));
        spec.extend(into_object(more));
        into_object(json!({"spec": spec}))
    }

    #[test]
    fn images_may_change_and_little_else() {
        let toleration =
            |seconds: i64| json!({"tolerations": [{"key": "a", "tolerationSeconds": seconds}]});
        for (new, old, expected) in [
            (json!({"containers": [{"name": "c", "image": "b"}]}), json!({}), &[][..]),
            (json!({"nodeName": "n"}), json!({}), &["spec"]),
            (json!({"containers": []}), json!({}), &["spec.containers"]),
            (
                json!({"activeDeadlineSeconds": 5}),
                json!({"activeDeadlineSeconds": 4}),
                &["spec.activeDeadlineSeconds"],
            ),
            (json!({"activeDeadlineSeconds": 5}), json!({}), &[]),
            (toleration(2), toleration(1), &[]),
            (json!({}), toleration(1), &["spec.tolerations"]),
            (json!({"schedulingGates": [{"name": "g"}]}), json!({}), &["spec.schedulingGates[0]"]),
            (json!({}), json!({"schedulingGates": [{"name": "g"}]}), &[]),
            (
                json!({"terminationGracePeriodSeconds": 1}),
                json!({"terminationGracePeriodSeconds": -1}),
                &[],
            ),
        ] {
            let errors = change(&pod(new.clone()), &pod(old.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{old} to {new}");
        }
    }

    #[test]
    fn a_status_does_not_revive_containers() {
        let status_of = |state: Value| {
            let mut pod = pod(json!({"restartPolicy": "Never"}));
            let statuses = json!({"containerStatuses": [{"name": "c", "state": state}]});
            pod.insert("status".to_owned(), statuses);
            pod
        };
        let ended = json!({"terminated": {"exitCode": 1}});
        let errors = status(&status_of(json!({"running": {}})), &status_of(ended.clone()));
        assert_eq!(errors[0].field, "status.containerStatuses[0].state");
        assert!(status(&status_of(ended.clone()), &status_of(ended)).is_empty());
    }
}
