//! Timestamps as Kubernetes reads and writes them: RFC 3339 with whole seconds (Time) or exactly
//! six decimals (MicroTime), always written in UTC. Errors are those of Go's `time.Parse`.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// How many decimals a timestamp has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// `2006-01-02T15:04:05Z`; decimals are accepted and dropped.
    Seconds,
    /// `2006-01-02T15:04:05.000000Z`; exactly six decimals.
    Micros,
}

impl Precision {
    fn layout(self) -> &'static str {
        match self {
            Precision::Seconds => "2006-01-02T15:04:05Z07:00",
            Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// Seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
}

impl Timestamp {
    /// Reads a timestamp; the message of an error is complete.
    pub fn parse(text: &str, precision: Precision) -> Result<Timestamp, String> {
        let mut parser = Parser { text, rest: text, precision };
        parser.timestamp()
    }

    /// The timestamp in UTC. A year that has no four digits is cut to the nearest that has.
    pub fn format(self, precision: Precision) -> String {
        let seconds = self.seconds.clamp(YEAR_0, YEAR_9999_END);
        let moment = OffsetDateTime::from_unix_timestamp(seconds);
        let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (date, time) = (moment.date(), moment.time());
        let decimals = match precision {
            Precision::Seconds => String::new(),
            Precision::Micros => format!(".{:06}", self.nanos / 1_000),
        };
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{decimals}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    }
}

const YEAR_0: i64 = -62_167_219_200;
const YEAR_9999_END: i64 = 253_402_300_799;

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    precision: Precision,
}

