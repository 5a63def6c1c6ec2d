//! Writes tried at even intervals, whatever became of those before, in turn on all members that can
//! be reached: when writes are answered is when the cluster can be written to, independent of how
//! long a client would wait for one of them.

use crate::limits;
use crate::load::grpc::{Channel, Endpoint, Method};
use crate::load::template::{self, KeyShape, Template};
use bytes::BytesMut;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys that the probes write, in turn.
const KEYS: u64 = 1000;
const VALUE: [u8; 128] = [b'v'; 128];

/// An answered write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered.
    pub answered: Instant,
}

/// What became of the writes.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Those that were answered, in the order of their answers.
    pub answers: Vec<Answer>,
    /// The others by kind, with when they failed.
    pub failures: Vec<(Instant, String)>,
}

/// A running prober.
pub struct Prober {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Prober {
    /// Begins to write.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        endpoints: Vec<Endpoint>,
        every: Duration,
        timeout: Duration,
    ) -> Result<Self, String> {
        let (seen, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (told, ends) = (seen.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || run(&endpoints, every, timeout, &told, &ends))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { seen, stop, thread })
    }

    /// Takes what was seen since the last time.
    #[must_use]
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a write that was sent after `moment` was answered; leaves what was seen.
    #[must_use]
    pub fn answered_since(&self, moment: Instant) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let after = seen.answers.iter().filter(|answer| answer.sent > moment);
        after.map(|answer| answer.answered).min()
    }

    /// Ends it.
    ///
    /// # Errors
    /// Why it ended by itself, if it did.
    pub fn stop(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err("the prober panicked".to_owned()))
    }
}

fn run(
    endpoints: &[Endpoint],
    every: Duration,
    timeout: Duration,
    seen: &Arc<Mutex<Seen>>,
    stop: &Arc<AtomicBool>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut lanes = Vec::new();
        for endpoint in endpoints {
            let channel = Channel::open(endpoint).await.map_err(|error| error.to_string())?;
            lanes.push(Rc::new(Lane { channel, broken: Cell::new(false) }));
        }
        let template = Rc::new(template::put(&KeyShape::new("/mainstay-bench/", KEYS), &VALUE));
        let state = Rc::new(State { template, seen: seen.clone(), on_their_way: Cell::new(0) });
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut number = 0u64;
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let turn = number as usize;
            let lane = (0..lanes.len()).map(|offset| &lanes[(turn + offset) % lanes.len()]);
            // One whose connection broke is left to its reconnection.
            let Some(lane) = lane.into_iter().find(|lane| !lane.broken.get()) else { continue };
            if state.on_their_way.get() < limits::PROBES_MAX {
                tokio::task::spawn_local(probe(lane.clone(), state.clone(), number, timeout));
            }
            number += 1;
        }
        Ok(())
    })
}

/// A member, and whether it can be reached.
struct Lane {
    channel: Channel,
    broken: Cell<bool>,
}

struct State {
    template: Rc<Template>,
    seen: Arc<Mutex<Seen>>,
    on_their_way: Cell<usize>,
}

async fn probe(lane: Rc<Lane>, state: Rc<State>, number: u64, timeout: Duration) {
    thread_local!(static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new()));
    let frame = BUFFER
        .with(|buffer| state.template.render(number % KEYS, number, 0, &mut buffer.borrow_mut()));
    state.on_their_way.set(state.on_their_way.get() + 1);
    let (sent, generation) = (Instant::now(), lane.channel.generation());
    let result = lane.channel.unary(Method::Put, frame, timeout).await;
    let now = Instant::now();
    state.on_their_way.set(state.on_their_way.get() - 1);
    {
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(_) => seen.answers.push(Answer { sent, answered: now }),
            Err(error) => seen.failures.push((now, error.to_string())),
        }
    }
    if result.is_err_and(|error| error.breaks_connection()) && !lane.broken.replace(true) {
        // Until the member is there again.
        let mut seen = generation;
        while lane.channel.generation() == generation {
            lane.channel.recover(seen).await;
            seen = lane.channel.generation();
        }
        lane.broken.set(false);
    }
}

/// The longest time without an answer from `from` on. It begins with the last answer before
/// `from`, or with `from` itself when there is none.
#[must_use]
pub fn longest_gap(answers: &[Instant], from: Instant) -> Duration {
    let before = answers.iter().copied().filter(|at| *at <= from).max().unwrap_or(from);
    let mut sorted: Vec<Instant> = answers.iter().copied().filter(|at| *at > from).collect();
    sorted.push(before);
    sorted.sort_unstable();
    sorted.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// How often each kind of failure was met.
#[must_use]
pub fn count(failures: &[(Instant, String)]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (_, kind) in failures {
        *counts.entry(kind.clone()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_spans_from_the_last_answer_before_to_the_next_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answers = [0, 500, 505, 510, 1700, 1705, 1800].map(at);
        for (from, expected_ms) in [(512, 1190), (510, 1190), (1702, 95), (1, 1190), (508, 1190)] {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(longest_gap(&answers, at(from)), expected, "{from}");
        }
        // What was before is not known any more.
        assert_eq!(longest_gap(&answers[4..], at(520)), Duration::from_millis(1180));
    }
}
