//! Watchers: clients that write down what they see, and go on at another member when theirs is
//! gone.

use bytes::Bytes;
use mainstay_engine::StoreError;
use mainstay_engine::request::{WatchBatch, WatchRequest};
use mainstay_engine::watch::{FromLog, Step, WatcherId};

use super::Bug;
use super::translate;
use super::world::{Event, World};
use crate::linearizability::history::Revision;
use crate::watch_history::{Event as Seen, Told, Watch};

/// Batches read from the log at once.
const BATCHES: usize = 5;

/// Messages that a watcher takes in one turn.
const POLLS_MAX: usize = 20;

/// Where a watcher is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    member: u64,
    life: u32,
    core: usize,
    id: WatcherId,
}

pub(super) struct Watcher {
    watch: Watch,
    place: Option<Place>,
    /// The first revision that it was not told of.
    next: Revision,
    /// It was woken, or never told to wait.
    awake: bool,
    ended: bool,
}

impl World {
    pub(super) fn begin_watches(&mut self) {
        for _ in 0..self.swarm.watchers {
            let keys = self.wishes().keys();
            let watch = Watch {
                keys,
                start_revision: 2,
                previous: self.random.chance(50),
                no_put: self.random.chance(10),
                no_delete: self.random.chance(10),
                told: Vec::new(),
            };
            let watcher = Watcher { watch, place: None, next: 2, awake: true, ended: false };
            self.watchers.push(watcher);
            let delay_us = self.random.below(3_000_000) as u64;
            self.at(delay_us, Event::Watch { watcher: self.watchers.len() - 1 });
        }
    }

    /// A watcher has its turn.
    pub(super) fn watch(&mut self, watcher: usize) {
        if self.watchers[watcher].ended {
            return;
        }
        let next_us = 1 + self.random.below(100_000) as u64;
        self.at(next_us, Event::Watch { watcher });
        let place = self.watchers[watcher].place;
        let alive = place.filter(|place| self.is_up(place.member, place.life));
        if alive.is_none() || self.random.below(200) == 0 {
            return self.subscribe(watcher, alive);
        }
        let Some(place) = alive.filter(|place| !self.is_paused(place.member)) else { return };
        for _ in 0..POLLS_MAX {
            if !self.watchers[watcher].awake || self.watchers[watcher].ended {
                break;
            }
            self.poll(watcher, place);
        }
        // Nobody wakes it for what it does not want to see: it asks how far it is.
        if !self.watchers[watcher].ended {
            self.take_progress(watcher, place);
        }
    }

    /// Begins, or goes on, at some member.
    fn subscribe(&mut self, number: usize, old: Option<Place>) {
        if let Some(Place { member, core, id, .. }) = old {
            self.machine(member).replicas[core].unsubscribe(id);
        }
        self.watchers[number].place = None;
        let up = self.up();
        if up.is_empty() {
            return;
        }
        let member = up[self.random.below(up.len())];
        let watcher = &mut self.watchers[number];
        if !watcher.watch.told.is_empty() {
            watcher.watch.told.push(Told::Again { from: watcher.next });
            self.report.resumed += 1;
        }
        let request = WatchRequest {
            range: translate::key_range(&watcher.watch.keys),
            start_revision: watcher.next,
            previous: watcher.watch.previous,
            no_put: watcher.watch.no_put,
            no_delete: watcher.watch.no_delete,
        };
        let cores = self.cores(member).expect("it is up");
        let core = self.random.below(cores);
        let life = self.members[&member].life;
        let machine = self.machine(member);
        let committed = machine.shared.committed_revision();
        let result = machine.replicas[core].subscribe(&request, committed);
        let watcher = &mut self.watchers[number];
        match result {
            Ok(id) => {
                watcher.place = Some(Place { member, life, core, id });
                watcher.awake = true;
            }
            Err(StoreError::Compacted { compacted, .. }) => {
                watcher.watch.told.push(Told::Compacted(compacted));
                watcher.ended = true;
            }
            Err(error) => panic!("{request:?} is refused: {error}"),
        }
    }

