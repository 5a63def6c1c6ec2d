//! The figures of `mainstay-bench catchup` as text for the terminal and as one self-contained page.

use super::measure::{Felt, Outcome, Point};
use crate::compare::chart::escape;
use crate::compare::comparison::{PeerFacts, Unit};
use crate::compare::facts::Facts;
use crate::compare::scale::LogScale;
use crate::compare::sheet;
use crate::result::summary::grouped;
use serde::Serialize;
use std::fmt::Write;

/// Everything that was asked and measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub facts: Facts,
    /// Who took part.
    pub peers: Vec<PeerFacts>,
    /// Members before one was added.
    pub members: usize,
    /// Keys that the clusters were filled with.
    pub keys: u64,
    /// Bytes of each value.
    pub value_size_bytes: usize,
    /// Writes per second that were offered.
    pub rate: f64,
    /// One for each peer.
    pub outcomes: Vec<Outcome>,
}

/// A line of the table.
type Row = (&'static str, fn(&Outcome) -> String);

const ROWS: [Row; 12] = [
    ("Bytes of keys and values", |outcome| Unit::Bytes.format(outcome.live_bytes)),
    ("Caught up after", |outcome| format!("{:.1} s", outcome.caught_up_seconds)),
    ("… bytes per second", |outcome| {
        Unit::Bytes.format(outcome.live_bytes / outcome.caught_up_seconds.max(1e-9))
    }),
    ("Sent to storage by the new member", |outcome| Unit::Bytes.format(outcome.written_bytes)),
    ("Latency p50 before", |outcome| p50(&outcome.felt[0])),
    ("… meanwhile", |outcome| p50(&outcome.felt[1])),
    ("Latency p99 before", |outcome| p99(&outcome.felt[0])),
    ("… meanwhile", |outcome| p99(&outcome.felt[1])),
    ("… after", |outcome| p99(&outcome.felt[2])),
    ("Latency max before", |outcome| max(&outcome.felt[0])),
    ("… meanwhile", |outcome| max(&outcome.felt[1])),
    ("Failed or unsent writes", |outcome| grouped(outcome.failed as f64, 0)),
];

fn p50(felt: &Felt) -> String {
    Unit::Microseconds.format(felt.latency.p50_us)
}

fn p99(felt: &Felt) -> String {
    Unit::Microseconds.format(felt.latency.p99_us)
}

fn max(felt: &Felt) -> String {
    Unit::Microseconds.format(felt.latency.max_us)
}

fn title(report: &Report) -> String {
    format!(
        "One more for {} with {} keys of {} bytes",
        report.members,
        grouped(report.keys as f64, 0),
        report.value_size_bytes
    )
}

/// The table for a terminal.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = format!("{}\n", title(report));
    sheet::line(&mut out, "", report.peers.iter().map(|peer| peer.name.clone()));
    for (title, read) in ROWS {
        sheet::line(&mut out, title, report.outcomes.iter().map(read));
    }
    out
}

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut out = sheet::head("When a member joins", &report.facts, &report.peers);
    let _ = writeln!(
        out,
        "<h2>{}</h2>\n<p class=\"soft\">{} writes a second are offered all the time, in turn on the \
         first members; latency counts from the time at which each should have been sent. The new \
         member has caught up when it has what the leader had a moment before.</p>",
        escape(&title(report)),
        grouped(report.rate, 0)
    );
    let _ = writeln!(
        out,
        "<div class=\"card\"><h3>Latency p99, second by second</h3><p>lower is better; the bar \
         below a curve is the time in which the member catches up</p>{}</div>",
        chart(&report.outcomes)
    );
    let rows =
        ROWS.iter().map(|(title, read)| (*title, report.outcomes.iter().map(read).collect()));
    sheet::table(&mut out, &report.peers, rows);
    sheet::foot(&mut out, &report.facts, &report.peers);
    out
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 64.0;

/// p99 over time, one line for each server, and when each caught up.
fn chart(outcomes: &[Outcome]) -> String {
    let points = || outcomes.iter().flat_map(|outcome| &outcome.points);
    let measured = || points().map(|point| point.p99_ms).filter(|ms| *ms > 0.0);
    let end = points().map(|point| point.seconds).fold(1.0, f64::max);
    let scale =
        LogScale::new(measured().fold(f64::INFINITY, f64::min), measured().fold(0.0, f64::max));
    let x = |seconds: f64| LEFT + (seconds / end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| TOP + (1.0 - scale.position(ms)) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Latency over time\">"
    );
    for tick in &scale.ticks {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"tick end\" x=\"{2}\" y=\"{3:.1}\">{4} ms</text>",
            WIDTH - RIGHT,
            y(*tick),
            LEFT - 6.0,
            y(*tick) + 4.0,
            (tick * 1000.0).round() / 1000.0
        );
    }
    for part in 0..=4 {
        let seconds = end * f64::from(part) / 4.0;
        let _ = write!(
            out,
            "<text class=\"tick middle\" x=\"{:.1}\" y=\"{}\">{:.0} s</text>",
            x(seconds),
            HEIGHT - 6.0,
            seconds
        );
    }
    for (number, outcome) in outcomes.iter().enumerate() {
        let place = |point: &Point| format!("{:.1},{:.1}", x(point.seconds), y(point.p99_ms));
        let places: Vec<String> = outcome.points.iter().map(place).collect();
        let [added, caught_up] = outcome.marks;
        let _ = write!(
            out,
            "<polyline class=\"line c{number}\" points=\"{}\"><title>{}</title></polyline>\
             <rect class=\"bar c{number}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"6\"/>",
            places.join(" "),
            escape(&outcome.peer),
            x(added),
            HEIGHT - BOTTOM + 8.0 + 9.0 * number as f64,
            (x(caught_up) - x(added)).max(1.0)
        );
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::figures::Latencies;

    fn example() -> Report {
        let felt = |p99_us| Felt {
            operations: 1000,
            latency: Latencies {
                p50_us: 400.0,
                p99_us,
                max_us: p99_us * 2.0,
                ..Latencies::default()
            },
        };
        let point = |second: u32| Point { seconds: f64::from(second), p99_ms: f64::from(second) };
        Report {
            facts: Facts::default(),
            peers: vec![PeerFacts {
                name: "new <1>".to_owned(),
                version: "1.0".to_owned(),
                command: "new".to_owned(),
            }],
            members: 3,
            keys: 1_000_000,
            value_size_bytes: 1024,
            rate: 1000.0,
            outcomes: vec![Outcome {
                peer: "new <1>".to_owned(),
                live_bytes: 1024.0 * 1024.0 * 1024.0,
                caught_up_seconds: 8.0,
                written_bytes: 2e9,
                felt: [felt(1500.0), felt(30_000.0), felt(1600.0)],
                failed: 0,
                points: (1..=30).map(point).collect(),
                marks: [10.0, 18.0],
            }],
        }
    }

    #[test]
    fn the_text_tells_every_figure() {
        let text = text(&example());
        for part in
            ["One more for 3 with 1,000,000 keys", "8.0 s", "128.0 MiB", "1.50 ms", "30.00 ms"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_page_is_whole_and_escaped() {
        let page = page(&example());
        assert!(page.ends_with("</main></body></html>\n"));
        assert!(page.contains("new &lt;1&gt;") && !page.contains("new <1>"));
        assert!(page.contains("<polyline") && page.contains("class=\"bar c0\""));
        assert!(!page.contains("http") && !page.contains("NaN") && !page.contains("inf"));
    }
}
