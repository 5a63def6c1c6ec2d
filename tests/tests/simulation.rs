//! Simulated histories of one store: fresh seeds each time, and mistakes that have to be noticed.
//! `cargo run -p mainstay-tests --bin simulate -- --seeds N` runs many more.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_tests::simulation::{self, Bug, Report};

/// Of one history here: short, so that there are many.
const REQUESTS: usize = 200;

#[test]
fn fresh_seeds_find_no_contradiction() {
    const SEEDS: u64 = 100;
    const TIME: Duration = Duration::from_secs(8);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = now.as_micros() as u64;
    let started = Instant::now();
    let mut total = Report::default();
    for seed in first..first + SEEDS {
        match simulation::run(seed, REQUESTS, None) {
            Ok(report) => total += report,
            Err(failure) => panic!("{}\nagain: {}", failure.reason, failure.command()),
        }
        if started.elapsed() > TIME {
            break;
        }
    }
    println!("seeds {first} to {}", first + total.histories as u64 - 1);
    total.rows().iter().for_each(|(what, count)| println!("{what:<36} {count:>12}"));
    assert!(total.histories > 0 && total.answers > 0 && total.faults.crashes > 0);
}

#[test]
fn every_planted_mistake_is_noticed() {
    /// Always the same ones: what is noticed by chance may not be noticed tomorrow.
    const FIRST: u64 = 1;
    const SEEDS: u64 = 100;
    for bug in Bug::ALL {
        let caught = simulation::catch(bug, FIRST, SEEDS, REQUESTS);
        let (seeds, failure) = caught.unwrap_or_else(|| panic!("{} is not noticed", bug.name()));
        println!("{:<24} {seeds:>3} seeds: {:.100}", bug.name(), failure.reason);
    }
}

#[test]
fn a_seed_is_always_the_same_history() {
    for seed in 20..24 {
        let run = || simulation::run(seed, REQUESTS, None).map_err(|failure| failure.reason);
        assert_eq!(run(), run(), "seed {seed}");
    }
}
