//! A run: what is asked for (`Plan`), the threads that do it, and the clock that begins and ends
//! the measuring window.

use super::grpc::Endpoint;
use super::recorder::{self, Measures, Recorder};
use super::worker::{self, Shared, Start};
use crate::{interrupt, limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;

/// Which requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Puts of random keys.
    Put,
    /// Optimistic updates of random keys.
    TxnPut,
    /// Optimistic updates of node Leases, each client its own.
    LeaseFlood,
    /// Reads of one random key, or of the whole prefix.
    Range {
        /// List the prefix with this limit (0: all keys).
        list_limit: Option<u64>,
        /// Allow the answer to be stale.
        serializable: bool,
    },
    /// Watchers on the prefix and writers beneath it.
    Watch {
        /// How many watchers.
        watchers: usize,
        /// How many of them share one gRPC stream.
        per_stream: usize,
    },
}

impl Kind {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::TxnPut => "txn-put",
            Self::LeaseFlood => "lease-flood",
            Self::Range { list_limit: Some(_), .. } => "list",
            Self::Range { .. } => "range",
            Self::Watch { .. } => "watch",
        }
    }
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After this time of measuring.
    After(Duration),
    /// After this many operations (puts, for a watch run).
    Total(u64),
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Servers; connections are spread over them in turn.
    pub endpoints: Vec<Endpoint>,
    /// What is sent.
    pub kind: Kind,
    /// Clients, each with one request in flight.
    pub clients: usize,
    /// HTTP/2 connections that the clients share.
    pub connections: usize,
    /// Loader threads.
    pub threads: usize,
    /// When it ends.
    pub end: End,
    /// Load before the measuring window.
    pub warm_up: Duration,
    /// Requests per second of an open loop; `None` is a closed loop.
    pub rate: Option<f64>,
    /// Length of values in bytes.
    pub value_size_bytes: usize,
    /// Number of keys.
    pub key_space: u64,
    /// What keys start with.
    pub prefix: String,
    /// Makes the choice of keys repeatable.
    pub seed: u64,
    /// Time for each request.
    pub request_timeout: Duration,
    /// Length of an interval of the log.
    pub interval: Duration,
    /// Write the keys before the run, where the workload needs them.
    pub prepare: bool,
}

/// Who is told about the progress of a run.
pub trait Observer {
    /// The measuring window begins.
    fn begin(&mut self) {}
    /// An interval of it ended: where it began in the window, how long it was, what it measured.
    fn interval(&mut self, _start: Duration, _length: Duration, _measures: &Measures) {}
    /// About ten times a second: the time since the window began and the operations until the
    /// last interval.
    fn progress(&mut self, _elapsed: Duration, _operations: u64) {}
    /// Whether the run may end now, before its time; asked about ten times a second.
    fn has_enough(&self) -> bool {
        false
    }
    /// The measuring window ended; requests in flight may still be answered.
    fn end(&mut self) {}
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Finished {
    /// When the measuring window began.
    pub began_at: SystemTime,
    /// How long it was.
    pub window: Duration,
    /// Operations completed within it.
    pub window_operations: u64,
    /// Everything recorded since it began, those answered after it ended included.
    pub measures: Measures,
    /// Requests that an open loop should have sent within the window but could not.
    pub unsent: u64,
    /// The person stopped the run early.
    pub interrupted: bool,
}

impl Finished {
    /// Operations per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.window_operations as f64 / self.window.as_secs_f64().max(1e-9)
    }
}

/// Why a run could not start or go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// Connecting or preparing keys failed.
    #[error("{0}")]
    Prepare(String),
    /// The system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What a thread tells the main thread.
pub enum Event {
    /// Connected and prepared; waits for the start.
    Ready,
    /// Ended; an error says why before its time.
    Ended(Result<(), String>),
}

/// Runs the plan.
///
/// # Errors
/// When a server cannot be reached or the keys cannot be prepared. Errors of single requests
/// are counted, not returned.
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Result<Finished, RunError> {
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        stop: AtomicBool::new(false),
        issued: AtomicU64::new(0),
        revisions: (0..plan.key_space).map(|_| AtomicI64::new(0)).collect(),
        puts_expected: tokio::sync::watch::channel(None).0,
        recorders: (0..plan.threads).map(|_| Arc::new(Recorder::default())).collect(),
    });
    let (events_in, events) = mpsc::channel();
    let mut starts = Vec::new();
    let mut threads = Vec::new();
    for number in 0..plan.threads {
        let (start_in, start) = tokio::sync::oneshot::channel();
        starts.push(start_in);
        let (shared, events_in) = (shared.clone(), events_in.clone());
        let thread = std::thread::Builder::new()
            .name(format!("load-{number}"))
            .spawn(move || {
                let result = worker::run_thread(number, &shared, start, &events_in);
                drop(events_in.send(Event::Ended(result))); // nobody listens after a failure
            })
            .map_err(RunError::Thread)?;
        threads.push(thread);
    }
    drop(events_in);
    wait_ready(&events, plan.threads)?;

    // A little ahead, so that all threads begin together.
    let start = Instant::now() + Duration::from_millis(2);
    let deadline = match plan.end {
        End::After(duration) => Some(start + plan.warm_up + duration),
        End::Total(_) => None,
    };
    for start_in in starts {
        let _ = start_in.send(Start { start, deadline }); // a thread that failed has told so
    }
    let mut window = Window::new(plan, shared.clone(), start);
    let error = window.watch(&events, deadline, observer);
    if let Some(error) = error {
        return Err(RunError::Prepare(error));
    }
    for thread in threads {
        if thread.join().is_err() {
            return Err(RunError::Prepare("a loader thread panicked".to_owned()));
        }
    }
    Ok(window.finish(observer))
}

