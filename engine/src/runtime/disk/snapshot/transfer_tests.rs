//! A member's state travels to another one, whatever stops it on the way.

use std::fs;
use std::sync::Arc;

use mainstay_raft::{EntryKind, Membership, Snapshot, SnapshotPart};

use super::*;
use crate::effect::{Batch, Change, Effect, Item};
use crate::log::HardState;
use crate::log::encode::encode;
use crate::log::replay::{Behind, Commitment, Reached};
use crate::mvcc::{Settled, SettledChunk};
use crate::placement;
use crate::record::Record;
use crate::restored::State;
use crate::runtime::disk::tests::{TestDirectory, batch};
use crate::runtime::disk::{DataDirectory, DiskError, Identity, Log, LogOptions};
use crate::runtime::restore::{Restored, force_alone, load_incoming};
use crate::sequencer::LogEntry;
use crate::snapshot::{End, Header, Slice, SnapshotBytes};

const RUNS: usize = 3;
const CORES: usize = 2;
/// Where the snapshot begins and ends, and the log.
const BEGIN: u64 = 10;
const END: u64 = 20;
const LAST: u64 = 30;
/// Of term 1, as all others but the first of term 2.
const MEMBERSHIP: u64 = 15;

fn members() -> Membership {
    Membership::of_voters(&[7, 8])
}

/// Every entry puts one key, but for one that changes the members.
fn entry(index: u64) -> LogEntry {
    let (kind, revision) = match index {
        MEMBERSHIP => (EntryKind::Membership, index as i64),
        _ => (EntryKind::Normal, index as i64 + i64::from(index < MEMBERSHIP)),
    };
    let before = revision - i64::from(kind == EntryKind::Normal);
    let payload = match kind {
        EntryKind::Membership => Membership { learners: vec![9], ..members() }.encode(),
        EntryKind::Normal => {
            let changes = vec![Change { record: record(index), previous: None }];
            let items = vec![Item::Effect(Effect { revision, changes })];
            let (revision_before, revision_after) = (before, revision);
            encode(&Batch { index, term: 1, revision_before, revision_after, items }).payload.into()
        }
    };
    LogEntry {
        index,
        term: 1,
        kind,
        revision_before: before,
        revision_after: revision,
        payload,
        staged: None,
    }
}

fn record(index: u64) -> Record {
    let revision = index as i64 + i64::from(index < MEMBERSHIP);
    let key = format!("key-{}", index % 12);
    Record::new(key.as_bytes(), &[index as u8; 700], revision, revision, 1, 0)
}

fn reached(index: u64) -> Reached {
    Reached { index, term: 1, revision: entry(index).revision_after }
}

fn options() -> LogOptions {
    LogOptions { first_segment_bytes: 64 << 10, prefer_threads: false, ..LogOptions::default() }
}

/// A directory of a member of the cluster, and where its snapshots are.
fn member(id: u64) -> (TestDirectory, SnapshotFolder) {
    let directory = TestDirectory::new();
    let opened = DataDirectory::open(&directory.0).unwrap();
    opened.write_identity(&identity(id)).unwrap();
    let folder = opened.snapshots().unwrap();
    (directory, folder)
}

fn identity(id: u64) -> Identity {
    Identity { cluster_id: 5, member_id: id, voters: vec![7, 8], ..Identity::default() }
}

fn start(
    directory: &TestDirectory,
    id: u64,
    partial: &mut Partial,
) -> Result<(Log, Restored), DiskError> {
    let opened = DataDirectory::open(&directory.0)?;
    let mut restored = Restored::from(&opened.snapshots()?, CORES)?;
    let commitment = restored.commitment(&identity(id))?;
    let (log, _) = restored.open_log(opened, commitment, partial, options())?;
    Ok((log, restored))
}

/// The sender: its log, and a snapshot that is as fuzzy as can be.
fn sender() -> (TestDirectory, Log, Outgoing) {
    let (directory, folder) = member(8);
    let mut partial = Partial::open(&folder).unwrap();
    let (mut log, _) = start(&directory, 8, &mut partial).unwrap();
    log.writer.append_hard_state(HardState { term: 1, vote: 8, commit: 0 }).unwrap();
    for index in 1..=LAST {
        log.writer.append_entry(entry(index)).unwrap();
    }
    log.writer.wait_blocking(log.writer.appended()).unwrap();
    let header = Header {
        index: BEGIN,
        term: 1,
        revision: reached(BEGIN).revision,
        runs: RUNS as u32,
        cluster_id: 5,
        ..Header::default()
    };
    let mut draft = folder.draft(&header).unwrap();
    for run in 0..RUNS {
        // One run was taken when everything had been written, another one at once.
        let upto = [BEGIN, BEGIN + 4, END][run];
        let mut newest: Vec<Record> = Vec::new();
        for record in (1..=upto).filter(|&index| index != MEMBERSHIP).map(record) {
            newest.retain(|other| other.key() != record.key());
            newest.push(record);
        }
        newest.retain(|record| placement::shard_of(placement::hash(record.key()), RUNS) == run);
        newest.sort_by(|left, right| left.key().cmp(right.key()));
        let settled = |record| Settled { record, previous: 0 };
        let entries = newest.into_iter().map(settled).collect();
        let chunk = SettledChunk { entries, resume_after: None };
        draft.add(run as u32, Slice::Entries(chunk)).unwrap();
    }
    let end = End { index: END, revision: reached(END).revision };
    let file = Arc::new(draft.complete(end, Some(&members())).unwrap());
    let outgoing = Outgoing::prepare(file, &log.history, &folder).unwrap();
    (directory, log, outgoing)
}

