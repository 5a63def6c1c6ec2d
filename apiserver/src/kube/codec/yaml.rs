//! Reads YAML into a [`Node`] as sigs.k8s.io/yaml does: the first document, YAML 1.1's booleans
//! and octal numbers, scalar keys as text, merge keys, and a bound on what aliases may add.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::DecodeError;
use super::limits::{DEPTH, YAML_COPIED_BYTES, YAML_NODES};
use super::node::Node;
use super::yaml_scalar::plain;

/// A document and what a strict reader says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub node: Node<'static>,
    /// Keys that come twice, such as `line 7: key "a" already set in map`.
    pub duplicates: Vec<String>,
}

impl Document {
    /// The duplicates as one message, as go-yaml tells them.
    pub fn strict_error(&self) -> Option<String> {
        match self.duplicates.is_empty() {
            true => None,
            false => Some(format!("{STRICT_PREFIX}{}", self.duplicates.join("\n  "))),
        }
    }
}

/// Before go-yaml's list of problems.
pub(super) const STRICT_PREFIX: &str = "yaml: unmarshal errors:\n  ";

/// Reads the first document; no document at all is null.
pub fn parse(bytes: &[u8]) -> Result<Document, DecodeError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| DecodeError::new("yaml: invalid leading UTF-8 octet"))?;
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        duplicates: Vec::new(),
        nodes: 0,
        bytes: 0,
        copied_bytes: 0,
        depth: 0,
    };
    let node = reader.document()?;
    Ok(Document { node, duplicates: reader.duplicates })
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Anchored>,
    duplicates: Vec<String>,
    nodes: usize,
    /// What the nodes read so far take, roughly.
    bytes: usize,
    /// Of these, what was copied for anchors and by aliases.
    copied_bytes: usize,
    depth: usize,
}

/// What an anchor names, and how much of a document that is.
struct Anchored {
    node: Node<'static>,
    nodes: usize,
    bytes: usize,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node<'static>, DecodeError> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(Node::Null),
                (event, span) => return self.node(event, span),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), DecodeError> {
        loop {
            match self.parser.next() {
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(next)) => return Ok(next),
                Some(Err(error)) => return Err(told(&error, self.text)),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node<'static>, DecodeError> {
        let (nodes_before, bytes_before) = (self.nodes, self.bytes);
        self.count(1)?;
        self.bytes += size_of::<Node<'_>>();
        let (anchor, node) = match event {
            Event::SequenceStart(_, anchor, _) => (anchor, self.nested(Reader::list)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.nested(Reader::mapping)?),
            Event::Scalar(text, style, anchor, tag) => {
                self.bytes += text.len();
                (anchor, scalar(text, style, tag.as_deref())?)
            }
            Event::Alias(id) => return self.alias(id),
            _ => return Err(problem_at(span.start.line(), "unexpected content")),
        };
        if anchor != 0 {
            let (nodes, bytes) = (self.nodes - nodes_before, self.bytes - bytes_before);
            self.copy(bytes)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, bytes });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize) -> Result<Node<'static>, DecodeError> {
        let Some(&Anchored { nodes, bytes, .. }) = self.anchors.get(&id) else {
            return Err(DecodeError::new("yaml: anchor contains itself"));
        };
        self.count(nodes)?;
        self.copy(bytes)?;
        self.bytes += bytes;
        Ok(self.anchors[&id].node.clone())
    }

    /// The node of the next event.
    fn next_node(&mut self) -> Result<Node<'static>, DecodeError> {
        let (event, span) = self.next()?;
        self.node(event, span)
    }

    fn count(&mut self, nodes: usize) -> Result<(), DecodeError> {
        self.nodes += nodes;
        match self.nodes > YAML_NODES {
            true => Err(excessive_aliasing()),
            false => Ok(()),
        }
    }

    /// Before each copy of what was read: so many bytes.
    fn copy(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.copied_bytes += bytes;
        match self.copied_bytes > YAML_COPIED_BYTES {
            true => Err(excessive_aliasing()),
            false => Ok(()),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Node<'static>, DecodeError>,
    ) -> Result<Node<'static>, DecodeError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(DecodeError::new("yaml: exceeded max depth"));
        }
        let node = read(self)?;
        self.depth -= 1;
        Ok(node)
    }

    fn list(&mut self) -> Result<Node<'static>, DecodeError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::List(elements)),
                (event, span) => elements.push(self.node(event, span)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Node<'static>, DecodeError> {
        let mut mapping = Mapping::default();
        while let Some((key, line)) = self.key()? {
            let value = self.next_node()?;
            match key {
                Key::Text(key) => {
                    if let Some(key) = mapping.put(key, value) {
                        let problem = format!("line {line}: key {key:?} already set in map");
                        self.duplicates.push(problem);
                    }
                }
                Key::Merge => mapping.merged.push(value),
            }
        }
        mapping.finish()
    }

    /// The next key and its line, or that the mapping ends.
    fn key(&mut self) -> Result<Option<(Key, usize)>, DecodeError> {
        let (event, span) = self.next()?;
        if event == Event::MappingEnd {
            return Ok(None);
        }
        let line = span.start.line();
        if matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<") {
            return Ok(Some((Key::Merge, line)));
        }
        let key = self.node(event, span)?;
        Ok(Some((Key::Text(key_text(key)?), line)))
    }
}

