use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::intervals::Intervals;
use super::*;
use crate::effect::{Batch, Change, Control, Effect, Item, SharedBatch};
use crate::error::StoreError;
use crate::mvcc::tests::Random;
use crate::record::{Record, Revision};
use crate::request::{Event, KeyRange, WatchRequest};

/// Makes batches, and remembers everything.
struct Store {
    live: BTreeMap<Vec<u8>, Record>,
    log: Vec<SharedBatch>,
    revision: Revision,
}

impl Store {
    fn new() -> Store {
        Store { live: BTreeMap::new(), log: Vec::new(), revision: 1 }
    }

    /// A batch with one effect for each list of keys; a key that lives already is deleted when it
    /// is written `-key`.
    fn batch(&mut self, effects: &[&[&str]]) -> SharedBatch {
        let revision_before = self.revision;
        let mut items = Vec::new();
        for keys in effects {
            self.revision += 1;
            let changes = keys.iter().filter_map(|key| self.change(key)).collect();
            items.push(Item::Effect(Effect { revision: self.revision, changes }));
        }
        self.log_batch(revision_before, items)
    }

    fn log_batch(&mut self, revision_before: Revision, items: Vec<Item>) -> SharedBatch {
        let index = self.log.len() as u64;
        let revision_after = self.revision;
        let batch = Arc::new(Batch { index, term: 1, revision_before, revision_after, items });
        self.log.push(batch.clone());
        batch
    }

    fn change(&mut self, key: &str) -> Option<Change> {
        if let Some(key) = key.strip_prefix('-') {
            let previous = Some(self.live.remove(key.as_bytes())?);
            return Some(Change {
                record: Record::tombstone(key.as_bytes(), self.revision),
                previous,
            });
        }
        let previous = self.live.get(key.as_bytes()).cloned();
        let created = previous.as_ref().map_or(self.revision, Record::create_revision);
        let version = previous.as_ref().map_or(0, Record::version) + 1;
        let value = b"some value";
        let record = Record::new(key.as_bytes(), value, created, self.revision, version, 0);
        self.live.insert(key.into(), record.clone());
        Some(Change { record, previous })
    }

    /// What a watcher has to see after one revision and up to another.
    fn expected(&self, request: &WatchRequest, from: Revision, to: Revision) -> Vec<Event> {
        let changes = self.log.iter().flat_map(|batch| batch.effects()).flat_map(|e| &e.changes);
        changes
            .filter(|change| (from..=to).contains(&change.record.mod_revision()))
            .filter(|change| request.range.contains(change.record.key()))
            .filter(|change| match change.record.is_tombstone() {
                true => !request.no_delete,
                false => !request.no_put,
            })
            .map(|change| Event {
                record: change.record.clone(),
                previous: change.previous.clone().filter(|_| request.previous),
            })
            .collect()
    }

    /// What a reader of the log gets: batches without previous versions, some before `from` too.
    fn read_log(&self, from: Revision, most: usize) -> Vec<SharedBatch> {
        let first = self.log.iter().position(|batch| batch.revision_after >= from);
        let without_previous = |batch: &SharedBatch| {
            let mut batch = Batch::clone(batch);
            for item in &mut batch.items {
                if let Item::Effect(effect) = item {
                    effect.changes.iter_mut().for_each(|change| change.previous = None);
                }
            }
            Arc::new(batch)
        };
        let first = first.expect("the revision was logged");
        self.log[first..].iter().take(most).map(without_previous).collect()
    }

    fn lived_before(&self, event: &Event) -> Option<Record> {
        let changes = self.log.iter().flat_map(|batch| batch.effects()).flat_map(|e| &e.changes);
        let same = changes.into_iter().find(|change| change.record == event.record);
        same.expect("the event happened").previous.clone()
    }
}

fn watch(range: KeyRange, start_revision: Revision) -> WatchRequest {
    WatchRequest { range, start_revision, previous: false, no_put: false, no_delete: false }
}

fn single(key: &'static str) -> KeyRange {
    KeyRange::Single(key.into())
}

fn keys(step: Step) -> Vec<String> {
    let Step::Batch(batch) = step else { panic!("no events: {step:?}") };
    let name = |event: &Event| {
        let gone = if event.record.is_tombstone() { "-" } else { "" };
        format!("{gone}{}", String::from_utf8_lossy(event.record.key()))
    };
    batch.events.iter().map(name).collect()
}

