//! A log whose older part a snapshot holds: it is passed over at the start, and read when asked for.

use std::fs;
use std::os::unix::fs::FileExt;

use super::tests::{TestDirectory, append_all, batch};
use super::*;
use crate::effect::Batch;
use crate::log::replay::{Behind, Commitment, Reached};

const ENTRIES: u64 = 400;

fn behind(index: u64) -> Behind {
    Reached { index, term: 1, revision: index as i64 + 1 }
}

fn open_behind(directory: &TestDirectory, behind: Behind) -> Result<(Log, Vec<Batch>), DiskError> {
    let mut recovery =
        DataDirectory::open(&directory.0)?.recover_behind(Commitment::EveryEntry, behind)?;
    let mut batches = Vec::new();
    while let Some(batch) = recovery.next_batch()? {
        batches.push(batch);
    }
    let options = LogOptions { first_segment_bytes: 64 << 10, ..LogOptions::default() };
    Ok((recovery.start(options)?, batches))
}

fn written() -> TestDirectory {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=ENTRIES, 3000);
    directory
}

#[test]
fn entries_that_a_snapshot_holds_are_passed_over_and_their_history_stays_readable() {
    let directory = written();
    for index in [1, 14, 15, 16, 60, 200, ENTRIES - 1, ENTRIES] {
        let (log, batches) = open_behind(&directory, behind(index)).unwrap();
        let expected: Vec<Batch> = (index + 1..=ENTRIES).map(|index| batch(index, 3000)).collect();
        assert!(batches == expected, "behind {index}: {} batches", batches.len());
        assert_eq!(log.replayed.reached, behind(ENTRIES));
        assert_eq!(log.history.begins_after(), 1);
        for revision in [2, 15, 16, 17, 61, 201, ENTRIES as i64 + 1] {
            let found = log.history.read_from_blocking(revision, usize::MAX).unwrap();
            let first = revision as u64 - 1;
            let expected = (first..=ENTRIES).map(|index| batch(index, 3000));
            assert!(found.iter().map(|batch| (**batch).clone()).eq(expected), "{index} {revision}");
        }
    }
}

#[test]
fn a_log_passed_over_is_written_and_released_like_any_other() {
    let directory = written();
    let (mut log, _) = open_behind(&directory, behind(ENTRIES)).unwrap();
    append_all(&mut log, ENTRIES + 1..=ENTRIES + 20, 3000);
    log.writer.release_before(300);
    assert!(log.history.begins_after() > 1 && log.history.begins_after() < 301);
    let found = log.history.read_from_blocking(301, usize::MAX).unwrap();
    assert_eq!(found.len() as u64, ENTRIES + 20 - 299);
    drop(log);
    assert_eq!(open_behind(&directory, behind(350)).unwrap().1.len() as u64, ENTRIES + 20 - 350);
}

#[test]
fn damage_to_what_is_passed_over_is_told_when_it_is_read() {
    let directory = written();
    let file = fs::OpenOptions::new().write(true).open(directory.segment(2)).unwrap();
    file.write_all_at(&[0xff], 3 * 4096 + 100).unwrap();
    let (log, _) = open_behind(&directory, behind(ENTRIES)).unwrap();
    assert!(log.history.read_from_blocking(10, 1).is_ok());
    assert!(log.history.read_from_blocking(ENTRIES as i64, 1).is_ok());
    let error = log.history.read_from_blocking(18, usize::MAX).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("0000000000000002.log"), "{text}");
    assert!(text.contains("12288"), "{text}");
    drop(log);
    file.write_all_at(&[0xff], 100).unwrap();
    let error = open_behind(&directory, behind(ENTRIES)).err().map(|error| error.to_string());
    assert!(error.is_none(), "the start's payload is not needed: {error:?}");
    file.write_all_at(&[0xff], 20).unwrap();
    let error = open_behind(&directory, behind(ENTRIES)).err().unwrap().to_string();
    assert!(error.contains("0000000000000002.log, byte 0"), "{error}");
}

#[test]
fn a_snapshot_of_another_log_is_refused() {
    let directory = written();
    for wrong in [
        Behind { term: 2, ..behind(60) },
        Behind { revision: 7, ..behind(60) },
        Behind { revision: 16, ..behind(14) },
    ] {
        let error = open_behind(&directory, wrong).err().unwrap().to_string();
        assert!(error.contains("where the snapshot begins"), "{error}");
    }
}
