//! Rules of single values that many resources share.

use std::cmp::Ordering;

use serde_json::Value;

use super::place::{Errors, Place};
use crate::kube::registry::names::{self, NameRule};
use crate::kube::schema::quantity::Quantity;

pub const NEGATIVE: &str = "must be greater than or equal to 0";
pub const NOT_POSITIVE: &str = "must be greater than zero";
pub const IMMUTABLE: &str = "field is immutable";
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const ENVIRONMENT_NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const HEADER_NAME: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const PATH_CHARACTERS: &[u8] = b"/-._~%!$&'()*+,;=:";
const PATH_TEXT: &str =
    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";

/// A number that is not below 0; nothing counts as 0.
pub fn non_negative(place: &Place<'_>, errors: &mut Errors) {
    if place.number_or_zero() < 0 {
        errors.push(place.invalid(NEGATIVE));
    }
}

/// A number above 0; nothing counts as 0.
pub fn positive(place: &Place<'_>, errors: &mut Errors) {
    if place.number_or_zero() <= 0 {
        errors.push(place.invalid_number(NOT_POSITIVE));
    }
}

/// A number that must be within bounds when it is there.
pub fn within(place: &Place<'_>, lowest: i64, highest: i64, errors: &mut Errors) {
    if place.number().is_some_and(|number| !(lowest..=highest).contains(&number)) {
        errors.push(place.invalid(format!("must be between {lowest} and {highest}, inclusive")));
    }
}

/// A text that must be there.
pub fn required(place: &Place<'_>, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(place.required(""));
    }
}

/// A value that must be there, whatever it is.
pub fn required_value(place: &Place<'_>, errors: &mut Errors) {
    if !place.is_set() {
        errors.push(place.required(""));
    }
}

/// One of these texts must be there; no text at all is "required".
pub fn one_of(place: &Place<'_>, supported: &[&str], errors: &mut Errors) {
    match place.text() {
        "" => errors.push(place.required("")),
        _ => listed(place, supported, errors),
    }
}

/// One of these texts; the empty one is unsupported like any other.
pub fn listed(place: &Place<'_>, supported: &[&str], errors: &mut Errors) {
    if !supported.contains(&place.text()) {
        errors.push(place.unsupported(supported));
    }
}

/// One of these texts, if any.
pub fn one_of_if_set(place: &Place<'_>, supported: &[&str], errors: &mut Errors) {
    if place.is_set() {
        listed(place, supported, errors);
    }
}

/// A text that follows a rule for names.
pub fn named(place: &Place<'_>, rule: NameRule, errors: &mut Errors) {
    errors.extend(rule(place.text()).into_iter().map(|why| place.invalid_text(why)));
}

/// A text that must be there and follows a rule for names.
pub fn required_name(place: &Place<'_>, rule: NameRule, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(place.required(""));
    } else {
        named(place, rule, errors);
    }
}

/// A text that follows a rule for names unless it is empty.
pub fn named_if_set(place: &Place<'_>, rule: NameRule, errors: &mut Errors) {
    if !place.is_empty() {
        named(place, rule, errors);
    }
}

/// A change that may not be.
pub fn immutable(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    if !crate::kube::object::same(Some(new.value()), Some(old.value())) {
        errors.push(new.invalid(IMMUTABLE));
    }
}

/// The number of a port.
pub fn port_number(place: &Place<'_>, errors: &mut Errors) {
    if !(1..=65_535).contains(&place.number_or_zero()) {
        errors.push(place.invalid_number(PORT_RANGE));
    }
}

/// Why a text is no name of a port (IANA_SVC_NAME).
pub fn port_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push("must be no more than 15 characters".to_owned());
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(fits) {
        let why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        errors.push(why.to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A port, by number or by name.
pub fn port_number_or_name(place: &Place<'_>, errors: &mut Errors) {
    match place.value() {
        Value::String(_) => named(place, port_name, errors),
        _ => port_number(place, errors),
    }
}

/// Why a text is no name of an environment variable.
pub fn environment_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    let printable = |character: char| matches!(character, ' '..='~') && character != '=';
    match name.chars().all(printable) {
        true => Vec::new(),
        false => vec![ENVIRONMENT_NAME.to_owned()],
    }
}

/// Why a text is no name of an HTTP header.
pub fn header_name(name: &str) -> Vec<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    match !name.is_empty() && name.bytes().all(fits) {
        true => Vec::new(),
        false => vec![HEADER_NAME.to_owned()],
    }
}

