//! Transactions that look at so many keys that no core should evaluate them: another thread does.
//!
//! What they look at is frozen and was collected before, so the evaluation is plain data in and
//! plain data out, and may take its time. It runs before the transaction has a revision: nothing
//! that came after may have to wait for it. What mentions the revision is made when it is known.

use crate::effect::{Change, Deleted};
use crate::error::StoreError;
use crate::log::encode::encode_deletion;
use crate::mvcc::{self, Evaluation};
use crate::record::{Record, Revision};
use crate::request::{KeyRange, Operation, OperationResponse, Transaction, TransactionResponse};
use crate::sequencer::Payload;

/// Stands for the revision that is taken later.
const UNTAKEN: Revision = Revision::MAX / 2;

/// Deletions of more keys than this are installed and logged as a
/// [`Deletion`](crate::effect::Deletion).
const MANY_KEYS: usize = if cfg!(test) { 1 } else { 1024 };

/// An evaluation to be run on some other thread.
#[derive(Debug)]
pub struct Heavy {
    pub(super) job: u64,
    pub(super) transaction: Transaction,
    pub(super) view: mvcc::Gathered,
    pub(super) committed: Revision,
}

/// What came out of it.
#[derive(Debug)]
pub struct HeavyDone {
    pub(super) job: u64,
    result: Result<TransactionResponse, StoreError>,
    /// When it changes nothing.
    visible_at: Revision,
    changes: Vec<Change>,
    deletion: Option<HeavyDeletion>,
}

/// The end of very many keys, ready but for its revision.
#[derive(Debug)]
pub(super) struct HeavyDeletion {
    pub(super) deleted: Deleted,
    /// Everything that lives in these ends.
    pub(super) ranges: Vec<KeyRange>,
    pub(super) payload: Payload,
}

/// What a heavy transaction does, with its revision.
pub(super) struct Settled {
    pub(super) result: Result<TransactionResponse, StoreError>,
    pub(super) visible_at: Revision,
    pub(super) changes: Vec<Change>,
    pub(super) deletion: Option<HeavyDeletion>,
}

impl Heavy {
    /// Evaluates. May take seconds for millions of keys.
    pub fn run(self) -> HeavyDone {
        let Heavy { job, transaction, view, committed } = self;
        let view = view.ready();
        let Evaluation { result, changes, visible_at } =
            mvcc::evaluate(&view, committed, || UNTAKEN, &transaction);
        let mut done = HeavyDone { job, result, visible_at, changes, deletion: None };
        let ended = |change: &Change| change.record.is_tombstone() && change.previous.is_some();
        if let Ok(response) = &done.result
            && done.changes.len() > MANY_KEYS
            && done.changes.iter().all(ended)
            && !puts(&transaction, response)
        {
            let previous = done.changes.drain(..).filter_map(|change| change.previous);
            let deleted = Deleted::new(previous.collect());
            let data = encode_deletion(deleted.records()).into();
            let payload = Payload { data, staged: None };
            let mut ranges = Vec::new();
            deleted_ranges(&transaction, response, &mut ranges);
            done.deletion = Some(HeavyDeletion { deleted, ranges, payload });
        }
        done
    }
}

impl HeavyDone {
    /// What the log is going to hold, if that is so much that it should be written ahead.
    pub fn payload(&mut self) -> Option<&mut Payload> {
        self.deletion.as_mut().map(|deletion| &mut deletion.payload)
    }

    /// Puts the revision in, which is taken if there is a change.
    pub(super) fn settle(self, take: impl FnOnce() -> Revision) -> Settled {
        let HeavyDone { mut result, mut visible_at, mut changes, deletion, .. } = self;
        if !changes.is_empty() || deletion.is_some() {
            visible_at = take();
            for change in &mut changes {
                settle_record(&mut change.record, visible_at);
            }
            if let Ok(response) = &mut result {
                settle_response(response, visible_at, deletion.is_none());
            }
        }
        Settled { result, visible_at, changes, deletion }
    }
}

/// The operations that were done, with their responses.
fn done<'a>(
    transaction: &'a Transaction,
    response: &'a TransactionResponse,
) -> impl Iterator<Item = (&'a Operation, &'a OperationResponse)> {
    let branch = if response.succeeded { &transaction.success } else { &transaction.failure };
    branch.iter().zip(&response.responses)
}

/// Whether a put was done.
fn puts(transaction: &Transaction, response: &TransactionResponse) -> bool {
    done(transaction, response).any(|done| match done {
        (Operation::Put(_), _) => true,
        (Operation::Transaction(nested), OperationResponse::Transaction(response)) => {
            puts(nested, response)
        }
        _ => false,
    })
}

fn deleted_ranges(
    transaction: &Transaction,
    response: &TransactionResponse,
    ranges: &mut Vec<KeyRange>,
) {
    for done in done(transaction, response) {
        match done {
            (Operation::DeleteRange(delete), _) => ranges.push(delete.range.clone()),
            (Operation::Transaction(nested), OperationResponse::Transaction(response)) => {
                deleted_ranges(nested, response, ranges);
            }
            _ => {}
        }
    }
}

fn settle_record(record: &mut Record, revision: Revision) {
    if record.mod_revision() != UNTAKEN {
        return;
    }
    *record = if record.is_tombstone() {
        Record::tombstone(record.key(), revision)
    } else {
        let created = record.create_revision();
        let created = if created == UNTAKEN { revision } else { created };
        let (version, lease) = (record.version(), record.lease());
        Record::new(record.key(), record.value(), created, revision, version, lease)
    };
}

/// `records` says whether there may be new ones among the response's.
fn settle_response(response: &mut TransactionResponse, revision: Revision, records: bool) {
    response.revision = revision;
    for response in &mut response.responses {
        let shown = match response {
            OperationResponse::Transaction(nested) => {
                settle_response(nested, revision, records);
                continue;
            }
            OperationResponse::Range(range) => {
                if range.revision >= UNTAKEN - 1 {
                    range.revision = range.revision - UNTAKEN + revision;
                }
                &mut range.records[..]
            }
            OperationResponse::Put { previous } => previous.as_mut_slice(),
            OperationResponse::DeleteRange { previous, .. } => &mut previous[..],
        };
        if records {
            shown.iter_mut().for_each(|record| settle_record(record, revision));
        }
    }
}
