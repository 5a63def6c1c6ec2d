//! The log on real files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::*;
use crate::effect::{Batch, Change, Control, Effect, Item};
use crate::limits;
use crate::log::LogError;
use crate::log::encode::{HardState, encode};
use crate::log::frame::BLOCK_BYTES;
use crate::log::replay::Commitment;
use crate::log::segment::file_name;
use crate::record::Record;

/// A directory that is gone when the test ends.
struct TestDirectory(PathBuf);

impl TestDirectory {
    fn new() -> TestDirectory {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainstay-log-{}-{number}", std::process::id());
        TestDirectory(std::env::temp_dir().join(name))
    }

    fn segment(&self, sequence: u64) -> PathBuf {
        self.0.join("member/wal").join(file_name(sequence))
    }

    fn segments(&self) -> Vec<u64> {
        let names = fs::read_dir(self.0.join("member/wal")).unwrap();
        let mut sequences: Vec<u64> = names
            .filter_map(|entry| {
                crate::log::segment::parse_file_name(entry.unwrap().file_name().to_str()?)
            })
            .collect();
        sequences.sort_unstable();
        sequences
    }

    fn open(&self) -> (Log, Vec<Batch>) {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<(Log, Vec<Batch>), DiskError> {
        let mut recovery = DataDirectory::open(&self.0)?.recover(Commitment::EveryEntry)?;
        let mut batches = Vec::new();
        while let Some(batch) = recovery.next_batch()? {
            batches.push(batch);
        }
        let (done, total) = recovery.progress();
        assert_eq!(done, total);
        let options = LogOptions { first_segment_bytes: 64 << 10, ..LogOptions::default() };
        Ok((recovery.start(options)?, batches))
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The batch of raft index `index`: one put of `bytes` bytes, at revision `index + 1`.
fn batch(index: u64, bytes: usize) -> Batch {
    let revision = index as i64 + 1;
    let value = vec![index as u8; bytes];
    let record = Record::new(format!("key-{index}").as_bytes(), &value, revision, revision, 1, 0);
    let changes = vec![Change { record, previous: None }];
    Batch {
        index,
        term: 1,
        revision_before: revision - 1,
        revision_after: revision,
        items: vec![
            Item::Effect(Effect { revision, changes }),
            Item::Control(Control::LeaseRevoke { id: index as i64 }),
        ],
    }
}

fn append_all(log: &mut Log, indexes: impl Iterator<Item = u64>, bytes: usize) {
    let mut last = 0;
    for index in indexes {
        last = log.writer.append(encode(&batch(index, bytes))).unwrap();
    }
    let mut durable = 0;
    while durable < last {
        durable = block_on(log.writer.durable(durable)).unwrap();
    }
    assert_eq!(log.writer.in_flight(), 0);
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let directory = TestDirectory::new();
    let (mut log, batches) = directory.open();
    assert!(batches.is_empty());
    assert_eq!(log.replayed.reached.revision, 1);
    // Through several segments: 64 KiB, then 256 KiB, then more.
    append_all(&mut log, 1..=100, 5000);
    block_on(log.writer.close()).unwrap();

    let (mut log, batches) = directory.open();
    assert_eq!(batches, (1..=100).map(|index| batch(index, 5000)).collect::<Vec<_>>());
    assert!(log.warnings.is_empty(), "{:?}", log.warnings);
    assert!(directory.segments().len() >= 3, "{:?}", directory.segments());
    append_all(&mut log, 101..=130, 100);
    // No orderly stop this time, only the end of the threads.
    drop(log);

    let (log, batches) = directory.open();
    assert_eq!(batches.len(), 130);
    assert_eq!(log.replayed.reached.index, 130);
    assert_eq!(log.replayed.reached.revision, 131);
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_own() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=2, 100);
    append_all(&mut log, 3..=3, 3 << 20);
    append_all(&mut log, 4..=4, 100);
    drop(log);
    let (_, batches) = directory.open();
    let expected = [batch(1, 100), batch(2, 100), batch(3, 3 << 20), batch(4, 100)];
    assert!(batches == expected);
}

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
fn only_one_process_may_use_a_directory() {
    let directory = TestDirectory::new();
    let (log, _) = directory.open();
    let Err(error) = DataDirectory::open(&directory.0) else { panic!("opened twice") };
    let pid = Some(std::process::id());
    assert_eq!(error, DiskError::Locked { path: directory.0.clone(), pid });
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())));
    drop(log);
    directory.open();
}

