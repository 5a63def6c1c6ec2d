//! The log of a member of a cluster on real files, compared with a list: entries are replaced,
//! memberships change, what is committed is known late, and some of it gets damaged.

use std::fs;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use mainstay_raft::{Damage, EntriesWanted, EntryKind, Membership};

use super::tests::{TestDirectory, block_on};
use super::*;
use crate::effect::{Batch, Change, Effect, Item};
use crate::log::encode::{HardState, encode};
use crate::log::frame::BLOCK_BYTES;
use crate::log::replay::{Behind, Commitment, Reached, Replayed, Voter};
use crate::mvcc::Lookup;
use crate::mvcc::tests::Random;
use crate::record::{Record, Revision};
use crate::sequencer::LogEntry;

const MEMBER: u64 = 7;

/// What the log should hold.
struct Model {
    /// From index 1 on.
    entries: Vec<LogEntry>,
    term: u64,
    commit: u64,
    /// Of values, at most.
    bytes: usize,
}

impl Model {
    fn new() -> Model {
        Model { entries: Vec::new(), term: 1, commit: 0, bytes: 6000 }
    }

    fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    /// After entry `index`.
    fn reached(&self, index: u64) -> Reached {
        match index.checked_sub(1) {
            None => Reached { index, term: 0, revision: 1 },
            Some(place) => {
                let entry = &self.entries[place as usize];
                Reached { index, term: entry.term, revision: entry.revision_after }
            }
        }
    }

    fn next(&mut self, random: &mut Random) -> LogEntry {
        let Reached { index, revision, .. } = self.reached(self.last_index());
        let (index, term) = (index + 1, self.term);
        let mut entry = LogEntry {
            index,
            term,
            kind: EntryKind::Normal,
            revision_before: revision,
            revision_after: revision,
            payload: Bytes::new(),
            staged: None,
        };
        if random.chance(10) {
            entry.kind = EntryKind::Membership;
            entry.payload =
                Membership::of_voters(&[MEMBER, 8, 9 + random.below(3) as u64]).encode();
        } else if !random.chance(10) {
            let batch = some_batch(random, index, term, revision, self.bytes);
            entry.revision_after = batch.revision_after;
            entry.payload = encode(&batch).payload.into();
        }
        self.entries.push(entry.clone());
        entry
    }

    fn batches(&self) -> Vec<Batch> {
        let normal = self.entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
        normal.map(batch_of).collect()
    }

    fn memberships(&self, upto: u64) -> Vec<(u64, Membership)> {
        let changes = self.entries[..upto as usize].iter();
        let changes = changes.filter(|entry| entry.kind == EntryKind::Membership);
        let changes =
            changes.map(|entry| (entry.index, Membership::decode(&entry.payload).unwrap()));
        [(0, Membership::of_voters(&[MEMBER, 8, 9]))].into_iter().chain(changes).collect()
    }

    fn voter(&self, behind: u64) -> Voter {
        // As a snapshot would tell.
        let known = self.memberships(behind).pop().unwrap().1;
        let mut memberships = vec![(0, Membership::of_voters(&[MEMBER, 8, 9]))];
        if behind > 0 {
            memberships.push((behind, known));
        }
        Voter { id: MEMBER, memberships, ..Voter::default() }
    }

    /// The newest version of a key at a revision.
    fn at(&self, key: &[u8], revision: Revision) -> Option<Record> {
        let batches = self.batches();
        let changes = batches.iter().flat_map(Batch::effects).flat_map(|effect| &effect.changes);
        let records = changes.map(|change| &change.record);
        let mut records: Vec<&Record> = records.collect();
        records.retain(|record| record.key() == key && record.mod_revision() <= revision);
        records.last().map(|&record| record.clone())
    }
}

fn some_batch(
    random: &mut Random,
    index: u64,
    term: u64,
    revision_before: Revision,
    bytes: usize,
) -> Batch {
    let mut revision = revision_before;
    let mut items = Vec::new();
    for _ in 0..1 + random.below(3) {
        revision += 1;
        let key = format!("key-{}", random.below(10));
        let value = vec![random.next() as u8; random.below(bytes)];
        let record = Record::new(key.as_bytes(), &value, revision, revision, 1, 0);
        let changes = vec![Change { record, previous: None }];
        items.push(Item::Effect(Effect { revision, changes }));
    }
    Batch { index, term, revision_before, revision_after: revision, items }
}

