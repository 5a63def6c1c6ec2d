//! A member that is alone: what its own log holds is committed, or even what is on its way there.

use std::sync::Arc;

use mainstay_raft::EntryKind;

use super::write::{LogEntry, LogWrite};
use super::{Append, Committed, Contents, InFlight, NOBODY, Payload, Progress, Sequencer};
use crate::durability::{Class, ceiling};
use crate::effect::{Batch, Control, Effect, Item, SharedBatch};
use crate::limits;
use crate::record::Revision;

impl Sequencer {
    /// The next batch becomes an entry.
    pub(super) fn append_batch(
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
        let append = self.append(batch, staged);
        let (batch, write) = (Arc::clone(&append.batch), append.write.number);
        self.in_flight.push_back(InFlight { batch, write, tickets, class, weight, ceiling });
        append
    }

    /// The empty entry that a leader begins its term with, when raft has just made one.
    pub(super) fn term_start(&mut self) -> Option<Append> {
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
        let append = self.append(batch, None);
        let (batch, write) = (Arc::clone(&append.batch), append.write.number);
        let (class, weight, ceiling) = (Class::Fsync, 0, None);
        self.in_flight.push_back(InFlight { batch, write, tickets, class, weight, ceiling });
        Some(append)
    }

    fn append(&mut self, batch: SharedBatch, staged: Option<u64>) -> Append {
        let ready = self.node.ready();
        let [entry] = &ready.entries[..] else { panic!("one entry is proposed at a time") };
        assert_eq!((entry.index, entry.term), (batch.index, batch.term));
        let payload =
            if entry.data.is_empty() { (self.encode)(&batch) } else { entry.data.clone() };
        let entry = LogEntry {
            index: batch.index,
            term: batch.term,
            kind: EntryKind::Normal,
            revision_before: batch.revision_before,
            revision_after: batch.revision_after,
            payload,
            staged,
        };
        let write = LogWrite {
            number: ready.write,
            hard_state: ready.hard_state,
            entries: vec![entry],
            ..LogWrite::default()
        };
        Append { batch, write }
    }

    /// The newest entry that is in the log with the write of this number, for
    /// [`persisted`](Sequencer::persisted).
    pub fn index_of_write(&self, number: u64) -> Option<u64> {
        let written = self.in_flight.iter().take_while(|in_flight| in_flight.write <= number);
        written.last().map(|in_flight| in_flight.batch.index)
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
