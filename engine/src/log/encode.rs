//! A batch as bytes. [`decode`](super::decode) is the way back.
//!
//! Numbers are varints (seven bits a byte, lowest first), signed ones as their 64-bit pattern
//! zigzagged; byte strings carry their length before them. The layout is in storage-format.md.

use crate::effect::{Batch, Change, Control, Effect, Item};
use crate::record::{Record, Revision};

pub(crate) const ITEM_EFFECT: u8 = 1;
pub(crate) const ITEM_LEASE_GRANT: u8 = 2;
pub(crate) const ITEM_LEASE_REVOKE: u8 = 3;
pub(crate) const ITEM_LEASE_CHECKPOINT: u8 = 4;
pub(crate) const ITEM_COMPACT: u8 = 5;
pub(crate) const ITEM_DOCUMENT: u8 = 6;

pub(crate) const CHANGE_DELETE: u8 = 0;
pub(crate) const CHANGE_PUT: u8 = 1;

/// A raft entry ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEntry {
    pub term: u64,
    pub index: u64,
    pub revision_before: Revision,
    pub revision_after: Revision,
    /// The items, encoded.
    pub payload: Vec<u8>,
}

/// Bytes of an encoded hard state.
pub(crate) const HARD_STATE_BYTES: usize = 24;

/// What raft must not forget besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    pub term: u64,
    /// The member voted for in `term`; 0 for none.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

impl HardState {
    /// The payload of its frame.
    pub fn encode(&self) -> [u8; HARD_STATE_BYTES] {
        let mut bytes = [0; HARD_STATE_BYTES];
        bytes[0..8].copy_from_slice(&self.term.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.vote.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.commit.to_le_bytes());
        bytes
    }
}

/// Encodes `batch`. The changes' previous records are not part of the log.
///
/// Panics when the batch contradicts itself: an effect whose revision is not between the batch's
/// revisions and after the effect before, or a change whose record is of another revision.
pub fn encode(batch: &Batch) -> EncodedEntry {
    assert!(batch.revision_before <= batch.revision_after, "{}", batch.index);
    let mut payload = Vec::with_capacity(16 + batch.items.iter().map(size_hint).sum::<usize>());
    put_varint(&mut payload, batch.items.len() as u64);
    let mut revision = batch.revision_before;
    for item in &batch.items {
        match item {
            Item::Effect(effect) => {
                assert!(effect.revision > revision && effect.revision <= batch.revision_after);
                put_effect(&mut payload, effect, revision);
                revision = effect.revision;
            }
            Item::Deletion(deletion) => {
                assert!(deletion.revision == revision + 1);
                put_deleted(&mut payload, deletion.deleted.records());
                revision = deletion.revision;
            }
            Item::Control(control) => put_control(&mut payload, control),
        }
    }
    EncodedEntry {
        term: batch.term,
        index: batch.index,
        revision_before: batch.revision_before,
        revision_after: batch.revision_after,
        payload,
    }
}

/// The payload of a batch that is one deletion, whatever its revision will be: to be made before
/// the revision is taken.
pub fn encode_deletion(records: &[Record]) -> Vec<u8> {
    let keys: usize = records.iter().map(|record| record.key().len() + 4).sum();
    let mut payload = Vec::with_capacity(32 + keys);
    put_varint(&mut payload, 1);
    put_deleted(&mut payload, records);
    payload
}

/// The effect of the next revision, which ends `records`.
fn put_deleted(payload: &mut Vec<u8>, records: &[Record]) {
    payload.push(ITEM_EFFECT);
    put_varint(payload, 1);
    put_varint(payload, records.len() as u64);
    for record in records {
        payload.push(CHANGE_DELETE);
        put_bytes(payload, record.key());
    }
}

/// About how many bytes an item takes: spares the buffer from growing.
fn size_hint(item: &Item) -> usize {
    match item {
        Item::Effect(effect) => effect
            .changes
            .iter()
            .map(|change| change.record.key().len() + change.record.value().len() + 32)
            .sum(),
        Item::Deletion(deletion) => deletion.deleted.bytes(),
        Item::Control(Control::LeaseCheckpoint { remaining }) => 12 + remaining.len() * 20,
        Item::Control(Control::Document { name, content }) => name.len() + content.len() + 16,
        Item::Control(_) => 24,
    }
}

fn put_effect(payload: &mut Vec<u8>, effect: &Effect, revision_before: Revision) {
    payload.push(ITEM_EFFECT);
    put_varint(payload, (effect.revision - revision_before) as u64);
    put_varint(payload, effect.changes.len() as u64);
    for Change { record, previous: _ } in &effect.changes {
        assert_eq!(record.mod_revision(), effect.revision);
        if record.is_tombstone() {
            payload.push(CHANGE_DELETE);
            put_bytes(payload, record.key());
            continue;
        }
        payload.push(CHANGE_PUT);
        put_bytes(payload, record.key());
        // As a distance, so that a key that is created here takes one byte.
        put_varint(payload, (effect.revision - record.create_revision()) as u64);
        put_varint(payload, record.version() as u64);
        put_signed(payload, record.lease());
        put_bytes(payload, record.value());
    }
}

fn put_control(payload: &mut Vec<u8>, control: &Control) {
    match control {
        Control::LeaseGrant { id, ttl } => {
            payload.push(ITEM_LEASE_GRANT);
            put_signed(payload, *id);
            put_signed(payload, *ttl);
        }
        Control::LeaseRevoke { id } => {
            payload.push(ITEM_LEASE_REVOKE);
            put_signed(payload, *id);
        }
        Control::LeaseCheckpoint { remaining } => {
            payload.push(ITEM_LEASE_CHECKPOINT);
            put_varint(payload, remaining.len() as u64);
            for (id, seconds) in remaining {
                put_signed(payload, *id);
                put_signed(payload, *seconds);
            }
        }
        Control::Compact { revision } => {
            payload.push(ITEM_COMPACT);
            put_signed(payload, *revision);
        }
        Control::Document { name, content } => {
            payload.push(ITEM_DOCUMENT);
            put_bytes(payload, name);
            put_bytes(payload, content);
        }
    }
}

fn put_varint(payload: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        payload.push(value as u8 | 0x80);
        value >>= 7;
    }
    payload.push(value as u8);
}

fn put_signed(payload: &mut Vec<u8>, value: i64) {
    put_varint(payload, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_bytes(payload: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(payload, bytes.len() as u64);
    payload.extend_from_slice(bytes);
}
