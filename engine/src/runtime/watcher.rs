//! A door's cursor into the store's history.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::core::CoreState;
use super::disk::HistoryError;
use super::timer::sleep;
use crate::error::StoreError;
use crate::limits;
use crate::mvcc::Lookup;
use crate::record::Revision;
use crate::request::{WatchBatch, WatchRequest};
use crate::watch::{FromLog, Step, WatcherId};

/// How long to wait for what is about to be in the log.
const AGAIN: Duration = Duration::from_millis(2);

/// A cursor into the store's history.
///
/// It holds no events: a watcher that is not asked for the [`next`](Watcher::next) costs a few
/// hundred bytes, however much happens meanwhile.
pub struct Watcher {
    core: Rc<CoreState>,
    id: WatcherId,
    created_revision: Revision,
    /// Taken from the log and not handed out yet, because versions before are still looked up.
    from_log: Option<FromLog>,
}

impl Watcher {
    pub(super) fn start(core: Rc<CoreState>, request: WatchRequest) -> Result<Watcher, StoreError> {
        let created_revision = core.shared().committed_revision();
        let id = core.drive(|replica, _| replica.subscribe(&request, created_revision))?;
        Ok(Watcher { core, id, created_revision, from_log: None })
    }

    /// The store's revision when the watch began: with no start revision, the first event is later.
    pub fn created_revision(&self) -> Revision {
        self.created_revision
    }

    /// The next events, in revision order, at most about `max_bytes` of them (whole revisions, at
    /// least one). Waits while there are none. Safe to drop and call again: nothing is lost.
    ///
    /// # Errors
    /// `Compacted` when the watcher is so slow that what it needs next has been compacted.
    pub async fn next(&mut self, max_bytes: usize) -> Result<WatchBatch, StoreError> {
        loop {
            if self.from_log.is_some() {
                // Seldom, and large: whoever waits should not carry the room for it.
                return Box::pin(self.complete()).await;
            }
            match self.core.drive(|replica, _| replica.hub().next(self.id, max_bytes)) {
                Step::Batch(batch) => return Ok(batch),
                Step::Wait => self.core.woken(self.id).await,
                Step::Behind { from_revision } => {
                    Box::pin(self.read_log(from_revision, max_bytes)).await?;
                }
                Step::Compacted { compacted } => {
                    return Err(StoreError::Compacted { requested: 0, compacted });
                }
            }
        }
    }

    /// Reads on in the log, where everything is that memory does not hold any more.
    async fn read_log(
        &mut self,
        from_revision: Revision,
        max_bytes: usize,
    ) -> Result<(), StoreError> {
        // Before: what is not committed may be replaced while it is read.
        let committed = self.core.shared().committed_revision();
        let read = self.core.history.read_from(from_revision, limits::WATCH_LOG_BYTES).await;
        let batches = match read {
            Ok(batches) => batches,
            Err(error) => {
                // What is compacted may be gone from the log, and that is what the watcher is told.
                let compacted = self.core.shared().compacted_revision();
                return Err(match from_revision < compacted {
                    true => StoreError::Compacted { requested: 0, compacted },
                    false => unreadable(error),
                });
            }
        };
        let batches: Vec<_> =
            batches.into_iter().take_while(|batch| batch.revision_after <= committed).collect();
        if batches.first().is_none_or(|batch| batch.revision_before >= from_revision) {
            // It is not there yet, or a release came between: a moment later that is settled.
            sleep(AGAIN).await;
            return Ok(());
        }
        let from_log = self
            .core
            .drive(|replica, _| replica.hub().deliver_from_log(self.id, &batches, max_bytes));
        self.from_log = Some(from_log);
        Ok(())
    }

    /// Looks up which versions lived before, and hands everything out.
    async fn complete(&mut self) -> Result<WatchBatch, StoreError> {
        while let Some(FromLog { batch, previous_missing }) = &self.from_log
            && !previous_missing.is_empty()
        {
            let compacted = self.core.shared().compacted_revision();
            let first = previous_missing.len().saturating_sub(limits::LOOKUPS_AT_ONCE);
            let mut numbers = previous_missing[first..].to_vec();
            let before = |number: usize| batch.events[number].record.mod_revision() - 1;
            numbers.retain(|&number| before(number) >= compacted.max(1));
            let lookup = |&number: &usize| Lookup {
                key: Bytes::copy_from_slice(batch.events[number].record.key()),
                revision: before(number),
            };
            let lookups = numbers.iter().map(lookup).collect();
            let found = self.core.history.look_up(lookups).await;
            if self.core.shared().compacted_revision() > compacted {
                // What was compacted meanwhile may have been gone from the log, too.
                continue;
            }
            let found = found.map_err(unreadable)?;
            let FromLog { batch, previous_missing } =
                self.from_log.as_mut().expect("only this takes it");
            previous_missing.truncate(first);
            for (number, found) in numbers.into_iter().zip(found) {
                batch.events[number].previous = found.filter(|record| !record.is_tombstone());
            }
        }
        Ok(self.from_log.take().map(|from_log| from_log.batch).unwrap_or_default())
    }

    /// The revision up to which everything has been handed out by [`next`](Watcher::next), when the
    /// watcher is level with the store; `None` while there is something to deliver. What a progress
    /// notification may say.
    pub fn synced_revision(&self) -> Option<Revision> {
        if self.from_log.is_some() {
            return None;
        }
        self.core.drive(|replica, _| replica.hub().synced_revision(self.id))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.core.forget_watcher(self.id);
    }
}

fn unreadable(error: HistoryError) -> StoreError {
    StoreError::HistoryUnreadable(error.to_string())
}
