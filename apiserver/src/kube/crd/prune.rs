//! Fields that a schema does not know leave an object.

use serde_json::{Map, Value};

use super::{flag, word};
use crate::kube::codec::{self, node::Node};
use crate::kube::schema::Schema;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What every object has besides its schema's fields.
const IMPLICIT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes out of a value what its schema does not know; `is_object` when it is an object of its own.
/// The paths of what was taken are added to `unknown`.
pub fn prune(
    value: &mut Value,
    schema: &Value,
    path: &str,
    is_object: bool,
    unknown: &mut Vec<String>,
) {
    match value {
        Value::Object(members) => prune_members(members, schema, path, is_object, unknown),
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            for (index, item) in list.iter_mut().enumerate() {
                prune(item, items, &format!("{path}[{index}]"), false, unknown);
            }
        }
        _ => {}
    }
}

fn prune_members(
    members: &mut Map<String, Value>,
    schema: &Value,
    path: &str,
    is_object: bool,
    unknown: &mut Vec<String>,
) {
    let is_object = is_object || flag(schema, "x-kubernetes-embedded-resource");
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties");
    let keeps = flag(schema, "x-kubernetes-preserve-unknown-fields")
        || additional == Some(&Value::Bool(true))
        || (word(schema, "type").is_empty() && properties.is_none() && additional.is_none());
    members.retain(|key, value| {
        let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if is_object && IMPLICIT.contains(&key.as_str()) {
            if key == "metadata" {
                prune_metadata(value, &place, unknown);
            }
            return true;
        }
        let below = properties.and_then(|own| own.get(key));
        let below = below.or(additional.filter(|schema| schema.is_object()));
        match below {
            Some(schema) => prune(value, schema, &place, false, unknown),
            None if keeps => {}
            None => {
                unknown.push(format!("unknown field \"{place}\""));
                return false;
            }
        }
        true
    });
}

/// The metadata of an object within an object.
fn prune_metadata(metadata: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let schema = Schema::builtin();
    let Some(type_id) = schema.type_named(OBJECT_META) else { return };
    let Ok(decoded) = codec::decode_node(schema, type_id, Node::from_value(metadata)) else {
        return;
    };
    let own = decoded.strict_errors.iter();
    unknown.extend(own.map(|text| text.replacen("field \"", &format!("field \"{path}."), 1)));
    *metadata = decoded.value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_goes() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "object"}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }}}});
        let mut value = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "other": 1,
            "spec": {"a": "1", "b": 2, "raw": {"kept": 1}, "map": {"m": {"gone": 1}},
                "list": [{"x": "1", "y": 2}], "inner": {"metadata": {"name": "p", "odd": 1}, "free": 1}},
        });
        let mut unknown = Vec::new();
        prune(&mut value, &schema, "", true, &mut unknown);
        unknown.sort();
        let fields =
            ["other", "spec.b", "spec.inner.metadata.odd", "spec.list[0].y", "spec.map.m.gone"];
        assert_eq!(unknown, fields.map(|field| format!("unknown field \"{field}\"")));
        let spec = json!({"a": "1", "raw": {"kept": 1}, "map": {"m": {}}, "list": [{"x": "1"}],
            "inner": {"metadata": {"name": "p"}, "free": 1}});
        assert_eq!(value["spec"], spec);
    }
}
