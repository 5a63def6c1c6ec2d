//! Runs many simulated histories, of one store and of whole clusters, and says what was done and
//! found.
//!
//! `--seeds N` fresh ones of each (or from `--first SEED` on), `--seed N` a single one; `--members N`
//! clusters alone, of so many members at first (`any`: as many as the seed draws), `--store` one store
//! alone; `--requests N` in each history of one store; `--bug NAME` with a planted mistake,
//! `--no-bugs` without looking for those; `--trace` tells the story of a cluster.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_tests::simulation::cluster::{self, Scenario};
use mainstay_tests::simulation::{self, Bug, Report};

/// Within so many seeds each planted mistake has to be caught.
const BUG_SEEDS: u64 = 400;

#[derive(Clone)]
struct Options {
    first: u64,
    seeds: u64,
    requests: usize,
    store: bool,
    clusters: bool,
    members: Option<usize>,
    bug: Option<String>,
    bugs: bool,
    trace: bool,
}

fn options() -> Result<Options, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let mut options = Options {
        first: now.as_secs() * 1_000_000,
        seeds: 100,
        requests: 300,
        store: true,
        clusters: true,
        members: None,
        bug: None,
        bugs: true,
        trace: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        match &name[..] {
            "--no-bugs" => options.bugs = false,
            "--store" => options.clusters = false,
            "--trace" => options.trace = true,
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                set(&mut options, &name, value)?;
            }
        }
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: String) -> Result<(), String> {
    let number = || value.parse::<u64>().map_err(|_| format!("{name} {value}: not a number"));
    match name {
        "--seeds" => options.seeds = number()?,
        "--first" => options.first = number()?,
        "--seed" => (options.first, options.seeds, options.bugs) = (number()?, 1, false),
        "--requests" => {
            options.requests = number()? as usize;
            options.clusters = false;
        }
        "--members" => {
            options.store = false;
            if value != "any" {
                options.members = Some(number()? as usize);
            }
        }
        "--bug" => options.bug = Some(value),
        _ => return Err(format!("{name} is not known")),
    }
    Ok(())
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything was as it should be.
fn run(options: &Options) -> Result<bool, String> {
    let mut well = true;
    if options.store {
        well &= run_store(options)?;
    }
    if options.clusters {
        well &= run_clusters(options)?;
    }
    Ok(well)
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("{what:<48} {value:>14}");
}

/// What follows a simulation: how long it took, what that is worth, what was planted.
fn summary(options: &Options, failed: usize, simulated_ms: u64, took: Duration) {
    row("seeds", options.seeds);
    row("first seed", options.first);
    row("failed", failed);
    let hours = simulated_ms as f64 / 3_600_000.0;
    row("simulated hours", format!("{hours:.1}"));
    row("  for each hour on one core", format!("{:.1}", hours / (took.as_secs_f64() / 3600.0)));
}

fn run_store(options: &Options) -> Result<bool, String> {
    let named = |name: &String| Bug::from_name(name).ok_or_else(|| no_bug(name, &Bug::ALL));
    let bug = options.bug.as_ref().map(named).transpose()?;
    println!("== one store");
    let (started, mut total, mut failed) = (Instant::now(), Report::default(), 0);
    for seed in options.first..options.first + options.seeds {
        match simulation::run(seed, options.requests, bug) {
            Ok(report) => total += report,
            Err(failure) => {
                println!("seed {seed} failed: {}\n  {}", failure.reason, failure.command());
                failed += 1;
            }
        }
    }
    summary(options, failed, total.simulated_ms, started.elapsed());
    total.rows().into_iter().for_each(|(what, count)| row(what, count));
    let mut missed = 0;
    if options.bugs && bug.is_none() {
        for bug in Bug::ALL {
            let caught = simulation::catch(bug, options.first, BUG_SEEDS, options.requests);
            missed += planted(&bug.name(), caught.map(|(seeds, _)| seeds));
        }
    }
    row("took, seconds", started.elapsed().as_secs());
    Ok(failed + missed == 0)
}

fn run_clusters(options: &Options) -> Result<bool, String> {
    use cluster::{Bug, Faults, Report};
    let named = |name: &String| Bug::from_name(name).ok_or_else(|| no_bug(name, &Bug::ALL));
    let bug = options.bug.as_ref().map(named).transpose()?;
    println!("== clusters");
    let started = Instant::now();
    let (mut total, mut faults, mut failed) = (Report::default(), Faults::default(), 0);
    for seed in options.first..options.first + options.seeds {
        let scenario = Scenario { seed, members: options.members, bug, trace: options.trace };
        match cluster::run(scenario) {
            Ok((report, injected)) => {
                total += report;
                faults += injected;
            }
            Err(failure) => {
                println!("seed {seed} failed: {}\n  {}", failure.reason, failure.command());
                failed += 1;
            }
        }
    }
    summary(options, failed, total.simulated_ms as u64, started.elapsed());
    total.rows().into_iter().chain(faults.rows()).for_each(|(what, count)| row(what, count));
    let mut missed = 0;
    if options.bugs && bug.is_none() {
        for bug in Bug::ALL {
            let caught = cluster::catch(bug, options.first, BUG_SEEDS);
            missed += planted(&bug.name(), caught.map(|(seeds, _)| seeds));
        }
    }
    row("took, seconds", started.elapsed().as_secs());
    Ok(failed + missed == 0)
}

/// Gives how many were missed: this one or none.
fn planted(name: &str, caught: Option<u64>) -> usize {
    let within = caught.map_or("NOT CAUGHT".to_owned(), |seeds| format!("{seeds} seeds"));
    row(&format!("planted: {name}"), within);
    usize::from(caught.is_none())
}

fn no_bug<T: std::fmt::Debug>(name: &str, all: &[T]) -> String {
    format!("no bug {name}: there are {all:?}")
}
