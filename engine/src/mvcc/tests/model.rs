//! The simplest store that could be right: the whole state of every revision.

use std::collections::BTreeMap;

use crate::error::StoreError;
use crate::record::{Record, Revision};
use crate::request::{
    Compare, CompareTarget, Comparison, KeyRange, Operation, OperationResponse, RangeRequest,
    RangeResponse, SortDirection, SortTarget, Transaction, TransactionResponse,
};

type State = BTreeMap<Vec<u8>, Record>;

pub(super) struct Model {
    /// The state at each revision, from revision 1, where there is nothing.
    states: Vec<State>,
    pub(super) compacted: Revision,
}

impl Model {
    pub(super) fn new() -> Model {
        Model { states: vec![State::new()], compacted: 0 }
    }

    pub(super) fn revision(&self) -> Revision {
        self.states.len() as Revision
    }

    pub(super) fn at(&self, revision: Revision) -> &State {
        &self.states[revision as usize - 1]
    }

    pub(super) fn range(&self, range: &KeyRange, revision: Revision) -> Vec<Record> {
        in_range(self.at(revision), range)
    }

    pub(super) fn rollback(&mut self, revision: Revision) {
        self.states.truncate(revision as usize);
    }

    /// Evaluates on a copy of the state, one operation after the other.
    pub(super) fn transact(
        &mut self,
        transaction: &Transaction,
    ) -> Result<TransactionResponse, StoreError> {
        let mut run = Run {
            start: self.at(self.revision()).clone(),
            state: self.at(self.revision()).clone(),
            revision: self.revision(),
            changed: false,
            model: self,
        };
        let mut response = run.transaction(transaction)?;
        if run.changed {
            let state = run.state;
            self.states.push(state);
        }
        set_revision(&mut response, self.revision());
        Ok(response)
    }
}

fn set_revision(response: &mut TransactionResponse, revision: Revision) {
    response.revision = revision;
    for response in &mut response.responses {
        if let OperationResponse::Transaction(nested) = response {
            set_revision(nested, revision);
        }
    }
}

fn in_range(state: &State, range: &KeyRange) -> Vec<Record> {
    state.values().filter(|record| range.contains(record.key())).cloned().collect()
}

struct Run<'a> {
    model: &'a Model,
    start: State,
    state: State,
    revision: Revision,
    changed: bool,
}

impl Run<'_> {
    fn transaction(
        &mut self,
        transaction: &Transaction,
    ) -> Result<TransactionResponse, StoreError> {
        let succeeded = transaction.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &transaction.success } else { &transaction.failure };
        let mut responses = Vec::new();
        for operation in branch {
            responses.push(self.operation(operation)?);
        }
        Ok(TransactionResponse { succeeded, responses, revision: 0 })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let records = in_range(&self.start, &compare.range);
        if records.is_empty() {
            return match &compare.target {
                CompareTarget::Value(_) => false,
                CompareTarget::Version(wanted)
                | CompareTarget::Create(wanted)
                | CompareTarget::Mod(wanted)
                | CompareTarget::Lease(wanted) => compare_with(compare.comparison, &0, wanted),
            };
        }
        records.iter().all(|record| match &compare.target {
            CompareTarget::Version(v) => compare_with(compare.comparison, &record.version(), v),
            CompareTarget::Create(r) => {
                compare_with(compare.comparison, &record.create_revision(), r)
            }
            CompareTarget::Mod(r) => compare_with(compare.comparison, &record.mod_revision(), r),
            CompareTarget::Lease(l) => compare_with(compare.comparison, &record.lease(), l),
            CompareTarget::Value(v) => compare_with(compare.comparison, record.value(), &v[..]),
        })
    }

    fn operation(&mut self, operation: &Operation) -> Result<OperationResponse, StoreError> {
        let new_revision = self.revision + 1;
        match operation {
            Operation::Range(request) => self.range(request).map(OperationResponse::Range),
            Operation::Past(past) => panic!("the store's own: {past:?}"),
            Operation::Put(put) => {
                let before = self.state.get(&put.key[..]).cloned();
                if before.is_none() && (put.ignore_value || put.ignore_lease) {
                    return Err(StoreError::KeyNotFound);
                }
                if !put.ignore_lease && put.lease % 2 != 0 {
                    return Err(StoreError::LeaseNotFound(put.lease));
                }
                let kept = before.as_ref();
                let record = Record::new(
                    &put.key,
                    kept.filter(|_| put.ignore_value).map_or(&put.value[..], |r| r.value()),
                    kept.map_or(new_revision, |record| record.create_revision()),
                    new_revision,
                    kept.map_or(0, |record| record.version()) + 1,
                    kept.filter(|_| put.ignore_lease).map_or(put.lease, |r| r.lease()),
                );
                self.state.insert(put.key.to_vec(), record);
                self.changed = true;
                Ok(OperationResponse::Put { previous: before.filter(|_| put.previous) })
            }
            Operation::DeleteRange(delete) => {
                let gone = in_range(&self.state, &delete.range);
                self.state.retain(|key, _| !delete.range.contains(key));
                self.changed |= !gone.is_empty();
                Ok(OperationResponse::DeleteRange {
                    deleted: gone.len(),
                    previous: if delete.previous { gone } else { vec![] },
                })
            }
            Operation::Transaction(nested) => {
                self.transaction(nested).map(OperationResponse::Transaction)
            }
        }
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let (requested, current) = (request.revision, self.revision);
        if requested > current {
            return Err(StoreError::FutureRevision { requested, current });
        }
        let compacted = self.model.compacted;
        if requested > 0 && requested < compacted {
            return Err(StoreError::Compacted { requested, compacted });
        }
        let state = if requested > 0 { self.model.at(requested) } else { &self.state };
        let mut records = in_range(state, &request.range);
        let count = records.len();
        let revision = self.revision + i64::from(self.changed);
        if request.count_only {
            return Ok(RangeResponse { revision, records: vec![], more: false, count });
        }
        let below = |max, revision| max == 0 || revision <= max;
        records.retain(|record| {
            record.mod_revision() >= request.min_mod_revision
                && below(request.max_mod_revision, record.mod_revision())
                && record.create_revision() >= request.min_create_revision
                && below(request.max_create_revision, record.create_revision())
        });
        if let Some((target, direction)) = request.sort {
            let filters = [
                request.min_mod_revision,
                request.max_mod_revision,
                request.min_create_revision,
                request.max_create_revision,
            ];
            let within = direction == SortDirection::AscendWithinLimit && filters == [0; 4];
            if within && request.limit > 0 {
                records.truncate(request.limit + 1);
            }
            records.sort_by(|left, right| {
                let (left, right) = match direction {
                    SortDirection::Ascend | SortDirection::AscendWithinLimit => (left, right),
                    SortDirection::Descend => (right, left),
                };
                match target {
                    SortTarget::Key => left.key().cmp(right.key()),
                    SortTarget::Version => left.version().cmp(&right.version()),
                    SortTarget::Create => left.create_revision().cmp(&right.create_revision()),
                    SortTarget::Mod => left.mod_revision().cmp(&right.mod_revision()),
                    SortTarget::Value => left.value().cmp(right.value()),
                }
            });
        }
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let more = records.len() > limit;
        records.truncate(limit);
        Ok(RangeResponse { revision, records, more, count })
    }
}

fn compare_with<T: PartialOrd + ?Sized>(comparison: Comparison, left: &T, right: &T) -> bool {
    match comparison {
        Comparison::Equal => left == right,
        Comparison::NotEqual => left != right,
        Comparison::Greater => left > right,
        Comparison::Less => left < right,
    }
}