enum Key {
    Text(Cow<'static, str>),
    /// `<<`
    Merge,
}

/// A mapping that is being read.
#[derive(Default)]
struct Mapping {
    members: Vec<(Cow<'static, str>, Node<'static>)>,
    places: HashMap<Cow<'static, str>, usize>,
    /// Values of merge keys.
    merged: Vec<Node<'static>>,
}

impl Mapping {
    /// Adds a member, or gives back a key that is there already; the last value stays, as in JSON.
    fn put(&mut self, key: Cow<'static, str>, value: Node<'static>) -> Option<Cow<'static, str>> {
        if let Some(place) = self.places.get(&key) {
            self.members[*place].1 = value;
            return Some(key);
        }
        self.places.insert(key.clone(), self.members.len());
        self.members.push((key, value));
        None
    }

    fn finish(mut self) -> Result<Node<'static>, DecodeError> {
        for node in std::mem::take(&mut self.merged) {
            self.merge(node)?;
        }
        Ok(Node::Object(self.members))
    }

    /// Adds the members of a merge key's value that are not there yet.
    fn merge(&mut self, node: Node<'static>) -> Result<(), DecodeError> {
        let is_object = |node: &Node<'_>| matches!(node, Node::Object(_));
        match node {
            Node::Object(others) => {
                for (key, value) in others {
                    if !self.places.contains_key(&key) {
                        self.put(key, value);
                    }
                }
                Ok(())
            }
            Node::List(list) if list.iter().all(is_object) => {
                list.into_iter().try_for_each(|node| self.merge(node))
            }
            _ => Err(DecodeError::new(
                "yaml: map merge requires map or sequence of maps as the value",
            )),
        }
    }
}

fn excessive_aliasing() -> DecodeError {
    DecodeError::new("yaml: document contains excessive aliasing")
}

