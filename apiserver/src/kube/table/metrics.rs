//! Cells of autoscalers.

use serde_json::Value;

use super::some_of;
use crate::kube::object::{self, Object};

/// At most so many metrics are listed; the rest is a number.
const LISTED_METRICS: usize = 2;

pub(super) fn reference(object: &Object, _now: i64) -> Value {
    let part = |name: &str| object::text_at(object, &["spec", "scaleTargetRef", name]);
    format!("{}/{}", part("kind"), part("name")).into()
}

/// `current/target` of the metrics.
pub(super) fn targets(object: &Object, _now: i64) -> Value {
    let specs = object::list_at(object, &["spec", "metrics"]);
    let current = object::list_at(object, &["status", "currentMetrics"]);
    let mut told: Vec<String> =
        specs.iter().enumerate().map(|(place, spec)| metric(spec, current.get(place))).collect();
    told.extend(of_first_version(object));
    if told.is_empty() {
        return "<none>".into();
    }
    let count = told.len();
    some_of(told, LISTED_METRICS, ", ", count).into()
}

/// The one metric that version 1 has a field for.
fn of_first_version(object: &Object) -> Option<String> {
    let percent = |path: &[&str]| {
        let number = object::at(object, path)?.as_i64()?;
        Some(format!("{number}%"))
    };
    let target = percent(&["spec", "targetCPUUtilizationPercentage"])?;
    let current = percent(&["status", "currentCPUUtilizationPercentage"]);
    Some(format!("cpu: {}/{target}", current.as_deref().unwrap_or("<unknown>")))
}

fn metric(spec: &Value, current: Option<&Value>) -> String {
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("");
    let source = match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let part = |value: Option<&Value>, path: [&str; 2]| {
        text(value?.get(source)?.get(path[0])?.get(path[1])?)
    };
    let target = |name| part(Some(spec), ["target", name]);
    let now = |name| part(current, ["current", name]).unwrap_or_else(|| "<unknown>".to_owned());
    let label = spec.get(source).and_then(|source| source.get("name")).and_then(Value::as_str);
    let label = label.map(|label| format!("{label}: ")).unwrap_or_default();
    match (source, target("averageValue")) {
        ("pods", average) => format!("{}/{}", now("averageValue"), average.unwrap_or_default()),
        ("object" | "external", Some(average)) => {
            format!("{}/{average} (avg)", now("averageValue"))
        }
        ("object" | "external", None) => {
            format!("{}/{}", now("value"), target("value").unwrap_or_default())
        }
        (_, Some(average)) => format!("{label}{}/{average}", now("averageValue")),
        (_, None) => {
            let percent = |utilization: Option<String>| utilization.map(|number| number + "%");
            let target = percent(target("averageUtilization"));
            let now = percent(part(current, ["current", "averageUtilization"]));
            let (now, target) = (now.as_deref(), target.as_deref());
            format!("{label}{}/{}", now.unwrap_or("<unknown>"), target.unwrap_or("<auto>"))
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn metrics_of_every_kind() {
        let resource = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 60}}});
        let current = json!({"resource": {"name": "cpu", "current": {"averageUtilization": 33}}});
        for (spec, current, expected) in [
            (resource.clone(), Some(current), "cpu: 33%/60%"),
            (resource, None, "cpu: <unknown>/60%"),
            (
                json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}}),
                None,
                "<unknown>/10",
            ),
            (
                json!({"type": "Object", "object": {"target": {"value": "2"}}}),
                Some(json!({"object": {"current": {"value": "1"}}})),
                "1/2",
            ),
            (
                json!({"type": "External", "external": {"target": {"averageValue": "2"}}}),
                Some(json!({"external": {"current": {"averageValue": "1"}}})),
                "1/2 (avg)",
            ),
            (
                json!({"type": "ContainerResource", "containerResource": {"name": "memory", "target": {"averageValue": "1Gi"}}}),
                None,
                "memory: <unknown>/1Gi",
            ),
            (json!({"type": "Other"}), None, "<unknown type>"),
        ] {
            assert_eq!(metric(&spec, current.as_ref()), expected);
        }
    }

    #[test]
    fn many_metrics_are_counted() {
        let one = json!({"type": "Pods", "pods": {"target": {"averageValue": "1"}}});
        let object = into_object(json!({"spec": {"metrics": [one, one, one]}}));
        assert_eq!(targets(&object, 0), "<unknown>/1, <unknown>/1 + 1 more...");
        let first = into_object(json!({"spec": {"targetCPUUtilizationPercentage": 70}}));
        assert_eq!(targets(&first, 0), "cpu: <unknown>/70%");
        assert_eq!(targets(&Object::new(), 0), "<none>");
    }
}
