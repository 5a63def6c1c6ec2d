//! Several cores without threads: every message waits in a queue, a seed decides what happens next.
//!
//! Because all changes are in the committed batches, a naive replay of them tells what the store
//! held at each revision, and every answer can be checked against the revision that it names.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use mainstay_raft::{Config, HardState, Node};

use super::reads::SLICE_STEPS;
use super::state_hash::StateHash;
use super::*;
use crate::durability::Classes;
use crate::lease::LeaseTable;
use crate::message::Outcome;
use crate::mvcc::Lookup;
use crate::record::Record;
use crate::request::{
    Compare, CompareTarget, Comparison, DeleteRange, KeyRange, Operation, OperationResponse, Put,
    RangeRequest, TransactionResponse,
};
use crate::sequencer::Sequencer;

/// xorshift64*: small, seeded, good enough to pick from a list.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(drawn) * limit as u128) >> 64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What the store holds, by revision, as the committed batches say.
#[derive(Default)]
pub(super) struct History {
    pub(super) states: BTreeMap<Revision, BTreeMap<Vec<u8>, Record>>,
    newest: BTreeMap<Vec<u8>, Record>,
    deletions: usize,
}

/// What a deletion stands for.
pub(super) fn expand(deletion: &Deletion) -> Effect {
    let changes = deletion.deleted.records().iter().map(|record| Change {
        record: Record::tombstone(record.key(), deletion.revision),
        previous: Some(record.clone()),
    });
    Effect { revision: deletion.revision, changes: changes.collect() }
}

impl History {
    pub(super) fn commit(&mut self, batch: &Batch) {
        for item in &batch.items {
            let effect = match item {
                Item::Effect(effect) => effect.clone(),
                Item::Deletion(deletion) => {
                    self.deletions += 1;
                    expand(deletion)
                }
                Item::Control(Control::LeaseRevoke { id }) => {
                    let orphan = self.newest.values().find(|record| record.lease() == *id);
                    assert_eq!(orphan, None, "a key outlives its lease {id}");
                    continue;
                }
                Item::Control(_) => continue,
            };
            for change in &effect.changes {
                let key = change.record.key().to_vec();
                let before = if change.record.is_tombstone() {
                    self.newest.remove(&key)
                } else {
                    self.newest.insert(key.clone(), change.record.clone())
                };
                let first = effect.changes.iter().find(|c| c.record.key() == key);
                if first == Some(change) {
                    assert_eq!(change.previous, before, "previous of {key:?}");
                }
            }
            self.states.insert(effect.revision, self.newest.clone());
        }
    }

    /// What the log gives for a key: nothing if no revision from the compaction on shows it.
    pub(super) fn in_log(&self, lookup: &Lookup, compacted: Revision) -> Option<Record> {
        let at = |revision| {
            let (_, state) = self.states.range(..=revision).next_back()?;
            state.get(&lookup.key[..])
        };
        let record = at(lookup.revision)?;
        let last = lookup.revision.max(compacted);
        (at(last) == Some(record)).then(|| record.clone())
    }

    /// The live records of a range at a revision.
    pub(super) fn at(&self, revision: Revision, range: &KeyRange) -> Vec<Record> {
        let empty = BTreeMap::new();
        let state = self.states.range(..=revision).next_back().map_or(&empty, |(_, state)| state);
        let inside = state.iter().filter(|(key, _)| range.contains(key));
        inside.map(|(_, record)| record.clone()).collect()
    }
}

use crate::effect::{Batch, Change, Deletion, Effect};

pub(super) struct World {
    random: Random,
    replicas: Vec<Replica>,
    shared: Arc<Shared>,
    /// By origin and destination; in order.
    queues: Vec<Vec<VecDeque<Message>>>,
    appended: VecDeque<u64>,
    /// Evaluations that another thread has not done yet.
    heavy: VecDeque<Heavy>,
    history: History,
    asked: HashMap<(usize, Token), (Request, Revision)>,
    next_token: Token,
    /// Asked of the log, by core and number.
    lookups: Vec<(usize, u64, Vec<Lookup>)>,
    looked_up: usize,
    answered: usize,
    transactions_checked: usize,
    now_ms: u64,
}

