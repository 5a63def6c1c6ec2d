//! Cells of who may do what: bindings, certificates, admission, flow control and API services.

use serde_json::Value;

use super::duration_text;
use super::nodes::condition;
use crate::kube::object::{self, Object};

pub(super) fn binding_role(object: &Object, _now: i64) -> Value {
    let part = |name: &str| object::text_at(object, &["roleRef", name]);
    format!("{}/{}", part("kind"), part("name")).into()
}

/// The subjects of a kind; service accounts with their namespace.
pub(super) fn subjects(object: &Object, kind: &str) -> Value {
    let subjects = object::list(object, "subjects").iter().filter_map(Value::as_object);
    let named = subjects.filter(|subject| object::text(subject, "kind") == kind).map(|subject| {
        let name = object::text(subject, "name");
        match kind {
            "ServiceAccount" => format!("{}/{name}", object::text(subject, "namespace")),
            _ => name.to_owned(),
        }
    });
    named.collect::<Vec<_>>().join(", ").into()
}

pub(super) fn certificate_duration(object: &Object, _now: i64) -> Value {
    let seconds = object::at(object, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
    seconds.map_or_else(|| "<none>".to_owned(), duration_text).into()
}

/// What was decided about a request for a certificate, and what became of it.
pub(super) fn certificate_condition(object: &Object, _now: i64) -> Value {
    let is = |kind: &str| condition(object, kind).is_some();
    let decision = match (is("Denied"), is("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let failed = if is("Failed") { ",Failed" } else { "" };
    let issued = !object::text_at(object, &["status", "certificate"]).is_empty();
    format!("{decision}{failed}{}", if issued { ",Issued" } else { "" }).into()
}

pub(super) fn flow_schema_dangling(object: &Object, _now: i64) -> Value {
    condition(object, "Dangling").map_or("?", |dangling| object::text(dangling, "status")).into()
}

/// Flow schemas are shown in the order in which they are tried.
pub(super) fn sort_flow_schemas(objects: &mut [Object]) {
    objects.sort_by_cached_key(|object| {
        let precedence = object::integer_at(object, &["spec", "matchingPrecedence"]);
        (precedence, object::name(object).to_owned())
    });
}

pub(super) fn policy_parameter_kind(object: &Object, _now: i64) -> Value {
    let kind = object::at(object, &["spec", "paramKind"]).and_then(Value::as_object);
    let Some(kind) = kind else { return "<unset>".into() };
    format!("{}/{}", object::text(kind, "apiVersion"), object::text(kind, "kind")).into()
}

/// Which parameter a binding uses: `namespace/name`, or by which labels.
pub(super) fn policy_parameter(object: &Object, _now: i64) -> Value {
    let parameter = object::at(object, &["spec", "paramRef"]).and_then(Value::as_object);
    let Some(parameter) = parameter else { return "<unset>".into() };
    match (object::text(parameter, "namespace"), object::text(parameter, "name")) {
        (_, "") => match object::map(parameter, "selector") {
            Some(selector) => selector_as_go_has_it(selector).into(),
            None => "<unset>".into(),
        },
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

/// A label selector as kube-apiserver writes the structure itself.
fn selector_as_go_has_it(selector: &Object) -> String {
    let mut labels = String::new();
    for (key, value) in object::map(selector, "matchLabels").into_iter().flatten() {
        labels += &format!("{key}: {},", value.as_str().unwrap_or(""));
    }
    let mut expressions = String::new();
    for one in object::list(selector, "matchExpressions").iter().filter_map(Value::as_object) {
        let values: Vec<&str> =
            object::list(one, "values").iter().filter_map(Value::as_str).collect();
        let (key, operator) = (object::text(one, "key"), object::text(one, "operator"));
        expressions += &format!(
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},",
            values.join(" ")
        );
    }
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// `namespace/name` of the service behind an API; `Local` when it is this server.
pub(super) fn api_service_reference(object: &Object, _now: i64) -> Value {
    let service = object::at(object, &["spec", "service"]).and_then(Value::as_object);
    let Some(service) = service else { return "Local".into() };
    format!("{}/{}", object::text(service, "namespace"), object::text(service, "name")).into()
}

pub(super) fn api_service_available(object: &Object, _now: i64) -> Value {
    let Some(available) = condition(object, "Available") else { return "Unknown".into() };
    match (object::text(available, "status"), object::text(available, "reason")) {
        ("True", _) => "True".into(),
        (status, "") => status.into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn bindings() {
        let object = into_object(json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "User", "name": "v"},
                {"kind": "ServiceAccount", "namespace": "default", "name": "sa"},
            ],
        }));
        assert_eq!(binding_role(&object, 0), "ClusterRole/view");
        assert_eq!(subjects(&object, "User"), "u, v");
        assert_eq!(subjects(&object, "Group"), "");
        assert_eq!(subjects(&object, "ServiceAccount"), "default/sa");
    }

    #[test]
    fn certificates() {
        for (status, expected) in [
            (json!({}), "Pending"),
            (
                json!({"conditions": [{"type": "Approved"}], "certificate": "eA=="}),
                "Approved,Issued",
            ),
            (json!({"conditions": [{"type": "Approved"}, {"type": "Denied"}]}), "Denied"),
            (json!({"conditions": [{"type": "Approved"}, {"type": "Failed"}]}), "Approved,Failed"),
        ] {
            assert_eq!(certificate_condition(&into_object(json!({"status": status})), 0), expected);
        }
    }

    #[test]
    fn parameters_of_policies() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "k", "operator": "In", "values": ["x", "y"]}]});
        for (parameter, expected) in [
            (json!({"name": "n", "namespace": "ns"}), "ns/n"),
            (json!({"name": "n"}), "*/n"),
            (
                json!({"selector": selector}),
                "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:\
                 []LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}",
            ),
        ] {
            let object = into_object(json!({"spec": {"paramRef": parameter}}));
            assert_eq!(policy_parameter(&object, 0), expected);
        }
        assert_eq!(policy_parameter(&Object::new(), 0), "<unset>");
    }

    #[test]
    fn flow_schemas_by_precedence() {
        let schema = |name: &str, precedence: i64| {
            into_object(
                json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence}}),
            )
        };
        let mut objects = [schema("c", 2), schema("b", 1), schema("a", 2)];
        sort_flow_schemas(&mut objects);
        assert_eq!(
            objects.each_ref().map(|object| object::name(object).to_owned()),
            ["b", "a", "c"]
        );
    }

    #[test]
    fn api_services() {
        for (object, reference, available) in [
            (json!({}), "Local", "Unknown"),
            (
                json!({"spec": {"service": {"namespace": "n", "name": "s"}}, "status": {"conditions":
                    [{"type": "Available", "status": "False", "reason": "ServiceNotFound"}]}}),
                "n/s",
                "False (ServiceNotFound)",
            ),
        ] {
            let object = into_object(object);
            assert_eq!(api_service_reference(&object, 0), reference);
            assert_eq!(api_service_available(&object, 0), available);
        }
    }
}
