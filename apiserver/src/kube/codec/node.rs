//! A document before its types are known: what JSON, YAML and patches become first. It keeps the
//! order and the repetitions of keys, and the digits of numbers, because messages tell them.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// A value; text is borrowed from the document where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Node<'a> {
    Null,
    Boolean(bool),
    /// As it was written.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    List(Vec<Node<'a>>),
    /// In the document's order; a key may come twice.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The same document, borrowing its text.
    pub fn from_value(value: &'a Value) -> Node<'a> {
        match value {
            Value::Null => Node::Null,
            Value::Bool(value) => Node::Boolean(*value),
            Value::Number(number) => Node::Number(Cow::Owned(number.to_string())),
            Value::String(text) => Node::String(Cow::Borrowed(text)),
            Value::Array(list) => Node::List(list.iter().map(Node::from_value).collect()),
            Value::Object(map) => Node::Object(
                map.iter()
                    .map(|(key, value)| (Cow::Borrowed(key.as_str()), Node::from_value(value)))
                    .collect(),
            ),
        }
    }

    /// The document without a type: of a repeated key the last value stays.
    pub fn into_value(self) -> Value {
        match self {
            Node::Null => Value::Null,
            Node::Boolean(value) => Value::Bool(value),
            Node::Number(digits) => number(&digits).map_or(Value::Null, Value::Number),
            Node::String(text) => Value::String(text.into_owned()),
            Node::List(list) => Value::Array(list.into_iter().map(Node::into_value).collect()),
            Node::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(key, node)| (key.into_owned(), node.into_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The last member with this key.
    pub fn member(&self, name: &str) -> Option<&Node<'a>> {
        match self {
            Node::Object(members) => {
                members.iter().rev().find(|(key, _)| key == name).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// What messages call it, as Go's JSON decoder does.
    pub fn word(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Boolean(_) => "bool",
            Node::Number(_) => "number",
            Node::String(_) => "string",
            Node::List(_) => "array",
            Node::Object(_) => "object",
        }
    }
}

/// A JSON number: whole when it is written or meant whole. `None` when it is out of range.
pub fn number(digits: &str) -> Option<Number> {
    if let Ok(whole) = digits.parse::<i64>() {
        return Some(Number::from(whole));
    }
    let value = digits.parse::<f64>().ok()?;
    // Below this bound every whole f64 is an exact i64.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    match value.fract() == 0.0 && value.abs() < WHOLE {
        true => Some(Number::from(value as i64)),
        false => Number::from_f64(value),
    }
}
