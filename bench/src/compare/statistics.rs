//! Few repetitions, honestly: the median with the smallest and the largest, and whether two
//! ranges overlap.

use serde::Serialize;

/// Values of several rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Reads the values of all rounds; `None` without any.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min, max })
    }

    /// True when both ranges have a value in common: the rounds do not tell them apart.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// How many times `base` this is; `None` when there is nothing to compare with.
    #[must_use]
    pub fn ratio(&self, base: &Self) -> Option<f64> {
        (base.median > 0.0).then(|| self.median / base.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some((3.0, 3.0, 3.0))),
            (&[9.0, 1.0], Some((5.0, 1.0, 9.0))),
            (&[9.0, 1.0, 4.0], Some((4.0, 1.0, 9.0))),
        ] {
            let spread = Spread::of(values.iter().copied());
            assert_eq!(spread.map(|s| (s.median, s.min, s.max)), expected);
        }
    }

    #[test]
    fn overlap_and_ratio() {
        let spread = |min, median, max| Spread { median, min, max };
        for (one, other, overlaps) in [
            (spread(1.0, 2.0, 3.0), spread(3.0, 4.0, 5.0), true),
            (spread(1.0, 2.0, 2.9), spread(3.0, 4.0, 5.0), false),
            (spread(1.0, 2.0, 9.0), spread(3.0, 4.0, 5.0), true),
        ] {
            assert_eq!(one.overlaps(&other), overlaps);
            assert_eq!(other.overlaps(&one), overlaps);
        }
        assert_eq!(spread(1.0, 6.0, 9.0).ratio(&spread(1.0, 2.0, 3.0)), Some(3.0));
        assert_eq!(spread(1.0, 6.0, 9.0).ratio(&spread(0.0, 0.0, 0.0)), None);
    }
}
