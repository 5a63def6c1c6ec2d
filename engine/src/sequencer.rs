//! One total order: effects from all cores become batches, batches become log entries.
//!
//! Revisions are taken where a request is evaluated, so effects arrive here from several cores
//! slightly out of order. The sequencer restores the order without gaps, packs what is queued
//! into one batch, and tells in order which batches are committed.

mod alone;
mod clustered;
mod tail;
#[cfg(test)]
mod tests;
mod write;

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_raft::Node;

use crate::durability::{Class, Classes, ceiling};
use crate::effect::{Batch, Control, Deletion, Effect, Item, SharedBatch};
use crate::limits;
use crate::record::Revision;

use tail::Tail;
pub(crate) use tail::{Next, Own};
pub use write::{LogEntry, LogWrite};

/// What the log is to hold of a batch, made ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub data: Bytes,
    /// The number under which the log has written it already.
    pub staged: Option<u64>,
}

/// A batch on its way to the log.
#[derive(Debug)]
pub struct Append {
    pub batch: SharedBatch,
    pub write: LogWrite,
}

/// A control that waits for its place, and who wants to know of its commit.
#[derive(Debug)]
struct QueuedControl {
    control: Control,
    /// Comes after the effect of this revision, in the same batch if it can.
    after: Revision,
    ticket: u64,
}

#[derive(Debug)]
struct InFlight {
    batch: SharedBatch,
    /// Raft's number of the write that it is part of.
    write: u64,
    tickets: Vec<u64>,
    /// What its commit waits for.
    class: Class,
    /// Bytes that it keeps in memory until it is durable.
    weight: usize,
    /// The ceiling that it sets.
    ceiling: Option<Revision>,
}

/// The ticket of controls that nobody waits for.
pub const NOBODY: u64 = 0;

/// What the log's progress led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// In order.
    pub committed: Vec<Committed>,
    /// Bytes of effects that have become durable.
    pub durable_bytes: usize,
}

/// What became committed.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    pub batch: SharedBatch,
    /// The tickets of the batch's controls, in order.
    pub tickets: Vec<u64>,
}

/// What took a revision, in its place.
#[derive(Debug)]
enum Queued {
    Effect(Effect),
    /// With what the log is to hold of it.
    Deletion(Deletion, Payload),
}

/// The order of one store. Lives on one core.
#[derive(Debug)]
pub struct Sequencer {
    node: Node,
    /// What the log is to hold of a batch.
    encode: fn(&Batch) -> Bytes,
    /// The first revision that is not in a batch yet.
    next_revision: Revision,
    /// Effects from `next_revision` on; `None` where one is still on its way.
    effects: VecDeque<Option<Queued>>,
    controls: VecDeque<QueuedControl>,
    /// Appended, not yet durable; oldest first.
    in_flight: VecDeque<InFlight>,
    /// So many of these are committed already.
    committed: usize,
    /// Bytes that those hold and replace.
    relaxed_bytes: usize,
    classes: Classes,
    /// The log is durable up to this index.
    durable_index: u64,
    /// Its writes were handed to the kernel up to this index.
    submitted_index: u64,
    /// The newest ceiling that is on its way or durable.
    ceiling_ordered: Revision,
    /// Relaxed batches may be shown up to here.
    ceiling_durable: Revision,
    /// The revision before those that are skipped by the first entry of the term.
    skipped_after: Option<Revision>,
    /// A lower ceiling is to be logged: nothing relaxed was written for a while.
    ceiling_closes: bool,
    relaxed_batches: u64,
    /// Nothing is appended: a change waits for everything to be durable.
    held: bool,
    /// The entries that are not applied, of a member that has others, or had since the start.
    tail: Option<Tail>,
}