fn wait_ready(events: &Receiver<Event>, threads: usize) -> Result<(), RunError> {
    let deadline = Instant::now() + limits::PREPARE_TIMEOUT;
    let mut ready = 0;
    while ready < threads {
        if interrupt::requested() {
            return Err(RunError::Prepare("stopped while preparing".to_owned()));
        }
        if Instant::now() > deadline {
            return Err(RunError::Prepare(format!(
                "connections and keys are not ready after {:?}",
                limits::PREPARE_TIMEOUT
            )));
        }
        match events.recv_timeout(Duration::from_millis(100)) {
            Ok(Event::Ready) => ready += 1,
            Ok(Event::Ended(Err(error))) => return Err(RunError::Prepare(error)),
            Ok(Event::Ended(Ok(()))) | Err(RecvTimeoutError::Disconnected) => {
                return Err(RunError::Prepare("a loader thread ended early".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Ok(())
}

/// The measuring window: begins after the warm-up, ends at the deadline or with the last thread.
struct Window<'a> {
    plan: &'a Plan,
    shared: Arc<Shared>,
    begin: Instant,
    began_at: SystemTime,
    begun: bool,
    issued_at_begin: u64,
    interval_start: Instant,
    closed: Option<(Duration, u64, u64)>, // length, operations, unsent
    total: Measures,
    interrupted: bool,
}

impl<'a> Window<'a> {
    fn new(plan: &'a Plan, shared: Arc<Shared>, start: Instant) -> Self {
        let begin = start + plan.warm_up;
        Self {
            plan,
            shared,
            begin,
            began_at: SystemTime::now(),
            begun: false,
            issued_at_begin: 0,
            interval_start: begin,
            closed: None,
            total: Measures::default(),
            interrupted: false,
        }
    }

    /// Watches until all threads ended; returns the error of one that failed.
    fn watch(
        &mut self,
        events: &Receiver<Event>,
        deadline: Option<Instant>,
        observer: &mut dyn Observer,
    ) -> Option<String> {
        loop {
            match events.recv_timeout(self.pause(deadline)) {
                Ok(Event::Ready | Event::Ended(Ok(()))) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Ended(Err(error))) => {
                    self.shared.stop.store(true, Ordering::Relaxed);
                    return Some(error);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            if interrupt::requested() && !self.interrupted {
                self.interrupted = true;
                self.shared.stop.store(true, Ordering::Relaxed);
            }
            if observer.has_enough() {
                self.shared.stop.store(true, Ordering::Relaxed);
            }
            let now = Instant::now();
            if !self.begun && now >= self.begin {
                self.open(observer);
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                self.close(now, observer);
            } else if self.begun && now >= self.interval_start + self.plan.interval {
                self.end_interval(now, observer);
            }
            if self.begun && self.closed.is_none() {
                observer.progress(now - self.begin, self.total.operations());
            }
        }
    }

    fn pause(&self, deadline: Option<Instant>) -> Duration {
        let mut next = Instant::now() + Duration::from_millis(100);
        if !self.begun {
            next = next.min(self.begin);
        }
        if self.closed.is_none() {
            next = next.min(self.interval_start + self.plan.interval);
            next = deadline.map_or(next, |deadline| next.min(deadline));
        }
        next.saturating_duration_since(Instant::now())
    }

    fn open(&mut self, observer: &mut dyn Observer) {
        self.begun = true;
        self.began_at = SystemTime::now();
        // Without a warm-up everything since the start counts, however late this thread woke up.
        if !self.plan.warm_up.is_zero() {
            drop(recorder::collect(&self.shared.recorders));
            self.begin = Instant::now();
            self.interval_start = self.begin;
            self.issued_at_begin = self.shared.issued.load(Ordering::Relaxed);
        }
        observer.begin();
    }

    fn end_interval(&mut self, now: Instant, observer: &mut dyn Observer) {
        let measures = recorder::collect(&self.shared.recorders);
        let start = self.interval_start;
        observer.interval(start - self.begin, now - start, &measures);
        self.total.add(&measures);
        self.interval_start = now;
    }

    fn close(&mut self, now: Instant, observer: &mut dyn Observer) {
        if self.closed.is_some() {
            return;
        }
        observer.end();
        self.end_interval(now, observer);
        let length = now - self.begin;
        let issued = self.shared.issued.load(Ordering::Relaxed) - self.issued_at_begin;
        let due = match (self.plan.rate, self.plan.end) {
            // A run may end before its time.
            (Some(rate), End::After(duration)) => {
                super::pacer::Schedule::due(rate, duration.min(length))
            }
            _ => 0,
        };
        self.closed = Some((length, self.total.operations(), due.saturating_sub(issued)));
    }

    fn finish(mut self, observer: &mut dyn Observer) -> Finished {
        if !self.begun {
            self.open(observer);
        }
        let now = Instant::now();
        self.close(now, observer);
        let stragglers = recorder::collect(&self.shared.recorders);
        if stragglers.operations() > 0 {
            observer.interval(
                self.interval_start - self.begin,
                now - self.interval_start,
                &stragglers,
            );
        }
        self.total.add(&stragglers);
        let (window, window_operations, unsent) = self.closed.unwrap_or_default();
        Finished {
            began_at: self.began_at,
            window,
            window_operations,
            measures: self.total,
            unsent,
            interrupted: self.interrupted,
        }
    }
}
