//! Pauses between attempts: longer each time, and never the same for two.

use std::time::Duration;

use super::limits::{BACKOFF_FIRST, BACKOFF_MOST};

/// The pauses of one who tries again and again.
#[derive(Debug)]
pub(super) struct Backoff {
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// `seed` should be another one for everybody.
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { attempts: 0, random: seed | 1 }
    }

    /// It worked: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// From half of what is due to all of it.
    pub(super) fn next_pause(&mut self) -> Duration {
        let due = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MOST);
        self.attempts = self.attempts.saturating_add(1);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = due / 2;
        half + half.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..20).map(|_| backoff.next_pause()).collect::<Vec<_>>()
        };
        let (one, other) = (pauses(1), pauses(2));
        for (attempt, pause) in one.iter().enumerate() {
            let due = BACKOFF_FIRST.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MOST);
            assert!((due / 2..=due).contains(pause), "{attempt}: {pause:?}");
        }
        assert_ne!(one, other);
        let mut backoff = Backoff::new(0);
        assert!((0..100).map(|_| backoff.next_pause()).all(|pause| pause <= BACKOFF_MOST));
        backoff.reset();
        assert!(backoff.next_pause() <= BACKOFF_FIRST);
    }
}
