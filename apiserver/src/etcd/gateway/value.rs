//! Numbers and bytes as JSON writes them for protobuf.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::kube::codec::json;
use crate::kube::codec::node::Node;

/// Digits, and the powers of ten to either side of them, that a number may have: no 64-bit one
/// needs more than 20, and 38 fit.
const DIGITS: usize = 38;

/// A whole number in JSON's notation, `1e3` and `2.0` included.
pub(super) fn integer(text: &str) -> Option<i128> {
    if text.trim() != text || !matches!(json::parse(text.as_bytes()), Ok(Node::Number(_))) {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.len() + fraction.len() > DIGITS {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10i128.checked_pow(shift.unsigned_abs());
    match power {
        _ if digits == 0 => Some(0),
        Some(power) if shift >= 0 => digits.checked_mul(power),
        Some(power) if digits % power == 0 => Some(digits / power),
        _ => None,
    }
}

/// Base64 in either alphabet, padded or not; Go's decoder also passes over line ends.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let padding = if text.len().is_multiple_of(4) {
        DecodePaddingMode::RequireCanonical
    } else {
        DecodePaddingMode::RequireNone
    };
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(padding)
        .with_decode_allow_trailing_bits(true);
    let alphabet =
        if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let engine = GeneralPurpose::new(alphabet, config);
    if text.contains(['\r', '\n']) {
        return engine.decode(text.replace(['\r', '\n'], "")).ok();
    }
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-5", Some(-5)),
            ("9223372036854775807", Some(i128::from(i64::MAX))),
            ("18446744073709551615", Some(i128::from(u64::MAX))),
            ("1e3", Some(1000)),
            ("1.50e1", Some(15)),
            ("2.0", Some(2)),
            ("100e-2", Some(1)),
            ("101e-2", None),
            ("1.5", None),
            ("0e999999999", Some(0)),
            ("1e99", None),
            ("1e99999999999", None),
            ("1e-99", None),
            ("", None),
            ("x", None),
            ("05", None),
            ("+5", None),
            (" 5", None),
            ("5 ", None),
            ("0x5", None),
            ("1.", None),
            ("true", None),
            ("123456789012345678901234567890123456789012345", None),
        ] {
            assert_eq!(integer(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bytes() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("AA==", Some(&[0])),
            ("AA", Some(&[0])),
            ("AA=", None),
            ("AAA", Some(&[0, 0])),
            ("-_8=", Some(&[0xfb, 0xff])),
            ("+/8=", Some(&[0xfb, 0xff])),
            ("+_8=", None),
            ("AB==", Some(&[0])),
            ("YQ==\r\n\r\n", Some(b"a")),
            ("!!!", None),
            ("A", None),
            ("====", None),
            ("é", None),
        ] {
            assert_eq!(base64(text).as_deref(), expected, "{text:?}");
        }
    }
}