fn batch_of(entry: &LogEntry) -> Batch {
    use crate::log::decode::decode;
    use crate::log::frame::{FrameHeader, FrameKind};
    let payload = if entry.payload.is_empty() { &[0][..] } else { &entry.payload };
    let header = FrameHeader {
        kind: FrameKind::Entry,
        payload_length: 0,
        previous_crc: 0,
        segment: 1,
        position: 1,
        durable_position: 0,
        term: entry.term,
        index: entry.index,
        revision_before: entry.revision_before,
        revision_after: entry.revision_after,
    };
    decode(&header, payload).unwrap()
}

fn open(directory: &TestDirectory, voter: Voter, behind: Behind) -> (Log, Vec<Batch>) {
    let opened = DataDirectory::open(&directory.0).unwrap();
    let mut recovery = opened.recover_behind(Commitment::HardState(voter), behind).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = recovery.next_batch().unwrap() {
        batches.push(batch);
    }
    let options = LogOptions {
        first_segment_bytes: 32 << 10,
        segment_bytes: 64 << 10,
        prefer_threads: false,
        ..LogOptions::default()
    };
    (recovery.start(options).unwrap(), batches)
}

fn sync(log: &Log) {
    let appended = log.writer.durable_now() + log.writer.in_flight();
    while log.writer.durable_now() < appended {
        block_on(log.writer.durable(log.writer.durable_now())).unwrap();
    }
}

fn wanted(from: u64, to: u64, max_bytes: usize) -> EntriesWanted {
    EntriesWanted { from, to, max_bytes }
}

/// Everything that can be read is as the model has it. The log is durable.
fn check(log: &Log, model: &Model, random: &mut Random) {
    let last = model.last_index();
    let first = log.history.begins_after_index() + 1;
    for _ in 0..6 {
        if last < first {
            break;
        }
        let from = first + random.below((last - first + 1) as usize) as u64;
        let max_bytes = random.below(20_000);
        let read = log.history.entries_blocking(wanted(from, last, max_bytes)).unwrap();
        let EntriesRead::Entries(entries) = read else { panic!("{from}..={last}: {read:?}") };
        let expected = &model.entries[from as usize - 1..][..entries.len()];
        assert!(entries == expected, "{from}..={last}");
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        assert!(bytes <= max_bytes || entries.len() == 1);
    }
    assert_eq!(
        log.history.entries_blocking(wanted(last + 1, last + 9, 9)),
        Ok(EntriesRead::Absent)
    );
    let newest = model.reached(last).revision;
    let begins_after = log.history.begins_after();
    for _ in 0..6 {
        if newest <= begins_after {
            break;
        }
        let span = (newest - begins_after) as usize;
        let revision = begins_after + 1 + random.below(span) as i64;
        let found = log.history.read_from_blocking(revision, 1 << 30).unwrap();
        let found: Vec<Batch> = found.iter().map(|batch| (**batch).clone()).collect();
        let mut expected = model.batches();
        expected.retain(|batch| batch.revision_after >= revision);
        let names = |batches: &[Batch]| -> Vec<_> {
            batches.iter().map(|batch| (batch.index, batch.term)).collect()
        };
        assert_eq!(names(&found), names(&expected), "from {revision}");
        assert!(found == expected, "from {revision}");
        let key = Bytes::from(format!("key-{}", random.below(10)));
        let expected = model.at(&key, revision);
        if expected.as_ref().is_some_and(|record| record.mod_revision() > begins_after) {
            let lookup = Lookup { key: key.clone(), revision };
            let found = log.history.look_up_blocking(&[lookup]).unwrap();
            assert_eq!(found, [expected], "{key:?} at {revision}");
        }
    }
}

