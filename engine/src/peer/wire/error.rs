//! Refusals of requests: a number for each variant of [`StoreError`], and what it carries.

use bytes::Bytes;
use rkyv::{Archive, Serialize};

use super::Decoded;
use super::contents::{Contents, Reading};
use crate::error::StoreError;

#[derive(Archive, Serialize)]
pub(super) struct ErrorRow {
    /// Never used again for something else.
    code: u16,
    first: i64,
    second: i64,
    text: u32,
}

pub(super) fn row(error: &StoreError, contents: &mut Contents) -> ErrorRow {
    let id = |id: u64| id as i64;
    let (code, first, second) = match error {
        StoreError::Compacted { requested, compacted } => (1, *requested, *compacted),
        StoreError::FutureRevision { requested, current } => (2, *requested, *current),
        StoreError::LeaseNotFound(id) => (3, *id, 0),
        StoreError::LeaseExists(id) => (4, *id, 0),
        StoreError::TooManyLeases => (5, 0, 0),
        StoreError::LeaseTtlTooLarge(ttl) => (6, *ttl, 0),
        StoreError::KeyNotFound => (7, 0, 0),
        StoreError::TooLarge => (8, 0, 0),
        StoreError::NoSpace => (9, 0, 0),
        StoreError::Corrupt => (10, 0, 0),
        StoreError::DocumentChanged => (11, 0, 0),
        StoreError::TooManyRequests => (12, 0, 0),
        StoreError::HistoryUnreadable(_) => (13, 0, 0),
        StoreError::Stopped => (14, 0, 0),
        StoreError::NoLeader => (15, 0, 0),
        StoreError::NotLeader => (16, 0, 0),
        StoreError::LeaderChanged => (17, 0, 0),
        StoreError::TimedOut => (18, 0, 0),
        StoreError::TransferTimedOut => (19, 0, 0),
        StoreError::MemberNotFound(member) => (20, id(*member), 0),
        StoreError::MemberExists(member) => (21, id(*member), 0),
        StoreError::PeerUrlExists => (22, 0, 0),
        StoreError::MemberNotLearner(member) => (23, id(*member), 0),
        StoreError::LearnerNotReady(member) => (24, id(*member), 0),
        StoreError::TooManyLearners => (25, 0, 0),
        StoreError::NotEnoughStartedMembers => (26, 0, 0),
        StoreError::UnhealthyCluster => (27, 0, 0),
        StoreError::BadTransferee(member) => (28, id(*member), 0),
        StoreError::RefusedByLearner => (29, 0, 0),
        StoreError::MemberRemoved => (30, 0, 0),
    };
    let text = match error {
        StoreError::HistoryUnreadable(text) => contents.add_text(text),
        _ => contents.add(&Bytes::new()),
    };
    ErrorRow { code, first, second, text }
}

pub(super) fn error(row: &ArchivedErrorRow, reading: &mut Reading) -> Decoded<StoreError> {
    let (first, second) = (row.first.to_native(), row.second.to_native());
    let text = reading.take_text(row.text)?;
    let member = first as u64;
    Ok(match row.code.to_native() {
        1 => StoreError::Compacted { requested: first, compacted: second },
        2 => StoreError::FutureRevision { requested: first, current: second },
        3 => StoreError::LeaseNotFound(first),
        4 => StoreError::LeaseExists(first),
        5 => StoreError::TooManyLeases,
        6 => StoreError::LeaseTtlTooLarge(first),
        7 => StoreError::KeyNotFound,
        8 => StoreError::TooLarge,
        9 => StoreError::NoSpace,
        10 => StoreError::Corrupt,
        11 => StoreError::DocumentChanged,
        12 => StoreError::TooManyRequests,
        13 => StoreError::HistoryUnreadable(text),
        14 => StoreError::Stopped,
        15 => StoreError::NoLeader,
        16 => StoreError::NotLeader,
        17 => StoreError::LeaderChanged,
        18 => StoreError::TimedOut,
        19 => StoreError::TransferTimedOut,
        20 => StoreError::MemberNotFound(member),
        21 => StoreError::MemberExists(member),
        22 => StoreError::PeerUrlExists,
        23 => StoreError::MemberNotLearner(member),
        24 => StoreError::LearnerNotReady(member),
        25 => StoreError::TooManyLearners,
        26 => StoreError::NotEnoughStartedMembers,
        27 => StoreError::UnhealthyCluster,
        28 => StoreError::BadTransferee(member),
        29 => StoreError::RefusedByLearner,
        30 => StoreError::MemberRemoved,
        _ => return Err("a refusal that this version does not know"),
    })
}
