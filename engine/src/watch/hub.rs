//! One core's watchers and the committed batches that they have yet to see.

use super::cursor::{Cursor, Touched};
use super::groups::Groups;
use super::ring::{Ring, effects_from};
use crate::effect::{Control, Item, SharedBatch};
use crate::error::StoreError;
use crate::limits::WATCH_RING_BYTES;
use crate::record::Revision;
use crate::request::{WatchBatch, WatchRequest};

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
    /// The watcher wants each event's `previous`, which the log does not hold: what lived at the
    /// revision before the event's, unless that is compacted.
    pub previous_missing: bool,
}

#[derive(Debug)]
struct Watcher {
    cursor: Cursor,
    group: u32,
    /// Its place among the group's watchers.
    place: u32,
}

/// The watchers of one core. All hubs are given the same batches, which they share.
#[derive(Debug)]
pub struct WatchHub {
    ring: Ring,
    groups: Groups,
    watchers: Vec<(u32, Option<Watcher>)>,
    free: Vec<u32>,
    /// The last revision that was published.
    head: Revision,
    compacted: Revision,
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
            watchers: Vec::new(),
            free: Vec::new(),
            head: revision,
            compacted,
        }
    }

    /// The last revision that was published here.
    pub fn revision(&self) -> Revision {
        self.head
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.watchers.len() - self.free.len()
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
        let index = self.free.pop().unwrap_or_else(|| {
            self.watchers.push((0, None));
            u32::try_from(self.watchers.len() - 1).expect("a core has fewer than 2^32 watchers")
        });
        let members = &mut self.groups.get_mut(group).watchers;
        let place = members.len() as u32;
        members.push(index);
        let (generation, slot) = &mut self.watchers[index as usize];
        let cursor = Cursor::new(request, from, self.head);
        *slot = Some(Watcher { cursor, group, place });
        Ok(WatcherId { index, generation: *generation })
    }

    fn check_start(&self, requested: Revision) -> Result<(), StoreError> {
        if requested < self.compacted {
            return Err(StoreError::Compacted { requested, compacted: self.compacted });
        }
        Ok(())
    }

    /// Ends a watch.
    pub fn unsubscribe(&mut self, id: WatcherId) {
        let group = self.get(id).group;
        let place = self.get(id).place;
        let members = &mut self.groups.get_mut(group).watchers;
        members.swap_remove(place as usize);
        let moved = members.get(place as usize).copied();
        if members.is_empty() {
            self.groups.remove(group);
        }
        if let Some(moved) = moved {
            let (_, watcher) = &mut self.watchers[moved as usize];
            watcher.as_mut().expect("groups name watchers that exist").place = place;
        }
        let (generation, slot) = &mut self.watchers[id.index as usize];
        *generation = generation.wrapping_add(1);
        *slot = None;
        self.free.push(id.index);
    }

    fn get(&self, id: WatcherId) -> &Watcher {
        match &self.watchers[id.index as usize] {
            (generation, Some(watcher)) if *generation == id.generation => watcher,
            _ => panic!("a watcher is not used after it was unsubscribed"),
        }
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
        let mut touched_groups = Vec::new();
        for item in &batch.items {
            match item {
                Item::Effect(effect) => {
                    for change in &effect.changes {
                        let touched = Touched::by(change);
                        self.touch(change.record.key(), touched, &mut touched_groups);
                    }
                }
                Item::Control(Control::Compact { revision }) => {
                    self.compacted = self.compacted.max(*revision);
                }
                Item::Control(_) => {}
            }
        }
        self.head = batch.revision_after;
        self.ring.push(batch);
        self.extend_cursors(&touched_groups)
    }

    fn touch(&mut self, key: &[u8], touched: Touched, touched_groups: &mut Vec<u32>) {
        let known = touched_groups.len();
        self.groups.find(key, |group| touched_groups.push(group));
        for position in (known..touched_groups.len()).rev() {
            let group = self.groups.get_mut(touched_groups[position]);
            match &mut group.touched {
                Some(before) => {
                    *before = before.and(touched);
                    touched_groups.swap_remove(position);
                }
                none => *none = Some(touched),
            }
        }
    }

    fn extend_cursors(&mut self, touched_groups: &[u32]) -> Vec<WatcherId> {
        let mut wake = Vec::new();
        for &group in touched_groups {
            let group = self.groups.get_mut(group);
            let Some(touched) = group.touched.take() else { continue };
            for &index in &group.watchers {
                let (generation, watcher) = &mut self.watchers[index as usize];
                let watcher = watcher.as_mut().expect("groups name watchers that exist");
                if watcher.cursor.extend(touched) {
                    wake.push(WatcherId { index, generation: *generation });
                }
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
        let watcher = self.watchers[id.index as usize].1.as_mut().expect("it was just found");
        let range = &self.groups.get(watcher.group).range;
        let effects = self.ring.effects_from(first);
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
        let effects = batches.iter().flat_map(|batch| effects_from(batch, first));
        let watcher = self.watchers[id.index as usize].1.as_mut().expect("it was just found");
        let range = &self.groups.get(watcher.group).range;
        let batch = watcher
            .cursor
            .collect(range, effects, end, head, max_bytes)
            .unwrap_or(WatchBatch { revision: head, events: Vec::new() });
        FromLog { batch, previous_missing: watcher.cursor.previous }
    }

    /// The revision up to which everything was handed out, when the watcher is level with the
    /// store as far as it is published here; `None` while there may be something to deliver.
    pub fn synced_revision(&self, id: WatcherId) -> Option<Revision> {
        self.get(id).cursor.span.is_none().then_some(self.head)
    }
}