fn check_start(replayed: &Replayed, batches: &[Batch], model: &Model, behind: u64) {
    let mut expected = model.batches();
    expected.retain(|batch| batch.index > behind && batch.index <= model.commit);
    assert!(batches == expected);
    assert!(replayed.pending == model.entries[model.commit.max(behind) as usize..]);
    assert_eq!(replayed.reached, model.reached(model.last_index()));
    assert_eq!(replayed.applied, model.reached(model.commit.max(behind)));
    for index in replayed.begins_after.index..=model.last_index() {
        assert_eq!(replayed.terms.at(index), Some(model.reached(index).term), "{index}");
    }
    let in_force = |list: &[(u64, Membership)], index: u64| {
        list.iter().rfind(|(at, _)| *at <= index).cloned().unwrap().1
    };
    for index in behind..=model.last_index() {
        let expected = in_force(&model.memberships(model.last_index()), index);
        assert_eq!(in_force(&replayed.memberships, index), expected, "{index}");
    }
    assert_eq!(replayed.damaged, []);
}

#[test]
fn what_is_replaced_is_seen_by_nobody() {
    for seed in 1..=12 {
        replace_and_read(seed);
    }
}

fn replace_and_read(seed: u64) {
    let mut random = Random(seed);
    let directory = TestDirectory::new();
    let mut model = Model::new();
    let (mut log, _) = open(&directory, model.voter(0), Behind::default());
    // The promise that comes before everything else.
    log.writer.append_hard_state(HardState { term: 1, vote: 0, commit: 0 }).unwrap();
    let mut released = 0;
    for _ in 0..40 {
        match random.below(10) {
            0..=4 => {
                for _ in 0..random.below(8) {
                    let entry = model.next(&mut random);
                    log.writer.append_entry(entry).unwrap();
                }
            }
            5 | 6 if model.last_index() > model.commit => {
                let open = (model.last_index() - model.commit) as usize;
                model.term += 1;
                model.entries.truncate(model.commit as usize + random.below(open));
                let state = HardState { term: model.term, vote: 8, commit: model.commit };
                log.writer.append_hard_state(state).unwrap();
                for _ in 0..1 + random.below(4) {
                    let entry = model.next(&mut random);
                    log.writer.append_entry(entry).unwrap();
                }
            }
            7 => {
                let open = (model.last_index() - model.commit) as usize;
                model.commit += random.below(open + 1) as u64;
                let state = HardState { term: model.term, vote: 8, commit: model.commit };
                log.writer.append_hard_state(state).unwrap();
            }
            8 => {
                let behind = released + random.below((model.commit - released) as usize + 1) as u64;
                sync(&log);
                drop(log);
                let opened = open(&directory, model.voter(behind), model.reached(behind));
                let batches;
                (log, batches) = opened;
                check_start(&log.replayed, &batches, &model, behind);
            }
            _ => {
                sync(&log);
                if random.chance(30) {
                    released = model.commit.max(released);
                    log.writer.release_before(released.max(1));
                }
                check(&log, &model, &mut random);
            }
        }
    }
    sync(&log);
    check(&log, &model, &mut random);
}

/// A log with ten entries of which the first eight are committed.
fn ten_entries(directory: &TestDirectory) -> (Log, Model) {
    let mut random = Random(5);
    let mut model = Model { bytes: 500, ..Model::new() };
    let (mut log, _) = open(directory, model.voter(0), Behind::default());
    for _ in 0..10 {
        let entry = model.next(&mut random);
        log.writer.append_entry(entry).unwrap();
    }
    model.commit = 8;
    log.writer.append_hard_state(HardState { term: 1, vote: 0, commit: 8 }).unwrap();
    // What comes behind shows that all this was acknowledged.
    sync(&log);
    log.writer.append_hard_state(HardState { term: 1, vote: 0, commit: 8 }).unwrap();
    sync(&log);
    (log, model)
}

#[test]
fn replaced_entries_are_hidden_before_what_replaces_them_is_durable() {
    let directory = TestDirectory::new();
    let (mut log, mut model) = ten_entries(&directory);
    let stale = model.reached(10).revision;
    // Nothing new reaches the disk.
    log.writer.shared.reserve_bytes.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    model.term = 2;
    model.entries.truncate(8);
    let entry = model.next(&mut Random(9));
    log.writer.append_entry(entry).unwrap();
    for (batches, upto) in [
        (log.history.read_from_blocking(model.reached(8).revision, 1 << 20), 8),
        (log.history.read_from_blocking(2, 1 << 20), 8),
    ] {
        let batches = batches.unwrap();
        assert!(batches.iter().all(|batch| batch.term == 1 || batch.index > upto), "{stale}");
        assert!(batches.iter().all(|batch| batch.index <= upto || batch.term == 2));
    }
    let read = log.history.entries_blocking(wanted(8, 10, 1 << 20)).unwrap();
    let EntriesRead::Entries(entries) = read else { panic!("{read:?}") };
    assert!(entries.iter().all(|entry| entry.index == 8 || entry.term == 2), "{entries:?}");
}

