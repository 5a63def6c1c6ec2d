//! Records, as answers have them.

use rkyv::{Archive, Serialize};

use super::Decoded;
use super::contents::{Contents, Reading};
use crate::record::Record;

/// Key and value are one content.
#[derive(Archive, Serialize)]
pub(super) struct RecordRow {
    create_revision: i64,
    mod_revision: i64,
    /// 0 for a tombstone.
    version: i64,
    lease: i64,
    key: u32,
    value: u32,
}

pub(super) fn row(record: &Record, contents: &mut Contents) -> RecordRow {
    contents.add_record(record);
    RecordRow {
        create_revision: record.create_revision(),
        mod_revision: record.mod_revision(),
        version: record.version(),
        lease: record.lease(),
        key: record.key().len() as u32,
        value: record.value().len() as u32,
    }
}

pub(super) fn rows(records: &[Record], contents: &mut Contents) -> Vec<RecordRow> {
    records.iter().map(|record| row(record, contents)).collect()
}

pub(super) fn record(row: &ArchivedRecordRow, reading: &mut Reading) -> Decoded<Record> {
    let (key, value) = (row.key.to_native(), row.value.to_native());
    let length = key.checked_add(value).ok_or("a record is too long")?;
    let joined = reading.take(length)?;
    let (create, modified) = (row.create_revision.to_native(), row.mod_revision.to_native());
    let (version, lease) = (row.version.to_native(), row.lease.to_native());
    match version {
        0 if create == 0 && lease == 0 && value == 0 && modified > 0 => {
            Ok(Record::tombstone(&joined, modified))
        }
        1.. if (1..=modified).contains(&create) => {
            Ok(Record::from_joined(&joined, key as usize, create, modified, version, lease))
        }
        _ => Err("a record is none that could be"),
    }
}