impl Sequencer {
    /// Goes on behind `revision`, the newest that the log holds.
    pub fn new(node: Node, revision: Revision, encode: fn(&Batch) -> Bytes) -> Sequencer {
        Sequencer {
            node,
            encode,
            next_revision: revision + 1,
            effects: VecDeque::new(),
            controls: VecDeque::new(),
            in_flight: VecDeque::new(),
            committed: 0,
            relaxed_bytes: 0,
            classes: Classes::default(),
            durable_index: 0,
            submitted_index: 0,
            ceiling_ordered: 0,
            ceiling_durable: 0,
            skipped_after: None,
            ceiling_closes: false,
            relaxed_batches: 0,
            held: false,
            tail: None,
        }
    }

    /// Answers writes as early as their keys' classes allow.
    pub fn set_classes(&mut self, classes: Classes) {
        self.classes = classes;
    }

    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// Revisions up to this one may have been shown by a process that crashed, and are not in the
    /// log: the term begins with an entry that skips them. To be called before anything else.
    pub fn skip_to(&mut self, revision: Revision) {
        assert!(self.effects.is_empty() && revision >= self.next_revision);
        self.skipped_after = Some(self.next_revision - 1);
        self.next_revision = revision + 1;
    }

    /// Whether relaxed writes may have been shown that the log does not hold durably yet, or could
    /// be without another ceiling.
    pub fn has_open_ceiling(&self) -> bool {
        self.ceiling_ordered >= self.next_revision
    }

    /// How many relaxed batches there have been.
    pub fn relaxed_batches(&self) -> u64 {
        self.relaxed_batches
    }

