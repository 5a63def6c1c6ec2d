//! The percentile distribution as text (`.hgrm`), the form that HdrHistogram's plot page and most
//! load generators' users know: milliseconds, and the reciprocal distance to 100 %.

use hdrhistogram::Histogram;
use std::fmt::Write;

/// Points per halving of the distance to 100 %, as other tools write them.
const TICKS_PER_HALVING: u32 = 5;
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// The distribution of a histogram of nanoseconds.
#[must_use]
pub fn distribution(latencies: &Histogram<u64>) -> String {
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in latencies.iter_quantiles(TICKS_PER_HALVING) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / NANOSECONDS_PER_MILLISECOND;
        let quantile = step.quantile_iterated_to();
        let _ = write!(out, "{value:>12.6} {quantile:>14.12} {total:>10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let milliseconds = |nanoseconds: f64| nanoseconds / NANOSECONDS_PER_MILLISECOND;
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]\n\
         #[Max     = {:>12.6}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        milliseconds(latencies.mean()),
        milliseconds(latencies.stdev()),
        milliseconds(latencies.max() as f64),
        latencies.len(),
        latencies.buckets(),
        2 * 10u64.pow(u32::from(latencies.sigfig())).next_power_of_two(),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::recorder::Measures;
    use std::time::Duration;

    #[test]
    fn a_distribution_counts_everything_and_ends_at_the_maximum() {
        let mut measures = Measures::default();
        (1..=1000).for_each(|micros| measures.success(Duration::from_micros(micros)));
        let text = distribution(&measures.latencies);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]), "{text}");
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!(
            (median[0] - 0.5).abs() < 0.001 && median[2] == 500.0 && median[3] == 2.0,
            "{text}"
        );
        let last = rows.last().unwrap();
        assert!((last[0] - 1.0).abs() < 0.001, "{text}");
        assert_eq!((last[1], last[2], last.len()), (1.0, 1000.0, 3));
        assert!(text.contains("Total count    =         1000"), "{text}");
    }
}
