//! What a transaction does and answers: etcd's rules, over any state.
//!
//! Everything that can fail is checked before anything changes, as etcd does: the branches of
//! nested transactions are all chosen by the state before the first operation. Requests are
//! taken as doors let them through, nested no deeper than their decoders allow (100).

use std::cell::Cell;

use super::index::check_revision;
use super::range::answer;
use crate::effect::Change;
use crate::error::StoreError;
use crate::limits::{DELETE_KEY_BYTES, DELETE_OVERHEAD_BYTES};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{
    Compare, CompareTarget, Comparison, DeleteRange, KeyRange, Operation, OperationResponse, Past,
    Put, RangeRequest, RangeResponse, Transaction, TransactionResponse,
};

mod gathered;
mod past;
mod written;
pub use gathered::Gathered;
pub use past::{fill_in_past, past_ranges};
use written::Written;

/// The state that a transaction is evaluated against.
pub trait View {
    /// The newest version of `key`, committed or not; a tombstone while one is remembered.
    fn newest(&self, key: &[u8]) -> Option<Record>;
    /// The newest version of each key in `range`, committed or not, tombstones included, by key.
    fn newest_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record));
    /// Whether keys may be attached to this lease.
    fn lease_exists(&self, lease: LeaseId) -> bool;
    /// The revision below which history cannot be read.
    fn compacted_revision(&self) -> Revision;
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// To be given when the store has committed `visible_at`, an error too.
    pub result: Result<TransactionResponse, StoreError>,
    /// In the order of the operations, at the revision `visible_at`; empty when nothing changed
    /// (and no revision was taken then). `previous` is what was there before the transaction.
    pub changes: Vec<Change>,
    /// The largest revision that the answer depends on: its own, or that of anything looked at.
    pub visible_at: Revision,
}

/// Evaluates `transaction` against `view`, which is at `committed` or later. Changes nothing:
/// installing the changes is up to the caller. `take_revision` is called once if there is a
/// change, after every check.
pub fn evaluate(
    view: &impl View,
    committed: Revision,
    take_revision: impl FnOnce() -> Revision,
    transaction: &Transaction,
) -> Evaluation {
    let looked = Looked { view, newest: Cell::new(0) };
    let mut branches = Vec::new();
    choose_branches(&looked, transaction, &mut branches);
    let mut path = branches.iter().copied();
    let mut so_far = SoFar { operations: Vec::new(), room: DELETE_KEY_BYTES };
    if let Err(error) = check(&looked, committed, transaction, &mut path, &mut so_far) {
        return Evaluation {
            result: Err(error),
            changes: Vec::new(),
            visible_at: looked.newest.get(),
        };
    }
    let mut run = Run {
        looked: &looked,
        written: Written::default(),
        take: Some(take_revision),
        revision: 0,
    };
    let mut response = run.transaction(transaction, &mut branches.iter().copied());
    let changes = run.written.into_changes();
    let (revision, before, visible_at) = if changes.is_empty() {
        let now = committed.max(looked.newest.get());
        (now, now, looked.newest.get())
    } else {
        assert!(run.revision > looked.newest.get().max(committed), "revisions ascend");
        (run.revision, run.revision - 1, run.revision)
    };
    fill_in_revisions(&mut response, revision, before);
    Evaluation { result: Ok(response), changes, visible_at }
}

/// A view that remembers the newest revision seen in it.
struct Looked<'a, V> {
    view: &'a V,
    newest: Cell<Revision>,
}

impl<V: View> Looked<'_, V> {
    fn note(&self, record: &Record) {
        self.newest.set(self.newest.get().max(record.mod_revision()));
    }

    /// The newest version, unless it is a tombstone.
    fn newest(&self, key: &[u8]) -> Option<Record> {
        let record = self.view.newest(key)?;
        self.note(&record);
        (!record.is_tombstone()).then_some(record)
    }

    fn newest_in(&self, range: &KeyRange) -> Vec<Record> {
        if let KeyRange::Single(key) = range {
            return self.newest(key).into_iter().collect();
        }
        let mut records = Vec::new();
        self.view.newest_in(range, &mut |record| {
            self.note(record);
            if !record.is_tombstone() {
                records.push(record.clone());
            }
        });
        records
    }
}

