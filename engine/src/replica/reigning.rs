//! Core 0's part in beginning and ceasing to lead.

use mainstay_raft::Message as RaftMessage;

use super::clustering::Phase;
use super::{Mail, Member, Output, Ticket, reply};
use crate::error::StoreError;
use crate::message::{Due, Message, Outcome, Reign, Token};
use crate::peer::PeerMessage;
use crate::sequencer::Sequencer;
use crate::shared::Shared;

impl Member {
    /// Evaluates from now on, behind everything in the log.
    pub(super) fn take_lead(&mut self, now_ms: u64, shared: &Shared) -> Reign {
        assert_eq!(self.cluster.phase, Phase::Following);
        self.sequencer.begin_reign();
        // Nobody could keep leases alive for a while: as in etcd.
        self.leases.restart(now_ms, self.cluster.rules.election_ms);
        self.compact_asked = self.compact_asked.max(shared.compacted_revision());
        let term = self.sequencer.node().term();
        self.cluster.phase = Phase::Leading { term };
        self.cluster.reign += 1;
        self.cluster.reign
    }

    /// Gives up all that is not committed. Who waits for it is told.
    pub(super) fn step_down(&mut self, now_ms: u64, mail: &mut Mail<'_>) -> Reign {
        self.sequencer.end_reign();
        let mut tickets = self.coordinator.abandon();
        // The compactions that wait for their end are committed, and go on.
        tickets.extend(self.pending.drain().filter_map(|(_, (pending, _))| pending.into_ticket()));
        tickets.extend(self.cluster.reconfiguring.abandon());
        for ticket in tickets {
            reply(ticket, Err(StoreError::LeaderChanged), mail);
        }
        self.pending_bytes = 0;
        self.revoking = 0;
        self.ordered_documents.clear();
        self.leases.restart(now_ms, 0);
        (self.expiring, self.checkpoint_slices) = (false, 0);
        self.cluster.phase = Phase::SteppingDown { missing: self.cores };
        self.cluster.reign += 1;
        self.cluster.reign
    }

    /// A core has undone what was not committed.
    pub(super) fn stepped_down(&mut self, reign: Reign, shared: &Shared) {
        assert_eq!(reign, self.cluster.reign);
        let Phase::SteppingDown { missing } = &mut self.cluster.phase else {
            unreachable!("each core steps down once")
        };
        *missing -= 1;
        if *missing == 0 {
            shared.take_back();
            self.compact_asked = shared.compacted_revision();
            self.cluster.phase = Phase::Following;
            self.cluster.stirred = true;
        }
    }

    /// What raft of another member says.
    pub(super) fn step(&mut self, from: u64, message: RaftMessage) {
        if !self.is_clustered() || !Sequencer::makes_sense(&message) {
            return;
        }
        // What it does not like it drops: the sender is broken, or not of this cluster.
        let _ = self.sequencer.node_mut().step(from, message);
        self.cluster.stirred = true;
    }

    /// Everything up to the write of this number is durable.
    pub(super) fn written(&mut self, number: u64) {
        self.sequencer.tail_mut().written(number);
        self.sequencer.node_mut().written(number);
        self.cluster.stirred = true;
    }

    /// Another member forwards a request: it is decided here under the token that this gives, if it
    /// can be.
    pub(super) fn take_remote(
        &mut self,
        from: u64,
        number: u64,
        out: &mut Output,
    ) -> Option<Token> {
        let mut refuse = |error| {
            let outcome = Err(error);
            out.peer.push((from, PeerMessage::Answer { number, outcome, index: 0 }));
            None
        };
        if !self.leads() {
            return refuse(StoreError::NotLeader);
        }
        match self.cluster.forwarding.take_remote(from, number) {
            Some(token) => Some(token),
            None => refuse(StoreError::TooManyRequests),
        }
    }

    pub(super) fn answer_peer(
        &mut self,
        token: Token,
        outcome: Outcome,
        index: u64,
        out: &mut Output,
    ) {
        self.cluster.forwarding.answer_remote(token, outcome, index, out);
    }

    /// Answers with what was found out without changing anything.
    pub(super) fn reply_confirmed(&self, ticket: Ticket, outcome: Outcome, mail: &mut Mail<'_>) {
        let due = Due { visible_at: 0, reign: self.cluster.reign, confirm: self.is_clustered() };
        mail.send(ticket.core, Message::Forwarded { token: ticket.token, outcome, due });
    }
}
