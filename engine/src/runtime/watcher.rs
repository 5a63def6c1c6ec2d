//! A door's cursor into the store's history.

use std::rc::Rc;

use bytes::Bytes;

use super::core::CoreState;
use crate::error::StoreError;
use crate::limits;
use crate::message::{Answer, Request};
use crate::record::Revision;
use crate::request::{KeyRange, RangeRequest, WatchBatch, WatchRequest};
use crate::watch::{FromLog, Step, WatcherId};

/// A cursor into the store's history.
///
/// It holds no events: a watcher that is not asked for the [`next`](Watcher::next) costs a few
/// hundred bytes, however much happens meanwhile.
pub struct Watcher {
    core: Rc<CoreState>,
    id: WatcherId,
    created_revision: Revision,
    /// Taken from the log and not handed out yet, because the versions before are still looked up:
    /// so many events have theirs.
    from_log: Option<(FromLog, usize)>,
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
                return Ok(self.complete().await);
            }
            match self.core.drive(|replica, _| replica.hub().next(self.id, max_bytes)) {
                Step::Batch(batch) => return Ok(batch),
                Step::Wait => self.core.woken(self.id).await,
                Step::Behind { from_revision } => {
                    self.read_log(from_revision, max_bytes).await?;
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
        let read = self.core.history.read_from(from_revision, limits::WATCH_LOG_BYTES).await;
        let batches = read.map_err(|error| {
            eprintln!("reading the log for a watcher from revision {from_revision}: {error}");
            StoreError::Stopped
        })?;
        let committed = self.core.shared().committed_revision();
        let batches: Vec<_> =
            batches.into_iter().take_while(|batch| batch.revision_after <= committed).collect();
        let from_log = self
            .core
            .drive(|replica, _| replica.hub().deliver_from_log(self.id, &batches, max_bytes));
        self.from_log = Some((from_log, 0));
        Ok(())
    }

    /// Looks up what the log does not say, and hands everything out.
    async fn complete(&mut self) -> WatchBatch {
        while let Some((from_log, completed)) = &self.from_log
            && from_log.previous_missing
            && let Some(event) = from_log.batch.events.get(*completed)
        {
            let key = Bytes::copy_from_slice(event.record.key());
            let previous = self.record_at(key, event.record.mod_revision() - 1).await;
            let (from_log, completed) = self.from_log.as_mut().expect("only this takes it");
            from_log.batch.events[*completed].previous = previous;
            *completed += 1;
        }
        self.from_log.take().map(|(from_log, _)| from_log.batch).unwrap_or_default()
    }

    /// What lived at a revision, unless it is compacted.
    async fn record_at(&self, key: Bytes, revision: Revision) -> Option<crate::Record> {
        let request = RangeRequest { revision, ..RangeRequest::new(KeyRange::Single(key)) };
        match self.core.ask(Request::Range(request)).await {
            Ok(Answer::Range(mut response)) => response.records.pop(),
            _ => None,
        }
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
