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

mod clusters {
    use mainstay_tests::simulation::cluster::{self, Bug, Faults, Report, Scenario};

    use super::*;

    /// Seeds that failed once, and of what.
    const REGRESSIONS: [(u64, Option<usize>, &str); 9] = [
        (
            9,
            Some(3),
            "a member with an unreadable entry did not know what to do with those behind it",
        ),
        (16, Some(3), "the same, when what it could not read changed the revision"),
        (29, Some(3), "the same, in the midst of its log"),
        (5, None, "a slow disk was never done with what it had, so that nobody could vote"),
        (
            9207,
            None,
            "a peer's word that it had the term's first entry was lost, and not asked for again",
        ),
        (9194, None, "a watcher that wants to see nothing more did not ask how far it was"),
        (20, Some(3), "a clock jumped ahead: a lease ended early"),
        (1345, None, "a new leader gave a lease more than its time, as it should"),
        (1337, None, "writes were reported in another order than they were done in"),
    ];

    fn check(scenario: Scenario) -> (Report, Faults) {
        cluster::run(scenario)
            .unwrap_or_else(|failure| panic!("{}\nagain: {}", failure.reason, failure.command()))
    }

    #[test]
    fn fresh_seeds_find_no_contradiction() {
        const SEEDS: u64 = 100;
        const TIME: Duration = Duration::from_secs(10);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let first = now.as_micros() as u64;
        let started = Instant::now();
        let (mut total, mut faults) = (Report::default(), Faults::default());
        for seed in first..first + SEEDS {
            let (report, injected) = check(Scenario { seed, ..Scenario::default() });
            total += report;
            faults += injected;
            if started.elapsed() > TIME {
                break;
            }
        }
        println!("seeds {first} to {}", first + total.histories as u64 - 1);
        let rows = total.rows().into_iter().chain(faults.rows());
        rows.for_each(|(what, count)| println!("{what:<48} {count:>12}"));
        assert!(total.answered > 0 && total.elections > 0 && faults.crashes > 0);
    }

    #[test]
    fn seeds_that_failed_once_do_not_fail_again() {
        for (seed, members, _) in REGRESSIONS {
            check(Scenario { seed, members, ..Scenario::default() });
        }
    }

    #[test]
    fn every_planted_mistake_is_noticed() {
        const FIRST: u64 = 1;
        const SEEDS: u64 = 150;
        for bug in Bug::ALL {
            let caught = cluster::catch(bug, FIRST, SEEDS);
            let (seeds, failure) =
                caught.unwrap_or_else(|| panic!("{} is not noticed", bug.name()));
            println!("{:<24} {seeds:>3} seeds: {:.100}", bug.name(), failure.reason);
        }
    }

    #[test]
    fn a_seed_is_always_the_same_history() {
        for seed in 30..34 {
            let run = || cluster::run(Scenario { seed, ..Scenario::default() });
            let run = || run().map_err(|failure| failure.reason);
            assert_eq!(run(), run(), "seed {seed}");
        }
    }
}
