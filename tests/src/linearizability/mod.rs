//! Whether a history of requests and answers could come from one store that does one thing after the
//! other, each between its question and its answer. Plain data in, a verdict out: simulations and tests
//! of real processes use the same.
//!
//! Every change has a revision of its own, and every answer names one. So the order is known, except for
//! operations without an answer: each revision that nobody claims must have been made by one of
//! these, and a search with remembered dead ends (Wing and Gong, "Testing and verifying concurrent
//! objects"; Lowe, "Testing for linearizability") finds by which.

mod evidence;
pub mod history;
mod order;
mod replay;
mod state;
#[cfg(test)]
mod tests;

pub use history::History;
use replay::Replay;

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains every answer: this is in the way.
    Violation(String),
    /// The search was given up.
    Undecided(String),
}

/// Steps that are enough for everything but histories in which hardly anything was answered.
pub const STEPS_MAX: usize = 1_000_000;

/// Checks a history, in no more than so many steps of a search.
pub fn check(history: &History, steps_max: usize) -> Verdict {
    match order::floors(history) {
        Ok(floors) => Replay::new(history, &floors, steps_max).run(),
        Err(wrong) => Verdict::Violation(wrong),
    }
}
