//! Requests that a member hands on.

use rkyv::{Archive, Serialize};

use super::contents::{Contents, Reading};
use super::members::{self, ChangeRow, UpdateRow};
use super::range::{self, RangeRow};
use super::transaction::{self, TransactionTable};
use super::{Decoded, PeerMessage};
use crate::message::Request;

#[derive(Archive, Serialize)]
pub(super) struct NumberedRequestRow {
    number: u64,
    request: RequestRow,
}

#[derive(Archive, Serialize)]
enum RequestRow {
    Range(RangeRow),
    Transact(TransactionTable),
    HashKv { revision: i64 },
    Usage { depth: u64, top: u64 },
    Compact { revision: i64, physical: bool },
    LeaseGrant { id: i64, ttl: i64, random: i64 },
    LeaseRevoke { id: i64 },
    LeaseKeepAlive { id: i64 },
    LeaseTimeToLive { id: i64, keys: bool },
    Leases,
    Document { name: u32 },
    PutDocument { name: u32, content: u32, expected: Option<Option<u32>> },
    Confirm,
    Members { linearizable: bool },
    ChangeMember(ChangeRow),
    UpdateMember(UpdateRow),
    MoveLeader { to: u64 },
    ClusterStatus,
}

pub(super) fn row(number: u64, request: &Request, contents: &mut Contents) -> NumberedRequestRow {
    let request = match request {
        Request::Range(request) => RequestRow::Range(range::row(request, contents)),
        Request::Transact(request) => RequestRow::Transact(transaction::table(request, contents)),
        &Request::HashKv { revision } => RequestRow::HashKv { revision },
        &Request::Usage { depth, top } => {
            RequestRow::Usage { depth: depth as u64, top: top as u64 }
        }
        &Request::Compact { revision, physical } => RequestRow::Compact { revision, physical },
        &Request::LeaseGrant { id, ttl, random } => RequestRow::LeaseGrant { id, ttl, random },
        &Request::LeaseRevoke { id } => RequestRow::LeaseRevoke { id },
        &Request::LeaseKeepAlive { id } => RequestRow::LeaseKeepAlive { id },
        &Request::LeaseTimeToLive { id, keys } => RequestRow::LeaseTimeToLive { id, keys },
        Request::Leases => RequestRow::Leases,
        Request::Document { name } => RequestRow::Document { name: contents.add(name) },
        Request::PutDocument { name, content, expected } => RequestRow::PutDocument {
            name: contents.add(name),
            content: contents.add(content),
            expected: expected
                .as_ref()
                .map(|content| content.as_ref().map(|content| contents.add(content))),
        },
        Request::Confirm => RequestRow::Confirm,
        &Request::Members { linearizable } => RequestRow::Members { linearizable },
        Request::ChangeMember(change) => {
            RequestRow::ChangeMember(members::change_row(change, contents))
        }
        Request::UpdateMember(update) => {
            RequestRow::UpdateMember(members::update_row(update, contents))
        }
        &Request::MoveLeader { to } => RequestRow::MoveLeader { to },
        Request::ClusterStatus => RequestRow::ClusterStatus,
        Request::SnapshotSlice(_) => unreachable!("a member takes snapshots of itself alone"),
    };
    NumberedRequestRow { number, request }
}

pub(super) fn message(
    row: &ArchivedNumberedRequestRow,
    reading: &mut Reading,
) -> Decoded<PeerMessage> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let request = match &row.request {
        ArchivedRequestRow::Range(row) => Request::Range(range::range(row, reading)?),
        ArchivedRequestRow::Transact(table) => {
            Request::Transact(transaction::transaction(table, reading)?)
        }
        ArchivedRequestRow::HashKv { revision } => {
            Request::HashKv { revision: revision.to_native() }
        }
        ArchivedRequestRow::Usage { depth, top } => {
            Request::Usage { depth: size(depth.to_native()), top: size(top.to_native()) }
        }
        ArchivedRequestRow::Compact { revision, physical } => {
            Request::Compact { revision: revision.to_native(), physical: *physical }
        }
        ArchivedRequestRow::LeaseGrant { id, ttl, random } => Request::LeaseGrant {
            id: id.to_native(),
            ttl: ttl.to_native(),
            random: random.to_native(),
        },
        ArchivedRequestRow::LeaseRevoke { id } => Request::LeaseRevoke { id: id.to_native() },
        ArchivedRequestRow::LeaseKeepAlive { id } => Request::LeaseKeepAlive { id: id.to_native() },
        ArchivedRequestRow::LeaseTimeToLive { id, keys } => {
            Request::LeaseTimeToLive { id: id.to_native(), keys: *keys }
        }
        ArchivedRequestRow::Leases => Request::Leases,
        ArchivedRequestRow::Document { name } => Request::Document { name: reading.take(*name)? },
        ArchivedRequestRow::PutDocument { name, content, expected } => Request::PutDocument {
            name: reading.take(*name)?,
            content: reading.take(*content)?,
            expected: match expected.as_ref() {
                Some(content) => {
                    let content = content.as_ref().map(|length| reading.take(*length));
                    Some(content.transpose()?)
                }
                None => None,
            },
        },
        ArchivedRequestRow::Confirm => Request::Confirm,
        ArchivedRequestRow::Members { linearizable } => {
            Request::Members { linearizable: *linearizable }
        }
        ArchivedRequestRow::ChangeMember(row) => {
            Request::ChangeMember(members::change(row, reading)?)
        }
        ArchivedRequestRow::UpdateMember(row) => {
            Request::UpdateMember(members::update(row, reading)?)
        }
        ArchivedRequestRow::MoveLeader { to } => Request::MoveLeader { to: to.to_native() },
        ArchivedRequestRow::ClusterStatus => Request::ClusterStatus,
    };
    Ok(PeerMessage::Request { number: row.number.to_native(), request })
}
