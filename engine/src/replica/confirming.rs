//! Linearizable reads where there are other members: whatever was committed anywhere when a read came
//! has to be here before it begins (raft's `read_index`). Those that come while others are being
//! confirmed go on together.

use std::collections::VecDeque;

use super::{Output, Replica};
use crate::error::StoreError;
use crate::limits;
use crate::message::{Answer, Message, Outcome, Request, Token};
use crate::request::RangeRequest;

/// Rounds of one core that are under way at once: more would only share the same messages.
const ROUNDS_MAX: usize = 4;

/// What goes on once it is confirmed that this member has everything.
#[derive(Debug)]
pub(super) enum Awaiting {
    Range {
        token: Token,
        request: Box<RangeRequest>,
    },
    /// Of a request that changed nothing: was this member still the leader?
    Answer {
        token: Token,
        outcome: Outcome,
    },
    Members {
        token: Token,
    },
    Nothing {
        token: Token,
    },
}

impl Awaiting {
    fn token(&self) -> Token {
        match self {
            Awaiting::Range { token, .. }
            | Awaiting::Answer { token, .. }
            | Awaiting::Members { token }
            | Awaiting::Nothing { token } => *token,
        }
    }
}

/// What one core has to have confirmed.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    /// For the next round.
    waiting: Vec<Awaiting>,
    /// By number, in order.
    rounds: VecDeque<(u64, Vec<Awaiting>)>,
    next_number: u64,
    /// In all.
    count: usize,
}

impl Confirming {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Replica {
    pub(super) fn await_confirmation(&mut self, awaiting: Awaiting, out: &mut Output) {
        if self.confirming.count >= limits::CONFIRMATIONS {
            return self.answer(awaiting.token(), Err(StoreError::TooManyRequests), out);
        }
        self.confirming.count += 1;
        self.confirming.waiting.push(awaiting);
        self.begin_round(out);
    }

    fn begin_round(&mut self, out: &mut Output) {
        let confirming = &mut self.confirming;
        if confirming.waiting.is_empty() || confirming.rounds.len() >= ROUNDS_MAX {
            return;
        }
        confirming.next_number += 1;
        let number = confirming.next_number;
        confirming.rounds.push_back((number, std::mem::take(&mut confirming.waiting)));
        self.send(0, Message::Confirm { number }, out);
    }

    /// This member has everything that was committed when the round began; or nobody knows.
    pub(super) fn confirmed(
        &mut self,
        number: u64,
        result: Result<(), StoreError>,
        out: &mut Output,
    ) {
        let rounds = &mut self.confirming.rounds;
        let place = rounds.iter().position(|round| round.0 == number);
        let round = place.and_then(|place| rounds.remove(place));
        let (_, round) = round.expect("each round is confirmed once");
        self.confirming.count -= round.len();
        for awaiting in round {
            match result.clone() {
                Ok(()) => self.go_on(awaiting, out),
                Err(error) => self.answer(awaiting.token(), Err(error), out),
            }
        }
        self.begin_round(out);
    }

    fn go_on(&mut self, awaiting: Awaiting, out: &mut Output) {
        match awaiting {
            Awaiting::Range { token, request } => self.range((token, 1), *request, false, out),
            Awaiting::Answer { token, outcome } => self.answer(token, outcome, out),
            Awaiting::Members { token } => {
                let request = Request::Members { linearizable: false };
                self.send(0, Message::Forward { token, request }, out);
            }
            Awaiting::Nothing { token } => self.answer(token, Ok(Answer::Done), out),
        }
    }

    /// This member leads no more: nobody can tell whether it did when these were answered.
    pub(super) fn fail_unconfirmed(&mut self, out: &mut Output) {
        let is_answer = |awaiting: &Awaiting| matches!(awaiting, Awaiting::Answer { .. });
        let confirming = &mut self.confirming;
        let mut failed: Vec<Awaiting> =
            confirming.waiting.extract_if(.., |a| is_answer(a)).collect();
        for (_, round) in &mut confirming.rounds {
            failed.extend(round.extract_if(.., |awaiting| is_answer(awaiting)));
        }
        confirming.count -= failed.len();
        for awaiting in failed {
            self.answer(awaiting.token(), Err(StoreError::LeaderChanged), out);
        }
    }
}
