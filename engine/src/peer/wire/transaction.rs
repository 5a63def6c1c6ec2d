//! Transactions and what came of them.
//!
//! Transactions contain transactions. Archives here contain nothing of their own kind, so that
//! checking one needs no stack: the parts of all transactions lie in lists, in the order in which
//! they are met, and are taken from there in the same order. Each part is taken once, so a message
//! makes no more of them than it has room for.

use rkyv::{Archive, Serialize};

use super::contents::{Contents, Reading};
use super::error::{self, ErrorRow};
use super::range::{self, FoundRow, KeysRow, RangeRow};
use super::records::{self, RecordRow};
use super::{Decoded, limits};
use crate::request::{
    Compare, CompareTarget, Comparison, DeleteRange, Operation, OperationResponse, Past, Put,
    Transaction, TransactionResponse,
};

/// A transaction with all that are in it.
#[derive(Archive, Serialize, Default)]
pub(super) struct TransactionTable {
    transactions: Vec<TransactionRow>,
    compares: Vec<CompareRow>,
    operations: Vec<OperationRow>,
}

/// How many of the next compares and operations are its own.
#[derive(Archive, Serialize)]
struct TransactionRow {
    compares: u32,
    success: u32,
    failure: u32,
}

#[derive(Archive, Serialize)]
struct CompareRow {
    range: KeysRow,
    comparison: u8,
    target: TargetRow,
}

#[derive(Archive, Serialize)]
enum TargetRow {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(u32),
    Lease(i64),
}

#[derive(Archive, Serialize)]
enum OperationRow {
    Range(RangeRow),
    Put(PutRow),
    DeleteRange {
        range: KeysRow,
        previous: bool,
    },
    /// The next one of the list.
    Transaction,
    Found {
        revision: i64,
        response: FoundRow,
    },
    NotFound {
        revision: i64,
        error: ErrorRow,
    },
}

#[derive(Archive, Serialize)]
struct PutRow {
    key: u32,
    value: u32,
    lease: i64,
    previous: bool,
    ignore_value: bool,
    ignore_lease: bool,
}

const COMPARISONS: [Comparison; 4] =
    [Comparison::Equal, Comparison::Greater, Comparison::Less, Comparison::NotEqual];

fn count(list: &[impl Sized]) -> u32 {
    u32::try_from(list.len()).expect("doors let through less")
}

pub(super) fn table(transaction: &Transaction, contents: &mut Contents) -> TransactionTable {
    let mut table = TransactionTable::default();
    add(transaction, &mut table, contents);
    table
}

fn add(transaction: &Transaction, table: &mut TransactionTable, contents: &mut Contents) {
    table.transactions.push(TransactionRow {
        compares: count(&transaction.compares),
        success: count(&transaction.success),
        failure: count(&transaction.failure),
    });
    for compare in &transaction.compares {
        table.compares.push(compare_row(compare, contents));
    }
    for operation in transaction.success.iter().chain(&transaction.failure) {
        let row = match operation {
            Operation::Range(request) => OperationRow::Range(range::row(request, contents)),
            Operation::Put(put) => OperationRow::Put(put_row(put, contents)),
            Operation::DeleteRange(delete) => OperationRow::DeleteRange {
                range: range::keys_row(&delete.range, contents),
                previous: delete.previous,
            },
            Operation::Transaction(nested) => {
                table.operations.push(OperationRow::Transaction);
                add(nested, table, contents);
                continue;
            }
            Operation::Past(past) => past_row(past, contents),
        };
        table.operations.push(row);
    }
}

fn compare_row(compare: &Compare, contents: &mut Contents) -> CompareRow {
    CompareRow {
        range: range::keys_row(&compare.range, contents),
        comparison: range::place(&COMPARISONS, &compare.comparison),
        target: match &compare.target {
            CompareTarget::Version(version) => TargetRow::Version(*version),
            CompareTarget::Create(revision) => TargetRow::Create(*revision),
            CompareTarget::Mod(revision) => TargetRow::Mod(*revision),
            CompareTarget::Value(value) => TargetRow::Value(contents.add(value)),
            CompareTarget::Lease(lease) => TargetRow::Lease(*lease),
        },
    }
}

