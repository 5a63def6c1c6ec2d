//! The counters, one set for each core.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_engine::durations::{DurationCounts, Durations};
use mainstay_engine::limits::CORES;
use mainstay_engine::runtime::timer::monotonic_us;

use crate::etcd::{Kind, Method};
use crate::net::grpc::Code;

const METHODS: usize = Method::ALL.len();
const CODES: usize = Code::ALL.len();

/// A number that one core changes and any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts what exists: one more now, one fewer when dropped.
#[derive(Debug)]
pub struct Gauge(&'static Counter);

impl Gauge {
    pub fn up(counter: &'static Counter) -> Gauge {
        counter.add(1);
        Gauge(counter)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.subtract(1);
    }
}

/// The counters of one core, on cache lines that no other core writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    pub range_total: Counter,
    pub put_total: Counter,
    pub delete_total: Counter,
    pub transaction_total: Counter,
    pub events_total: Counter,
    pub watch_streams: Counter,
    pub watchers: Counter,
    pub lease_granted_total: Counter,
    pub lease_revoked_total: Counter,
    pub lease_renewed_total: Counter,
    pub health_success: Counter,
    pub health_failures: Counter,
    pub(super) received_bytes: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) calls: [CallMetrics; METHODS],
}

#[derive(Debug)]
pub(super) struct CallMetrics {
    pub(super) started: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) handled: [Counter; CODES],
    /// Of unary calls: from the head to the answer.
    pub(super) handling: Durations,
}

impl CoreMetrics {
    const fn new() -> CoreMetrics {
        CoreMetrics {
            range_total: Counter::new(),
            put_total: Counter::new(),
            delete_total: Counter::new(),
            transaction_total: Counter::new(),
            events_total: Counter::new(),
            watch_streams: Counter::new(),
            watchers: Counter::new(),
            lease_granted_total: Counter::new(),
            lease_revoked_total: Counter::new(),
            lease_renewed_total: Counter::new(),
            health_success: Counter::new(),
            health_failures: Counter::new(),
            received_bytes: Counter::new(),
            sent_bytes: Counter::new(),
            calls: [const {
                CallMetrics {
                    started: Counter::new(),
                    received: Counter::new(),
                    sent: Counter::new(),
                    handled: [const { Counter::new() }; CODES],
                    handling: Durations::new(),
                }
            }; METHODS],
        }
    }

    /// Counts a call from its beginning.
    pub fn call(&'static self, method: Method) -> CallGuard {
        self.calls[method as usize].started.add(1);
        CallGuard { metrics: self, method, begun_us: monotonic_us(), ended: Cell::new(false) }
    }
}

static OF_CORES: [CoreMetrics; CORES] = [const { CoreMetrics::new() }; CORES];

/// The counters of a core.
pub fn of_core(number: usize) -> &'static CoreMetrics {
    &OF_CORES[number]
}

/// The sum over all cores.
pub(super) fn sum(pick: impl Fn(&CoreMetrics) -> u64) -> u64 {
    OF_CORES.iter().map(pick).fold(0, u64::wrapping_add)
}

/// The sum over all cores of how long calls of a method took.
pub(super) fn handling(method: Method) -> DurationCounts {
    let of_core = |core: &CoreMetrics| core.calls[method as usize].handling.counts();
    OF_CORES.iter().map(of_core).fold(DurationCounts::default(), DurationCounts::and)
}

/// Counts one call; when it is dropped unended, the client has gone away.
#[derive(Debug)]
pub struct CallGuard {
    metrics: &'static CoreMetrics,
    method: Method,
    begun_us: u64,
    ended: Cell<bool>,
}

impl CallGuard {
    fn metrics(&self) -> &'static CallMetrics {
        &self.metrics.calls[self.method as usize]
    }

    /// A message of so many bytes came in.
    pub fn received(&self, bytes: usize) {
        self.metrics().received.add(1);
        self.metrics.received_bytes.add(bytes as u64);
    }

    /// A message of so many bytes went out.
    pub fn sent(&self, bytes: usize) {
        self.metrics().sent.add(1);
        self.metrics.sent_bytes.add(bytes as u64);
    }

    /// The call is over; counts once.
    pub fn end(&self, code: Code) {
        if !self.ended.replace(true) {
            self.metrics().handled[code as usize].add(1);
            if self.method.kind() == Kind::Unary {
                self.metrics().handling.record(monotonic_us() - self.begun_us);
            }
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.end(Code::Canceled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_handled_once() {
        let metrics = of_core(CORES - 1);
        let counts = || {
            let call = &metrics.calls[Method::Hash as usize];
            let handled = |code: Code| call.handled[code as usize].get();
            (call.started.get(), handled(Code::Ok), handled(Code::Canceled))
        };
        let call = metrics.call(Method::Hash);
        assert_eq!(counts(), (1, 0, 0));
        call.end(Code::Ok);
        call.end(Code::Ok);
        drop(call);
        assert_eq!(counts(), (1, 1, 0));
        drop(metrics.call(Method::Hash));
        assert_eq!(counts(), (2, 1, 1));
    }

    #[test]
    fn a_gauge_goes_down_again() {
        let counter = &of_core(CORES - 2).watchers;
        let gauges = [Gauge::up(counter), Gauge::up(counter)];
        assert_eq!(counter.get(), 2);
        drop(gauges);
        assert_eq!(counter.get(), 0);
    }
}