#[test]
fn a_new_event_wakes_those_who_want_it() {
    let mut store = Store::new();
    let mut hub = WatchHub::new(1, 0);
    let mut subscribe = |request| hub.subscribe(&request, 1).expect("nothing is compacted");
    let exact = subscribe(watch(single("/a/1"), 0));
    let prefix = subscribe(watch(KeyRange::prefix(b"/a/"), 0));
    let same_prefix = subscribe(watch(KeyRange::prefix(b"/a/"), 0));
    let all = subscribe(watch(KeyRange::From(Bytes::new()), 0));
    let reversed = KeyRange::Interval { start: "z".into(), end: "a".into() };
    let nothing = subscribe(watch(reversed, 0));
    let no_put = subscribe(WatchRequest { no_put: true, ..watch(single("/a/1"), 0) });
    let no_delete = subscribe(WatchRequest { no_delete: true, ..watch(single("/a/1"), 0) });
    let later = subscribe(watch(single("/a/1"), 4));
    for (effect, expected) in [
        (&["/b/1"][..], vec![all]),
        (&["/a/1"], vec![exact, no_delete, prefix, same_prefix, all]),
        (&["-/a/1"], vec![exact, no_put, later, prefix, same_prefix, all]),
        (&["/a/2", "/a/3"], vec![prefix, same_prefix, all]),
    ] {
        let woken = hub.publish(store.batch(&[effect]));
        for id in [exact, prefix, same_prefix, all, nothing, no_put, no_delete, later] {
            assert_eq!(woken.contains(&id), expected.contains(&id), "{effect:?}");
            let level = hub.synced_revision(id);
            assert_eq!(level, (!expected.contains(&id)).then_some(hub.revision()), "{effect:?}");
            if expected.contains(&id) {
                assert_eq!(keys(hub.next(id, 1000)), effect);
            }
            assert_eq!(hub.next(id, 1000), Step::Wait);
        }
        assert_eq!(woken.len(), expected.len());
    }
}

#[test]
fn a_revision_is_not_split() {
    let mut store = Store::new();
    let mut hub = WatchHub::new(1, 0);
    let all = watch(KeyRange::From(Bytes::new()), 0);
    let id = hub.subscribe(&all, 1).expect("nothing is compacted");
    hub.publish(store.batch(&[&["a", "b", "c"], &["d"], &["e", "f"]]));
    hub.publish(store.batch(&[&["g"]]));
    assert_eq!(keys(hub.next(id, 1)), ["a", "b", "c"]);
    assert_eq!(hub.synced_revision(id), None);
    assert_eq!(keys(hub.next(id, 160)), ["d", "e", "f"]);
    assert_eq!(keys(hub.next(id, 1)), ["g"]);
    assert_eq!(hub.synced_revision(id), Some(5));
}

#[test]
fn a_woken_watcher_looks_at_nothing_before_its_event() {
    let mut store = Store::new();
    let mut hub = WatchHub::new(1, 0);
    let id = hub.subscribe(&watch(single("mine"), 0), 1).expect("nothing is compacted");
    let others: Vec<&[&str]> = vec![&["other"]; crate::limits::WATCH_STEP_CHANGES];
    hub.publish(store.batch(&others));
    hub.publish(store.batch(&[&["other"], &["mine"], &["other"]]));
    // Had it to look at the others it would need a second step.
    assert_eq!(keys(hub.next(id, 1)), ["mine"]);
    assert_eq!(hub.next(id, 1), Step::Wait);
    // One that begins in the past has to look, a step at a time.
    let id = hub.subscribe(&watch(single("mine"), 2), hub.revision()).expect("not compacted");
    assert_eq!(keys(hub.next(id, 1)), Vec::<String>::new());
    assert_eq!(keys(hub.next(id, 1)), ["mine"]);
}

