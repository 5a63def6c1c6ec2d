//! A latency distribution as a short list of points that shows its tail: percentiles whose
//! distance to 100 % halves again and again, as many as the number of operations can support.

use hdrhistogram::Histogram;
use serde::Serialize;

/// One point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Percentile, 0 to 100.
    pub percentile: f64,
    /// Latency in microseconds at or below which that share of operations lies.
    pub latency_us: f64,
}

/// Points per halving of the distance to 100 %.
const POINTS_PER_HALVING: u32 = 4;

/// The curve of a histogram of nanoseconds; empty for an empty one.
#[must_use]
pub fn curve(latencies: &Histogram<u64>) -> Vec<Point> {
    if latencies.is_empty() {
        return Vec::new();
    }
    let mut points = Vec::new();
    for percentile in percentiles(latencies.len()) {
        let latency_us = latencies.value_at_percentile(percentile) as f64 / 1000.0;
        points.push(Point { percentile, latency_us });
    }
    points
}

/// The percentiles worth showing of `count` values: the last but one has at least one value
/// beyond it, the last is the maximum.
#[must_use]
pub fn percentiles(count: u64) -> Vec<f64> {
    let mut percentiles = Vec::new();
    let smallest_distance = 1.0 / count.max(1) as f64;
    for step in 0..64 * POINTS_PER_HALVING {
        let halving = step / POINTS_PER_HALVING;
        let within = f64::from(step % POINTS_PER_HALVING) / f64::from(POINTS_PER_HALVING);
        let distance = 0.5f64.powi(halving as i32) * (1.0 - within / 2.0);
        if distance < smallest_distance {
            break;
        }
        percentiles.push((1.0 - distance) * 100.0);
    }
    percentiles.push(100.0);
    percentiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_go_as_far_as_the_count_supports() {
        for (count, last_but_one) in [(1, 0.0), (2, 50.0), (4, 75.0), (1024, 99.902_343_75)] {
            let percentiles = percentiles(count);
            assert_eq!(percentiles[percentiles.len() - 2], last_but_one, "{count}");
            assert_eq!(percentiles.last(), Some(&100.0));
            assert!(percentiles.is_sorted_by(|a, b| a < b), "{percentiles:?}");
        }
    }

    #[test]
    fn the_curve_of_known_values() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for micros in 1..=1000u64 {
            histogram.record(micros * 1000).unwrap();
        }
        let points = curve(&histogram);
        for (percentile, expected_us) in [(50.0, 500.0), (75.0, 750.0), (100.0, 1000.0)] {
            let point = points.iter().find(|point| point.percentile == percentile).unwrap();
            assert!((point.latency_us - expected_us).abs() <= expected_us * 0.002, "{point:?}");
        }
        assert!(points.is_sorted_by(|a, b| a.latency_us <= b.latency_us));
        assert_eq!(curve(&Histogram::new_with_bounds(1, 1000, 3).unwrap()), []);
    }
}
