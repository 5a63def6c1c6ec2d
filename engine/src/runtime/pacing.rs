//! Pauses between the slices of a long piece of work.

use std::time::{Duration, Instant};

use super::{timer, yield_now};

/// How long slices may follow each other before the core looks at its sockets, timers and the log.
///
/// To yield is not enough for that: as long as some task can run, glommio looks every 100
/// milliseconds only. (Its own timer for this can't be set shorter: when it goes off before the
/// first task ran, as happens on a busy machine, glommio 0.12 goes to sleep with tasks that could
/// run.)
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Long enough that a sleep does not end at once. When many timers are in use it takes a
/// millisecond or two.
const LOOK: Duration = Duration::from_micros(50);

/// One piece of work.
pub(super) struct Pacing {
    busy_since: Instant,
}

impl Pacing {
    pub(super) fn begin() -> Pacing {
        Pacing { busy_since: Instant::now() }
    }

    /// Between two slices: lets other tasks run and, now and then, what came from outside come in.
    pub(super) async fn pause(&mut self) {
        if self.busy_since.elapsed() < LOOK_EVERY {
            yield_now().await;
        } else {
            timer::sleep(LOOK).await;
            self.busy_since = Instant::now();
        }
    }
}
