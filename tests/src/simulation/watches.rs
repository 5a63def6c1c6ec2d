//! Watchers: what they see is what was committed, in order, once, all of it, wherever they begin.

use bytes::Bytes;
use mainstay_engine::request::{WatchBatch, WatchRequest};
use mainstay_engine::watch::{FromLog, Step, WatcherId};
use mainstay_engine::{Record, Revision, StoreError};

use super::bugs::Bug;
use super::world::World;

/// Batches read from the log at once.
const BATCHES: usize = 5;

/// A client's watch, which outlives the machine.
pub(super) struct Watch {
    request: WatchRequest,
    place: Option<(usize, WatcherId)>,
    /// The first revision that it has not been told of.
    next: Revision,
    /// It was woken, or never told to wait.
    pub(super) awake: bool,
}

impl Watch {
    pub(super) fn is(&self, core: usize, watcher: WatcherId) -> bool {
        self.place == Some((core, watcher))
    }

    fn wants(&self, record: &Record) -> bool {
        let unwanted =
            if record.is_tombstone() { self.request.no_delete } else { self.request.no_put };
        !unwanted && self.request.range.contains(record.key())
    }
}

impl World {
    /// Begins a watch on some core.
    pub(super) fn watch(&mut self, request: WatchRequest) {
        let committed = self.shared.committed_revision();
        let next = match request.start_revision {
            start if start > 0 => start.max(2),
            _ => committed + 1,
        };
        self.watches.push(Watch { request, place: None, next, awake: true });
        self.subscribe(self.watches.len() - 1);
    }

    /// After a start clients go on where they were.
    pub(super) fn watch_again(&mut self) {
        for number in (0..self.watches.len()).rev() {
            let watch = &mut self.watches[number];
            watch.request.start_revision = watch.next;
            self.subscribe(number);
        }
    }

    fn subscribe(&mut self, number: usize) {
        let core = self.random.below(self.replicas.len());
        let committed = self.shared.committed_revision();
        let watch = &mut self.watches[number];
        watch.awake = true;
        match self.replicas[core].subscribe(&watch.request, committed) {
            Ok(id) => watch.place = Some((core, id)),
            Err(StoreError::Compacted { requested, compacted }) => {
                assert!(requested < compacted && compacted <= self.model.compacted);
                self.watches.remove(number);
            }
            Err(error) => panic!("{:?} is refused: {error}", watch.request),
        }
    }

    pub(super) fn poll_watch(&mut self) {
        if self.watches.is_empty() {
            return;
        }
        let number = self.random.below(self.watches.len());
        if self.random.chance(1) {
            // The client goes away, and comes back at another core.
            if let Some((core, id)) = self.watches[number].place {
                self.replicas[core].unsubscribe(id);
            }
            let watch = &mut self.watches[number];
            watch.request.start_revision = watch.next;
            self.subscribe(number);
            return;
        }
        if self.watches[number].awake {
            self.poll(number);
        }
    }

    /// Takes what there is for a watcher. Gives whether it is still there.
    fn poll(&mut self, number: usize) -> bool {
        let max_bytes = [1, 300, 100_000][self.random.below(3)];
        let (core, id) = self.watches[number].place.expect("it is subscribed");
        match self.replicas[core].hub().next(id, max_bytes) {
            Step::Batch(batch) => self.take_events(number, batch),
            Step::Wait => self.watches[number].awake = false,
            Step::Behind { from_revision } => {
                let read = self.log.places.read_from(&self.disk, from_revision, BATCHES);
                let Ok(mut batches) = read else {
                    let compacted = self.shared.compacted_revision();
                    assert!(from_revision < compacted, "revision {from_revision} was released");
                    return true;
                };
                let committed = self.shared.committed_revision();
                batches.retain(|batch| batch.revision_after <= committed);
                let hub = self.replicas[core].hub();
                let from_log = hub.deliver_from_log(id, &batches, max_bytes);
                let batch = self.complete(from_log);
                self.take_events(number, batch);
            }
            Step::Compacted { compacted } => {
                assert!(compacted <= self.model.compacted, "compacted to {compacted}?");
                let next = self.watches[number].next;
                assert!(next < compacted, "at {next} nothing is compacted");
                self.replicas[core].unsubscribe(id);
                self.watches.remove(number);
                return false;
            }
        }
        self.check_progress(number);
        true
    }

    /// Looks up which versions lived before.
    fn complete(&self, from_log: FromLog) -> WatchBatch {
        let FromLog { mut batch, previous_missing } = from_log;
        let compacted = self.shared.compacted_revision().max(1);
        for number in previous_missing {
            let event = &mut batch.events[number];
            let before = event.record.mod_revision() - 1;
            if before >= compacted {
                let key = Bytes::copy_from_slice(event.record.key());
                let found = self.find(&key, before);
                event.previous = found.filter(|record| !record.is_tombstone());
            }
        }
        batch
    }

    fn take_events(&mut self, number: usize, mut batch: WatchBatch) {
        if self.bug == Some(Bug::EventLost) && self.random.chance(20) {
            batch.events.pop();
        }
        if self.bug == Some(Bug::EventTwice)
            && self.random.chance(20)
            && let Some(first) = batch.events.first().cloned()
        {
            batch.events.insert(0, first);
        }
        self.report.events += batch.events.len();
        let watch = &self.watches[number];
        let upto = batch.revision;
        assert!(upto >= watch.next - 1, "a watch went back to {upto} from {}", watch.next);
        assert!(upto <= self.model.revision, "a watch is told what is not committed");
        let expected = self.model.effects(watch.next..=upto).filter(|record| watch.wants(record));
        let expected: Vec<&Record> = expected.collect();
        let found: Vec<&Record> = batch.events.iter().map(|event| &event.record).collect();
        assert_eq!(found, expected, "what a watch from {} to {upto} sees", watch.next);
        for event in &batch.events {
            let before = event.record.mod_revision() - 1;
            let lived = self.model.at(event.record.key(), before);
            let given = event.previous.as_ref();
            let compacted = before < self.model.compacted;
            let right = match watch.request.previous {
                true => given == lived || (given.is_none() && compacted),
                false => given.is_none(),
            };
            assert!(right, "{:?} with previous {given:?} and not {lived:?}", event.record);
        }
        self.watches[number].next = upto + 1;
    }

    /// What a watcher may be told to have seen.
    fn check_progress(&mut self, number: usize) {
        let watch = &self.watches[number];
        let (core, id) = watch.place.expect("it is subscribed");
        let Some(mut synced) = self.replicas[core].hub().synced_revision(id) else { return };
        if self.bug == Some(Bug::ProgressAhead) {
            synced = self.model.revision;
        }
        assert!(synced <= self.model.revision, "progress to what is not committed");
        let missed = self.model.effects(watch.next..=synced).find(|record| watch.wants(record));
        assert_eq!(missed, None, "progress to {synced}, and this was not delivered");
    }

    /// Nothing more happens: watchers have seen everything.
    pub(super) fn drain_watches(&mut self) {
        for number in (0..self.watches.len()).rev() {
            for round in 0.. {
                assert!(round < 1_000_000, "a watch never ends");
                if !self.watches[number].awake || !self.poll(number) {
                    break;
                }
            }
        }
        for watch in &self.watches {
            let all = watch.next..=self.model.revision;
            let missed = self.model.effects(all).find(|record| watch.wants(record));
            assert_eq!(missed, None, "a watch never sees this");
        }
    }
}