/// The percentage in a text such as `25%`.
pub fn percentage(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The number of an amount or a percentage.
pub fn amount(value: &Value) -> i64 {
    percentage(value).or(value.as_i64()).unwrap_or(0)
}

/// An amount that is not below 0, or a percentage.
pub fn amount_or_percentage(place: &Place<'_>, errors: &mut Errors) {
    match place.value() {
        Value::String(_) if percentage(place.value()).is_none() => {
            errors.push(place.invalid(PERCENT));
        }
        Value::String(_) => {}
        _ => non_negative(place, errors),
    }
}

pub fn at_most_all(place: &Place<'_>, errors: &mut Errors) {
    if percentage(place.value()).is_some_and(|percent| percent > 100) {
        errors.push(place.invalid("must not be greater than 100%"));
    }
}

/// `domain/path`
pub fn domain_prefixed_path(place: &Place<'_>, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(place.required(""));
        return;
    }
    let (host, path) = place.text().split_once('/').unwrap_or(("", ""));
    if host.is_empty() || path.is_empty() {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(place.invalid_text(why));
        return;
    }
    errors.extend(names::dns_subdomain(host).into_iter().map(|why| place.invalid_as(host, why)));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || PATH_CHARACTERS.contains(&byte);
    if !path.bytes().all(fits) {
        errors.push(place.invalid_as(path, PATH_TEXT));
    }
}

/// A domain of at least so many segments, such as `a.example.com`.
pub fn qualified_domain(place: &Place<'_>, errors: &mut Errors) {
    let name = place.text();
    if name.is_empty() {
        errors.push(place.required(""));
        return;
    }
    let why = names::dns_subdomain(name);
    if !why.is_empty() {
        errors.push(place.invalid_text(why.join(",")));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(place.invalid_text(why));
    }
}

/// The quantity at a place; canonical texts are readable.
pub fn quantity(place: &Place<'_>) -> Option<Quantity> {
    match place.value() {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// How a quantity compares to zero; nothing is zero.
pub fn sign(place: &Place<'_>) -> Ordering {
    let zero = Quantity::parse("0").expect("zero is a quantity");
    quantity(place).map_or(Ordering::Equal, |quantity| quantity.compare(&zero))
}

pub fn non_negative_quantity(place: &Place<'_>, errors: &mut Errors) {
    if sign(place) == Ordering::Less {
        errors.push(place.invalid(NEGATIVE));
    }
}

/// A path that stays below its root.
pub fn descending_path(place: &Place<'_>, errors: &mut Errors) {
    if place.text().starts_with('/') {
        errors.push(place.invalid_text("must be a relative path"));
    }
    no_backsteps(place, errors);
}

pub fn no_backsteps(place: &Place<'_>, errors: &mut Errors) {
    if place.text().split('/').any(|part| part == "..") {
        errors.push(place.invalid_text("must not contain '..'"));
    }
}

/// A descending path that does not begin like the names that volumes reserve.
pub fn unreserved_path(place: &Place<'_>, errors: &mut Errors) {
    descending_path(place, errors);
    if place.text().starts_with("..") && !place.text().starts_with("../") {
        errors.push(place.invalid_text("must not start with '..'"));
    }
}

/// The permission bits of a file.
pub fn file_mode(place: &Place<'_>, errors: &mut Errors) {
    if place.number().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.push(place.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(value: Value, rule: fn(&Place<'_>, &mut Errors)) -> Vec<String> {
        let mut errors = Errors::new();
        rule(&Place::at("f", &value), &mut errors);
        errors.iter().map(|error| error.message()).collect()
    }

    #[test]
    fn rules_of_single_values() {
        type Case = (fn(&Place<'_>, &mut Errors), Value, usize);
        let cases: Vec<Case> = vec![
            (non_negative, json!(0), 0),
            (non_negative, json!(null), 0),
            (non_negative, json!(-1), 1),
            (positive, json!(null), 1),
            (port_number, json!(65535), 0),
            (port_number, json!(65536), 1),
            (port_number_or_name, json!("http"), 0),
            (port_number_or_name, json!("80"), 1),
            (port_number_or_name, json!("-a--b"), 2),
            (amount_or_percentage, json!("25%"), 0),
            (amount_or_percentage, json!("x%"), 1),
            (amount_or_percentage, json!(-1), 1),
            (at_most_all, json!("101%"), 1),
            (domain_prefixed_path, json!("example.com/a"), 0),
            (domain_prefixed_path, json!("a"), 1),
            (domain_prefixed_path, json!("A_/?"), 2),
            (qualified_domain, json!("a.example.com"), 0),
            (qualified_domain, json!("example.com"), 1),
            (non_negative_quantity, json!("1Gi"), 0),
            (non_negative_quantity, json!("-1"), 1),
            (unreserved_path, json!("a/b"), 0),
            (unreserved_path, json!("..a"), 1),
            (unreserved_path, json!("/a/../b"), 2),
            (file_mode, json!(0o777), 0),
            (file_mode, json!(0o1000), 1),
        ];
        for (rule, value, expected) in cases {
            let found = messages(value.clone(), rule);
            assert_eq!(found.len(), expected, "{value}: {found:?}");
        }
        assert!(environment_name("a b").is_empty());
        assert_eq!(environment_name("a=b").len(), 1);
        assert_eq!(header_name("X Y").len(), 1);
    }
}
