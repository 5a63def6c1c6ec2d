//! The figures of `mainstay-bench data` as text for the terminal and as one self-contained page.

use super::measure::{Filled, Point, Rewritten};
use crate::compare::chart::escape;
use crate::compare::comparison::{PeerFacts, Unit};
use crate::compare::facts::Facts;
use crate::compare::sheet::{self, line};
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
    /// Keys of the filled servers.
    pub keys: u64,
    /// Bytes of each value.
    pub value_size_bytes: usize,
    /// Keys that were rewritten, and by how many clients.
    pub rewrite_keys: u64,
    /// See `rewrite_keys`.
    pub rewrite_clients: usize,
    /// One for each peer.
    pub filled: Vec<Filled>,
    /// One for each peer; empty when nothing was rewritten.
    pub rewritten: Vec<Rewritten>,
}

/// A line of the table.
type Row<T> = (&'static str, fn(&T) -> String);

const ROWS: [Row<Filled>; 13] = [
    ("Bytes of keys and values", |filled| bytes(filled.live_bytes)),
    ("Time to write them", |filled| format!("{:.1} s", filled.fill_seconds)),
    ("CPU per key written", |filled| Unit::Microseconds.format(filled.cpu_us_per_key)),
    ("Sent to storage per key", |filled| bytes(filled.written_bytes_per_key)),
    ("Memory, largest while writing", |filled| bytes(filled.peak_bytes)),
    ("Memory, settled", |filled| bytes(filled.settled.resident_bytes)),
    ("… as a multiple of the bytes", |filled| {
        format!("{:.2}", filled.settled.resident_bytes / filled.live_bytes.max(1.0))
    }),
    ("Disk, settled", |filled| bytes(filled.settled.disk_bytes)),
    ("Restart after a stop", |filled| Unit::Milliseconds.format(filled.after_stop.ready_ms)),
    ("… processor time of it", |filled| Unit::Milliseconds.format(filled.after_stop.cpu_ms)),
    ("… memory after it", |filled| bytes(filled.after_stop.moment.resident_bytes)),
    ("Restart after a kill", |filled| Unit::Milliseconds.format(filled.after_kill.ready_ms)),
    ("… memory after it", |filled| bytes(filled.after_kill.moment.resident_bytes)),
];

const REWRITTEN_ROWS: [Row<Rewritten>; 6] = [
    ("Writes", |rewritten| grouped(rewritten.operations, 0)),
    ("Writes per second, at the end", |rewritten| {
        Unit::PerSecond.format(rewritten.points.last().map_or(0.0, |point| point.rate))
    }),
    ("Memory after a tenth of the time", |rewritten| bytes(resident(rewritten, 0.1))),
    ("Memory after half of it", |rewritten| bytes(resident(rewritten, 0.5))),
    ("Memory at the end", |rewritten| bytes(resident(rewritten, 1.0))),
    ("Disk at the end", |rewritten| bytes(rewritten.disk_bytes)),
];

fn bytes(value: f64) -> String {
    Unit::Bytes.format(value)
}

/// Memory when this part of the time (0 to 1) had passed.
fn resident(rewritten: &Rewritten, part: f64) -> f64 {
    let Some(last) = rewritten.points.last() else { return 0.0 };
    let until = last.seconds * part;
    let point = rewritten.points.iter().find(|point| point.seconds >= until).unwrap_or(last);
    point.resident_bytes
}

/// The table for a terminal.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let names = report.peers.iter().map(|peer| peer.name.clone());
    line(&mut out, &filled_title(report), names);
    for (title, read) in ROWS {
        line(&mut out, title, report.filled.iter().map(read));
    }
    if !report.rewritten.is_empty() {
        out.push('\n');
        line(&mut out, &rewritten_title(report), std::iter::empty());
        for (title, read) in REWRITTEN_ROWS {
            line(&mut out, title, report.rewritten.iter().map(read));
        }
    }
    out
}

fn filled_title(report: &Report) -> String {
    let keys = grouped(report.keys as f64, 0);
    format!("{keys} keys of {} bytes", report.value_size_bytes)
}