/// Keys that are no text become the text that JSON would show.
fn key_text(key: Node<'static>) -> Result<Cow<'static, str>, DecodeError> {
    match key {
        Node::String(text) | Node::Number(text) => Ok(text),
        Node::Boolean(value) => Ok(Cow::Owned(value.to_string())),
        other => Err(DecodeError::new(format!(
            "error converting YAML to JSON: unsupported map key of type {}",
            other.word()
        ))),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<Node<'static>, DecodeError> {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix() == "str");
    if style != ScalarStyle::Plain || is_text {
        return Ok(Node::String(Cow::Owned(text.into_owned())));
    }
    Ok(match plain(&text) {
        Some(node) => node,
        None => Node::String(Cow::Owned(text.into_owned())),
    })
}

/// A problem as go-yaml tells it: without the context, and with lines counted from zero by its
/// parser, from one by its scanner.
fn told(error: &ScanError, text: &str) -> DecodeError {
    if let ErrorKind::UnclosedFlowCollection { open } = error.kind() {
        return unclosed(*open, text);
    }
    let by_parser = matches!(
        error.kind(),
        ErrorKind::ExpectedNodeContent
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::ExpectedBlockSequenceEntry
            | ErrorKind::ExpectedDocumentStart
    );
    let info = error.info();
    let problem = match info.strip_prefix("while ") {
        Some(rest) => rest.split_once(", ").map_or(rest, |(_, problem)| problem),
        None => &info,
    };
    problem_at(error.marker().line().saturating_sub(usize::from(by_parser)), problem)
}

/// A bracket that is still open at the end of the text, which is where go-yaml notices.
fn unclosed(open: char, text: &str) -> DecodeError {
    let awaits_content = text.trim_end().ends_with(['[', '{', ',', ':']);
    let problem = match open {
        '[' if !awaits_content => "did not find expected ',' or ']'",
        '{' if !awaits_content => "did not find expected ',' or '}'",
        _ => "did not find expected node content",
    };
    problem_at(text.lines().count(), problem)
}

fn problem_at(line: usize, problem: &str) -> DecodeError {
    match line {
        0 => DecodeError::new(format!("yaml: {problem}")),
        line => DecodeError::new(format!("yaml: line {line}: {problem}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Value {
        parse(text.as_bytes()).unwrap().node.into_value()
    }

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        for (text, expected) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("'yes'", json!("yes")),
            ("!!str yes", json!("yes")),
            ("~", json!(null)),
            ("", json!(null)),
            ("0", json!(0)),
            ("010", json!(8)),
            ("0o10", json!(8)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("-5", json!(-5)),
            ("+5", json!(5)),
            ("1.50", json!(1.5)),
            ("1e3", json!(1000)),
            ("1.2.3", json!("1.2.3")),
            ("1Gi", json!("1Gi")),
            ("2026-01-02", json!("2026-01-02")),
            (".5", json!(0.5)),
            (".", json!(".")),
            ("-", json!([null])),
            ("x: |\n  a\n  b\n", json!({"x": "a\nb\n"})),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn documents_anchors_and_keys() {
        for (text, expected) in [
            ("--- \na: 1\n---\na: 2\n", json!({"a": 1})),
            ("1: a\ntrue: b\n", json!({"1": "a", "true": "b"})),
            ("a: &x {b: 1}\nc: *x\n", json!({"a": {"b": 1}, "c": {"b": 1}})),
            (
                "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n",
                json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
            ),
            ("{\"a\": [1, \"b\"]}", json!({"a": [1, "b"]})),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn duplicate_keys_are_told() {
        let document = parse(b"a: 1\nb:\n  c: 1\n  c: 2\na: 2\n").unwrap();
        let expected =
            ["line 4: key \"c\" already set in map", "line 5: key \"a\" already set in map"];
        assert_eq!(document.duplicates, expected);
        assert_eq!(document.node.into_value(), json!({"a": 2, "b": {"c": 2}}));
    }

    #[test]
    fn errors() {
        for (text, message) in [
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [\n",
                "yaml: line 4: did not find expected node content",
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata: {a: [",
                "yaml: line 5: did not find expected node content",
            ),
            ("? [a]\n: b\n", "error converting YAML to JSON: unsupported map key of type array"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text:?}");
        }
    }

    #[test]
    fn aliases_are_bounded() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(","));
        }
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "yaml: document contains excessive aliasing");
    }

    #[test]
    fn copied_bytes_are_bounded() {
        let long = "x".repeat(1 << 20);
        let nested: String = (0..200).map(|level| format!("&a{level} [")).collect();
        for (text, good) in [
            (format!("a: &a {long}\nb: [{}]\n", ["*a"; 5].join(",")), true),
            (format!("a: &a {long}\nb: [{}]\n", ["*a"; 10].join(",")), false),
            (format!("a: &a {{? {long} : 1}}\nb: [{}]\n", ["*a"; 10].join(",")), false),
            (format!("a: [{}]\n", [long.as_str(); 10].join(",")), true),
            // Every anchor keeps a copy of what is within it.
            (format!("{nested}{}{}", &long[..100_000], "]".repeat(200)), false),
        ] {
            let message = parse(text.as_bytes()).err().map(|error| error.to_string());
            let expected = (!good).then(|| "yaml: document contains excessive aliasing".to_owned());
            assert_eq!(message, expected, "{}", &text[..20]);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\[\]{}":,a-z0-9 .&*<|>!~\n-]{0,60}"#) {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn reads_json(numbers in proptest::collection::btree_map("[a-z]{1,5}!", -1000i64..1000, 0..5)) {
            let json = serde_json::to_value(&numbers).unwrap();
            proptest::prop_assert_eq!(value(&json.to_string()), json);
        }
    }
}
