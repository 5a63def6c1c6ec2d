//! What is filled in is what a start reads, and looking changes nothing.

use super::filling::{IN_FLIGHT_MAX, TERM};
use super::{Filling, IdleDirectory};
use crate::effect::{Change, Control, Effect, Item};
use crate::log::decode::decode;
use crate::log::frame::FrameKind;
use crate::log::replay::{Behind, Reached};
use crate::mvcc::{Settled, SettledChunk};
use crate::record::{Record, Revision};
use crate::runtime::disk::tests::TestDirectory;
use crate::runtime::disk::{DataDirectory, DiskError};
use crate::snapshot::{Document, End, Header, LeaseRow, Slice};

fn effect(revision: Revision, value_bytes: usize) -> Effect {
    let record = Record::new(b"key", &vec![7; value_bytes], 2, revision, 1, 0);
    Effect { revision, changes: vec![Change { record, previous: None }] }
}

#[test]
fn what_was_filled_in_is_what_a_start_reads() {
    let directory = TestDirectory::new();
    let mut filling = Filling::create(&directory.0).unwrap();
    let mut expected = Vec::new();
    filling.control(Control::LeaseGrant { id: 7, ttl: 60 }).unwrap();
    expected.push(Item::Control(Control::LeaseGrant { id: 7, ttl: 60 }));
    // Gaps, several batches, and more of them than may be in flight.
    for number in 0..40 {
        let effect = effect(2 + number * 3, 300 << 10);
        expected.push(Item::Effect(effect.clone()));
        filling.effect(effect).unwrap();
    }
    filling.control(Control::Compact { revision: 200 }).unwrap();
    expected.push(Item::Control(Control::Compact { revision: 200 }));
    filling.finish(500).unwrap();

    let idle = IdleDirectory::open(&directory.0).unwrap();
    let mut frames = idle.frames().unwrap();
    let mut entries = 0;
    while let Some(frame) = frames.next_frame().unwrap() {
        if frame.header.kind == FrameKind::Entry {
            decode(&frame.header, &frame.payload).unwrap();
            entries += 1;
        }
    }
    assert!(entries > IN_FLIGHT_MAX, "{entries}");
    assert_eq!(frames.cut(), None);
    assert!(idle.snapshots().unwrap().is_empty());
    let mut read = Vec::new();
    let mut batches = idle.batches(Behind::default()).unwrap();
    while let Some(batch) = batches.next_batch().unwrap() {
        read.extend(batch.items);
    }
    assert!(read == expected);
    drop(idle);

    let (log, batches) = directory.open();
    let items: Vec<Item> = batches.into_iter().flat_map(|batch| batch.items).collect();
    assert!(items == expected);
    assert_eq!(log.replayed.reached, Reached { index: entries, term: TERM, revision: 500 });
}

#[test]
fn segments_span_no_more_revisions_than_their_keys_can_be_found_by() {
    let directory = TestDirectory::new();
    let mut filling = Filling::create(&directory.0).unwrap();
    let revisions = [2, 3, 3 << 31, (3 << 31) + 1, 1 << 40, (1 << 40) + (1 << 31) - 9];
    for revision in revisions {
        filling.effect(effect(revision, 10)).unwrap();
    }
    filling.finish(1 << 50).unwrap();
    let idle = IdleDirectory::open(&directory.0).unwrap();
    let mut frames = idle.frames().unwrap();
    let (mut base, mut found, mut segments) = (0, Vec::new(), 0);
    while let Some(frame) = frames.next_frame().unwrap() {
        if frame.header.kind == FrameKind::SegmentStart {
            base = frame.header.revision_after;
            segments += 1;
            continue;
        }
        let batch = decode(&frame.header, &frame.payload).unwrap();
        assert!(batch.revision_before - base <= 1 << 31);
        for effect in batch.effects() {
            assert!(u32::try_from(effect.revision - base).is_ok(), "{base} {effect:?}");
            found.push(effect.revision);
        }
    }
    assert_eq!(found, revisions);
    assert!(segments >= 3, "{segments}");
    drop(idle);
    assert_eq!(directory.open().0.replayed.reached.revision, 1 << 50);
}

