//! Header blocks of clients, and the table that they fill.

use std::collections::VecDeque;

use super::{Field, Name, huffman, integer, static_table};

/// What an entry counts for beyond its name and value (RFC 7541, section 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// The table's size in bytes, as in a connection without settings.
const TABLE_BYTES: usize = 4096;

/// Why a header block could not be decoded. Each is a COMPRESSION_ERROR: the two tables may differ
/// from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the header block ends within a field")]
    Truncated,
    #[error("a header block has an integer that is too large")]
    IntegerTooLarge,
    #[error("a Huffman-coded string ends wrongly")]
    Padding,
    #[error("a header field's index is not in the table")]
    Index,
    #[error("the header table's size changes where or as it may not")]
    TableSize,
}

impl DecodeError {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            DecodeError::Truncated => "the header block ends within a field",
            DecodeError::IntegerTooLarge => "a header block has an integer that is too large",
            DecodeError::Padding => "a Huffman-coded string ends wrongly",
            DecodeError::Index => "a header field's index is not in the table",
            DecodeError::TableSize => "the header table's size changes where or as it may not",
        }
    }
}

/// Decodes the header blocks of one connection, in order.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest entry first, each with its size.
    entries: VecDeque<(Field, usize)>,
    bytes: usize,
    /// What the client wants the table to be, at most what we allow.
    limit: usize,
    text: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { entries: VecDeque::new(), bytes: 0, limit: TABLE_BYTES, text: Vec::new() }
    }
}

impl Decoder {
    /// Gives each field of a block to `take`, with its size: name, value, 32 (RFC 9113,
    /// section 6.5.2).
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut take: impl FnMut(Field, usize),
    ) -> Result<(), DecodeError> {
        let mut begun = false;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                let size = integer::decode(&mut block, 5)?;
                if begun || size > TABLE_BYTES {
                    return Err(DecodeError::TableSize);
                }
                self.limit = size;
                self.evict(size);
                continue;
            }
            begun = true;
            if first & 0x80 != 0 {
                let (field, size) = self.get(integer::decode(&mut block, 7)?)?;
                take(field.clone(), size);
                continue;
            }
            let keep = first & 0x40 != 0;
            let (field, size) = self.literal(&mut block, if keep { 6 } else { 4 })?;
            if keep {
                self.insert(field.clone(), size);
            }
            take(field, size);
        }
        Ok(())
    }

    fn get(&self, index: usize) -> Result<(&Field, usize), DecodeError> {
        if let Some(found) = static_table::get(index) {
            return Ok(found);
        }
        let (field, size) = index
            .checked_sub(static_table::LENGTH + 1)
            .and_then(|at| self.entries.get(at))
            .ok_or(DecodeError::Index)?;
        Ok((field, *size))
    }

    fn literal(
        &mut self,
        block: &mut &[u8],
        prefix_bits: u32,
    ) -> Result<(Field, usize), DecodeError> {
        let (name, name_bytes) = match integer::decode(block, prefix_bits)? {
            0 => {
                let text = string(block, &mut self.text)?;
                (Name::parse(text), text.len())
            }
            index => {
                let (field, size) = self.get(index)?;
                let name = field.name();
                // Of a name that we can't spell any more, the size is an upper bound.
                let length = match &name {
                    Name::Header(name) => name.as_str().len(),
                    _ => size - ENTRY_OVERHEAD,
                };
                (name, length)
            }
        };
        let value = string(block, &mut self.text)?;
        let size = name_bytes + value.len() + ENTRY_OVERHEAD;
        Ok((name.with_value(value), size))
    }

    fn insert(&mut self, field: Field, size: usize) {
        // An entry that is larger than the table empties it (RFC 7541, section 4.4).
        self.evict(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.bytes += size;
            self.entries.push_front((field, size));
        }
    }

    fn evict(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some((_, size)) = self.entries.pop_back()
        {
            self.bytes -= size;
        }
    }
}