#[test]
fn the_log_of_a_member_that_is_alone_again_counts_whole() {
    let directory = TestDirectory::new();
    let (mut log, mut model) = ten_entries(&directory);
    let mut entry = model.next(&mut Random(1));
    entry.kind = EntryKind::Membership;
    entry.revision_after = entry.revision_before;
    entry.payload = Membership::of_voters(&[MEMBER]).encode();
    *model.entries.last_mut().unwrap() = entry.clone();
    log.writer.append_entry(entry).unwrap();
    let entry = model.next(&mut Random(3));
    log.writer.append_entry(entry).unwrap();
    sync(&log);
    drop(log);
    let (log, batches) = open(&directory, model.voter(0), Behind::default());
    assert_eq!(batches, model.batches());
    assert_eq!(log.replayed.pending, []);
    assert_eq!(log.replayed.applied, model.reached(12));
}

#[test]
fn a_log_that_begins_anew_holds_nothing_of_what_was_before() {
    let directory = TestDirectory::new();
    let (mut log, _) = ten_entries(&directory);
    let reached = Reached { index: 1000, term: 4, revision: 9_000_000_000 };
    let members = Membership { learners: vec![MEMBER], ..Membership::of_voters(&[8, 9]) };
    log.writer.append_hard_state(HardState { term: 4, vote: 0, commit: 8 }).unwrap();
    sync(&log);
    log.writer.restart(reached, members.clone()).unwrap();
    sync(&log);
    let void = directory.segments();
    let follow = |log: &mut Log, index: u64| {
        let revision = reached.revision + (index - 1000) as i64;
        let batch = some_batch(&mut Random(index), index, 4, revision - 1, 100);
        let batch = Batch { revision_after: revision, items: batch.items[..1].to_vec(), ..batch };
        let entry = LogEntry {
            index,
            term: 4,
            kind: EntryKind::Normal,
            revision_before: revision - 1,
            revision_after: revision,
            payload: encode(&batch).payload.into(),
            staged: None,
        };
        log.writer.append_entry(entry.clone()).unwrap();
        entry
    };
    let mut entries = vec![follow(&mut log, 1001)];
    sync(&log);
    let check = |log: &Log, entries: &[LogEntry]| {
        assert_eq!(log.history.begins_after(), reached.revision);
        assert_eq!(log.history.begins_after_index(), 1000);
        let read = log.history.entries_blocking(wanted(8, 9, 1 << 20));
        assert_eq!(read, Ok(EntriesRead::Compacted));
        let read = log.history.entries_blocking(wanted(1001, 2000, 1 << 20));
        assert_eq!(read, Ok(EntriesRead::Entries(entries.to_vec())));
        let before = log.history.read_from_blocking(5, 1 << 20);
        assert!(matches!(before, Err(HistoryError::Released { .. })), "{before:?}");
    };
    check(&log, &entries);
    drop(log);
    let voter =
        Voter { id: MEMBER, memberships: vec![(1000, members.clone())], ..Voter::default() };
    for round in 1..3 {
        let (mut log, batches) = open(&directory, voter.clone(), reached);
        assert_eq!(batches, []);
        assert_eq!(log.replayed.applied, reached);
        assert_eq!(log.replayed.pending, entries);
        assert_eq!(log.replayed.memberships, [(1000, members.clone())]);
        assert_eq!(log.replayed.terms.base(), (1000, 4));
        assert_eq!(log.replayed.hard_state, HardState { term: 4, vote: 0, commit: 1000 });
        check(&log, &entries);
        if round == 2 {
            log.writer.release_before(1001);
        }
        entries.push(follow(&mut log, 1001 + round));
        sync(&log);
        check(&log, &entries);
        block_on(log.writer.close()).unwrap();
    }
    let left = directory.segments();
    assert!(void.iter().rev().skip(1).all(|sequence| !left.contains(sequence)), "{left:?}");
    // Without the snapshot there is nothing to go on from.
    let (log, batches) = open(&directory, voter, Behind::default());
    assert_eq!((batches, log.replayed.begins_after), (Vec::new(), reached));
}

