//! Durations as Go programs write them: `10m`, `1h30m`, `1.5s`, `100ms`.

use std::time::Duration;

/// Units, with those first that others begin with.
const UNITS: [(&str, f64); 6] =
    [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// More than anyone means, and far below what a clock can't add up.
const MAXIMUM_SECONDS: f64 = 100.0 * 365.0 * 24.0 * 3600.0;

/// Parses a duration that is not negative.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || "must be a duration, as in 10m, 1h30m, 1.5s or 100ms".to_owned();
    let mut seconds = 0.0;
    let mut rest = text;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, behind) = rest.split_at(length);
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let unit = UNITS.iter().find(|(name, _)| behind.starts_with(name)).ok_or_else(refuse)?;
        seconds += number * unit.1;
        rest = &behind[unit.0.len()..];
    }
    if text.is_empty() || seconds > MAXIMUM_SECONDS {
        return Err(refuse());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("10m", Some(600_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("100ms", Some(100)),
            ("1m2s3ms", Some(62_003)),
            ("0", Some(0)),
            ("", None),
            ("10", None),
            ("m", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("99999999h", None),
            ("1x", None),
        ] {
            let parsed = parse(text).ok().map(|duration| duration.as_millis());
            assert_eq!(parsed, milliseconds, "{text}");
        }
    }
}
