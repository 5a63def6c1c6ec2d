//! What a plain YAML scalar is: null, a boolean, a number or text, by the rules of go-yaml, which
//! are those of YAML 1.1 but for the one-letter booleans.

use std::borrow::Cow;

use super::node::{Node, number as node_number};

/// A plain scalar that is not text.
pub(super) fn plain(text: &str) -> Option<Node<'static>> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Node::Null),
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(Node::Boolean(true))
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Node::Boolean(false))
        }
        _ if text.starts_with(['-', '+', '.'])
            || text.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            number(&text.replace('_', ""))
        }
        _ => None,
    }
}

/// Whether a plain scalar is read as text by everyone: not as another kind, nor as a timestamp or
/// YAML 1.1's base 60 number.
pub(super) fn is_plain_text(text: &str) -> bool {
    let one_letter_booleans = ["y", "Y", "n", "N"];
    let others =
        [".inf", ".Inf", ".INF", "+.inf", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN", "<<"];
    plain(text).is_none()
        && !one_letter_booleans.contains(&text)
        && !others.contains(&text)
        && !is_base_60(text)
        && !is_timestamp(text)
}

/// Digits, then at least one `:59`, then perhaps a fraction.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or("");
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let is_sixtieth =
        |part: &str| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    whole.contains(':')
        && first.starts_with(|c: char| c.is_ascii_digit())
        && are_digits(first)
        && are_digits(fraction)
        && parts.all(is_sixtieth)
}

/// `2006-01-02`, perhaps followed by a time.
fn is_timestamp(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let is_number = |part: Option<&str>, lengths: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| {
            lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    if !is_number(parts.next(), 4..=4) || !is_number(parts.next(), 1..=2) {
        return false;
    }
    let rest = parts.next().unwrap_or("");
    let day = rest.split(['T', 't', ' ']).next();
    let time = day.map_or("", |day| &rest[day.len()..]);
    is_number(day, 1..=2) && (time.is_empty() || time.len() > 1 && time.contains(':'))
}

fn number(text: &str) -> Option<Node<'static>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let negative = text.starts_with('-');
    let radix = |prefixes: &[&str], radix| {
        let digits = prefixes.iter().find_map(|prefix| unsigned.strip_prefix(prefix))?;
        if digits.starts_with(['-', '+']) {
            return None;
        }
        let value = i64::from_str_radix(digits, radix).ok()?;
        Some(if negative { -value } else { value })
    };
    let whole = radix(&["0b", "0B"], 2)
        .or_else(|| radix(&["0x", "0X"], 16))
        .or_else(|| radix(&["0o", "0O"], 8))
        .or_else(|| radix(&["0"], 8))
        .or_else(|| text.parse::<i64>().ok());
    if let Some(value) = whole {
        return Some(Node::Number(Cow::Owned(value.to_string())));
    }
    let is_float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    let value = text.parse::<f64>().ok().filter(|value| is_float && value.is_finite())?;
    let number = node_number(&value.to_string())?;
    Some(Node::Number(Cow::Owned(number.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_base_60() {
        for (text, expected) in [
            ("1:30", true),
            ("-190:20:30.15", true),
            ("1_0:5", true),
            ("1:60", false),
            ("192.0.2.10:6443", false),
            ("10.0.0.1:21443", false),
            ("1:", false),
            ("a:1", false),
            ("12", false),
        ] {
            assert_eq!(is_base_60(text), expected, "{text}");
        }
    }
}
