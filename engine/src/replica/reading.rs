//! Reads from their beginning to their answer: asking shards for slices, and the log for what they
//! do not hold any more.

use bytes::Bytes;

use super::reads::{self, Ask, Gathering, Place, Sum};
use super::{Output, Replica, owner};
use crate::error::StoreError;
use crate::limits;
use crate::message::{Answer, Message, Slice, Token};
use crate::mvcc::{Lookup, Seen, range};
use crate::record::{Record, Revision};
use crate::request::{HashKv, KeyRange, RangeRequest, RangeResponse};

/// What was asked of the log.
#[derive(Debug)]
pub(super) struct Looking {
    read: u64,
    place: Place,
    keys: usize,
}

impl Replica {
    /// `past`: for a transaction that waits.
    pub(super) fn range(
        &mut self,
        (token, attempt): (Token, u32),
        request: RangeRequest,
        past: bool,
        out: &mut Output,
    ) {
        let committed = self.shared.committed_revision();
        let compacted = self.shared.compacted_revision();
        let revision = match reads::read_revision(request.revision, committed, compacted) {
            Ok(revision) => revision,
            Err(error) => return self.read_done(token, past, Err(error), out),
        };
        let owner = match &request.range {
            KeyRange::Single(key) => Some(owner::of_key(key, self.cores)),
            _ => None,
        };
        if let KeyRange::Single(key) = &request.range
            && owner == Some(self.core)
            && let Some(outcome) = self.point_read(&request, key, revision, committed)
        {
            return self.read_done(token, past, outcome, out);
        }
        let shards = owner.map_or(0..self.cores, |owner| owner..owner + 1);
        let mut read = Gathering::new((token, attempt), request, revision, committed, shards);
        read.past = past;
        self.begin_read(read, out);
    }

    fn begin_read(&mut self, read: Gathering, out: &mut Output) {
        if self.reads.len() >= limits::READS {
            let refused = Err(StoreError::TooManyRequests);
            return self.read_done(read.token, read.past, refused, out);
        }
        let number = self.next_read;
        self.next_read += 1;
        self.reads.insert(number, read);
        self.advance_read(number, out, |_| Ok(None));
    }

    /// What was looked up for some output is here, one for each.
    pub fn history_found(
        &mut self,
        id: u64,
        found: Result<Vec<Option<Record>>, StoreError>,
        now_ms: u64,
        out: &mut Output,
    ) {
        let looking = self.looking_up.remove(&id).expect("only what was asked for comes");
        let Looking { read: number, place, keys } = looking;
        self.looked_for -= keys;
        let compacted = self.shared.compacted_revision();
        self.advance_read(number, out, |read| {
            // What was compacted meanwhile may have been gone from the log, too.
            let committed = read.revision;
            crate::mvcc::check_revision(read.revision, compacted, committed)?;
            read.looked_up(place, found?);
            Ok(None)
        });
        self.resume(now_ms, out);
    }

    fn look_up(&mut self, read: u64, place: Place, lookups: Vec<Lookup>, out: &mut Output) {
        let id = self.next_lookup;
        self.next_lookup += 1;
        let keys = lookups.len();
        self.looked_for += keys;
        self.looking_up.insert(id, Looking { read, place, keys });
        out.lookups.push((id, lookups));
    }

    fn read_done(
        &mut self,
        token: Token,
        past: bool,
        outcome: Result<RangeResponse, StoreError>,
        out: &mut Output,
    ) {
        if past {
            self.past_read(token, outcome, out);
        } else {
            self.answer(token, outcome.map(Answer::Range), out);
        }
    }

