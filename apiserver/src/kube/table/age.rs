//! Ages as kubectl shows them: two units while they are young, one later.

use crate::kube::object::{self, Object};
use crate::kube::registry::context::parse_time;

/// The age of an object; `<unknown>` when it has no creation time.
pub fn age(object: &Object, now_unix_seconds: i64) -> String {
    age_of_time(object::meta_text(object, "creationTimestamp"), now_unix_seconds)
}

/// The time since `time`.
pub fn age_of_time(time: &str, now_unix_seconds: i64) -> String {
    match parse_time(time) {
        Some(created) => duration_text(now_unix_seconds - created),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds as `5s`, `3m20s`, `12h`, `5d3h`, `2y15d`.
pub fn duration_text(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        // Clocks differ a little.
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_799, "179m"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600, "8h"),
            (2 * 86_400, "2d"),
            (3 * 86_400 + 7200, "3d2h"),
            (10 * 86_400, "10d"),
            (3 * 31_536_000, "3y"),
        ] {
            assert_eq!(duration_text(seconds), expected, "{seconds}");
        }
        assert_eq!(age_of_time("", 0), "<unknown>");
    }
}
