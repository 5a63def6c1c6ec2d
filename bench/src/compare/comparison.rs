//! A comparison as data: the runs, the metrics that are read from them, and their spreads.

use super::facts::Facts;
use super::statistics::Spread;
use crate::result::figures::Figures;
use crate::result::summary::{grouped, microseconds};
use serde::Serialize;

/// One measurement of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The peer's name.
    pub peer: String,
    /// Workload name.
    pub workload: String,
    /// Clients.
    pub clients: usize,
    /// Which repetition, from 0.
    pub round: usize,
    /// From the start of the process to its first answer.
    pub start_ms: f64,
    /// Resident memory before the load.
    pub idle_resident_bytes: f64,
    /// Processor time before the load, in percent of one core.
    pub idle_cpu_percent: f64,
    /// Resident memory at the end of the load.
    pub resident_bytes: f64,
    /// Largest resident memory under load.
    pub resident_peak_bytes: f64,
    /// The server's processor time per operation.
    pub cpu_us_per_operation: f64,
    /// How many cores the server kept busy.
    pub cpu_cores: f64,
    /// How many cores processes other than server and loader kept busy.
    pub other_cores: f64,
    /// Bytes sent to storage per operation.
    pub written_bytes_per_operation: f64,
    /// What the clients saw.
    pub figures: Figures,
}

/// A server that took part.
#[derive(Clone, Debug, Serialize)]
pub struct PeerFacts {
    /// Its name.
    pub name: String,
    /// What it says of its version.
    pub version: String,
    /// How it was started (with placeholders for directory and ports).
    pub command: String,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The machine.
    pub facts: Facts,
    /// The servers; ratios are to the first.
    pub peers: Vec<PeerFacts>,
    /// How many members each server has; what they spend is added up.
    pub members: usize,
    /// When it began, Unix time.
    pub began_unix_seconds: u64,
    /// Repetitions of everything.
    pub rounds: usize,
    /// All measurements.
    pub runs: Vec<Run>,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number per second.
    PerSecond,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// Percent.
    Percent,
    /// A plain small number.
    Plain,
}

impl Unit {
    /// The value with its unit.
    #[must_use]
    pub fn format(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", grouped(value, 0)),
            Self::Microseconds if value < 100.0 => format!("{value:.1} µs"),
            Self::Microseconds => microseconds(value).replace("us", "µs"),
            Self::Milliseconds if value < 100.0 => format!("{value:.1} ms"),
            Self::Milliseconds if value < 1000.0 => format!("{value:.0} ms"),
            Self::Milliseconds => microseconds(value * 1000.0),
            Self::Bytes => bytes(value),
            Self::Percent => format!("{value:.1} %"),
            Self::Plain => format!("{value:.2}"),
        }
    }
}

fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    if value < 10.0 * KIB {
        format!("{} B", grouped(value, 0))
    } else if value < KIB * KIB {
        format!("{:.1} KiB", value / KIB)
    } else if value < KIB * KIB * KIB {
        format!("{:.1} MiB", value / KIB / KIB)
    } else {
        format!("{:.2} GiB", value / KIB / KIB / KIB)
    }
}

/// Something read from each run.
pub struct Metric {
    /// What people read.
    pub title: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// More is better (else less is).
    pub more_is_better: bool,
    /// Reads it.
    pub read: fn(&Run) -> f64,
}

const fn metric(
    title: &'static str,
    unit: Unit,
    more_is_better: bool,
    read: fn(&Run) -> f64,
) -> Metric {
    Metric { title, unit, more_is_better, read }
}

/// Operations per second.
pub static THROUGHPUT: Metric =
    metric("Throughput", Unit::PerSecond, true, |run| run.figures.operations_per_second);
/// Median latency.
pub static P50: Metric =
    metric("Latency p50", Unit::Microseconds, false, |run| run.figures.latency.p50_us);
/// 99th percentile.
pub static P99: Metric =
    metric("Latency p99", Unit::Microseconds, false, |run| run.figures.latency.p99_us);
/// 99.9th percentile.
pub static P999: Metric =
    metric("Latency p99.9", Unit::Microseconds, false, |run| run.figures.latency.p999_us);
/// The slowest operation.
pub static SLOWEST: Metric =
    metric("Latency max", Unit::Microseconds, false, |run| run.figures.latency.max_us);
/// The server's processor time per operation.
pub static CPU: Metric =
    metric("CPU per operation", Unit::Microseconds, false, |run| run.cpu_us_per_operation);