#[test]
fn compaction_ends_only_those_who_need_what_is_gone() {
    let mut store = Store::new();
    let mut hub = WatchHub::with_ring_bytes(1, 0, 1);
    let slow = hub.subscribe(&watch(single("a"), 0), 1).expect("nothing is compacted");
    let level = hub.subscribe(&watch(single("b"), 0), 1).expect("nothing is compacted");
    hub.publish(store.batch(&[&["a"]]));
    hub.publish(store.batch(&[&["c"]]));
    assert_eq!(hub.next(slow, 1), Step::Behind { from_revision: 2 });
    let compact = vec![Item::Control(Control::Compact { revision: 3 })];
    let batch = store.log_batch(3, compact);
    assert_eq!(hub.publish(batch), []);
    assert_eq!(hub.next(slow, 1), Step::Compacted { compacted: 3 });
    assert_eq!(hub.next(level, 1), Step::Wait);
    for (start, expected) in [
        (2, Some(StoreError::Compacted { requested: 2, compacted: 3 })),
        (3, None),
        (0, None),
        (-1, None),
        (999, None),
    ] {
        assert_eq!(hub.subscribe(&watch(single("a"), start), 3).err(), expected);
    }
}

#[test]
fn a_watch_begins_after_what_is_committed() {
    let mut store = Store::new();
    let mut hub = WatchHub::new(1, 0);
    // Revision 2 is committed but has not come here yet.
    let id = hub.subscribe(&watch(single("a"), 0), 2).expect("nothing is compacted");
    assert_eq!(hub.publish(store.batch(&[&["a"]])), []);
    assert_eq!(hub.publish(store.batch(&[&["a"]])), [id]);
    let Step::Batch(batch) = hub.next(id, 1) else { panic!("an event is there") };
    assert_eq!((batch.revision, batch.events.len()), (3, 1));
}

#[test]
#[should_panic(expected = "was published after")]
fn a_gap_between_batches_is_a_mistake() {
    let mut store = Store::new();
    let mut hub = WatchHub::new(1, 0);
    store.batch(&[&["a"]]);
    hub.publish(store.batch(&[&["b"]]));
}

/// A watcher as its client sees it.
struct Client {
    id: WatcherId,
    request: WatchRequest,
    /// The next revision that it has to see.
    from: Revision,
    /// Its last step was `Wait`.
    waiting: bool,
}

#[test]
fn every_watcher_sees_every_event_once_and_in_order() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut store = Store::new();
        let ring_bytes = [1, 2_000, 1 << 20][seed as usize % 3];
        let mut hub = WatchHub::with_ring_bytes(1, 0, ring_bytes);
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..300 {
            match random.below(10) {
                0..2 => subscribe(&mut hub, &mut clients, &mut random),
                2 if !clients.is_empty() => {
                    let client = clients.swap_remove(random.below(clients.len()));
                    hub.unsubscribe(client.id);
                }
                3..6 => publish(&mut hub, &mut store, &mut clients, &mut random),
                _ if !clients.is_empty() => {
                    let index = random.below(clients.len());
                    step(&mut hub, &store, &mut clients[index], &mut random, seed);
                }
                _ => {}
            }
            assert_eq!(hub.len(), clients.len());
        }
        for client in &mut clients {
            while !client.waiting {
                step(&mut hub, &store, client, &mut random, seed);
            }
            let rest = store.expected(&client.request, client.from, store.revision);
            assert_eq!(rest, [], "seed {seed} {:?}", client.request);
        }
        for client in clients {
            hub.unsubscribe(client.id);
        }
        assert!(hub.is_empty());
    }
}

fn subscribe(hub: &mut WatchHub, clients: &mut Vec<Client>, random: &mut Random) {
    let key = random_key(random);
    let range = match random.below(6) {
        0..2 => KeyRange::Single(key.into()),
        2..4 => KeyRange::prefix(&key.as_bytes()[..random.below(key.len() + 1)]),
        4 => KeyRange::From(key.into()),
        _ => KeyRange::Interval { start: key.into(), end: random_key(random).into() },
    };
    let start_revision = match random.below(3) {
        0 => 0,
        1 => 1 + random.below(hub.revision() as usize) as Revision,
        _ => hub.revision() + random.below(5) as Revision,
    };
    let request = WatchRequest {
        range,
        start_revision,
        previous: random.chance(50),
        no_put: random.chance(20),
        no_delete: random.chance(20),
    };
    let id = hub.subscribe(&request, hub.revision()).expect("nothing is compacted");
    let from = if start_revision > 0 { start_revision } else { hub.revision() + 1 };
    let level = hub.synced_revision(id).is_some();
    assert_eq!(level, from.max(2) > hub.revision(), "there is no event at revision 1");
    clients.push(Client { id, request, from, waiting: level });
}