/// Evaluates the compares on the way down, outer transactions first; one entry per transaction.
fn choose_branches<V: View>(
    looked: &Looked<'_, V>,
    transaction: &Transaction,
    branches: &mut Vec<bool>,
) {
    let succeeded = transaction.compares.iter().all(|compare| holds(looked, compare));
    branches.push(succeeded);
    for operation in branch(transaction, succeeded) {
        if let Operation::Transaction(nested) = operation {
            choose_branches(looked, nested, branches);
        }
    }
}

fn branch(transaction: &Transaction, succeeded: bool) -> &[Operation] {
    if succeeded { &transaction.success } else { &transaction.failure }
}

fn next_branch<'a>(
    transaction: &'a Transaction,
    path: &mut impl Iterator<Item = bool>,
) -> (bool, &'a [Operation]) {
    let succeeded = path.next().expect("a branch was chosen for every transaction");
    (succeeded, branch(transaction, succeeded))
}

fn holds<V: View>(looked: &Looked<'_, V>, compare: &Compare) -> bool {
    if let KeyRange::Single(key) = &compare.range {
        return holds_for(compare, looked.newest(key).as_ref());
    }
    let records = looked.newest_in(&compare.range);
    if records.is_empty() {
        return holds_for(compare, None);
    }
    records.iter().all(|record| holds_for(compare, Some(record)))
}

fn holds_for(compare: &Compare, record: Option<&Record>) -> bool {
    let number = |of: fn(&Record) -> i64| record.map_or(0, of);
    let order = match &compare.target {
        CompareTarget::Version(version) => number(Record::version).cmp(version),
        CompareTarget::Create(revision) => number(Record::create_revision).cmp(revision),
        CompareTarget::Mod(revision) => number(Record::mod_revision).cmp(revision),
        CompareTarget::Lease(lease) => number(Record::lease).cmp(lease),
        CompareTarget::Value(value) => match record {
            Some(record) => record.value().cmp(&value[..]),
            None => return false,
        },
    };
    match compare.comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Greater => order.is_gt(),
        Comparison::Less => order.is_lt(),
    }
}

/// The operations that were found possible, in order.
struct SoFar<'a> {
    operations: Vec<&'a Operation>,
    /// Bytes of keys that may still be deleted.
    room: usize,
}

/// Finds the first operation, in order, that cannot be done.
fn check<'a, V: View>(
    looked: &Looked<'_, V>,
    committed: Revision,
    transaction: &'a Transaction,
    path: &mut impl Iterator<Item = bool>,
    so_far: &mut SoFar<'a>,
) -> Result<(), StoreError> {
    for operation in next_branch(transaction, path).1 {
        match operation {
            Operation::Range(_) => {}
            Operation::Past(past) => {
                check_revision(past.revision, looked.view.compacted_revision(), committed)?;
                past.outcome.as_ref().map_err(Clone::clone)?;
            }
            Operation::Put(put) => {
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && !will_exist(looked, &put.key, &so_far.operations) {
                    return Err(StoreError::KeyNotFound);
                }
                if !put.ignore_lease && put.lease != 0 && !looked.view.lease_exists(put.lease) {
                    return Err(StoreError::LeaseNotFound(put.lease));
                }
            }
            Operation::DeleteRange(delete) => {
                let mut bytes = 0;
                looked.view.newest_in(&delete.range, &mut |record| {
                    let live = !record.is_tombstone();
                    bytes += if live { record.key().len() + DELETE_OVERHEAD_BYTES } else { 0 };
                });
                so_far.room = so_far.room.checked_sub(bytes).ok_or(StoreError::TooLarge)?;
            }
            Operation::Transaction(nested) => {
                check(looked, committed, nested, path, so_far)?;
                continue;
            }
        }
        so_far.operations.push(operation);
    }
    Ok(())
}

