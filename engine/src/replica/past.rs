//! Ranges at older revisions in transactions: read one after the other where the transaction was
//! asked for, before it goes to those who evaluate it. Nothing can change what they give.

use std::collections::VecDeque;

use super::{Output, Replica};
use crate::error::StoreError;
use crate::message::Token;
use crate::mvcc::{fill_in_past, past_ranges};
use crate::request::{RangeRequest, RangeResponse, Transaction};

/// A transaction that waits for its ranges at older revisions.
#[derive(Debug)]
pub(super) struct PastReads {
    transaction: Transaction,
    /// Not yet begun, in order.
    waiting: VecDeque<RangeRequest>,
    reading: bool,
    /// The read is just beginning: whoever began it goes on, if it is over at once.
    beginning: bool,
    outcomes: Vec<Result<RangeResponse, StoreError>>,
}

impl Replica {
    pub(super) fn transact(&mut self, token: Token, transaction: Transaction, out: &mut Output) {
        let waiting: VecDeque<_> = past_ranges(&transaction).into_iter().cloned().collect();
        if waiting.is_empty() {
            return self.transact_now(token, transaction, out);
        }
        let past = PastReads {
            transaction,
            waiting,
            reading: false,
            beginning: false,
            outcomes: Vec::new(),
        };
        self.past.insert(token, past);
        self.next_past(token, out);
    }

    fn next_past(&mut self, token: Token, out: &mut Output) {
        // A request that nobody waits for any more is gone.
        while let Some(past) = self.past.get_mut(&token) {
            if past.reading {
                return;
            }
            let Some(request) = past.waiting.pop_front() else { break };
            (past.reading, past.beginning) = (true, true);
            self.range((token, 1), request, true, out);
            if let Some(past) = self.past.get_mut(&token) {
                past.beginning = false;
            }
        }
        let Some(mut past) = self.past.remove(&token) else { return };
        fill_in_past(&mut past.transaction, &mut past.outcomes.into_iter());
        self.transact_now(token, past.transaction, out);
    }

    /// One of a transaction's ranges was read. Whether it could be is told when it is evaluated:
    /// the branch that it is in may not be taken.
    pub(super) fn past_read(
        &mut self,
        token: Token,
        outcome: Result<RangeResponse, StoreError>,
        out: &mut Output,
    ) {
        let Some(past) = self.past.get_mut(&token) else { return };
        assert!(std::mem::take(&mut past.reading), "one range is read at a time");
        past.outcomes.push(outcome);
        if !past.beginning {
            self.next_past(token, out);
        }
    }
}
