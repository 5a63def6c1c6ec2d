//! Reading and counting ranges, in slices, and shaping the answer as etcd does.

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;

use super::index::Mvcc;
use super::order::Order;
use super::version::{Seen, Versions};
use crate::record::{Record, Revision};
use crate::request::{KeyRange, RangeRequest, RangeResponse, SortDirection, SortTarget};

/// A version that only the log has: the newest of `key` at or before `revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    pub key: Bytes,
    pub revision: Revision,
}

/// A slice of a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// The records found, by key.
    pub records: Vec<Record>,
    /// What has to be looked up, by key, and before which of `records` each belongs.
    pub unresolved: Vec<(usize, Lookup)>,
    /// Go on after this key; `None` when the range is at its end.
    pub resume_after: Option<Bytes>,
}

/// A slice of a count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountChunk {
    pub count: usize,
    /// Keys that may have lived, too: those of which a live version is looked up did.
    pub unresolved: Vec<Lookup>,
    /// Go on from this key; `None` when the range is at its end.
    pub resume_from: Option<Bytes>,
}

impl Chunk {
    /// Puts what was looked up in its places; one for each of `unresolved`.
    pub fn resolve(&mut self, found: Vec<Option<Record>>) {
        assert_eq!(self.unresolved.len(), found.len());
        if self.unresolved.is_empty() {
            return;
        }
        let known = std::mem::take(&mut self.records);
        let mut known = known.into_iter().enumerate().peekable();
        let places = std::mem::take(&mut self.unresolved).into_iter().map(|(place, _)| place);
        for (place, found) in places.zip(found) {
            while let Some((_, record)) = known.next_if(|&(index, _)| index < place) {
                self.records.push(record);
            }
            self.records.extend(found.filter(|record| !record.is_tombstone()));
        }
        self.records.extend(known.map(|(_, record)| record));
    }
}

impl Chunk {
    /// Leaves out records that are not to be seen.
    pub fn retain(&mut self, keep: impl Fn(&Record) -> bool) {
        let mut kept = 0;
        let mut places = Vec::with_capacity(self.records.len() + 1);
        for record in &self.records {
            places.push(kept);
            kept += usize::from(keep(record));
        }
        places.push(kept);
        self.unresolved.iter_mut().for_each(|(place, _)| *place = places[*place]);
        self.records.retain(keep);
    }
}

impl CountChunk {
    fn add(&mut self, key: &[u8], seen: Seen<'_>) {
        match seen {
            Seen::Live(_) | Seen::Evicted { lived: true, .. } => self.count += 1,
            Seen::Nothing => {}
            Seen::Evicted { upto, lived: false } => {
                let key = Bytes::copy_from_slice(key);
                self.unresolved.push(Lookup { key, revision: upto });
            }
        }
    }

    /// Counts what was looked up; one for each of `unresolved`.
    pub fn resolve(&mut self, found: &[Option<Record>]) {
        assert_eq!(self.unresolved.len(), found.len());
        self.unresolved.clear();
        self.count += found.iter().flatten().filter(|record| !record.is_tombstone()).count();
    }
}

/// A key as a snapshot holds it; [`Mvcc::restore`] brings it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The version, or tombstone.
    pub record: Record,
    /// The revision of the version, or tombstone, before it; 0 if there was none.
    pub previous: Revision,
}

/// A slice of what a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettledChunk {
    /// By key.
    pub entries: Vec<Settled>,
    /// Go on after this key; `None` at the end.
    pub resume_after: Option<Bytes>,
}

