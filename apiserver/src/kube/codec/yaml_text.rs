//! Writes YAML as sigs.k8s.io/yaml does: block style, keys in go-yaml's order, lists not indented
//! below their key, and quotes where a reader would otherwise see something else than text.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::yaml_scalar::is_plain_text;

/// The document as YAML text, ending in a line break.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0),
        Value::Array(list) if !list.is_empty() => write_list(&mut out, list, 0),
        scalar => {
            write_scalar(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn write_map(out: &mut String, map: &Map<String, Value>, indent: usize) {
    let mut members: Vec<(&String, &Value)> = map.iter().collect();
    members.sort_by(|a, b| key_order(a.0, b.0));
    for (index, (key, value)) in members.into_iter().enumerate() {
        // The first key of a list's element stands on the line of its dash.
        if index > 0 || !out.ends_with("- ") {
            push_spaces(out, indent);
        }
        write_text(out, key, Place::Key);
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                write_map(out, map, indent + INDENT);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                write_list(out, list, indent);
            }
            scalar => {
                out.push(' ');
                write_scalar(out, scalar, indent + INDENT);
                out.push('\n');
            }
        }
    }
}

const INDENT: usize = 2;

fn write_list(out: &mut String, list: &[Value], indent: usize) {
    for (index, value) in list.iter().enumerate() {
        if index > 0 || !out.ends_with("- ") {
            push_spaces(out, indent);
        }
        out.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => write_map(out, map, indent + INDENT),
            Value::Array(list) if !list.is_empty() => write_list(out, list, indent + INDENT),
            scalar => {
                write_scalar(out, scalar, indent + INDENT);
                out.push('\n');
            }
        }
    }
}

fn push_spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => write_text(out, text, Place::Value { indent }),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

#[derive(Clone, Copy)]
enum Place {
    Key,
    Value { indent: usize },
}

fn write_text(out: &mut String, text: &str, place: Place) {
    let traits = Traits::of(text);
    match place {
        Place::Value { indent } if text.contains('\n') && traits.block_allowed => {
            write_literal(out, text, indent);
        }
        _ if text.contains('\n') || !is_plain_text(text) => write_double_quoted(out, text),
        _ if traits.plain_allowed => out.push_str(text),
        _ if traits.single_quoted_allowed => {
            let _ = write!(out, "'{}'", text.replace('\'', "''"));
        }
        _ => write_double_quoted(out, text),
    }
}

/// `|`, with `-` or `+` for the line breaks at the end, and the lines below it.
fn write_literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        let _ = write!(out, "{INDENT}");
    }
    let body = text.strip_suffix('\n');
    match body {
        None => out.push('-'),
        Some(body) if body.is_empty() || body.ends_with('\n') => out.push('+'),
        Some(_) => {}
    }
    for line in body.unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            push_spaces(out, indent);
            out.push_str(line);
        }
    }
}

fn write_double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            character if is_printable(character) => out.push(character),
            character if (character as u32) < 0x100 => {
                let _ = write!(out, "\\x{:02X}", character as u32);
            }
            character if (character as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04X}", character as u32);
            }
            character => {
                let _ = write!(out, "\\U{:08X}", character as u32);
            }
        }
    }
    out.push('"');
}

/// In which ways a text may be written.
struct Traits {
    plain_allowed: bool,
    single_quoted_allowed: bool,
    block_allowed: bool,
}

impl Traits {
    fn of(text: &str) -> Traits {
        let special =
            text.chars().any(|character| !is_printable(character) && !is_break(character));
        let breaks = text.contains(is_break);
        let space_before_break = text.contains(" \n");
        let space_after_break = text.contains("\n ");
        let edge_spaces = text.starts_with(' ') || text.ends_with(' ');
        Traits {
            plain_allowed: !special && !breaks && !edge_spaces && !has_indicators(text),
            single_quoted_allowed: !special && !space_before_break && !space_after_break,
            block_allowed: !special && !space_before_break && !text.ends_with(' '),
        }
    }
}

/// Whether a reader could take something in a plain text for YAML's own signs.
fn has_indicators(text: &str) -> bool {
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    let mut is_first = true;
    while let Some(character) = characters.next() {
        let space_follows = characters.peek().is_none_or(|next| next.is_whitespace());
        let found = match character {
            '#' => before.is_whitespace(),
            ':' => space_follows,
            '-' | '?' => is_first && space_follows,
            _ => is_first && ",[]{}&*!|>'\"%@`".contains(character),
        };
        if found {
            return true;
        }
        before = character;
        is_first = false;
    }
    text.starts_with("---") || text.starts_with("...")
}

