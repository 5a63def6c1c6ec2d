//! Data directories of every format that was ever written, as the program of that time left them:
//! they have to open for ever.
//!
//! `fixtures/format-1` has a log alone, `fixtures/format-2` a snapshot, a log that begins behind the
//! store's beginning, and history before and behind the compaction. `expected.txt` is what the
//! store held. `fixtures/format-3` is of a member that has company: a log that begins anew behind a snapshot
//! with members, entries that replace others, and some that nobody has committed.
//! They were written by `write_fixtures` and `write_members_fixture`, and are never written again; a new format
//! gets a directory of its own.

use std::fmt::Write;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_engine::effect::{Batch, Change, Effect, Item};
use mainstay_engine::log::encode::encode;
use mainstay_engine::log::replay::{Behind, Commitment, Reached, Voter};
use mainstay_engine::log::{EntryKind, HardState, Membership};
use mainstay_engine::mvcc::{Settled, SettledChunk};
use mainstay_engine::request::{DeleteRange, KeyRange, Operation, Put, RangeRequest, Transaction};
use mainstay_engine::runtime::disk::{DataDirectory, Identity, LogOptions, LogWriter};
use mainstay_engine::runtime::{Options, Tuning, open, timer};
use mainstay_engine::sequencer::LogEntry;
use mainstay_engine::snapshot::policy::Pace;
use mainstay_engine::snapshot::{End, Header, Slice};
use mainstay_engine::{Record, Store};

/// The lease of some keys.
const LEASE: i64 = 77;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn with_store<D, F>(directory: &Path, cores: usize, snapshots: bool, door: D)
where
    D: Fn(Store) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let options = Options { data_dir: directory.to_owned(), cores, ..Options::default() };
    let bytes = if snapshots { 1 << 14 } else { u64::MAX };
    let snapshots = Pace {
        log_bytes: bytes,
        quiet_log_bytes: bytes,
        idle_ms: u64::MAX,
        bytes_per_second: 1 << 30,
    };
    let log = LogOptions {
        first_segment_bytes: 1 << 14,
        segment_bytes: 1 << 14,
        ..LogOptions::default()
    };
    let tuned = open(&options).expect("it opens").tune(Tuning { log, snapshots });
    let ran = tuned.run(move |core| {
        let door = door.clone();
        async move {
            if core.number == 0 {
                door(core.store).await;
                core.shutdown.request();
            } else {
                core.shutdown.requested().await;
            }
        }
    });
    ran.expect("the store starts and stops");
}

/// All that a store holds, at the newest revision and at all that can be read.
async fn describe(store: &Store) -> String {
    let status = store.status();
    let mut text = String::new();
    let (revision, compacted) = (status.revision, status.compacted_revision);
    writeln!(text, "revision {revision} compacted {compacted}").expect("memory");
    for revision in compacted.max(1)..=revision {
        let all = KeyRange::From(Bytes::from_static(b"\0"));
        let request = RangeRequest { revision, ..RangeRequest::new(all) };
        for record in store.range(request).await.expect("it can be read").records {
            writeln!(
                text,
                "{revision}: {} created {} modified {} version {} lease {} value {} bytes of {}",
                String::from_utf8_lossy(record.key()),
                record.create_revision(),
                record.mod_revision(),
                record.version(),
                record.lease(),
                record.value().len(),
                record.value().first().copied().unwrap_or_default(),
            )
            .expect("memory");
        }
    }
    let lease = store.lease_time_to_live(LEASE, true).await.expect("the lease is there");
    writeln!(text, "lease of {} seconds: {:?}", lease.granted_ttl, lease.keys).expect("memory");
    writeln!(text, "document {:?}", store.document(b"door").await).expect("memory");
    text
}

#[test]
fn every_format_opens() {
    for format in ["format-1", "format-2"] {
        let fixture = fixtures().join(format);
        let expected = fs::read_to_string(fixture.join("expected.txt")).expect("a fixture");
        for cores in [1, 2] {
            let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{format}-{cores}"));
            fs::remove_dir_all(&scratch).ok();
            copy(&fixture.join("data"), &scratch);
            let expected = expected.clone();
            with_store(&scratch, cores, false, move |store| {
                let expected = expected.clone();
                async move { assert_eq!(describe(&store).await, expected, "{format}") }
            });
            fs::remove_dir_all(&scratch).expect("it was just used");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file");
        }
    }
}

#[test]
#[ignore = "makes new fixtures: only when there is a new format, in a directory that is not there"]
fn write_fixtures() {
    for (format, snapshots) in [("format-1", false), ("format-2", true)] {
        let fixture = fixtures().join(format);
        assert!(!fixture.exists(), "fixtures are not written twice");
        let data = fixture.join("data");
        fs::create_dir_all(&data).expect("a directory");
        let path = fixture.clone();
        with_store(&data, 2, snapshots, move |store| {
            let fixture = path.clone();
            async move {
                fill(&store, &fixture.join("data"), snapshots).await;
                let text = describe(&store).await;
                fs::write(fixture.join("expected.txt"), text).expect("a file");
            }
        });
        fs::remove_file(data.join("LOCK")).expect("the lock");
    }
}

