//! Whole clusters in one thread, in a world that a seed decides: messages are lost, repeated, late and
//! out of order; members crash and lose what was not written, or find their disks damaged or empty;
//! clocks differ; members come and go. Checked all the while: the five properties of the Raft paper's
//! figure 3, and that clients see a linearizable store; at the end: that the cluster recovers.
//!
//! * `RAFT_SEED=7 cargo test -p mainstay-raft --test simulation replay -- --nocapture` tells one story.
//! * `RAFT_SEEDS=10000 cargo test -p mainstay-raft --test simulation` tries more of them.
//! * `RAFT_FIRST_SEED=50000` begins elsewhere.

mod bugs;
mod checks;
mod disk;
mod member;
mod nemesis;
mod owner;
mod random;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bugs::Bug;
use mainstay_raft::Options;
use random::Random;
use world::{Disasters, Statistics, TICK, Weather, World};

/// Ticks of trouble, and how many more a cluster may take to recover.
const TROUBLE_TICKS: u64 = 500;
const RECOVERY_TICKS: u64 = 3000;

/// Seeds in which each planted mistake has to show.
const SEEDS_PER_BUG: u64 = 1000;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// The world of one seed. Small limits, so that they are met.
fn world(seed: u64, bug: Option<Bug>) -> World {
    let mut random = Random::new(seed);
    let lease_reads = random.chance(300) || bug == Some(Bug::LeasesWithWildClocks);
    let sticky = random.chance(800);
    let mut options = Options {
        pre_vote: sticky || random.chance(500),
        check_quorum: lease_reads || sticky || random.chance(500),
        lease_reads,
        message_bytes: random.between(1, 100) as usize,
        inflight_messages: random.between(1, 8) as usize,
        inflight_bytes: random.between(8, 400) as usize,
        cache_bytes: random.between(0, 200) as usize,
        snapshot_part_bytes: random.between(8, 64) as usize,
        ..Options::default()
    };
    let mut disasters = Disasters {
        crashes: random.chance(700),
        partitions: random.chance(700),
        changes: random.chance(500),
        transfers: random.chance(300),
        damages: random.chance(400),
        losses: random.chance(400),
        elections: random.chance(400),
        // A lease assumes that clocks are right, and that processes run.
        pauses: !lease_reads && random.chance(400),
    };
    let mut weather = Weather {
        loss: random.pick(&[0, 0, 10, 50, 150]).unwrap_or(0),
        duplication: random.pick(&[0, 20, 100]).unwrap_or(0),
        delay: random.between(5, 120),
        long_delay: random.between(100, 3000),
        write_delay: random.pick(&[10, 50, 150, 150, 800]).unwrap_or(50),
        clocks: match !lease_reads && random.chance(300) {
            true => (TICK / 3, TICK * 3),
            false => (TICK * 9 / 10, TICK * 11 / 10),
        },
        snapshot_every: random.between(5, 60),
        idle: random.pick(&[TICK / 2, TICK * 2]).unwrap_or(TICK),
        calm: random.pick(&[5, 30, 30, 60]).unwrap_or(30) * TICK,
        disasters: Disasters::default(),
    };
    if let Some(bug) = bug {
        provoke(bug, &mut options, &mut weather, &mut disasters);
    }
    weather.disasters = disasters;
    let voters = match bug {
        Some(Bug::LeasesWithWildClocks) => 3,
        _ => random.pick(&[1, 2, 3, 3, 3, 4, 5, 5]).unwrap_or(3),
    };
    let spare = random.between(0, 4);
    World::new(random, (voters, spare), options, weather, bug)
}

