//! Requests that the leader decides, asked of another member: they wait until there is a leader, go
//! to it whole, and their answers are shown when this member has what they tell of. And requests
//! that other members forward to this one.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Mail, Output, Ticket, reply};
use crate::error::StoreError;
use crate::limits;
use crate::message::{Outcome, Request, Token};
use crate::peer::PeerMessage;

#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    request: Request,
    deadline_ms: u64,
}

/// An answer that this member has yet to catch up with.
#[derive(Debug)]
struct Early {
    ticket: Ticket,
    outcome: Outcome,
    deadline_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// For a leader, in order.
    waiting: VecDeque<Asked>,
    /// Whoever was asked does not lead: for the next tick.
    again: Vec<Asked>,
    /// At the leader, by number.
    sent: HashMap<u64, Asked>,
    next_number: u64,
    /// By the index that they wait for.
    early: BTreeMap<u64, Vec<Early>>,
    early_count: usize,
    /// What other members asked: who, and their number of it, by token.
    remote: HashMap<Token, (u64, u64)>,
    next_token: Token,
}

/// Whether it may be done twice.
fn is_idempotent(request: &Request) -> bool {
    use Request::{LeaseKeepAlive, LeaseTimeToLive, Leases};
    matches!(request, LeaseKeepAlive { .. } | LeaseTimeToLive { .. } | Leases)
}

impl Forwarding {
    /// Numbers requests from somewhere near `seed` on, which is another number at each start: an answer
    /// to what this member asked before it crashed must not pass for one to something else.
    pub(super) fn numbered_from(seed: u64) -> Forwarding {
        Forwarding { next_number: seed >> 1, ..Forwarding::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.again.is_empty() && self.sent.is_empty()
    }

    fn count(&self) -> usize {
        self.waiting.len() + self.again.len() + self.sent.len() + self.early_count
    }

    /// Takes a request that only a leader can decide.
    pub(super) fn take(
        &mut self,
        ticket: Ticket,
        request: Request,
        deadline_ms: u64,
        mail: &mut Mail<'_>,
    ) {
        if self.count() >= limits::FORWARDED_REQUESTS {
            return reply(ticket, Err(StoreError::TooManyRequests), mail);
        }
        self.waiting.push_back(Asked { ticket, request, deadline_ms });
    }

    /// What waits for this member to lead, which it does.
    pub(super) fn take_waiting(&mut self) -> Option<(Ticket, Request)> {
        let asked = self.waiting.pop_front()?;
        Some((asked.ticket, asked.request))
    }

    /// Sends what waits to the leader.
    pub(super) fn send(&mut self, leader: u64, out: &mut Output) {
        for asked in std::mem::take(&mut self.waiting) {
            self.next_number += 1;
            let (number, request) = (self.next_number, asked.request.clone());
            out.peer.push((leader, PeerMessage::Request { number, request }));
            self.sent.insert(number, asked);
        }
    }

    /// The leader, or the connection to it, answers.
    pub(super) fn answered(
        &mut self,
        number: u64,
        outcome: Outcome,
        (index, applied): (u64, u64),
        mail: &mut Mail<'_>,
    ) {
        // One that was given up may be answered after all.
        let Some(asked) = self.sent.remove(&number) else { return };
        let undone = matches!(outcome, Err(StoreError::NotLeader | StoreError::NoLeader));
        let unknown = matches!(outcome, Err(StoreError::LeaderChanged));
        let moves = matches!(asked.request, Request::MoveLeader { .. });
        if (undone && !moves) || (unknown && is_idempotent(&asked.request)) {
            self.again.push(asked);
        } else if index <= applied {
            reply(asked.ticket, outcome, mail);
        } else {
            let Asked { ticket, deadline_ms, .. } = asked;
            self.early_count += 1;
            self.early.entry(index).or_default().push(Early { ticket, outcome, deadline_ms });
        }
    }

    /// Everything up to `index` is applied here.
    pub(super) fn applied(&mut self, index: u64, mail: &mut Mail<'_>) {
        while let Some(first) = self.early.first_entry()
            && *first.key() <= index
        {
            for early in first.remove() {
                self.early_count -= 1;
                reply(early.ticket, early.outcome, mail);
            }
        }
    }

    /// Time has passed: what found no leader tries again, and nobody waits for ever.
    pub(super) fn tick(&mut self, now_ms: u64, mail: &mut Mail<'_>) {
        self.waiting.extend(self.again.drain(..));
        let late = |asked: &Asked| asked.deadline_ms <= now_ms;
        let mut expired: Vec<Asked> =
            self.sent.extract_if(|_, asked| late(asked)).map(|(_, asked)| asked).collect();
        while let Some(asked) = self.waiting.pop_front_if(|asked| late(asked)) {
            expired.push(asked);
        }
        for asked in expired {
            reply(asked.ticket, Err(StoreError::TimedOut), mail);
        }
        // What was done is told, even where it is not to be seen yet.
        let mut told = 0;
        for early in self.early.values_mut() {
            for early in early.extract_if(.., |early| early.deadline_ms <= now_ms) {
                told += 1;
                reply(early.ticket, early.outcome, mail);
            }
        }
        self.early_count -= told;
    }

    /// Another member asks: under which token it is decided here, if that is not too much.
    pub(super) fn take_remote(&mut self, from: u64, number: u64) -> Option<Token> {
        if self.remote.len() >= limits::FORWARDED_REQUESTS {
            return None;
        }
        self.next_token += 1;
        let token = Ticket::REMOTE | self.next_token;
        self.remote.insert(token, (from, number));
        Some(token)
    }

    /// What another member asked is decided.
    pub(super) fn answer_remote(
        &mut self,
        token: Token,
        outcome: Outcome,
        index: u64,
        out: &mut Output,
    ) {
        let asker = self.remote.remove(&token);
        let (from, number) = asker.expect("each request is answered once");
        out.peer.push((from, PeerMessage::Answer { number, outcome, index }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_an_earlier_process_is_none_to_this_one() {
        let ask = |seed: u64| {
            let (mut own, mut out) = (VecDeque::new(), Output::default());
            let mut forwarding = Forwarding::numbered_from(seed);
            let ticket = Ticket { core: 1, token: 7 };
            let mut mail = Mail { own: &mut own, out: &mut out };
            forwarding.take(ticket, Request::Leases, 1_000, &mut mail);
            forwarding.send(2, &mut out);
            let [(2, PeerMessage::Request { number, .. })] = out.peer[..] else {
                panic!("{out:?}")
            };
            (forwarding, number)
        };
        let ((_, before), (mut forwarding, _)) = (ask(1 << 40), ask(1 << 50));
        let (mut own, mut out) = (VecDeque::new(), Output::default());
        let mut mail = Mail { own: &mut own, out: &mut out };
        forwarding.answered(before, Err(StoreError::Stopped), (0, 0), &mut mail);
        assert!(out.messages.is_empty(), "{out:?}");
    }
}
