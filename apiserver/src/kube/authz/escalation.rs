//! Nobody gives away more than they have: who writes a role must hold its rules, who writes a
//! binding those of its role, unless they may `escalate` or `bind`.

use super::follow::GROUP;
use super::rule::Rule;
use super::{Attributes, decide};
use crate::kube::authn::{MASTERS_GROUP, User};
use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target};
use crate::kube::status::ApiError;

/// Refuses a new or changed role or binding that gives more than the user has.
pub fn check(
    registry: &Registry,
    target: &Target,
    user: &User,
    new: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let row = &target.entry.resource;
    if row.group != GROUP || user.is_in(MASTERS_GROUP) {
        return Ok(());
    }
    let same = |field: &str| old.is_some_and(|old| object::same(old.get(field), new.get(field)));
    let namespace = target.namespace.as_str();
    let name = object::name(new);
    let asks = |verb, resource, name| Attributes {
        verb,
        group: GROUP,
        resource,
        name,
        namespace,
        ..Attributes::default()
    };
    let may = |asked: Attributes<'_>| decide(&registry.policy, user, &asked).is_ok();
    let given = match row.kind.as_str() {
        "Role" | "ClusterRole" => {
            if (same("rules") && same("aggregationRule"))
                || may(asks("escalate", &row.plural, name))
            {
                return Ok(());
            }
            if object::map(new, "aggregationRule").is_some() && !same("aggregationRule") {
                Rule::everything()
            } else {
                Rule::read_all(object::list(new, "rules"))
            }
        }
        _ => {
            let reference = |field: &str| object::text_at(new, &["roleRef", field]);
            let (kind, role) = (reference("kind"), reference("name"));
            let plural = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if (same("roleRef") && same("subjects")) || may(asks("bind", plural, role)) {
                return Ok(());
            }
            registry.policy.rules_of_role(kind, namespace, role).ok_or_else(|| {
                let resource = crate::kube::status::Named { group: GROUP, kind: plural };
                ApiError::not_found(resource, role)
            })?
        }
    };
    let own = registry.policy.rules_of(user, namespace);
    let missing: Vec<Rule> = given
        .iter()
        .flat_map(Rule::parts)
        .filter(|part| !own.iter().any(|rule| rule.covers(part)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ApiError::forbidden(target.resource(), name, &refusal(user, missing)))
}

fn refusal(user: &User, missing: Vec<Rule>) -> String {
    let mut texts: Vec<String> = compact(missing).iter().map(Rule::shown).collect();
    texts.sort();
    texts.dedup();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        texts.join("\n")
    )
}

/// Rules that differ in their verbs alone, as one.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut compact: Vec<Rule> = Vec::new();
    for rule in rules {
        let is_like = |other: &&mut Rule| {
            other.groups == rule.groups
                && other.resources == rule.resources
                && other.names == rule.names
                && other.urls == rule.urls
        };
        match compact.iter_mut().find(is_like).filter(|_| rule.urls.is_empty()) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => compact.push(rule),
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_tell_what_is_missing() {
        let rules = Rule::read_all(&[
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}),
        ]);
        let user = User {
            name: "alice".to_owned(),
            groups: vec!["dev".to_owned(), "system:authenticated".to_owned()],
            ..User::default()
        };
        let parts = rules.iter().flat_map(Rule::parts).collect();
        assert_eq!(
            refusal(&user, parts),
            "user \"alice\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"
        );
    }
}