#[test]
fn directories_of_others_are_refused() {
    let format = |text: &str| {
        let lines = format!("{text}\nsalt 0000000000000001\n");
        format!("{lines}crc32 {:08x}\n", crc32fast::hash(lines.as_bytes()))
    };
    for (text, expected) in [
        (format("mainstay-format 2"), "has format 2, this program reads up to 1"),
        (format("mainstay-format 99"), "has format 99, this program reads up to 1"),
        (format("mainstay-format 1").replace("crc32 ", "crc32 0"), "lines or their checksum"),
        (String::new(), "lines or their checksum"),
    ] {
        let directory = TestDirectory::new();
        fs::create_dir_all(&directory.0).unwrap();
        fs::write(directory.0.join("FORMAT"), text).unwrap();
        let Err(error) = DataDirectory::open(&directory.0) else { panic!("accepted") };
        assert!(error.to_string().contains(expected), "{error}");
    }

    let etcd = TestDirectory::new();
    fs::create_dir_all(etcd.0.join("member/snap")).unwrap();
    fs::write(etcd.0.join("member/snap/db"), "").unwrap();
    let Err(error) = DataDirectory::open(&etcd.0) else { panic!("accepted") };
    assert!(error.to_string().contains("belongs to an etcd"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_told() {
    let Err(error) = DataDirectory::open(Path::new("/proc/mainstay")) else { panic!("made it") };
    let text = error.to_string();
    assert!(text.contains("/proc/mainstay") && text.contains("--data-dir"), "{text}");
}

#[test]
fn damage_in_the_middle_is_refused_and_an_unfinished_end_is_cut() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    for index in 1..=6 {
        append_all(&mut log, index..=index, 100);
    }
    drop(log);
    // The start of the segment is one block, and so is each frame.
    let flip = |block: usize| {
        let path = directory.segment(1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[block * BLOCK_BYTES + 90] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    flip(3);
    match directory.try_open() {
        Err(DiskError::Log(LogError::Corrupt {
            file, offset, expected_index, revision, ..
        })) => {
            assert_eq!(file, directory.segment(1).display().to_string());
            assert_eq!((offset, expected_index, revision), (3 * 4096, 3, 3));
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    }
    flip(3);
    flip(6);
    let (mut log, batches) = directory.open();
    assert_eq!(batches.len(), 5);
    assert!(log.warnings[0].contains("byte 24576"), "{:?}", log.warnings);
    append_all(&mut log, 6..=9, 300);
    drop(log);
    assert_eq!(directory.open().1.len(), 9);
}

#[test]
fn stale_frames_behind_a_cut_never_come_back() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    let mut last = 0;
    for index in 1..=4 {
        last = log.writer.append(encode(&batch(index, 100))).unwrap();
    }
    while log.writer.durable_now() < last {
        thread::yield_now();
    }
    drop(log);
    // Make all four look as if they had been in flight at once, and lose the second.
    let salt = DataDirectory::open(&directory.0).unwrap().salt();
    let path = directory.segment(1);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let block = |number: usize| &bytes[number * BLOCK_BYTES..][..BLOCK_BYTES];
    rewrite_as_in_flight(salt, &file, &(1..=4).map(block).collect::<Vec<_>>());
    let lost = fs::read(&path).unwrap()[2 * BLOCK_BYTES..3 * BLOCK_BYTES].to_vec();
    file.write_all_at(&[0; BLOCK_BYTES], 2 * BLOCK_BYTES as u64).unwrap();

    let (log, batches) = directory.open();
    assert_eq!(batches.len(), 1);
    assert!(log.warnings[0].contains("and 2 frames behind it"), "{:?}", log.warnings);
    drop(log);
    // Even the very same frame does not connect to them any more.
    file.write_all_at(&lost, 2 * BLOCK_BYTES as u64).unwrap();
    assert_eq!(directory.open().1.len(), 2);
}

/// Writes frames anew with `durable_position` 1.
fn rewrite_as_in_flight(salt: u64, file: &fs::File, frames: &[&[u8]]) {
    use crate::log::frame::{HEADER_BYTES, payload_crc, read_header, seal};
    let mut previous_crc = read_header(frames[0], salt, 1).unwrap().header.previous_crc;
    for (number, frame) in frames.iter().enumerate() {
        let mut frame = frame.to_vec();
        let mut header = read_header(&frame, salt, 1).unwrap().header;
        header.durable_position = 1;
        header.previous_crc = previous_crc;
        let payload = &frame[HEADER_BYTES..][..header.payload_length as usize];
        let crc = payload_crc(payload);
        previous_crc = seal(&header, crc, salt, &mut frame);
        file.write_all_at(&frame, ((number + 1) * BLOCK_BYTES) as u64).unwrap();
    }
}

#[test]
fn hard_state_is_kept_and_decides_what_is_committed() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 10);
    log.writer.append_hard_state(HardState { term: 4, vote: 2, commit: 2 }).unwrap();
    // A newer leader's entry replaces the third.
    let mut other = batch(3, 20);
    other.term = 4;
    let number = log.writer.append(encode(&other)).unwrap();
    block_on(log.writer.durable(number - 1)).unwrap();
    drop(log);

    let recovery = DataDirectory::open(&directory.0).unwrap();
    let mut recovery = recovery.recover(Commitment::HardState).unwrap();
    let mut committed = Vec::new();
    while let Some(batch) = recovery.next_batch().unwrap() {
        committed.push(batch);
    }
    assert_eq!(committed, [batch(1, 10), batch(2, 10)]);
    let log = recovery.start(LogOptions::default()).unwrap();
    assert_eq!(log.replayed.hard_state, HardState { term: 4, vote: 2, commit: 2 });
    assert_eq!(log.replayed.pending, [other]);
    assert_eq!((log.replayed.reached.index, log.replayed.reached.term), (3, 4));
}

#[test]
fn after_a_failure_nothing_is_acknowledged() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 10);
    let waiting = log.writer.durable(3);
    let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
    let failure = LogFailure::new(Path::new("/wal/1.log"), 8192, "a durable write", &full);
    log.writer.shared.change(|state| state.fail(failure.clone()));
    assert_eq!(block_on(waiting), Err(failure.clone()));
    assert_eq!(log.writer.append(encode(&batch(4, 10))), Err(failure.clone()));
    // What was durable before stays so.
    assert_eq!(block_on(log.writer.durable(2)), Ok(3));
    assert_eq!(block_on(log.writer.durable(3)), Err(failure.clone()));
    let text = failure.to_string();
    assert!(text.contains("byte 8192 of /wal/1.log") && text.contains("free space"), "{text}");
    let closed = block_on(log.writer.close());
    assert_eq!(closed, Err(DiskError::Failed(failure)));
    assert_eq!(directory.open().1.len(), 3);
}

