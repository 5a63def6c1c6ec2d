//! Time, for doors: everything else is told what time it is.

use std::future::Future;
use std::time::{Duration, SystemTime};

/// Milliseconds of a clock that never goes back; its zero means nothing.
pub fn monotonic_ms() -> u64 {
    todo!()
}

/// The time of day.
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}

pub async fn sleep(duration: Duration) {
    let _ = duration;
    todo!()
}

/// `None` when `duration` passed first; the future is dropped then.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let _ = (duration, future);
    todo!()
}
