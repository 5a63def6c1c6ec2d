//! A batch as the log has it: looked through, but with nothing copied out of its payload. A start
//! reads millions of records and keeps the last of each key; each shard makes its own.

use super::decode::{self, DecodeError, RawChange, Walked};
use super::frame::{FrameHeader, FrameKind};
use super::replay::EMPTY_BATCH;
use crate::effect::{Batch, Control};
use crate::placement;
use crate::record::Revision;
use crate::sequencer::LogEntry;

/// A batch that was read and found in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBatch {
    header: FrameHeader,
    payload: Vec<u8>,
    changes: Vec<ChangePlace>,
    /// Each with the number of changes before it.
    controls: Vec<(usize, Control)>,
}

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChangePlace {
    /// Of its key, as [`placement::hash`] gives it.
    hash: u64,
    revision: Revision,
    /// Bytes from the start of the payload.
    offset: u32,
}

/// What happens in a batch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A change of a key that is wanted, with the key's hash.
    Change(u64, RawChange<'a>),
    Control(&'a Control),
}

impl RawBatch {
    /// Looks through the payload of an entry frame; fails where [`decode`](decode::decode) does.
    pub fn read(header: FrameHeader, payload: Vec<u8>) -> Result<RawBatch, DecodeError> {
        let (mut changes, mut controls) = (Vec::new(), Vec::new());
        decode::walk(&header, &payload, |walked| match walked {
            Walked::Effect { .. } => {}
            Walked::Change { offset, change } => {
                let offset = u32::try_from(offset).expect("a payload's length is of 32 bits");
                let hash = placement::hash(change.key);
                changes.push(ChangePlace { hash, revision: change.revision, offset });
            }
            Walked::Control(control) => controls.push((changes.len(), control)),
        })?;
        Ok(RawBatch { header, payload, changes, controls })
    }

    /// The batch of an entry of raft.
    pub fn of(entry: &LogEntry) -> Result<RawBatch, DecodeError> {
        let payload = if entry.payload.is_empty() { &EMPTY_BATCH[..] } else { &entry.payload };
        let header = FrameHeader {
            kind: FrameKind::Entry,
            payload_length: payload.len() as u32,
            previous_crc: 0,
            segment: 0,
            position: 0,
            durable_position: 0,
            term: entry.term,
            index: entry.index,
            revision_before: entry.revision_before,
            revision_after: entry.revision_after,
        };
        RawBatch::read(header, payload.to_vec())
    }

    pub fn index(&self) -> u64 {
        self.header.index
    }

    pub fn term(&self) -> u64 {
        self.header.term
    }

    pub fn revision_before(&self) -> Revision {
        self.header.revision_before
    }

    pub fn revision_after(&self) -> Revision {
        self.header.revision_after
    }

    /// The payload that it was read from.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.changes.len() * size_of::<ChangePlace>()
    }

    pub fn controls(&self) -> impl Iterator<Item = &Control> {
        self.controls.iter().map(|(_, control)| control)
    }

    /// Passes on all controls, and the changes of keys whose hash is wanted, in order.
    pub fn steps<'a>(&'a self, wanted: impl Fn(u64) -> bool, mut visit: impl FnMut(Step<'a>)) {
        let mut controls = self.controls.iter().peekable();
        for (number, place) in self.changes.iter().enumerate() {
            while let Some((_, control)) = controls.next_if(|(before, _)| *before <= number) {
                visit(Step::Control(control));
            }
            if wanted(place.hash) {
                let change =
                    decode::change_at(&self.payload, place.offset as usize, place.revision);
                visit(Step::Change(place.hash, change.expect("it was read there before")));
            }
        }
        controls.for_each(|(_, control)| visit(Step::Control(control)));
    }

    /// With everything copied out.
    pub fn to_batch(&self) -> Batch {
        decode::decode(&self.header, &self.payload).expect("it was read before")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{Change, Effect, Item};
    use crate::log::encode::encode;
    use crate::record::Record;

    fn batch() -> Batch {
        let change = |key: &str, revision| {
            let record = Record::new(key.as_bytes(), b"value", revision, revision, 1, 0);
            Change { record, previous: None }
        };
        let gone = Change { record: Record::tombstone(b"gone", 7), previous: None };
        let items = vec![
            Item::Control(Control::LeaseGrant { id: 1, ttl: 2 }),
            Item::Effect(Effect { revision: 6, changes: vec![change("a", 6), change("b", 6)] }),
            Item::Control(Control::LeaseRevoke { id: 1 }),
            Item::Effect(Effect { revision: 7, changes: vec![gone] }),
            Item::Control(Control::Compact { revision: 3 }),
        ];
        Batch { index: 9, term: 2, revision_before: 5, revision_after: 7, items }
    }

    fn header(batch: &Batch, payload: &[u8]) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Entry,
            payload_length: payload.len() as u32,
            previous_crc: 0,
            segment: 1,
            position: 1,
            durable_position: 0,
            term: batch.term,
            index: batch.index,
            revision_before: batch.revision_before,
            revision_after: batch.revision_after,
        }
    }

    #[test]
    fn steps_are_what_the_batch_has_in_its_order() {
        let batch = batch();
        let payload: Vec<u8> = encode(&batch).payload;
        let raw = RawBatch::read(header(&batch, &payload), payload).unwrap();
        let without = placement::hash(b"b");
        let mut seen = Vec::new();
        raw.steps(
            |hash| hash != without,
            |step| match step {
                Step::Change(hash, change) => {
                    assert_eq!(hash, placement::hash(change.key));
                    seen.push(format!("{:?} {}", change.to_record(), change.revision));
                }
                Step::Control(control) => seen.push(format!("{control:?}")),
            },
        );
        let mut expected = Vec::new();
        for item in &batch.items {
            match item {
                Item::Control(control) => expected.push(format!("{control:?}")),
                Item::Effect(effect) => {
                    let records = effect.changes.iter().map(|change| &change.record);
                    let wanted = records.filter(|record| record.key() != b"b");
                    expected.extend(wanted.map(|record| format!("{record:?} {}", effect.revision)));
                }
                Item::Deletion(_) => unreachable!("there is none"),
            }
        }
        assert_eq!(seen, expected);
        assert_eq!(raw.controls().count(), 3);
        assert_eq!(raw.to_batch(), batch);
    }

    #[test]
    fn it_fails_where_decoding_does() {
        let batch = batch();
        let payload: Vec<u8> = encode(&batch).payload;
        for length in 0..payload.len() {
            let cut = payload[..length].to_vec();
            let header = header(&batch, &cut);
            let expected = decode::decode(&header, &cut).unwrap_err();
            assert_eq!(RawBatch::read(header, cut).unwrap_err(), expected);
        }
    }
}