fn is_break(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && !is_break(character)
        && character != '\u{feff}'
}

/// The order of keys in go-yaml: letters after other signs, numbers by their value.
fn key_order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let (Some(&x), Some(&y)) = (a.get(same), b.get(same)) else { return a.len().cmp(&b.len()) };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let before = a[..same].iter().rev().take_while(|c| c.is_ascii_digit());
    let inside_number = (x == '0' || y == '0') && before.clone().any(|digit| *digit != '0');
    let number = |text: &[char]| {
        let digits = text[same..].iter().take_while(|c| c.is_ascii_digit());
        let start = u64::from(inside_number);
        digits.clone().fold((start, 0), |(value, length), digit| {
            let digit = u64::from(digit.to_digit(10).unwrap_or(0));
            (value.saturating_mul(10).saturating_add(digit), length + 1)
        })
    };
    number(&a).cmp(&number(&b)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::codec::yaml;
    use crate::kube::schema::golden;

    #[test]
    fn documents() {
        for (value, expected) in [
            (json!({}), "{}\n"),
            (json!([]), "[]\n"),
            (json!("a"), "a\n"),
            (
                json!({"a": {"b": [1, {"c": null, "d": []}], "e": {}}}),
                "a:\n  b:\n  - 1\n  - c: null\n    d: []\n  e: {}\n",
            ),
            (json!([[1, 2], [[3]]]), "- - 1\n  - 2\n- - - 3\n"),
            (json!({"a10": 1, "a2": 2, ".": 3, "A": 4}), ".: 3\nA: 4\na2: 2\na10: 1\n"),
            (
                json!({"u": "a\nb\n", "v": "a\nb", "z": "a\n\n"}),
                "u: |\n  a\n  b\nv: |-\n  a\n  b\nz: |+\n  a\n\n",
            ),
        ] {
            assert_eq!(write(&value), expected, "{value}");
        }
    }

    #[test]
    fn texts_are_quoted_where_needed() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a b", "a b"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("yes", "\"yes\""),
            ("null", "\"null\""),
            ("1", "\"1\""),
            ("1.5", "\"1.5\""),
            ("010", "\"010\""),
            ("1e3", "\"1e3\""),
            ("2026-01-02T03:04:05Z", "\"2026-01-02T03:04:05Z\""),
            ("2026-01-02", "\"2026-01-02\""),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("a #b", "'a #b'"),
            ("a#b", "a#b"),
            ("*", "'*'"),
            ("'a'", "'''a'''"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("{}", "'{}'"),
            (" a", "' a'"),
            ("a\tb", "\"a\\tb\""),
            ("k:{\"name\":\"c\"}", "k:{\"name\":\"c\"}"),
            ("ends:", "'ends:'"),
        ] {
            assert_eq!(write(&json!(text)), format!("{expected}\n"), "{text:?}");
        }
    }

    #[test]
    fn recorded_answers() {
        let mut compared = 0;
        for exchange in golden::exchanges(&[]) {
            let accept = exchange.headers["Accept"].as_str().unwrap_or("");
            let Some(text) = exchange.expect["text"].as_str() else { continue };
            if accept != "application/yaml" {
                continue;
            }
            // Placeholders that were quoted stand for what must be.
            let text = text.replace("${time}", "2026-01-02T03:04:05Z").replace("\"${rv:", "\"{");
            let text = text.replace("\"{", "\"1").replace("}\"\n", "\"\n");
            let document = yaml::parse(text.as_bytes()).unwrap().node.into_value();
            assert_eq!(write(&document), text, "{}", exchange.id);
            compared += 1;
        }
        golden::say("recorded YAML answers", compared, 30);
    }

    proptest::proptest! {
        #[test]
        fn reading_gives_back_what_was_written(text in "[ -~\n\t\u{e9}]{0,20}", key in "[ -~]{1,10}") {
            let document = json!({(key): [text, {"a": text}], "z": text});
            let written = write(&document);
            let read = yaml::parse(written.as_bytes()).map(|document| document.node.into_value());
            proptest::prop_assert_eq!(read, Ok(document), "{}", written);
        }
    }
}