fn rewritten_title(report: &Report) -> String {
    let keys = grouped(report.rewrite_keys as f64, 0);
    format!("{keys} keys, rewritten by {} clients", report.rewrite_clients)
}

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = "Servers with data, side by side";
    let mut out = sheet::head(title, &report.facts, &report.peers);
    let _ = writeln!(out, "<h2>{}</h2>", escape(&filled_title(report)));
    sheet::table(
        &mut out,
        &report.peers,
        ROWS.iter().map(|(title, read)| (*title, report.filled.iter().map(read).collect())),
    );
    if !report.rewritten.is_empty() {
        let _ = writeln!(out, "<h2>{}</h2>", escape(&rewritten_title(report)));
        let _ = writeln!(
            out,
            "<div class=\"card\"><h3>Memory while they are rewritten</h3>\
             <p>resident, over time; level is better</p>{}</div>",
            memory_chart(&report.rewritten)
        );
        sheet::table(
            &mut out,
            &report.peers,
            REWRITTEN_ROWS
                .iter()
                .map(|(title, read)| (*title, report.rewritten.iter().map(read).collect())),
        );
    }
    sheet::foot(&mut out, &report.facts, &report.peers);
    out
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Memory over time, one line for each peer, from zero: nobody's growth looks larger than it is.
fn memory_chart(rewritten: &[Rewritten]) -> String {
    let points = || rewritten.iter().flat_map(|of| &of.points);
    let end = points().map(|point| point.seconds).fold(1.0, f64::max);
    let most = points().map(|point| point.resident_bytes).fold(1.0, f64::max);
    let step = tick_step(most);
    let top = (most / step).ceil() * step;
    let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - RIGHT);
    let y = |bytes: f64| TOP + (1.0 - bytes / top) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Memory over time\">"
    );
    for number in 0..=(top / step).round() as u32 {
        let value = step * f64::from(number);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"tick end\" x=\"{2}\" y=\"{3:.1}\">{4}</text>",
            WIDTH - RIGHT,
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            bytes(value)
        );
    }
    for part in 0..=4 {
        let seconds = end * f64::from(part) / 4.0;
        let _ = write!(
            out,
            "<text class=\"tick middle\" x=\"{:.1}\" y=\"{}\">{:.0} s</text>",
            x(seconds),
            HEIGHT - BOTTOM + 18.0,
            seconds
        );
    }
    for (number, of) in rewritten.iter().enumerate() {
        let place =
            |point: &Point| format!("{:.1},{:.1}", x(point.seconds), y(point.resident_bytes));
        let places: Vec<String> = of.points.iter().map(place).collect();
        let _ = write!(
            out,
            "<polyline class=\"line c{number}\" points=\"{}\"><title>{}</title></polyline>",
            places.join(" "),
            escape(&of.peer)
        );
    }
    out.push_str("</svg>");
    out
}

/// A round distance between lines: three to eight of them up to `most` bytes.
fn tick_step(most: f64) -> f64 {
    let mut step = 1024.0 * 1024.0;
    while most / step > 8.0 {
        step *= 2.0;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Moment, Restart};
    use super::*;

    fn example() -> Report {
        let moment = Moment { resident_bytes: 700e6, disk_bytes: 600e6 };
        let restart = Restart { ready_ms: 800.0, cpu_ms: 900.0, moment };
        let point = |second: u32| Point {
            seconds: f64::from(second),
            resident_bytes: 50e6 + f64::from(second) * 1e6,
            rate: 1000.0,
        };
        Report {
            facts: Facts { processor: "A & B".to_owned(), ..Facts::default() },
            peers: vec![PeerFacts {
                name: "new <1>".to_owned(),
                version: "1.0".to_owned(),
                command: "new".to_owned(),
            }],
            keys: 1_000_000,
            value_size_bytes: 512,
            rewrite_keys: 10_000,
            rewrite_clients: 64,
            filled: vec![Filled {
                peer: "new <1>".to_owned(),
                live_bytes: 500e6,
                fill_seconds: 10.0,
                cpu_us_per_key: 12.0,
                written_bytes_per_key: 1000.0,
                peak_bytes: 800e6,
                settled: moment,
                after_stop: restart,
                after_kill: restart,
            }],
            rewritten: vec![Rewritten {
                peer: "new <1>".to_owned(),
                operations: 10_000.0,
                disk_bytes: 1e9,
                points: (1..=10).map(point).collect(),
            }],
        }
    }

    #[test]
    fn the_table_tells_every_figure() {
        let text = text(&example());
        for part in ["1,000,000 keys of 512 bytes", "new <1>", "1.40", "800 ms", "48.6 MiB"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert_eq!(text.lines().count(), 1 + ROWS.len() + 2 + REWRITTEN_ROWS.len());
    }

    #[test]
    fn the_page_is_whole_and_escaped() {
        let page = page(&example());
        assert!(page.ends_with("</main></body></html>\n"));
        assert!(page.contains("new &lt;1&gt;") && !page.contains("new <1>"));
        assert!(page.contains("A &amp; B") && page.contains("<polyline"));
        assert!(!page.contains("http"), "it needs nothing from elsewhere");
    }

    #[test]
    fn lines_are_few_and_round() {
        for (most, expected) in [(1.0, 1.0), (8.0, 1.0), (9.0, 2.0), (1000.0, 128.0)] {
            assert_eq!(tick_step(most * 1024.0 * 1024.0), expected * 1024.0 * 1024.0);
        }
    }

    #[test]
    fn memory_is_read_at_a_part_of_the_time() {
        let example = example();
        assert_eq!(resident(&example.rewritten[0], 0.1), 51e6);
        assert_eq!(resident(&example.rewritten[0], 0.5), 55e6);
        assert_eq!(resident(&example.rewritten[0], 1.0), 60e6);
    }
}
