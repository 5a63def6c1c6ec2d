//! The log on real files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use mainstay_raft::Membership;

use super::*;
use crate::effect::{Batch, Change, Control, Effect, Item};
use crate::log::LogError;
use crate::log::encode::{HardState, encode};
use crate::log::frame::BLOCK_BYTES;
use crate::log::replay::{Commitment, Voter};
use crate::log::segment::file_name;
use crate::record::Record;

/// A directory that is gone when the test ends.
pub(super) struct TestDirectory(pub(super) PathBuf);

impl TestDirectory {
    pub(super) fn new() -> TestDirectory {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainstay-log-{}-{number}", std::process::id());
        TestDirectory(std::env::temp_dir().join(name))
    }

    pub(super) fn segment(&self, sequence: u64) -> PathBuf {
        self.0.join("member/wal").join(file_name(sequence))
    }

    pub(super) fn segments(&self) -> Vec<u64> {
        let names = fs::read_dir(self.0.join("member/wal")).unwrap();
        let mut sequences: Vec<u64> = names
            .filter_map(|entry| {
                crate::log::segment::parse_file_name(entry.unwrap().file_name().to_str()?)
            })
            .collect();
        sequences.sort_unstable();
        sequences
    }

    pub(super) fn open(&self) -> (Log, Vec<Batch>) {
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

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
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
pub(super) fn batch(index: u64, bytes: usize) -> Batch {
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

pub(super) fn append_all(log: &mut Log, indexes: impl Iterator<Item = u64>, bytes: usize) {
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
        (format("mainstay-format 4"), "has format 4, this program reads up to 3"),
        (format("mainstay-format 99"), "has format 99, this program reads up to 3"),
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
fn an_orderly_stop_is_noted_until_the_next_start() {
    let directory = TestDirectory::new();
    let note = directory.0.join("member/wal/STOPPED");
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 100);
    block_on(log.writer.close()).unwrap();
    assert!(note.exists());
    let path = directory.segment(1);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[3 * BLOCK_BYTES + 90] ^= 1;
    fs::write(&path, damaged).unwrap();
    let Err(error) = directory.try_open() else { panic!("opened") };
    assert!(error.to_string().contains("An orderly stop noted"), "{error}");
    fs::write(&path, whole).unwrap();
    let (log, batches) = directory.open();
    assert_eq!(batches.len(), 3);
    assert!(!note.exists());
    drop(log);
    assert!(!note.exists(), "a drop is no orderly stop");
}

#[test]
fn the_log_of_another_directory_is_not_overwritten() {
    let (directory, other) = (TestDirectory::new(), TestDirectory::new());
    let (mut log, _) = directory.open();
    append_all(&mut log, 1..=3, 100);
    drop((log, other.open()));
    fs::copy(other.0.join("FORMAT"), directory.0.join("FORMAT")).unwrap();
    let Err(error) = directory.try_open() else { panic!("opened") };
    assert!(error.to_string().contains("that of another log"), "{error}");
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
    let memberships = vec![(0, Membership::of_voters(&[1, 2]))];
    let voter = Voter { id: 1, memberships, ..Voter::default() };
    let mut recovery = recovery.recover(Commitment::HardState(voter)).unwrap();
    let mut committed = Vec::new();
    while let Some(batch) = recovery.next_batch().unwrap() {
        committed.push(batch);
    }
    assert_eq!(committed, [batch(1, 10), batch(2, 10)]);
    let log = recovery.start(LogOptions::default()).unwrap();
    assert_eq!(log.replayed.hard_state, HardState { term: 4, vote: 2, commit: 2 });
    let [pending] = &log.replayed.pending[..] else { panic!("one entry") };
    assert_eq!((pending.index, pending.term), (3, 4));
    assert_eq!(pending.payload, encode(&other).payload);
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
fn a_full_disk_lets_appends_wait_for_space() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    log.writer.shared.reserve_bytes.store(u64::MAX, Ordering::Relaxed);
    // 16 blocks: the start and 15 more. What comes then has to wait.
    append_all(&mut log, 1..=15, 10);
    while log.writer.space_warning().is_none() {
        thread::yield_now();
    }
    assert!(log.writer.space_warning().is_some_and(|failure| failure.out_of_space));
    let number = log.writer.append(encode(&batch(16, 10))).unwrap();
    log.writer.look_for_space();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(log.writer.durable_now(), number - 1, "it waits");
    log.writer.shared.reserve_bytes.store(0, Ordering::Relaxed);
    log.writer.look_for_space();
    assert_eq!(block_on(log.writer.durable(number - 1)), Ok(number));
    assert_eq!(log.writer.space_warning(), None);
    block_on(log.writer.close()).unwrap();
    assert_eq!(directory.open().1.len(), 16);
}

#[test]
fn a_stop_does_not_wait_for_space() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    log.writer.shared.reserve_bytes.store(u64::MAX, Ordering::Relaxed);
    append_all(&mut log, 1..=15, 10);
    log.writer.append(encode(&batch(16, 10))).unwrap();
    let closed = block_on(log.writer.close()).unwrap_err();
    assert!(closed.to_string().contains("free space"), "{closed}");
    assert_eq!(directory.open().1.len(), 15, "what was not acknowledged is not there");
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