#[test]
fn without_a_next_segment_the_present_one_is_used_up() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    let wal = directory.0.join("member/wal");
    let aside = directory.0.join("member/aside");
    append_all(&mut log, 1..=1, 10);
    fs::rename(&wal, &aside).unwrap();
    // 16 blocks: the start, the one above, and 14 more.
    append_all(&mut log, 2..=15, 10);
    while log.writer.space_warning().is_none() {
        thread::yield_now();
    }
    let number = log.writer.append(encode(&batch(16, 10))).unwrap();
    let failure = block_on(log.writer.durable(number - 1)).unwrap_err();
    assert_eq!(failure.operation, "preparing the next segment");
    drop(log);
    fs::rename(&aside, &wal).unwrap();
    assert_eq!(directory.open().1.len(), 15);
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
fn every_way_to_write_works() {
    for (durability, direct_io) in [
        (Durability::SyncedWrites, true),
        (Durability::SyncedWrites, false),
        (Durability::DataSync, true),
        (Durability::DataSync, false),
    ] {
        for depth in [1, 8] {
            let directory = TestDirectory::new();
            let recovery = DataDirectory::open(&directory.0).unwrap();
            let recovery = recovery.recover(Commitment::EveryEntry).unwrap();
            let options = LogOptions { durability, depth, direct_io, ..LogOptions::default() };
            let mut log = recovery.start(options).unwrap();
            assert_eq!(log.durability, durability);
            append_all(&mut log, 1..=40, 2000);
            drop(log);
            assert_eq!(directory.open().1.len(), 40);
        }
    }
}