/// Cores that the server kept busy.
pub static CORES: Metric = metric("Cores busy", Unit::Plain, false, |run| run.cpu_cores);
/// Largest memory under load.
pub static MEMORY_PEAK: Metric =
    metric("Memory peak", Unit::Bytes, false, |run| run.resident_peak_bytes);
/// Disk writes per operation.
pub static DISK: Metric =
    metric("Disk written per operation", Unit::Bytes, false, |run| run.written_bytes_per_operation);
/// The loader's own processor time per operation.
pub static LOADER: Metric =
    metric("Loader CPU", Unit::Microseconds, false, |run| run.figures.loader_cpu_us_per_operation);
/// Cores that everything else on the machine kept busy.
pub static OTHERS: Metric = metric("Others’ cores", Unit::Plain, false, |run| run.other_cores);
/// Start of the process to its first answer.
pub static START: Metric =
    metric("Start to first answer", Unit::Milliseconds, false, |run| run.start_ms);
/// Memory before the load.
pub static IDLE_MEMORY: Metric =
    metric("Memory when idle", Unit::Bytes, false, |run| run.idle_resident_bytes);
/// Processor time before the load.
pub static IDLE_CPU: Metric =
    metric("CPU when idle", Unit::Percent, false, |run| run.idle_cpu_percent);

/// The table of what clients saw.
pub static SEEN: [&Metric; 5] = [&THROUGHPUT, &P50, &P99, &P999, &SLOWEST];
/// The table of what was spent.
pub static SPENT: [&Metric; 6] = [&CPU, &CORES, &MEMORY_PEAK, &DISK, &LOADER, &OTHERS];
/// What the short version shows.
pub static SHORT: [&Metric; 6] = [&THROUGHPUT, &P50, &P99, &CPU, &MEMORY_PEAK, &DISK];
/// What is drawn as bars for each workload.
pub static BARS: [&Metric; 4] = [&THROUGHPUT, &CPU, &MEMORY_PEAK, &DISK];
/// What does not depend on a workload.
pub static IDLE: [&Metric; 3] = [&START, &IDLE_MEMORY, &IDLE_CPU];

/// A point of a latency curve over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// 0 to 100.
    pub percentile: f64,
    /// Microseconds.
    pub latency_us: Spread,
}

impl Comparison {
    /// The workloads in the order in which they were run.
    #[must_use]
    pub fn workloads(&self) -> Vec<&str> {
        distinct(self.runs.iter().map(|run| run.workload.as_str()))
    }

    /// The client counts of a workload.
    #[must_use]
    pub fn clients(&self, workload: &str) -> Vec<usize> {
        distinct(self.runs.iter().filter(|run| run.workload == workload).map(|run| run.clients))
    }

