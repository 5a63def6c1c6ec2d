//! The gaps of `mainstay-bench failover` as text for the terminal and as one self-contained page.

use super::measure::{Kill, Outcome};
use crate::compare::chart::escape;
use crate::compare::comparison::{PeerFacts, Unit};
use crate::compare::facts::Facts;
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
    /// Members of each cluster.
    pub members: usize,
    /// How often a write was tried.
    pub every_ms: f64,
    /// One for each peer.
    pub outcomes: Vec<Outcome>,
}

/// A line of the table.
type Row = (&'static str, fn(&Outcome) -> String);

const ROWS: [Row; 8] = [
    ("Without an answered write, p50", |outcome| ms(at(outcome, |kill| kill.gap_ms, 50.0))),
    ("… p99", |outcome| ms(at(outcome, |kill| kill.gap_ms, 99.0))),
    ("… shortest", |outcome| ms(at(outcome, |kill| kill.gap_ms, 0.0))),
    ("… longest", |outcome| ms(at(outcome, |kill| kill.gap_ms, 100.0))),
    ("Kill to first answer, p50", |outcome| ms(at(outcome, |kill| kill.first_answer_ms, 50.0))),
    ("Failed writes per kill, p50", |outcome| {
        grouped(at(outcome, |kill| kill.failed as f64, 50.0), 0)
    }),
    ("Restart of the killed one, p50", |outcome| ms(at(outcome, |kill| kill.back_ms, 50.0))),
    ("A write when nothing is wrong, p50", |outcome| ms(outcome.undisturbed_ms)),
];

fn ms(value: f64) -> String {
    Unit::Milliseconds.format(value)
}

/// The value that this percentage of the kills did not exceed.
fn at(outcome: &Outcome, read: fn(&Kill) -> f64, percentile: f64) -> f64 {
    let mut values: Vec<f64> = outcome.kills.iter().map(read).collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * percentile / 100.0).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn title(report: &Report) -> String {
    let kills = report.outcomes.first().map_or(0, |outcome| outcome.kills.len());
    format!("{kills} kills of the leader of {}", report.members)
}

/// The table for a terminal.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    sheet::line(&mut out, &title(report), report.peers.iter().map(|peer| peer.name.clone()));
    for (title, read) in ROWS {
        sheet::line(&mut out, title, report.outcomes.iter().map(read));
    }
    for outcome in &report.outcomes {
        for (kind, count) in &outcome.failures {
            let _ = writeln!(out, "{}: {} x {kind}", outcome.peer, grouped(*count as f64, 0));
        }
    }
    out
}

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut out = sheet::head("When the leader dies", &report.facts, &report.peers);
    let _ = writeln!(
        out,
        "<h2>{}</h2>\n<p class=\"soft\">A write is tried every {} ms, in turn on all members that \
         can be reached, whatever became of those before. The leader is ended by SIGKILL; the gap is \
         the longest time between two answered writes, from the last one before the kill on.</p>",
        escape(&title(report)),
        report.every_ms
    );
    let _ = writeln!(
        out,
        "<div class=\"card\"><h3>Without an answered write</h3><p>each dot is a kill; left is \
         better</p>{}</div>",
        dots(&report.outcomes)
    );
    let rows =
        ROWS.iter().map(|(title, read)| (*title, report.outcomes.iter().map(read).collect()));
    sheet::table(&mut out, &report.peers, rows);
    sheet::foot(&mut out, &report.facts, &report.peers);
    out
}

const WIDTH: f64 = 880.0;
const LEFT: f64 = 12.0;
const RIGHT: f64 = 24.0;
const LANE: f64 = 64.0;
const BOTTOM: f64 = 30.0;
/// Dots of one lane are spread over this many rows, so that they do not hide each other.
const ROWS_OF_DOTS: usize = 7;

/// All gaps on one axis from zero, a lane for each server.
fn dots(outcomes: &[Outcome]) -> String {
    let gaps = outcomes.iter().flat_map(|outcome| &outcome.kills).map(|kill| kill.gap_ms);
    let step = tick_step(gaps.fold(1.0, f64::max));
    let end = outcomes
        .iter()
        .flat_map(|outcome| &outcome.kills)
        .map(|kill| (kill.gap_ms / step).ceil() * step)
        .fold(step, f64::max);
    let height = LANE * outcomes.len() as f64 + BOTTOM;
    let x = |value: f64| LEFT + value / end * (WIDTH - LEFT - RIGHT);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Gaps after kills\">"
    );
    for number in 0..=(end / step).round() as u32 {
        let value = step * f64::from(number);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{1}\"/>\
             <text class=\"tick middle\" x=\"{0:.1}\" y=\"{2}\">{3}</text>",
            x(value),
            height - BOTTOM,
            height - BOTTOM + 18.0,
            ms(value)
        );
    }
    for (number, outcome) in outcomes.iter().enumerate() {
        let top = LANE * number as f64;
        for (position, kill) in outcome.kills.iter().enumerate() {
            let row = (position % ROWS_OF_DOTS) as f64;
            let y = top + 12.0 + row * (LANE - 24.0) / (ROWS_OF_DOTS - 1) as f64;
            let _ = write!(
                out,
                "<circle class=\"dot c{number}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}: {}</title></circle>",
                x(kill.gap_ms),
                escape(&outcome.peer),
                ms(kill.gap_ms)
            );
        }
    }
    out.push_str("</svg>");
    out
}

/// A round distance between lines: at most ten of them up to `most`.
fn tick_step(most: f64) -> f64 {
    let steps = (0..9).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
    steps.into_iter().find(|step| most / step <= 10.0).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Report {
        let kill = |number: u32| Kill {
            gap_ms: 1000.0 + f64::from(number),
            first_answer_ms: 990.0,
            failed: 3,
            back_ms: 40.0,
        };
        let peer = |name: &str| PeerFacts {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            command: name.to_owned(),
        };
        let outcome = |name: &str| Outcome {
            peer: name.to_owned(),
            kills: (1..=30).map(kill).collect(),
            undisturbed_ms: 1.5,
            failures: [("no answer".to_owned(), 90)].into(),
        };
        Report {
            facts: Facts::default(),
            peers: vec![peer("old"), peer("new <1>")],
            members: 3,
            every_ms: 5.0,
            outcomes: vec![outcome("old"), outcome("new <1>")],
        }
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let report = example();
        for (percentile, expected) in
            [(0.0, 1001.0), (50.0, 1015.0), (99.0, 1030.0), (100.0, 1030.0)]
        {
            assert_eq!(at(&report.outcomes[0], |kill| kill.gap_ms, percentile), expected);
        }
    }

    #[test]
    fn the_text_tells_gaps_and_failures() {
        let text = text(&example());
        for part in ["30 kills of the leader of 3", "1.01 s", "1.5 ms", "old: 90 x no answer"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_page_is_whole_and_escaped() {
        let page = page(&example());
        assert!(page.ends_with("</main></body></html>\n"));
        assert!(page.contains("new &lt;1&gt;") && !page.contains("new <1>"));
        assert_eq!(page.matches("<circle").count(), 60);
        assert!(!page.contains("http") && !page.contains("NaN"));
    }

    #[test]
    fn ticks_are_few_and_round() {
        for (most, expected) in [(9.0, 1.0), (90.0, 10.0), (1100.0, 200.0), (4000.0, 500.0)] {
            assert_eq!(tick_step(most), expected, "{most}");
        }
    }
}
