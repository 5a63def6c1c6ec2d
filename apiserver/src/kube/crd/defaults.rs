//! The defaults of a schema.

use serde_json::Value;

use super::flag;

/// Sets what is absent, or null where the schema has no null.
pub fn apply(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (key, schema) in properties.into_iter().flatten() {
                let absent = members.get(key).is_none_or(|value| is_wrong_null(value, schema));
                if let Some(default) = schema.get("default")
                    && absent
                {
                    members.insert(key.clone(), default.clone());
                }
                if let Some(value) = members.get_mut(key) {
                    apply(value, schema);
                }
            }
            let Some(additional) = schema.get("additionalProperties").filter(|s| s.is_object())
            else {
                return;
            };
            for (_, value) in members
                .iter_mut()
                .filter(|(key, _)| properties.is_none_or(|own| !own.contains_key(*key)))
            {
                apply_to_element(value, additional);
            }
        }
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            list.iter_mut().for_each(|value| apply_to_element(value, items));
        }
        _ => {}
    }
}

fn apply_to_element(value: &mut Value, schema: &Value) {
    if is_wrong_null(value, schema)
        && let Some(default) = schema.get("default")
    {
        *value = default.clone();
    }
    apply(value, schema);
}

fn is_wrong_null(value: &Value, schema: &Value) -> bool {
    value.is_null() && !flag(schema, "nullable")
}

/// Takes out nulls where the schema has no null, as if they had not been written.
pub fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties").filter(|s| s.is_object());
            members.retain(|key, value| {
                let Some(schema) = properties.and_then(|own| own.get(key)).or(additional) else {
                    return true;
                };
                if is_wrong_null(value, schema) && schema.get("type").is_some() {
                    return false;
                }
                drop_nulls(value, schema);
                true
            });
        }
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            list.iter_mut().for_each(|value| drop_nulls(value, items));
        }
        _ => {}
    }
}

/// Whether a schema has a default anywhere.
pub fn has_any(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, below)| match key.as_str() {
            "default" => true,
            "properties" => {
                below.as_object().is_some_and(|properties| properties.values().any(has_any))
            }
            "items" | "additionalProperties" => has_any(below),
            _ => false,
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_values_and_wrong_nulls_are_set() {
        let schema = json!({"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "open": {"type": "string", "nullable": true, "default": "x"},
            "gone": {"type": "string"},
            "ports": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"q": {"type": "integer", "default": 1}}}},
        }});
        let mut value =
            json!({"size": null, "open": null, "gone": null, "ports": [{}], "map": {"m": {}}});
        apply(&mut value, &schema);
        drop_nulls(&mut value, &schema);
        let expected =
            json!({"size": 3, "open": null, "ports": [{"p": "TCP"}], "map": {"m": {"q": 1}}});
        assert_eq!(value, expected);
        assert!(has_any(&schema));
        let without = json!({"type": "object", "properties": {"default": {"type": "string"}}});
        assert!(!has_any(&without), "a property may have that name");
    }
}
