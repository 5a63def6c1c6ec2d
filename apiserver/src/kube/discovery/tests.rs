//! The documents against those that a kube-apiserver gave.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::kube::schema::{Schema, golden};

fn discovery() -> Discovery {
    Discovery::new(Schema::builtin().resources(), "192.0.2.10:6443")
}

fn json(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

/// As if everything had working behaviour: what the table holds, not what is switched on.
fn everything() -> Discovery {
    let resources = Schema::builtin().resources().iter();
    let rows: Vec<Arc<Resource>> = resources
        .map(|row| {
            let mut row = Resource::clone(row);
            row.served = true;
            row.subresources.iter_mut().for_each(|sub| sub.served = true);
            Arc::new(row)
        })
        .collect();
    Discovery::new(&rows, "192.0.2.10:6443")
}

#[test]
fn documents_are_found_with_and_without_a_slash() {
    let discovery = discovery();
    for path in ["/api", "/api/", "/api/v1", "/apis/", "/apis/apps", "/apis/apps/v1/", "/version/"]
    {
        assert!(discovery.document(path).is_some(), "{path}");
    }
    for path in ["/", "/apis/apps/v2", "/api/v2", "/apis//v1"] {
        assert!(discovery.document(path).is_none(), "{path}");
    }
    let document = discovery.aggregated("/apis/").unwrap();
    assert_eq!(document.etag.len(), 130);
    assert_eq!(document.hash().len(), 128);
}

#[test]
fn only_served_resources_are_told() {
    let document = json(discovery().document("/api/v1").unwrap());
    let names: BTreeSet<&str> = document["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert!(names.contains("pods") && names.contains("pods/status"));
    for row in Schema::builtin().resources().iter().filter(|row| row.group.is_empty()) {
        assert_eq!(names.contains(row.plural.as_str()), row.served, "{}", row.plural);
    }
}

/// Placeholders of recordings: what varies, and what may have more.
fn matches(expected: &Value, actual: &Value, path: &str) {
    match (expected, actual) {
        (Value::String(text), _) if text == "${any}" => assert!(!actual.is_null(), "{path}"),
        (Value::Object(map), _) if map.contains_key("$superset") => {
            for (key, value) in map["$superset"].as_object().unwrap() {
                matches(value, &actual[key], &format!("{path}.{key}"));
            }
        }
        (Value::Object(map), _) if map.contains_key("$contains") => {
            for value in map["$contains"].as_array().unwrap() {
                let same = |other: &&Value| {
                    ["name", "metadata"].iter().all(|key| value.get(key) == other.get(key))
                };
                let found = actual.as_array().unwrap().iter().find(same);
                let Some(found) = found else { panic!("{path}: {value} is missing") };
                matches(value, found, path);
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{path}");
            a.iter().for_each(|(key, value)| matches(value, &b[key], &format!("{path}.{key}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            let pairs = a.iter().zip(b).enumerate();
            pairs.for_each(|(index, (a, b))| matches(a, b, &format!("{path}[{index}]")));
        }
        _ => assert_eq!(actual, expected, "{path}"),
    }
}

#[test]
fn recorded_documents() {
    let discovery = everything();
    let mut compared = 0;
    for exchange in golden::exchanges(&["discovery"]) {
        let accept = exchange.headers["Accept"].as_str().unwrap_or("");
        let document = match accept == AGGREGATED_CONTENT_TYPE {
            true => discovery.aggregated(&exchange.path),
            false => discovery.document(&exchange.path),
        };
        if exchange.expect["body"].is_null() || exchange.status != 200 {
            continue;
        }
        let document = document.unwrap_or_else(|| panic!("{} is missing", exchange.path));
        matches(&exchange.expect["body"], &json(document), &exchange.path);
        compared += 1;
    }
    golden::say("recorded discovery documents", compared, 30);
}
