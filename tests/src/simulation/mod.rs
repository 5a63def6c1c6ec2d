//! One store in a world that a seed decides: the production source of the engine (all but its
//! `runtime`) on virtual cores, with a virtual clock, and a disk that fails as disks do.
//!
//! `disk` says what can go wrong; `model` and `answers` say what may never happen; `bugs` are
//! mistakes that are planted to see that they are noticed. `run` is a whole history.

mod answers;
pub mod bugs;
pub mod cluster;
mod damage;
mod disk;
mod evaluate;
mod keeper;
mod log;
mod model;
pub(crate) mod random;
mod recovery;
pub mod report;
mod requests;
mod start;
mod swarm;
mod watches;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

pub use bugs::Bug;
pub use report::Report;
use world::World;

/// What went wrong, and how to see it again.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub requests: usize,
    pub bug: Option<Bug>,
    pub reason: String,
}

impl Failure {
    /// The one command that replays it.
    pub fn command(&self) -> String {
        let bug = self.bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
        let Failure { seed, requests, .. } = self;
        format!(
            "cargo run -p mainstay-tests --bin simulate -- --seed {seed} --requests {requests}{bug}"
        )
    }
}

thread_local! {
    /// Why this thread panicked last.
    static REASON: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs one history.
///
/// # Errors
/// The store, or the simulation, found a contradiction.
pub fn run(seed: u64, requests: usize, bug: Option<Bug>) -> Result<Report, Failure> {
    let history = move || {
        let mut world = World::new(seed, requests, bug);
        world.run();
        world.report
    };
    caught(history).map_err(|reason| Failure { seed, requests, bug, reason })
}

/// Runs a history on a thread of its own. Why it panicked, if it did.
fn caught<T: Send + 'static>(history: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let other = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulated = std::thread::current().name() == Some(THREAD);
            if !simulated {
                return other(info);
            }
            let place = info.location().map_or(String::new(), ToString::to_string);
            let text = info.payload_as_str().unwrap_or("a panic");
            REASON.set(format!("{text} ({place})"));
        }));
    });
    let guarded = move || catch_unwind(AssertUnwindSafe(history)).map_err(|_| REASON.take());
    let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(guarded);
    thread.expect("a thread").join().expect("panics were caught")
}

const THREAD: &str = "simulation";

/// Plants a mistake in one history after the other: after how many it was noticed, and how.
pub fn catch(bug: Bug, first: u64, seeds: u64, requests: usize) -> Option<(u64, Failure)> {
    (0..seeds).find_map(|number| {
        let failure = run(first + number, requests, Some(bug)).err()?;
        Some((number + 1, failure))
    })
}
