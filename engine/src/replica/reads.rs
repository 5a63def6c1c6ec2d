//! A read over several shards: slices from each, merged by key at one revision.
//!
//! A shard is asked for a slice at a time, so a list of any size holds no core for longer than a
//! slice takes, and a limited one takes no more from each shard than it may need. What only the
//! log remembers is looked up slice by slice, too.

use std::collections::VecDeque;

use bytes::Bytes;

use super::state_hash::StateHash;
use super::usage::UsageByPrefix;
use crate::error::StoreError;
use crate::message::Token;
use crate::mvcc::range::{self, Chunk, CountChunk, Lookup};
use crate::record::{Record, Revision};
use crate::request::{RangeRequest, RangeResponse};

/// Keys that one slice looks at: about 50 microseconds of a core.
pub(super) const SLICE_KEYS: usize = 512;

/// Steps of a count that one slice does: a key, or a hundred whose number is known.
pub(super) const SLICE_STEPS: usize = SLICE_KEYS;

/// What to ask of a shard next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Slice {
        shard: usize,
        after: Option<Bytes>,
        max_keys: usize,
    },
    Count {
        shard: usize,
        resume_from: Option<Bytes>,
    },
    /// What is missing in a slice of this shard; the answer is for [`Gathering::looked_up`].
    Lookup {
        place: Place,
        lookups: Vec<Lookup>,
    },
}

/// What a lookup completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    SliceOf(usize),
    CountOf(usize),
}

/// What a read can make of all records.
#[derive(Debug)]
pub(super) enum Sum {
    Hash(Box<StateHash>),
    Usage(UsageByPrefix),
}

impl Sum {
    /// The same of nothing: a read begins again.
    pub(super) fn afresh(&self) -> Sum {
        match self {
            Sum::Hash(_) => Sum::Hash(Box::default()),
            Sum::Usage(usage) => Sum::Usage(usage.afresh()),
        }
    }
}

/// One read in progress.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Whose answer it is, and how often it has begun.
    pub(super) token: Token,
    pub(super) attempt: u32,
    pub(super) request: RangeRequest,
    /// The revision that is read; fixed for all slices.
    pub(super) revision: Revision,
    /// The store's revision when the read began.
    header_revision: Revision,
    parts: Vec<Part>,
    /// Records that are enough, if not all are needed.
    needed: Option<usize>,
    merged: Vec<Record>,
    /// Takes the records instead of `merged`, when nobody wants anything but a sum of them.
    pub(super) sum: Option<Sum>,
    /// The outcome is for a transaction that waits for it.
    pub(super) past: bool,
    /// Slices that wait for what is looked up.
    incomplete: Vec<Incomplete>,
    /// `None` until counting has begun.
    count: Option<usize>,
    counts_missing: usize,
    /// Shards that have counted a slice, and where the next one begins.
    count_on: Vec<(usize, Bytes)>,
}

#[derive(Debug)]
enum Incomplete {
    Slice(usize, Chunk),
    Count(usize, CountChunk),
}

impl Incomplete {
    fn place(&self) -> Place {
        match self {
            Incomplete::Slice(shard, _) => Place::SliceOf(*shard),
            Incomplete::Count(shard, _) => Place::CountOf(*shard),
        }
    }

    fn lookups(&self) -> Vec<Lookup> {
        match self {
            Incomplete::Slice(_, chunk) => {
                chunk.unresolved.iter().map(|(_, lookup)| lookup.clone()).collect()
            }
            Incomplete::Count(_, chunk) => chunk.unresolved.clone(),
        }
    }
}

#[derive(Debug)]
struct Part {
    shard: usize,
    buffer: VecDeque<Record>,
    /// Where the next slice begins; meaningless when `ended`.
    after: Option<Bytes>,
    asked: bool,
    ended: bool,
}

impl Gathering {
    pub(super) fn new(
        (token, attempt): (Token, u32),
        request: RangeRequest,
        revision: Revision,
        header_revision: Revision,
        shards: impl Iterator<Item = usize>,
    ) -> Gathering {
        let part = |shard| Part {
            shard,
            buffer: VecDeque::new(),
            after: None,
            asked: false,
            ended: false,
        };
        Gathering {
            token,
            attempt,
            needed: range::records_needed(&request),
            request,
            revision,
            header_revision,
            parts: shards.map(part).collect(),
            merged: Vec::new(),
            sum: None,
            past: false,
            incomplete: Vec::new(),
            count: None,
            counts_missing: 0,
            count_on: Vec::new(),
        }
    }

