//! Clusters of members in a world that a seed decides: the production source of raft and of the engine (all
//! but its `runtime`) on virtual cores, with clocks that run wrong, disks that lose what was not
//! reported durable, a network that loses, repeats, delays and cuts off, and clients that write down
//! what they were told.
//!
//! `network` and `disk` say what can go wrong; `truth`, `ending` and the checkers of histories say what may
//! never happen; `bugs` are mistakes that are planted to see that they are noticed. `run` is a whole
//! history.

mod bugs;
mod clients;
mod disk;
mod ending;
mod forwards;
mod lifecycle;
mod machine;
mod member;
mod nemesis;
mod network;
mod report;
mod requests;
mod swarm;
mod translate;
mod truth;
mod watchers;
mod world;

pub use bugs::Bug;
pub use report::{Faults, Report};

use super::caught;
use super::random::Random;
use swarm::Swarm;
use world::World;

/// Which history to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scenario {
    pub seed: u64,
    /// So many members at first, or as many as the seed draws.
    pub members: Option<usize>,
    pub bug: Option<Bug>,
    /// Tell the story on standard error.
    pub trace: bool,
}

/// What went wrong, and how to see it again.
#[derive(Debug)]
pub struct Failure {
    pub scenario: Scenario,
    pub reason: String,
}

impl Failure {
    /// The one command that replays it.
    pub fn command(&self) -> String {
        let Scenario { seed, members, bug, .. } = self.scenario;
        let members = members.map_or("any".to_owned(), |members| members.to_string());
        let bug = bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
        format!(
            "cargo run -p mainstay-tests --bin simulate -- --members {members} --seed {seed}{bug}"
        )
    }
}

/// Runs one history.
///
/// # Errors
/// A member, or the simulation, found a contradiction.
pub fn run(scenario: Scenario) -> Result<(Report, Faults), Failure> {
    let Scenario { seed, members, bug, trace } = scenario;
    let history = move || {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(&mut random, members, bug);
        let mut world = World::new(random, swarm, bug, trace);
        world.run();
        (world.report, world.faults)
    };
    caught(history).map_err(|reason| Failure { scenario, reason })
}

/// Plants a mistake in one history after the other: after how many it was noticed, and how. A cluster
/// that only stands still has not shown the mistake, but what came of it.
pub fn catch(bug: Bug, first: u64, seeds: u64) -> Option<(u64, Failure)> {
    (0..seeds).find_map(|number| {
        let scenario = Scenario { seed: first + number, bug: Some(bug), ..Scenario::default() };
        let failure = run(scenario).err()?;
        (!failure.reason.starts_with("Progress")).then_some((number + 1, failure))
    })
}