fn put_row(put: &Put, contents: &mut Contents) -> PutRow {
    PutRow {
        key: contents.add(&put.key),
        value: contents.add(&put.value),
        lease: put.lease,
        previous: put.previous,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

fn past_row(past: &Past, contents: &mut Contents) -> OperationRow {
    let revision = past.revision;
    match &past.outcome {
        Ok(response) => {
            OperationRow::Found { revision, response: range::found_row(response, contents) }
        }
        Err(refusal) => OperationRow::NotFound { revision, error: error::row(refusal, contents) },
    }
}

/// The parts of a received transaction that were not taken.
struct Parts<'a> {
    transactions: std::slice::Iter<'a, ArchivedTransactionRow>,
    compares: std::slice::Iter<'a, ArchivedCompareRow>,
    operations: std::slice::Iter<'a, ArchivedOperationRow>,
}

const MISSING: &str = "a part of a transaction is missing";
const TOO_DEEP: &str = "too many transactions are within each other";

pub(super) fn transaction(
    table: &ArchivedTransactionTable,
    reading: &mut Reading,
) -> Decoded<Transaction> {
    let mut parts = Parts {
        transactions: table.transactions.iter(),
        compares: table.compares.iter(),
        operations: table.operations.iter(),
    };
    let transaction = take(&mut parts, reading, limits::NESTED_TRANSACTIONS)?;
    let rest = parts.transactions.len() + parts.compares.len() + parts.operations.len();
    if rest > 0 { Err("a transaction has parts that are not its own") } else { Ok(transaction) }
}

/// The next transaction, which may contain others `depth` deep.
fn take(parts: &mut Parts<'_>, reading: &mut Reading, depth: usize) -> Decoded<Transaction> {
    let row = parts.transactions.next().ok_or(MISSING)?;
    let mut transaction = Transaction::default();
    for _ in 0..row.compares.to_native() {
        let row = parts.compares.next().ok_or(MISSING)?;
        transaction.compares.push(compare(row, reading)?);
    }
    for _ in 0..row.success.to_native() {
        transaction.success.push(operation(parts, reading, depth)?);
    }
    for _ in 0..row.failure.to_native() {
        transaction.failure.push(operation(parts, reading, depth)?);
    }
    Ok(transaction)
}

fn compare(row: &ArchivedCompareRow, reading: &mut Reading) -> Decoded<Compare> {
    Ok(Compare {
        range: range::keys(&row.range, reading)?,
        comparison: range::at(&COMPARISONS, row.comparison)?,
        target: match &row.target {
            ArchivedTargetRow::Version(version) => CompareTarget::Version(version.to_native()),
            ArchivedTargetRow::Create(revision) => CompareTarget::Create(revision.to_native()),
            ArchivedTargetRow::Mod(revision) => CompareTarget::Mod(revision.to_native()),
            ArchivedTargetRow::Value(value) => CompareTarget::Value(reading.take(*value)?),
            ArchivedTargetRow::Lease(lease) => CompareTarget::Lease(lease.to_native()),
        },
    })
}

fn operation(parts: &mut Parts<'_>, reading: &mut Reading, depth: usize) -> Decoded<Operation> {
    Ok(match parts.operations.next().ok_or(MISSING)? {
        ArchivedOperationRow::Range(row) => Operation::Range(range::range(row, reading)?),
        ArchivedOperationRow::Put(row) => Operation::Put(Put {
            key: reading.take(row.key)?,
            value: reading.take(row.value)?,
            lease: row.lease.to_native(),
            previous: row.previous,
            ignore_value: row.ignore_value,
            ignore_lease: row.ignore_lease,
        }),
        ArchivedOperationRow::DeleteRange { range: keys, previous } => {
            let range = range::keys(keys, reading)?;
            Operation::DeleteRange(DeleteRange { range, previous: *previous })
        }
        ArchivedOperationRow::Transaction => {
            Operation::Transaction(take(parts, reading, depth.checked_sub(1).ok_or(TOO_DEEP)?)?)
        }
        ArchivedOperationRow::Found { revision, response } => Operation::Past(Past {
            revision: revision.to_native(),
            outcome: Ok(range::found(response, reading)?),
        }),
        ArchivedOperationRow::NotFound { revision, error: row } => Operation::Past(Past {
            revision: revision.to_native(),
            outcome: Err(error::error(row, reading)?),
        }),
    })
}

/// What came of a transaction and of all that are in it, in the same way.
#[derive(Archive, Serialize, Default)]
pub(super) struct ResponseTable {
    transactions: Vec<ResponseRow>,
    responses: Vec<OperationResponseRow>,
}

#[derive(Archive, Serialize)]
struct ResponseRow {
    succeeded: bool,
    responses: u32,
    revision: i64,
}

#[derive(Archive, Serialize)]
enum OperationResponseRow {
    Range(FoundRow),
    Put {
        previous: Option<RecordRow>,
    },
    DeleteRange {
        deleted: u64,
        previous: Vec<RecordRow>,
    },
    /// The next one of the list.
    Transaction,
}

pub(super) fn response_table(
    response: &TransactionResponse,
    contents: &mut Contents,
) -> ResponseTable {
    let mut table = ResponseTable::default();
    add_response(response, &mut table, contents);
    table
}

fn add_response(
    response: &TransactionResponse,
    table: &mut ResponseTable,
    contents: &mut Contents,
) {
    table.transactions.push(ResponseRow {
        succeeded: response.succeeded,
        responses: count(&response.responses),
        revision: response.revision,
    });
    for response in &response.responses {
        let row = match response {
            OperationResponse::Range(found) => {
                OperationResponseRow::Range(range::found_row(found, contents))
            }
            OperationResponse::Put { previous } => OperationResponseRow::Put {
                previous: previous.as_ref().map(|record| records::row(record, contents)),
            },
            OperationResponse::DeleteRange { deleted, previous } => {
                OperationResponseRow::DeleteRange {
                    deleted: *deleted as u64,
                    previous: records::rows(previous, contents),
                }
            }
            OperationResponse::Transaction(nested) => {
                table.responses.push(OperationResponseRow::Transaction);
                add_response(nested, table, contents);
                continue;
            }
        };
        table.responses.push(row);
    }
}

struct ResponseParts<'a> {
    transactions: std::slice::Iter<'a, ArchivedResponseRow>,
    responses: std::slice::Iter<'a, ArchivedOperationResponseRow>,
}

