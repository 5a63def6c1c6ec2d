//! Resource quantities such as `100m`, `1.5Gi` or `1e3`: parsed, compared, and written in the one
//! form that Kubernetes stores (`1000m` becomes `1`, `0.5Gi` becomes `512Mi`).

use std::cmp::Ordering;
use std::fmt;

use thiserror::Error;

/// Why a text is no quantity, in the words of Kubernetes.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Which suffixes a quantity is written with: those it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `m`, `k`, `M`: powers of 1000
    Decimal,
    /// `Ki`, `Mi`: powers of 1024
    Binary,
    /// `e3`
    Exponent,
}

/// An exact decimal number: `digits` times ten to the `exponent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    negative: bool,
    /// ASCII digits without leading or trailing zeros; empty for zero.
    digits: String,
    exponent: i64,
    format: Format,
}

const DECIMAL_SUFFIXES: [(&str, i64); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY_SUFFIXES: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
/// Smaller parts are rounded up to this power of ten: who asks for something gets something.
const SMALLEST_EXPONENT: i64 = -9;
/// Binary quantities are cut at the largest signed 64-bit number.
const LARGEST_BINARY: u128 = i64::MAX as u128;

impl Quantity {
    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let parts = split(text)?;
        let all_digits = format!("{}{}", parts.whole, parts.fraction);
        let fraction_length = parts.fraction.len() as i64;
        let quantity = |digits: String, exponent, format| {
            Quantity { negative: parts.negative, digits, exponent, format }.rounded().trimmed()
        };
        if let Some((_, power)) = BINARY_SUFFIXES.iter().find(|(name, _)| *name == parts.suffix) {
            let (digits, exponent) = times_two_to(&all_digits, *power, -fraction_length);
            return Ok(quantity(digits, exponent, Format::Binary).capped());
        }
        let decimal = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == parts.suffix);
        let (power, format) = match decimal {
            Some((_, power)) => (*power, Format::Decimal),
            None => (exponent_suffix(parts.suffix)?, Format::Exponent),
        };
        Ok(quantity(all_digits, power - fraction_length, format))
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// The sum of both, in the format of this one.
    pub fn plus(&self, other: &Quantity) -> Quantity {
        let sum = self.nanos().saturating_add(other.nanos());
        let digits = sum.unsigned_abs().to_string();
        let format = if self.is_zero() { other.format } else { self.format };
        let exponent = SMALLEST_EXPONENT;
        Quantity { negative: sum < 0, digits, exponent, format }.trimmed()
    }

    /// The difference, in the format of this one.
    pub fn minus(&self, other: &Quantity) -> Quantity {
        let negated = Quantity { negative: !other.negative, ..other.clone() };
        self.plus(&negated)
    }

    /// Whether it is more than nothing.
    pub fn is_positive(&self) -> bool {
        self.sign() > 0
    }

    /// In billionths, as far as these can be told.
    fn nanos(&self) -> i128 {
        let power = u32::try_from(self.exponent - SMALLEST_EXPONENT).unwrap_or(0);
        let digits = self.digits.parse::<i128>();
        let digits = if self.is_zero() { 0 } else { digits.unwrap_or(i128::MAX) };
        let magnitude = 10_i128.checked_pow(power).map_or(i128::MAX, |p| digits.saturating_mul(p));
        if self.negative { -magnitude } else { magnitude }
    }

    /// Near enough for ratios.
    pub fn to_f64(&self) -> f64 {
        let digits = self.digits.parse::<f64>().unwrap_or(0.0);
        let value = digits * 10_f64.powi(i32::try_from(self.exponent).unwrap_or(0));
        if self.negative { -value } else { value }
    }

    /// Whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.exponent >= 0 || self.is_zero()
    }

    /// The order of the values, whatever their suffixes.
    pub fn compare(&self, other: &Quantity) -> Ordering {
        match (self.sign(), other.sign()) {
            (-1, -1) => other.compare_magnitude(self),
            (1, 1) => self.compare_magnitude(other),
            (mine, theirs) => mine.cmp(&theirs),
        }
    }

    fn sign(&self) -> i8 {
        match (self.is_zero(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_magnitude(&self, other: &Quantity) -> Ordering {
        let top = |quantity: &Quantity| quantity.digits.len() as i64 + quantity.exponent;
        // Digits without leading zeros: the higher first digit wins, then the text decides.
        top(self).cmp(&top(other)).then_with(|| self.digits.cmp(&other.digits))
    }

    fn trimmed(mut self) -> Quantity {
        let leading = self.digits.len() - self.digits.trim_start_matches('0').len();
        self.digits.drain(..leading);
        let kept = self.digits.trim_end_matches('0').len();
        self.exponent += (self.digits.len() - kept) as i64;
        self.digits.truncate(kept);
        if self.digits.is_empty() {
            self.exponent = 0;
            self.negative = false;
        }
        self
    }

    fn rounded(self) -> Quantity {
        self.rounded_up_to(SMALLEST_EXPONENT)
    }

    /// The smallest quantity of thousandths that is not less.
    pub fn in_thousandths(self) -> Quantity {
        self.rounded_up_to(-3).trimmed()
    }

    fn rounded_up_to(mut self, smallest_exponent: i64) -> Quantity {
        let surplus = smallest_exponent - self.exponent;
        if surplus <= 0 || self.digits.bytes().all(|digit| digit == b'0') {
            return self;
        }
        let kept = self.digits.len().saturating_sub(surplus as usize);
        let lost = self.digits[kept..].bytes().any(|digit| digit != b'0');
        self.digits.truncate(kept);
        self.exponent = smallest_exponent;
        // What lies beyond the first digit is lost as a whole when there are fewer digits.
        if lost {
            self.digits = plus_one(&self.digits);
        }
        self
    }

    fn capped(mut self) -> Quantity {
        let whole = self.whole();
        if self.exponent >= 0 && whole.is_none_or(|whole| whole > LARGEST_BINARY) {
            self.digits = LARGEST_BINARY.to_string();
            self.exponent = 0;
        }
        self.trimmed()
    }

    /// The magnitude when it is a whole number that fits.
    fn whole(&self) -> Option<u128> {
        if self.is_zero() {
            return Some(0);
        }
        let power = u32::try_from(self.exponent).ok()?;
        self.digits.parse::<u128>().ok()?.checked_mul(10u128.checked_pow(power)?)
    }

    /// The magnitude in powers of 1024, when that is how it is written.
    fn binary_form(&self) -> Option<(u128, &'static str)> {
        let mut number = self.whole().filter(|whole| *whole >= 1024)?;
        let mut suffix = "";
        for (name, _) in BINARY_SUFFIXES {
            if !number.is_multiple_of(1024) {
                break;
            }
            number /= 1024;
            suffix = name;
        }
        Some((number, suffix))
    }
}

impl fmt::Display for Quantity {
    /// The canonical form.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return out.write_str("0");
        }
        if self.negative {
            out.write_str("-")?;
        }
        if self.format == Format::Binary
            && let Some((number, suffix)) = self.binary_form()
        {
            return write!(out, "{number}{suffix}");
        }
        // The exponent becomes a multiple of three by moving zeros into the number.
        let zeros = self.exponent.rem_euclid(3);
        let exponent = self.exponent - zeros;
        write!(out, "{}{}", self.digits, &"00"[..zeros as usize])?;
        let suffix = DECIMAL_SUFFIXES.iter().find(|(_, power)| *power == exponent);
        match suffix {
            Some((name, _)) if self.format != Format::Exponent => out.write_str(name),
            _ if exponent == 0 => Ok(()),
            _ => write!(out, "e{exponent}"),
        }
    }
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// Sign, digits, an optional point and digits, then a suffix.
fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = leading(rest, |byte| byte.is_ascii_digit());
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => leading(rest, |byte| byte.is_ascii_digit()),
        None => ("", rest),
    };
    let (_, rest) = leading(suffix, |byte| b"eEinumkKMGTP".contains(&byte));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if text.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix })
}

