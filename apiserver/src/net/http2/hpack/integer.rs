//! Integers with a prefix of one to eight bits (RFC 7541, section 5.1).

use bytes::{BufMut, BytesMut};

use super::DecodeError;

/// Takes an integer from the front of `bytes`, whose first byte has `prefix_bits` of it.
pub(super) fn decode(bytes: &mut &[u8], prefix_bits: u32) -> Result<usize, DecodeError> {
    let mask = (1u32 << prefix_bits) - 1;
    let (&first, mut rest) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    let mut value = u32::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, later) = rest.split_first().ok_or(DecodeError::Truncated)?;
            rest = later;
            // Four more bytes reach 2^28: nothing here is ever as long.
            if shift > 21 {
                return Err(DecodeError::IntegerTooLarge);
            }
            value += u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(value as usize)
}

/// Appends `value` with `pattern` in the bits above the prefix.
pub(super) fn encode(output: &mut BytesMut, value: usize, prefix_bits: u32, pattern: u8) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        output.put_u8(pattern | value as u8);
        return;
    }
    output.put_u8(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        output.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    output.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7541, appendix C.1.
    #[test]
    fn examples_of_the_rfc() {
        for (value, prefix_bits, expected) in [
            (10, 5, &[0b01010][..]),
            (1337, 5, &[0b11111, 0b1001_1010, 0b0000_1010]),
            (42, 8, &[0b0010_1010]),
        ] {
            let mut output = BytesMut::new();
            encode(&mut output, value, prefix_bits, 0);
            assert_eq!(output[..], *expected);
            assert_eq!(decode(&mut &output[..], prefix_bits), Ok(value));
        }
    }

    #[test]
    fn bad_integers_are_refused() {
        for (bytes, expected) in [
            (&[][..], DecodeError::Truncated),
            (&[0x1f], DecodeError::Truncated),
            (&[0x1f, 0x80], DecodeError::Truncated),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], DecodeError::IntegerTooLarge),
            (&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00], DecodeError::IntegerTooLarge),
        ] {
            assert_eq!(decode(&mut &bytes[..], 5), Err(expected), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_survive(value in 0usize..1 << 28, prefix_bits in 1u32..=8) {
            let mut output = BytesMut::new();
            encode(&mut output, value, prefix_bits, 0);
            let mut bytes = &output[..];
            prop_assert_eq!(decode(&mut bytes, prefix_bits), Ok(value));
            prop_assert!(bytes.is_empty());
        }
    }
}
