//! When history is forgotten, and how much of it.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use mainstay_engine::Revision;

use crate::duration;

/// Whether history is kept for a time or for a number of revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Periodic,
    Revision,
}

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// At least that of so long ago.
    Time(Duration),
    /// So many revisions.
    Revisions(i64),
}

/// How often revisions are counted, in etcd.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// The longest time between two compactions by time, in etcd.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// In one interval the revision is looked at so often.
const LOOKS: u32 = 10;

/// The shortest time between two looks, however short the retention.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

impl Retention {
    /// Reads `--auto-compaction-retention` as etcd does: a bare number is hours or revisions, 0 is
    /// none at all.
    pub fn parse(mode: Mode, text: &str) -> Result<Option<Retention>, String> {
        let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
        let retention = match (mode, number) {
            (_, Some(0)) => return Ok(None),
            (Mode::Revision, Some(revisions)) => Retention::Revisions(revisions),
            (Mode::Revision, None) => {
                return Err("must be a number of revisions, as in 1000".to_owned());
            }
            (Mode::Periodic, Some(hours)) => {
                Retention::Time(duration::parse(&format!("{hours}h"))?)
            }
            (Mode::Periodic, None) => Retention::Time(duration::parse(text)?),
        };
        Ok(Some(retention).filter(|retention| *retention != Retention::Time(Duration::ZERO)))
    }

    /// Starts to keep history, at `now_ms`.
    pub(super) fn begin(self, now_ms: u64) -> Policy {
        Policy {
            retention: self,
            seen: VecDeque::new(),
            last_compacted: 0,
            last_success_ms: now_ms,
            waited: false,
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retention::Time(time) => write!(formatter, "--auto-compaction-retention of {time:?}"),
            Retention::Revisions(number) => {
                write!(formatter, "--auto-compaction-retention of {number} revisions")
            }
        }
    }
}

/// What has been seen, and what follows from it.
#[derive(Debug)]
pub(super) struct Policy {
    retention: Retention,
    /// The store's revisions of late, one a look: the first is as old as the retention.
    seen: VecDeque<Revision>,
    last_compacted: Revision,
    last_success_ms: u64,
    /// The first time is over, in which nothing is old enough.
    waited: bool,
}

