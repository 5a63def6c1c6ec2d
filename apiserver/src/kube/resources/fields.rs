//! The values that field selectors compare.

use serde_json::Value;

use crate::kube::object::{self, Object};

/// The text of `field` in an object; empty when it is not set.
pub fn value(group: &str, plural: &str, object: &Object, field: &str) -> String {
    match (group, plural, field) {
        ("", "pods", "spec.hostNetwork") | ("", "nodes", "spec.unschedulable") => {
            boolean_at(object, field)
        }
        ("", "pods", "status.podIPs") => {
            let addresses = object::list_at(object, &["status", "podIPs"]);
            let texts = addresses.iter().filter_map(|one| one.get("ip").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join(",")
        }
        ("", "events", "source") => match object::text_at(object, &["source", "component"]) {
            "" => object::text(object, "reportingComponent").to_owned(),
            component => component.to_owned(),
        },
        ("events.k8s.io", "events", "reportingController") => {
            match object::text(object, "reportingController") {
                "" => object::text_at(object, &["deprecatedSource", "component"]).to_owned(),
                controller => controller.to_owned(),
            }
        }
        (_, _, "status.replicas" | "status.successful") => number_at(object, field),
        _ => text(at(object, field)),
    }
}

fn at<'a>(object: &'a Object, field: &str) -> Option<&'a Value> {
    let path: Vec<&str> = field.split('.').collect();
    object::at(object, &path)
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn boolean_at(object: &Object, field: &str) -> String {
    (at(object, field) == Some(&Value::Bool(true))).to_string()
}

fn number_at(object: &Object, field: &str) -> String {
    let field = if field == "status.successful" { "status.succeeded" } else { field };
    at(object, field).and_then(Value::as_i64).unwrap_or(0).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn values_of_fields() {
        let object = into_object(json!({
            "metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "type": "Opaque",
            "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "succeeded": 2},
        }));
        for (plural, field, expected) in [
            ("pods", "metadata.name", "p"),
            ("pods", "spec.nodeName", "n"),
            ("pods", "spec.hostNetwork", "false"),
            ("pods", "status.podIPs", "10.0.0.1,10.0.0.2"),
            ("pods", "status.phase", ""),
            ("secrets", "type", "Opaque"),
            ("jobs", "status.successful", "2"),
        ] {
            assert_eq!(value("", plural, &object, field), expected, "{field}");
        }
    }
}
