//! Writes an object as Go's encoder does: `kind` and `apiVersion` first, then the fields in the
//! order of the Go structure, which is that of the protobuf numbers; maps by key; `<`, `>` and `&`
//! escaped. Messages that show an object show it like this.

use serde_json::{Map, Value};

use crate::kube::schema::{Field, FieldKind, Schema, TypeDef};

/// Fields that the Go structure has right behind the field with another number (0: at its start),
/// and those of one place in their order.
const MOVED: [(&str, &str, u32); 30] = [
    ("io.k8s.api.core.v1.Container", "terminationMessagePolicy", 13),
    ("io.k8s.api.core.v1.EphemeralContainer", "terminationMessagePolicy", 13),
    ("io.k8s.api.core.v1.ServiceSpec", "clusterIPs", 3),
    ("io.k8s.api.core.v1.ServiceSpec", "ipFamilies", 14),
    ("io.k8s.api.core.v1.ServicePort", "appProtocol", 2),
    ("io.k8s.api.core.v1.NodeSpec", "podCIDRs", 1),
    ("io.k8s.api.core.v1.NodeSpec", "externalID", 6),
    ("io.k8s.api.core.v1.PodSpec", "initContainers", 1),
    ("io.k8s.api.core.v1.PodSpec", "ephemeralContainers", 2),
    ("io.k8s.api.core.v1.PodSpec", "automountServiceAccountToken", 9),
    ("io.k8s.api.core.v1.PodSpec", "shareProcessNamespace", 13),
    ("io.k8s.api.networking.v1.IngressSpec", "ingressClassName", 0),
    ("io.k8s.api.networking.v1.HTTPIngressPath", "pathType", 1),
    ("io.k8s.api.batch.v1.JobSpec", "podFailurePolicy", 3),
    ("io.k8s.api.batch.v1.JobSpec", "successPolicy", 3),
    ("io.k8s.api.batch.v1.JobSpec", "backoffLimit", 3),
    ("io.k8s.api.batch.v1.JobSpec", "backoffLimitPerIndex", 3),
    ("io.k8s.api.batch.v1.JobSpec", "maxFailedIndexes", 3),
    ("io.k8s.api.batch.v1.CronJobSpec", "timeZone", 1),
    ("io.k8s.api.discovery.v1.EndpointSlice", "addressType", 1),
    ("io.k8s.api.authentication.v1.TokenRequestSpec", "expirationSeconds", 1),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestCondition", "status", 1),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", "apiVersion", 0),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestSpec", "signerName", 1),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestSpec", "expirationSeconds", 1),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestSpec", "usages", 1),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhook", "matchPolicy", 4),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhook", "objectSelector", 5),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhook", "matchPolicy", 4),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhook", "objectSelector", 5),
];

/// Above every field number of a message, so that a moved field follows an inline message's fields.
const BEHIND_ITS_OWN: u32 = 1_000_000;

/// Appends a value of this kind.
pub fn write(schema: &Schema, kind: &FieldKind, value: &Value, out: &mut String) {
    match (kind, value) {
        (FieldKind::Struct(id) | FieldKind::SchemaOr(_, id), Value::Object(members)) => {
            write_struct(schema, schema.type_def(*id), members, out);
        }
        (FieldKind::List(_, kind), Value::Array(list)) => {
            write_list(list, out, |value, out| write(schema, kind, value, out));
        }
        (FieldKind::SchemaOr(_, id), Value::Array(list)) => {
            let kind = FieldKind::Struct(*id);
            write_list(list, out, |value, out| write(schema, &kind, value, out));
        }
        (FieldKind::Map { value: kind, .. }, Value::Object(members)) => {
            write_members(members.iter(), out, |_, value, out| write(schema, kind, value, out));
        }
        (_, value) => write_any(value, out),
    }
}