impl World {
    fn new(seed: u64, cores: usize) -> World {
        let shared = Arc::new(Shared::new(cores, 1, 0, 0));
        let node = Node::new(Config {
            id: 1,
            voters: vec![1],
            hard_state: HardState::default(),
            last_index: 0,
            last_term: 0,
            ..Config::default()
        });
        let sequencer = Sequencer::new(node, 1, |_| Bytes::from_static(b"batch"));
        let mut member = Member::new(cores, sequencer, LeaseTable::default(), BTreeMap::new(), 0);
        if seed % 3 == 1 {
            let classes = Classes::parse("k1=memory,k2=replicated,k3=memory");
            member.set_classes(classes.expect("well formed"));
        }
        member.start(0);
        let mut member = Some(member);
        let replica = |core| {
            // A ring that holds some batches: what is older leaves memory.
            let ring_bytes = [1, 1_000, 4_000][seed as usize % 3];
            let hub = WatchHub::with_ring_bytes(1, 0, ring_bytes);
            let member = if core == 0 { member.take() } else { None };
            Replica::new(core, cores, Arc::clone(&shared), Shard::default(), hub, member, 0)
        };
        World {
            random: Random::new(seed),
            replicas: (0..cores).map(replica).collect(),
            shared,
            queues: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            appended: VecDeque::new(),
            heavy: VecDeque::new(),
            history: History::default(),
            asked: HashMap::new(),
            next_token: 1,
            lookups: Vec::new(),
            looked_up: 0,
            answered: 0,
            transactions_checked: 0,
            now_ms: 0,
        }
    }

