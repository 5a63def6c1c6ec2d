//! etcd's transactions once more, in the plainest way: over a model, one operation after the other.

use std::collections::BTreeMap;

use mainstay_engine::request::{
    Compare, CompareTarget, Comparison, KeyRange, Operation, OperationResponse, Put, RangeRequest,
    Transaction, TransactionResponse,
};
use mainstay_engine::{Record, Revision};

use super::model::Model;

/// What a transaction has to do and to say.
pub(super) struct Expected {
    /// In the order of the operations.
    pub(super) changes: Vec<Record>,
    /// The first response that is not as it should be.
    pub(super) wrong: Option<String>,
}

struct State<'a> {
    model: &'a Model,
    /// What was there before.
    before: Revision,
    /// The transaction's own.
    revision: Revision,
    written: BTreeMap<Vec<u8>, Option<Record>>,
    changes: Vec<Record>,
}

/// Holds an answer against what the transaction does at `revision` to what `before` left.
pub(super) fn check(
    model: &Model,
    transaction: &Transaction,
    response: &TransactionResponse,
    before: Revision,
    revision: Revision,
) -> Expected {
    let mut state =
        State { model, before, revision, written: BTreeMap::new(), changes: Vec::new() };
    let wrong = state.transaction(transaction, response).err();
    Expected { changes: state.changes, wrong }
}

impl State<'_> {
    fn transaction(
        &mut self,
        transaction: &Transaction,
        response: &TransactionResponse,
    ) -> Result<(), String> {
        let holds = transaction.compares.iter().all(|compare| self.holds(compare));
        expect("whether it succeeded", &response.succeeded, &holds)?;
        let branch = if holds { &transaction.success } else { &transaction.failure };
        expect("how many responses", &response.responses.len(), &branch.len())?;
        for (operation, response) in branch.iter().zip(&response.responses) {
            self.operation(operation, response)?;
        }
        Ok(())
    }

    fn operation(
        &mut self,
        operation: &Operation,
        response: &OperationResponse,
    ) -> Result<(), String> {
        match (operation, response) {
            (Operation::Put(put), OperationResponse::Put { previous }) => {
                let before = self.put(put)?;
                expect("previous", previous, &before.filter(|_| put.previous))
            }
            (
                Operation::DeleteRange(delete),
                OperationResponse::DeleteRange { deleted, previous },
            ) => {
                let ended = self.range(&delete.range);
                for record in &ended {
                    let tombstone = Record::tombstone(record.key(), self.revision);
                    self.changes.push(tombstone);
                    self.written.insert(record.key().to_vec(), None);
                }
                expect("how many were deleted", deleted, &ended.len())?;
                expect("what was deleted", previous, &if delete.previous { ended } else { vec![] })
            }
            (Operation::Range(request), OperationResponse::Range(found)) => {
                let expected = match request.revision {
                    old if old > 0 => self.model.range(&request.range, old),
                    _ => self.range(&request.range),
                };
                check_range(request, &found.records, found.count, found.more, &expected)
            }
            (Operation::Transaction(nested), OperationResponse::Transaction(response)) => {
                self.transaction(nested, response)
            }
            (operation, response) => Err(format!("{response:?} to {operation:?}")),
        }
    }

    fn put(&mut self, put: &Put) -> Result<Option<Record>, String> {
        let before = self.get(&put.key);
        let missing = (put.ignore_lease || put.ignore_value) && before.is_none();
        if missing {
            return Err(format!("{put:?} keeps what is not there"));
        }
        let (created, version) = before
            .as_ref()
            .map_or((self.revision, 1), |record| (record.create_revision(), record.version() + 1));
        let kept = before.as_ref();
        let value = match kept.filter(|_| put.ignore_value) {
            Some(record) => record.value(),
            None => &put.value,
        };
        let lease = kept.filter(|_| put.ignore_lease).map_or(put.lease, Record::lease);
        let record = Record::new(&put.key, value, created, self.revision, version, lease);
        self.written.insert(put.key.to_vec(), Some(record.clone()));
        self.changes.push(record);
        Ok(before)
    }

    fn get(&self, key: &[u8]) -> Option<Record> {
        match self.written.get(key) {
            Some(written) => written.clone(),
            None => self.model.at(key, self.before).cloned(),
        }
    }

    fn range(&self, range: &KeyRange) -> Vec<Record> {
        let mut records = self.model.range(range, self.before);
        records.retain(|record| !self.written.contains_key(record.key()));
        let written = self.written.iter().filter(|(key, _)| range.contains(key));
        records.extend(written.filter_map(|(_, record)| record.clone()));
        records.sort_by(|left, right| left.key().cmp(right.key()));
        records
    }

    /// Compares look at what was there before the first operation, nested ones too.
    fn holds(&self, compare: &Compare) -> bool {
        let records = self.model.range(&compare.range, self.before);
        if records.is_empty() {
            return one_holds(compare, None);
        }
        records.iter().all(|record| one_holds(compare, Some(record)))
    }
}

fn one_holds(compare: &Compare, record: Option<&Record>) -> bool {
    let number = |read: fn(&Record) -> i64| record.map_or(0, read);
    let order = match &compare.target {
        CompareTarget::Version(target) => number(Record::version).cmp(target),
        CompareTarget::Create(target) => number(Record::create_revision).cmp(target),
        CompareTarget::Mod(target) => number(Record::mod_revision).cmp(target),
        CompareTarget::Lease(target) => number(Record::lease).cmp(target),
        CompareTarget::Value(target) => match record {
            Some(record) => record.value().cmp(&target[..]),
            None => return false,
        },
    };
    match compare.comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Greater => order.is_gt(),
        Comparison::Less => order.is_lt(),
        Comparison::NotEqual => order.is_ne(),
    }
}

/// Holds a range's answer against all that lived in the range.
pub(super) fn check_range(
    request: &RangeRequest,
    records: &[Record],
    count: usize,
    more: bool,
    expected: &[Record],
) -> Result<(), String> {
    expect("count", &count, &expected.len())?;
    if request.count_only {
        return Ok(());
    }
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    let shown = &expected[..expected.len().min(limit)];
    expect("records", &records, &shown)?;
    expect("more", &more, &(expected.len() > limit))
}

fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, and it should be {expected:?}"))
}
