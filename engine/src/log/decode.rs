//! Bytes back to a batch. Total: any bytes give a batch or an error, never a panic, and no
//! allocation is larger than the bytes that are there could fill.

use bytes::Bytes;

use super::encode::{
    CHANGE_DELETE, CHANGE_PUT, HardState, ITEM_COMPACT, ITEM_DOCUMENT, ITEM_EFFECT,
    ITEM_LEASE_CHECKPOINT, ITEM_LEASE_GRANT, ITEM_LEASE_REVOKE,
};
use super::frame::FrameHeader;
use crate::effect::{Batch, Change, Control, Effect, Item};
use crate::record::{LeaseId, Record, Revision};

/// What was expected where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the payload: expected {expected}")]
pub struct DecodeError {
    /// Bytes from the start of the payload.
    pub offset: usize,
    pub expected: &'static str,
}

/// Decodes the payload of an entry frame.
pub fn decode(header: &FrameHeader, payload: &[u8]) -> Result<Batch, DecodeError> {
    let mut items = Vec::new();
    walk(header, payload, |walked| match walked {
        // The smallest change takes two bytes, a decoded one far more: let the vector grow.
        Walked::Effect { revision, changes } => items.push(Item::Effect(Effect {
            revision,
            changes: Vec::with_capacity(changes.min(1024)),
        })),
        Walked::Change { change, .. } => {
            let Some(Item::Effect(effect)) = items.last_mut() else {
                unreachable!("changes follow their effect")
            };
            effect.changes.push(Change { record: change.to_record(), previous: None });
        }
        Walked::Control(control) => items.push(Item::Control(control)),
    })?;
    Ok(Batch {
        index: header.index,
        term: header.term,
        revision_before: header.revision_before,
        revision_after: header.revision_after,
        items,
    })
}

/// What comes next in a payload.
pub(super) enum Walked<'a> {
    /// So many changes of this revision follow.
    Effect {
        revision: Revision,
        changes: usize,
    },
    Change {
        /// Bytes from the start of the payload, for [`change_at`].
        offset: usize,
        change: RawChange<'a>,
    },
    Control(Control),
}

/// Shows everything that is in the payload of an entry frame, in order.
pub(super) fn walk<'a>(
    header: &FrameHeader,
    payload: &'a [u8],
    visit: impl FnMut(Walked<'a>),
) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes: payload, offset: 0 };
    if header.revision_before < 0 || header.revision_before > header.revision_after {
        return Err(reader.expected("a header with ascending revisions"));
    }
    walk_items(&mut reader, header.revision_before, header.revision_after, visit)?;
    if reader.offset != payload.len() {
        return Err(reader.expected("the end of the payload"));
    }
    Ok(())
}

fn walk_items<'a>(
    reader: &mut Reader<'a>,
    revision_before: Revision,
    revision_after: Revision,
    mut visit: impl FnMut(Walked<'a>),
) -> Result<(), DecodeError> {
    let count = reader.count("a number of items", 2)?;
    let mut revision = revision_before;
    for _ in 0..count {
        if reader.bytes.get(reader.offset) != Some(&ITEM_EFFECT) {
            visit(Walked::Control(control(reader)?));
            continue;
        }
        reader.offset += 1;
        let changes = effect_header(reader, &mut revision, revision_after)?;
        visit(Walked::Effect { revision, changes });
        for _ in 0..changes {
            let offset = reader.offset;
            visit(Walked::Change { offset, change: change(reader, revision)? });
        }
    }
    Ok(())
}

/// The change of this revision at a place in a payload.
pub(super) fn change_at(
    payload: &[u8],
    offset: usize,
    revision: Revision,
) -> Result<RawChange<'_>, DecodeError> {
    change(&mut Reader { bytes: payload, offset }, revision)
}

/// One change as it is in a payload: nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawChange<'a> {
    pub key: &'a [u8],
    pub revision: Revision,
    /// Its bytes in the payload.
    pub start: usize,
    pub end: usize,
    /// `None` for a deletion.
    put: Option<RawPut<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawPut<'a> {
    create_revision: Revision,
    version: i64,
    lease: LeaseId,
    value: &'a [u8],
}

impl RawChange<'_> {
    pub fn is_deletion(&self) -> bool {
        self.put.is_none()
    }

    pub fn to_record(&self) -> Record {
        match &self.put {
            None => Record::tombstone(self.key, self.revision),
            Some(put) => Record::new(
                self.key,
                put.value,
                put.create_revision,
                self.revision,
                put.version,
                put.lease,
            ),
        }
    }
}

/// Shows every change in the payload of an entry frame that has these revisions, in order.
pub fn visit_changes<'a>(
    revision_before: Revision,
    revision_after: Revision,
    payload: &'a [u8],
    mut visit: impl FnMut(RawChange<'a>),
) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes: payload, offset: 0 };
    walk_items(&mut reader, revision_before, revision_after, |walked| {
        if let Walked::Change { change, .. } = walked {
            visit(change);
        }
    })
}

