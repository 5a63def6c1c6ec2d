//! Recent committed batches, bounded by bytes.

use std::collections::VecDeque;

use crate::effect::{Batch, Deleted, Item, Revised, SharedBatch};
use crate::record::{Record, Revision};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Ring {
    /// Batches that hold effects, each with its bytes, in revision order without a gap.
    batches: VecDeque<(SharedBatch, usize)>,
    bytes: usize,
    max_bytes: usize,
}

impl Ring {
    pub(super) fn new(max_bytes: usize) -> Ring {
        Ring { batches: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Adds the next batch and lets the oldest go until the bound holds. The newest always stays.
    /// Gives the deletions that went, for whoever has the time to drop them.
    pub(super) fn push(&mut self, batch: SharedBatch) -> Vec<Arc<Deleted>> {
        let mut gone = Vec::new();
        if batch.revision_before == batch.revision_after {
            return gone;
        }
        let bytes = bytes_of(&batch);
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        while self.bytes > self.max_bytes && self.batches.len() > 1 {
            let Some((batch, bytes)) = self.batches.pop_front() else { break };
            self.bytes -= bytes;
            gone.extend(deleted(&batch).cloned());
        }
        gone
    }

    /// Lets go of everything. Gives the deletions.
    pub(super) fn clear(&mut self) -> Vec<Arc<Deleted>> {
        self.bytes = 0;
        let batches = std::mem::take(&mut self.batches);
        batches.iter().flat_map(|(batch, _)| deleted(batch).cloned()).collect()
    }

    /// The revision before the oldest batch, if there is one.
    pub(super) fn begins_after(&self) -> Option<Revision> {
        self.batches.front().map(|(batch, _)| batch.revision_before)
    }

    /// Whether every revision from this one on is here, up to the newest.
    pub(super) fn reaches_back_to(&self, revision: Revision) -> bool {
        self.batches.front().is_some_and(|(batch, _)| batch.revision_before < revision)
    }

    /// What happened from a revision on, in order.
    pub(super) fn revised_from(&self, revision: Revision) -> impl Iterator<Item = Revised<'_>> {
        let first = self.batches.partition_point(|(batch, _)| batch.revision_after < revision);
        self.batches.range(first..).flat_map(move |(batch, _)| revised_from(batch, revision))
    }
}

/// What a batch did from a revision on, in order.
pub(super) fn revised_from(batch: &Batch, revision: Revision) -> impl Iterator<Item = Revised<'_>> {
    // Revisions have no gaps, so the wanted one has at least this many items before it.
    let skip = usize::try_from(revision - batch.revision_before - 1).unwrap_or(0);
    let items = batch.items.get(skip..).unwrap_or_default();
    let revised = items.iter().filter_map(|item| match item {
        Item::Effect(effect) => Some(Revised::Effect(effect)),
        Item::Deletion(deletion) => Some(Revised::Deletion(deletion)),
        Item::Control(_) => None,
    });
    revised.skip_while(move |revised| revised.revision() < revision)
}

/// What a batch that is a deletion ended.
fn deleted(batch: &Batch) -> Option<&Arc<Deleted>> {
    match batch.items.first() {
        Some(Item::Deletion(deletion)) => Some(&deletion.deleted),
        _ => None,
    }
}

fn bytes_of(batch: &Batch) -> usize {
    let changes = batch.effects().flat_map(|effect| &effect.changes);
    let records = changes.flat_map(|change| [Some(&change.record), change.previous.as_ref()]);
    let deleted = deleted(batch).map_or(0, |deleted| deleted.bytes());
    size_of::<Batch>() + deleted + records.flatten().map(bytes_of_record).sum::<usize>()
}

/// About what a record takes, in memory or on the wire.
pub(super) fn bytes_of_record(record: &Record) -> usize {
    64 + record.key().len() + record.value().len()
}
