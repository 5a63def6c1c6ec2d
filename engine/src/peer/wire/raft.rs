//! Messages of raft.

use mainstay_raft::{
    Body, Entry, EntryKind, Membership, Message, RepairAnswer, Snapshot, SnapshotPart,
};
use rkyv::{Archive, Serialize};

use super::contents::{Contents, Reading};
use super::{Decoded, PeerMessage};
use crate::peer::frame::Kind;

#[derive(Archive, Serialize)]
pub(super) struct RaftRow {
    from: u64,
    to: u64,
    term: u64,
    incarnation: u64,
    body: BodyRow,
}

#[derive(Archive, Serialize)]
enum BodyRow {
    VoteRequest { pre: bool, last_index: u64, last_term: u64, transfer: bool },
    VoteResponse { pre: bool, granted: bool },
    Append { prev_index: u64, prev_term: u64, commit: u64, entries: Vec<EntryRow> },
    AppendResponse { verified: u64, durable: u64 },
    AppendRejected { prev_index: u64, hint_index: u64, hint_term: u64 },
    Heartbeat { round: u64, tick: u64, commit: u64 },
    HeartbeatResponse { round: u64, tick: u64, verified: u64 },
    TimeoutNow,
    StaleTerm,
    ReadRequest { context: u64 },
    ReadResponse { context: u64, index: u64 },
    SnapshotPart { snapshot: SnapshotRow, offset: u64, data: u32, done: bool },
    SnapshotResponse { snapshot: SnapshotRow, received: u64 },
    RepairRequest { index: u64, entry_term: u64 },
    RepairResponse { index: u64, entry_term: u64, answer: RepairRow },
}

#[derive(Archive, Serialize)]
struct EntryRow {
    index: u64,
    term: u64,
    is_membership: bool,
    data: u32,
}

#[derive(Archive, Serialize)]
struct SnapshotRow {
    index: u64,
    term: u64,
    fingerprint: u64,
    /// As raft encodes it.
    membership: u32,
}

#[derive(Archive, Serialize)]
enum RepairRow {
    Intact(EntryRow),
    Absent,
    Unknown,
    Compacted,
}

/// Which queue it waits in: what is long is not to hold up what is short.
pub(super) fn kind(message: &Message) -> Kind {
    match &message.body {
        // A probe, or news of what is committed, is of no use before the entries that it is about.
        Body::Append { .. } => Kind::Append,
        Body::RepairResponse { answer: RepairAnswer::Intact(_), .. } => Kind::Append,
        Body::SnapshotPart(_) => Kind::Snapshot,
        _ => Kind::Raft,
    }
}

pub(super) fn row(message: &Message, contents: &mut Contents) -> RaftRow {
    let body = match &message.body {
        &Body::VoteRequest { pre, last_index, last_term, transfer } => {
            BodyRow::VoteRequest { pre, last_index, last_term, transfer }
        }
        &Body::VoteResponse { pre, granted } => BodyRow::VoteResponse { pre, granted },
        Body::Append { prev_index, prev_term, entries, commit } => BodyRow::Append {
            prev_index: *prev_index,
            prev_term: *prev_term,
            commit: *commit,
            entries: entries.iter().map(|entry| entry_row(entry, contents)).collect(),
        },
        &Body::AppendResponse { verified, durable } => {
            BodyRow::AppendResponse { verified, durable }
        }
        &Body::AppendRejected { prev_index, hint_index, hint_term } => {
            BodyRow::AppendRejected { prev_index, hint_index, hint_term }
        }
        &Body::Heartbeat { round, tick, commit } => BodyRow::Heartbeat { round, tick, commit },
        &Body::HeartbeatResponse { round, tick, verified } => {
            BodyRow::HeartbeatResponse { round, tick, verified }
        }
        Body::TimeoutNow => BodyRow::TimeoutNow,
        Body::StaleTerm => BodyRow::StaleTerm,
        &Body::ReadRequest { context } => BodyRow::ReadRequest { context },
        &Body::ReadResponse { context, index } => BodyRow::ReadResponse { context, index },
        Body::SnapshotPart(part) => BodyRow::SnapshotPart {
            snapshot: snapshot_row(&part.snapshot, contents),
            offset: part.offset,
            data: contents.add(&part.data),
            done: part.done,
        },
        Body::SnapshotResponse { snapshot, received } => BodyRow::SnapshotResponse {
            snapshot: snapshot_row(snapshot, contents),
            received: *received,
        },
        &Body::RepairRequest { index, entry_term } => BodyRow::RepairRequest { index, entry_term },
        Body::RepairResponse { index, entry_term, answer } => BodyRow::RepairResponse {
            index: *index,
            entry_term: *entry_term,
            answer: match answer {
                RepairAnswer::Intact(entry) => RepairRow::Intact(entry_row(entry, contents)),
                RepairAnswer::Absent => RepairRow::Absent,
                RepairAnswer::Unknown => RepairRow::Unknown,
                RepairAnswer::Compacted => RepairRow::Compacted,
            },
        },
    };
    let &Message { from, to, term, incarnation, .. } = message;
    RaftRow { from, to, term, incarnation, body }
}