/// Shows the keys of deletions that follow each other in a payload: `bytes` are theirs alone.
pub fn visit_deletions<'a>(
    bytes: &'a [u8],
    mut visit: impl FnMut(&'a [u8]),
) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes, offset: 0 };
    while reader.remaining() > 0 {
        let start = reader.offset;
        let change = change(&mut reader, 0)?;
        if !change.is_deletion() {
            return Err(DecodeError { offset: start, expected: "a deletion" });
        }
        visit(change.key);
    }
    Ok(())
}

/// Decodes the payload of a hard state frame.
pub fn decode_hard_state(payload: &[u8]) -> Result<HardState, DecodeError> {
    let bytes: &[u8; 24] =
        payload.try_into().map_err(|_| DecodeError { offset: 0, expected: "24 bytes" })?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(HardState {
        term: u64::from_le_bytes(words[0]),
        vote: u64::from_le_bytes(words[1]),
        commit: u64::from_le_bytes(words[2]),
    })
}

fn control(reader: &mut Reader<'_>) -> Result<Control, DecodeError> {
    let control = match reader.byte("an item")? {
        ITEM_LEASE_GRANT => Control::LeaseGrant {
            id: reader.signed("a lease id")?,
            ttl: reader.signed("a lease's seconds")?,
        },
        ITEM_LEASE_REVOKE => Control::LeaseRevoke { id: reader.signed("a lease id")? },
        ITEM_LEASE_CHECKPOINT => {
            let count = reader.count("a number of leases", 2)?;
            let mut remaining = Vec::with_capacity(count);
            for _ in 0..count {
                remaining.push((reader.signed("a lease id")?, reader.signed("a lease's seconds")?));
            }
            Control::LeaseCheckpoint { remaining }
        }
        ITEM_COMPACT => Control::Compact { revision: reader.signed("a revision")? },
        ITEM_DOCUMENT => Control::Document {
            name: Bytes::copy_from_slice(reader.bytes("a document's name")?),
            content: Bytes::copy_from_slice(reader.bytes("a document's content")?),
        },
        _ => {
            reader.offset -= 1;
            return Err(reader.expected("a known kind of item"));
        }
    };
    Ok(control)
}

/// Moves `revision` on to the effect's, and gives its number of changes.
fn effect_header(
    reader: &mut Reader<'_>,
    revision: &mut Revision,
    revision_max: Revision,
) -> Result<usize, DecodeError> {
    let start = reader.offset;
    let distance = reader.varint("an effect's revision")?;
    let room = u64::try_from(revision_max.saturating_sub(*revision)).unwrap_or(0);
    if distance == 0 || distance > room {
        return Err(DecodeError { offset: start, expected: "a revision within the batch's" });
    }
    *revision += distance as i64;
    reader.count("a number of changes", 2)
}

