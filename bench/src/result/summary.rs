//! The result of a run in words, for a terminal.

use super::figures::{Asked, Figures};
use std::fmt::Write;

/// A few lines: what was done, how fast, how evenly, what went wrong.
#[must_use]
pub fn summary(figures: &Figures) -> String {
    let mut out = String::new();
    let asked = &figures.asked;
    let operation = if asked.watchers.is_some() { "events" } else { "operations" };
    let _ = writeln!(
        out,
        "{}: {} {operation} in {:.2} s, {} a second",
        asked.workload,
        grouped(figures.operations as f64, 0),
        figures.window_seconds,
        grouped(figures.operations_per_second, 0),
    );
    let _ = writeln!(out, "  load     {}", load(asked));
    let latency = &figures.latency;
    if figures.operations > 0 {
        let _ = writeln!(
            out,
            "  latency  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  (mean {}, deviation {})",
            microseconds(latency.p50_us),
            microseconds(latency.p90_us),
            microseconds(latency.p99_us),
            microseconds(latency.p999_us),
            microseconds(latency.max_us),
            microseconds(latency.mean_us),
            microseconds(latency.deviation_us),
        );
    }
    let _ = writeln!(
        out,
        "  loader   {} us of processor time per operation",
        grouped(figures.loader_cpu_us_per_operation, 1)
    );
    if figures.puts > 0 {
        let _ = writeln!(out, "  puts     {}", grouped(figures.puts as f64, 0));
    }
    if figures.conflicts > 0 {
        let _ = writeln!(out, "  conflicts {} (repeated)", grouped(figures.conflicts as f64, 0));
    }
    // A request or two at the very end of the window says nothing.
    if figures.unsent * 1000 > figures.operations {
        let _ = writeln!(
            out,
            "  unsent   {}: the server could not keep up with the rate, or more clients are needed",
            grouped(figures.unsent as f64, 0)
        );
    }
    for (kind, count) in &figures.errors {
        let _ = writeln!(out, "  error    {} x {kind}", grouped(*count as f64, 0));
    }
    if figures.interrupted {
        let _ = writeln!(out, "  stopped before its end");
    }
    out
}

fn load(asked: &Asked) -> String {
    let mut text = format!(
        "{} clients, {} connections, {} threads, {} keys, values of {} B",
        asked.clients, asked.connections, asked.threads, asked.key_space, asked.value_size_bytes
    );
    if let Some(watchers) = asked.watchers {
        let _ = write!(text, ", {watchers} watchers");
    }
    if let Some(limit) = asked.list_limit {
        let _ = write!(text, ", lists of at most {limit} keys");
    }
    match asked.rate {
        Some(rate) => {
            let _ = write!(
                text,
                ", {} a second offered (latency from the intended time)",
                grouped(rate, 0)
            );
        }
        None => text.push_str(", closed loop"),
    }
    text
}

/// A time in the unit that suits it.
#[must_use]
pub fn microseconds(value: f64) -> String {
    if value < 1000.0 {
        format!("{value:.0} us")
    } else if value < 1e6 {
        format!("{:.2} ms", value / 1000.0)
    } else {
        format!("{:.2} s", value / 1e6)
    }
}

/// A number with commas between thousands.
#[must_use]
pub fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut out = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{out}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, decimals, expected) in [
            (0.0, 0, "0"),
            (999.0, 0, "999"),
            (1000.0, 0, "1,000"),
            (1_234_567.891, 1, "1,234,567.9"),
            (-12_345.0, 0, "-12,345"),
        ] {
            assert_eq!(grouped(value, decimals), expected);
        }
        for (value, expected) in [(850.4, "850 us"), (1500.0, "1.50 ms"), (2_500_000.0, "2.50 s")] {
            assert_eq!(microseconds(value), expected);
        }
    }
}
