//! One step of a path into an object, and how it is written in `fieldsV1` and in messages.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::value;
use crate::kube::patch::go_format::go_value;

/// One step of a path.
#[derive(Debug, Clone)]
pub enum PathElement {
    /// A field of an object.
    Field(String),
    /// The element of a list whose fields have these values; sorted by name.
    Key(Vec<(String, Value)>),
    /// The element of a set that is this value.
    Value(Value),
    /// The element of a list at this place.
    Index(i64),
}

/// Why a text is not a path element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ElementError {
    /// A kind of element that a later version may know; it is left out.
    UnknownKind,
    /// Not readable.
    Malformed,
}

impl PathElement {
    /// Reads `f:name`, `k:{"key":"value"}`, `v:"value"` or `i:0`.
    pub(super) fn parse(text: &str) -> Result<PathElement, ElementError> {
        let (kind, rest) = text.split_once(':').ok_or(ElementError::Malformed)?;
        if kind.len() != 1 {
            return Err(ElementError::Malformed);
        }
        let json = || serde_json::from_str(rest).map_err(|_| ElementError::Malformed);
        match kind {
            "f" => Ok(PathElement::Field(rest.to_string())),
            "v" => Ok(PathElement::Value(json()?)),
            "i" => rest.parse().map(PathElement::Index).map_err(|_| ElementError::Malformed),
            "k" => match json()? {
                Value::Object(fields) => {
                    let mut key: Vec<_> = fields.into_iter().collect();
                    key.sort_by(|(left, _), (right, _)| left.cmp(right));
                    Ok(PathElement::Key(key))
                }
                _ => Err(ElementError::Malformed),
            },
            _ => Err(ElementError::UnknownKind),
        }
    }

    /// Appends the form that [`PathElement::parse`] reads.
    pub(super) fn write(&self, text: &mut String) {
        match self {
            PathElement::Field(name) => {
                text.push_str("f:");
                text.push_str(name);
            }
            PathElement::Key(fields) => {
                text.push_str("k:{");
                for (index, (name, field)) in fields.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    write_json_string(text, name);
                    text.push(':');
                    write_json(text, field);
                }
                text.push('}');
            }
            PathElement::Value(element) => {
                text.push_str("v:");
                write_json(text, element);
            }
            PathElement::Index(index) => {
                text.push_str("i:");
                text.push_str(&index.to_string());
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &PathElement) -> Ordering {
        match (self, other) {
            (PathElement::Field(left), PathElement::Field(right)) => left.cmp(right),
            (PathElement::Key(left), PathElement::Key(right)) => left
                .iter()
                .zip(right)
                .map(|((l_name, l), (r_name, r))| {
                    l_name.cmp(r_name).then_with(|| value::compare(l, r))
                })
                .find(|order| order.is_ne())
                .unwrap_or_else(|| left.len().cmp(&right.len())),
            (PathElement::Value(left), PathElement::Value(right)) => value::compare(left, right),
            (PathElement::Index(left), PathElement::Index(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &PathElement) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &PathElement) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

/// As conflicts name it: `.field`, `[name="x",port=80]`, `[="value"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(fields) => {
                f.write_str("[")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", readable(field))?;
                }
                f.write_str("]")
            }
            PathElement::Value(element) => write!(f, "[={}]", readable(element)),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value within a path: strings are quoted, everything else stands as it is.
fn readable(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(readable).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| format!("{name}={}", readable(field))).collect()
        }
        scalar => go_value(scalar),
    }
}

fn write_json(text: &mut String, value: &Value) {
    match value {
        Value::String(string) => write_json_string(text, string),
        other => escape_html(text, &other.to_string()),
    }
}

fn write_json_string(text: &mut String, string: &str) {
    let quoted = serde_json::to_string(string).expect("a string can be written as JSON");
    escape_html(text, &quoted);
}

/// Stored field sets have these characters escaped, so the same path must always be the same
/// text.
fn escape_html(text: &mut String, json: &str) {
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_writes_and_shows_elements() {
        for (text, shown) in [
            ("f:data", ".data"),
            ("f:example.com/a:b", ".example.com/a:b"),
            ("f:", "."),
            (r#"k:{"name":"a"}"#, r#"[name="a"]"#),
            (r#"k:{"port":80,"protocol":"TCP"}"#, r#"[port=80,protocol="TCP"]"#),
            (r#"v:"example.com/x""#, r#"[="example.com/x"]"#),
            (r#"v:"a\u003cb""#, r#"[="a<b"]"#),
            ("v:true", "[=true]"),
            ("v:null", "[=null]"),
            ("v:1.5", "[=1.5]"),
            ("i:3", "[3]"),
        ] {
            let element = PathElement::parse(text).expect(text);
            let mut written = String::new();
            element.write(&mut written);
            assert_eq!(written, text);
            assert_eq!(element.to_string(), shown);
        }
    }

    #[test]
    fn sorts_the_fields_of_a_key() {
        let element = PathElement::parse(r#"k:{"protocol":"TCP","port":80}"#).expect("a key");
        let key = vec![("port".to_string(), json!(80)), ("protocol".to_string(), json!("TCP"))];
        assert_eq!(element, PathElement::Key(key));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for (text, error) in [
            ("", ElementError::Malformed),
            ("f", ElementError::Malformed),
            ("field:x", ElementError::Malformed),
            ("k:[]", ElementError::Malformed),
            ("k:{", ElementError::Malformed),
            ("v:", ElementError::Malformed),
            ("v:1 2", ElementError::Malformed),
            ("i:x", ElementError::Malformed),
            ("z:1", ElementError::UnknownKind),
        ] {
            assert_eq!(PathElement::parse(text), Err(error), "{text:?}");
        }
    }
}