#[test]
fn only_an_empty_directory_is_filled_and_only_an_idle_one_looked_at() {
    let directory = TestDirectory::new();
    let (log, _) = directory.open();
    let Err(refused) = Filling::create(&directory.0) else { panic!("filled") };
    assert!(matches!(refused, DiskError::NotEmpty { .. }), "{refused}");
    let Err(refused) = IdleDirectory::open(&directory.0) else { panic!("opened") };
    let pid = Some(std::process::id());
    assert!(matches!(&refused, DiskError::Locked { pid: held, .. } if *held == pid));
    drop(log);
    let idle = IdleDirectory::open(&directory.0).unwrap();
    let Err(refused) = DataDirectory::open(&directory.0) else { panic!("opened") };
    assert!(matches!(refused, DiskError::Locked { .. }), "{refused}");
    drop(idle);
    let Err(refused) = IdleDirectory::open(&directory.0.join("member")) else { panic!("opened") };
    assert!(refused.to_string().contains("FORMAT"), "{refused}");
}

#[test]
fn a_snapshot_is_read_as_it_was_written_and_the_log_goes_on_behind_it() {
    let directory = TestDirectory::new();
    let mut filling = Filling::create(&directory.0).unwrap();
    for revision in 2..12 {
        filling.effect(effect(revision, 600 << 10)).unwrap();
    }
    filling.finish(0).unwrap();
    let idle = IdleDirectory::open(&directory.0).unwrap();
    let mut batches = idle.batches(Behind::default()).unwrap();
    let third = (0..3).map(|_| batches.next_batch().unwrap().unwrap()).last().unwrap();
    let behind = Behind { index: third.index, term: TERM, revision: third.revision_after };
    drop(idle);

    let entry =
        Settled { record: Record::new(b"key", b"of the snapshot", 2, 7, 6, 9), previous: 6 };
    let lease = LeaseRow { id: 9, ttl: 60, remaining: 12 };
    let document = Document { name: "d".into(), content: "content".into() };
    let store = DataDirectory::open(&directory.0).unwrap();
    let (index, term, revision) = (behind.index, behind.term, behind.revision);
    let header = Header { index, term, revision, runs: 1, ..Header::default() };
    let mut draft = store.snapshots().unwrap().draft(&header).unwrap();
    let chunk = SettledChunk { entries: vec![entry.clone()], resume_after: None };
    draft.add(0, Slice::Entries(chunk)).unwrap();
    draft.add(0, Slice::Leases(vec![lease])).unwrap();
    draft.add(0, Slice::Documents(vec![document.clone()])).unwrap();
    draft.complete(End { index, revision }, None).unwrap();
    drop(store);

    let idle = IdleDirectory::open(&directory.0).unwrap();
    assert_eq!(idle.snapshots().unwrap(), [index]);
    let snapshot = idle.snapshot(index).unwrap();
    let (mut entries, mut told) = (Vec::new(), 0);
    snapshot.entries(|entry| entries.push(entry), |bytes| told = bytes).unwrap();
    assert_eq!(entries, [entry]);
    assert!(told > 0 && told < snapshot.layout().footer.file_bytes);
    assert_eq!(snapshot.leases().unwrap(), [lease]);
    assert_eq!(snapshot.documents().unwrap(), [document]);
    let mut batches = idle.batches(behind).unwrap();
    assert_eq!(batches.next_batch().unwrap().unwrap().index, index + 1);

    let mut bytes = std::fs::read(snapshot.name()).unwrap();
    let place = bytes.windows(15).position(|window| window == b"of the snapshot").unwrap();
    bytes[place] ^= 1;
    std::fs::write(snapshot.name(), &bytes).unwrap();
    let damaged = idle.snapshot(index).unwrap().entries(|_| {}, |_| {}).unwrap_err().to_string();
    assert!(damaged.contains(snapshot.name()) && damaged.contains("checksum"), "{damaged}");
}
