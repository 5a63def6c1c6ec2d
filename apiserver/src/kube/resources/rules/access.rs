//! Rules of roles and of who has them.

use super::place::{Errors, Place};
use super::{common, selectors};
use crate::kube::object::Object;
use crate::kube::registry::names;
use crate::kube::status::{FieldError, quoted};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(object: &Object) -> Errors {
    let mut errors = Errors::new();
    for rule in Place::of(object, "rules").items() {
        policy_rule(&rule, true, &mut errors);
    }
    errors
}

pub fn cluster_role(object: &Object) -> Errors {
    let mut errors = Errors::new();
    for rule in Place::of(object, "rules").items() {
        policy_rule(&rule, false, &mut errors);
    }
    let aggregation = Place::of(object, "aggregationRule");
    let list = aggregation.child("clusterRoleSelectors");
    if aggregation.is_set() && list.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(list.required(why));
    }
    for selector in list.items() {
        selectors::label_selector(&selector, &mut errors);
    }
    errors
}

fn policy_rule(rule: &Place<'_>, namespaced: bool, errors: &mut Errors) {
    if rule.child("verbs").is_empty() {
        errors.push(rule.child("verbs").required("verbs must contain at least one value"));
    }
    let paths = rule.child("nonResourceURLs");
    let of_resources = ["apiGroups", "resources", "resourceNames"];
    if !paths.is_empty() {
        if namespaced {
            errors.push(paths.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        if of_resources.iter().any(|field| !rule.child(field).is_empty()) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(paths.invalid(why));
        }
        return;
    }
    for (field, why) in [
        ("apiGroups", "resource rules must supply at least one api group"),
        ("resources", "resource rules must supply at least one resource"),
    ] {
        if rule.child(field).is_empty() {
            errors.push(rule.child(field).required(why));
        }
    }
}

pub fn role_binding(object: &Object) -> Errors {
    binding(object, &["Role", "ClusterRole"], true)
}

pub fn cluster_role_binding(object: &Object) -> Errors {
    binding(object, &["ClusterRole"], false)
}

fn binding(object: &Object, kinds: &[&str], namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    let role = Place::of(object, "roleRef");
    common::listed(&role.child("apiGroup"), &[GROUP], &mut errors);
    common::listed(&role.child("kind"), kinds, &mut errors);
    common::required_name(&role.child("name"), names::path_segment, &mut errors);
    for subject in Place::of(object, "subjects").items() {
        one_subject(&subject, namespaced, &mut errors);
    }
    errors
}

fn one_subject(subject: &Place<'_>, namespaced: bool, errors: &mut Errors) {
    let (name, group) = (subject.child("name"), subject.child("apiGroup"));
    common::required(&name, errors);
    match subject.child("kind").text() {
        "ServiceAccount" => {
            common::named_if_set(&name, names::dns_subdomain, errors);
            if !group.is_empty() {
                errors.push(group.unsupported(&[""]));
            }
            if !namespaced {
                common::required(&subject.child("namespace"), errors);
            }
        }
        "User" | "Group" => common::listed(&group, &[GROUP], errors),
        _ => errors.push(subject.child("kind").unsupported(&["ServiceAccount", "User", "Group"])),
    }
}

/// Who has a role may change; which one, not.
pub fn binding_change(new: &Object, old: &Object) -> Errors {
    let (now, before) = (Place::of(new, "roleRef"), Place::of(old, "roleRef"));
    if now.value() == before.value() {
        return Errors::new();
    }
    let text = |field: &str| quoted(now.child(field).text());
    let shown = format!(
        "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
        text("apiGroup"),
        text("kind"),
        text("name")
    );
    vec![FieldError::invalid_raw("roleRef", &shown, "cannot change roleRef")]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn roles_and_bindings_are_checked() {
        type Rule = fn(&Object) -> Errors;
        let bound = |subject: Value| json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "r"}, "subjects": [subject]});
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (
                role,
                json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
                &[],
            ),
            (
                role,
                json!({"rules": [{"verbs": ["get"]}]}),
                &["rules[0].apiGroups", "rules[0].resources"],
            ),
            (
                role,
                json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
                &["rules[0].nonResourceURLs"],
            ),
            (
                cluster_role,
                json!({"aggregationRule": {}}),
                &["aggregationRule.clusterRoleSelectors"],
            ),
            (
                cluster_role_binding,
                bound(json!({"kind": "ServiceAccount", "name": "s"})),
                &["subjects[0].namespace"],
            ),
            (role_binding, bound(json!({"kind": "X", "name": "s"})), &["subjects[0].kind"]),
            (
                role_binding,
                json!({"roleRef": {}}),
                &["roleRef.apiGroup", "roleRef.kind", "roleRef.name"],
            ),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }
}
