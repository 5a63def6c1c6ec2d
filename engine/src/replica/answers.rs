//! From a transaction to its answer: evaluation, and what has to be so before the answer is shown.

use std::sync::Arc;

use super::confirming::Awaiting;
use super::{Output, Replica, Ticket, owner};
use crate::error::StoreError;
use crate::limits;
use crate::message::{Answer, Due, Message, Outcome, Token};
use crate::record::Revision;
use crate::request::Transaction;
use crate::shard::{self, Done};

/// An answer that depends on what is not committed.
#[derive(Debug)]
pub(super) struct Hidden {
    token: Token,
    outcome: Outcome,
    /// It waits for more than that.
    confirm: bool,
}

impl Replica {
    pub(super) fn evaluate(&mut self, ticket: Ticket, transaction: Transaction, out: &mut Output) {
        let overloaded = self.shared.is_overloaded() && owner::writes(&transaction);
        if overloaded || self.hidden_answers >= limits::HIDDEN_ANSWERS {
            let refused = shard::Outcome::Refused(StoreError::TooManyRequests);
            return self.finish(ticket, refused, out);
        }
        if self.shared.is_corrupt() && owner::writes(&transaction) {
            return self.finish(ticket, shard::Outcome::Refused(StoreError::Corrupt), out);
        }
        if self.shared.no_space() && owner::adds(&transaction) {
            return self.finish(ticket, shard::Outcome::Refused(StoreError::NoSpace), out);
        }
        let committed = self.shared.committed_revision();
        let shared = Arc::clone(&self.shared);
        let mut take = || shared.take_revision();
        let outcome = self.shard.evaluate(ticket.pack(), transaction, committed, &mut take);
        self.finish(ticket, outcome, out);
    }

    pub(super) fn finish(&mut self, ticket: Ticket, outcome: shard::Outcome, out: &mut Output) {
        match outcome {
            shard::Outcome::Done(done) => self.finish_done(ticket, done, out),
            shard::Outcome::Deferred => {}
            shard::Outcome::Refused(error) => self.refuse(ticket, error, out),
            shard::Outcome::UnknownLease { lease, transaction, visible_at } => {
                let committed = self.shared.committed_index();
                if self.applied_index < committed
                    && self.unknown_lease.len() >= limits::UNKNOWN_LEASE_REQUESTS
                {
                    self.refuse(ticket, StoreError::TooManyRequests, out);
                } else if self.applied_index < committed {
                    self.unknown_lease.push_back((committed, ticket, transaction));
                } else {
                    let result = Err(StoreError::LeaseNotFound(lease));
                    let done = Done { result, effect: None, visible_at };
                    self.finish_done(ticket, done, out);
                }
            }
        }
    }

    /// Answers without having looked at anything.
    pub(super) fn refuse(&mut self, ticket: Ticket, error: StoreError, out: &mut Output) {
        self.reply(ticket, Err(error), Due::default(), out);
    }

    fn finish_done(&mut self, ticket: Ticket, done: Done, out: &mut Output) {
        let Done { result, effect, visible_at } = done;
        // The commit of an effect proves that this member led when it was made; without one, nothing
        // does.
        let confirm = effect.is_none() && self.shared.is_clustered();
        if let Some(effect) = effect {
            self.note_usage();
            self.shared.add_uncommitted(effect.bytes());
            self.send(0, Message::Effect { effect, reign: self.reign }, out);
        }
        let due = Due { visible_at, reign: self.reign, confirm };
        self.reply(ticket, result.map(Answer::Transact), due, out);
    }

    fn reply(&mut self, ticket: Ticket, outcome: Outcome, due: Due, out: &mut Output) {
        if ticket.core == self.core {
            self.settle(ticket.token, outcome, due, out);
        } else {
            let message = Message::Evaluated { token: ticket.token, outcome, due };
            self.send(ticket.core, message, out);
        }
    }

    /// Gives an answer out once everything that it depends on is committed.
    pub(super) fn settle(&mut self, token: Token, outcome: Outcome, due: Due, out: &mut Output) {
        let Due { visible_at, reign, confirm } = due;
        if reign != self.reign && (visible_at > 0 || confirm) {
            // What it depends on may be undone.
            return self.answer(token, Err(StoreError::LeaderChanged), out);
        }
        if visible_at > self.shared.committed_revision() {
            let hidden = Hidden { token, outcome, confirm };
            self.hidden.entry(visible_at).or_default().push(hidden);
            self.hidden_answers += 1;
            self.show_interest();
            // Committed meanwhile, before the interest was known? Then nobody would wake us.
            if visible_at > self.shared.committed_revision() {
                return;
            }
            self.reveal(out);
            return;
        }
        self.show(token, outcome, confirm, out);
    }

    fn show(&mut self, token: Token, outcome: Outcome, confirm: bool, out: &mut Output) {
        if confirm {
            self.await_confirmation(Awaiting::Answer { token, outcome }, out);
        } else {
            self.answer(token, outcome, out);
        }
    }

    /// Nothing stands between an answer and who asked.
    pub(super) fn answer(&mut self, token: Token, outcome: Outcome, out: &mut Output) {
        if token & Ticket::REMOTE == 0 {
            out.answers.push((token, outcome));
        } else if let Some(member) = &mut self.member {
            member.answer_peer(token, outcome, self.shared.committed_index(), out);
        }
    }

    pub(super) fn reveal(&mut self, out: &mut Output) {
        self.reveal_up_to(self.shared.committed_revision(), out);
    }

    fn reveal_up_to(&mut self, committed: Revision, out: &mut Output) {
        while let Some(first) = self.hidden.first_entry() {
            if *first.key() > committed {
                break;
            }
            let answers = first.remove();
            self.hidden_answers -= answers.len();
            for Hidden { token, outcome, confirm } in answers {
                self.show(token, outcome, confirm, out);
            }
        }
    }

    /// What is not committed is undone: so is whatever depends on it.
    pub(super) fn fail_hidden(&mut self, out: &mut Output) {
        self.reveal(out);
        self.hidden_answers = 0;
        for hidden in std::mem::take(&mut self.hidden).into_values().flatten() {
            self.answer(hidden.token, Err(StoreError::LeaderChanged), out);
        }
    }
}