    /// All rounds of one server, one workload and one client count.
    pub fn cell<'a>(
        &'a self,
        peer: &'a str,
        workload: &'a str,
        clients: usize,
    ) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| {
            run.peer == peer && run.workload == workload && run.clients == clients
        })
    }

    /// A metric over the rounds of a cell.
    #[must_use]
    pub fn spread(
        &self,
        metric: &Metric,
        peer: &str,
        workload: &str,
        clients: usize,
    ) -> Option<Spread> {
        Spread::of(self.cell(peer, workload, clients).map(metric.read))
    }

    /// A metric over all runs of a server.
    #[must_use]
    pub fn spread_of_all(&self, metric: &Metric, peer: &str) -> Option<Spread> {
        Spread::of(self.runs.iter().filter(|run| run.peer == peer).map(metric.read))
    }

    /// The latency curve of a cell: at each percentile that all rounds have, their spread.
    #[must_use]
    pub fn curve(&self, peer: &str, workload: &str, clients: usize) -> Vec<CurvePoint> {
        let curves: Vec<_> =
            self.cell(peer, workload, clients).map(|run| &run.figures.curve).collect();
        let Some(first) = curves.first() else { return Vec::new() };
        let at = |percentile: f64| {
            let values: Option<Vec<f64>> = curves
                .iter()
                .map(|curve| {
                    curve.iter().find(|point| point.percentile == percentile).map(|p| p.latency_us)
                })
                .collect();
            Spread::of(values?).map(|latency_us| CurvePoint { percentile, latency_us })
        };
        first.iter().filter_map(|point| at(point.percentile)).collect()
    }

    /// Failed requests of all runs.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.runs.iter().map(|run| run.figures.error_count()).sum()
    }
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::load::recorder::Measures;
    use crate::load::run::Finished;
    use clap::Parser;
    use std::time::{Duration, SystemTime};

    /// A run with `operations` in a second, latencies growing evenly up to `slowest_us`.
    fn run(peer: &str, clients: usize, round: usize, operations: u64, slowest_us: u64) -> Run {
        let cli = Cli::try_parse_from(["bench", "etcd", "--endpoints", "a:1"]).unwrap();
        let Command::Etcd(options) = cli.command else { panic!("the etcd command") };
        let mut measures = Measures::default();
        for number in 1..=operations {
            measures.success(Duration::from_micros(slowest_us * number / operations));
        }
        let finished = Finished {
            began_at: SystemTime::UNIX_EPOCH,
            window: Duration::from_secs(1),
            window_operations: operations,
            measures,
            unsent: 0,
            interrupted: false,
        };
        Run {
            peer: peer.to_owned(),
            workload: "put".to_owned(),
            clients,
            round,
            start_ms: 30.0 + round as f64,
            idle_resident_bytes: 20e6,
            idle_cpu_percent: 1.0,
            resident_bytes: 60e6,
            resident_peak_bytes: 80e6,
            cpu_us_per_operation: 50.0,
            cpu_cores: 1.5,
            other_cores: 0.05,
            written_bytes_per_operation: 1500.0,
            figures: Figures::of(&options.plan().unwrap(), &finished, Duration::from_millis(10)),
        }
    }

    /// Two peers, two client counts, three rounds; "new" does twice as much.
    pub fn example() -> Comparison {
        let mut runs = Vec::new();
        for round in 0..3 {
            for clients in [1, 64] {
                for (peer, operations) in [("old", 1000), ("new <&>", 2000)] {
                    runs.push(run(peer, clients, round, operations + round as u64 * 10, 10_000));
                }
            }
        }
        let peer = |name: &str| PeerFacts {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            command: name.to_owned(),
        };
        Comparison {
            facts: Facts { processor: "A & B".to_owned(), ..Facts::default() },
            peers: vec![peer("old"), peer("new <&>")],
            members: 1,
            began_unix_seconds: 1_700_000_000,
            rounds: 3,
            runs,
        }
    }

    #[test]
    fn cells_and_their_spreads() {
        let example = example();
        assert_eq!(example.workloads(), ["put"]);
        assert_eq!(example.clients("put"), [1, 64]);
        assert_eq!(example.cell("old", "put", 64).count(), 3);
        let old = example.spread(&THROUGHPUT, "old", "put", 1).unwrap();
        assert_eq!(old, Spread { median: 1010.0, min: 1000.0, max: 1020.0 });
        assert_eq!(example.spread(&THROUGHPUT, "old", "range", 1), None);
        let start = example.spread_of_all(&START, "old").unwrap();
        assert_eq!(start, Spread { median: 31.0, min: 30.0, max: 32.0 });
    }

    #[test]
    fn the_curve_holds_percentiles_that_all_rounds_have() {
        let mut example = example();
        example.runs[0].figures.curve.retain(|point| point.percentile != 50.0);
        let curve = example.curve("old", "put", 1);
        assert!(curve.iter().all(|point| point.percentile != 50.0));
        assert_eq!(curve.last().map(|point| point.percentile), Some(100.0));
        assert_eq!(example.curve("nobody", "put", 1), []);
    }

    #[test]
    fn units() {
        for (unit, value, expected) in [
            (Unit::PerSecond, 12_345.6, "12,346/s"),
            (Unit::Microseconds, 12.34, "12.3 µs"),
            (Unit::Microseconds, 850.0, "850 µs"),
            (Unit::Microseconds, 8500.0, "8.50 ms"),
            (Unit::Milliseconds, 3.21, "3.2 ms"),
            (Unit::Milliseconds, 321.4, "321 ms"),
            (Unit::Milliseconds, 3210.0, "3.21 s"),
            (Unit::Bytes, 1500.0, "1,500 B"),
            (Unit::Bytes, 20.0 * 1024.0, "20.0 KiB"),
            (Unit::Bytes, 3.5 * 1024.0 * 1024.0, "3.5 MiB"),
            (Unit::Percent, 1.26, "1.3 %"),
        ] {
            assert_eq!(unit.format(value), expected);
        }
    }
}