impl Policy {
    /// How long to wait between two looks.
    pub(super) fn interval(&self) -> Duration {
        match self.retention {
            Retention::Time(time) => (time.min(LONGEST_INTERVAL) / LOOKS).max(SHORTEST_LOOK),
            Retention::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// The store is at `revision` now.
    pub(super) fn observe(&mut self, revision: Revision) {
        let Retention::Time(time) = self.retention else { return };
        let looks = time.as_millis() / self.interval().as_millis().max(1);
        self.seen.push_back(revision);
        // A flag can't ask for more than a century: a few million looks.
        while self.seen.len() as u128 > looks + 1 {
            self.seen.pop_front();
        }
    }

    /// Up to which revision history is to be forgotten now, if at all.
    pub(super) fn due(&mut self, revision: Revision, now_ms: u64) -> Option<Revision> {
        let due = match self.retention {
            Retention::Revisions(number) => revision - number,
            Retention::Time(time) => {
                let wait = if self.waited { time.min(LONGEST_INTERVAL) } else { time };
                if u128::from(now_ms - self.last_success_ms) < wait.as_millis() {
                    return None;
                }
                *self.seen.front()?
            }
        };
        if due <= 0 || due == self.last_compacted {
            return None;
        }
        self.waited = true;
        Some(due)
    }

    /// History up to `revision` is forgotten.
    pub(super) fn compacted(&mut self, revision: Revision, now_ms: u64) {
        self.last_compacted = revision;
        self.last_success_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retentions_are_read_as_etcd_does() {
        let time = |seconds| Ok(Some(Retention::Time(Duration::from_secs(seconds))));
        for (mode, text, expected) in [
            (Mode::Periodic, "0", Ok(None)),
            (Mode::Periodic, "1", time(3600)),
            (Mode::Periodic, "72", time(72 * 3600)),
            (Mode::Periodic, "10m", time(600)),
            (Mode::Periodic, "1h30m", time(5400)),
            (Mode::Periodic, "5s", time(5)),
            (Mode::Periodic, "0s", Ok(None)),
            (Mode::Revision, "0", Ok(None)),
            (Mode::Revision, "1000", Ok(Some(Retention::Revisions(1000)))),
        ] {
            assert_eq!(Retention::parse(mode, text), expected, "{mode:?} {text}");
        }
        for (mode, text) in [
            (Mode::Periodic, ""),
            (Mode::Periodic, "-1"),
            (Mode::Periodic, "soon"),
            (Mode::Periodic, "99999999999"),
            (Mode::Revision, "1h"),
            (Mode::Revision, "-5"),
        ] {
            assert!(Retention::parse(mode, text).is_err(), "{mode:?} {text}");
        }
    }

    /// The compactions of `looks` looks at a store that takes ten revisions in each.
    fn compactions(retention: Retention, looks: u64) -> Vec<(u64, Revision)> {
        let mut policy = retention.begin(0);
        let mut revision = 1;
        let mut done = Vec::new();
        for look in 1..=looks {
            policy.observe(revision);
            revision += 10;
            let now_ms = look * policy.interval().as_millis() as u64;
            if let Some(due) = policy.due(revision, now_ms) {
                policy.compacted(due, now_ms);
                done.push((look, due));
            }
        }
        done
    }

    #[test]
    fn a_time_of_history_is_kept() {
        let minutes = |minutes: u64| Retention::Time(Duration::from_secs(60 * minutes));
        // Each compacts what was there at least a whole retention before: ten looks of up to an hour.
        assert_eq!(compactions(minutes(10), 31), [(10, 1), (20, 91), (30, 191)]);
        assert_eq!(compactions(minutes(60), 31), [(10, 1), (20, 91), (30, 191)]);
        // Three hours are kept, and compacted every hour.
        assert_eq!(compactions(minutes(180), 51), [(30, 1), (40, 91), (50, 191)]);
        assert_eq!(compactions(minutes(10), 9), []);
    }

    #[test]
    fn an_idle_store_is_compacted_once() {
        let mut policy = Retention::Time(Duration::from_secs(10)).begin(0);
        let mut done = Vec::new();
        for look in 1..=100 {
            policy.observe(7);
            if let Some(due) = policy.due(7, look * 1000) {
                policy.compacted(due, look * 1000);
                done.push((look, due));
            }
        }
        assert_eq!(done, [(10, 7)]);
    }

    #[test]
    fn a_failed_compaction_is_tried_again_at_the_next_look() {
        let mut policy = Retention::Time(Duration::from_secs(10)).begin(0);
        for look in 1..=10 {
            policy.observe(look as Revision);
            assert_eq!(policy.due(50, look * 1000), (look == 10).then_some(1));
        }
        policy.observe(11);
        assert_eq!(policy.due(50, 11_000), Some(1));
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let policy = || Retention::Revisions(100).begin(0);
        assert_eq!(policy().interval(), Duration::from_secs(300));
        for (revision, expected) in [(1, None), (100, None), (101, Some(1)), (500, Some(400))] {
            assert_eq!(policy().due(revision, 300_000), expected, "{revision}");
        }
        let mut policy = policy();
        assert_eq!(policy.due(500, 300_000), Some(400));
        policy.compacted(400, 300_000);
        assert_eq!(policy.due(500, 600_000), None, "nothing new");
        assert_eq!(policy.due(501, 900_000), Some(401));
    }

    #[test]
    fn short_retentions_do_not_spin() {
        let policy = Retention::Time(Duration::from_nanos(1)).begin(0);
        assert_eq!(policy.interval(), SHORTEST_LOOK);
    }
}
