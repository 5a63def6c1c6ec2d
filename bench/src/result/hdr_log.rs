//! The interval log in HdrHistogram's format (V2, compressed), which its plotters and log
//! analyzers of every language read. Values and maxima are nanoseconds.

use crate::load::recorder::Measures;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// A log that keeps the first error until the end, so that a full disk does not stop a run.
pub struct HdrLog<W: Write> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> HdrLog<W> {
    /// A log to `out`.
    #[must_use]
    pub fn new(out: W) -> Self {
        Self { out, failed: None }
    }

    /// Writes the head: a comment and the time from which intervals count.
    pub fn begin(&mut self, comment: &str, at: SystemTime) {
        let begun = IntervalLogWriterBuilder::new()
            .add_comment(comment)
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(at)
            .with_base_time(at)
            .begin_log_with(&mut self.out, &mut V2DeflateSerializer::new())
            .map(drop);
        self.keep_error(begun);
    }

    /// Writes one interval; `start` counts from the begin.
    pub fn interval(&mut self, start: Duration, length: Duration, measures: &Measures) {
        let mut serializer = V2DeflateSerializer::new();
        // Without any setting this writes no head, only the interval's line.
        let written = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.out, &mut serializer)
            .and_then(|mut writer| {
                writer
                    .write_histogram(&measures.latencies, start, length, None)
                    .map_err(|error| io::Error::other(error.to_string()))
            });
        self.keep_error(written);
    }

    fn keep_error(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    /// Flushes, and tells the first error of all writes.
    ///
    /// # Errors
    /// What the file system said.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_log_reads_back_as_it_was_recorded() {
        let mut bytes = Vec::new();
        let mut log = HdrLog::new(&mut bytes);
        log.begin("put, 8 clients", SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let intervals: Vec<Measures> = [&[100u64, 200, 300][..], &[], &[5_000_000]]
            .iter()
            .map(|micros| {
                let mut measures = Measures::default();
                micros.iter().for_each(|us| measures.success(Duration::from_micros(*us)));
                measures
            })
            .collect();
        for (number, measures) in intervals.iter().enumerate() {
            let start = Duration::from_secs(number as u64);
            log.interval(start, Duration::from_secs(1), measures);
        }
        log.finish().unwrap();
        drop(log);

        let (mut read, mut bases) = (Vec::new(), 0);
        for entry in IntervalLogIterator::new(&bytes) {
            match entry.unwrap() {
                LogEntry::Interval(interval) => {
                    let encoded = interval.encoded_histogram();
                    let raw = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
                    let histogram: Histogram<u64> =
                        Deserializer::new().deserialize(&mut &raw[..]).unwrap();
                    read.push((interval.start_timestamp(), interval.duration(), histogram));
                }
                LogEntry::BaseTime(base) => {
                    bases += 1;
                    assert_eq!(base.as_secs(), 1_700_000_000);
                }
                LogEntry::StartTime(_) => {}
            }
        }
        assert_eq!((read.len(), bases), (3, 1), "{}", String::from_utf8_lossy(&bytes));
        for (number, (start, length, histogram)) in read.iter().enumerate() {
            assert_eq!(start.as_secs(), number as u64);
            assert_eq!(length.as_secs(), 1);
            assert_eq!(histogram, &intervals[number].latencies);
        }
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let mut small = [0u8; 64];
        let mut log = HdrLog::new(&mut small[..]);
        log.begin("put", SystemTime::UNIX_EPOCH);
        log.interval(Duration::ZERO, Duration::from_secs(1), &Measures::default());
        assert!(log.finish().is_err());
    }
}
