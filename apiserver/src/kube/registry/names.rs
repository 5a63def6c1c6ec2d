//! What names, label keys and label values may look like (RFC 1123 and Kubernetes' own
//! rules), with the texts that say why not. An empty answer means that the name is fine.

/// Bytes of a DNS label, and of the name part of a qualified name.
const LABEL_BYTES: usize = 63;
const SUBDOMAIN_BYTES: usize = 253;

const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WILDCARD_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const RELAXED_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_NAME_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(limit_bytes: usize) -> String {
    format!("must be no more than {limit_bytes} characters")
}

/// Labels count in the same way and call it otherwise.
fn too_many_bytes(limit_bytes: usize) -> String {
    format!("must be no more than {limit_bytes} bytes")
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| *byte != b'-')
        && bytes.last().is_some_and(|byte| *byte != b'-')
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`
fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn check(text: &str, limit_bytes: usize, fits: bool, why: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > limit_bytes {
        errors.push(too_long(limit_bytes));
    }
    if !fits {
        errors.push(why.to_owned());
    }
    errors
}

/// The name of most objects.
pub fn dns_subdomain(name: &str) -> Vec<String> {
    check(name, SUBDOMAIN_BYTES, name.split('.').all(is_label), SUBDOMAIN_TEXT)
}

/// The name of a namespace or a service.
pub fn dns_label(name: &str) -> Vec<String> {
    let dots_are_all = name.split('.').all(is_label);
    let why = if dots_are_all { "must not contain dots" } else { LABEL_TEXT };
    check(name, LABEL_BYTES, is_label(name), why)
}

/// The name of what was once made for DNS servers that know letters first.
pub fn dns_1035_label(name: &str) -> Vec<String> {
    let fits = is_label(name) && name.as_bytes()[0].is_ascii_lowercase();
    check(name, LABEL_BYTES, fits, LABEL_1035_TEXT)
}

/// A domain below which every name is meant: `*.example.com`.
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let fits = name.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label));
    check(name, SUBDOMAIN_BYTES, fits, WILDCARD_TEXT)
}

/// A search domain, whose labels may have underscores.
pub fn relaxed_subdomain(name: &str) -> Vec<String> {
    let is_relaxed = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        !rest.starts_with('_') && !rest.ends_with('_') && is_label(&rest.replace('_', "-"))
    };
    check(name, SUBDOMAIN_BYTES, name.split('.').all(is_relaxed), RELAXED_TEXT)
}

/// The name of roles and other objects that only have to fit into a path.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|illegal| name.contains(**illegal))
        .map(|illegal| format!("may not contain '{illegal}'"))
        .collect()
}

/// The key of a label or an annotation: `[prefix/]name`.
pub fn qualified_name(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(dns_subdomain(prefix).iter().map(|why| format!("prefix part {why}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED_NAME_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES {
        errors.push(format!("name part {}", too_many_bytes(LABEL_BYTES)));
    }
    if !is_qualified_part(name) {
        errors.push(format!("name part {QUALIFIED_NAME_TEXT}"));
    }
    errors
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_BYTES {
        errors.push(too_many_bytes(LABEL_BYTES));
    }
    if !value.is_empty() && !is_qualified_part(value) {
        errors.push(LABEL_VALUE_TEXT.to_owned());
    }
    errors
}

/// The key of an entry of a ConfigMap or a Secret.
pub fn config_key(key: &str) -> Vec<String> {
    let fits = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let mut errors = check(key, SUBDOMAIN_BYTES, fits, CONFIG_KEY_TEXT);
    if key == "." {
        errors.push("must not be '.'".to_owned());
    } else if key == ".." {
        errors.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

/// How the names of a resource's objects are checked.
pub type NameRule = fn(&str) -> Vec<String>;

/// A `generateName` is checked as the name it will begin: a trailing dash is fine.
pub fn masked_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        type Case = (NameRule, &'static str, usize);
        let cases: &[Case] = &[
            (dns_subdomain, "example.com", 0),
            (dns_subdomain, "a..b", 1),
            (dns_subdomain, "A", 1),
            (dns_subdomain, "", 1),
            (dns_label, "a-1", 0),
            (dns_label, "a.b", 1),
            (dns_label, "-a", 1),
            (path_segment, "system:node", 0),
            (path_segment, "a/b%", 2),
            (qualified_name, "example.com/Name_1", 0),
            (qualified_name, "/x", 1),
            (qualified_name, "a/b/c", 1),
            (qualified_name, "Example.com/x", 1),
            (label_value, "", 0),
            (label_value, "-", 1),
            (config_key, "tls.crt", 0),
            (config_key, "..a", 1),
            (config_key, "a b", 1),
        ];
        for (rule, name, errors) in cases {
            assert_eq!(rule(name).len(), *errors, "{name}: {:?}", rule(name));
        }
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    }

    #[test]
    fn a_prefix_may_end_in_a_dash() {
        assert_eq!(masked_trailing_dash("pre-"), "prea");
        assert_eq!(masked_trailing_dash("Bad_"), "Bad_");
    }
}