fn random_key(random: &mut Random) -> String {
    let parts = ["a", "b", "ab", "c"];
    (0..1 + random.below(3)).map(|_| parts[random.below(4)]).collect()
}

fn publish(hub: &mut WatchHub, store: &mut Store, clients: &mut [Client], random: &mut Random) {
    let mut effects: Vec<Vec<String>> = Vec::new();
    for _ in 0..random.below(5) {
        let mut names: Vec<String> = (0..1 + random.below(3)).map(|_| random_key(random)).collect();
        names.sort();
        names.dedup();
        let sign = |name: String| if random.chance(30) { format!("-{name}") } else { name };
        effects.push(names.into_iter().map(sign).collect());
    }
    let effects: Vec<Vec<&str>> =
        effects.iter().map(|names| names.iter().map(|name| &name[..]).collect()).collect();
    let effects: Vec<&[&str]> = effects.iter().map(|names| &names[..]).collect();
    let before = store.revision;
    let level: Vec<bool> =
        clients.iter().map(|client| hub.synced_revision(client.id).is_some()).collect();
    let woken = hub.publish(store.batch(&effects));
    for (client, level) in clients.iter_mut().zip(level) {
        let from = client.from.max(before + 1);
        let wants = !store.expected(&client.request, from, store.revision).is_empty();
        if level && wants {
            assert!(woken.contains(&client.id), "{:?} was not woken", client.request);
        }
        if woken.contains(&client.id) {
            assert!(level, "only one that is level is woken");
            client.waiting = false;
        }
    }
}

fn step(hub: &mut WatchHub, store: &Store, client: &mut Client, random: &mut Random, seed: u64) {
    let context = format!("seed {seed} {:?}", client.request);
    let max_bytes = [1, 150, 1000][random.below(3)];
    let batch = match hub.next(client.id, max_bytes) {
        Step::Wait => {
            assert_eq!(hub.synced_revision(client.id), Some(store.revision), "{context}");
            let rest = store.expected(&client.request, client.from, store.revision);
            assert_eq!(rest, [], "{context}");
            client.waiting = true;
            return;
        }
        Step::Batch(batch) => batch,
        Step::Behind { from_revision } => {
            let batches = store.read_log(from_revision, 1 + random.below(3));
            let mut from_log = hub.deliver_from_log(client.id, &batches, max_bytes);
            assert!(client.request.previous || from_log.previous_missing.is_empty(), "{context}");
            for number in from_log.previous_missing {
                let event = &mut from_log.batch.events[number];
                event.previous = store.lived_before(event);
            }
            from_log.batch
        }
        Step::Compacted { .. } => panic!("nothing is compacted"),
    };
    // All that it wanted up to the batch's revision, and no more.
    let expected = store.expected(&client.request, client.from, batch.revision);
    assert_eq!(batch.events, expected, "{context}");
    if let Some(synced) = hub.synced_revision(client.id) {
        assert_eq!(synced, batch.revision, "{context}");
    }
    client.from = client.from.max(batch.revision + 1);
    client.waiting = false;
}

#[test]
fn intervals_find_what_a_scan_finds() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut intervals = Intervals::default();
        let mut scan: Vec<(KeyRange, u32)> = Vec::new();
        for value in 0..200 {
            if random.chance(30) && !scan.is_empty() {
                let (range, value) = scan.swap_remove(random.below(scan.len()));
                intervals.remove(&range, value);
            }
            let (start, end) = (random_key(&mut random), random_key(&mut random));
            let range = match random.chance(10) {
                true => KeyRange::From(start.into()),
                false => KeyRange::Interval { start: start.into(), end: end.into() },
            };
            intervals.insert(&range, value);
            scan.push((range, value));
            let key = random_key(&mut random);
            let mut found = Vec::new();
            intervals.find(key.as_bytes(), &mut |value| found.push(value));
            found.sort_unstable();
            let holding = scan.iter().filter(|(range, _)| range.contains(key.as_bytes()));
            let mut expected: Vec<u32> = holding.map(|(_, value)| *value).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}
