//! One core's watchers and the committed batches that they have yet to see.

use super::cursor::{Cursor, Touched};
use super::groups::Groups;
use super::ring::{Ring, revised_from};
use std::sync::Arc;

use crate::effect::{Change, Control, Deleted, Deletion, Item, Revised, SharedBatch};
use crate::error::StoreError;
use crate::limits::WATCH_RING_BYTES;
use crate::record::Revision;
use crate::request::{WatchBatch, WatchRequest};
use crate::slab::Slab;

/// A watcher of this core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatcherId {
    index: u32,
    /// Tells a watcher from the one that had its place before.
    generation: u32,
}

/// What a watcher gets to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Events to deliver; perhaps none, when the cursor only moved: ask again then.
    Batch(WatchBatch),
    /// It is level with the store. [`WatchHub::publish`] will name it when that changes.
    Wait,
    /// Batches from this revision on have to be read from the log, for
    /// [`WatchHub::deliver_from_log`].
    Behind { from_revision: Revision },
    /// What it needs next was compacted. The watcher cannot go on.
    Compacted { compacted: Revision },
}

/// Events that were read from the log.
#[derive(Debug, PartialEq, Eq)]
pub struct FromLog {
    /// As in [`Step::Batch`].
    pub batch: WatchBatch,
    /// Events whose `previous` the watcher wants and the log's entry does not hold: what lived at
    /// the revision before the event's, unless that is compacted. The others have none.
    pub previous_missing: Vec<usize>,
}

/// The events of which something may have lived before: all but those that create a key. A key
/// that its transaction deleted first is created as well.
fn may_have_previous<'a>(
    batch: &WatchBatch,
    revised: impl Iterator<Item = Revised<'a>>,
) -> Vec<usize> {
    // The log gives deletions as effects, too.
    let effects = revised.filter_map(|revised| match revised {
        Revised::Effect(effect) => Some(effect),
        Revised::Deletion(_) => None,
    });
    let mut deleting = effects.filter(|effect| effect.changes.iter().any(is_deletion)).peekable();
    let mut may_have = Vec::new();
    for (number, event) in batch.events.iter().enumerate() {
        let record = &event.record;
        while deleting.next_if(|effect| effect.revision < record.mod_revision()).is_some() {}
        let same = deleting.peek().filter(|effect| effect.revision == record.mod_revision());
        let was_deleted = || {
            let deletes =
                |change: &Change| is_deletion(change) && change.record.key() == record.key();
            same.is_some_and(|effect| effect.changes.iter().any(deletes))
        };
        if record.version() != 1 || was_deleted() {
            may_have.push(number);
        }
    }
    may_have
}

fn is_deletion(change: &Change) -> bool {
    change.record.is_tombstone()
}

#[derive(Debug)]
struct Watcher {
    cursor: Cursor,
    generation: u32,
    group: u32,
    /// Its neighbours among the group's watchers.
    before: Option<u32>,
    after: Option<u32>,
}

/// The watchers of one core. All hubs are given the same batches, which they share.
#[derive(Debug)]
pub struct WatchHub {
    ring: Ring,
    groups: Groups,
    watchers: Slab<Watcher>,
    next_generation: u32,
    /// The last revision that was published.
    head: Revision,
    compacted: Revision,
    /// Deletions that watchers can't see here any more.
    gone: Vec<Arc<Deleted>>,
}

impl WatchHub {
    /// A hub without history, of a store at this revision.
    pub fn new(revision: Revision, compacted: Revision) -> WatchHub {
        WatchHub::with_ring_bytes(revision, compacted, WATCH_RING_BYTES)
    }

    /// The same with a bound of its own on the recent batches kept.
    pub fn with_ring_bytes(revision: Revision, compacted: Revision, max_bytes: usize) -> WatchHub {
        WatchHub {
            ring: Ring::new(max_bytes),
            groups: Groups::default(),
            watchers: Slab::default(),
            next_generation: 0,
            head: revision,
            compacted,
            gone: Vec::new(),
        }
    }

    /// The last revision that was published here.
    pub fn revision(&self) -> Revision {
        self.head
    }

