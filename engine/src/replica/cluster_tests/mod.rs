//! Members without threads, network or disks: a seed decides what arrives, what is lost, what is
//! durable, who crashes and who is cut off. What any member commits at an index is the truth; all
//! others have to commit the same there, and every answer has to agree with it.

mod changes;
mod machine;
mod story;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::tests::{History, Random, expand};
use super::*;
use crate::effect::Batch;
use crate::lease::LeaseTable;
use crate::message::Outcome;
use crate::peer::PeerMessage;
use crate::request::{
    Compare, CompareTarget, Comparison, DeleteRange, KeyRange, Operation, OperationResponse, Put,
    RangeRequest, TransactionResponse,
};
use machine::{Asked, Disk, Machine, Outside, Snapshot};

/// Steps of the world in a millisecond, and milliseconds in a tick of raft.
const STEPS_IN_MS: usize = 50;
const TICK_MS: u64 = 10;

/// How long a request waits for others.
const TIMEOUT_MS: u64 = 500;

struct Envelope {
    from: u64,
    to: u64,
    message: PeerMessage,
}

struct World {
    random: Random,
    now_ms: u64,
    machines: BTreeMap<u64, Machine>,
    /// Of those that are down.
    disks: BTreeMap<u64, Disk>,
    voters: Vec<u64>,
    network: Vec<Envelope>,
    /// Pairs that hear nothing of each other, in this direction.
    cut: Vec<(u64, u64)>,
    /// Requests between members that were not answered: who asked, the number, and whom.
    open: Vec<(u64, u64, u64)>,
    /// What was committed at each index, by whoever did so first.
    truth: BTreeMap<u64, SharedBatch>,
    history: History,
    leases: LeaseTable,
    documents: BTreeMap<Bytes, Bytes>,
    /// The newest revision that an answer has told of.
    told: Revision,
    next_value: u64,
    /// What the last change of members, or of the leader, came to.
    changed: Option<Outcome>,
    report: Report,
}

#[derive(Default, Debug)]
struct Report {
    answered: HashMap<&'static str, usize>,
    failed: HashMap<String, usize>,
    lost_by_crash: usize,
    elections: usize,
    newest_term: u64,
    installed: usize,
}

fn without_previous(batch: &Batch) -> Vec<Item> {
    let strip = |effect: &crate::effect::Effect| {
        let mut changes = effect.changes.clone();
        changes.sort_by(|left, right| left.record.key().cmp(right.record.key()));
        Item::Effect(crate::effect::Effect { changes, ..effect.clone() })
    };
    let item = |item: &Item| match item {
        Item::Effect(effect) => strip(effect),
        Item::Deletion(deletion) => strip(&expand(deletion)),
        Item::Control(control) => Item::Control(control.clone()),
    };
    batch.items.iter().map(item).collect()
}

impl World {
    fn new(seed: u64, members: u64) -> World {
        let mut world = World {
            random: Random::new(seed),
            now_ms: 0,
            machines: BTreeMap::new(),
            disks: BTreeMap::new(),
            voters: (1..=members).collect(),
            network: Vec::new(),
            cut: Vec::new(),
            open: Vec::new(),
            truth: BTreeMap::new(),
            history: History::default(),
            leases: LeaseTable::default(),
            documents: BTreeMap::new(),
            told: 0,
            next_value: 0,
            changed: None,
            report: Report::default(),
        };
        for id in 1..=members {
            world.start(id, Disk::default());
        }
        world
    }

    fn start(&mut self, id: u64, disk: Disk) {
        let cores = 1 + self.random.below(3);
        let seed = self.random.below(1 << 30) as u64;
        let voters = if self.voters.contains(&id) { self.voters.clone() } else { Vec::new() };
        let machine = Machine::start(id, &voters, disk, cores, (seed, self.now_ms));
        self.machines.insert(id, machine);
    }

    /// The power goes: writes that were under way are done, up to some of them.
    fn crash(&mut self, id: u64) {
        let Some(mut machine) = self.machines.remove(&id) else { return };
        let done = self.random.below(machine.writes.len() + 1);
        machine.do_writes(done);
        self.report.lost_by_crash += machine.asked.len();
        self.disks.insert(id, machine.disk);
        self.network.retain(|envelope| envelope.from != id || self.random.chance(50));
        // Connections break: who waits for an answer is told, and nobody waits here any more.
        let (broken, kept) =
            self.open.drain(..).partition(|&(asker, _, to)| asker == id || to == id);
        self.open = kept;
        for (asker, number, to) in broken {
            if asker != id {
                self.break_off(asker, number, to);
            }
        }
        let others: Vec<u64> = self.machines.keys().copied().collect();
        for other in others {
            if self.random.chance(50) {
                self.act(other, 0, |replica, now_ms, out| replica.peer_lost(id, now_ms, out));
            }
        }
    }

    fn break_off(&mut self, asker: u64, number: u64, to: u64) {
        let outcome = Err(StoreError::LeaderChanged);
        let message = PeerMessage::Answer { number, outcome, index: 0 };
        self.act(asker, 0, |replica, now_ms, out| replica.peer_message(to, message, now_ms, out));
    }

