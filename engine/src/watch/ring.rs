//! Recent committed batches, bounded by bytes.

use std::collections::VecDeque;

use crate::effect::{Batch, Effect, Item, SharedBatch};
use crate::record::{Record, Revision};

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
    pub(super) fn push(&mut self, batch: SharedBatch) {
        if batch.revision_before == batch.revision_after {
            return;
        }
        let bytes = bytes_of(&batch);
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        while self.bytes > self.max_bytes && self.batches.len() > 1 {
            let Some((_, bytes)) = self.batches.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    /// The revision before the oldest batch, if there is one.
    pub(super) fn begins_after(&self) -> Option<Revision> {
        self.batches.front().map(|(batch, _)| batch.revision_before)
    }

    /// Whether every revision from this one on is here, up to the newest.
    pub(super) fn reaches_back_to(&self, revision: Revision) -> bool {
        self.batches.front().is_some_and(|(batch, _)| batch.revision_before < revision)
    }

    /// The effects from a revision on, in order.
    pub(super) fn effects_from(&self, revision: Revision) -> impl Iterator<Item = &Effect> {
        let first = self.batches.partition_point(|(batch, _)| batch.revision_after < revision);
        self.batches.range(first..).flat_map(move |(batch, _)| effects_from(batch, revision))
    }
}

/// A batch's effects from a revision on, in order.
pub(super) fn effects_from(batch: &Batch, revision: Revision) -> impl Iterator<Item = &Effect> {
    // Revisions have no gaps, so the wanted one has at least this many items before it.
    let skip = usize::try_from(revision - batch.revision_before - 1).unwrap_or(0);
    let items = batch.items.get(skip..).unwrap_or_default();
    let effects = items.iter().filter_map(|item| match item {
        Item::Effect(effect) => Some(effect),
        Item::Control(_) => None,
    });
    effects.skip_while(move |effect| effect.revision < revision)
}

fn bytes_of(batch: &Batch) -> usize {
    let changes = batch.effects().flat_map(|effect| &effect.changes);
    let records = changes.flat_map(|change| [Some(&change.record), change.previous.as_ref()]);
    size_of::<Batch>() + records.flatten().map(bytes_of_record).sum::<usize>()
}

/// About what a record takes, in memory or on the wire.
pub(super) fn bytes_of_record(record: &Record) -> usize {
    64 + record.key().len() + record.value().len()
}
