//! One total order: effects from all cores become batches, batches become log entries.
//!
//! Revisions are taken where a request is evaluated, so effects arrive here from several cores
//! slightly out of order. The sequencer restores the order without gaps, packs what is queued
//! into one batch, and tells in order which batches are committed.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_raft::{HardState, Node};

use crate::durability::{Class, Classes, ceiling};
use crate::effect::{Batch, Control, Deletion, Effect, Item, SharedBatch};
use crate::limits;
use crate::record::Revision;

/// What the log is to hold of a batch, made ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub data: Bytes,
    /// The number under which the log has written it already.
    pub staged: Option<u64>,
}

/// A batch on its way to the log, and what the log is to hold of it.
#[derive(Debug)]
pub struct Append {
    pub batch: SharedBatch,
    /// The batch, encoded.
    pub data: Bytes,
    /// See [`Payload::staged`].
    pub staged: Option<u64>,
    /// Raft's promises, when they changed: durable before or with the entry.
    pub hard_state: Option<HardState>,
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

    /// Time passes for raft; may start its term.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// Stands for election at once, for a member that is alone.
    pub fn campaign(&mut self) {
        self.node.campaign();
    }

    /// Whether the log can take one more batch, if `max` may wait for it to be durable.
    pub fn may_append(&self, max: usize) -> bool {
        let waiting = self.in_flight.len() - self.committed;
        waiting < max && self.in_flight.len() < max.max(limits::RELAXED_IN_FLIGHT)
    }

    /// Batches that are not durable.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
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

    /// Whether there is something that [`pack`](Sequencer::pack) could put in a batch.
    pub fn has_work(&self) -> bool {
        matches!(self.effects.front(), Some(Some(_)))
            || self.ceiling_closes
            || self.controls.front().is_some_and(|control| control.after < self.next_revision)
    }

    /// Everything queued without a gap, as the next batch, up to a limit of bytes.
    pub fn pack(&mut self) -> Option<Append> {
        if let Some(append) = self.term_start() {
            return Some(append);
        }
        let revision_before = self.next_revision - 1;
        if let Some(Some(Queued::Deletion(..))) = self.effects.front()
            && let Some(Some(Queued::Deletion(deletion, payload))) = self.effects.pop_front()
        {
            self.next_revision += 1;
            let items = vec![Item::Deletion(deletion)];
            let contents = Contents { items, ..Contents::default() };
            return Some(self.propose(revision_before, contents, Some(payload)));
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
        let contents = Contents { items, tickets, class: strictest, ceiling };
        Some(self.propose(revision_before, contents, None))
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

    fn propose(
        &mut self,
        revision_before: Revision,
        contents: Contents,
        payload: Option<Payload>,
    ) -> Append {
        let Contents { items, tickets, class, ceiling } = contents;
        let batch = Arc::new(Batch {
            index: self.node.last_index() + 1,
            term: self.node.term(),
            revision_before,
            revision_after: self.next_revision - 1,
            items,
        });
        let encoded = || Payload { data: (self.encode)(&batch), staged: None };
        let Payload { data, staged } = payload.unwrap_or_else(encoded);
        let index = self.node.propose(data).expect("a sole member leads");
        assert_eq!(index, batch.index);
        let weight = match class {
            // These are committed when they are durable.
            Class::Fsync => 0,
            _ => batch.effects().map(Effect::bytes_with_previous).sum(),
        };
        let in_flight = Arc::clone(&batch);
        self.in_flight.push_back(InFlight { batch: in_flight, tickets, class, weight, ceiling });
        Append { staged, ..self.append(batch) }
    }

    /// The empty entry that a leader begins its term with, when raft has just made one.
    fn term_start(&mut self) -> Option<Append> {
        let newest = self.in_flight.back().map(|in_flight| in_flight.batch.index);
        let last = self.node.last_index();
        if self.node.leader() == 0 || newest == Some(last) || self.node.commit() == last {
            return None;
        }
        let revision = self.next_revision - 1;
        let skipped_after = self.skipped_after.take();
        let items = match skipped_after {
            None => Vec::new(),
            // Who has seen what is skipped has to read everything anew.
            Some(_) => [ceiling(revision), Control::Compact { revision }].map(Item::Control).into(),
        };
        let tickets = vec![NOBODY; items.len()];
        let batch = Arc::new(Batch {
            index: last,
            term: self.node.term(),
            revision_before: skipped_after.unwrap_or(revision),
            revision_after: revision,
            items,
        });
        let (in_flight, class) = (Arc::clone(&batch), Class::Fsync);
        let (weight, ceiling) = (0, None);
        self.in_flight.push_back(InFlight { batch: in_flight, tickets, class, weight, ceiling });
        Some(self.append(batch))
    }

    fn append(&mut self, batch: SharedBatch) -> Append {
        let ready = self.node.ready();
        let [entry] = &ready.entries[..] else { panic!("one entry is proposed at a time") };
        assert_eq!((entry.index, entry.term), (batch.index, batch.term));
        let data = if entry.data.is_empty() { (self.encode)(&batch) } else { entry.data.clone() };
        Append { batch, data, staged: None, hard_state: ready.hard_state }
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

    /// The log is durable up to `index`.
    pub fn persisted(&mut self, index: u64) -> Progress {
        self.durable_index = self.durable_index.max(index);
        self.submitted_index = self.submitted_index.max(index);
        let committed = self.commit();
        let mut durable_bytes = 0;
        while self.in_flight.front().is_some_and(|first| first.batch.index <= self.durable_index) {
            let first = self.in_flight.pop_front().expect("just seen");
            assert!(self.committed > 0, "what is durable is committed");
            self.committed -= 1;
            self.relaxed_bytes -= first.weight;
            durable_bytes += first.batch.effects().map(Effect::bytes).sum::<usize>();
            if first.ceiling == Some(self.ceiling_ordered) {
                self.ceiling_durable = self.ceiling_ordered;
            }
        }
        // A ceiling may be there that some waited for.
        let more = self.commit();
        Progress { committed: committed.into_iter().chain(more).collect(), durable_bytes }
    }

    /// The log's writes were handed to the kernel up to `index`.
    pub fn submitted(&mut self, index: u64) -> Progress {
        self.submitted_index = self.submitted_index.max(index);
        Progress { committed: self.commit(), durable_bytes: 0 }
    }

    /// What can be committed by now, in order.
    pub fn commit(&mut self) -> Vec<Committed> {
        let mut committed = Vec::new();
        while let Some(next) = self.in_flight.get_mut(self.committed)
            && next.may_commit(
                self.durable_index,
                self.submitted_index,
                self.ceiling_durable,
                self.relaxed_bytes,
            )
        {
            let commit = self.node.persisted(next.batch.index);
            assert!(commit >= next.batch.index, "a sole member is the quorum");
            self.relaxed_bytes += next.weight;
            self.committed += 1;
            let tickets = std::mem::take(&mut next.tickets);
            committed.push(Committed { batch: Arc::clone(&next.batch), tickets });
        }
        committed
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

impl InFlight {
    /// Whether the batch, all before which are committed, may be shown.
    fn may_commit(
        &self,
        durable: u64,
        submitted: u64,
        ceiling: Revision,
        relaxed_bytes: usize,
    ) -> bool {
        let index = self.batch.index;
        let room = relaxed_bytes + self.weight <= limits::RELAXED_BYTES;
        let fits = self.batch.revision_after <= ceiling && room;
        index <= durable
            || match self.class {
                Class::Fsync => false,
                Class::Replicated => fits && index <= submitted,
                Class::Memory => fits,
            }
    }
}
