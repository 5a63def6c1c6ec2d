//! Reading history back, and what becomes of segments that are no longer needed.

use std::fs;
use std::thread;

use super::tests::{TestDirectory, append_all, batch, block_on};
use super::*;
use crate::limits;
use crate::log::encode::encode;

#[test]
fn history_is_read_by_revision() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=200, 3000);
    for restarted in [false, true] {
        if restarted {
            drop(log);
            log = directory.open().0;
        }
        for (revision, first) in [(2, 1), (3, 2), (57, 56), (201, 200)] {
            let found = log.history.read_from_blocking(revision, usize::MAX).unwrap();
            let indexes: Vec<u64> = found.iter().map(|batch| batch.index).collect();
            assert_eq!(indexes, (first..=200).collect::<Vec<u64>>(), "from {revision}");
            assert_eq!(*found[0], batch(first, 3000));
            let found = log.history.read_from_blocking(revision, 8192).unwrap();
            assert_eq!(found.len() as u64, (201 - first).min(2));
            assert_eq!(log.history.read_from_blocking(revision, 1).unwrap().len(), 1);
        }
        assert!(log.history.read_from_blocking(202, 1 << 20).unwrap().is_empty());
        let released = log.history.read_from_blocking(1, 1 << 20);
        assert_eq!(released, Err(HistoryError::Released { requested: 1, begins_after: 1 }));
    }
}

#[test]
fn history_is_read_in_an_executor() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 3000);
    let history = log.history.clone();
    let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
    let found = executor.run(async move {
        let number = log.writer.append(encode(&batch(4, 10))).unwrap();
        assert_eq!(log.writer.durable(number - 1).await, Ok(number));
        history.read_from(4, 1 << 20).await
    });
    assert_eq!(found.unwrap().len(), 2);
}

#[test]
fn released_segments_are_removed_or_recycled() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=200, 8000);
    let before = directory.segments();
    assert!(before.len() >= 3, "{before:?}");
    log.writer.release_before(0);
    log.writer.release_before(150);
    assert!(log.history.begins_after() > 1);
    let begins_after = log.history.begins_after();
    assert!(log.history.read_from_blocking(begins_after, 1).is_err());
    let found = log.history.read_from_blocking(begins_after + 1, usize::MAX).unwrap();
    assert_eq!(found.last().unwrap().index, 200);
    assert!(found[0].index <= 150 && found[0].index > 1);
    drop(log);
    assert!(directory.segments()[0] > 1);

    let (mut log, batches) = directory.open();
    assert_eq!(batches[0].revision_before, begins_after);
    assert_eq!(log.replayed.begins_after.index + 1, batches[0].index);
    assert_eq!(log.history.begins_after(), begins_after);
    append_all(&mut log, 201..=210, 8000);
    drop(log);
    assert_eq!(directory.open().1.last().unwrap().index, 210);
}

#[test]
fn a_recycled_segment_shows_nothing_of_its_past() {
    let directory = TestDirectory::new();
    let wal = directory.0.join("member/wal");
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=10, 100);
    block_on(log.writer.close()).unwrap();
    // A spare as a release leaves it: full of frames that were valid under another number.
    for number in directory.segments().into_iter().skip(1) {
        fs::remove_file(directory.segment(number)).unwrap();
    }
    let old = fs::read(directory.segment(1)).unwrap();
    let mut spare = Vec::new();
    while spare.len() < limits::LOG_SEGMENT_BYTES as usize {
        spare.extend_from_slice(&old);
    }
    fs::write(wal.join("0000000000000001.spare"), &spare).unwrap();

    let (mut log, _) = directory.open();
    append_all(&mut log, 11..=40, 4000);
    assert!(!wal.join("0000000000000001.spare").exists(), "the spare was not used");
    drop(log);
    let (log, batches) = directory.open();
    assert_eq!(batches.len(), 40);
    assert!(log.warnings.is_empty(), "{:?}", log.warnings);
}

#[test]
fn history_is_right_while_the_log_is_written_and_released() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=1, 3000);
    let history = log.history.clone();
    let reader = thread::spawn(move || {
        let mut next = 2;
        while next <= 600 {
            match history.read_from_blocking(next, 100_000) {
                Ok(batches) => {
                    for found in batches {
                        assert_eq!(*found, batch(next as u64 - 1, 3000));
                        next += 1;
                    }
                }
                Err(HistoryError::Released { requested, begins_after }) => {
                    assert!(requested == next && begins_after >= next);
                    next = begins_after + 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    for index in 2..=600 {
        log.writer.append(encode(&batch(index, 3000))).unwrap();
        log.writer.release_before(index.saturating_sub(40));
    }
    reader.join().unwrap();
    // All is durable now.
    log.writer.release_before(500);
    drop(log);
    let (_, batches) = directory.open();
    assert_eq!(batches.last().unwrap().index, 600);
    assert!(batches[0].index > 1);
}

#[test]
fn a_segment_that_can_not_be_given_back_is_no_end_and_makes_no_gap() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=200, 8000);
    let before = directory.segments();
    assert!(before.len() >= 4, "{before:?}");
    // Nothing can be renamed to what is a folder with something in it.
    let in_the_way = directory.segment(before[0]).with_extension("spare");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(in_the_way.join("file"), b"").unwrap();
    log.writer.release_before(150);
    append_all(&mut log, 201..=210, 8000);
    block_on(log.writer.close()).unwrap();
    assert_eq!(directory.segments()[..before.len()], before, "younger ones wait for the oldest");
    fs::remove_dir_all(&in_the_way).unwrap();
    assert_eq!(directory.open().1.last().unwrap().index, 210);
}
