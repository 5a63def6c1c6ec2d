//! When to take a snapshot, how fast, and what of the older ones and of the log stays.

use std::time::Duration;

use crate::limits;
use crate::record::Revision;

/// How many bytes of log are worth a snapshot, and how fast one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Log behind the last snapshot that makes one due in any case, bytes at least.
    pub log_bytes: u64,
    /// The same after a compaction, and when nothing is written for a while.
    pub quiet_log_bytes: u64,
    /// How long nothing was written then.
    pub idle_ms: u64,
    /// Bytes of a snapshot that are written in a second, at most.
    pub bytes_per_second: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            log_bytes: limits::SNAPSHOT_LOG_BYTES,
            quiet_log_bytes: limits::SNAPSHOT_QUIET_LOG_BYTES,
            idle_ms: limits::SNAPSHOT_IDLE_MS,
            bytes_per_second: limits::SNAPSHOT_BYTES_PER_SECOND,
        }
    }
}

/// What the decision is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Situation {
    /// Bytes of the log behind the beginning of the newest snapshot, or in all.
    pub log_bytes: u64,
    /// Bytes of keys and values that live: about what a snapshot takes.
    pub live_bytes: u64,
    /// Since something was written last.
    pub idle_ms: u64,
    pub compacted: Revision,
    /// The revision at the end of the newest snapshot; `None` when there is none.
    pub newest_end: Option<Revision>,
}

impl Pace {
    /// Whether a snapshot should be taken now.
    ///
    /// A snapshot costs a write of everything that lives, so the more lives, the more log has to
    /// come together: the disk never writes more than about three times for snapshots what it
    /// writes for the log, and a start never replays more than half of what it loads.
    pub fn is_due(&self, situation: &Situation) -> bool {
        let Situation { log_bytes, live_bytes, idle_ms, compacted, newest_end } = *situation;
        if log_bytes >= self.log_bytes.max(live_bytes / 2) {
            return true;
        }
        // What the newest snapshot begins with is all that a compaction can free: another one lets
        // the next compaction free more.
        let compacted_beyond = compacted > 0 && newest_end.is_none_or(|end| end < compacted);
        let quiet = idle_ms >= self.idle_ms;
        (quiet || compacted_beyond) && log_bytes >= self.quiet_log_bytes.max(live_bytes / 8)
    }

    /// How long to pause when `bytes` were written `elapsed` after the beginning.
    pub fn pause(&self, bytes: u64, elapsed: Duration) -> Duration {
        let planned = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        planned.saturating_sub(elapsed)
    }
}

/// A complete snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Raft's index at its beginning: the log goes on with the next one.
    pub index: u64,
    /// The store's revision at its end.
    pub end: Revision,
}

/// What stays when history is compacted to some revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// Indexes of snapshots that nobody needs any more.
    pub delete: Vec<u64>,
    /// The newest snapshot that ends before what is compacted (the compacted revision itself can
    /// still be watched, so its entry stays): versions from before the
    /// compaction that can still be read are in it, or in the log behind its beginning.
    pub base: Option<u64>,
}