    fn act(&mut self, id: u64, core: usize, act: impl FnOnce(&mut Replica, u64, &mut Output)) {
        let now_ms = self.now_ms;
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let outside = machine.drive(core, |replica, out| act(replica, now_ms, out));
        let Outside { commits, peer, answers } = outside;
        for batch in commits {
            self.committed(&batch);
        }
        for (to, message) in peer {
            if let PeerMessage::Request { number, .. } = &message {
                self.open.push((id, *number, to));
            }
            self.network.push(Envelope { from: id, to, message });
        }
        for (token, outcome) in answers {
            self.answered(id, core, token, outcome);
        }
    }

    fn committed(&mut self, batch: &SharedBatch) {
        if let Some(known) = self.truth.get(&batch.index) {
            assert_eq!((known.term, known.revision_after), (batch.term, batch.revision_after));
            assert_eq!(known.revision_before, batch.revision_before);
            assert_eq!(without_previous(known), without_previous(batch), "at {}", batch.index);
            return;
        }
        let newest = self.truth.last_key_value().map_or(0, |(index, _)| *index);
        assert_eq!(batch.index, newest + 1, "somebody is first");
        self.report.elections += usize::from(batch.term > self.report.newest_term);
        self.report.newest_term = batch.term;
        self.history.commit(batch);
        for item in &batch.items {
            if let Item::Control(control) = item {
                self.leases.apply(control, 0);
                if let Control::Document { name, content } = control {
                    self.documents.insert(name.clone(), content.clone());
                }
            }
        }
        self.truth.insert(batch.index, Arc::clone(batch));
    }

    fn newest_revision(&self) -> Revision {
        self.truth.last_key_value().map_or(1, |(_, batch)| batch.revision_after)
    }

    fn answered(&mut self, id: u64, core: usize, token: Token, outcome: Outcome) {
        let machine = self.machines.get_mut(&id).expect("it is up");
        let asked = machine.asked.remove(&(core, token)).expect("each request is answered once");
        let Asked { request, floor, at_ms } = asked;
        let took_ms = self.now_ms - at_ms;
        assert!(took_ms < 10_000, "{id} {request:?} took {took_ms} ms: {outcome:?}");
        let committed = machine.shared.committed_revision();
        match (request, outcome) {
            (Request::Range(request), Ok(Answer::Range(response))) => {
                let kind = if request.serializable { "serializable" } else { "range" };
                *self.report.answered.entry(kind).or_default() += 1;
                assert!(response.revision <= committed, "an uncommitted read");
                if !request.serializable {
                    assert!(response.revision >= floor, "a stale read: {response:?} {floor}");
                    self.told = self.told.max(response.revision);
                }
                let expected = self.history.at(response.revision, &request.range);
                assert_eq!(response.records, expected);
                assert_eq!(response.count, expected.len());
            }
            (Request::Transact(transaction), Ok(Answer::Transact(response))) => {
                assert!(response.revision <= self.newest_revision(), "not committed anywhere");
                // Who has waited too long for its own member is told what the leader told.
                let is_here = response.revision <= committed;
                assert!(is_here || took_ms >= TIMEOUT_MS, "shown before it was committed");
                assert!(response.revision >= floor, "a stale answer: {response:?} {floor}");
                self.told = self.told.max(response.revision);
                let wrote = self.check_transaction(&transaction, &response);
                let kind = if wrote { "write" } else { "no effect" };
                *self.report.answered.entry(kind).or_default() += 1;
            }
            (Request::LeaseGrant { id, .. }, Ok(_)) => {
                let exists = self.leases.time(id, 0).is_ok();
                let granted = |batch: &SharedBatch| {
                    batch.items.iter().any(|item| {
                        matches!(item, Item::Control(Control::LeaseGrant { id: other, .. }) if *other == id)
                    })
                };
                assert!(exists || self.truth.values().any(granted), "a lease that never was");
                *self.report.answered.entry("grant").or_default() += 1;
            }
            (Request::ChangeMember(_) | Request::MoveLeader { .. }, outcome) => {
                self.changed = Some(outcome);
            }
            (_, Ok(_)) => *self.report.answered.entry("other").or_default() += 1,
            (_, Err(error)) => {
                let name = format!("{error:?}").split(['(', ' ']).next().unwrap_or("").to_owned();
                *self.report.failed.entry(name).or_default() += 1;
            }
        }
    }

