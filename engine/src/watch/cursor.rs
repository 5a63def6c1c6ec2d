//! One watcher: what it wants, and how far it is.

use super::ring::bytes_of_record;
use crate::effect::{Change, Revised};
use crate::limits::WATCH_STEP_CHANGES;
use crate::record::{Record, Revision};
use crate::request::{Event, KeyRange, WatchBatch, WatchRequest};

#[derive(Debug)]
pub(super) struct Cursor {
    /// Nothing before this revision was asked for.
    pub(super) from: Revision,
    /// The first and the last revision in which there may be something to deliver; before, after
    /// and (if the hub said so) between them there is nothing. `None`: level with the store.
    pub(super) span: Option<(Revision, Revision)>,
    pub(super) previous: bool,
    no_put: bool,
    no_delete: bool,
}

/// The part of a batch that concerns a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touched {
    pub(super) first: Revision,
    pub(super) last: Revision,
    pub(super) put: bool,
    pub(super) delete: bool,
}

impl Touched {
    pub(super) fn by(change: &Change) -> Touched {
        let revision = change.record.mod_revision();
        let delete = change.record.is_tombstone();
        Touched { first: revision, last: revision, put: !delete, delete }
    }

    /// Both parts; `later` is not before this one.
    pub(super) fn and(self, later: Touched) -> Touched {
        Touched {
            first: self.first,
            last: later.last,
            put: self.put || later.put,
            delete: self.delete || later.delete,
        }
    }
}

impl Cursor {
    pub(super) fn new(request: &WatchRequest, from: Revision, head: Revision) -> Cursor {
        // An empty store is at revision 1, so no event is older than 2.
        let from = from.max(2);
        Cursor {
            from,
            span: (from <= head).then_some((from, head)),
            previous: request.previous,
            no_put: request.no_put,
            no_delete: request.no_delete,
        }
    }

    /// Takes note of a new batch. Gives whether the watcher was level and has something to do now.
    pub(super) fn extend(&mut self, touched: Touched) -> bool {
        let wanted = (touched.put && !self.no_put) || (touched.delete && !self.no_delete);
        if !wanted || touched.last < self.from {
            return false;
        }
        let was_level = self.span.is_none();
        let first = self.span.map_or(touched.first.max(self.from), |(first, _)| first);
        self.span = Some((first, touched.last));
        was_level
    }

    /// What happened from `first` to `last` will never be known here. Gives whether the watcher was
    /// level, and misses some of it.
    pub(super) fn miss(&mut self, first: Revision, last: Revision) -> bool {
        let first = first.max(self.from);
        match &mut self.span {
            Some(span) => {
                span.1 = last;
                false
            }
            None if first <= last => {
                self.span = Some((first, last));
                true
            }
            None => false,
        }
    }

    /// Collects events from effects that begin at the span's first revision: whole revisions, at
    /// least one, until there are about `max_bytes`. `end` is the last revision that the effects
    /// reach. Gives `None` if nothing of it was wanted and the watcher is level with `head`.
    pub(super) fn collect<'a>(
        &mut self,
        range: &KeyRange,
        revised: impl Iterator<Item = Revised<'a>>,
        end: Revision,
        head: Revision,
        max_bytes: usize,
    ) -> Option<WatchBatch> {
        let (_, last) = self.span?;
        let (mut events, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        for revised in revised.take_while(|revised| revised.revision() <= last) {
            let enough = bytes >= max_bytes && !events.is_empty();
            if enough || looked_at >= WATCH_STEP_CHANGES {
                let revision = revised.revision();
                self.span = Some((revision, last));
                return Some(WatchBatch { revision: revision - 1, events });
            }
            let effect = match revised {
                Revised::Effect(effect) => effect,
                Revised::Deletion(deletion) => {
                    let records = deletion.deleted.records_in(range);
                    looked_at += records.len();
                    for record in records.iter().filter(|_| !self.no_delete) {
                        let tombstone = Record::tombstone(record.key(), deletion.revision);
                        let previous = self.previous.then(|| record.clone());
                        bytes += bytes_of_record(&tombstone)
                            + previous.as_ref().map_or(0, bytes_of_record);
                        events.push(Event { record: tombstone, previous });
                    }
                    continue;
                }
            };
            looked_at += effect.changes.len();
            for change in effect.changes.iter().filter(|change| self.wants(range, change)) {
                let previous = change.previous.as_ref().filter(|_| self.previous);
                bytes += bytes_of_record(&change.record) + previous.map_or(0, bytes_of_record);
                events.push(Event { record: change.record.clone(), previous: previous.cloned() });
            }
        }
        if end < last {
            self.span = Some((end + 1, last));
            return Some(WatchBatch { revision: end, events });
        }
        self.span = None;
        (!events.is_empty()).then_some(WatchBatch { revision: head, events })
    }

    fn wants(&self, range: &KeyRange, change: &Change) -> bool {
        let unwanted = if change.record.is_tombstone() { self.no_delete } else { self.no_put };
        !unwanted && range.contains(change.record.key())
    }
}