impl Retention {
    /// Of `snapshots`, in order of their indexes. The newest is kept for the next start, the base
    /// for reading, and the first one behind the compaction to be the next base: however often
    /// snapshots are taken, one is always about to come of age, so that the log does not grow
    /// without bounds. The log before the base's beginning may go; without a base all of it is
    /// history that can be asked for.
    pub fn of(snapshots: &[Kept], compacted: Revision) -> Retention {
        assert!(snapshots.is_sorted_by_key(|snapshot| snapshot.index));
        let base = snapshots.iter().rfind(|snapshot| snapshot.end < compacted);
        let base = base.map(|base| base.index);
        let newest = snapshots.last().map(|newest| newest.index);
        let next_base = snapshots.iter().find(|snapshot| snapshot.end >= compacted);
        let next_base = next_base.map(|next| next.index);
        let unneeded = snapshots
            .iter()
            .map(|snapshot| snapshot.index)
            .filter(|&index| ![base, next_base, newest].contains(&Some(index)));
        Retention { delete: unneeded.collect(), base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_snapshot_is_due_when_it_is_worth_it() {
        let pace = Pace::default();
        let idle = limits::SNAPSHOT_IDLE_MS;
        for (log, live, idle_ms, compacted, newest_end, expected) in [
            (0, 0, idle, 0, None, false),
            (15, 0, idle, 9, None, false),
            (16, 0, 0, 0, None, false),
            (16, 0, idle, 0, None, true),
            (16, 0, 0, 9, None, true),
            (16, 0, 0, 9, Some(8), true),
            (16, 0, 0, 9, Some(9), false),
            (16, 0, 0, 9, Some(10), false),
            (63, 0, 0, 0, Some(10), false),
            (64, 0, 0, 0, Some(10), true),
            (499, 1000, 0, 0, None, false),
            (500, 1000, 0, 0, None, true),
            (124, 1000, idle, 9, None, false),
            (125, 1000, idle, 9, None, true),
        ] {
            let situation = Situation {
                log_bytes: log * MIB,
                live_bytes: live * MIB,
                idle_ms,
                compacted,
                newest_end,
            };
            assert_eq!(pace.is_due(&situation), expected, "{situation:?}");
        }
    }

    #[test]
    fn pauses_keep_the_rate() {
        let pace = Pace { bytes_per_second: 1000, ..Pace::default() };
        let ms = Duration::from_millis;
        for (bytes, elapsed, expected) in
            [(0, ms(0), ms(0)), (100, ms(30), ms(70)), (100, ms(100), ms(0)), (100, ms(900), ms(0))]
        {
            assert_eq!(pace.pause(bytes, elapsed), expected, "{bytes} bytes in {elapsed:?}");
        }
    }

    #[test]
    fn the_newest_the_base_and_the_next_base_stay() {
        let kept = |index, end| Kept { index, end };
        let all = [kept(10, 15), kept(20, 28), kept(30, 41), kept(40, 50)];
        for (snapshots, compacted, delete, base) in [
            (&all[..0], 99, vec![], None),
            (&all[..1], 0, vec![], None),
            (&all[..], 0, vec![20, 30], None),
            (&all[..], 15, vec![20, 30], None),
            (&all[..], 16, vec![30], Some(10)),
            (&all[..], 41, vec![10], Some(20)),
            (&all[..], 50, vec![10, 20], Some(30)),
            (&all[..], 51, vec![10, 20, 30], Some(40)),
        ] {
            let found = Retention::of(snapshots, compacted);
            assert_eq!(found, Retention { delete, base }, "{snapshots:?} {compacted}");
        }
    }

    #[test]
    fn the_log_stays_bounded_however_often_snapshots_and_compactions_come() {
        for (snapshot_every, compact_every, behind) in
            [(1, 50, 50), (7, 50, 50), (50, 7, 7), (1, 1, 0), (30, 31, 300), (100, 10, 0)]
        {
            let (mut kept, mut compacted, mut log_from) = (Vec::new(), 0, 0);
            for now in 1..5000 {
                if now % snapshot_every == 0 {
                    kept.push(Kept { index: now as u64 - 1, end: now });
                }
                if now % compact_every == 0 {
                    compacted = compacted.max(now - behind);
                }
                let Retention { delete, base } = Retention::of(&kept, compacted);
                kept.retain(|snapshot| !delete.contains(&snapshot.index));
                assert!(kept.len() <= 3);
                log_from = base.map_or(log_from, |base| base as i64);
                let expected = 2 * (behind + snapshot_every + compact_every) + 1;
                let log = now - log_from;
                assert!(log <= expected, "{snapshot_every} {compact_every} {behind}: {log}");
            }
        }
    }
}
