//! A shard that is being restored from the log.

#[cfg(test)]
mod tests;

use super::Shard;
use crate::effect::Control;
use crate::lease::Attachments;
use crate::log::decode::RawChange;
use crate::log::raw::{RawBatch, Step};
use crate::mvcc;

/// A shard's keys and leases as the log tells of them; see [`mvcc::Restoring`].
#[derive(Debug)]
pub struct Restoring {
    mvcc: mvcc::Restoring,
    attachments: Attachments,
}

impl Restoring {
    /// Goes on from a shard that is empty or was loaded from a snapshot.
    pub fn new(shard: Shard) -> Restoring {
        let Shard { mvcc, attachments, gate, endings } = shard;
        assert!(gate.is_open() && endings.is_empty(), "nobody uses a shard before it is restored");
        Restoring { mvcc: mvcc::Restoring::new(mvcc), attachments }
    }

    /// Follows the next batch of the log, in which keys with a `wanted` hash are this shard's.
    pub fn follow(&mut self, batch: &RawBatch, wanted: impl Fn(u64) -> bool) {
        batch.steps(wanted, |step| match step {
            Step::Change(hash, change) => self.install(hash, &change),
            Step::Control(control) => self.apply_control(control),
        });
        self.mvcc.settle(batch.revision_after());
    }

    fn install(&mut self, hash: u64, change: &RawChange<'_>) {
        if let Some((before, now)) = self.mvcc.install(hash, change.to_record()) {
            self.attachments.follow(change.key, before.as_ref(), Some(now));
        }
    }

    fn apply_control(&mut self, control: &Control) {
        if let Control::Compact { revision } = control {
            self.mvcc.compact(*revision);
        }
        self.attachments.apply_control(control);
    }

    /// The shard, ready for use.
    pub fn finish(self) -> Shard {
        let Restoring { mvcc, attachments } = self;
        Shard { mvcc: mvcc.finish(), attachments, ..Shard::default() }
    }
}