    fn drive(&mut self, core: usize, act: impl FnOnce(&mut Replica, u64, &mut Output)) {
        let mut out = Output::default();
        act(&mut self.replicas[core], self.now_ms, &mut out);
        for batch in out.commits {
            self.history.commit(&batch);
            for other in (0..self.replicas.len()).filter(|&other| other != core) {
                self.queues[core][other].push_back(Message::Committed(Arc::clone(&batch)));
            }
        }
        for (to, message) in out.messages {
            self.queues[core][to].push_back(message);
        }
        self.heavy.extend(out.heavy);
        let lookups = out.lookups.into_iter().map(|(id, lookups)| (core, id, lookups));
        self.lookups.extend(lookups);
        self.appended.extend(out.writes.into_iter().map(|write| write.number));
        for (token, outcome) in out.answers {
            self.check(core, token, outcome);
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.random.below(6)))
    }

    fn range_of_keys(&mut self) -> KeyRange {
        match self.random.below(4) {
            0 => KeyRange::prefix(b"k"),
            1 => KeyRange::From(self.key()),
            2 => KeyRange::Interval { start: self.key(), end: self.key() },
            _ => KeyRange::Single(self.key()),
        }
    }

    fn operation(&mut self) -> Operation {
        match self.random.below(10) {
            0 => {
                Operation::DeleteRange(DeleteRange { range: self.range_of_keys(), previous: true })
            }
            1 | 2 => {
                let mut request = RangeRequest::new(self.range_of_keys());
                if self.random.chance(30) {
                    request.revision =
                        self.shared.committed_revision() - self.random.below(12) as i64;
                }
                request.count_only = self.random.chance(10);
                Operation::Range(request)
            }
            3 => Operation::DeleteRange(DeleteRange {
                range: KeyRange::Single(self.key()),
                previous: false,
            }),
            drawn => Operation::Put(Put {
                key: self.key(),
                value: Bytes::from(format!("v{}", self.next_token)),
                lease: if drawn == 4 { 1 + self.random.below(3) as i64 } else { 0 },
                previous: self.random.chance(50),
                ignore_value: false,
                ignore_lease: false,
            }),
        }
    }

    fn compare(&mut self) -> Compare {
        let revision = self.shared.taken_revision() - self.random.below(4) as i64;
        Compare {
            range: self.range_of_keys(),
            comparison: if self.random.chance(50) { Comparison::Less } else { Comparison::Greater },
            target: CompareTarget::Mod(revision),
        }
    }

    fn transaction(&mut self) -> Transaction {
        if self.random.chance(50) {
            return Transaction::of(self.operation());
        }
        let compares = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let success = (0..self.random.below(3)).map(|_| self.operation()).collect();
        Transaction { compares, success, failure: vec![self.operation()] }
    }

    fn request(&mut self) -> Request {
        match self.random.below(22) {
            21 => Request::LeaseKeepAlive { id: 1 + self.random.below(3) as i64 },
            20 => Request::HashKv {
                revision: self.shared.committed_revision() - self.random.below(4) as i64,
            },
            0 => Request::LeaseGrant { id: 1 + self.random.below(3) as i64, ttl: 1000, random: 1 },
            1 => Request::LeaseRevoke { id: 1 + self.random.below(3) as i64 },
            2 => Request::LeaseTimeToLive { id: 1 + self.random.below(3) as i64, keys: true },
            3 => Request::Compact {
                revision: self.shared.committed_revision() - self.random.below(30) as i64,
                physical: self.random.chance(50),
            },
            4..=8 => {
                let mut request = RangeRequest::new(self.range_of_keys());
                request.limit = self.random.below(4);
                request.count_only = self.random.chance(10);
                if self.random.chance(30) {
                    request.revision =
                        self.shared.committed_revision() - self.random.below(20) as i64;
                }
                Request::Range(request)
            }
            _ => Request::Transact(self.transaction()),
        }
    }

    fn ask(&mut self) {
        let core = self.random.below(self.replicas.len());
        let request = self.request();
        let token = self.next_token;
        self.next_token += 1;
        let committed = self.shared.committed_revision();
        self.asked.insert((core, token), (request.clone(), committed));
        self.drive(core, |replica, now_ms, out| replica.request(token, request, now_ms, out));
    }

    fn deliver(&mut self) -> bool {
        let cores = self.replicas.len();
        let full: Vec<(usize, usize)> = (0..cores)
            .flat_map(|from| (0..cores).map(move |to| (from, to)))
            .filter(|&(from, to)| !self.queues[from][to].is_empty())
            .collect();
        if full.is_empty() {
            return false;
        }
        let (from, to) = full[self.random.below(full.len())];
        let message = self.queues[from][to].pop_front().expect("not empty");
        self.drive(to, |replica, now_ms, out| replica.receive(from, message, now_ms, out));
        true
    }

    fn step(&mut self) -> bool {
        self.now_ms += 1;
        if self.random.below(1000) == 0 {
            // Enough for a checkpoint; three times, and a lease runs out.
            self.now_ms += 350_000;
            self.drive(0, |replica, now_ms, out| replica.tick(now_ms, out));
        }
        match self.random.below(10) {
            0 | 1 => self.drive(0, |replica, _, out| replica.pump(3, out)),
            2 if self.random.chance(30) => {
                let submitted = self.random.below(self.appended.len() + 1);
                if let Some(last) = submitted.checked_sub(1) {
                    let number = self.appended[last];
                    self.drive(0, |replica, now_ms, out| replica.submitted(number, now_ms, out));
                }
            }
            2 => {
                let durable = self.random.below(self.appended.len() + 1);
                let last = self.appended.drain(..durable).next_back();
                if let Some(number) = last {
                    self.drive(0, |replica, now_ms, out| replica.written(number, now_ms, out));
                }
            }
            3 => {
                let core = self.random.below(self.replicas.len());
                self.drive(core, |replica, now_ms, out| replica.resume(now_ms, out));
                self.drive(core, |replica, now_ms, out| {
                    replica.compact_slice(now_ms, out);
                });
                self.drive(core, |replica, now_ms, out| {
                    replica.work_slice(now_ms, out);
                });
                if self.random.chance(30)
                    && let Some(heavy) = self.heavy.pop_front()
                {
                    let done = heavy.run();
                    self.drive(0, |replica, now_ms, out| replica.evaluated(done, now_ms, out));
                }
            }
            4 if !self.lookups.is_empty() => self.look_up(),
            _ => return self.deliver(),
        }
        true
    }

    /// The log answers some core.
    fn look_up(&mut self) {
        let next = self.random.below(self.lookups.len());
        let (core, id, lookups) = self.lookups.swap_remove(next);
        self.looked_up += lookups.len();
        let compacted = self.shared.compacted_revision();
        let found = lookups.iter().map(|lookup| self.history.in_log(lookup, compacted)).collect();
        self.drive(core, |replica, now_ms, out| {
            replica.history_found(id, Ok(found), now_ms, out);
        });
    }

    /// Checks an answer against the history.
    fn check(&mut self, core: usize, token: Token, outcome: Outcome) {
        let (request, committed_before) =
            self.asked.remove(&(core, token)).expect("each request is answered once");
        self.answered += 1;
        let committed = self.shared.committed_revision();
        match (request, outcome) {
            (Request::Range(request), Ok(Answer::Range(response))) => {
                assert!(response.revision >= committed_before, "a stale read");
                assert!(response.revision <= committed, "an uncommitted read");
                let at = if request.revision > 0 { request.revision } else { response.revision };
                let expected = self.history.at(at, &request.range);
                assert_eq!(response.count, expected.len());
                if !request.count_only {
                    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
                    let shown: Vec<_> = expected.iter().take(limit).cloned().collect();
                    assert_eq!(response.records, shown);
                    assert_eq!(response.more, expected.len() > limit);
                }
            }
            (Request::HashKv { .. }, Ok(Answer::HashKv(answer))) => {
                assert!(answer.revision <= committed, "an uncommitted read");
                let mut expected = StateHash::default();
                let everything = KeyRange::prefix(b"");
                let records = self.history.at(answer.revision, &everything);
                records.iter().for_each(|record| expected.add(record));
                assert_eq!(answer.hash, expected.value());
            }
            (Request::Transact(transaction), Ok(Answer::Transact(response))) => {
                assert!(response.revision >= committed_before, "a stale answer");
                assert!(response.revision <= committed, "an uncommitted answer");
                self.check_transaction(&transaction, &response);
            }
            (Request::LeaseTimeToLive { id, .. }, Ok(Answer::LeaseStatus(status))) => {
                assert_eq!(status.id, id);
            }
            (_, Ok(_)) => {}
            (
                Request::Transact(_),
                Err(StoreError::LeaseNotFound(_) | StoreError::Compacted { .. }),
            )
            | (Request::Range(_) | Request::HashKv { .. }, Err(StoreError::Compacted { .. }))
            | (
                Request::LeaseGrant { .. }
                | Request::LeaseKeepAlive { .. }
                | Request::LeaseRevoke { .. }
                | Request::LeaseTimeToLive { .. }
                | Request::Compact { .. },
                Err(_),
            ) => {}
            (request, Err(error)) => panic!("{request:?}: {error}"),
        }
    }

    fn check_transaction(&mut self, transaction: &Transaction, response: &TransactionResponse) {
        let wrote = self.history.states.get(&response.revision).is_some_and(|_| {
            response.responses.iter().any(|response| match response {
                OperationResponse::Put { .. } => true,
                OperationResponse::DeleteRange { deleted, .. } => *deleted > 0,
                _ => false,
            })
        });
        let before = if wrote { response.revision - 1 } else { response.revision };
        let holds = |compare: &Compare| {
            let records = self.history.at(before, &compare.range);
            let CompareTarget::Mod(target) = compare.target else { unreachable!() };
            let holds = |revision: Revision| match compare.comparison {
                Comparison::Less => revision < target,
                _ => revision > target,
            };
            match &records[..] {
                [] => holds(0),
                records => records.iter().all(|record| holds(record.mod_revision())),
            }
        };
        assert_eq!(response.succeeded, transaction.compares.iter().all(holds));
        let branch = if response.succeeded { &transaction.success } else { &transaction.failure };
        assert_eq!(branch.len(), response.responses.len());
        let first = branch.first().zip(response.responses.first());
        if let Some((Operation::Range(request), OperationResponse::Range(found))) = first {
            let at = if request.revision > 0 { request.revision } else { before };
            let expected = self.history.at(at, &request.range);
            assert_eq!(found.count, expected.len());
            assert_eq!(found.revision, before);
            if !request.count_only {
                assert_eq!(found.records, expected);
            }
        }
        if let Some((
            Operation::DeleteRange(delete),
            OperationResponse::DeleteRange { deleted, .. },
        )) = first
        {
            assert_eq!(*deleted, self.history.at(before, &delete.range).len());
        }
        self.transactions_checked += 1;
    }

    /// Lets everything that is under way come to its end.
    fn finish(&mut self) {
        for _ in 0..1_000_000 {
            let delivered = self.queues.iter().flatten().all(VecDeque::is_empty);
            if self.asked.is_empty() && delivered && self.replicas.iter().all(Replica::is_quiet) {
                return;
            }
            self.step();
        }
        panic!("not answered: {:?}", self.asked.values().next());
    }
}