pub(super) fn response(
    table: &ArchivedResponseTable,
    reading: &mut Reading,
) -> Decoded<TransactionResponse> {
    let mut parts = ResponseParts {
        transactions: table.transactions.iter(),
        responses: table.responses.iter(),
    };
    let response = take_response(&mut parts, reading, limits::NESTED_TRANSACTIONS)?;
    let rest = parts.transactions.len() + parts.responses.len();
    if rest > 0 { Err("an answer has parts that are not its own") } else { Ok(response) }
}

fn take_response(
    parts: &mut ResponseParts<'_>,
    reading: &mut Reading,
    depth: usize,
) -> Decoded<TransactionResponse> {
    let row = parts.transactions.next().ok_or(MISSING)?;
    let mut responses = Vec::new();
    for _ in 0..row.responses.to_native() {
        let response = match parts.responses.next().ok_or(MISSING)? {
            ArchivedOperationResponseRow::Range(row) => {
                OperationResponse::Range(range::found(row, reading)?)
            }
            ArchivedOperationResponseRow::Put { previous } => OperationResponse::Put {
                previous: previous.as_ref().map(|row| records::record(row, reading)).transpose()?,
            },
            ArchivedOperationResponseRow::DeleteRange { deleted, previous } => {
                OperationResponse::DeleteRange {
                    deleted: usize::try_from(deleted.to_native()).unwrap_or(usize::MAX),
                    previous: previous
                        .iter()
                        .map(|row| records::record(row, reading))
                        .collect::<Decoded<_>>()?,
                }
            }
            ArchivedOperationResponseRow::Transaction => {
                let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
                OperationResponse::Transaction(take_response(parts, reading, depth)?)
            }
        };
        responses.push(response);
    }
    let (succeeded, revision) = (row.succeeded, row.revision.to_native());
    Ok(TransactionResponse { succeeded, responses, revision })
}