fn change<'a>(reader: &mut Reader<'a>, revision: Revision) -> Result<RawChange<'a>, DecodeError> {
    let start = reader.offset;
    match reader.byte("a change")? {
        CHANGE_DELETE => {
            let key = reader.bytes("a key")?;
            Ok(RawChange { key, revision, start, end: reader.offset, put: None })
        }
        CHANGE_PUT => {
            let key = reader.bytes("a key")?;
            let age = reader.varint("a create revision")?;
            let version = reader.varint("a version")?;
            let lease = reader.signed("a lease id")?;
            let value = reader.bytes("a value")?;
            let version = i64::try_from(version).unwrap_or(0);
            if age > revision as u64 || version == 0 {
                return Err(DecodeError {
                    offset: start,
                    expected: "a put that was created before its revision, of version 1 or more",
                });
            }
            let create_revision = revision - age as i64;
            let put = RawPut { create_revision, version, lease, value };
            Ok(RawChange { key, revision, start, end: reader.offset, put: Some(put) })
        }
        _ => Err(DecodeError { offset: start, expected: "a put or a delete" }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn expected(&self, expected: &'static str) -> DecodeError {
        DecodeError { offset: self.offset, expected }
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    fn byte(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.offset).ok_or(self.expected(expected))?;
        self.offset += 1;
        Ok(byte)
    }

    fn varint(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        let start = self.offset;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(expected)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError { offset: start, expected })
    }

    fn signed(&mut self, expected: &'static str) -> Result<i64, DecodeError> {
        let value = self.varint(expected)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number of things of which each takes at least `bytes_each`.
    fn count(&mut self, expected: &'static str, bytes_each: usize) -> Result<usize, DecodeError> {
        let start = self.offset;
        let count = self.varint(expected)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / bytes_each => Ok(count),
            _ => Err(DecodeError { offset: start, expected }),
        }
    }

    fn bytes(&mut self, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.count(expected, 1)?;
        let bytes = &self.bytes[self.offset..self.offset + length];
        self.offset += length;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::encode::encode;
    use super::super::frame::FrameKind;
    use super::*;

    /// Key, value, and for a put: age, version, lease.
    type Draft = (Vec<u8>, Vec<u8>, Option<(i64, i64, i64)>);

    fn change() -> impl Strategy<Value = Draft> {
        let put = (0..1000i64, 1..i64::MAX, any::<i64>());
        (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..300), proptest::option::of(put))
    }

    fn control() -> impl Strategy<Value = Control> {
        prop_oneof![
            (any::<i64>(), any::<i64>()).prop_map(|(id, ttl)| Control::LeaseGrant { id, ttl }),
            any::<i64>().prop_map(|id| Control::LeaseRevoke { id }),
            vec((any::<i64>(), any::<i64>()), 0..9)
                .prop_map(|remaining| Control::LeaseCheckpoint { remaining }),
            any::<i64>().prop_map(|revision| Control::Compact { revision }),
            (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..200)).prop_map(|(name, content)| {
                Control::Document { name: name.into(), content: content.into() }
            }),
        ]
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let item =
            prop_oneof![(1..3i64, vec(change(), 0..5)).prop_map(Ok), control().prop_map(Err)];
        (any::<u64>(), any::<u64>(), 1000..i64::MAX / 2, vec(item, 0..9)).prop_map(
            |(index, term, revision_before, plan)| {
                let mut revision = revision_before;
                let mut items = Vec::new();
                for item in plan {
                    items.push(match item {
                        Err(control) => Item::Control(control),
                        Ok((distance, changes)) => {
                            revision += distance;
                            let changes =
                                changes.into_iter().map(|change| record(change, revision));
                            Item::Effect(Effect { revision, changes: changes.collect() })
                        }
                    });
                }
                Batch { index, term, revision_before, revision_after: revision, items }
            },
        )
    }

    fn record((key, value, put): Draft, revision: i64) -> Change {
        let record = match put {
            Some((age, version, lease)) => {
                Record::new(&key, &value, revision - age, revision, version, lease)
            }
            None => Record::tombstone(&key, revision),
        };
        Change { record, previous: None }
    }

    fn header(batch: &Batch) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Entry,
            payload_length: 0,
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

    proptest! {
        #[test]
        fn batches_read_back(batch in batch()) {
            let payload = encode(&batch).payload;
            let mut records = Vec::new();
            visit_changes(batch.revision_before, batch.revision_after, &payload, |change| {
                records.push(change.to_record());
            })
            .unwrap();
            let changes = batch.effects().flat_map(|effect| &effect.changes);
            let expected: Vec<Record> = changes.map(|change| change.record.clone()).collect();
            prop_assert_eq!(records, expected);
            prop_assert_eq!(decode(&header(&batch), &payload), Ok(batch));
        }

        #[test]
        fn any_bytes_give_an_answer(
            bytes in vec(any::<u8>(), 0..400), before in any::<i64>(), after in any::<i64>(),
        ) {
            let empty =
                Batch { index: 1, term: 1, revision_before: 0, revision_after: 0, items: vec![] };
            let header =
                FrameHeader { revision_before: before, revision_after: after, ..header(&empty) };
            if let Err(error) = decode(&header, &bytes) {
                prop_assert!(error.offset <= bytes.len());
            }
            if before >= 0 && visit_changes(before, after, &bytes, |_| ()).is_ok() {
                // Only what follows the last item is not looked at.
                let error = decode(&header, &bytes).err().map(|error| error.expected);
                prop_assert!(matches!(
                    error, None | Some("the end of the payload" | "a header with ascending revisions")
                ));
            }
        }

        #[test]
        fn damaged_bytes_give_an_answer(
            batch in batch(), place in any::<prop::sample::Index>(), flip in 1..=255u8,
        ) {
            let mut payload = encode(&batch).payload;
            let place = place.index(payload.len());
            payload[place] ^= flip;
            if let Ok(decoded) = decode(&header(&batch), &payload) {
                // Whatever it now says, it must be something that can be written.
                encode(&decoded);
            }
            for length in 0..payload.len() {
                let _ = decode(&header(&batch), &payload[..length]);
            }
        }
    }

    #[test]
    fn errors_name_place_and_expectation() {
        let empty =
            Batch { index: 1, term: 1, revision_before: 5, revision_after: 6, items: vec![] };
        for (bytes, offset, expected) in [
            (&[][..], 0, "a number of items"),
            (&[1, 9, 9], 1, "a known kind of item"),
            (&[1, ITEM_EFFECT, 2, 0], 2, "a revision within the batch's"),
            (&[1, ITEM_EFFECT, 1, 1, CHANGE_DELETE, 9], 5, "a key"),
            (&[1, ITEM_EFFECT, 1, 0, 7], 4, "the end of the payload"),
            (&[255; 11], 0, "a number of items"),
        ] {
            let error = decode(&header(&empty), bytes).unwrap_err();
            assert_eq!((error.offset, error.expected), (offset, expected), "{bytes:?}");
        }
    }

    #[test]
    fn hard_states_read_back() {
        let state = HardState { term: 3, vote: u64::MAX, commit: 9 };
        assert_eq!(decode_hard_state(&state.encode()), Ok(state));
        assert!(decode_hard_state(&[0; 23]).is_err());
    }
}