fn run(seed: u64, requests: usize) -> World {
    let cores = 1 + (seed % 4) as usize;
    let mut world = World::new(seed, cores);
    for _ in 0..requests {
        world.ask();
        for _ in 0..world.random.below(12) {
            world.step();
        }
    }
    world.finish();
    assert_eq!(world.answered, requests);
    for core in 0..cores {
        assert!(world.replicas[core].is_quiet(), "core {core}");
    }
    world
}

#[test]
fn every_answer_is_what_the_log_says() {
    let (mut transactions, mut deletions, mut looked_up) = (0, 0, 0);
    for seed in 0..120 {
        let outcome = std::panic::catch_unwind(|| {
            let world = run(seed, 400);
            (world.transactions_checked, world.history.deletions, world.looked_up)
        });
        match outcome {
            Ok((checked, deleted, versions)) => {
                transactions += checked;
                deletions += deleted;
                looked_up += versions;
            }
            Err(panic) => {
                eprintln!("seed {seed} failed");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(deletions > 400, "only {deletions} deletions of many keys");
    assert!(looked_up > 1_000, "only {looked_up} older versions were looked up");
    assert!(transactions > 10_000, "only {transactions} transactions were checked");
}

#[test]
fn a_count_over_old_revisions_comes_in_slices() {
    const KEYS: usize = 10 * SLICE_STEPS;
    let mut world = World::new(0, 1);
    world.shared = Arc::new(Shared::new(1, 1 + KEYS as Revision, 0, 0));
    let replica = &mut world.replicas[0];
    replica.shared = Arc::clone(&world.shared);
    for at in 0..KEYS {
        let revision = 2 + at as Revision;
        let key = format!("k{:05}", at * 7919 % KEYS);
        replica.shard.install(Record::new(key.as_bytes(), b"", revision, revision, 1, 0));
    }
    for old in [2, KEYS / 2, KEYS] {
        let request = RangeRequest {
            revision: 1 + old as Revision,
            count_only: true,
            ..RangeRequest::new(KeyRange::prefix(b"k"))
        };
        let mut out = Output::default();
        replica.request(1, Request::Range(request), 0, &mut out);
        let mut rounds = 1;
        while out.answers.is_empty() {
            assert!(std::mem::take(&mut out.resume), "it goes on");
            replica.resume(0, &mut out);
            rounds += 1;
        }
        let [(1, Ok(Answer::Range(response)))] = &out.answers[..] else { panic!("{out:?}") };
        assert_eq!(response.count, old);
        // Each key was looked at, except that at the newest revision leaves know their number.
        let least = if old == KEYS { 1 } else { KEYS / SLICE_STEPS / 2 };
        assert!(rounds >= least, "{old}: {rounds} rounds");
    }
}

/// Changes of a document are held against what is ordered, committed or not.
#[test]
fn documents_are_swapped_by_one_at_a_time() {
    let mut world = World::new(1, 1);
    let content = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let put = |expected: Option<Option<Bytes>>, text| Request::PutDocument {
        name: Bytes::from_static(b"d"),
        content: Bytes::from_static(text),
        expected,
    };
    let replica = &mut world.replicas[0];
    let mut out = Output::default();
    for (token, request, refused) in [
        (1, put(Some(content("no")), b"a"), true),
        (2, put(Some(None), b"a"), false),
        (3, put(Some(None), b"b"), true),
        (4, put(Some(content("a")), b"b"), false),
        (5, put(None, b"c"), false),
        (6, put(Some(content("b")), b"d"), true),
        (7, put(Some(content("c")), b"d"), false),
    ] {
        replica.request(token, request, 0, &mut out);
        let answers = std::mem::take(&mut out.answers);
        assert_eq!(answers.len(), usize::from(refused), "{token}");
        for (answered, outcome) in answers {
            assert_eq!(answered, token);
            assert!(matches!(outcome, Err(StoreError::DocumentChanged)), "{token}: {outcome:?}");
        }
    }
    assert_eq!(world.shared.documents_version(), 0, "nothing is committed yet");
    replica.pump(8, &mut out);
    let last = out.writes.last().expect("batches").number;
    replica.written(last, 0, &mut out);
    replica.resume(0, &mut out);
    let answered: Vec<Token> = out.answers.drain(..).map(|(token, _)| token).collect();
    assert_eq!(answered, [2, 4, 5, 7]);
    assert_eq!(world.shared.documents_version(), 4);
    replica.request(8, Request::Document { name: Bytes::from_static(b"d") }, 0, &mut out);
    let (_, outcome) = out.answers.pop().expect("an answer");
    assert!(matches!(outcome, Ok(Answer::Document(Some(text))) if text == "d"));
    replica.request(9, put(Some(content("d")), b"e"), 0, &mut out);
    assert!(out.answers.is_empty(), "accepted");
}