/// Takes a string from the front of `block`; `text` is where it is put if it needs decoding.
fn string<'text, 'block: 'text>(
    block: &mut &'block [u8],
    text: &'text mut Vec<u8>,
) -> Result<&'text [u8], DecodeError> {
    let coded = block.first().ok_or(DecodeError::Truncated)? & 0x80 != 0;
    let length = integer::decode(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *block = rest;
    if !coded {
        return Ok(bytes);
    }
    text.clear();
    huffman::decode(bytes, text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits: String = hexadecimal.split_whitespace().collect();
        (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal"))
            .collect()
    }

    fn text(field: &Field) -> String {
        match field {
            Field::Method(method) => format!(":method: {method}"),
            Field::Scheme => ":scheme".to_owned(),
            Field::Authority(value) => format!(":authority: {}", value.to_str().expect("text")),
            Field::Path(path) => format!(":path: {path}"),
            Field::Protocol => ":protocol".to_owned(),
            Field::Header(name, value) => format!("{name}: {}", value.to_str().expect("text")),
            Field::Malformed(name) => format!("malformed {name:?}"),
        }
    }

    fn decode(decoder: &mut Decoder, hexadecimal: &str) -> Result<Vec<String>, DecodeError> {
        let mut fields = Vec::new();
        decoder.decode(&bytes(hexadecimal), |field, _| fields.push(text(&field)))?;
        Ok(fields)
    }

    /// RFC 7541, appendix C.2: one field each, and the table's size after it.
    #[test]
    fn representations_of_the_rfc() {
        for (block, expected, table_bytes) in [
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header",
                55,
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", 0),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", 0),
            ("82", ":method: GET", 0),
        ] {
            let mut decoder = Decoder::default();
            assert_eq!(decode(&mut decoder, block), Ok(vec![expected.to_owned()]));
            assert_eq!(decoder.bytes, table_bytes, "{expected}");
        }
    }

    /// RFC 7541, appendix C.3 (plain) and C.4 (Huffman): three requests on one connection.
    #[test]
    fn requests_of_the_rfc() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let expected: [(&[&str], usize); 3] = [
            (&[":method: GET", ":scheme", ":path: /", ":authority: www.example.com"], 57),
            (
                &[
                    ":method: GET",
                    ":scheme",
                    ":path: /",
                    ":authority: www.example.com",
                    "cache-control: no-cache",
                ],
                110,
            ),
            (
                &[
                    ":method: GET",
                    ":scheme",
                    ":path: /index.html",
                    ":authority: www.example.com",
                    "custom-key: custom-value",
                ],
                164,
            ),
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::default();
            for (block, (fields, table_bytes)) in blocks.iter().zip(expected) {
                let found = decode(&mut decoder, block).expect("well formed");
                assert_eq!(found, fields);
                assert_eq!(decoder.bytes, table_bytes);
            }
        }
    }

    #[test]
    fn bad_blocks_are_refused() {
        for (block, expected) in [
            ("80", DecodeError::Index),
            ("be", DecodeError::Index),
            ("ff ff ff ff ff 0f", DecodeError::IntegerTooLarge),
            ("7f 00 00", DecodeError::Index),
            ("40", DecodeError::Truncated),
            ("40 05 61", DecodeError::Truncated),
            ("41 8a 61", DecodeError::Truncated),
            ("82 20", DecodeError::TableSize),
            ("3f e2 1f", DecodeError::TableSize), // 4097
            ("41 81 18", DecodeError::Padding),
        ] {
            assert_eq!(decode(&mut Decoder::default(), block), Err(expected), "{block}");
        }
    }

    #[test]
    fn the_table_obeys_its_size() {
        let mut decoder = Decoder::default();
        // Two entries of 34 bytes; 4096 is allowed; then room for one; then for none.
        assert!(decode(&mut decoder, "3f e1 1f 40 01 61 01 62 40 01 63 01 64").is_ok());
        assert_eq!(decoder.entries.len(), 2);
        assert_eq!(decode(&mut decoder, "3f 04 bf"), Err(DecodeError::Index));
        decoder = Decoder::default();
        assert!(decode(&mut decoder, "3f 05 40 01 61 01 62 40 01 63 01 64").is_ok());
        assert_eq!(decode(&mut decoder, "be"), Ok(vec!["c: d".to_owned()]));
        assert_eq!(decode(&mut decoder, "bf"), Err(DecodeError::Index));
        assert_eq!(decode(&mut decoder, "20 40 01 61 01 62"), Ok(vec!["a: b".to_owned()]));
        assert_eq!((decoder.entries.len(), decoder.bytes), (0, 0));
    }

    #[test]
    fn bad_names_and_values_do_not_disturb_the_table() {
        for (block, expected) in [
            ("40 01 41 01 62", "malformed Unknown"),
            ("40 00 01 62", "malformed Unknown"),
            ("40 02 3a 78 01 62", "malformed Unknown"),
            ("48 03 32 30 30", "malformed Unknown"),
            ("44 01 61", "malformed Path"),
            ("44 00", "malformed Path"),
            ("42 01 20", "malformed Method"),
            ("41 03 61 20 62", "malformed Authority"),
            ("40 01 61 01 0a", "malformed Header(\"a\")"),
        ] {
            let mut decoder = Decoder::default();
            assert_eq!(decode(&mut decoder, block), Ok(vec![expected.to_owned()]), "{block}");
            assert_eq!(decode(&mut decoder, "be"), Ok(vec![expected.to_owned()]), "{block}");
        }
        // A good value for a name that had a bad one.
        let mut decoder = Decoder::default();
        assert!(decode(&mut decoder, "44 01 61").is_ok());
        assert_eq!(decode(&mut decoder, "7e 01 2f"), Ok(vec![":path: /".to_owned()]));
    }

    #[test]
    fn authorities_are_any_visible_text() {
        for authority in
            ["http://127.0.0.1:2379", "localhost", "passthrough:///unix", "[::1]:1", ""]
        {
            let mut block = vec![0x41, authority.len() as u8];
            block.extend_from_slice(authority.as_bytes());
            let mut found = None;
            let decoded = Decoder::default().decode(&block, |field, _| found = Some(field));
            assert_eq!(decoded, Ok(()));
            let expected = http::HeaderValue::from_static(authority);
            assert_eq!(found, Some(Field::Authority(expected)));
        }
    }

    proptest! {
        #[test]
        fn any_block_is_decoded_or_refused(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
        ) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let mut fields = 0;
                let _either = decoder.decode(&block, |_, _| fields += 1);
                prop_assert!(fields <= block.len());
                prop_assert!(decoder.bytes <= TABLE_BYTES);
                prop_assert_eq!(decoder.bytes, decoder.entries.iter().map(|entry| entry.1).sum::<usize>());
            }
        }
    }
}