    /// Adds up all that lived at a revision: a read of everything whose records are not kept.
    pub(super) fn sum(
        &mut self,
        (token, attempt): (Token, u32),
        requested: Revision,
        sum: Sum,
        out: &mut Output,
    ) {
        let committed = self.shared.committed_revision();
        let compacted = self.shared.compacted_revision();
        let revision = match reads::read_revision(requested, committed, compacted) {
            Ok(revision) => revision,
            Err(error) => return self.answer(token, Err(error), out),
        };
        let mut request = RangeRequest::new(KeyRange::prefix(b""));
        request.revision = requested;
        let shards = 0..self.cores;
        let mut read = Gathering::new((token, attempt), request, revision, committed, shards);
        read.sum = Some(sum);
        self.begin_read(read, out);
    }

    /// Reads a key of this shard; `None` when only the log knows.
    fn point_read(
        &self,
        request: &RangeRequest,
        key: &Bytes,
        revision: Revision,
        committed: Revision,
    ) -> Option<Result<RangeResponse, StoreError>> {
        if let Err(error) = self.readable(revision) {
            return Some(Err(error));
        }
        let records = match self.shard.mvcc().get_at(key, revision) {
            Seen::Live(record) if self.shard.lives(record, revision) => vec![record.clone()],
            Seen::Live(_) | Seen::Nothing => Vec::new(),
            Seen::Evicted { .. } => return None,
        };
        let count = records.len();
        Some(Ok(range::answer(request, records, count, committed)))
    }

    /// Lets a read in progress take a shard's contribution, and ask for the next or answer.
    pub(super) fn advance_read(
        &mut self,
        number: u64,
        out: &mut Output,
        contribute: impl FnOnce(&mut Gathering) -> Result<Option<Ask>, StoreError>,
    ) {
        // A read that is over may still get slices that were on their way.
        let Some(read) = self.reads.get_mut(&number) else { return };
        let mut asks: Vec<Ask> = match contribute(read) {
            Ok(ask) => ask.into_iter().collect(),
            Err(error) => return self.end_read(number, error, out),
        };
        let answer = read.advance(&mut asks);
        let (token, range, revision) = (read.token, read.request.range.clone(), read.revision);
        for ask in asks {
            let range = range.clone();
            match ask {
                Ask::Slice { shard, after, max_keys } => {
                    let slice = Slice { range, revision, after, max_keys };
                    self.send(shard, Message::ReadSlice { token: number, slice }, out);
                }
                Ask::Count { shard, resume_from } => {
                    let message = Message::Count { token: number, range, revision, resume_from };
                    self.send(shard, message, out);
                }
                Ask::Lookup { lookups, .. }
                    if self.looked_for + lookups.len() > limits::LOOKUPS_WAITING =>
                {
                    return self.end_read(number, StoreError::TooManyRequests, out);
                }
                Ask::Lookup { place, lookups } => self.look_up(number, place, lookups, out),
            }
        }
        if let Some(response) = answer
            && let Some(read) = self.reads.remove(&number)
        {
            let answer = match read.sum {
                None => return self.read_done(token, read.past, Ok(response), out),
                Some(Sum::Usage(usage)) => Answer::Usage(usage.largest()),
                Some(Sum::Hash(hash)) => Answer::HashKv(HashKv {
                    hash: hash.value(),
                    revision,
                    compacted_revision: self.shared.compacted_revision(),
                    current_revision: response.revision,
                }),
            };
            self.answer(token, Ok(answer), out);
        }
    }

    /// A read that can't go on: one of the newest state that a compaction has overtaken starts
    /// again, as its client named no revision that could be compacted.
    pub(super) fn end_read(&mut self, number: u64, error: StoreError, out: &mut Output) {
        const ATTEMPTS_MAX: u32 = 4;
        let Some(read) = self.reads.remove(&number) else { return };
        let overtaken = matches!(error, StoreError::Compacted { .. }) && read.request.revision <= 0;
        if overtaken && read.attempt < ATTEMPTS_MAX {
            let attempt = (read.token, read.attempt + 1);
            if let Some(sum) = read.sum {
                return self.sum(attempt, read.request.revision, sum.afresh(), out);
            }
            return self.range(attempt, read.request, read.past, out);
        }
        self.read_done(read.token, read.past, Err(error), out);
    }
}