async fn fill(store: &Store, data: &Path, snapshots: bool) {
    store.lease_grant(1000, LEASE).await.expect("a lease");
    store.put_document(b"door", Bytes::from_static(b"content")).await.expect("a document");
    let names = |folder: &str| {
        let entries = fs::read_dir(data.join("member").join(folder)).expect("a folder");
        let names = entries.flatten().map(|entry| entry.file_name().into_string().expect("UTF-8"));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    for round in 0..4 {
        let mut revision = 0;
        for number in 0..9usize {
            let name = Bytes::from(format!("/registry/{}", number * number % 7));
            let put = Put {
                key: name.clone(),
                value: vec![round * 16 + number as u8; number * 40].into(),
                lease: if number == 3 { LEASE } else { 0 },
                previous: false,
                ignore_value: false,
                ignore_lease: false,
            };
            let operation = if number == 8 {
                let range = KeyRange::Single(name);
                Operation::DeleteRange(DeleteRange { range, previous: false })
            } else {
                Operation::Put(put)
            };
            let done = store.transact(Transaction::of(operation)).await.expect("it is done");
            revision = done.revision;
        }
        if round == 1 || round == 2 {
            if snapshots {
                let started = Instant::now();
                while !names("snap").iter().any(|name| name.ends_with(".snap")) {
                    assert!(started.elapsed() < Duration::from_secs(20), "no snapshot");
                    timer::sleep(Duration::from_millis(10)).await;
                }
                // Whatever is taken ends before this.
                timer::sleep(Duration::from_secs(1)).await;
            }
            store.compact(revision - 2, true).await.expect("a compaction");
        }
    }
    if snapshots {
        timer::sleep(Duration::from_secs(1)).await;
        assert!(!names("wal").contains(&"0000000000000001.log".to_owned()), "{:?}", names("wal"));
    }
}

/// What is in the directory of a member with company.
fn describe_member(directory: &Path) -> String {
    let mut text = String::new();
    let opened = DataDirectory::open(directory).expect("it opens");
    let identity = opened.identity().expect("it can be read").expect("it is there");
    let Identity { cluster_id, member_id, incarnation, voters, .. } = &identity;
    writeln!(text, "{cluster_id:x} {member_id:x} {incarnation} {voters:?}").expect("memory");
    let folder = opened.snapshots().expect("they can be read");
    let (mut memberships, mut behind) = (Vec::new(), Behind::default());
    for index in folder.newest_first().expect("they can be listed") {
        let file = folder.read(index).expect("it is whole");
        let (header, end) = (file.layout().header, file.layout().footer.end);
        let membership = file.layout().membership(&file).expect("it is whole").expect("members");
        let begin = (header.index, header.term, header.revision, header.cluster_id);
        let members = (&membership.voters, &membership.learners);
        let end = (end.index, end.revision);
        writeln!(text, "snapshot {begin:?} {end:?} {members:?}").expect("memory");
        for number in 0..file.layout().blocks().len() {
            let wanted = file.layout().blocks_of_runs(0..header.runs).contains(&number);
            let print = |settled: Settled| {
                writeln!(text, "{:?}", settled.record.key()).expect("memory");
            };
            if wanted {
                file.layout().read_entries(&file, number, print).expect("it is whole");
            }
        }
        memberships.push((index, membership));
        behind = Reached { index, term: header.term, revision: header.revision };
    }
    let voter = Voter { id: identity.member_id, memberships, ..Voter::default() };
    let recovery = opened.recover_behind(Commitment::HardState(voter), behind);
    let mut recovery = recovery.expect("it can be read");
    while let Some(batch) = recovery.next_batch().expect("it is whole") {
        let revisions = (batch.revision_before, batch.revision_after);
        let changes: usize = batch.effects().map(|effect| effect.changes.len()).sum();
        writeln!(text, "applied {} {revisions:?} {changes}", batch.index).expect("memory");
    }
    let replayed = recovery.start(small()).expect("it starts").replayed;
    let HardState { term, vote, commit } = replayed.hard_state;
    let terms = (replayed.terms.base(), replayed.terms.runs(), replayed.terms.last());
    writeln!(text, "promised {term} {vote} {commit} terms {terms:?}").expect("memory");
    for (index, Membership { voters, learners, .. }) in &replayed.memberships {
        writeln!(text, "members from {index}: {voters:?} {learners:?}").expect("memory");
    }
    for LogEntry { index, term, kind, payload, .. } in &replayed.pending {
        writeln!(text, "pending {index} {term} {kind:?} {}", payload.len()).expect("memory");
    }
    text
}

fn small() -> LogOptions {
    LogOptions { first_segment_bytes: 1 << 14, segment_bytes: 1 << 14, ..LogOptions::default() }
}

#[test]
fn the_directory_of_a_member_opens() {
    let fixture = fixtures().join("format-3");
    let expected = fs::read_to_string(fixture.join("expected.txt")).expect("a fixture");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("format-3");
    fs::remove_dir_all(&scratch).ok();
    copy(&fixture.join("data"), &scratch);
    // What a start does to it changes nothing of what it means.
    for _ in 0..2 {
        assert_eq!(describe_member(&scratch), expected);
    }
    fs::remove_dir_all(&scratch).expect("it was just used");
}

/// Appends an entry that puts a key.
fn put(writer: &mut LogWriter, reached: &mut Reached, term: u64) {
    let before = *reached;
    *reached = Reached { index: before.index + 1, term, revision: before.revision + 1 };
    let Reached { index, revision, .. } = *reached;
    let record = settled(index, revision).record;
    let changes = vec![Change { record, previous: None }];
    let batch = Batch {
        index,
        term,
        revision_before: before.revision,
        revision_after: revision,
        items: vec![Item::Effect(Effect { revision, changes })],
    };
    let payload = Bytes::from(encode(&batch).payload);
    append(writer, EntryKind::Normal, before, *reached, payload);
}

fn append(writer: &mut LogWriter, kind: EntryKind, from: Reached, to: Reached, payload: Bytes) {
    let (revision_before, revision_after) = (from.revision, to.revision);
    let (index, term) = (to.index, to.term);
    let entry =
        LogEntry { index, term, kind, revision_before, revision_after, payload, staged: None };
    writer.append_entry(entry).expect("it is written");
}

fn settled(index: u64, revision: i64) -> Settled {
    let key = format!("/registry/{:03}", index % 5);
    let value = vec![index as u8; index as usize * 7 % 900];
    let record = Record::new(key.as_bytes(), &value, revision, revision, 1, 0);
    Settled { record, previous: 0 }
}

#[test]
#[ignore = "makes a new fixture: only when there is a new format, in a directory that is not there"]
fn write_members_fixture() {
    let fixture = fixtures().join("format-3");
    assert!(!fixture.exists(), "fixtures are not written twice");
    let data = fixture.join("data");
    fs::create_dir_all(&data).expect("a directory");
    let opened = DataDirectory::open(&data).expect("it opens");
    let identity =
        Identity { cluster_id: 0xc1, member_id: 7, voters: vec![7, 8, 9], ..Identity::default() };
    opened.write_identity(&identity).expect("it is written");
    let folder = opened.snapshots().expect("they can be read");
    let members = Membership::of_voters(&[7, 8, 9]);
    let memberships = vec![(0, members.clone())];
    let voter = Voter { id: 7, memberships, ..Voter::default() };
    let recovery = opened.recover(Commitment::HardState(voter)).expect("it can be read");
    let mut log = recovery.start(small()).expect("it starts");
    let writer = &mut log.writer;
    let mut reached = log.replayed.reached;
    let promise = |term, commit| HardState { term, vote: 8, commit };
    writer.append_hard_state(promise(1, 0)).expect("it is written");
    (0..5).for_each(|_| put(writer, &mut reached, 1));
    writer.append_hard_state(promise(1, 3)).expect("it is written");
    writer.wait_blocking(writer.appended()).expect("it is written");
    // A snapshot of another member takes the place of all that.
    reached = Reached { index: 100, term: 3, revision: 500 };
    let (index, term, revision) = (reached.index, reached.term, reached.revision);
    let header = Header { index, term, revision, runs: 1, cluster_id: 0xc1, ..Header::default() };
    let mut draft = folder.draft(&header).expect("it is begun");
    let entries = (0..5).map(|number| settled(95 + number, 490 + number as i64)).collect();
    let chunk = SettledChunk { entries, resume_after: None };
    draft.add(0, Slice::Entries(chunk)).expect("it is written");
    draft.complete(End { index: 102, revision: 502 }, Some(&members)).expect("it is written");
    writer.restart(reached, members.clone()).expect("it is written");
    (0..4).for_each(|_| put(writer, &mut reached, 3));
    writer.append_hard_state(promise(3, 103)).expect("it is written");
    let committed = Reached { index: 103, term: 3, revision: 503 };
    put(writer, &mut reached, 3);
    // A new leader replaces the last two.
    reached = committed;
    writer.append_hard_state(promise(5, 103)).expect("it is written");
    let begun = Reached { index: reached.index + 1, term: 5, ..reached };
    append(writer, EntryKind::Normal, reached, begun, Bytes::new());
    let changed = Reached { index: begun.index + 1, ..begun };
    let payload = Membership { learners: vec![12], ..members }.encode();
    append(writer, EntryKind::Membership, begun, changed, payload);
    reached = changed;
    put(writer, &mut reached, 5);
    writer.append_hard_state(promise(5, 105)).expect("it is written");
    put(writer, &mut reached, 5);
    writer.wait_blocking(writer.appended()).expect("it is written");
    drop(log);
    fs::write(fixture.join("expected.txt"), describe_member(&data)).expect("a file");
    fs::remove_file(data.join("LOCK")).expect("the lock");
}
