//! Who is a member, and changes of that.

use rkyv::{Archive, Serialize};

use super::Decoded;
use super::contents::{Contents, Reading};
use crate::cluster::{ClusterStatus, MemberChange, MemberInfo, MemberUpdate};

#[derive(Archive, Serialize)]
pub(super) struct MemberRow {
    id: u64,
    is_learner: bool,
    /// As documents have it.
    facts: u32,
}

pub(super) fn rows(members: &[MemberInfo], contents: &mut Contents) -> Vec<MemberRow> {
    let row = |member: &MemberInfo| MemberRow {
        id: member.id,
        is_learner: member.is_learner,
        facts: contents.add(&member.encode()),
    };
    members.iter().map(row).collect()
}

pub(super) fn members(
    rows: &rkyv::vec::ArchivedVec<ArchivedMemberRow>,
    reading: &mut Reading,
) -> Decoded<Vec<MemberInfo>> {
    let member = |row: &ArchivedMemberRow| {
        let facts = MemberInfo::decode(&reading.take(row.facts)?).ok_or("a member is none")?;
        Ok(MemberInfo { id: row.id.to_native(), is_learner: row.is_learner, ..facts })
    };
    rows.iter().map(member).collect()
}

pub(super) fn url_rows(urls: &[String], contents: &mut Contents) -> Vec<u32> {
    urls.iter().map(|url| contents.add_text(url)).collect()
}

pub(super) fn urls(
    rows: &rkyv::vec::ArchivedVec<rkyv::rend::u32_le>,
    reading: &mut Reading,
) -> Decoded<Vec<String>> {
    rows.iter().map(|row| reading.take_text(*row)).collect()
}

#[derive(Archive, Serialize)]
pub(super) enum ChangeRow {
    Add { id: u64, peer_urls: Vec<u32>, is_learner: bool },
    Remove { id: u64 },
    Promote { id: u64 },
}

pub(super) fn change_row(change: &MemberChange, contents: &mut Contents) -> ChangeRow {
    match change {
        MemberChange::Add { id, peer_urls, is_learner } => ChangeRow::Add {
            id: *id,
            peer_urls: url_rows(peer_urls, contents),
            is_learner: *is_learner,
        },
        MemberChange::Remove { id } => ChangeRow::Remove { id: *id },
        MemberChange::Promote { id } => ChangeRow::Promote { id: *id },
    }
}

pub(super) fn change(row: &ArchivedChangeRow, reading: &mut Reading) -> Decoded<MemberChange> {
    Ok(match row {
        ArchivedChangeRow::Add { id, peer_urls, is_learner } => MemberChange::Add {
            id: id.to_native(),
            peer_urls: urls(peer_urls, reading)?,
            is_learner: *is_learner,
        },
        ArchivedChangeRow::Remove { id } => MemberChange::Remove { id: id.to_native() },
        ArchivedChangeRow::Promote { id } => MemberChange::Promote { id: id.to_native() },
    })
}

#[derive(Archive, Serialize)]
pub(super) struct UpdateRow {
    id: u64,
    name: Option<u32>,
    peer_urls: Option<Vec<u32>>,
    client_urls: Option<Vec<u32>>,
}

pub(super) fn update_row(update: &MemberUpdate, contents: &mut Contents) -> UpdateRow {
    UpdateRow {
        id: update.id,
        name: update.name.as_deref().map(|name| contents.add_text(name)),
        peer_urls: update.peer_urls.as_deref().map(|urls| url_rows(urls, contents)),
        client_urls: update.client_urls.as_deref().map(|urls| url_rows(urls, contents)),
    }
}

pub(super) fn update(row: &ArchivedUpdateRow, reading: &mut Reading) -> Decoded<MemberUpdate> {
    Ok(MemberUpdate {
        id: row.id.to_native(),
        name: row.name.as_ref().map(|length| reading.take_text(*length)).transpose()?,
        peer_urls: row.peer_urls.as_ref().map(|rows| urls(rows, reading)).transpose()?,
        client_urls: row.client_urls.as_ref().map(|rows| urls(rows, reading)).transpose()?,
    })
}

#[derive(Archive, Serialize)]
pub(super) struct StatusRow {
    member_id: u64,
    leader: u64,
    term: u64,
    last_index: u64,
    committed_index: u64,
    applied_index: u64,
    is_learner: bool,
}

pub(super) fn status_row(status: &ClusterStatus) -> StatusRow {
    let &ClusterStatus { member_id, leader, term, .. } = status;
    let &ClusterStatus { last_index, committed_index, applied_index, is_learner, .. } = status;
    StatusRow { member_id, leader, term, last_index, committed_index, applied_index, is_learner }
}

pub(super) fn status(row: &ArchivedStatusRow) -> ClusterStatus {
    ClusterStatus {
        member_id: row.member_id.to_native(),
        leader: row.leader.to_native(),
        term: row.term.to_native(),
        last_index: row.last_index.to_native(),
        committed_index: row.committed_index.to_native(),
        applied_index: row.applied_index.to_native(),
        is_learner: row.is_learner,
    }
}
