//! Cells of events, in either of their versions.

use serde_json::Value;

use super::age_of_time;
use crate::kube::object::{self, Object};

/// The first of these fields that says something.
fn first<'a>(object: &'a Object, names: &[&str]) -> &'a str {
    names.iter().map(|name| object::text(object, name)).find(|text| !text.is_empty()).unwrap_or("")
}

fn first_time(object: &Object) -> &str {
    first(object, &["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"])
}

pub(super) fn first_seen(object: &Object, now: i64) -> Value {
    age_of_time(first_time(object), now).into()
}

pub(super) fn last_seen(object: &Object, now: i64) -> Value {
    let time = match object::map(object, "series") {
        Some(series) => object::text(series, "lastObservedTime"),
        None => match first(object, &["lastTimestamp", "deprecatedLastTimestamp"]) {
            "" => first_time(object),
            time => time,
        },
    };
    age_of_time(time, now).into()
}

fn involved(object: &Object) -> Option<&Object> {
    object::map(object, "involvedObject").or_else(|| object::map(object, "regarding"))
}

/// `kind/name` of what the event is about.
pub(super) fn about(object: &Object, _now: i64) -> Value {
    let Some(involved) = involved(object) else { return "".into() };
    let kind = object::text(involved, "kind").to_lowercase();
    match object::text(involved, "name") {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

/// The part of the object that the event is about.
pub(super) fn part(object: &Object, _now: i64) -> Value {
    involved(object).map_or("", |involved| object::text(involved, "fieldPath")).into()
}

pub(super) fn message(object: &Object, _now: i64) -> Value {
    first(object, &["message", "note"]).trim().into()
}

pub(super) fn count(object: &Object, _now: i64) -> Value {
    match object::map(object, "series") {
        Some(series) => object::integer_at(series, &["count"]).into(),
        None => object::integer_at(object, &["count"])
            .max(object::integer_at(object, &["deprecatedCount"]))
            .max(1)
            .into(),
    }
}

/// Who reports the event, and from where.
pub(super) fn source(object: &Object, _now: i64) -> Value {
    let part = |name: &str| {
        let core = object::text_at(object, &["source", name]);
        if core.is_empty() { object::text_at(object, &["deprecatedSource", name]) } else { core }
    };
    let component = match part("component") {
        "" => first(object, &["reportingComponent", "reportingController"]),
        text => text,
    };
    let host = match part("host") {
        "" => object::text(object, "reportingInstance"),
        text => text,
    };
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn both_versions_show_the_same() {
        let now = 1_700_000_000;
        let core = into_object(json!({
            "firstTimestamp": "2023-11-14T22:12:20Z", "lastTimestamp": "2023-11-14T22:13:10Z", "count": 3,
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "message": " hello\n",
            "source": {"component": "me", "host": "here"},
        }));
        let new = into_object(json!({
            "deprecatedFirstTimestamp": "2023-11-14T22:12:20Z", "note": "hello",
            "deprecatedLastTimestamp": "2023-11-14T22:13:10Z", "deprecatedCount": 3,
            "regarding": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
            "reportingController": "me", "reportingInstance": "here",
        }));
        for object in [core, new] {
            let cells = [first_seen, last_seen, about, part, message, count, source];
            let cells = cells.map(|cell| cell(&object, now));
            let expected = json!(["60s", "10s", "pod/p", "spec", "hello", 3, "me, here"]);
            assert_eq!(Value::from(cells.to_vec()), expected);
        }
    }

    #[test]
    fn a_series_tells_its_own_time_and_count() {
        let object = into_object(json!({
            "eventTime": "2023-11-14T22:12:20.000000Z", "lastTimestamp": "2023-11-14T22:12:21Z", "count": 1,
            "series": {"count": 7, "lastObservedTime": "2023-11-14T22:13:15.000000Z"},
        }));
        assert_eq!(count(&object, 0), 7);
        assert_eq!(last_seen(&object, 1_700_000_000), "5s");
        assert_eq!(count(&Object::new(), 0), 1);
    }
}
