//! The static Huffman code for strings (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: among symbols sorted by length and then by value, each code is the one
//! before plus one. So the lengths say everything, and the tables are made when this is compiled.

use super::DecodeError;

const SYMBOLS: usize = 257;
/// The symbol that must never occur in full; its bits pad the last byte.
const END_OF_STRING: u16 = 256;
const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Codes of at most so many bits are found by one look: all letters and digits.
const FAST_BITS: usize = 9;

struct Tables {
    /// By the next nine bits: symbol and length of the code they begin with; length 0 if longer.
    fast: [(u8, u8); 1 << FAST_BITS],
    /// By length: the first code of a greater length, left-aligned in 32 bits.
    limit: [u64; LONGEST + 1],
    /// By length: the first code of that length, and where its symbol stands in `symbols`.
    first: [(u32, u16); LONGEST + 1],
    /// All symbols, by length and then by value.
    symbols: [u16; SYMBOLS],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        fast: [(0, 0); 1 << FAST_BITS],
        limit: [0; LONGEST + 1],
        first: [(0, 0); LONGEST + 1],
        symbols: [0; SYMBOLS],
    };
    let (mut code, mut at, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        tables.first[length] = (code, at as u16);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[at] = symbol as u16;
                if length <= FAST_BITS {
                    let low = (code as usize) << (FAST_BITS - length);
                    let mut entry = low;
                    while entry < low + (1 << (FAST_BITS - length)) {
                        tables.fast[entry] = (symbol as u8, length as u8);
                        entry += 1;
                    }
                }
                code += 1;
                at += 1;
            }
            symbol += 1;
        }
        tables.limit[length] = (code as u64) << (32 - length);
        length += 1;
    }
    // The code is complete: every sequence of bits begins with a symbol.
    assert!(at == SYMBOLS && tables.limit[LONGEST] == 1 << 32);
    tables
}

/// Appends the decoded string to `output`; it is at most 8/5 as long as `bytes`.
pub(super) fn decode(bytes: &[u8], output: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut input = bytes.iter();
    // The next bits, left-aligned, and how many of them there are.
    let (mut bits, mut count) = (0u64, 0);
    loop {
        while count <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        if count == 0 {
            return Ok(());
        }
        let (symbol, length) = symbol(bits);
        if length > count {
            // Less than a symbol is left: padding, which is at most seven ones.
            let padded = count < 8 && bits >> (64 - count) == (1 << count) - 1;
            return if padded { Ok(()) } else { Err(DecodeError::Padding) };
        }
        if symbol == END_OF_STRING {
            return Err(DecodeError::Padding);
        }
        output.push(symbol as u8);
        bits <<= length;
        count -= length;
    }
}

/// The symbol that `bits` begin with, and the length of its code.
fn symbol(bits: u64) -> (u16, usize) {
    let (symbol, length) = TABLES.fast[(bits >> (64 - FAST_BITS)) as usize];
    if length != 0 {
        return (u16::from(symbol), usize::from(length));
    }
    let next = bits >> 32;
    let mut length = FAST_BITS + 1;
    while next >= TABLES.limit[length] {
        length += 1;
    }
    let (first, at) = TABLES.first[length];
    let offset = (next >> (32 - length)) as u32 - first;
    (TABLES.symbols[usize::from(at) + offset as usize], length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let (first, at) = TABLES.first[length];
            let place = TABLES.symbols.iter().position(|&symbol| symbol == u16::from(byte));
            let code = first + (place.expect("every symbol is there") - usize::from(at)) as u32;
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        let byte = |bits: &[bool]| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        bits.chunks(8).map(byte).collect()
    }

    /// RFC 7541, appendix C.4 and C.6.
    #[test]
    fn examples_of_the_rfc() {
        for (hexadecimal, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            ("640eff", "307"),
            ("9bd9ab", "gzip"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            let bytes: Vec<u8> = (0..hexadecimal.len() / 2)
                .map(|at| u8::from_str_radix(&hexadecimal[2 * at..2 * at + 2], 16).expect("hex"))
                .collect();
            let mut output = Vec::new();
            assert_eq!(decode(&bytes, &mut output), Ok(()), "{text}");
            assert_eq!(String::from_utf8_lossy(&output), text);
            assert_eq!(encode(text.as_bytes()), bytes);
        }
    }

    /// RFC 7541, section 5.2: padding is a strict prefix of the end of string, and below a byte.
    #[test]
    fn bad_padding_is_refused() {
        for bytes in [
            &[0xff][..],               // eight bits of padding
            &[0x18],                   // "a", padded with zeros
            &[0x1f, 0xff],             // "a", then eleven ones
            &[0xff, 0xff, 0xff, 0xff], // the end of string itself
        ] {
            assert_eq!(decode(bytes, &mut Vec::new()), Err(DecodeError::Padding), "{bytes:x?}");
        }
        assert_eq!(decode(&[0x1f], &mut Vec::new()), Ok(()));
    }

    proptest! {
        #[test]
        fn strings_survive(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut output = Vec::new();
            prop_assert_eq!(decode(&encode(&text), &mut output), Ok(()));
            prop_assert_eq!(output, text);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut output = Vec::new();
            let _either = decode(&bytes, &mut output);
            prop_assert!(output.len() <= bytes.len() * 8 / 5);
        }
    }
}
