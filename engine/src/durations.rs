//! How long things took: counts in buckets, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper ends of the buckets, microseconds: doubling from 50 microseconds to 3.3 seconds. What takes
/// longer is in none of them and in the count.
pub const BUCKETS_US: [u64; BUCKETS] = {
    let mut ends = [50; BUCKETS];
    let mut bucket = 1;
    while bucket < BUCKETS {
        ends[bucket] = ends[bucket - 1] * 2;
        bucket += 1;
    }
    ends
};

const BUCKETS: usize = 17;

/// Durations, counted by any core.
#[derive(Debug)]
pub struct Durations {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// What has been counted so far. Buckets do not include those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationCounts {
    pub buckets: [u64; BUCKETS],
    pub count: u64,
    pub sum_us: u64,
}

impl Durations {
    pub const fn new() -> Durations {
        Durations {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    /// Something took so many microseconds.
    pub fn record(&self, us: u64) {
        let bucket = BUCKETS_US.partition_point(|end| *end < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub fn counts(&self) -> DurationCounts {
        DurationCounts {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            count: self.count.load(Ordering::Relaxed),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl Default for Durations {
    fn default() -> Durations {
        Durations::new()
    }
}

impl DurationCounts {
    /// Both together.
    pub fn and(mut self, other: DurationCounts) -> DurationCounts {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
        self.sum_us += other.sum_us;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let durations = Durations::new();
        for us in [0, 50, 51, 100, 3_276_800, 3_276_801, 60_000_000] {
            durations.record(us);
        }
        let counts = durations.counts();
        assert_eq!(BUCKETS_US[BUCKETS - 1], 3_276_800);
        assert_eq!((counts.buckets[0], counts.buckets[1], counts.buckets[BUCKETS - 1]), (2, 2, 1));
        assert_eq!(counts.count, 7);
        assert_eq!(counts.sum_us, 66_553_802);
        assert_eq!(counts.and(counts).count, 14);
    }
}