/// Whether `key` exists once the `earlier` operations are done.
fn will_exist<V: View>(looked: &Looked<'_, V>, key: &[u8], earlier: &[&Operation]) -> bool {
    let last = earlier.iter().rev().find_map(|operation| match operation {
        Operation::Put(put) if put.key == key => Some(true),
        Operation::DeleteRange(delete) if delete.range.contains(key) => Some(false),
        _ => None,
    });
    last.unwrap_or_else(|| looked.newest(key).is_some())
}

/// The second half: nothing fails any more.
struct Run<'a, V, F> {
    looked: &'a Looked<'a, V>,
    written: Written,
    take: Option<F>,
    /// Once taken.
    revision: Revision,
}

impl<V: View, F: FnOnce() -> Revision> Run<'_, V, F> {
    fn transaction(
        &mut self,
        transaction: &Transaction,
        path: &mut dyn Iterator<Item = bool>,
    ) -> TransactionResponse {
        let (succeeded, operations) = next_branch(transaction, &mut &mut *path);
        let responses = operations
            .iter()
            .map(|operation| match operation {
                Operation::Range(request) => OperationResponse::Range(self.range(request)),
                Operation::Past(past) => OperationResponse::Range(self.past(past)),
                Operation::Put(put) => OperationResponse::Put { previous: self.put(put) },
                Operation::DeleteRange(delete) => self.delete(delete),
                Operation::Transaction(nested) => {
                    OperationResponse::Transaction(self.transaction(nested, &mut *path))
                }
            })
            .collect();
        TransactionResponse { succeeded, responses, revision: 0 }
    }

    /// The response's revision is left 0 before the first change: it is not known yet.
    fn range(&mut self, request: &RangeRequest) -> RangeResponse {
        assert!(request.revision <= 0, "older revisions are read before the transaction");
        let records = self.live_in(&request.range);
        let count = records.len();
        answer(request, records, count, self.revision)
    }

    fn past(&mut self, past: &Past) -> RangeResponse {
        let response = past.outcome.clone().expect("checked before anything was done");
        RangeResponse { revision: self.revision, ..response }
    }

    fn put(&mut self, put: &Put) -> Option<Record> {
        let base = self.looked.newest(&put.key);
        let current = self.written.newest(&put.key).map_or_else(
            || base.clone(),
            |record| (!record.is_tombstone()).then(|| record.clone()),
        );
        let revision = self.take_revision();
        let value = match &current {
            Some(current) if put.ignore_value => current.value(),
            _ => &put.value[..],
        };
        let lease = match &current {
            Some(current) if put.ignore_lease => current.lease(),
            _ => put.lease,
        };
        let (create_revision, version) = current
            .as_ref()
            .map_or((revision, 1), |current| (current.create_revision(), current.version() + 1));
        let record = Record::new(&put.key, value, create_revision, revision, version, lease);
        self.written.push(Change { record, previous: base });
        current.filter(|_| put.previous)
    }

    fn delete(&mut self, delete: &DeleteRange) -> OperationResponse {
        let records = self.live_in(&delete.range);
        for record in &records {
            let revision = self.take_revision();
            // What this transaction wrote itself was not there before it.
            let base = if record.mod_revision() == revision {
                self.looked.newest(record.key())
            } else {
                Some(record.clone())
            };
            let tombstone = Record::tombstone(record.key(), revision);
            self.written.push(Change { record: tombstone, previous: base });
        }
        OperationResponse::DeleteRange {
            deleted: records.len(),
            previous: if delete.previous { records } else { Vec::new() },
        }
    }

    /// What lives in a range after the operations so far, by key.
    fn live_in(&mut self, range: &KeyRange) -> Vec<Record> {
        let base = self.looked.newest_in(range);
        self.written.apply_to(range, base)
    }

    fn take_revision(&mut self) -> Revision {
        if let Some(take) = self.take.take() {
            self.revision = take();
        }
        self.revision
    }
}

/// `before`: for what was read before the first change.
fn fill_in_revisions(response: &mut TransactionResponse, revision: Revision, before: Revision) {
    response.revision = revision;
    for response in &mut response.responses {
        match response {
            OperationResponse::Range(range) if range.revision == 0 => range.revision = before,
            OperationResponse::Transaction(nested) => fill_in_revisions(nested, revision, before),
            _ => {}
        }
    }
}
