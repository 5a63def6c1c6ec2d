//! One cluster: filled, loaded, joined by one more.

use crate::cli::CatchUpOptions;
use crate::compare::fleet::Fleet;
use crate::compare::peer::Peer;
use crate::load::recorder::Measures;
use crate::load::run::{self, Finished, Observer, Plan};
use crate::load::worker::key_shape;
use crate::result::figures::Latencies;
use crate::{interrupt, limits};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What clients felt in some stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Felt {
    /// Answered writes.
    pub operations: u64,
    /// Their latencies, from the time at which each should have been sent.
    pub latency: Latencies,
}

/// Latency within one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since the load began to be measured, at the interval's end.
    pub seconds: f64,
    /// 99th percentile within the interval.
    pub p99_ms: f64,
}

/// What was measured of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The peer's name.
    pub peer: String,
    /// Bytes of all keys and values that it was filled with.
    pub live_bytes: f64,
    /// From the start of the new member's process until it had all that the leader had.
    pub caught_up_seconds: f64,
    /// Bytes that the new member sent to storage for it.
    pub written_bytes: f64,
    /// Before, meanwhile, after.
    pub felt: [Felt; 3],
    /// Writes that failed or could not be sent in time.
    pub failed: u64,
    /// Interval by interval.
    pub points: Vec<Point>,
    /// Where in them the member was added and had caught up, seconds.
    pub marks: [f64; 2],
}

const BEFORE: usize = 0;
const MEANWHILE: usize = 1;
const AFTER: usize = 2;

/// Measures a fresh cluster of `peer`: `fill` writes the keys, `load` is what goes on meanwhile.
///
/// # Errors
/// When a member does not start, requests fail while filling, or nothing is caught up in time.
pub fn measure(
    peer: &Peer,
    options: &CatchUpOptions,
    fill: &Plan,
    load: &Plan,
) -> Result<Outcome, String> {
    let mut fleet = Fleet::start(peer, &options.dir, "catchup", options.members)?;
    let (mut fill, mut load) = (fill.clone(), load.clone());
    fill.endpoints = fleet.endpoints()?;
    load.endpoints.clone_from(&fill.endpoints);
    eprintln!("{}: writing {} keys", peer.name, fill.key_space);
    let filled = run::run(&fill, &mut ()).map_err(|error| format!("{}: {error}", peer.name))?;
    check(peer, &filled)?;

    let phase = Phase::default();
    let mut watcher = Watcher::new(&phase);
    let joined = std::thread::scope(|scope| {
        let loading = scope.spawn(|| run::run(&load, &mut watcher));
        let joined = join(&mut fleet, options, &phase);
        phase.enough.store(true, Ordering::Relaxed);
        let finished = loading.join().map_err(|_| "the load panicked".to_owned())?;
        let finished = finished.map_err(|error| error.to_string())?;
        if finished.interrupted {
            return Err("stopped; no report was written".to_owned());
        }
        joined.map(|joined| (joined, finished))
    });
    let (joined, finished) = joined.map_err(|error| format!("{}: {error}", peer.name))?;
    fleet.stop();
    let begun = watcher.begun.ok_or("the load never began")?;
    let since = |at: Instant| at.saturating_duration_since(begun).as_secs_f64();
    Ok(Outcome {
        peer: peer.name.clone(),
        live_bytes: fill.key_space as f64
            * (key_shape(&fill).length() + fill.value_size_bytes) as f64,
        caught_up_seconds: (joined.caught_up - joined.added).as_secs_f64(),
        written_bytes: joined.written_bytes,
        felt: watcher.felt.map(|measures| Felt {
            operations: measures.operations(),
            latency: Latencies::of(&measures.latencies),
        }),
        failed: finished.measures.error_count() + finished.unsent,
        points: watcher.points,
        marks: [since(joined.added), since(joined.caught_up)],
    })
}

