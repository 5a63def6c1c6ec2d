//! Rules of events, in the words of the core group, and what of the newer kind may change.

use super::common;
use super::place::{Errors, Place};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const MOST_NAME_CHARACTERS: usize = 128;
const MOST_NOTE_CHARACTERS: usize = 1024;

/// An event of the core group.
pub fn core_event(event: &Object) -> Errors {
    let mut errors = Errors::new();
    basics(event, "involvedObject", "reportingComponent", "message", &mut errors);
    errors
}

/// An event of `events.k8s.io` that is there already.
pub fn event(event: &Object) -> Errors {
    let mut errors = Errors::new();
    basics(event, "regarding", "reportingController", "note", &mut errors);
    errors
}

/// A new event of `events.k8s.io`.
pub fn new_event(event: &Object) -> Errors {
    let mut errors = Errors::new();
    series(event, &mut errors);
    if !Place::of(event, "eventTime").is_set() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = object::text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    for (field, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        let place = Place::of(event, field);
        if !place.is_empty() && place.number() != Some(0) {
            errors.push(FieldError::invalid(shown, "", "needs to be unset"));
        }
    }
    errors
}

fn series(event: &Object, errors: &mut Errors) {
    let series = Place::of(event, "series");
    if !series.is_set() {
        return;
    }
    if series.child("count").number_or_zero() < 2 {
        errors.push(series.child("count").invalid_as("", "should be at least 2"));
    }
    common::required_value(&series.child("lastObservedTime"), errors);
}

fn basics(event: &Object, about: &str, reporter: &str, note: &str, errors: &mut Errors) {
    let namespace = object::namespace(event);
    let own = object::text_at(event, &[about, "namespace"]);
    let mut mismatch = |is: bool| {
        if is {
            let why = "does not match event.namespace";
            errors.push(FieldError::invalid("involvedObject.namespace", own, why));
        }
    };
    if !Place::of(event, "eventTime").is_set() {
        match own {
            "" => mismatch(!matches!(namespace, "" | "default")),
            own => mismatch(own != namespace),
        }
    } else {
        mismatch(own.is_empty() && !matches!(namespace, "default" | "kube-system"));
        let place = Place::of(event, reporter);
        common::required(&place, errors);
        common::named(&place, names::qualified_name, errors);
        for field in ["reportingInstance", "action", "reason"] {
            let place = Place::of(event, field);
            common::required(&place, errors);
            at_most(&place, MOST_NAME_CHARACTERS, errors);
        }
        at_most(&Place::of(event, note).called("message"), MOST_NOTE_CHARACTERS, errors);
    }
    for why in names::dns_subdomain(namespace) {
        errors.push(FieldError::invalid("namespace", namespace, why));
    }
}

fn at_most(place: &Place<'_>, characters: usize, errors: &mut Errors) {
    if place.text().len() > characters {
        errors.push(place.invalid_as("", format!("can have at most {characters} characters")));
    }
}

/// What of an event of `events.k8s.io` may not change: all but its series.
pub fn event_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    if !object::same(new.get("series"), old.get("series")) {
        series(new, &mut errors);
    }
    for (field, shown) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let place = |object| Place::of(object, field).called(shown);
        common::immutable(&place(new), &place(old), &mut errors);
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    fn with(more: Value) -> Object {
        let mut event = into_object(json!({
            "metadata": {"name": "e", "namespace": "n"}, "regarding": {"namespace": "n"},
            "eventTime": "2024-01-02T03:04:05.000000Z", "reportingController": "c",
            "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal",
        }));
        event.extend(into_object(more));
        event
    }

    #[test]
    fn events_are_checked() {
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"action": ""}), &["action"]),
            (json!({"type": "X"}), &["type"]),
            (json!({"note": "x".repeat(1025)}), &["message"]),
            (json!({"regarding": {}}), &["involvedObject.namespace"]),
            (json!({"eventTime": null}), &["eventTime"]),
            (json!({"series": {"count": 1}}), &["series.count", "series.lastObservedTime"]),
        ] {
            let object = with(more.clone());
            let errors = event(&object).into_iter().chain(new_event(&object));
            let fields: Vec<String> = errors.map(|error| error.field).collect();
            assert_eq!(fields, expected, "{more}");
        }
        let errors = event_change(&with(json!({"note": "new"})), &with(json!({})));
        assert_eq!(errors[0].field, "message");
    }
}
