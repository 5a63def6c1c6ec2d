//! gRPC's rule for pings of clients: not too often, and not for nothing.

use std::time::Duration;

use super::error::Fault;
use crate::net::limits;

/// How a client behaved. `now_ms` is of any clock that does not go back.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// `None`: nobody minds.
    least_ms: Option<u64>,
    last_ms: Option<u64>,
    strikes: u32,
    /// Something was sent since the last one, so that one more is no strike.
    excused: bool,
}

impl Pings {
    pub(super) fn new(interval: Option<Duration>) -> Pings {
        let least_ms = interval.map(|interval| interval.as_millis() as u64);
        Pings { least_ms, ..Pings::default() }
    }

    /// Headers or data were sent.
    pub(super) fn sent(&mut self) {
        self.excused = true;
    }

    /// A ping came; `busy` when a stream is open.
    pub(super) fn received(&mut self, now_ms: u64, busy: bool) -> Result<(), Fault> {
        let Some(least_ms) = self.least_ms else { return Ok(()) };
        let last_ms = self.last_ms.replace(now_ms);
        if std::mem::take(&mut self.excused) {
            self.strikes = 0;
            return Ok(());
        }
        let least_ms = if busy { least_ms } else { limits::IDLE_PING_MS };
        if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(last_ms) < least_ms) {
            self.strikes += 1;
        }
        // gRPC clients know these words, and ping less often from then on.
        if self.strikes > limits::PING_STRIKES {
            Err(Fault::calm("too_many_pings"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_pings_are_strikes() {
        let hour = 3_600_000;
        for (name, busy, times_ms, expected) in [
            ("too often", true, &[0, 1000, 2000, 3000][..], Some(3)),
            ("often enough", true, &[0, 5000, 10_000, 15_000, 20_000], None),
            ("two strikes are none", true, &[0, 1000, 2000, 9000, 14_000], None),
            ("for nothing", false, &[0, 30_000, 60_000, 90_000], Some(3)),
            ("rarely", false, &[0, 2 * hour, 4 * hour, 6 * hour], None),
        ] {
            let mut pings = Pings::new(Some(Duration::from_secs(5)));
            let cut = times_ms.iter().position(|&now| pings.received(now, busy).is_err());
            assert_eq!(cut, expected, "{name}");
        }
    }

    #[test]
    fn what_is_sent_excuses_one() {
        let mut pings = Pings::new(Some(Duration::from_secs(5)));
        for now_ms in 0..100 {
            pings.sent();
            pings.received(now_ms, true).expect("excused");
        }
        let mut anybody = Pings::new(None);
        assert!((0..100).all(|now_ms| anybody.received(now_ms, false).is_ok()));
    }
}
