//! A member that has others: entries are committed when a quorum holds them.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use mainstay_raft::{Body, Entry, EntryKind, Message, Node, Ready, RepairAnswer};

use super::tail::{Own, Tail};
use super::write::{LogEntry, LogWrite, revisions};
use super::{Contents, Next, Payload, Sequencer};
use crate::durability::Classes;
use crate::effect::{Batch, Effect, Item};
use crate::record::Revision;

impl Sequencer {
    /// Whether this member has others, or had since the start.
    pub fn is_clustered(&self) -> bool {
        self.tail.is_some()
    }

    /// Goes on with others: what is in the log behind `index` is `pending`, of which `damaged` have no
    /// payload.
    pub(crate) fn with_others(
        mut self,
        index: u64,
        revision: Revision,
        pending: Vec<LogEntry>,
        damaged: &[u64],
    ) -> Sequencer {
        self.tail = Some(Tail::new(index, revision, pending, damaged));
        self
    }

    /// Prepares to go on with others: nothing is appended until everything is durable.
    pub(crate) fn hold(&mut self) {
        self.held = true;
        self.classes = Classes::default();
        self.close_ceiling();
    }

    /// Whether everything is durable, and nothing may be lost that was shown.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && !self.has_open_ceiling()
    }

    /// Is alone no more.
    pub(crate) fn go_on_with_others(&mut self) {
        assert!(self.held && self.is_settled() && self.tail.is_none());
        let (index, revision) = (self.node.last_index(), self.next_revision - 1);
        self.tail = Some(Tail::new(index, revision, Vec::new(), &[]));
        self.held = false;
    }

    pub(crate) fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }

    pub(crate) fn tail(&self) -> &Tail {
        self.tail.as_ref().expect("a member that has others")
    }

    pub(crate) fn tail_mut(&mut self) -> &mut Tail {
        self.tail.as_mut().expect("a member that has others")
    }

    /// Whether a message holds entries that make sense to the store.
    pub(crate) fn makes_sense(message: &Message) -> bool {
        let sensible = |entry: &Entry| {
            entry.kind != EntryKind::Normal
                || entry.data.is_empty()
                || revisions(&entry.data).is_some()
        };
        match &message.body {
            Body::Append { entries, .. } => entries.iter().all(sensible),
            Body::RepairResponse { answer: RepairAnswer::Intact(entry), .. } => sensible(entry),
            _ => true,
        }
    }

    /// Begins to evaluate behind everything in the log, all of which is applied.
    pub(crate) fn begin_reign(&mut self) {
        let tail = self.tail();
        assert_eq!(tail.applied_index(), tail.last_index(), "all is applied");
        self.next_revision = tail.last_revision() + 1;
        assert!(self.effects.is_empty() && self.controls.is_empty());
    }

    /// Forgets what is queued: this member leads no more.
    pub(crate) fn end_reign(&mut self) {
        self.effects.clear();
        self.controls.clear();
        self.tail_mut().disown();
    }

    /// Everything queued without a gap becomes the next entry. Gives whether there was something.
    pub(crate) fn propose_next(&mut self) -> bool {
        if self.node.may_propose().is_err() {
            return false;
        }
        let revision_before = self.next_revision - 1;
        let Some((contents, payload)) = self.take_batch() else { return false };
        let Contents { items, tickets, .. } = contents;
        let batch = Arc::new(Batch {
            index: self.node.last_index() + 1,
            term: self.node.term(),
            revision_before,
            revision_after: self.next_revision - 1,
            items,
        });
        let encoded = || Payload { data: (self.encode)(&batch), staged: None };
        let Payload { data, staged } = payload.unwrap_or_else(encoded);
        let length = data.len();
        let data = add_trailer(data, batch.revision_before, batch.revision_after);
        let entry = LogEntry {
            index: batch.index,
            term: batch.term,
            kind: EntryKind::Normal,
            revision_before: batch.revision_before,
            revision_after: batch.revision_after,
            payload: data.slice(..length),
            staged,
        };
        let index = self.node.propose(data).expect("it may propose");
        assert_eq!(index, batch.index);
        let bytes = batch.items.iter().map(bytes_of).sum();
        self.tail_mut().push(entry, Some(Own { batch, tickets, bytes }));
        true
    }

    /// What raft wants done, with what of it is for the log.
    pub(crate) fn take_ready(&mut self) -> (Option<LogWrite>, Ready) {
        let mut ready = self.node.ready();
        let tail = self.tail.as_mut().expect("a member that has others");
        let entries = std::mem::take(&mut ready.entries);
        let entries: Vec<LogEntry> = entries.iter().map(|entry| tail.append(entry)).collect();
        if ready.write == 0 {
            return (None, ready);
        }
        tail.write(ready.write);
        let repairs = std::mem::take(&mut ready.repairs);
        let write = LogWrite {
            number: ready.write,
            hard_state: ready.hard_state.take(),
            entries,
            repairs: repairs.iter().map(|entry| repair(tail, entry)).collect(),
            snapshot_parts: std::mem::take(&mut ready.snapshot_parts),
        };
        (Some(write), ready)
    }

    /// The next batch or entry to be applied, up to `commit`.
    pub(crate) fn take_committed(&mut self, commit: u64) -> Option<Next> {
        self.tail_mut().take(commit)
    }
}

/// An intact copy, as the log has it. The store's revision at an entry without a batch is known to
/// the log alone, if the entry is applied here.
fn repair(tail: &mut Tail, entry: &Entry) -> LogEntry {
    if let Some(mended) = tail.mend(entry) {
        return mended;
    }
    let before = revisions(&entry.data)
        .filter(|_| entry.kind == EntryKind::Normal)
        .map(|(before, _)| before)
        .or_else(|| tail.get(entry.index).map(|known| known.revision_before));
    let fits = LogEntry::of(entry, before.unwrap_or(0));
    fits.unwrap_or_else(|| panic!("the copy of entry {} makes no sense", entry.index))
}

/// About what of it counts as uncommitted.
fn bytes_of(item: &Item) -> usize {
    match item {
        Item::Effect(effect) => Effect::bytes(effect),
        Item::Deletion(_) | Item::Control(_) => 0,
    }
}

/// [`with_trailer`](super::write::with_trailer), in place if nobody else has the payload.
fn add_trailer(payload: Bytes, before: Revision, after: Revision) -> Bytes {
    match payload.try_into_mut() {
        Ok(mut data) => {
            data.put_i64_le(before);
            data.put_i64_le(after);
            data.freeze()
        }
        Err(payload) => super::write::with_trailer(&payload, before, after),
    }
}