/// Appends a value of which nothing is known: keys in their order.
pub fn write_any(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            write_members(members.iter(), out, |_, value, out| write_any(value, out));
        }
        Value::Array(list) => write_list(list, out, write_any),
        Value::String(text) => write_string(text, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_struct(
    schema: &Schema,
    type_def: &TypeDef,
    members: &Map<String, Value>,
    out: &mut String,
) {
    let mut known: Vec<(Option<&Field>, &String, &Value)> =
        members.iter().map(|(key, value)| (type_def.field(key), key, value)).collect();
    known.sort_by_key(|(field, key, _)| place(type_def, *field, key));
    let members = known.iter().map(|(_, key, value)| (*key, *value));
    write_members(members, out, |key, value, out| match type_def.field(key) {
        Some(field) => write(schema, &field.kind, value, out),
        None => write_any(value, out),
    });
}

/// Where a member stands: the two that say what an object is, fields by number, then all others.
fn place(type_def: &TypeDef, field: Option<&Field>, key: &str) -> (u8, Vec<u32>) {
    match (key, field) {
        ("kind", _) if type_def.gvk.is_some() => (0, Vec::new()),
        ("apiVersion", _) if type_def.gvk.is_some() => (1, Vec::new()),
        (_, Some(field)) if field.protobuf != 0 => {
            let name = (type_def.name.as_str(), key);
            let moved = MOVED.iter().position(|(owner, field, _)| (*owner, *field) == name);
            if let Some(index) = moved {
                let mut path = field.protobuf_outer.clone();
                path.extend([MOVED[index].2, BEHIND_ITS_OWN + index as u32]);
                return (2, path);
            }
            let mut path = field.protobuf_outer.clone();
            path.push(field.protobuf);
            (2, path)
        }
        _ => (3, Vec::new()),
    }
}

fn write_members<'a>(
    members: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut String,
    mut write_value: impl FnMut(&str, &Value, &mut String),
) {
    out.push('{');
    for (index, (key, value)) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
        write_value(key, value, out);
    }
    out.push('}');
}

fn write_list(list: &[Value], out: &mut String, mut write_value: impl FnMut(&Value, &mut String)) {
    out.push('[');
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_value(value, out);
    }
    out.push(']');
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", character as u32));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::codec::json::parse;
    use crate::kube::codec::node::Node;
    use crate::kube::schema::{GroupVersionKind, golden};

    fn text_of(type_name: &str, value: &Value) -> String {
        let schema = Schema::builtin();
        let kind = FieldKind::Struct(schema.type_named(type_name).unwrap());
        let mut out = String::new();
        write(schema, &kind, value, &mut out);
        out
    }

    #[test]
    fn fields_stand_as_in_go() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "odd": 1, "spec": {
            "nodeName": "n", "containers": [{"image": "<i>", "name": "c"}],
            "volumes": [{"name": "v", "hostPath": {"path": "/\n"}}]},
            "metadata": {"uid": "u", "labels": {"b": "1", "a": "2"}, "name": "x"}});
        let expected = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","uid":"u","labels":{"a":"2","b":"1"}},"spec":{"volumes":[{"name":"v","hostPath":{"path":"/\n"}}],"containers":[{"name":"c","image":"\u003ci\u003e"}],"nodeName":"n"},"odd":1}"#;
        assert_eq!(text_of("io.k8s.api.core.v1.Pod", &pod), expected);
    }

    /// The order of all keys, depth first.
    fn keys(node: &Node<'_>, out: &mut Vec<String>) {
        match node {
            Node::Object(members) => members.iter().for_each(|(key, value)| {
                out.push(key.to_string());
                keys(value, out);
            }),
            Node::List(list) => list.iter().for_each(|node| keys(node, out)),
            _ => {}
        }
    }

    #[test]
    fn recorded_objects_are_written_in_the_same_order() {
        let (mut compared, mut different) = (0, Vec::new());
        for (id, text) in golden::scenario_texts(&[]) {
            let scenario = parse(text.as_bytes()).unwrap();
            let Some(Node::List(steps)) = scenario.member("steps") else { continue };
            for step in steps {
                let Some(body) = step.member("expect").and_then(|expect| expect.member("body"))
                else {
                    continue;
                };
                let value = body.clone().into_value();
                // Loosened expectations, and discovery, which is not written by this.
                let is_loose = value.to_string().contains("\"$contains\"");
                if is_loose || value["kind"].as_str().is_some_and(|kind| kind.starts_with("API")) {
                    continue;
                }
                let word = |name: &str| value[name].as_str().unwrap_or("").to_owned();
                let version = word("apiVersion");
                let (group, version) = version.split_once('/').unwrap_or(("", &version));
                let kind = GroupVersionKind {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: word("kind"),
                };
                let Some(id_of_type) = Schema::builtin().type_of_kind(&kind) else { continue };
                let mut written = String::new();
                write(Schema::builtin(), &FieldKind::Struct(id_of_type), &value, &mut written);
                let (mut mine, mut theirs) = (Vec::new(), Vec::new());
                keys(&parse(written.as_bytes()).unwrap(), &mut mine);
                keys(body, &mut theirs);
                compared += 1;
                if mine != theirs {
                    let place = mine.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(0);
                    let (mine, theirs) = (&mine[place], &theirs[place]);
                    different
                        .push(format!("{}: {theirs} should come before {mine} ({id})", kind.kind));
                }
            }
        }
        assert_eq!(different, Vec::<String>::new());
        golden::say("order of recorded objects", compared, 100);
    }
}