fn leading(text: &str, wanted: fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !wanted(byte)).unwrap_or(text.len());
    text.split_at(end)
}

/// The power of ten of `e3` or `E-2`.
fn exponent_suffix(suffix: &str) -> Result<i64, QuantityError> {
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    digits.parse::<i32>().map(i64::from).map_err(|_| QuantityError::Suffix)
}

/// A decimal number times a power of two, as digits and exponent.
fn times_two_to(digits: &str, power: u32, exponent: i64) -> (String, i64) {
    // One digit more than the largest result has: what is cut off changes nothing that is kept.
    const KEPT_DIGITS: usize = 20;
    let digits = digits.trim_start_matches('0');
    let kept = digits.len().min(KEPT_DIGITS);
    let number: u128 = digits[..kept].parse().unwrap_or(0);
    // 10^20 * 2^60 < 2^127
    ((number << power).to_string(), exponent + (digits.len() - kept) as i64)
}

fn plus_one(digits: &str) -> String {
    let mut bytes = digits.as_bytes().to_vec();
    for digit in bytes.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        *digit = b'0';
    }
    format!("1{}", String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("0Gi", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("100m", "100m"),
            ("1500m", "1500m"),
            ("1.5k", "1500"),
            ("1000k", "1M"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("16Ei", "9223372036854775807"),
            ("-16Ei", "-9223372036854775807"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e-1", "1200e-3"),
            ("1e0", "1"),
            ("100e2", "10e3"),
            ("1E", "1E"),
            ("1000E", "1e21"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("-0.1n", "-1n"),
            ("0.0000000001", "1n"),
            ("9.9999999999", "10"),
            ("-1500m", "-1500m"),
            ("007", "7"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refused_texts() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("lots", QuantityError::Format),
            ("1 ", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1Gib", QuantityError::Format),
            ("1mm", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e99999999999", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
            ("1m3", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn values_compare_across_suffixes() {
        for (smaller, larger) in [
            ("999m", "1"),
            ("1k", "1Ki"),
            ("-2", "-1"),
            ("-1", "0"),
            ("0", "1n"),
            ("1G", "1Gi"),
            ("1e3", "1001"),
        ] {
            let (a, b) = (Quantity::parse(smaller).unwrap(), Quantity::parse(larger).unwrap());
            assert_eq!(a.compare(&b), Ordering::Less, "{smaller} {larger}");
            assert_eq!(b.compare(&a), Ordering::Greater, "{smaller} {larger}");
        }
        let equal = (Quantity::parse("1024Mi").unwrap(), Quantity::parse("1Gi").unwrap());
        assert_eq!(equal.0.compare(&equal.1), Ordering::Equal);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[-+0-9.eEinumkKMGTPx ]{0,50}") {
            let _ = Quantity::parse(&text).map(|quantity| quantity.to_string());
        }

        #[test]
        fn the_canonical_form_is_a_fixed_point(text in "[-+]?[0-9]{1,25}(\\.[0-9]{0,25})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2})?") {
            let once = Quantity::parse(&text).unwrap();
            let again = Quantity::parse(&once.to_string()).unwrap();
            proptest::prop_assert_eq!(once.to_string(), again.to_string());
            proptest::prop_assert_eq!(once.compare(&again), Ordering::Equal);
        }
    }
}