    /// The revision before the oldest batch in memory.
    pub fn ring_begins_after(&self) -> Revision {
        self.ring.begins_after().unwrap_or(self.head)
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a watch in a store whose newest committed revision is `committed` (which may not be
    /// published here yet). Without a start revision the first event is one after `committed`.
    ///
    /// # Errors
    /// `Compacted` if the start revision is.
    pub fn subscribe(
        &mut self,
        request: &WatchRequest,
        committed: Revision,
    ) -> Result<WatcherId, StoreError> {
        let from = if request.start_revision > 0 {
            self.check_start(request.start_revision)?;
            request.start_revision
        } else {
            committed.max(self.head) + 1
        };
        let group = self.groups.of(&request.range);
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let cursor = Cursor::new(request, from, self.head);
        let after = self.groups.get(group).first;
        let watcher = Watcher { cursor, generation, group, before: None, after };
        let index = self.watchers.insert(watcher);
        self.groups.get_mut(group).first = Some(index);
        if let Some(after) = after {
            self.watchers.get_mut(after).before = Some(index);
        }
        Ok(WatcherId { index, generation })
    }

    fn check_start(&self, requested: Revision) -> Result<(), StoreError> {
        if requested < self.compacted {
            return Err(StoreError::Compacted { requested, compacted: self.compacted });
        }
        Ok(())
    }

    /// Ends a watch.
    pub fn unsubscribe(&mut self, id: WatcherId) {
        let &Watcher { group, before, after, .. } = self.get(id);
        self.watchers.remove(id.index);
        if let Some(after) = after {
            self.watchers.get_mut(after).before = before;
        }
        match before {
            Some(before) => self.watchers.get_mut(before).after = after,
            None => self.groups.get_mut(group).first = after,
        }
        if self.groups.get(group).first.is_none() {
            self.groups.remove(group);
        }
    }

    fn get(&self, id: WatcherId) -> &Watcher {
        let watcher = self.watchers.find(id.index);
        let same = watcher.filter(|watcher| watcher.generation == id.generation);
        same.expect("a watcher is not used after it was unsubscribed")
    }

    /// Takes the next committed batch and gives the watchers that were level and now have
    /// something to do. Touches those alone whose range a change is in.
    pub fn publish(&mut self, batch: SharedBatch) -> Vec<WatcherId> {
        assert!(
            batch.revision_before == self.head,
            "the batch that follows revision {} was published after {}",
            batch.revision_before,
            self.head,
        );
        let mut notes = Vec::new();
        for item in &batch.items {
            match item {
                Item::Effect(effect) => {
                    effect.changes.iter().for_each(|change| self.note(change, &mut notes));
                }
                Item::Deletion(deletion) => self.note_deletion(deletion, &mut notes),
                Item::Control(Control::Compact { revision }) => {
                    self.compacted = self.compacted.max(*revision);
                }
                Item::Control(_) => {}
            }
        }
        self.head = batch.revision_after;
        let gone = self.ring.push(batch);
        self.gone.extend(gone);
        self.extend_cursors(&notes)
    }

    /// Goes on at a later revision, of which nothing is known but the state: watchers that have not
    /// seen all before it are told that it is compacted. Gives those that waited for events.
    pub fn restart(&mut self, revision: Revision) -> Vec<WatcherId> {
        let missed_from = self.head + 1;
        // Not even the events of this revision are known.
        (self.head, self.compacted) = (revision, self.compacted.max(revision + 1));
        self.gone.extend(self.ring.clear());
        let mut wake = Vec::new();
        for (index, watcher) in self.watchers.iter_mut() {
            if watcher.cursor.miss(missed_from, revision) {
                wake.push(WatcherId { index, generation: watcher.generation });
            }
        }
        wake
    }

    /// Deletions that have left the ring: dropping one may take long.
    pub fn take_gone(&mut self) -> Vec<Arc<Deleted>> {
        std::mem::take(&mut self.gone)
    }

    /// Notes the groups that a deletion concerns. It is alone in its batch.
    fn note_deletion(&mut self, deletion: &Deletion, notes: &mut Vec<(u32, Touched)>) {
        let revision = deletion.revision;
        let touched = Touched { first: revision, last: revision, put: false, delete: true };
        let concerns = |range| !deletion.deleted.records_in(range).is_empty();
        let concerned = self.groups.iter().filter(|(_, group)| concerns(&group.range));
        notes.extend(concerned.map(|(group, _)| (group, touched)));
    }

    /// Notes which groups a change concerns, once for each group in a batch.
    fn note(&mut self, change: &Change, notes: &mut Vec<(u32, Touched)>) {
        let touched = Touched::by(change);
        let known = notes.len();
        self.groups.find(change.record.key(), |group| notes.push((group, touched)));
        for position in (known..notes.len()).rev() {
            let group = self.groups.get(notes[position].0);
            if let Some(noted) = group.noted {
                let (_, before) = &mut notes[noted as usize];
                *before = before.and(touched);
                notes.swap_remove(position);
            }
        }
        for (position, &(group, _)) in notes.iter().enumerate().skip(known) {
            self.groups.get_mut(group).noted = Some(position as u32);
        }
    }

    fn extend_cursors(&mut self, notes: &[(u32, Touched)]) -> Vec<WatcherId> {
        let mut wake = Vec::new();
        for &(group, touched) in notes {
            let group = self.groups.get_mut(group);
            group.noted = None;
            let mut next = group.first;
            while let Some(index) = next {
                let watcher = self.watchers.get_mut(index);
                if watcher.cursor.extend(touched) {
                    wake.push(WatcherId { index, generation: watcher.generation });
                }
                next = watcher.after;
            }
        }
        wake
    }

    /// The watcher's next events, in revision order: about `max_bytes` of them, whole revisions,
    /// at least one.
    pub fn next(&mut self, id: WatcherId, max_bytes: usize) -> Step {
        let (head, compacted) = (self.head, self.compacted);
        let Some((first, _)) = self.get(id).cursor.span else { return Step::Wait };
        if !self.ring.reaches_back_to(first) {
            return if first < compacted {
                Step::Compacted { compacted }
            } else {
                Step::Behind { from_revision: first }
            };
        }
        let watcher = self.watchers.get_mut(id.index);
        let range = &self.groups.get(watcher.group).range;
        let effects = self.ring.revised_from(first);
        match watcher.cursor.collect(range, effects, head, head, max_bytes) {
            Some(batch) => Step::Batch(batch),
            None => Step::Wait,
        }
    }

    /// Does [`next`](Self::next) with batches from the log, in order and without a gap, that begin
    /// at or before the revision that [`Step::Behind`] named.
    pub fn deliver_from_log(
        &mut self,
        id: WatcherId,
        batches: &[SharedBatch],
        max_bytes: usize,
    ) -> FromLog {
        let head = self.head;
        let (first, _) =
            self.get(id).cursor.span.expect("only a watcher that is behind needs the log");
        let begins = batches.first().is_some_and(|batch| batch.revision_before < first);
        assert!(begins, "the log was read from a later revision than {first}");
        let end = batches.last().map_or(first - 1, |batch| batch.revision_after);
        let effects = batches.iter().flat_map(|batch| revised_from(batch, first));
        let watcher = self.watchers.get_mut(id.index);
        let range = &self.groups.get(watcher.group).range;
        let batch = watcher
            .cursor
            .collect(range, effects, end, head, max_bytes)
            .unwrap_or(WatchBatch { revision: head, events: Vec::new() });
        let previous_missing = match watcher.cursor.previous {
            true => may_have_previous(&batch, batches.iter().flat_map(|b| revised_from(b, first))),
            false => Vec::new(),
        };
        FromLog { batch, previous_missing }
    }

    /// The revision up to which everything was handed out, when the watcher is level with the
    /// store as far as it is published here; `None` while there may be something to deliver.
    pub fn synced_revision(&self, id: WatcherId) -> Option<Revision> {
        self.get(id).cursor.span.is_none().then_some(self.head)
    }
}
