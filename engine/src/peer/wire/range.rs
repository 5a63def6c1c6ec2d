//! Reads of ranges: the question and the answer.

use rkyv::{Archive, Serialize};

use super::Decoded;
use super::contents::{Contents, Reading};
use super::records::{self, ArchivedRecordRow, RecordRow};
use crate::request::{KeyRange, RangeRequest, RangeResponse, SortDirection, SortTarget};

#[derive(Archive, Serialize)]
pub(super) enum KeysRow {
    Single(u32),
    Interval { start: u32, end: u32 },
    From(u32),
}

pub(super) fn keys_row(range: &KeyRange, contents: &mut Contents) -> KeysRow {
    match range {
        KeyRange::Single(key) => KeysRow::Single(contents.add(key)),
        KeyRange::Interval { start, end } => {
            KeysRow::Interval { start: contents.add(start), end: contents.add(end) }
        }
        KeyRange::From(start) => KeysRow::From(contents.add(start)),
    }
}

pub(super) fn keys(row: &ArchivedKeysRow, reading: &mut Reading) -> Decoded<KeyRange> {
    Ok(match row {
        ArchivedKeysRow::Single(key) => KeyRange::Single(reading.take(*key)?),
        ArchivedKeysRow::Interval { start, end } => {
            KeyRange::Interval { start: reading.take(*start)?, end: reading.take(*end)? }
        }
        ArchivedKeysRow::From(start) => KeyRange::From(reading.take(*start)?),
    })
}

#[derive(Archive, Serialize)]
pub(super) struct RangeRow {
    range: KeysRow,
    revision: i64,
    limit: u64,
    sort: Option<(u8, u8)>,
    keys_only: bool,
    count_only: bool,
    min_mod_revision: i64,
    max_mod_revision: i64,
    min_create_revision: i64,
    max_create_revision: i64,
    serializable: bool,
}

const TARGETS: [SortTarget; 5] =
    [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];

const DIRECTIONS: [SortDirection; 3] =
    [SortDirection::Ascend, SortDirection::Descend, SortDirection::AscendWithinLimit];

/// Its place among all.
pub(super) fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).expect("all are listed") as u8
}

pub(super) fn at<T: Copy>(all: &[T], place: u8) -> Decoded<T> {
    all.get(usize::from(place)).copied().ok_or("a number stands for nothing")
}

pub(super) fn row(request: &RangeRequest, contents: &mut Contents) -> RangeRow {
    let sort = request.sort.as_ref();
    RangeRow {
        range: keys_row(&request.range, contents),
        revision: request.revision,
        limit: request.limit as u64,
        sort: sort
            .map(|(target, direction)| (place(&TARGETS, target), place(&DIRECTIONS, direction))),
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
        serializable: request.serializable,
    }
}

pub(super) fn range(row: &ArchivedRangeRow, reading: &mut Reading) -> Decoded<RangeRequest> {
    let sort = match row.sort.as_ref() {
        Some(sort) => Some((at(&TARGETS, sort.0)?, at(&DIRECTIONS, sort.1)?)),
        None => None,
    };
    Ok(RangeRequest {
        range: keys(&row.range, reading)?,
        revision: row.revision.to_native(),
        limit: usize::try_from(row.limit.to_native()).unwrap_or(usize::MAX),
        sort,
        keys_only: row.keys_only,
        count_only: row.count_only,
        min_mod_revision: row.min_mod_revision.to_native(),
        max_mod_revision: row.max_mod_revision.to_native(),
        min_create_revision: row.min_create_revision.to_native(),
        max_create_revision: row.max_create_revision.to_native(),
        serializable: row.serializable,
    })
}

#[derive(Archive, Serialize)]
pub(super) struct FoundRow {
    revision: i64,
    records: Vec<RecordRow>,
    more: bool,
    count: u64,
}

pub(super) fn found_row(response: &RangeResponse, contents: &mut Contents) -> FoundRow {
    FoundRow {
        revision: response.revision,
        records: records::rows(&response.records, contents),
        more: response.more,
        count: response.count as u64,
    }
}

pub(super) fn found(row: &ArchivedFoundRow, reading: &mut Reading) -> Decoded<RangeResponse> {
    let record = |row: &ArchivedRecordRow| records::record(row, reading);
    Ok(RangeResponse {
        revision: row.revision.to_native(),
        records: row.records.iter().map(record).collect::<Decoded<_>>()?,
        more: row.more,
        count: usize::try_from(row.count.to_native()).unwrap_or(usize::MAX),
    })
}
