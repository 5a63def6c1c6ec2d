//! What the schema table can't say, one file for each group of resources: defaults, rules, what
//! the server fills in. Everything else is alike for all resources.

pub mod allocate;
mod apps;
mod batch;
pub mod certificates;
pub mod convert;
mod core;
pub mod fields;
pub mod immutable;
mod node_ports;
mod pods;
mod policies;
pub mod rules;
pub mod services;
mod storage;
pub mod warnings;

use serde_json::Value;

pub use self::pods::quality_of_service;

use super::object::Object;
use super::registry::names::{self, NameRule};
use super::status::FieldError;

type Change = fn(&mut Object);
/// The new object, and the one that is stored.
type ChangeFrom = fn(&mut Object, &Object);
/// The name of the subresource, the new object, and the one that is stored.
type ChangePart = fn(&str, &mut Object, &Object);
type Check = fn(&Object) -> Vec<FieldError>;
/// The new object, and the one that is stored.
type CheckChange = fn(&Object, &Object) -> Vec<FieldError>;
/// The name of the subresource, the new object, and the one that is stored.
type CheckPart = fn(&str, &Object, &Object) -> Vec<FieldError>;

/// What is special about one resource.
pub struct Strategy {
    /// Sets what a client may leave out. Runs on every object that a client sends.
    pub defaults: Change,
    /// What the server sets in a new object, after admission.
    pub prepare_create: Change,
    /// What an update can't change, or changes along.
    pub prepare_update: ChangeFrom,
    pub prepare_status_update: ChangeFrom,
    /// What an update by way of another subresource can't change.
    pub prepare_subresource: ChangePart,
    pub validate: Check,
    /// Further rules of new objects.
    pub validate_new: Check,
    pub validate_update: CheckChange,
    pub validate_status_update: CheckChange,
    /// Rules of an update by way of another subresource.
    pub validate_subresource: CheckPart,
    pub name_rule: NameRule,
    /// A PUT to a name that does not exist creates.
    pub create_on_update: bool,
    /// A PUT without resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// ... no changes at all: it is 1 for ever.
    pub generation_is_fixed: bool,
    /// ... and changes of these fields of metadata.
    pub generation_counts: &'static [&'static str],
    /// What an update changes is checked after what it leads to: the order of messages.
    pub checks_change_last: bool,
    /// A deletion answers with the object, not with a `Status`.
    pub returns_deleted: bool,
    /// A deletion that says nothing of dependents leaves them behind.
    pub orphans_by_default: bool,
    /// The `status` that a client sends with a new object is kept.
    pub keeps_status_on_create: bool,
    /// An update of the object may change its status.
    pub whole_updates: bool,
    /// The seconds between the wish to delete an object and its end, given the seconds that the
    /// client asked for; `None` when the resource knows no grace.
    pub grace_seconds: fn(&Object, Option<i64>) -> Option<i64>,
    /// Objects vanish after so many seconds; 0 for never.
    pub ttl_seconds: i64,
}

impl Default for Strategy {
    fn default() -> Strategy {
        Strategy {
            defaults: |_| {},
            prepare_create: |_| {},
            prepare_update: |_, _| {},
            prepare_status_update: |_, _| {},
            prepare_subresource: |_, _, _| {},
            validate: |_| Vec::new(),
            validate_new: |_| Vec::new(),
            validate_update: |_, _| Vec::new(),
            validate_status_update: |_, _| Vec::new(),
            validate_subresource: |_, _, _| Vec::new(),
            name_rule: names::dns_subdomain,
            create_on_update: false,
            unconditional_update: true,
            generation: false,
            generation_is_fixed: false,
            generation_counts: &[],
            checks_change_last: false,
            returns_deleted: false,
            orphans_by_default: false,
            keeps_status_on_create: false,
            whole_updates: false,
            grace_seconds: |_, _| None,
            ttl_seconds: 0,
        }
    }
}

/// What is special about the resource `plural` of `group`.
pub fn strategy(group: &str, plural: &str) -> Strategy {
    let mut strategy = group_strategy(group, plural);
    rules::attach(group, plural, &mut strategy);
    strategy
}

fn group_strategy(group: &str, plural: &str) -> Strategy {
    match (group, plural) {
        ("", "pods") => pods::strategy(),
        ("", "services") => services::strategy(),
        ("", _) => core::strategy(plural),
        ("apps", _) => apps::strategy(plural),
        ("batch", _) => batch::strategy(plural),
        ("events.k8s.io", _) => core::strategy(plural),
        (crate::kube::crd::GROUP, _) => crate::kube::crd::definition::strategy(),
        ("storage.k8s.io", _) => storage::strategy(plural),
        _ => policies::strategy(group, plural),
    }
}

/// A label selector (a plain map, or `matchLabels` and `matchExpressions`) as text.
pub fn selector_text(selector: &Value) -> String {
    let Some(selector) = selector.as_object() else { return String::new() };
    let empty = Object::new();
    let is_plain =
        !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions");
    let labels = if is_plain {
        selector
    } else {
        super::object::map(selector, "matchLabels").unwrap_or(&empty)
    };
    let mut terms: Vec<(String, String)> = labels
        .iter()
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for expression in super::object::list(selector, "matchExpressions") {
        let Some(expression) = expression.as_object() else { continue };
        let key = super::object::text(expression, "key");
        let mut values: Vec<&str> =
            super::object::list(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match super::object::text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// Whether labels fulfil a selector with `matchLabels` and `matchExpressions`.
pub fn selector_matches(selector: &Object, labels: &Object) -> bool {
    let wanted = super::object::map(selector, "matchLabels");
    let fulfilled = wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = super::object::list(selector, "matchExpressions");
    fulfilled
        && expressions.iter().filter_map(Value::as_object).all(|expression| {
            let value = labels.get(super::object::text(expression, "key"));
            let listed =
                value.is_some_and(|v| super::object::list(expression, "values").contains(v));
            match super::object::text(expression, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn selectors_as_text() {
        for (selector, expected) in [
            (json!({"b": "2", "a": "1"}), "a=1,b=2"),
            (json!({"matchLabels": {"app": "x"}}), "app=x"),
            (
                json!({"matchLabels": {"z": "x"}, "matchExpressions": [
                    {"key": "k", "operator": "In", "values": ["b", "a"]},
                    {"key": "n", "operator": "DoesNotExist"},
                ]}),
                "k in (a,b),!n,z=x",
            ),
            (json!({}), ""),
            (json!(null), ""),
        ] {
            assert_eq!(selector_text(&selector), expected);
        }
    }

    #[test]
    fn selectors_match_labels() {
        let labels = into_object(json!({"app": "x"}));
        for (selector, expected) in [
            (json!({"matchLabels": {"app": "x"}}), true),
            (json!({"matchLabels": {"app": "y"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}),
                true,
            ),
            (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
        ] {
            assert_eq!(selector_matches(&into_object(selector), &labels), expected);
        }
    }
}
