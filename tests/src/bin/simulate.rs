//! Runs many simulated histories of one store, and says what was done and found.
//!
//! `--seeds N` fresh ones (or from `--first SEED` on), `--seed N` a single one; `--requests N` in
//! each; `--bug NAME` with a planted mistake, `--no-bugs` without looking for those.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mainstay_tests::simulation::{self, Bug, Failure, Report};

/// Within so many seeds each planted mistake has to be caught.
const BUG_SEEDS: u64 = 400;

struct Options {
    first: u64,
    seeds: u64,
    requests: usize,
    bug: Option<Bug>,
    bugs: bool,
}

fn options() -> Result<Options, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let first = now.as_secs() * 1_000_000;
    let mut options = Options { first, seeds: 100, requests: 300, bug: None, bugs: true };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--no-bugs" {
            options.bugs = false;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} {value}: not a number"));
        match &name[..] {
            "--seeds" => options.seeds = number()?,
            "--first" => options.first = number()?,
            "--seed" => (options.first, options.seeds, options.bugs) = (number()?, 1, false),
            "--requests" => options.requests = number()? as usize,
            "--bug" => {
                let bug = Bug::from_name(&value).ok_or_else(|| {
                    let names: Vec<String> = Bug::ALL.iter().map(|bug| bug.name()).collect();
                    format!("no bug {value}: there are {}", names.join(", "))
                })?;
                options.bug = Some(bug);
            }
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let mut total = Report::default();
    let mut failures: Vec<Failure> = Vec::new();
    for seed in options.first..options.first + options.seeds {
        match simulation::run(seed, options.requests, options.bug) {
            Ok(report) => total += report,
            Err(failure) => {
                println!("seed {seed} failed: {}\n  {}", failure.reason, failure.command());
                failures.push(failure);
            }
        }
    }
    println!("{:<36} {:>12}", "seeds", options.seeds);
    println!("{:<36} {:>12}", "first seed", options.first);
    println!("{:<36} {:>12}", "failed", failures.len());
    for (what, count) in total.rows() {
        println!("{what:<36} {count:>12}");
    }
    let mut missed = 0;
    if options.bugs && options.bug.is_none() {
        for bug in Bug::ALL {
            let caught = simulation::catch(bug, options.first, BUG_SEEDS, options.requests);
            missed += usize::from(caught.is_none());
            let within =
                caught.map_or("NOT CAUGHT".to_owned(), |(seeds, _)| format!("{seeds} seeds"));
            println!("{:<36} {within:>12}", format!("planted: {}", bug.name()));
        }
    }
    println!("{:<36} {:>10} s", "took", started.elapsed().as_secs());
    if failures.is_empty() && missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
