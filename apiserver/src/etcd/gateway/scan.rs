//! Finds where a JSON value ends, in text that may still be arriving.

/// What is known of the value that a text begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// White space alone, so far.
    Nothing,
    /// It goes on behind what is here.
    Unfinished,
    /// The bytes from `start` to `end`. They may still be malformed.
    Whole { start: usize, end: usize },
}

/// Looks at each byte once, however the text arrives.
///
/// Counts brackets outside strings and nothing more: whether the text is JSON is for others to say.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Bytes looked at.
    place: usize,
    start: Option<usize>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// Goes on with `text`, which is what was seen before and perhaps more.
    pub(super) fn extent(&mut self, text: &[u8]) -> Extent {
        while let Some(&byte) = text.get(self.place) {
            self.place += 1;
            let Some(start) = self.start else {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => continue,
                    b'{' | b'[' => self.depth = 1,
                    b'"' => self.in_string = true,
                    // No message begins like this: what is here will do to say so.
                    _ => {
                        let (start, rest) = (self.place - 1, &text[self.place..]);
                        let length = rest.iter().take_while(|byte| is_scalar(**byte)).count();
                        return Extent::Whole { start, end: self.place + length };
                    }
                }
                self.start = Some(self.place - 1);
                continue;
            };
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            if self.depth == 0 && !self.in_string {
                return Extent::Whole { start, end: self.place };
            }
        }
        if self.start.is_some() { Extent::Unfinished } else { Extent::Nothing }
    }
}

/// Whether a byte may belong to a number or a word.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// The length of the value that `text` begins with, when all of it is there.
pub(super) fn value_length(text: &[u8]) -> usize {
    match Scanner::default().extent(text) {
        Extent::Whole { end, .. } => end,
        Extent::Nothing | Extent::Unfinished => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_where_their_brackets_do() {
        for (text, expected) in [
            ("", None),
            (" \n", None),
            ("{", None),
            ("{}", Some((0, 2))),
            (" {} {}", Some((1, 3))),
            ("{\"a\":[{}]}x", Some((0, 10))),
            ("{\"}\":\"\\\"}\"}", Some((0, 11))),
            ("[1,2]", Some((0, 5))),
            ("\"a\\\"b\" ", Some((0, 6))),
            ("\"a", None),
            ("true,", Some((0, 4))),
            ("-1.5e+3}", Some((0, 7))),
            ("}", Some((0, 1))),
        ] {
            let expected = expected.map(|(start, end)| Extent::Whole { start, end });
            let found = |extent| match extent {
                Extent::Whole { .. } => Some(extent),
                Extent::Nothing | Extent::Unfinished => None,
            };
            assert_eq!(found(Scanner::default().extent(text.as_bytes())), expected, "{text:?}");
            if text.starts_with(['t', '-']) {
                continue;
            }
            // The same, byte by byte.
            let mut scanner = Scanner::default();
            let pieces = (0..=text.len()).map(|length| &text.as_bytes()[..length]);
            let first = pieces.map(|piece| scanner.extent(piece)).find_map(found);
            assert_eq!(first, expected, "{text:?} byte by byte");
        }
    }
}