#[test]
fn a_damaged_entry_is_told_by_its_name_and_mended_in_its_place() {
    let directory = TestDirectory::new();
    let (log, model) = ten_entries(&directory);
    drop(log);
    // The fourth entry's payload: behind the segment's start and the three before.
    let place = |index: u64| {
        let mut offset = BLOCK_BYTES;
        for entry in &model.entries[..index as usize - 1] {
            offset += crate::log::frame::frame_bytes(entry.payload.len().max(1));
        }
        offset as u64
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(directory.segment(1)).unwrap();
    let mut byte = [0];
    let offset = place(4) + crate::log::frame::HEADER_BYTES as u64;
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();

    let (log, batches) = open(&directory, model.voter(0), Behind::default());
    let damage = Damage { index: 4, term: 1, kind: model.entries[3].kind };
    assert_eq!(log.replayed.damaged, [damage]);
    assert_eq!(log.replayed.applied, model.reached(3));
    assert!(batches.iter().all(|batch| batch.index < 4));
    let missed = LogEntry { payload: Bytes::new(), ..model.entries[3].clone() };
    assert_eq!(log.replayed.pending[0], missed);
    assert_eq!(log.replayed.pending[1..], model.entries[4..]);
    assert_eq!(log.replayed.reached, model.reached(10));
    let read = |from| log.history.entries_blocking(wanted(from, 10, 1 << 20)).unwrap();
    assert_eq!(read(4), EntriesRead::Damaged(damage));
    assert_eq!(read(2), EntriesRead::Entries(model.entries[1..3].to_vec()));
    assert_eq!(read(5), EntriesRead::Entries(model.entries[4..].to_vec()));

    let mut other = model.entries[3].clone();
    other.payload = Bytes::from_static(b"something else");
    let refused = log.history.mend_blocking(&other).unwrap_err();
    assert!(refused.to_string().contains("another content"), "{refused}");
    log.history.mend_blocking(&model.entries[3]).unwrap();
    assert_eq!(read(1), EntriesRead::Entries(model.entries.clone()));
    drop(log);
    let (log, batches) = open(&directory, model.voter(0), Behind::default());
    check_start(&log.replayed, &batches, &model, 0);
}

#[test]
fn a_damaged_log_of_a_member_that_never_had_company_is_refused() {
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    super::tests::append_all(&mut log, 1..=10, 100);
    drop(log);
    let file = fs::OpenOptions::new().write(true).open(directory.segment(1)).unwrap();
    file.write_all_at(b"damage", 3 * BLOCK_BYTES as u64 + 100).unwrap();
    let opened = DataDirectory::open(&directory.0).unwrap();
    let voter = Voter::alone(MEMBER);
    let mut recovery = opened.recover(Commitment::HardState(voter)).unwrap();
    let error = loop {
        match recovery.next_batch() {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(error.to_string().contains("the log is damaged"), "{error}");
}

#[test]
fn a_directory_with_memberships_is_not_opened_by_older_programs() {
    let directory = TestDirectory::new();
    let (mut log, _) = open(&directory, Voter::alone(MEMBER), Behind::default());
    let format = || fs::read_to_string(directory.0.join("FORMAT")).unwrap();
    assert!(format().starts_with("mainstay-format 1\n"));
    let entry = LogEntry {
        index: 1,
        term: 1,
        kind: EntryKind::Membership,
        revision_before: 1,
        revision_after: 1,
        payload: Membership::of_voters(&[MEMBER, 8]).encode(),
        staged: None,
    };
    log.writer.append_entry(entry).unwrap();
    assert!(format().starts_with("mainstay-format 3\n"));
    drop(log);
    assert!(DataDirectory::open(&directory.0).unwrap().has_members());
}
