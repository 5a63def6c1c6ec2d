//! Answers to requests that a member handed on.

use bytes::Bytes;
use rkyv::{Archive, Serialize};

use super::contents::{Contents, Reading};
use super::error::{self, ErrorRow};
use super::members::{self, MemberRow, StatusRow};
use super::range::{self, FoundRow};
use super::transaction::{self, ResponseTable};
use super::{Decoded, PeerMessage};
use crate::message::{Answer, Outcome};
use crate::request::{HashKv, LeaseStatus, PrefixUsage};

#[derive(Archive, Serialize)]
pub(super) struct NumberedAnswerRow {
    number: u64,
    index: u64,
    outcome: OutcomeRow,
}

#[derive(Archive, Serialize)]
enum OutcomeRow {
    Refused(ErrorRow),
    Range(FoundRow),
    Transact(ResponseTable),
    HashKv { hash: u64, revision: i64, compacted_revision: i64, current_revision: i64 },
    Usage(Vec<UsageRow>),
    Revision(i64),
    LeaseGranted { id: i64, ttl: i64 },
    TimeToLive(i64),
    LeaseStatus { id: i64, granted_ttl: i64, remaining_ttl: i64, keys: Vec<u32> },
    Leases(Vec<i64>),
    Document(Option<u32>),
    Done,
    Members(Vec<MemberRow>),
    ClusterStatus(StatusRow),
}

#[derive(Archive, Serialize)]
struct UsageRow {
    prefix: u32,
    keys: u64,
    bytes: u64,
}

pub(super) fn row(
    number: u64,
    outcome: &Outcome,
    index: u64,
    contents: &mut Contents,
) -> NumberedAnswerRow {
    let outcome = match outcome {
        Err(refusal) => OutcomeRow::Refused(error::row(refusal, contents)),
        Ok(answer) => answer_row(answer, contents),
    };
    NumberedAnswerRow { number, index, outcome }
}

fn answer_row(answer: &Answer, contents: &mut Contents) -> OutcomeRow {
    match answer {
        Answer::Range(response) => OutcomeRow::Range(range::found_row(response, contents)),
        Answer::Transact(response) => {
            OutcomeRow::Transact(transaction::response_table(response, contents))
        }
        &Answer::HashKv(HashKv { hash, revision, compacted_revision, current_revision }) => {
            OutcomeRow::HashKv { hash, revision, compacted_revision, current_revision }
        }
        Answer::Usage(usage) => {
            let row = |usage: &PrefixUsage| UsageRow {
                prefix: contents.add(&Bytes::copy_from_slice(&usage.prefix)),
                keys: usage.keys,
                bytes: usage.bytes,
            };
            OutcomeRow::Usage(usage.iter().map(row).collect())
        }
        &Answer::Revision(revision) => OutcomeRow::Revision(revision),
        &Answer::LeaseGranted { id, ttl } => OutcomeRow::LeaseGranted { id, ttl },
        &Answer::TimeToLive(ttl) => OutcomeRow::TimeToLive(ttl),
        Answer::LeaseStatus(status) => OutcomeRow::LeaseStatus {
            id: status.id,
            granted_ttl: status.granted_ttl,
            remaining_ttl: status.remaining_ttl,
            keys: status.keys.iter().map(|key| contents.add(key)).collect(),
        },
        Answer::Leases(leases) => OutcomeRow::Leases(leases.clone()),
        Answer::Document(content) => {
            OutcomeRow::Document(content.as_ref().map(|content| contents.add(content)))
        }
        Answer::Done => OutcomeRow::Done,
        Answer::Members(members) => OutcomeRow::Members(members::rows(members, contents)),
        Answer::ClusterStatus(status) => OutcomeRow::ClusterStatus(members::status_row(status)),
        Answer::SnapshotSlice(_) => unreachable!("a member takes snapshots of itself alone"),
    }
}

pub(super) fn message(
    row: &ArchivedNumberedAnswerRow,
    reading: &mut Reading,
) -> Decoded<PeerMessage> {
    let outcome = match &row.outcome {
        ArchivedOutcomeRow::Refused(row) => Err(error::error(row, reading)?),
        outcome => Ok(answer(outcome, reading)?),
    };
    let (number, index) = (row.number.to_native(), row.index.to_native());
    Ok(PeerMessage::Answer { number, outcome, index })
}

fn answer(row: &ArchivedOutcomeRow, reading: &mut Reading) -> Decoded<Answer> {
    Ok(match row {
        ArchivedOutcomeRow::Refused(_) => return Err("a refusal is no answer"),
        ArchivedOutcomeRow::Range(row) => Answer::Range(range::found(row, reading)?),
        ArchivedOutcomeRow::Transact(table) => {
            Answer::Transact(transaction::response(table, reading)?)
        }
        ArchivedOutcomeRow::HashKv { hash, revision, compacted_revision, current_revision } => {
            Answer::HashKv(HashKv {
                hash: hash.to_native(),
                revision: revision.to_native(),
                compacted_revision: compacted_revision.to_native(),
                current_revision: current_revision.to_native(),
            })
        }
        ArchivedOutcomeRow::Usage(rows) => {
            let usage = |row: &ArchivedUsageRow| {
                Ok(PrefixUsage {
                    prefix: reading.take(row.prefix)?.to_vec(),
                    keys: row.keys.to_native(),
                    bytes: row.bytes.to_native(),
                })
            };
            Answer::Usage(rows.iter().map(usage).collect::<Decoded<_>>()?)
        }
        ArchivedOutcomeRow::Revision(revision) => Answer::Revision(revision.to_native()),
        ArchivedOutcomeRow::LeaseGranted { id, ttl } => {
            Answer::LeaseGranted { id: id.to_native(), ttl: ttl.to_native() }
        }
        ArchivedOutcomeRow::TimeToLive(ttl) => Answer::TimeToLive(ttl.to_native()),
        ArchivedOutcomeRow::LeaseStatus { id, granted_ttl, remaining_ttl, keys } => {
            Answer::LeaseStatus(LeaseStatus {
                id: id.to_native(),
                granted_ttl: granted_ttl.to_native(),
                remaining_ttl: remaining_ttl.to_native(),
                keys: keys.iter().map(|key| reading.take(*key)).collect::<Decoded<_>>()?,
            })
        }
        ArchivedOutcomeRow::Leases(leases) => {
            Answer::Leases(leases.iter().map(|lease| lease.to_native()).collect())
        }
        ArchivedOutcomeRow::Document(content) => {
            let content = content.as_ref().map(|length| reading.take(*length));
            Answer::Document(content.transpose()?)
        }
        ArchivedOutcomeRow::Done => Answer::Done,
        ArchivedOutcomeRow::Members(rows) => Answer::Members(members::members(rows, reading)?),
        ArchivedOutcomeRow::ClusterStatus(row) => {
            Answer::ClusterStatus(Box::new(members::status(row)))
        }
    })
}
