//! The `date` of answers, made once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const FORMAT: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// The last date that was made.
#[derive(Debug, Default)]
pub(super) struct DateCache {
    second: u64,
    value: Option<HeaderValue>,
}

impl DateCache {
    /// `None` for a time that can't be written.
    pub(super) fn get(&mut self, now: SystemTime) -> Option<&HeaderValue> {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        if self.value.is_none() || self.second != second {
            self.second = second;
            self.value = OffsetDateTime::from_unix_timestamp(i64::try_from(second).ok()?)
                .ok()
                .and_then(|time| time.format(FORMAT).ok())
                .and_then(|text| HeaderValue::try_from(text).ok());
        }
        self.value.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_in_http() {
        let mut cache = DateCache::default();
        for (second, expected) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(second);
            assert_eq!(cache.get(now).expect("a date"), expected);
        }
    }
}
