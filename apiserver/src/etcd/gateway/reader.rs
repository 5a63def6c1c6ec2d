//! Walks over text that is known to be JSON, and knows where it is.

use std::borrow::Cow;

use super::decode::DecodeError;
use super::scan;
use crate::etcd::limits;
use crate::kube::codec::json;
use crate::kube::codec::node::Node;

/// A place in a text. Every step is safe on text that is not JSON after all: it ends early.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a [u8],
    place: usize,
}

/// A string, number, word or opening bracket, as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) place: usize,
    pub(super) raw: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, place: 0 }
    }

    /// The next value or its opening bracket, without passing it.
    pub(super) fn peek(&mut self) -> Token<'a> {
        self.skip_punctuation();
        let rest = &self.text[self.place..];
        let length = match rest.first() {
            Some(b'{' | b'}' | b'[' | b']') => 1,
            _ => scan::value_length(rest),
        };
        Token { place: self.place, raw: &rest[..length] }
    }

    /// The next value or its opening bracket.
    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.place += token.raw.len();
        token
    }

    /// Passes a whole value, brackets and what is in them.
    pub(super) fn skip_value(&mut self) {
        self.skip_punctuation();
        self.place += scan::value_length(&self.text[self.place..]);
    }

    /// Passes the end of an object or a list, or tells that there is more.
    pub(super) fn at_end(&mut self) -> bool {
        self.skip_punctuation();
        match self.text.get(self.place) {
            Some(b'}' | b']') => {
                self.place += 1;
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// Where text that is JSON may have commas and colons, it has them.
    fn skip_punctuation(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = self.text.get(self.place) {
            self.place += 1;
        }
    }

    /// An error about a value, as protojson words it.
    pub(super) fn invalid(&self, token: Token<'_>, what: &str) -> DecodeError {
        let (line, column) = self.position(token.place);
        DecodeError::proto(format!("(line {line}:{column}): {what}{}", shown(token.raw)))
    }

    /// A value that is no object or list where there has to be one.
    pub(super) fn unexpected(&self, token: Token<'_>) -> DecodeError {
        let (line, column) = self.position(token.place);
        let shown = shown(token.raw);
        DecodeError::proto(format!("syntax error (line {line}:{column}): unexpected token {shown}"))
    }

    /// Line and column of a place, from 1, the column in characters.
    fn position(&self, place: usize) -> (usize, usize) {
        let before = &self.text[..place];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
    }
}

impl<'a> Token<'a> {
    /// What a string says; `None` when it is none.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        match json::parse(self.raw) {
            Ok(Node::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// A token as a message shows it.
fn shown(raw: &[u8]) -> Cow<'_, str> {
    match raw.get(..limits::GATEWAY_SHOWN_BYTES) {
        Some(beginning) if raw.len() > limits::GATEWAY_SHOWN_BYTES => {
            Cow::Owned(format!("{}...", String::from_utf8_lossy(beginning)))
        }
        _ => String::from_utf8_lossy(raw),
    }
}
