//! Joins the fields of the definitions with the numbers of the messages, and with the hand lists.

use std::collections::BTreeMap;

use super::SchemaError;
use super::definitions::Types;
use super::messages::{Message, MessageField, Messages, message_name, normal_name};

/// The hand list of numbers, by message name.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Fields and messages that the crate lacks.
    fields: BTreeMap<String, Message>,
    /// Fields whose message's own fields stand directly in the JSON object.
    inline: Vec<Inline>,
}

#[derive(Debug)]
struct Inline {
    owner: String,
    name: String,
    /// The inlined message when the crate's source doesn't name it plainly.
    message: Option<String>,
}

/// What a reviewer wants to know of a join.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fields: usize,
    /// `type.field` of the fields that stay without a number.
    pub(crate) without_number: Vec<String>,
}

/// Reads the list: `field TYPE name number [TYPE]` and `inline TYPE name [TYPE]`, `#` starts a comment.
pub(crate) fn parse_numbers(text: &str) -> Result<Numbers, SchemaError> {
    let mut numbers = Numbers::default();
    for (line, words) in lines(text) {
        let bad = || SchemaError::List { line, problem: format!("{words:?} is not understood") };
        match words[..] {
            ["field", owner, name, number, ref inner @ ..] => {
                let number = number.parse().map_err(|_| bad())?;
                let message = inner.first().map(|name| message_name(name)).unwrap_or_default();
                let fields = numbers.fields.entry(message_name(owner)).or_default();
                fields.insert(normal_name(name), MessageField { number, message });
            }
            ["inline", owner, name, ref inner @ ..] => numbers.inline.push(Inline {
                owner: message_name(owner),
                name: normal_name(name),
                message: inner.first().map(|name| message_name(name)),
            }),
            _ => return Err(bad()),
        }
    }
    Ok(numbers)
}

/// Gives every field its number, where one is known.
pub(crate) fn join(
    types: &mut Types,
    messages: &mut Messages,
    numbers: &Numbers,
) -> Result<Report, SchemaError> {
    for (message, fields) in &numbers.fields {
        messages.entry(message.clone()).or_default().extend(fields.clone());
    }
    let mut report = Report::default();
    for (type_name, row) in types {
        let mut paths = BTreeMap::new();
        collect_paths(&message_name(type_name), messages, &numbers.inline, &[], &mut paths);
        for (field_name, field) in &mut row.fields {
            report.fields += 1;
            let is_type_meta = matches!(field_name.as_str(), "apiVersion" | "kind");
            match paths.get(&normal_name(field_name)) {
                Some(path) => field.numbers = path.clone(),
                None if is_type_meta => {}
                None => report.without_number.push(format!("{type_name}.{field_name}")),
            }
        }
    }
    Ok(report)
}

/// The way to every field of a message, through the messages that are written inline.
fn collect_paths(
    message: &str,
    messages: &Messages,
    inline: &[Inline],
    outer: &[u32],
    paths: &mut BTreeMap<String, Vec<u32>>,
) {
    let none = Message::new();
    for (name, field) in messages.get(message).unwrap_or(&none) {
        let mut path = outer.to_vec();
        path.push(field.number);
        match inline.iter().find(|inline| inline.owner == message && inline.name == *name) {
            Some(found) => {
                let inner = found.message.as_ref().unwrap_or(&field.message);
                collect_paths(inner, messages, inline, &path, paths);
            }
            None => {
                paths.insert(name.clone(), path);
            }
        }
    }
}

pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.split('#').next().unwrap_or("");
        let words: Vec<&str> = line.split_whitespace().collect();
        (!words.is_empty()).then_some((index + 1, words))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{definitions, table, values};

    const DEFINITIONS: &str = r##"{"$defs": {
        "a.Volume": {"properties": {
            "name": {"type": "string"},
            "hostPath": {"type": "string"},
            "newField": {"type": "string"},
            "unknown": {"type": "string"},
            "flag": {"type": "boolean"}},
            "required": ["name"]}}}"##;

    fn message(fields: &[(&str, u32, &str)]) -> Message {
        let row = |number: u32, message: &str| MessageField { number, message: message.to_owned() };
        fields
            .iter()
            .map(|(name, number, inner)| ((*name).to_owned(), row(*number, inner)))
            .collect()
    }

    #[test]
    fn numbers_are_joined_through_inline_messages() {
        let mut types = definitions::parse(DEFINITIONS).unwrap();
        let mut messages = Messages::from([
            (
                "a.volume".to_owned(),
                message(&[("name", 1, ""), ("volumesource", 2, "a.volumesource"), ("flag", 3, "")]),
            ),
            ("a.volumesource".to_owned(), message(&[("hostpath", 7, "")])),
        ]);
        let list = "# a comment\ninline a.Volume volumeSource\nfield a.Volume newField 9 # new\n";
        let report = join(&mut types, &mut messages, &parse_numbers(list).unwrap()).unwrap();
        assert_eq!(report.fields, 5);
        assert_eq!(report.without_number, ["a.Volume.unknown"]);
        values::mark(
            &mut types,
            "value a.Volume flag\npointer a.Volume hostPath\nalways a.Volume flag\n",
        )
        .unwrap();
        let expected = "kubernetes 1.36\na.Volume\n flag bool #3 value always\n hostPath string #2.7\n \
                        name string #1 required value\n newField string #9 value\n unknown string value\n";
        assert_eq!(table::render("1.36", &types), expected);
    }

    #[test]
    fn lists_with_mistakes_are_refused() {
        for (list, message) in [
            ("\nfield a.B c\n", "line 2: [\"field\", \"a.B\", \"c\"] is not understood"),
            ("field a.B c x\n", "line 1: [\"field\", \"a.B\", \"c\", \"x\"] is not understood"),
        ] {
            assert_eq!(parse_numbers(list).unwrap_err().to_string(), message);
        }
        let mut types = definitions::parse(DEFINITIONS).unwrap();
        for (list, message) in [
            ("value a.Other x", "line 1: a.Other is not known"),
            ("value a.Volume x", "line 1: x is not known"),
            ("odd a.Volume flag", "line 1: odd is not known"),
        ] {
            assert_eq!(values::mark(&mut types, list).unwrap_err().to_string(), message);
        }
    }
}
