//! How deeply a value nests.

use serde_json::Value;

/// True when no more than `levels` objects and lists are within each other. Adds the number of values
/// it has looked at.
pub(super) fn nests_at_most(value: &Value, levels: usize, looked_at: &mut usize) -> bool {
    *looked_at += 1;
    let Some(below) = levels.checked_sub(1) else {
        return !value.is_object() && !value.is_array();
    };
    match value {
        Value::Object(fields) => {
            fields.values().all(|field| nests_at_most(field, below, looked_at))
        }
        Value::Array(items) => items.iter().all(|item| nests_at_most(item, below, looked_at)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_levels_and_values() {
        for (value, levels, values) in [
            (json!(1), 0, 1),
            (json!([]), 1, 1),
            (json!([1, 2]), 1, 3),
            (json!({"a": {"b": [null]}, "c": 1}), 3, 5),
        ] {
            let mut looked_at = 0;
            assert!(nests_at_most(&value, levels, &mut looked_at), "{value}");
            assert_eq!(looked_at, values, "{value}");
            assert!(levels == 0 || !nests_at_most(&value, levels - 1, &mut looked_at), "{value}");
        }
    }
}