    /// Whether the answer is what the history says. Gives whether something was written.
    fn check_transaction(&self, transaction: &Transaction, response: &TransactionResponse) -> bool {
        let wrote = response.responses.iter().any(|response| match response {
            OperationResponse::Put { .. } => true,
            OperationResponse::DeleteRange { deleted, .. } => *deleted > 0,
            _ => false,
        });
        let before = if wrote { response.revision - 1 } else { response.revision };
        let holds = |compare: &Compare| {
            let records = self.history.at(before, &compare.range);
            let CompareTarget::Mod(target) = compare.target else { unreachable!() };
            match &records[..] {
                [] => 0 < target,
                records => records.iter().all(|record| record.mod_revision() < target),
            }
        };
        let succeeds = transaction.compares.iter().all(holds);
        assert_eq!(response.succeeded, succeeds, "{transaction:?} {response:?}");
        let branch = if response.succeeded { &transaction.success } else { &transaction.failure };
        assert_eq!(branch.len(), response.responses.len());
        for (operation, answer) in branch.iter().zip(&response.responses) {
            if let Operation::Put(put) = operation {
                let range = KeyRange::Single(put.key.clone());
                let found = self.history.at(response.revision, &range);
                assert_eq!(found.len(), 1, "{put:?} at {}", response.revision);
                assert_eq!(found[0].mod_revision(), response.revision);
            }
            if let (Operation::Range(request), OperationResponse::Range(found)) =
                (operation, answer)
                && branch.len() == 1
            {
                assert_eq!(found.records, self.history.at(before, &request.range));
            }
        }
        wrote
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.random.below(8)))
    }

    fn range_of_keys(&mut self) -> KeyRange {
        match self.random.below(4) {
            0 => KeyRange::prefix(b"k"),
            1 => KeyRange::From(self.key()),
            _ => KeyRange::Single(self.key()),
        }
    }

    fn operation(&mut self) -> Operation {
        match self.random.below(8) {
            0 => {
                Operation::DeleteRange(DeleteRange { range: self.range_of_keys(), previous: true })
            }
            1 => Operation::Range(RangeRequest::new(self.range_of_keys())),
            drawn => {
                self.next_value += 1;
                Operation::Put(Put {
                    key: self.key(),
                    value: Bytes::from(format!("v{}", self.next_value)),
                    lease: if drawn == 2 { 1 + self.random.below(3) as i64 } else { 0 },
                    previous: self.random.chance(50),
                    ignore_value: false,
                    ignore_lease: false,
                })
            }
        }
    }

    fn request(&mut self) -> Request {
        match self.random.below(24) {
            0 => Request::LeaseGrant { id: 1 + self.random.below(3) as i64, ttl: 5, random: 1 },
            1 => Request::LeaseRevoke { id: 1 + self.random.below(3) as i64 },
            2 => Request::LeaseTimeToLive { id: 1 + self.random.below(3) as i64, keys: true },
            3 => Request::LeaseKeepAlive { id: 1 + self.random.below(3) as i64 },
            4 => {
                let revision = self.newest_revision() - 30;
                Request::Compact { revision, physical: self.random.chance(50) }
            }
            5 => {
                let name = Bytes::from(format!("d{}", self.random.below(2)));
                self.next_value += 1;
                let content = Bytes::from(format!("{}", self.next_value));
                Request::PutDocument { name, content, expected: None }
            }
            6 => Request::Members { linearizable: self.random.chance(50) },
            7 => Request::Confirm,
            8..=12 => {
                let mut request = RangeRequest::new(self.range_of_keys());
                request.serializable = self.random.chance(30);
                Request::Range(request)
            }
            13..=16 => {
                let target = self.newest_revision() - self.random.below(6) as i64;
                let compares = vec![Compare {
                    range: self.range_of_keys(),
                    comparison: Comparison::Less,
                    target: CompareTarget::Mod(target),
                }];
                let mut success = vec![self.operation()];
                // Of different keys, as a key may be put once.
                success.retain(|operation| !matches!(operation, Operation::DeleteRange(_)));
                let failure = vec![Operation::Range(RangeRequest::new(self.range_of_keys()))];
                Request::Transact(Transaction { compares, success, failure })
            }
            _ => Request::Transact(Transaction::of(self.operation())),
        }
    }

    fn ask(&mut self) {
        let request = self.request();
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        let id = ids[self.random.below(ids.len())];
        self.ask_of(id, request);
    }

    fn ask_of(&mut self, id: u64, request: Request) {
        let core = self.random.below(self.machines[&id].replicas.len());
        let (floor, at_ms) = (self.told, self.now_ms);
        let machine = self.machines.get_mut(&id).expect("it is up");
        let token = machine.next_token;
        machine.next_token += 1;
        let asked = Asked { request: request.clone(), floor, at_ms };
        machine.asked.insert((core, token), asked);
        self.act(id, core, |replica, now_ms, out| replica.request(token, request, now_ms, out));
    }

    /// What one member's state is by the truth up to an index.
    fn snapshot_at(
        &self,
        index: u64,
        membership: Vec<(u64, mainstay_raft::Membership)>,
    ) -> Snapshot {
        let batch = &self.truth[&index];
        let (term, revision) = (batch.term, batch.revision_after);
        let mut leases = LeaseTable::default();
        let mut documents = BTreeMap::new();
        for (_, batch) in self.truth.range(..=index) {
            for item in &batch.items {
                if let Item::Control(control) = item {
                    leases.apply(control, 0);
                    if let Control::Document { name, content } = control {
                        documents.insert(name.clone(), content.clone());
                    }
                }
            }
        }
        Snapshot {
            reached: crate::log::replay::Reached { index, term, revision },
            records: self.history.at(revision, &KeyRange::prefix(b"")),
            leases: leases.entries().map(|(id, ttl, _)| (id, ttl)).collect(),
            documents,
            membership,
        }
    }
}
