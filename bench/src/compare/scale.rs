//! Axes: from values to positions, and where their ticks go.

/// The position of a percentile on an axis that gives every halving of the distance to 100 % the
/// same length: 0 at 0 %, 1 at 50 %, 2 at 75 %, … The maximum (100 %) has no finite place.
#[must_use]
pub fn halvings(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log2()
}

/// Percentiles that people know, as ticks up to `end` halvings.
#[must_use]
pub fn percentile_ticks(end: f64) -> Vec<(f64, &'static str)> {
    [
        (0.0, "0"),
        (50.0, "50"),
        (90.0, "90"),
        (99.0, "99"),
        (99.9, "99.9"),
        (99.99, "99.99"),
        (99.999, "99.999"),
        (99.9999, "99.9999"),
    ]
    .into_iter()
    .map(|(percentile, label)| (halvings(percentile), label))
    .filter(|(position, _)| *position <= end)
    .collect()
}

/// A logarithmic axis.
#[derive(Clone, Debug, PartialEq)]
pub struct LogScale {
    low: f64,
    high: f64,
    /// Values with a line and a label.
    pub ticks: Vec<f64>,
}

impl LogScale {
    /// An axis for values from `min` to `max` (both over 0), ending at ticks of 1, 2 and 5.
    #[must_use]
    pub fn new(min: f64, max: f64) -> Self {
        let min = if min.is_finite() && min > 0.0 { min } else { 1.0 };
        let max = if max.is_finite() { max.max(min) } else { min };
        let fine = max / min < 2_000.0;
        let mantissas: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let candidates: Vec<f64> = (-12..=18)
            .flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * 10f64.powi(power)))
            .collect();
        let low = candidates.iter().rev().find(|tick| **tick <= min).copied().unwrap_or(min);
        let high = candidates.iter().find(|tick| **tick >= max && **tick > low).copied();
        let high = high.unwrap_or(max * 2.0);
        let ticks = candidates.into_iter().filter(|tick| (low..=high).contains(tick)).collect();
        Self { low, high, ticks }
    }

    /// 0 at the low end, 1 at the high end.
    #[must_use]
    pub fn position(&self, value: f64) -> f64 {
        ((value.max(self.low) / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_places() {
        for (percentile, expected) in [(0.0, 0.0), (50.0, 1.0), (75.0, 2.0), (99.0, 6.643_856)] {
            assert!((halvings(percentile) - expected).abs() < 1e-5, "{percentile}");
        }
        let labels: Vec<_> = percentile_ticks(10.0).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn logarithmic_axes_end_at_round_ticks() {
        for (min, max, ticks) in [
            (130.0, 900.0, &[100.0, 200.0, 500.0, 1000.0][..]),
            (100.0, 100.0, &[100.0, 200.0]),
            (0.0, 3.0, &[1.0, 2.0, 5.0]),
            (1.5, 20_000.0, &[1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0]),
        ] {
            let scale = LogScale::new(min, max);
            assert_eq!(scale.ticks.len(), ticks.len(), "{min} to {max}: {:?}", scale.ticks);
            for (tick, expected) in scale.ticks.iter().zip(ticks) {
                assert!((tick / expected - 1.0).abs() < 1e-9, "{tick} {expected}");
            }
            assert!(scale.position(ticks[0]) < 1e-9);
            assert!(scale.position(ticks[ticks.len() - 1]) > 1.0 - 1e-9);
        }
        let scale = LogScale::new(1.0, 100.0);
        assert!((scale.position(10.0) - 0.5).abs() < 1e-9);
        assert_eq!((scale.position(0.0), scale.position(1e9)), (0.0, 1.0), "stays on the page");
    }
}
