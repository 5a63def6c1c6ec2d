//! When a watch is sent a bookmark, and of which revision.

use crate::kube::limits::BOOKMARK_INTERVAL;

/// What a watch has to know for its bookmarks. A bookmark never runs ahead of an event that is still
/// to be sent, and is due after its time however busy the store is: a client whose selection matches
/// nothing learns of the revision by bookmarks alone.
pub(super) struct Bookmarks {
    wanted: bool,
    next_ms: u64,
    /// Everything up to here was written for the client.
    delivered_revision: i64,
}

impl Bookmarks {
    pub(super) fn new(wanted: bool, now_ms: u64, delivered_revision: i64) -> Bookmarks {
        let next_ms = now_ms + BOOKMARK_INTERVAL.as_millis() as u64;
        Bookmarks { wanted, next_ms, delivered_revision }
    }

    /// All changes up to `revision` were written, or were none of this watch.
    pub(super) fn delivered(&mut self, revision: i64) {
        self.delivered_revision = self.delivered_revision.max(revision);
    }

    /// When the next one is due, if that is before `deadline_ms`.
    pub(super) fn wake_ms(&self, deadline_ms: u64) -> u64 {
        if self.wanted { deadline_ms.min(self.next_ms) } else { deadline_ms }
    }

    /// The revision of the bookmark to write now. `synced_revision`: no change up to there waits.
    pub(super) fn due(&mut self, now_ms: u64, synced_revision: Option<i64>) -> Option<i64> {
        if !self.wanted || now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + BOOKMARK_INTERVAL.as_millis() as u64;
        self.delivered(synced_revision.unwrap_or(0));
        Some(self.delivered_revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL_MS: u64 = BOOKMARK_INTERVAL.as_millis() as u64;

    #[test]
    fn bookmarks_are_due_in_quiet_and_in_busy_times() {
        let mut bookmarks = Bookmarks::new(true, 0, 10);
        for (now_ms, delivered, synced, expected) in [
            (INTERVAL_MS - 1, 11, Some(11), None),
            // Never level with the store.
            (INTERVAL_MS, 20, None, Some(20)),
            (INTERVAL_MS + 1, 21, None, None),
            // Nothing happened that the watch asks for.
            (2 * INTERVAL_MS, 21, Some(30), Some(30)),
            (3 * INTERVAL_MS, 29, None, Some(30)),
        ] {
            bookmarks.delivered(delivered);
            assert_eq!(bookmarks.due(now_ms, synced), expected, "{now_ms}");
        }
        assert_eq!(bookmarks.wake_ms(u64::MAX), 4 * INTERVAL_MS);
        assert_eq!(bookmarks.wake_ms(7), 7);
    }

    #[test]
    fn who_wants_none_gets_none() {
        let mut bookmarks = Bookmarks::new(false, 0, 10);
        assert_eq!(bookmarks.due(INTERVAL_MS, Some(20)), None);
        assert_eq!(bookmarks.wake_ms(2 * INTERVAL_MS), 2 * INTERVAL_MS);
    }
}