/// Some mistakes show only when several things go wrong within a moment.
fn provoke(bug: Bug, options: &mut Options, weather: &mut Weather, disasters: &mut Disasters) {
    match bug {
        Bug::ForgetsVote => {
            options.pre_vote = false;
            options.check_quorum = options.lease_reads;
            weather.calm = 4 * TICK;
            weather.delay = 2 * TICK;
            weather.write_delay = TICK / 10;
            *disasters = Disasters { crashes: true, elections: true, ..Disasters::default() };
        }
        Bug::CommitsOlderTermByCounting => {
            options.pre_vote = false;
            options.check_quorum = options.lease_reads;
            (options.message_bytes, options.inflight_messages) = (1, 1);
            weather.idle = TICK / 2;
            weather.calm = 10 * TICK;
            weather.delay = TICK / 2;
            weather.loss = 0;
            weather.write_delay = TICK / 5;
            disasters.changes = false;
            disasters.crashes = true;
            disasters.partitions = true;
            disasters.elections = true;
        }
        Bug::ComesBackEmptyAsItself => {
            weather.calm = 6 * TICK;
            disasters.losses = true;
            disasters.partitions = true;
            disasters.elections = true;
        }
        Bug::TakesDamageForTheEnd => {
            weather.calm = 5 * TICK;
            weather.snapshot_every = 1000;
            weather.write_delay = TICK / 10;
            disasters.losses = false;
            disasters.partitions = true;
            disasters.damages = true;
        }
        Bug::ForgetsMembership => {
            weather.calm = 10 * TICK;
            disasters.changes = true;
            disasters.crashes = true;
            disasters.partitions = true;
        }
        Bug::LeasesWithWildClocks => {
            weather.idle = TICK / 4;
            weather.calm = 10 * TICK;
            *disasters = Disasters { partitions: true, transfers: true, ..Disasters::default() };
        }
        _ => {}
    }
}

fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Statistics {
    let mut world = world(seed, bug);
    world.trace = trace;
    while world.now < TROUBLE_TICKS * TICK {
        world.run_one();
    }
    world.heal();
    let mut complaint = String::new();
    while world.now < (TROUBLE_TICKS + RECOVERY_TICKS) * TICK {
        match world.is_well() {
            Ok(()) => {
                world.match_logs();
                return world.statistics;
            }
            Err(reason) => complaint = reason,
        }
        let until = world.now + TICK * 5;
        while world.now < until {
            world.run_one();
        }
    }
    if trace {
        world.members.values().for_each(|member| eprintln!("{} {:#?}", member.id, member.node));
    }
    panic!("Progress: not well {RECOVERY_TICKS} ticks after the trouble: {complaint}");
}

thread_local! {
    /// Panics of this thread are expected, and counted instead of told.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What went wrong with a seed, if anything did.
fn attempt(seed: u64, bug: Option<Bug>) -> Result<Statistics, String> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                tell(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| run(seed, bug, false)));
    QUIET.set(false);
    result.map_err(|payload| match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().map_or("?".into(), |text| (*text).into()),
    })
}

#[test]
fn every_seed_is_safe_and_recovers() {
    let first = number("RAFT_FIRST_SEED", 0);
    let seeds = number("RAFT_SEEDS", 80);
    let mut total = Statistics::default();
    let mut failures = Vec::new();
    for seed in first..first + seeds {
        match attempt(seed, None) {
            Ok(statistics) => total += statistics,
            Err(failure) => {
                eprintln!("seed {seed}: {failure}");
                failures.push(seed);
            }
        }
    }
    println!("{seeds} seeds from {first} on: {total:?}");
    assert!(failures.is_empty(), "replay with RAFT_SEED=...: {failures:?}");
    if seeds >= 80 {
        let happened = [total.crashes, total.partitions, total.pauses, total.changes];
        let also = [
            total.damages,
            total.repairs,
            total.losses,
            total.installs,
            total.reads,
            total.elections,
        ];
        assert!(happened.iter().chain(&also).all(|count| *count > 0), "{total:?}");
    }
}

/// Tells the story of one seed, with a planted mistake if `RAFT_BUG` names one.
#[test]
fn replay() {
    let name = std::env::var("RAFT_BUG").unwrap_or_default();
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    let trace = std::env::var("RAFT_SEED").is_ok();
    let statistics = run(number("RAFT_SEED", 1), bug, trace);
    println!("{statistics:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = || format!("{:?}", attempt(3, None));
    assert_eq!(tell(), tell());
}

#[test]
fn every_planted_mistake_is_noticed() {
    let mut missed = Vec::new();
    let only = std::env::var("RAFT_BUG").ok();
    let all = Bug::ALL.into_iter();
    for bug in all.filter(|bug| only.as_ref().is_none_or(|name| format!("{bug:?}") == *name)) {
        // A cluster that only stands still has not shown the mistake, but what came of it.
        let broken =
            |seed| attempt(seed, Some(bug)).err().filter(|what| !what.contains("Progress"));
        let noticed = (0..SEEDS_PER_BUG).find_map(|seed| Some((seed, broken(seed)?)));
        match noticed {
            Some((seed, failure)) => {
                let line = failure.lines().next().unwrap_or_default().to_string();
                println!("{bug:?}: seed {seed}: {line}");
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not noticed in {SEEDS_PER_BUG} seeds: {missed:?}");
}
