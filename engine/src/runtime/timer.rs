//! Time, for doors and for the store's glue: everything else is told what time it is.

use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{Either, select};

/// Milliseconds of a clock that never goes back; its zero is when it was first asked.
pub fn monotonic_ms() -> u64 {
    since_start().as_millis() as u64
}

/// The same clock in microseconds.
pub fn monotonic_us() -> u64 {
    since_start().as_micros() as u64
}

fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The time of day.
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Resolves when `duration` has passed.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// `None` when `duration` passed first; the future is dropped then.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    match select(pin!(future), pin!(sleep(duration))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}