    /// Takes the ceiling back: the next batch says that nothing was shown beyond it.
    pub fn close_ceiling(&mut self) {
        self.ceiling_closes = self.has_open_ceiling();
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Stands for election at once, for a member that is alone.
    pub fn campaign(&mut self) {
        self.node.campaign();
    }

    /// Whether the log can take one more batch, if `max` may wait for it to be durable.
    pub fn may_append(&self, max: usize) -> bool {
        if let Some(tail) = &self.tail {
            return tail.in_flight() < max;
        }
        let waiting = self.in_flight.len() - self.committed;
        waiting < max && self.in_flight.len() < max.max(limits::RELAXED_IN_FLIGHT)
    }

    /// Batches that are not durable, or not committed.
    pub fn in_flight(&self) -> usize {
        self.tail.as_ref().map_or(self.in_flight.len(), Tail::in_flight)
    }

    /// An effect takes its place.
    pub fn effect(&mut self, effect: Effect) {
        self.queue(effect.revision, Queued::Effect(effect));
    }

    /// A deletion takes its place, with its [payload](crate::log::encode::encode_deletion).
    pub fn deletion(&mut self, deletion: Deletion, payload: Payload) {
        self.queue(deletion.revision, Queued::Deletion(deletion, payload));
    }

    fn queue(&mut self, revision: Revision, queued: Queued) {
        assert!(revision >= self.next_revision, "a revision is used once");
        let place = usize::try_from(revision - self.next_revision).expect("not negative");
        // Revisions are taken under a limit, so this window is bounded by it.
        assert!(place <= 2 * limits::UNCOMMITTED_REVISIONS as usize);
        if self.effects.len() <= place {
            self.effects.resize_with(place + 1, || None);
        }
        let slot = &mut self.effects[place];
        assert!(slot.is_none(), "a revision is used once");
        *slot = Some(queued);
    }

    /// A control takes its place: behind the effect of revision `after` (0: anywhere).
    pub fn control(&mut self, control: Control, after: Revision, ticket: u64) {
        self.controls.push_back(QueuedControl { control, after, ticket });
    }

    /// Whether there is something that could be put in a batch.
    pub fn has_work(&self) -> bool {
        if self.held {
            return self.ceiling_closes;
        }
        matches!(self.effects.front(), Some(Some(_)))
            || self.ceiling_closes
            || self.controls.front().is_some_and(|control| control.after < self.next_revision)
    }

    /// Everything queued without a gap, as the next batch, up to a limit of bytes. Of a member that
    /// is alone.
    pub fn pack(&mut self) -> Option<Append> {
        if let Some(append) = self.term_start() {
            return Some(append);
        }
        let revision_before = self.next_revision - 1;
        let (contents, payload) = self.take_batch()?;
        Some(self.append_batch(revision_before, contents, payload))
    }

    /// What the next batch is made of.
    fn take_batch(&mut self) -> Option<(Contents, Option<Payload>)> {
        if self.held && !self.ceiling_closes {
            return None;
        }
        if let Some(Some(Queued::Deletion(..))) = self.effects.front()
            && let Some(Some(Queued::Deletion(deletion, payload))) = self.effects.pop_front()
        {
            self.next_revision += 1;
            let items = vec![Item::Deletion(deletion)];
            return Some((Contents { items, ..Contents::default() }, Some(payload)));
        }
        let (mut items, mut tickets) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        self.take_controls(&mut items, &mut tickets, &mut bytes);
        // Without anything to wait for, what is relaxed goes ahead of what is not.
        let relaxed_alone = items.is_empty() && self.in_flight.len() == self.committed;
        let mut strictest = if items.is_empty() { Class::Memory } else { Class::Fsync };
        while let Some(Some(Queued::Effect(_))) = self.effects.front()
            && let Some(Some(Queued::Effect(effect))) = self.effects.pop_front()
        {
            assert_eq!(effect.revision, self.next_revision);
            let of_effect = self.classes.of_effect(&effect);
            if relaxed_alone && of_effect > strictest && !items.is_empty() {
                self.effects.push_front(Some(Queued::Effect(effect)));
                break;
            }
            strictest = strictest.max(of_effect);
            self.next_revision += 1;
            bytes += effect.bytes();
            items.push(Item::Effect(effect));
            let effects = items.len();
            self.take_controls(&mut items, &mut tickets, &mut bytes);
            if items.len() > effects {
                strictest = Class::Fsync;
            }
            if bytes >= limits::ENTRY_BYTES {
                break;
            }
        }
        let ceiling = self.next_ceiling(!items.is_empty() && strictest < Class::Fsync);
        if let Some(revision) = ceiling {
            items.push(Item::Control(self::ceiling(revision)));
            tickets.push(NOBODY);
            strictest = Class::Fsync;
        }
        if items.is_empty() {
            return None;
        }
        Some((Contents { items, tickets, class: strictest, ceiling }, None))
    }

    /// The ceiling that the present batch has to set, if any.
    fn next_ceiling(&mut self, relaxed: bool) -> Option<Revision> {
        let newest = self.next_revision - 1;
        if relaxed {
            self.ceiling_closes = false;
            self.relaxed_batches += 1;
            if newest + limits::CEILING_RESERVE / 2 > self.ceiling_ordered {
                self.ceiling_ordered = newest + limits::CEILING_RESERVE;
                return Some(self.ceiling_ordered);
            }
            return None;
        }
        if std::mem::take(&mut self.ceiling_closes) && self.has_open_ceiling() {
            self.ceiling_ordered = newest;
            // From this moment on nothing beyond it is shown.
            self.ceiling_durable = self.ceiling_durable.min(newest);
            return Some(newest);
        }
        None
    }

    fn take_controls(&mut self, items: &mut Vec<Item>, tickets: &mut Vec<u64>, bytes: &mut usize) {
        while *bytes < limits::ENTRY_BYTES
            && self.controls.front().is_some_and(|control| control.after < self.next_revision)
        {
            let queued = self.controls.pop_front().expect("just seen");
            *bytes += queued.control.bytes();
            items.push(Item::Control(queued.control));
            tickets.push(queued.ticket);
        }
    }
}

/// What a batch is made of.
struct Contents {
    items: Vec<Item>,
    tickets: Vec<u64>,
    class: Class,
    ceiling: Option<Revision>,
}

impl Default for Contents {
    fn default() -> Contents {
        Contents { items: Vec::new(), tickets: Vec::new(), class: Class::Fsync, ceiling: None }
    }
}
