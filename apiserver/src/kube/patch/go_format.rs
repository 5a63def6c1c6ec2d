//! Values as Go's `fmt` prints them: kube-apiserver's error texts contain maps and lists in that
//! form, and clients show them.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// The value as `%v` prints it: `map[image:z name:zz]`, `[a b]`, `<nil>`.
pub fn go_value(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

/// The text that `%s` gives for a value of any type.
pub(super) fn go_string_verb(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_string(),
        Value::Bool(boolean) => format!("%!s(bool={boolean})"),
        Value::Number(number) if number.is_f64() => format!("%!s(float64={})", go_number(number)),
        Value::Number(number) => format!("%!s(int64={number})"),
        Value::Array(_) | Value::Object(_) => go_value(value),
    }
}

/// The Go type that a decoded JSON value has, as `reflect.TypeOf` prints it with `%s`.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What Go's JSON decoder calls the value when it does not fit.
pub(super) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(boolean) => text.push_str(if *boolean { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&go_number(number)),
        Value::String(string) => text.push_str(string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            text.push_str("map[");
            for (index, (name, field)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(name);
                text.push(':');
                write_value(text, field);
            }
            text.push(']');
        }
    }
}

/// A number as `%v` prints it: floating point values take an exponent below 1e-4 and from 1e21.
pub(super) fn go_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let magnitude = float.abs();
    if float == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return format!("{float}");
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{mantissa}e{sign}{digits:0>2}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prints_values_as_go_does() {
        for (value, expected) in [
            (json!(null), "<nil>"),
            (json!({"name": "zz", "image": "z"}), "map[image:z name:zz]"),
            (json!([{"name": "a"}, 1, true]), "[map[name:a] 1 true]"),
            (json!([]), "[]"),
            (json!({}), "map[]"),
            (json!(1.5), "1.5"),
            (json!(2.0), "2"),
            (json!(1e21), "1e+21"),
            (json!(1.25e-7), "1.25e-07"),
            (json!(0.0001), "0.0001"),
            (json!(-9007199254740993_i64), "-9007199254740993"),
        ] {
            assert_eq!(go_value(&value), expected, "{value}");
        }
    }

    #[test]
    fn prints_the_string_verb_as_go_does() {
        for (value, expected) in [
            (json!("sideways"), "sideways"),
            (json!(5), "%!s(int64=5)"),
            (json!(null), "%!s(<nil>)"),
            (json!(true), "%!s(bool=true)"),
        ] {
            assert_eq!(go_string_verb(&value), expected, "{value}");
        }
    }
}
