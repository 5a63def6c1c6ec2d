//! What is filled in is what a start reads, and looking changes nothing.

use super::filling::{IN_FLIGHT_MAX, TERM};
use super::{Filling, IdleDirectory};
use crate::effect::{Change, Control, Effect, Item};
use crate::log::decode::decode;
use crate::log::frame::FrameKind;
use crate::log::replay::{Behind, Reached};
use crate::record::{Record, Revision};
use crate::runtime::disk::tests::TestDirectory;
use crate::runtime::disk::{DataDirectory, DiskError};

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
