//! Bytes of a disk: frames of the log.

use mainstay_engine::log::decode::{decode, decode_hard_state, visit_changes};
use mainstay_engine::log::encode::encode;
use mainstay_engine::log::frame::{
    FrameHeader, FrameKind, HEADER_BYTES, payload_crc, read_header, seal,
};

const SALT: u64 = 7;
const SEGMENT: u64 = 1;

/// A frame, and the payload of an entry: first two bytes for the revisions it should take it from and
/// to. What can be decoded has the same changes in whichever way it is read, and comes back when it
/// is encoded.
pub fn log_frame(data: &[u8]) {
    if let Ok(found) = read_header(data, SALT, SEGMENT) {
        let _defect = found.check_payload(data.get(HEADER_BYTES..).unwrap_or_default());
    }
    let _defect = decode_hard_state(data);
    let Some((&[before, revisions], payload)) = data.split_first_chunk::<2>() else { return };
    let header = FrameHeader {
        kind: FrameKind::Entry,
        payload_length: payload.len() as u32,
        previous_crc: 0,
        segment: SEGMENT,
        position: 1,
        durable_position: 0,
        term: 1,
        index: 1,
        revision_before: i64::from(before),
        revision_after: i64::from(before) + i64::from(revisions),
    };
    // A sealed header is read as it was written.
    let mut frame = vec![0; HEADER_BYTES];
    let crc = seal(&header, payload_crc(payload), SALT, &mut frame);
    let read = read_header(&frame, SALT, SEGMENT).expect("it was sealed");
    assert_eq!((read.header, read.crc), (header, crc));
    read.check_payload(payload).expect("its own payload");

    let mut visited = Vec::new();
    let visit = visit_changes(header.revision_before, header.revision_after, payload, |change| {
        visited.push((change.key.to_vec(), change.revision));
    });
    let Ok(batch) = decode(&header, payload) else { return };
    visit.expect("it can be decoded");
    let changes = batch.effects().flat_map(|effect| &effect.changes);
    let changes: Vec<_> = changes
        .map(|change| (change.record.key().to_vec(), change.record.mod_revision()))
        .collect();
    assert!(changes.iter().all(|change| visited.contains(change)), "{changes:?} of {visited:?}");
    let encoded = encode(&batch).payload;
    let again = FrameHeader { payload_length: encoded.len() as u32, ..header };
    assert_eq!(decode(&again, &encoded).as_ref(), Ok(&batch));
}