    /// Merges what is there. Gives the answer when it is complete, or else adds what to ask for.
    pub(super) fn advance(&mut self, ask: &mut Vec<Ask>) -> Option<RangeResponse> {
        self.merge();
        let enough = self.needed.is_some_and(|needed| self.merged.len() >= needed);
        if !enough && !self.is_exhausted() {
            let first = self.needed.map_or(SLICE_KEYS, |needed| needed.min(SLICE_KEYS));
            for part in &mut self.parts {
                if part.buffer.is_empty() && !part.ended && !part.asked {
                    part.asked = true;
                    // A slice without a live key met deleted ones: take larger steps over them.
                    let max_keys = if part.after.is_none() { first } else { SLICE_KEYS };
                    let after = part.after.clone();
                    ask.push(Ask::Slice { shard: part.shard, after, max_keys });
                }
            }
            return None;
        }
        let count = if self.is_exhausted() && self.needed != Some(0) {
            self.merged.len()
        } else {
            self.counted(ask)?
        };
        let records = std::mem::take(&mut self.merged);
        Some(range::answer(&self.request, records, count, self.header_revision))
    }

    fn counted(&mut self, ask: &mut Vec<Ask>) -> Option<usize> {
        if self.count.is_none() {
            self.count = Some(0);
            self.counts_missing = self.parts.len();
            let first = |part: &Part| Ask::Count { shard: part.shard, resume_from: None };
            ask.extend(self.parts.iter().map(first));
        }
        let next = |(shard, from)| Ask::Count { shard, resume_from: Some(from) };
        ask.extend(self.count_on.drain(..).map(next));
        if self.counts_missing > 0 { None } else { self.count }
    }

    fn is_exhausted(&self) -> bool {
        self.parts.iter().all(|part| part.ended && part.buffer.is_empty())
    }

    /// Moves records to the answer, smallest key first, while every shard's next one is known.
    fn merge(&mut self) {
        while self.parts.iter().all(|part| part.ended || !part.buffer.is_empty()) {
            if self.needed.is_some_and(|needed| self.merged.len() >= needed) {
                return;
            }
            let smallest = self
                .parts
                .iter_mut()
                .filter(|part| !part.buffer.is_empty())
                .min_by(|left, right| left.buffer[0].key().cmp(right.buffer[0].key()));
            let Some(part) = smallest else { return };
            let Some(record) = part.buffer.pop_front() else { return };
            match &mut self.sum {
                Some(Sum::Hash(hash)) => hash.add(&record),
                Some(Sum::Usage(usage)) => usage.add(&record),
                None => self.merged.push(record),
            }
        }
    }

    /// Takes a slice; gives what is missing in it, if anything is.
    pub(super) fn slice_read(&mut self, shard: usize, chunk: Chunk) -> Option<Ask> {
        assert!(self.part(shard).asked);
        if !chunk.unresolved.is_empty() {
            return Some(self.wait_for(Incomplete::Slice(shard, chunk)));
        }
        let part = self.part(shard);
        assert!(part.buffer.is_empty());
        part.asked = false;
        part.buffer = chunk.records.into();
        part.ended = chunk.resume_after.is_none();
        part.after = chunk.resume_after;
        None
    }

    /// Takes a slice of a count; gives what is missing in it, if anything is.
    pub(super) fn slice_counted(&mut self, shard: usize, chunk: CountChunk) -> Option<Ask> {
        assert!(self.counts_missing > 0);
        if !chunk.unresolved.is_empty() {
            return Some(self.wait_for(Incomplete::Count(shard, chunk)));
        }
        *self.count.get_or_insert(0) += chunk.count;
        match chunk.resume_from {
            Some(from) => self.count_on.push((shard, from)),
            None => self.counts_missing -= 1,
        }
        None
    }

    fn wait_for(&mut self, incomplete: Incomplete) -> Ask {
        let (place, lookups) = (incomplete.place(), incomplete.lookups());
        self.incomplete.push(incomplete);
        Ask::Lookup { place, lookups }
    }

    /// Completes a slice by what was missing in it.
    pub(super) fn looked_up(&mut self, place: Place, found: Vec<Option<Record>>) {
        let waits = self.incomplete.iter().position(|slice| slice.place() == place);
        let nothing_missing = match self.incomplete.swap_remove(waits.expect("it was asked for")) {
            Incomplete::Slice(shard, mut chunk) => {
                chunk.resolve(found);
                self.slice_read(shard, chunk)
            }
            Incomplete::Count(shard, mut chunk) => {
                chunk.resolve(&found);
                self.slice_counted(shard, chunk)
            }
        };
        assert!(nothing_missing.is_none());
    }

    fn part(&mut self, shard: usize) -> &mut Part {
        self.parts.iter_mut().find(|part| part.shard == shard).expect("only asked shards answer")
    }
}

/// The revision to read at: the newest committed one, or the one asked for if it can be read.
pub(super) fn read_revision(
    requested: Revision,
    committed: Revision,
    compacted: Revision,
) -> Result<Revision, StoreError> {
    if requested <= 0 {
        return Ok(committed);
    }
    crate::mvcc::check_revision(requested, compacted, committed)?;
    Ok(requested)
}
