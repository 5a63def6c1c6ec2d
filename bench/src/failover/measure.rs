//! One cluster whose leader is killed again and again.

use super::prober::{self, Prober, Seen};
use crate::cli::FailoverOptions;
use crate::compare::fleet::Fleet;
use crate::compare::peer::Peer;
use crate::{interrupt, limits};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What one kill did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kill {
    /// The longest time without an answered write.
    pub gap_ms: f64,
    /// From the kill to the first answer to a write that was sent after it.
    pub first_answer_ms: f64,
    /// Writes that failed or were not answered in time.
    pub failed: u64,
    /// From the start of the killed member to its first linearizable answer.
    pub back_ms: f64,
}

/// All kills of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The peer's name.
    pub peer: String,
    /// In the order in which they happened.
    pub kills: Vec<Kill>,
    /// Median time of a write while nothing is wrong.
    pub undisturbed_ms: f64,
    /// Failed writes by kind.
    pub failures: BTreeMap<String, u64>,
}

/// Measures a fresh cluster of `peer`.
///
/// # Errors
/// When a member does not start, or writes are not answered any more.
pub fn measure(peer: &Peer, options: &FailoverOptions) -> Result<Outcome, String> {
    let mut fleet = Fleet::start(peer, &options.dir, "failover", options.members)?;
    let prober = Prober::start(fleet.endpoints()?, options.every, options.request_timeout)?;
    let mut outcome = Outcome {
        peer: peer.name.clone(),
        kills: Vec::new(),
        undisturbed_ms: 0.0,
        failures: BTreeMap::new(),
    };
    let mut undisturbed = Vec::new();
    for number in 0..options.kills {
        std::thread::sleep(options.settle);
        if interrupt::requested() {
            return Err("stopped; no report was written".to_owned());
        }
        undisturbed.extend(times_ms(&prober.take()));
        let (kill, failures) = kill(&mut fleet, &prober)
            .map_err(|error| format!("{}: kill {}: {error}", peer.name, number + 1))?;
        eprintln!(
            "{:<10} kill {:>3}/{}: {:>7.0} ms without an answered write, {} failed",
            peer.name,
            number + 1,
            options.kills,
            kill.gap_ms,
            kill.failed
        );
        outcome.kills.push(kill);
        for (kind, count) in failures {
            *outcome.failures.entry(kind).or_default() += count;
        }
    }
    prober.stop()?;
    fleet.stop();
    undisturbed.sort_by(f64::total_cmp);
    outcome.undisturbed_ms = undisturbed.get(undisturbed.len() / 2).copied().unwrap_or_default();
    Ok(outcome)
}

fn times_ms(seen: &Seen) -> impl Iterator<Item = f64> {
    seen.answers.iter().map(|answer| (answer.answered - answer.sent).as_secs_f64() * 1e3)
}

fn kill(fleet: &mut Fleet, prober: &Prober) -> Result<(Kill, BTreeMap<String, u64>), String> {
    let leader = fleet.leader()?;
    let killed = Instant::now();
    fleet.kill(leader);
    // What was sent while it died may still have been answered by it.
    let first = wait_for_answer(prober, Instant::now())?;
    // What was answered first may be followed by silence again.
    std::thread::sleep(limits::GAP_TAIL);
    let seen = prober.take();
    let answers: Vec<Instant> = seen.answers.iter().map(|answer| answer.answered).collect();
    let gap = prober::longest_gap(&answers, killed);
    let restarted = Instant::now();
    fleet.restart(leader)?;
    let kill = Kill {
        gap_ms: gap.as_secs_f64() * 1e3,
        first_answer_ms: first.duration_since(killed).as_secs_f64() * 1e3,
        failed: seen.failures.len() as u64,
        back_ms: restarted.elapsed().as_secs_f64() * 1e3,
    };
    Ok((kill, prober::count(&seen.failures)))
}

fn wait_for_answer(prober: &Prober, since: Instant) -> Result<Instant, String> {
    while since.elapsed() < limits::GAP_MAX {
        if let Some(answered) = prober.answered_since(since) {
            return Ok(answered);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("no write was answered within {:?}", limits::GAP_MAX))
}