fn check(peer: &Peer, filled: &Finished) -> Result<(), String> {
    match filled.measures.error_count() {
        _ if filled.interrupted => Err("stopped; no report was written".to_owned()),
        0 => Ok(()),
        count => Err(format!("{}: {count} requests failed while filling", peer.name)),
    }
}

/// When the new member was started and when it had everything.
struct Joined {
    added: Instant,
    caught_up: Instant,
    written_bytes: f64,
}

fn join(fleet: &mut Fleet, options: &CatchUpOptions, phase: &Phase) -> Result<Joined, String> {
    std::thread::sleep(options.beside);
    let (member, added) = fleet.add()?;
    phase.now.store(MEANWHILE, Ordering::Relaxed);
    let caught_up = wait(fleet, member, added + options.patience)?;
    phase.now.store(AFTER, Ordering::Relaxed);
    let process = fleet.processes().last().copied().unwrap_or_default();
    let written = crate::proc::sample(process).map_err(|error| error.to_string())?.written_bytes;
    std::thread::sleep(options.beside);
    Ok(Joined { added, caught_up, written_bytes: written as f64 })
}

/// Waits until the member has what the leader had a moment before.
fn wait(fleet: &Fleet, member: usize, deadline: Instant) -> Result<Instant, String> {
    let leader = fleet.leader()?;
    loop {
        let wanted = fleet.status(leader);
        let found = fleet.status(member);
        if let Some((wanted, found)) = wanted.zip(found)
            && found.revision >= wanted.revision
        {
            return Ok(Instant::now());
        }
        if interrupt::requested() {
            return Err("stopped; no report was written".to_owned());
        }
        if !fleet.is_alive(member) || Instant::now() > deadline {
            return Err(format!(
                "the new member has not caught up: it is at {found:?}, the leader at {wanted:?}; \
                 logs:\n{}",
                fleet.log_end()
            ));
        }
        std::thread::sleep(limits::STATUS_PAUSE);
    }
}

/// Where the measurement is, for the thread that watches the load.
#[derive(Default)]
struct Phase {
    now: AtomicUsize,
    enough: AtomicBool,
}

struct Watcher<'a> {
    phase: &'a Phase,
    begun: Option<Instant>,
    /// The phase when the interval began.
    last: usize,
    felt: [Measures; 3],
    points: Vec<Point>,
}

impl<'a> Watcher<'a> {
    fn new(phase: &'a Phase) -> Self {
        let felt = [(); 3].map(|()| Measures::default());
        Self { phase, begun: None, last: BEFORE, felt, points: Vec::new() }
    }
}

impl Observer for Watcher<'_> {
    fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    fn interval(&mut self, start: Duration, length: Duration, measures: &Measures) {
        let now = self.phase.now.load(Ordering::Relaxed);
        // An interval in which a phase ended saw some of the time meanwhile.
        let phase = if now == self.last { now } else { MEANWHILE };
        self.last = now;
        self.felt[phase].add(measures);
        self.points.push(Point {
            seconds: (start + length).as_secs_f64(),
            p99_ms: Latencies::of(&measures.latencies).p99_us / 1e3,
        });
    }

    fn has_enough(&self) -> bool {
        self.phase.enough.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_in_which_a_phase_ends_counts_as_meanwhile() {
        let phase = Phase::default();
        let mut watcher = Watcher::new(&phase);
        for (number, now) in [BEFORE, BEFORE, MEANWHILE, MEANWHILE, AFTER, AFTER].iter().enumerate()
        {
            phase.now.store(*now, Ordering::Relaxed);
            let mut measures = Measures::default();
            measures.success(Duration::from_millis(number as u64 + 1));
            let second = Duration::from_secs(1);
            watcher.interval(second * number as u32, second, &measures);
        }
        assert_eq!(watcher.felt.map(|felt| felt.operations()), [2, 3, 1]);
        let last = watcher.points.last().unwrap();
        assert!((last.seconds - 6.0).abs() < 1e-9 && (last.p99_ms - 6.0).abs() < 0.1, "{last:?}");
    }
}
