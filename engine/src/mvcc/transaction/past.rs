//! Ranges at older revisions within a transaction. Nothing can change what they give, so they are
//! read before the transaction is evaluated, however long that takes, and put in its place.

use crate::error::StoreError;
use crate::request::{Operation, Past, RangeRequest, RangeResponse, Transaction};

/// The ranges at older revisions in both branches of a transaction and of those nested in it.
pub fn past_ranges(transaction: &Transaction) -> Vec<&RangeRequest> {
    let mut ranges = Vec::new();
    add_past_ranges(transaction, &mut ranges);
    ranges
}

fn add_past_ranges<'a>(transaction: &'a Transaction, ranges: &mut Vec<&'a RangeRequest>) {
    for operation in transaction.success.iter().chain(&transaction.failure) {
        match operation {
            Operation::Range(range) if range.revision > 0 => ranges.push(range),
            Operation::Transaction(nested) => add_past_ranges(nested, ranges),
            _ => {}
        }
    }
}

/// Replaces the [`past_ranges`] by their outcomes, which come in the same order.
pub fn fill_in_past(
    transaction: &mut Transaction,
    outcomes: &mut dyn Iterator<Item = Result<RangeResponse, StoreError>>,
) {
    for operation in transaction.success.iter_mut().chain(&mut transaction.failure) {
        match operation {
            Operation::Range(range) if range.revision > 0 => {
                let outcome = outcomes.next().expect("every range has its outcome");
                *operation = Operation::Past(Past { revision: range.revision, outcome });
            }
            Operation::Transaction(nested) => fill_in_past(nested, outcomes),
            _ => {}
        }
    }
}