fn announced(outgoing: &Outgoing) -> Snapshot {
    let (index, fingerprint) = outgoing.name();
    Snapshot { index, term: 1, fingerprint, membership: members() }
}

/// Receives everything, in parts of so many bytes, with a restart in the middle.
fn receive(outgoing: &Outgoing, folder: &SnapshotFolder, part_bytes: usize) -> Partial {
    let mut partial = Partial::open(folder).unwrap();
    loop {
        let offset = partial.state().map_or(0, |(_, received)| received);
        let (data, done) = outgoing.read(offset, part_bytes).unwrap();
        let part = SnapshotPart { snapshot: announced(outgoing), offset, data, done };
        partial.write(&part).unwrap();
        if done {
            return partial;
        }
        partial = Partial::open(folder).unwrap();
    }
}

/// What lives, in order.
fn newest(state: &State) -> Vec<Record> {
    let mut records = Vec::new();
    for shard in &state.shards {
        let chunk = shard.settled_chunk(None, i64::MAX, usize::MAX);
        records.extend(chunk.entries.into_iter().map(|entry| entry.record));
    }
    records.sort_by(|left, right| left.key().cmp(right.key()));
    records
}

/// What should live after entry `index`.
fn expected(index: u64) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for record in (1..=index).filter(|&index| index != MEMBERSHIP).map(record) {
        records.retain(|other| other.key() != record.key());
        records.push(record);
    }
    records.sort_by(|left, right| left.key().cmp(right.key()));
    records
}

#[test]
fn what_arrives_is_exactly_the_state_at_the_end() {
    let (_sender, _log, outgoing) = sender();
    let total = outgoing.read(0, usize::MAX).unwrap().0;
    for part_bytes in [33, 1000, 1 << 20] {
        let (_receiver, folder) = member(7);
        let partial = receive(&outgoing, &folder, part_bytes.max(total.len() / 40));
        let incoming = Incoming::open(&partial).unwrap().unwrap();
        let file = incoming.install_file(&folder).unwrap();
        assert!(file.layout().is_foreign());
        let (state, found) = load_incoming(&incoming, &file, CORES).unwrap();
        assert_eq!(found, reached(END));
        assert_eq!(newest(&state), expected(END));
        let again = Outgoing::prepare(file, &_log.history, &folder).unwrap();
        assert_eq!(again.name(), outgoing.name());
        assert_eq!(again.read(0, usize::MAX).unwrap().0, total, "whoever sends it");
    }
}

#[test]
fn a_changed_byte_is_refused() {
    let (_sender, _log, outgoing) = sender();
    let (receiver, folder) = member(7);
    let partial = receive(&outgoing, &folder, 1 << 20);
    let path = receiver.0.join("member/snap/receiving.part");
    let good = fs::read(&path).unwrap();
    for place in (0..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[place] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        let read = || {
            let incoming = Incoming::open(&partial)?.ok_or(std::io::ErrorKind::NotFound)?;
            let file = incoming.install_file(&folder)?;
            load_incoming(&incoming, &file, CORES).map(drop)
        };
        let error = read().expect_err("a changed byte");
        assert!(!error.to_string().is_empty(), "byte {place}");
    }
}

/// Entries of an earlier time, the last of which others never had.
fn old_log(directory: &TestDirectory, partial: &mut Partial, last: u64) {
    let (mut log, _) = start(directory, 7, partial).unwrap();
    log.writer.append_hard_state(HardState { term: 1, vote: 8, commit: 0 }).unwrap();
    for index in 1..=last {
        let mut entry = entry(index);
        if index > 5 {
            // Not what the others have.
            (entry.kind, entry.term) = (EntryKind::Normal, 2);
            let other = batch(index, 10);
            entry.payload = encode(&other).payload.into();
            entry.revision_before = index as i64;
            entry.revision_after = index as i64 + 1;
        }
        log.writer.append_entry(entry).unwrap();
    }
    log.writer.append_hard_state(HardState { term: 4, vote: 7, commit: 5 }).unwrap();
    log.writer.wait_blocking(log.writer.appended()).unwrap();
}

