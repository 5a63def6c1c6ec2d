//! Freezes, and what waits for them in the order in which it came.

use std::collections::VecDeque;

use super::footprint::{Footprint, Held};
use super::{RequestId, Token};
use crate::limits::DEFERRED_REQUESTS;
use crate::request::Transaction;

#[derive(Debug)]
pub(super) enum Waiting {
    Request { request: RequestId, transaction: Transaction },
    Freeze(Token),
}

/// Nothing overtakes what it conflicts with: neither a freeze in force nor anything that waits.
#[derive(Debug, Default)]
pub(super) struct Gate {
    frozen: Vec<(Token, Footprint)>,
    waiting: VecDeque<(Footprint, Waiting)>,
}

impl Gate {
    /// Nothing is frozen: the usual case, to be told at once.
    pub(super) fn is_open(&self) -> bool {
        self.frozen.is_empty()
    }

    /// Whether requests have to be refused. (Freezes are bounded by their coordinator.)
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= DEFERRED_REQUESTS
    }

    pub(super) fn blocks(&self, footprint: &Footprint, held: &Held<'_>) -> bool {
        self.is_blocked(footprint, self.waiting.len(), held)
    }

    /// Whether a freeze, or one of the first `earlier` that wait, stands in the way.
    fn is_blocked(&self, footprint: &Footprint, earlier: usize, held: &Held<'_>) -> bool {
        let frozen = self.frozen.iter().map(|(_, frozen)| frozen);
        let waiting = self.waiting.iter().take(earlier).map(|(waiting, _)| waiting);
        frozen.chain(waiting).any(|other| other.conflicts(footprint, held))
    }

    pub(super) fn defer(&mut self, footprint: Footprint, waiting: Waiting) {
        self.waiting.push_back((footprint, waiting));
    }

    pub(super) fn freeze(&mut self, token: Token, footprint: Footprint) {
        assert!(!self.is_frozen(token), "a token freezes once");
        self.frozen.push((token, footprint));
    }

    pub(super) fn is_frozen(&self, token: Token) -> bool {
        self.frozen.iter().any(|&(other, _)| other == token)
    }

    pub(super) fn release(&mut self, token: Token) {
        self.frozen.retain(|&(other, _)| other != token);
        self.waiting.retain(|(_, waiting)| !matches!(waiting, Waiting::Freeze(t) if *t == token));
    }

    /// Takes out the first, from `index` on, that nothing stands in the way of, and moves `index`
    /// to where it was. One pass is enough: what leaves or freezes concerns those behind it only.
    pub(super) fn next_unblocked(
        &mut self,
        index: &mut usize,
        held: &Held<'_>,
    ) -> Option<(Footprint, Waiting)> {
        while let Some((footprint, _)) = self.waiting.get(*index) {
            if !self.is_blocked(footprint, *index, held) {
                return self.waiting.remove(*index);
            }
            *index += 1;
        }
        None
    }

    /// Ends all freezes and gives the requests that waited.
    pub(super) fn clear(&mut self) -> Vec<RequestId> {
        self.frozen.clear();
        let requests = self.waiting.drain(..).filter_map(|(_, waiting)| match waiting {
            Waiting::Request { request, .. } => Some(request),
            Waiting::Freeze(_) => None,
        });
        requests.collect()
    }
}
