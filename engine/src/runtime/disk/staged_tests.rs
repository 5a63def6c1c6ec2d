//! Frames whose payload is on the disk before them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::tests::{TestDirectory, append_all, batch, block_on};
use super::*;
use crate::effect::{Batch, Deleted, Deletion, Item};
use crate::limits::LOG_STAGED_BYTES;
use crate::log::encode::encode_deletion;
use crate::log::frame::BLOCK_BYTES;
use crate::record::Record;

/// A deletion that is large enough, at raft index `index`.
fn deletion(index: u64) -> (Batch, StagedEntry) {
    let revision = index as i64 + 1;
    let key = |number: usize| format!("/some/long/prefix/of/keys/{number:08}");
    let record = |number| Record::new(key(number).as_bytes(), b"", 1, 1, 1, 0);
    let records: Vec<Record> = (0..LOG_STAGED_BYTES / 30).map(record).collect();
    let payload = encode_deletion(&records).into();
    let deletion = Deletion { revision, deleted: Deleted::new(records).into() };
    let batch = Batch {
        index,
        term: 1,
        revision_before: revision - 1,
        revision_after: revision,
        items: vec![Item::Deletion(deletion)],
    };
    let (revision_before, revision_after) = (revision - 1, revision);
    (batch, StagedEntry { term: 1, index, revision_before, revision_after, payload })
}

/// What the log gives back: the same keys, as an effect.
fn is_deletion(found: &Batch, expected: &Batch) -> bool {
    let [Item::Effect(effect)] = &found.items[..] else { return false };
    let [Item::Deletion(deletion)] = &expected.items[..] else { return false };
    let records = deletion.deleted.records();
    let same = |(change, record): (&crate::effect::Change, &Record)| {
        change.record == Record::tombstone(record.key(), deletion.revision)
    };
    effect.changes.len() == records.len() && effect.changes.iter().zip(records).all(same)
}

fn wait(log: &Log, number: u64) {
    let mut durable = 0;
    while durable < number {
        durable = block_on(log.writer.durable(durable)).expect("the log works");
    }
}

#[test]
fn a_staged_frame_is_in_the_log_like_any_other() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 100);
    let (expected, entry) = deletion(4);
    let number = log.writer.stager().stage(&entry.payload).expect("there is room");
    append_all(&mut log, 4..=4, 100);
    let (expected, entry) = (Batch { index: 5, ..expected }, StagedEntry { index: 5, ..entry });
    let entry = StagedEntry { revision_before: 5, revision_after: 6, ..entry };
    let [Item::Deletion(deleted)] = &expected.items[..] else { unreachable!() };
    let moved = Deletion { revision: 6, ..deleted.clone() };
    let expected = Batch { items: vec![Item::Deletion(moved)], ..expected };
    let appended = log.writer.append_staged(entry, number).expect("the log works");
    append_all(&mut log, 6..=20, 5000);
    wait(&log, appended);
    let read = log.history.read_from_blocking(6, 1).expect("it is there");
    assert!(is_deletion(&read[0], &expected), "watchers read it back");
    // In the present segment, in the one of its own, in the one behind it.
    assert_eq!(directory.segments()[..3], [1, 2, 3]);
    let length = |sequence| fs::metadata(directory.segment(sequence)).expect("a file").len();
    assert!(length(2) > LOG_STAGED_BYTES as u64 && length(3) == 4 * length(1));
    block_on(log.writer.close()).expect("an orderly stop");
    let (_, batches) = directory.open();
    assert_eq!(batches.len(), 20);
    assert!(is_deletion(&batches[4], &expected));
    assert_eq!(batches[5], batch(6, 5000));
}

#[test]
fn a_small_payload_is_not_worth_it() {
    let directory = TestDirectory::new();
    let (log, _) = directory.open();
    assert_eq!(log.writer.stager().stage(&[0; 4096]), None);
}

#[test]
fn a_frame_that_loses_its_segment_to_others_is_written_whole() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 100);
    let (expected, entry) = deletion(30);
    let number = log.writer.stager().stage(&entry.payload).expect("there is room");
    assert_eq!(log.writer.stager().stage(&entry.payload), None, "one at a time");
    append_all(&mut log, 4..=29, 5000);
    let appended = log.writer.append_staged(entry, number).expect("the log works");
    wait(&log, appended);
    append_all(&mut log, 31..=40, 100);
    drop(log);
    let (log, batches) = directory.open();
    assert!(log.warnings.is_empty(), "{:?}", log.warnings);
    assert_eq!(batches.len(), 40);
    assert!(is_deletion(&batches[29], &expected));
}

#[test]
fn a_crash_leaves_all_of_a_staged_frame_or_nothing() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 100);
    let (expected, entry) = deletion(4);
    let number = log.writer.stager().stage(&entry.payload).expect("there is room");
    drop(log);
    // Never appended: nothing of it counts, and the log goes on over it.
    let (mut log, batches) = directory.open();
    assert!(log.warnings.is_empty(), "{:?}", log.warnings);
    assert_eq!((batches.len(), number), (3, 1));
    append_all(&mut log, 4..=40, 5000);
    drop(log);
    let (mut log, batches) = directory.open();
    assert_eq!(batches.len(), 40);
    // Appended, but its header did not reach the disk.
    let (_, late) = deletion(41);
    let number = log.writer.stager().stage(&late.payload).expect("there is room");
    let before = directory.segments();
    let appended = log.writer.append_staged(late, number).expect("the log works");
    wait(&log, appended);
    drop(log);
    let own = before[before.len() - 2];
    let file = OpenOptions::new().write(true).open(directory.segment(own)).expect("its segment");
    for blocks in [1, 0] {
        file.write_all_at(&vec![0; BLOCK_BYTES], blocks * BLOCK_BYTES as u64).expect("a write");
        file.sync_all().expect("a sync");
        let (_, batches) = directory.open();
        assert_eq!(batches.len(), 40, "without block {blocks}");
    }
    assert!(!is_deletion(&directory.open().1[3], &expected));
}

#[test]
fn segments_that_change_places_can_be_interrupted_anywhere() {
    for step in 0..3 {
        let directory = TestDirectory::new();
        let (mut log, _) = directory.open();
        append_all(&mut log, 1..=6, 5000);
        while directory.segments().len() < 2 {
            std::thread::yield_now();
        }
        drop(log);
        let aside = directory.segment(2).with_extension("tmp");
        fs::rename(directory.segment(2), &aside).expect("a rename");
        if step > 0 {
            fs::write(directory.segment(2), vec![0x5a; 100 * BLOCK_BYTES]).expect("a file");
            let file = OpenOptions::new().write(true).open(directory.segment(2)).expect("it");
            file.write_all_at(&[0; 2 * BLOCK_BYTES], 0).expect("zeros");
        }
        if step > 1 {
            fs::rename(&aside, directory.segment(3)).expect("a rename");
        }
        let (mut log, batches) = directory.open();
        assert_eq!(batches.len(), 6, "step {step}");
        append_all(&mut log, 7..=60, 5000);
        drop(log);
        assert_eq!(directory.open().1.len(), 60, "step {step}");
    }
}
