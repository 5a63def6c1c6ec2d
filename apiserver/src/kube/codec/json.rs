//! Reads JSON into a [`Node`], with the error texts that Go's decoder gives, because those are
//! what clients of a kube-apiserver know.

use std::borrow::Cow;

use super::DecodeError;
use super::limits::DEPTH;
use super::node::Node;

/// One whole document; only white space may follow it.
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, DecodeError> {
    let mut parser = Parser { bytes, place: 0, depth: 0 };
    let node = parser.value()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.invalid("after top-level value")),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    place: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self) -> Result<Node<'a>, DecodeError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Parser::object),
            Some(b'[') => self.nested(Parser::list),
            Some(b'"') => Ok(Node::String(self.string()?)),
            Some(b't') => self.literal("true", Node::Boolean(true)),
            Some(b'f') => self.literal("false", Node::Boolean(false)),
            Some(b'n') => self.literal("null", Node::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Node<'a>, DecodeError>,
    ) -> Result<Node<'a>, DecodeError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(DecodeError::new("exceeded max depth"));
        }
        self.place += 1;
        let node = read(self)?;
        self.depth -= 1;
        Ok(node)
    }

    /// What follows `{`.
    fn object(&mut self) -> Result<Node<'a>, DecodeError> {
        let mut members = Vec::new();
        self.skip_space();
        if self.accept(b'}') {
            return Ok(Node::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.invalid("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.accept(b':') {
                return Err(self.invalid("after object key"));
            }
            members.push((key, self.value()?));
            self.skip_space();
            if self.accept(b'}') {
                return Ok(Node::Object(members));
            }
            if !self.accept(b',') {
                return Err(self.invalid("after object key:value pair"));
            }
        }
    }

    /// What follows `[`.
    fn list(&mut self) -> Result<Node<'a>, DecodeError> {
        let mut elements = Vec::new();
        self.skip_space();
        if self.accept(b']') {
            return Ok(Node::List(elements));
        }
        loop {
            elements.push(self.value()?);
            self.skip_space();
            if self.accept(b']') {
                return Ok(Node::List(elements));
            }
            if !self.accept(b',') {
                return Err(self.invalid("after array element"));
            }
        }
    }

    fn literal(&mut self, word: &str, node: Node<'a>) -> Result<Node<'a>, DecodeError> {
        for (index, expected) in word.bytes().enumerate() {
            if !self.accept(expected) {
                let expected = expected as char;
                debug_assert!(index > 0, "the caller looked at the first letter");
                return Err(self.invalid(&format!("in literal {word} (expecting '{expected}')")));
            }
        }
        Ok(node)
    }

    fn number(&mut self) -> Result<Node<'a>, DecodeError> {
        let start = self.place;
        if self.accept(b'-') && !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.invalid("in numeric literal"));
        }
        if !self.accept(b'0') {
            self.digits();
        }
        if self.accept(b'.') && !self.digits() {
            return Err(self.invalid("after decimal point in numeric literal"));
        }
        if self.accept(b'e') || self.accept(b'E') {
            let _signed = self.accept(b'+') || self.accept(b'-');
            if !self.digits() {
                return Err(self.invalid("in exponent of numeric literal"));
            }
        }
        let digits = String::from_utf8_lossy(&self.bytes[start..self.place]);
        Ok(Node::Number(digits))
    }

    /// Passes over digits; false when there is none.
    fn digits(&mut self) -> bool {
        let start = self.place;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.place += 1;
        }
        self.place > start
    }

    /// A string; bytes that are not UTF-8 become U+FFFD, as in Go.
    fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.place += 1;
        let start = self.place;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.place += 1;
                    return Ok(String::from_utf8_lossy(&self.bytes[start..self.place - 1]));
                }
                Some(b'\\') => return self.escaped_string(start),
                Some(0x20..) => self.place += 1,
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    /// The rest of a string from its first backslash on.
    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, DecodeError> {
        let mut text = self.bytes[start..self.place].to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.place += 1;
                    return Ok(Cow::Owned(String::from_utf8_lossy(&text).into_owned()));
                }
                Some(b'\\') => {
                    self.place += 1;
                    let character = self.escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte @ 0x20..) => {
                    text.push(byte);
                    self.place += 1;
                }
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, DecodeError> {
        let character = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.place += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.invalid("in string escape code")),
        };
        self.place += 1;
        Ok(character)
    }

    /// Four hexadecimal digits, or a surrogate pair; half a pair becomes U+FFFD.
    fn unicode_escape(&mut self) -> Result<char, DecodeError> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) || !self.bytes[self.place..].starts_with(b"\\u") {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before_second = self.place;
        self.place += 2;
        let second = self.four_digits()?;
        if (0xdc00..0xe000).contains(&second) {
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.place = before_second;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Result<u32, DecodeError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.invalid("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.place += 1;
        }
        Ok(code)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.place).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.place += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.place += 1;
        }
    }

    fn invalid(&self, context: &str) -> DecodeError {
        match self.peek() {
            None => DecodeError::new("unexpected end of JSON input"),
            Some(byte) => DecodeError::new(format!("invalid character {} {context}", quoted(byte))),
        }
    }
}

/// A byte as Go shows it in a message.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x20..=0x7e => format!("'{}'", byte as char),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0xa1..=0xac | 0xae.. => format!("'{}'", byte as char),
        0x80.. => format!(r"'\u{byte:04x}'"),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_go() {
        for (text, message) in [
            ("", "unexpected end of JSON input"),
            ("  ", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\"}", "invalid character '}' after object key"),
            ("{\"a\":1 \"b\"", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("tru ", "invalid character ' ' in literal true (expecting 'e')"),
            ("nxll", "invalid character 'x' in literal null (expecting 'u')"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e-", "unexpected end of JSON input"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"\\u00zz\"", "invalid character 'z' in \\u hexadecimal character escape"),
            ("\u{1}", "invalid character '\\x01' looking for beginning of value"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text:?}");
        }
    }

    #[test]
    fn strings_are_unescaped() {
        for (text, expected) in [
            (r#""plain""#, "plain"),
            (r#""a\"b\\c\/d\b\f\n\r\t""#, "a\"b\\c/d\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ude00""#, "\u{fffd}"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), Node::String(expected.into()), "{text}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap(), Node::String("\u{fffd}".into()));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
        assert!(parse(deep.as_bytes()).is_ok());
        let deeper = format!("[{deep}]");
        assert_eq!(parse(deeper.as_bytes()).unwrap_err().to_string(), "exceeded max depth");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn reads_what_serde_json_writes(value in json_value()) {
            let text = serde_json::to_vec(&value).unwrap();
            assert_eq!(parse(&text).unwrap().into_value(), value);
        }
    }

    fn json_value() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