fn entry_row(entry: &Entry, contents: &mut Contents) -> EntryRow {
    EntryRow {
        index: entry.index,
        term: entry.term,
        is_membership: entry.kind == EntryKind::Membership,
        data: contents.add(&entry.data),
    }
}

fn snapshot_row(snapshot: &Snapshot, contents: &mut Contents) -> SnapshotRow {
    SnapshotRow {
        index: snapshot.index,
        term: snapshot.term,
        fingerprint: snapshot.fingerprint,
        membership: contents.add(&snapshot.membership.encode()),
    }
}

pub(super) fn message(row: &ArchivedRaftRow, reading: &mut Reading) -> Decoded<PeerMessage> {
    let body = match &row.body {
        ArchivedBodyRow::VoteRequest { pre, last_index, last_term, transfer } => {
            Body::VoteRequest {
                pre: *pre,
                last_index: last_index.to_native(),
                last_term: last_term.to_native(),
                transfer: *transfer,
            }
        }
        ArchivedBodyRow::VoteResponse { pre, granted } => {
            Body::VoteResponse { pre: *pre, granted: *granted }
        }
        ArchivedBodyRow::Append { prev_index, prev_term, commit, entries } => Body::Append {
            prev_index: prev_index.to_native(),
            prev_term: prev_term.to_native(),
            entries: entries.iter().map(|row| entry(row, reading)).collect::<Decoded<_>>()?,
            commit: commit.to_native(),
        },
        ArchivedBodyRow::AppendResponse { verified, durable } => {
            Body::AppendResponse { verified: verified.to_native(), durable: durable.to_native() }
        }
        ArchivedBodyRow::AppendRejected { prev_index, hint_index, hint_term } => {
            Body::AppendRejected {
                prev_index: prev_index.to_native(),
                hint_index: hint_index.to_native(),
                hint_term: hint_term.to_native(),
            }
        }
        ArchivedBodyRow::Heartbeat { round, tick, commit } => Body::Heartbeat {
            round: round.to_native(),
            tick: tick.to_native(),
            commit: commit.to_native(),
        },
        ArchivedBodyRow::HeartbeatResponse { round, tick, verified } => Body::HeartbeatResponse {
            round: round.to_native(),
            tick: tick.to_native(),
            verified: verified.to_native(),
        },
        ArchivedBodyRow::TimeoutNow => Body::TimeoutNow,
        ArchivedBodyRow::StaleTerm => Body::StaleTerm,
        ArchivedBodyRow::ReadRequest { context } => {
            Body::ReadRequest { context: context.to_native() }
        }
        ArchivedBodyRow::ReadResponse { context, index } => {
            Body::ReadResponse { context: context.to_native(), index: index.to_native() }
        }
        ArchivedBodyRow::SnapshotPart { snapshot: row, offset, data, done } => {
            Body::SnapshotPart(SnapshotPart {
                snapshot: snapshot(row, reading)?,
                offset: offset.to_native(),
                data: reading.take(*data)?,
                done: *done,
            })
        }
        ArchivedBodyRow::SnapshotResponse { snapshot: row, received } => Body::SnapshotResponse {
            snapshot: snapshot(row, reading)?,
            received: received.to_native(),
        },
        ArchivedBodyRow::RepairRequest { index, entry_term } => {
            Body::RepairRequest { index: index.to_native(), entry_term: entry_term.to_native() }
        }
        ArchivedBodyRow::RepairResponse { index, entry_term, answer } => Body::RepairResponse {
            index: index.to_native(),
            entry_term: entry_term.to_native(),
            answer: match answer {
                ArchivedRepairRow::Intact(row) => RepairAnswer::Intact(entry(row, reading)?),
                ArchivedRepairRow::Absent => RepairAnswer::Absent,
                ArchivedRepairRow::Unknown => RepairAnswer::Unknown,
                ArchivedRepairRow::Compacted => RepairAnswer::Compacted,
            },
        },
    };
    Ok(PeerMessage::Raft(Message {
        from: row.from.to_native(),
        to: row.to.to_native(),
        term: row.term.to_native(),
        incarnation: row.incarnation.to_native(),
        body,
    }))
}

fn entry(row: &ArchivedEntryRow, reading: &mut Reading) -> Decoded<Entry> {
    let kind = if row.is_membership { EntryKind::Membership } else { EntryKind::Normal };
    Ok(Entry {
        index: row.index.to_native(),
        term: row.term.to_native(),
        kind,
        data: reading.take(row.data)?,
    })
}

fn snapshot(row: &ArchivedSnapshotRow, reading: &mut Reading) -> Decoded<Snapshot> {
    let membership = reading.take(row.membership)?;
    Ok(Snapshot {
        index: row.index.to_native(),
        term: row.term.to_native(),
        fingerprint: row.fingerprint.to_native(),
        membership: Membership::decode(&membership).ok_or("its membership is none")?,
    })
}
