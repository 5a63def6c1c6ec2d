//! What is measured: every thread records into a slot of its own, the main thread takes the slots
//! empty once per interval and merges them.

use crate::limits::{ERROR_KINDS_MAX, LATENCY_DIGITS, LATENCY_NS_MAX};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The measurements of some stretch of time.
#[derive(Clone, Debug)]
pub struct Measures {
    /// Latencies of successful operations in nanoseconds; their number is the operations'.
    pub latencies: Histogram<u64>,
    /// Failed operations by kind.
    pub errors: BTreeMap<String, u64>,
    /// Optimistic updates that had to be repeated.
    pub conflicts: u64,
    /// Puts by the writer of the watch workload.
    pub puts: u64,
}

impl Default for Measures {
    fn default() -> Self {
        Self { latencies: new_histogram(), errors: BTreeMap::new(), conflicts: 0, puts: 0 }
    }
}

/// A histogram with the bounds that all of ours share.
#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("constant bounds")
}

impl Measures {
    /// Counts a successful operation.
    pub fn success(&mut self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        self.latencies.saturating_record(latency_ns.max(1));
    }

    /// Counts a failed operation.
    pub fn failure(&mut self, kind: &str) {
        self.failures(kind, 1);
    }

    /// Counts several failures of one kind.
    pub fn failures(&mut self, kind: &str, count: u64) {
        let known = self.errors.contains_key(kind) || self.errors.len() < ERROR_KINDS_MAX;
        let kind = if known { kind } else { "other" };
        match self.errors.get_mut(kind) {
            Some(total) => *total += count,
            None => drop(self.errors.insert(kind.to_owned(), count)),
        }
    }

    /// Adds what another recorded.
    pub fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        for (kind, count) in &other.errors {
            self.failures(kind, *count);
        }
        self.conflicts += other.conflicts;
        self.puts += other.puts;
    }

    /// Successful operations.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.latencies.len()
    }

    /// Failed operations of all kinds.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// One thread's slot. The lock is taken by its own thread per operation, and by the main thread
/// once per interval: it is practically never contended.
#[derive(Default)]
pub struct Recorder {
    slot: Mutex<Measures>,
}

impl Recorder {
    /// Records into the current interval.
    pub fn with(&self, record: impl FnOnce(&mut Measures)) {
        record(&mut self.slot.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes the current interval away and starts the next with the (emptied) `spare`.
    pub fn take(&self, spare: Measures) -> Measures {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut slot, spare)
    }
}

/// Merges the current interval of all threads.
#[must_use]
pub fn collect(recorders: &[std::sync::Arc<Recorder>]) -> Measures {
    let mut merged = Measures::default();
    for recorder in recorders {
        merged.add(&recorder.take(Measures::default()));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn slots_merge_and_start_empty_again() {
        let recorders = [Arc::new(Recorder::default()), Arc::new(Recorder::default())];
        for (recorder, micros) in recorders.iter().zip([100, 300]) {
            recorder.with(|measures| {
                measures.success(Duration::from_micros(micros));
                measures.failure("no answer");
                measures.conflicts += 1;
            });
        }
        let merged = collect(&recorders);
        assert_eq!((merged.operations(), merged.error_count(), merged.conflicts), (2, 2, 2));
        let within = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 1000;
        assert!(within(merged.latencies.min(), 100_000), "{}", merged.latencies.min());
        assert!(within(merged.latencies.max(), 300_000), "{}", merged.latencies.max());
        assert_eq!(collect(&recorders).operations(), 0);
    }

    #[test]
    fn error_kinds_are_bounded() {
        let mut measures = Measures::default();
        for number in 0..1000 {
            measures.failure(&format!("kind {number}"));
        }
        assert_eq!(measures.error_count(), 1000);
        assert_eq!(measures.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(measures.errors["other"], 1000 - ERROR_KINDS_MAX as u64);
    }

    #[test]
    fn latencies_beyond_the_bounds_are_kept_at_the_bounds() {
        let mut measures = Measures::default();
        measures.success(Duration::ZERO);
        measures.success(Duration::from_secs(100_000));
        assert_eq!(measures.operations(), 2);
        assert!(measures.latencies.max() >= LATENCY_NS_MAX);
    }
}
