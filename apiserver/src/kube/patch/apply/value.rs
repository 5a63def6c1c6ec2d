//! Equality and order of JSON values as field sets need them: numbers compare by their value,
//! whether written as integers or not, and there is an order over values of all types.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Equal, with `1` and `1.0` being the same.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right).is_eq(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| equal(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, l)| right.get(name).is_some_and(|r| equal(l, r)))
        }
        _ => left == right,
    }
}

/// A total order: numbers, strings, booleans, lists, objects, null.
pub(super) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => left
            .iter()
            .zip(right)
            .map(|(l, r)| compare(l, r))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| left.len().cmp(&right.len())),
        (Value::Object(left), Value::Object(right)) => left
            .iter()
            .zip(right)
            .map(|((l_name, l), (r_name, r))| l_name.cmp(r_name).then_with(|| compare(l, r)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| left.len().cmp(&right.len())),
        _ => rank(left).cmp(&rank(right)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

/// Exact also for integers that floating point cannot tell apart.
fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => compare_integer(left, float(right)),
        (None, Some(right)) => compare_integer(right, float(left)).reverse(),
        (None, None) => float(left).total_cmp(&float(right)),
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

fn compare_integer(left: i128, right: f64) -> Ordering {
    // Conversion of a float to an integer saturates, which keeps the order.
    let below = right.floor();
    left.cmp(&(below as i128)).then(if right > below { Ordering::Less } else { Ordering::Equal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders_values_of_all_types() {
        let sorted = [
            json!(-1),
            json!(0.5),
            json!(1),
            json!(9_007_199_254_740_992_u64),
            json!(9_007_199_254_740_993_u64),
            json!(1e300),
            json!("a"),
            json!("b"),
            json!(false),
            json!(true),
            json!([]),
            json!([1]),
            json!({}),
            json!({"a": 1}),
            json!(null),
        ];
        for (l, left) in sorted.iter().enumerate() {
            for (r, right) in sorted.iter().enumerate() {
                assert_eq!(compare(left, right), l.cmp(&r), "{left} and {right}");
                assert_eq!(equal(left, right), l == r, "{left} and {right}");
            }
        }
    }

    #[test]
    fn numbers_are_equal_by_value() {
        for (left, right, same) in [
            (json!(1), json!(1.0), true),
            (json!({"a": [1]}), json!({"a": [1.0]}), true),
            (json!(1), json!(1.5), false),
            (json!(1), json!("1"), false),
            (json!({"a": 1}), json!({"a": 1, "b": 1}), false),
        ] {
            assert_eq!(equal(&left, &right), same, "{left} and {right}");
        }
        assert_eq!(compare(&json!(1), &json!(1.0)), Ordering::Equal);
    }
}
