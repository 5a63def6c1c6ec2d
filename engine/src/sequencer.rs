//! One total order: effects from all cores become batches, batches become log entries.
//!
//! Revisions are taken where a request is evaluated, so effects arrive here from several cores
//! slightly out of order. The sequencer restores the order without gaps, packs what is queued
//! into one batch, and tells in order which batches are committed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_raft::{HardState, Node};

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
    /// Appended, not yet committed; oldest first.
    in_flight: VecDeque<InFlight>,
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
        }
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

    /// Batches that are being written.
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
            return Some(self.propose(revision_before, items, Vec::new(), Some(payload)));
        }
        let mut items = Vec::new();
        let mut tickets = Vec::new();
        let mut bytes = 0;
        self.take_controls(&mut items, &mut tickets, &mut bytes);
        while let Some(Some(Queued::Effect(_))) = self.effects.front()
            && let Some(Some(Queued::Effect(effect))) = self.effects.pop_front()
        {
            assert_eq!(effect.revision, self.next_revision);
            self.next_revision += 1;
            bytes += effect.bytes();
            items.push(Item::Effect(effect));
            self.take_controls(&mut items, &mut tickets, &mut bytes);
            if bytes >= limits::ENTRY_BYTES {
                break;
            }
        }
        if items.is_empty() {
            return None;
        }
        Some(self.propose(revision_before, items, tickets, None))
    }

    fn propose(
        &mut self,
        revision_before: Revision,
        items: Vec<Item>,
        tickets: Vec<u64>,
        payload: Option<Payload>,
    ) -> Append {
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
        self.in_flight.push_back(InFlight { batch: Arc::clone(&batch), tickets });
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
        let batch = Arc::new(Batch {
            index: last,
            term: self.node.term(),
            revision_before: revision,
            revision_after: revision,
            items: Vec::new(),
        });
        self.in_flight.push_back(InFlight { batch: Arc::clone(&batch), tickets: Vec::new() });
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

    /// The log is durable up to `index`. What that committed, in order.
    pub fn persisted(&mut self, index: u64) -> Vec<Committed> {
        let commit = self.node.persisted(index);
        let mut committed = Vec::new();
        while self.in_flight.front().is_some_and(|in_flight| in_flight.batch.index <= commit) {
            let in_flight = self.in_flight.pop_front().expect("just seen");
            committed.push(Committed { batch: in_flight.batch, tickets: in_flight.tickets });
        }
        committed
    }
}

#[cfg(test)]
mod tests {
    use mainstay_raft::Config;

    use super::*;
    use crate::effect::Change;
    use crate::record::Record;

    fn sequencer() -> Sequencer {
        let node = Node::new(Config {
            id: 1,
            voters: vec![1],
            hard_state: HardState::default(),
            last_index: 0,
            last_term: 0,
            ..Config::default()
        });
        let mut sequencer =
            Sequencer::new(node, 1, |batch| Bytes::from(format!("{} items", batch.items.len())));
        sequencer.campaign();
        sequencer
    }

    fn effect(revision: Revision) -> Effect {
        let record = Record::new(b"k", b"v", revision, revision, 1, 0);
        Effect { revision, changes: vec![Change { record, previous: None }] }
    }

    fn revisions(append: &Append) -> (Revision, Revision) {
        (append.batch.revision_before, append.batch.revision_after)
    }

    #[test]
    fn a_term_starts_with_an_empty_entry_that_carries_the_vote() {
        let mut sequencer = sequencer();
        let append = sequencer.pack().expect("the term's first entry");
        assert_eq!((append.batch.index, append.batch.term), (1, 1));
        assert!(append.batch.items.is_empty());
        assert_eq!(append.hard_state, Some(HardState { term: 1, vote: 1, commit: 0 }));
        assert!(sequencer.pack().is_none(), "once");
        assert_eq!(sequencer.persisted(1).len(), 1);
        assert!(sequencer.pack().is_none(), "not again when it is committed");
    }

    #[test]
    fn effects_wait_for_the_one_that_is_missing() {
        let mut sequencer = sequencer();
        sequencer.pack();
        sequencer.effect(effect(3));
        sequencer.effect(effect(4));
        assert!(!sequencer.has_work());
        assert!(sequencer.pack().is_none());
        sequencer.effect(effect(2));
        assert_eq!(revisions(&sequencer.pack().expect("no gap now")), (1, 4));
        assert_eq!(sequencer.in_flight(), 2);
    }

    #[test]
    fn a_control_comes_right_behind_the_effect_it_depends_on() {
        let mut sequencer = sequencer();
        sequencer.pack();
        sequencer.control(Control::LeaseRevoke { id: 7 }, 3, 70);
        sequencer.effect(effect(2));
        assert_eq!(sequencer.pack().expect("the effect alone").batch.items.len(), 1);
        sequencer.effect(effect(4));
        sequencer.effect(effect(3));
        let append = sequencer.pack().expect("all three");
        assert!(matches!(
            &append.batch.items[..],
            [Item::Effect(_), Item::Control(Control::LeaseRevoke { id: 7 }), Item::Effect(_)]
        ));
        let committed = sequencer.persisted(append.batch.index);
        assert_eq!(committed.last().expect("three batches").tickets, [70]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut sequencer = sequencer();
        sequencer.pack();
        let value = vec![0; limits::ENTRY_BYTES / 2];
        for revision in 2..=4 {
            let record = Record::new(b"k", &value, revision, revision, 1, 0);
            let changes = vec![Change { record, previous: None }];
            sequencer.effect(Effect { revision, changes });
        }
        assert_eq!(revisions(&sequencer.pack().expect("two")), (1, 3));
        assert_eq!(revisions(&sequencer.pack().expect("the rest")), (3, 4));
    }

    #[test]
    #[should_panic(expected = "a revision is used once")]
    fn a_revision_is_never_used_twice() {
        let mut sequencer = sequencer();
        sequencer.effect(effect(2));
        sequencer.effect(effect(2));
    }
}