fn check_installed(directory: &TestDirectory, partial: &mut Partial) {
    for _ in 0..2 {
        let (log, restored) = start(directory, 7, partial).unwrap();
        assert_eq!(partial.state(), None);
        assert_eq!(newest(&restored.state), expected(END));
        assert_eq!(restored.state.rest.compacted, reached(END).revision);
        let replayed = &log.replayed;
        assert_eq!((replayed.reached, replayed.applied), (reached(END), reached(END)));
        assert_eq!(replayed.hard_state, HardState { term: 4, vote: 7, commit: END });
        assert_eq!(replayed.terms.base(), (BEGIN, 1));
        let changed = Membership { learners: vec![9], ..members() };
        assert_eq!(replayed.memberships.last(), Some(&(MEMBERSHIP, changed)));
        assert_eq!(log.history.begins_after_index(), BEGIN);
        let found = log.history.read_from_blocking(reached(END).revision, 1 << 20).unwrap();
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn an_installation_that_was_interrupted_is_brought_to_its_end() {
    let (_sender, _log, outgoing) = sender();
    // The log ends before the snapshot, within it, and behind it with what nobody else has.
    for last in [3, BEGIN, END - 2, END + 4] {
        // Nothing of the log was written yet; its new beginning; some of the entries; all.
        for stage in 0..4 {
            let (directory, folder) = member(7);
            let mut partial = Partial::open(&folder).unwrap();
            old_log(&directory, &mut partial, last);
            let mut partial = receive(&outgoing, &folder, 1 << 20);
            let incoming = Incoming::open(&partial).unwrap().unwrap();
            incoming.install_file(&folder).unwrap();
            if stage > 0 {
                let opened = DataDirectory::open(&directory.0).unwrap();
                let restored = Restored::from(&folder, CORES).unwrap();
                let commitment: Commitment = restored.commitment(&identity(7)).unwrap();
                let mut recovery = opened.recover_behind(commitment, Behind::default()).unwrap();
                while recovery.next_raw().unwrap().is_some() {}
                let mut log = recovery.start(options()).unwrap();
                log.writer.restart(reached(BEGIN), members()).unwrap();
                let upto = BEGIN + [0, 0, 3, 10][stage];
                for index in BEGIN + 1..=upto {
                    log.writer.append_entry(entry(index)).unwrap();
                }
                log.writer.wait_blocking(log.writer.appended()).unwrap();
            }
            check_installed(&directory, &mut partial);
        }
    }
}

#[test]
fn what_is_damaged_before_a_snapshot_does_not_matter_behind_it() {
    use std::os::unix::fs::FileExt;
    let (_sender, _log, outgoing) = sender();
    let (directory, folder) = member(7);
    let mut partial = Partial::open(&folder).unwrap();
    let (mut log, _) = start(&directory, 7, &mut partial).unwrap();
    log.writer.append_hard_state(HardState { term: 1, vote: 8, commit: LAST }).unwrap();
    for index in 1..=LAST {
        log.writer.append_entry(entry(index)).unwrap();
    }
    log.writer.wait_blocking(log.writer.appended()).unwrap();
    log.writer.append_hard_state(HardState { term: 1, vote: 8, commit: LAST }).unwrap();
    log.writer.wait_blocking(log.writer.appended()).unwrap();
    drop(log);
    // Each of the first frames is a block.
    let file = fs::OpenOptions::new().write(true).open(directory.segment(1)).unwrap();
    file.write_all_at(b"damage", 2 * 4096 + 5 * 4096 + 200).unwrap();
    let (log, _) = start(&directory, 7, &mut partial).unwrap();
    assert_eq!(log.replayed.damaged.len(), 1);
    assert!(log.replayed.applied.index < BEGIN);
    drop(log);
    let mut partial = receive(&outgoing, &folder, 1 << 20);
    Incoming::open(&partial).unwrap().unwrap().install_file(&folder).unwrap();
    let (log, restored) = start(&directory, 7, &mut partial).unwrap();
    assert_eq!(partial.state(), None);
    assert_eq!(log.replayed.applied, reached(LAST), "the tail stays");
    assert_eq!(newest(&restored.state), expected(LAST));
    let name = restored.kept.last().map(|file| file.name());
    assert!(name.is_some_and(|name| name.ends_with("000000000000000a.snap")));
}

#[test]
fn a_member_that_is_to_be_alone_goes_on_with_all_that_its_log_holds() {
    let (directory, log, _) = sender();
    drop(log);
    // Nothing of this was known to be committed.
    for _ in 0..2 {
        let opened = DataDirectory::open(&directory.0).unwrap();
        drop(force_alone(opened, &identity(8), options()).unwrap());
    }
    let folder = DataDirectory::open(&directory.0).unwrap().snapshots().unwrap();
    let mut partial = Partial::open(&folder).unwrap();
    let (log, restored) = start(&directory, 8, &mut partial).unwrap();
    let replayed = &log.replayed;
    let reached = Reached { index: LAST + 1, ..reached(LAST) };
    assert_eq!((replayed.reached, replayed.applied), (reached, reached));
    assert_eq!(replayed.pending, []);
    assert_eq!(newest(&restored.state), expected(LAST));
    let restart = restored.restart(&identity(8), replayed, None).unwrap();
    let members = restart.config.memberships.last().map(|(_, members)| members.members());
    assert_eq!(members, Some(vec![8]));
    assert!(mainstay_raft::Node::new(restart.config).is_alone());
}
