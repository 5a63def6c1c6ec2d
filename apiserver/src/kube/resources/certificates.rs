//! Requests for certificates: who may set which of their conditions.

use serde_json::{Value, json};

use crate::kube::object::{self, Object};
use crate::kube::status::FieldError;

/// Conditions that are set by way of `approval`; all others by way of `status`.
const OF_APPROVAL: [&str; 2] = ["Approved", "Denied"];

fn is_of_approval(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|kind| OF_APPROVAL.contains(&kind))
}

/// An approval or a denial: of the status nothing else changes.
pub fn approve(new: &mut Object, old: &Object, now: &str) {
    merge_conditions(new, old, now, is_of_approval);
    let mut status = object::map(old, "status").cloned().unwrap_or_default();
    let own = object::map(new, "status").cloned().unwrap_or_default();
    object::copy_field(&own, &mut status, "conditions");
    if !status.is_empty() {
        new.insert("status".to_owned(), Value::Object(status));
    }
}

/// A change of the status: approvals and denials stay.
pub fn set_status(new: &mut Object, old: &Object, now: &str) {
    merge_conditions(new, old, now, |condition| !is_of_approval(condition));
}

/// Takes the conditions that may change from the new object, all others from the old one, and gives
/// new ones their times.
fn merge_conditions(new: &mut Object, old: &Object, now: &str, may_change: fn(&Value) -> bool) {
    let before = object::list_at(old, &["status", "conditions"]);
    let wanted = object::list_at(new, &["status", "conditions"]);
    let mut conditions: Vec<Value> =
        before.iter().filter(|condition| !may_change(condition)).cloned().collect();
    for condition in wanted.iter().filter(|condition| may_change(condition)) {
        let mut condition = condition.clone();
        let known = before
            .iter()
            .find(|old| old["type"] == condition["type"] && old["status"] == condition["status"]);
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.into();
        }
        if condition["lastTransitionTime"].is_null() {
            condition["lastTransitionTime"] = match known {
                Some(known) => known["lastTransitionTime"].clone(),
                None => now.into(),
            };
        }
        conditions.push(condition);
    }
    let status = object::map_mut(new, "status");
    match conditions.is_empty() {
        true => drop(status.remove("conditions")),
        false => drop(status.insert("conditions".to_owned(), json!(conditions))),
    }
}

/// The rules of conditions.
pub fn check(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let conditions = object::list_at(object, &["status", "conditions"]);
    for (index, condition) in conditions.iter().enumerate() {
        let text = |name: &str| condition[name].as_str().unwrap_or("");
        let field = |name: &str| format!("status.conditions[{index}].{name}");
        let is_settled = matches!(text("type"), "Approved" | "Denied" | "Failed");
        if text("type").is_empty() {
            errors.push(FieldError::required(field("type"), ""));
        }
        if is_settled && text("status") != "True" {
            errors.push(FieldError::not_supported(field("status"), text("status"), &["True"]));
        }
        let other = match text("type") {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => continue,
        };
        if conditions[..index].iter().any(|condition| condition["type"] == other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(field("type"), text("type"), why));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn approvals_have_a_door_of_their_own() {
        let old =
            into_object(json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}));
        let wanted = json!({"status": {"certificate": "x", "conditions": [
            {"type": "Approved", "status": "True"}, {"type": "Other", "status": "True"}]}});
        let mut new = into_object(wanted.clone());
        approve(&mut new, &old, "t");
        assert_eq!(
            new["status"],
            json!({"conditions": [
                {"type": "Failed", "status": "True"},
                {"type": "Approved", "status": "True", "lastUpdateTime": "t", "lastTransitionTime": "t"},
            ]})
        );
        let mut new = into_object(wanted);
        set_status(&mut new, &old, "t");
        let kinds: Vec<&Value> = object::list_at(&new, &["status", "conditions"])
            .iter()
            .map(|condition| &condition["type"])
            .collect();
        assert_eq!(kinds, ["Other"]);
        assert_eq!(new["status"]["certificate"], "x");
    }
}