impl Mvcc {
    /// The newest version of every key in `range`, committed or not, tombstones included, by key.
    pub fn newest_in<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Record> + 'a {
        self.versions_in(range, None).map(|versions| versions.newest())
    }

    /// A slice of [`newest_in`](Mvcc::newest_in): up to `max_keys` keys (at least one) behind `after`.
    pub fn newest_chunk(&self, range: &KeyRange, after: Option<&[u8]>, max_keys: usize) -> Chunk {
        if let KeyRange::Single(key) = range {
            let records = self.newest_or_tombstone(key).cloned().into_iter().collect();
            return Chunk { records, ..Chunk::default() };
        }
        let mut versions = self.versions_in(range, after);
        let newest = versions.by_ref().take(max_keys.max(1)).map(|versions| versions.newest());
        let mut chunk = Chunk { records: newest.cloned().collect(), ..Chunk::default() };
        if versions.next().is_some() {
            let last = chunk.records.last().map(|record| Bytes::copy_from_slice(record.key()));
            chunk.resume_after = last;
        }
        chunk
    }

    /// Whether `range` holds more than about so many keys, deleted ones included. Looks at some
    /// of their number only.
    pub fn is_larger_than(&self, range: &KeyRange, keys: usize) -> bool {
        let parts = match range {
            KeyRange::Single(_) => return false,
            _ => self.order.parts(range, range.start()),
        };
        let mut found = 0;
        for (_, part) in parts {
            found += Order::handles(part.leaf).len();
            if found > keys {
                return true;
            }
        }
        false
    }

    /// A slice of what lived in `range` at `revision`: looks at up to `max_keys` keys (at least
    /// one) behind `after`. Keys that did not live then are looked at, too, so a slice may hold
    /// fewer records and yet not be the last.
    pub fn range_chunk(
        &self,
        range: &KeyRange,
        revision: Revision,
        after: Option<&[u8]>,
        max_keys: usize,
    ) -> Chunk {
        let mut chunk = Chunk::default();
        let mut versions = self.versions_in(range, after);
        let mut last = None;
        for versions in versions.by_ref().take(max_keys.max(1)) {
            last = Some(versions.key());
            match versions.at(revision) {
                Seen::Live(record) => chunk.records.push(record.clone()),
                Seen::Nothing => {}
                Seen::Evicted { upto, .. } => {
                    let key = Bytes::copy_from_slice(versions.key());
                    let lookup = Lookup { key, revision: upto };
                    chunk.unresolved.push((chunk.records.len(), lookup));
                }
            }
        }
        if versions.next().is_some() {
            chunk.resume_after = last.map(Bytes::copy_from_slice);
        }
        chunk
    }

    /// What a snapshot holds of up to `max_keys` keys (at least one) behind `after`, in key order:
    /// of each the newest version, or tombstone, that was there at `committed`, which must not be
    /// less than what is settled. Keys that are newer are left out.
    pub fn settled_chunk(
        &self,
        after: Option<&[u8]>,
        committed: Revision,
        max_keys: usize,
    ) -> SettledChunk {
        let everything = KeyRange::From(Bytes::new());
        let mut chunk = SettledChunk::default();
        let mut versions = self.versions_in(&everything, after);
        let mut last = None;
        for versions in versions.by_ref().take(max_keys.max(1)) {
            last = Some(versions.key());
            let settled = versions.settled(committed);
            chunk.entries.extend(
                settled.map(|(record, previous)| Settled { record: record.clone(), previous }),
            );
        }
        if versions.next().is_some() {
            chunk.resume_after = last.map(Bytes::copy_from_slice);
        }
        chunk
    }

    /// A slice of how many keys of `range` lived at `revision`, from `resume_from` of the slice
    /// before, that does `max_work` steps or a few more. A leaf of about a hundred keys that is
    /// wholly in the range and in which none began or ceased to live since `revision` is one step,
    /// otherwise each key.
    pub fn count_chunk(
        &self,
        range: &KeyRange,
        revision: Revision,
        resume_from: Option<&[u8]>,
        max_work: usize,
    ) -> CountChunk {
        let start = resume_from.unwrap_or(range.start());
        let mut chunk = CountChunk::default();
        if let KeyRange::Single(key) = range {
            chunk.add(key, self.get_at(key, revision));
            return chunk;
        }
        let mut work = 0;
        for (bound, part) in self.order.parts(range, start) {
            if work >= max_work.max(1) {
                chunk.resume_from = Some(Bytes::copy_from_slice(bound));
                return chunk;
            }
            match part.leaf.live_at(revision).filter(|_| part.whole) {
                Some(live) => {
                    chunk.count += live;
                    work += 1;
                }
                None => {
                    let handles = Order::handles(part.leaf).iter();
                    work += handles.len();
                    let versions = handles.map(|&handle| self.entries.get(handle));
                    let inside = |versions: &&Versions| {
                        versions.key() >= start && range.contains(versions.key())
                    };
                    versions
                        .filter(inside)
                        .for_each(|versions| chunk.add(versions.key(), versions.at(revision)));
                }
            }
        }
        chunk
    }

    fn versions_in<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a Versions> + 'a {
        let start = match after {
            Some(after) if after >= &range.start()[..] => Bound::Excluded(after),
            _ => Bound::Included(&range.start()[..]),
        };
        self.order
            .from(&self.entries, start)
            .map(|handle| self.entries.get(handle))
            .take_while(|versions| range.contains(versions.key()))
    }
}