impl Parser<'_> {
    fn timestamp(&mut self) -> Result<Timestamp, String> {
        let year = self.digits(4, "2006")?;
        self.literal("-")?;
        let month = self.in_range(1..=12, "01", "month")?;
        self.literal("-")?;
        let day = self.digits(2, "02")?;
        self.literal("T")?;
        let hour = self.in_range(0..=23, "15", "hour")?;
        self.literal(":")?;
        let minute = self.in_range(0..=59, "04", "minute")?;
        self.literal(":")?;
        let second = self.in_range(0..=59, "05", "second")?;
        let nanos = self.decimals()?;
        let offset_seconds = self.zone()?;
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.text, self.rest));
        }
        let out_of_range = || format!("parsing time {:?}: day out of range", self.text);
        let month = Month::try_from(month as u8).map_err(|_| out_of_range())?;
        let date = Date::from_calendar_date(year as i32, month, day as u8);
        let date = date.map_err(|_| out_of_range())?;
        let time = Time::from_hms(hour as u8, minute as u8, second as u8);
        let time = time.map_err(|_| out_of_range())?;
        let moment = PrimitiveDateTime::new(date, time).assume_offset(UtcOffset::UTC);
        Ok(Timestamp { seconds: moment.unix_timestamp() - offset_seconds, nanos })
    }

    fn cannot_parse(&self, element: &str) -> String {
        let layout = self.precision.layout();
        format!(
            "parsing time {:?} as {layout:?}: cannot parse {:?} as {element:?}",
            self.text, self.rest
        )
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        let rest = self.rest.strip_prefix(word).ok_or_else(|| self.cannot_parse(word))?;
        self.rest = rest;
        Ok(())
    }

    fn digits(&mut self, length: usize, element: &str) -> Result<u32, String> {
        let digits = self.rest.as_bytes().get(..length);
        let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit)) else {
            return Err(self.cannot_parse(element));
        };
        let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        self.rest = &self.rest[length..];
        Ok(number)
    }

    fn in_range(
        &mut self,
        range: std::ops::RangeInclusive<u32>,
        element: &str,
        name: &str,
    ) -> Result<u32, String> {
        let number = self.digits(2, element)?;
        match range.contains(&number) {
            true => Ok(number),
            false => Err(format!("parsing time {:?}: {name} out of range", self.text)),
        }
    }

    fn decimals(&mut self) -> Result<u32, String> {
        let after = self.rest.strip_prefix(['.', ',']);
        let length = after.map_or(0, |after| {
            after.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(after.len())
        });
        if self.precision == Precision::Micros && (length != 6 || !self.rest.starts_with('.')) {
            return Err(self.cannot_parse(".000000"));
        }
        let (Some(after), 1..) = (after, length) else { return Ok(0) };
        let digits = format!("{:0<9}", &after[..length.min(9)]);
        self.rest = &after[length..];
        Ok(digits.parse().unwrap_or(0))
    }

    /// `Z` or `+hh:mm`, in seconds.
    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let whole = self.rest;
        let error = self.cannot_parse("Z07:00");
        let sign = match whole.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(error),
        };
        self.rest = &whole[1..];
        let hours = self.digits(2, "").map_err(|_| error.clone())?;
        self.literal(":").map_err(|_| error.clone())?;
        let minutes = self.digits(2, "").map_err(|_| error)?;
        for (number, largest, name) in [(hours, 24, "hour"), (minutes, 60, "minute")] {
            if number > largest {
                let problem = format!("time zone offset {name} out of range");
                return Err(format!("parsing time {:?}: {problem}", self.text));
            }
        }
        Ok(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_in_utc() {
        for (text, precision, expected) in [
            ("2026-01-02T03:04:05Z", Precision::Seconds, "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.999Z", Precision::Seconds, "2026-01-02T03:04:05Z"),
            ("2026-01-01T00:30:00+01:00", Precision::Seconds, "2025-12-31T23:30:00Z"),
            ("0000-01-01T00:00:00+01:00", Precision::Seconds, "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59-01:00", Precision::Seconds, "9999-12-31T23:59:59Z"),
            ("2024-02-29T00:00:00.000001Z", Precision::Micros, "2024-02-29T00:00:00.000001Z"),
        ] {
            assert_eq!(Timestamp::parse(text, precision).unwrap().format(precision), expected);
        }
    }

    #[test]
    fn errors_are_those_of_go() {
        let seconds = "2006-01-02T15:04:05Z07:00";
        let micros = "2006-01-02T15:04:05.000000Z07:00";
        for (text, precision, message) in [
            (
                "yesterday",
                Precision::Seconds,
                format!("as \"{seconds}\": cannot parse \"yesterday\" as \"2006\""),
            ),
            ("", Precision::Seconds, format!("as \"{seconds}\": cannot parse \"\" as \"2006\"")),
            (
                "2026/01",
                Precision::Seconds,
                format!("as \"{seconds}\": cannot parse \"/01\" as \"-\""),
            ),
            (
                "2026-01-02",
                Precision::Seconds,
                format!("as \"{seconds}\": cannot parse \"\" as \"T\""),
            ),
            (
                "2026-01-02T03:04:05",
                Precision::Seconds,
                format!("as \"{seconds}\": cannot parse \"\" as \"Z07:00\""),
            ),
            (
                "2026-01-02T03:04:05Z",
                Precision::Micros,
                format!("as \"{micros}\": cannot parse \"Z\" as \".000000\""),
            ),
        ] {
            let error = Timestamp::parse(text, precision).unwrap_err();
            assert_eq!(error, format!("parsing time {text:?} {message}"));
        }
        for (text, message) in [
            ("2026-13-02T03:04:05Z", "month out of range"),
            ("2026-02-30T03:04:05Z", "day out of range"),
            ("2026-02-01T24:04:05Z", "hour out of range"),
            ("2026-02-01T03:04:05Zx", "extra text: \"x\""),
            ("2026-02-01T03:04:05+99:00", "time zone offset hour out of range"),
        ] {
            let error = Timestamp::parse(text, Precision::Seconds).unwrap_err();
            assert_eq!(error, format!("parsing time {text:?}: {message}"));
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9TZ:.+-]{0,35}|\\PC{0,20}") {
            for precision in [Precision::Seconds, Precision::Micros] {
                let _ = Timestamp::parse(&text, precision).map(|time| time.format(precision));
            }
        }
    }
}