    /// Takes what there is for a watcher.
    fn poll(&mut self, number: usize, place: Place) {
        let max_bytes = [1, 300, 100_000][self.random.below(3)];
        let Place { member, core, id, .. } = place;
        match self.machine(member).replicas[core].hub().next(id, max_bytes) {
            Step::Batch(batch) => self.take_events(number, batch),
            Step::Wait => self.watchers[number].awake = false,
            Step::Behind { from_revision } => {
                let Some(mut batches) = self.read_batches(member, from_revision, BATCHES) else {
                    return;
                };
                let machine = self.machine(member);
                let committed = machine.shared.committed_revision();
                batches.retain(|batch| batch.revision_after <= committed);
                let hub = machine.replicas[core].hub();
                let from_log = hub.deliver_from_log(id, &batches, max_bytes);
                let batch = self.complete(member, from_log);
                self.take_events(number, batch);
            }
            Step::Compacted { compacted } => {
                self.machine(member).replicas[core].unsubscribe(id);
                let watcher = &mut self.watchers[number];
                watcher.watch.told.push(Told::Compacted(compacted));
                watcher.ended = true;
            }
        }
    }

    /// Looks up which versions lived before.
    fn complete(&mut self, member: u64, from_log: FromLog) -> WatchBatch {
        let FromLog { mut batch, previous_missing } = from_log;
        let compacted = self.machine(member).shared.compacted_revision().max(1);
        for number in previous_missing {
            let event = &mut batch.events[number];
            let before = event.record.mod_revision() - 1;
            if before >= compacted {
                let key = Bytes::copy_from_slice(event.record.key());
                let found = self.find(member, &key, before);
                event.previous = found.filter(|record| !record.is_tombstone());
            }
        }
        batch
    }

    fn take_events(&mut self, number: usize, batch: WatchBatch) {
        let mut events: Vec<Seen> = batch
            .events
            .iter()
            .map(|event| Seen {
                revision: event.record.mod_revision(),
                seen: translate::seen(&event.record),
                previous: event.previous.as_ref().map(translate::version),
            })
            .collect();
        if self.bug == Some(Bug::EventLost) && self.random.chance(20) {
            events.pop();
        }
        if self.bug == Some(Bug::EventTwice)
            && self.random.chance(20)
            && let Some(first) = events.first().cloned()
        {
            events.insert(0, first);
        }
        self.report.watch_events += events.len();
        let watcher = &mut self.watchers[number];
        if !events.is_empty() {
            watcher.watch.told.push(Told::Events(events));
        }
        watcher.watch.told.push(Told::Progress(batch.revision));
        watcher.next = watcher.next.max(batch.revision + 1);
    }

    /// What a watcher may be told to have seen.
    fn take_progress(&mut self, number: usize, place: Place) {
        let Place { member, core, id, .. } = place;
        let Some(mut synced) = self.machine(member).replicas[core].hub().synced_revision(id) else {
            return;
        };
        if self.bug == Some(Bug::ProgressAhead) {
            synced = self.truth.revision();
        }
        assert!(synced <= self.truth.revision(), "progress to what is not committed");
        let watcher = &mut self.watchers[number];
        if watcher.watch.told.last() != Some(&Told::Progress(synced)) {
            watcher.watch.told.push(Told::Progress(synced));
        }
        watcher.next = watcher.next.max(synced + 1);
    }

    pub(super) fn woken(&mut self, member: u64, core: usize, id: WatcherId) {
        let life = self.members[&member].life;
        let place = Some(Place { member, life, core, id });
        if let Some(watcher) = self.watchers.iter_mut().find(|watcher| watcher.place == place) {
            watcher.awake = true;
        }
    }

    /// What those lack who have not seen everything.
    pub(super) fn complain_of_watchers(&mut self) -> String {
        let newest = self.truth.revision();
        let behind = self.watchers.iter().filter(|one| !one.ended && one.next <= newest);
        let tell = |one: &Watcher| {
            let told = one.watch.told.last();
            format!(
                "next {} of {newest}, awake: {}, {:?}, {told:?}",
                one.next, one.awake, one.place
            )
        };
        behind.map(tell).collect::<Vec<String>>().join("; ")
    }

    /// Whether everybody who watches has seen everything.
    pub(super) fn watchers_are_done(&self) -> bool {
        let newest = self.truth.revision();
        self.watchers.iter().all(|watcher| watcher.ended || watcher.next > newest)
    }

    pub(super) fn watches(&self) -> Vec<Watch> {
        self.watchers.iter().map(|watcher| watcher.watch.clone()).collect()
    }
}