/// How many records, from the first key on, are enough to answer `request`; `None` if all are
/// needed because they have to be filtered or sorted first. One more than asked for tells `more`.
pub fn records_needed(request: &RangeRequest) -> Option<usize> {
    if request.count_only {
        return Some(0);
    }
    let sorted = sort_of(request);
    let by_key = sorted.is_none_or(|(_, way)| way == SortDirection::AscendWithinLimit);
    let plain = by_key && !has_filters(request);
    (plain && request.limit > 0).then(|| request.limit.saturating_add(1))
}

/// Shapes an answer as etcd does: filters, then sorts, then limits. `records` are in key order and
/// at least [`records_needed`]; `count` is that of all keys in the range.
pub fn answer(
    request: &RangeRequest,
    mut records: Vec<Record>,
    count: usize,
    revision: Revision,
) -> RangeResponse {
    if request.count_only {
        return RangeResponse { revision, records: Vec::new(), more: false, count };
    }
    if has_filters(request) {
        records.retain(|record| passes_filters(request, record));
    }
    match sort_of(request) {
        None => {}
        Some((SortTarget::Key, _)) => records.reverse(),
        Some((target, SortDirection::Ascend)) => records.sort_by(|a, b| compare(target, a, b)),
        Some((target, SortDirection::AscendWithinLimit)) => {
            records.truncate(records_needed(request).unwrap_or(usize::MAX));
            records.sort_by(|a, b| compare(target, a, b));
        }
        Some((target, SortDirection::Descend)) => records.sort_by(|a, b| compare(target, b, a)),
    }
    let more = request.limit > 0 && records.len() > request.limit;
    if more {
        records.truncate(request.limit);
    }
    RangeResponse { revision, records, more, count }
}

/// The sorting that is left to do for records in key order.
fn sort_of(request: &RangeRequest) -> Option<(SortTarget, SortDirection)> {
    let by_key = |&(target, way): &(SortTarget, SortDirection)| {
        target == SortTarget::Key && way != SortDirection::Descend
    };
    request.sort.filter(|sort| !by_key(sort))
}

fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes_filters(request: &RangeRequest, record: &Record) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(record.mod_revision(), request.min_mod_revision, request.max_mod_revision)
        && within(
            record.create_revision(),
            request.min_create_revision,
            request.max_create_revision,
        )
}

fn compare(target: SortTarget, left: &Record, right: &Record) -> Ordering {
    match target {
        SortTarget::Key => left.key().cmp(right.key()),
        SortTarget::Version => left.version().cmp(&right.version()),
        SortTarget::Create => left.create_revision().cmp(&right.create_revision()),
        SortTarget::Mod => left.mod_revision().cmp(&right.mod_revision()),
        SortTarget::Value => left.value().cmp(right.value()),
    }
}
