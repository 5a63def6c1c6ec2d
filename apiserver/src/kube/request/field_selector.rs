//! Field selectors: `metadata.name=a,status.phase!=Running`.

use crate::kube::limits::SELECTOR_BYTES;
use crate::kube::status::ApiError;

/// Requirements that all must hold. Empty selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector(Vec<FieldRequirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

impl FieldSelector {
    /// Reads a selector, whether or not its fields are known.
    pub fn parse(text: &str) -> Result<FieldSelector, ApiError> {
        if text.len() > SELECTOR_BYTES {
            return Err(ApiError::bad_request(format!(
                "the field selector is longer than {SELECTOR_BYTES} bytes"
            )));
        }
        let mut requirements = Vec::new();
        for term in split_terms(text).iter().filter(|term| !term.is_empty()) {
            let Some((field, equal, value)) = split_term(term) else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                equal,
                value: unescape(value),
            });
        }
        Ok(FieldSelector(requirements))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }

    /// The one value that `field` must have, when the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|requirement| requirement.equal && requirement.field == field)
            .map(|requirement| requirement.value.as_str())
    }

    /// Whether the selector is nothing but `metadata.name=...` (and `metadata.namespace=...`).
    pub fn only_names(&self) -> bool {
        self.0.iter().all(|requirement| {
            requirement.equal
                && matches!(requirement.field.as_str(), "metadata.name" | "metadata.namespace")
        })
    }

    /// Whether the fields that `value_of` gives fulfil the selector.
    pub fn matches(&self, value_of: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|requirement| {
            (value_of(&requirement.field) == requirement.value) == requirement.equal
        })
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        let rest = &term[index..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..index], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> String {
    let mut result = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => result.extend(characters.next()),
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let value_of = |field: &str| match field {
            "metadata.name" => "a,b".to_owned(),
            "status.phase" => "Running".to_owned(),
            _ => String::new(),
        };
        for (selector, expected) in [
            ("", true),
            ("metadata.name=a\\,b", true),
            ("metadata.name==x", false),
            ("status.phase!=Running", false),
            ("status.phase=Running,spec.nodeName=", true),
        ] {
            assert_eq!(
                FieldSelector::parse(selector).unwrap().matches(value_of),
                expected,
                "{selector}"
            );
        }
    }

    #[test]
    fn a_term_without_operator_is_refused() {
        let error = FieldSelector::parse("a").unwrap_err();
        assert_eq!(error.status().message, "invalid selector: 'a'; can't understand 'a'");
    }
}
