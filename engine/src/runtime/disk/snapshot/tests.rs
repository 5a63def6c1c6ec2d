//! Snapshots on real files: written, loaded by any number of shards, damaged, interrupted.

use std::fs;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::draft::Verification;
use super::*;
use crate::mvcc::{Settled, SettledChunk};
use crate::placement;
use crate::record::Record;
use crate::request::KeyRange;
use crate::runtime::disk::tests::TestDirectory;
use crate::runtime::disk::{Base, DataDirectory};
use crate::shard::Shard;
use crate::snapshot::{Document, End, Header, LeaseRow, Slice};

const RUNS: usize = 3;

fn entry(number: i64) -> Settled {
    let key = format!("/registry/{:05}", number * 7919 % 100_000);
    let value = vec![number as u8; number as usize % 2000];
    let record = match number % 11 {
        10 => Record::tombstone(key.as_bytes(), 100 + number),
        _ => Record::new(key.as_bytes(), &value, 100, 100 + number, 1 + number % 4, number % 3),
    };
    Settled { record, previous: number % 90 }
}

fn entries() -> Vec<Settled> {
    let mut entries: Vec<Settled> = (1..3000).map(entry).collect();
    entries.sort_by(|left, right| left.record.key().cmp(right.record.key()));
    entries
}

fn header(index: u64) -> Header {
    Header { index, term: 1, revision: 2000, runs: RUNS as u32, ..Header::default() }
}

/// A snapshot of `entries`, with a lease and a document.
fn write(folder: &SnapshotFolder, index: u64, entries: &[Settled]) -> SnapshotFile {
    let mut draft = folder.draft(&header(index)).unwrap();
    for run in 0..RUNS {
        let of_run = entries
            .iter()
            .filter(|entry| placement::shard_of(placement::hash(entry.record.key()), RUNS) == run);
        let of_run: Vec<Settled> = of_run.cloned().collect();
        for entries in of_run.chunks(100) {
            let chunk = SettledChunk { entries: entries.to_vec(), resume_after: None };
            draft.add(run as u32, Slice::Entries(chunk)).unwrap();
        }
    }
    let lease = LeaseRow { id: 1, ttl: 100, remaining: 50 };
    draft.add(0, Slice::Leases(vec![lease])).unwrap();
    let document = Document { name: "name".into(), content: Bytes::from_static(b"content") };
    draft.add(0, Slice::Documents(vec![document])).unwrap();
    draft.complete(End { index: index + 5, revision: 5000 }, None).unwrap()
}

fn folder(directory: &TestDirectory) -> SnapshotFolder {
    DataDirectory::open(&directory.0).unwrap().snapshots().unwrap()
}

#[test]
fn any_number_of_shards_loads_a_snapshot() {
    let directory = TestDirectory::new();
    let folder = folder(&directory);
    let entries = entries();
    write(&folder, 9, &entries);
    let file = folder.read(9).unwrap();
    for (count, threads) in [(1, 1), (1, 4), (2, 2), (3, 2), (3, 7), (5, 2), (64, 1)] {
        let mut shards: Vec<Shard> = (0..count).map(|_| Shard::default()).collect();
        load(&file, &mut shards, threads).unwrap();
        let mut found = Vec::new();
        for (number, shard) in shards.iter().enumerate() {
            let everything = KeyRange::From(Bytes::new());
            let keys: Vec<Record> = shard.mvcc().newest_in(&everything).cloned().collect();
            assert!(keys.is_sorted_by(|left, right| left.key() < right.key()));
            for record in &keys {
                let hash = placement::hash(record.key());
                assert_eq!(placement::shard_of(hash, count), number);
                assert_eq!(shard.mvcc().newest_or_tombstone(record.key()), Some(record));
            }
            found.extend(shard.mvcc().settled_chunk(None, i64::MAX, usize::MAX).entries);
        }
        found.sort_by(|left, right| left.record.key().cmp(right.record.key()));
        assert!(found == entries, "{count} shards, {threads} threads");
    }
    let leases = file.layout().leases(&file).unwrap();
    assert_eq!(leases, [LeaseRow { id: 1, ttl: 100, remaining: 50 }]);
    assert_eq!(file.layout().documents(&file).unwrap()[0].content, "content");
    for entry in entries.iter().step_by(97) {
        let found = Base::find(&file, entry.record.key()).unwrap();
        assert_eq!(found.as_ref(), Some(&entry.record));
    }
    assert_eq!(Base::find(&file, b"/registry/none").unwrap(), None);
}

#[test]
fn damage_is_found_where_it_is_by_whoever_reads_it() {
    let directory = TestDirectory::new();
    let folder = folder(&directory);
    let entries = entries();
    let path = folder.file(9);
    let blocks = write(&folder, 9, &entries).layout().blocks().to_vec();
    assert!(blocks.len() > 20);
    let raw = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for block in blocks.iter().step_by(blocks.len() / 6) {
        let place = block.offset + block.bytes() as u64 / 2;
        let mut byte = [0];
        raw.read_exact_at(&mut byte, place).unwrap();
        raw.write_all_at(&[byte[0] ^ 4], place).unwrap();
        let file = folder.read(9).unwrap();
        let expected = format!("{} is damaged at byte {}", path.display(), block.offset);
        let mut verification = Verification::new(std::sync::Arc::new(folder.read(9).unwrap()));
        let error = loop {
            match verification.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the damage at byte {place} was not seen"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains(&expected), "{error}");
        if block.kind == crate::snapshot::format::BlockKind::Records {
            for (count, threads) in [(1, 4), (RUNS, 2), (5, 2)] {
                let mut shards: Vec<Shard> = (0..count).map(|_| Shard::default()).collect();
                let error = load(&file, &mut shards, threads).unwrap_err().to_string();
                assert!(error.contains(&expected), "{error}");
            }
        }
        raw.write_all_at(&byte, place).unwrap();
    }
    assert!(load(&folder.read(9).unwrap(), &mut [Shard::default()], 2).is_ok());
}

#[test]
fn what_was_not_completed_is_removed() {
    let directory = TestDirectory::new();
    let folder = folder(&directory);
    let mut draft = folder.draft(&header(9)).unwrap();
    let temporary = folder.file(9).with_extension("tmp");
    let chunk = SettledChunk { entries: vec![entry(1)], resume_after: None };
    draft.add(0, Slice::Entries(chunk)).unwrap();
    assert!(temporary.exists());
    assert_eq!(folder.newest_first().unwrap(), [0; 0], "it does not count");
    // A crash leaves it, an orderly end does not.
    let crashed = fs::read(&temporary).unwrap();
    drop(draft);
    assert!(!temporary.exists());
    fs::write(&temporary, crashed).unwrap();
    write(&folder, 8, &[]);
    let folder = self::folder(&directory);
    assert!(!temporary.exists());
    assert_eq!(folder.newest_first().unwrap(), [8]);
    folder.delete(8).unwrap();
    assert_eq!(folder.newest_first().unwrap(), [0; 0]);
}

#[test]
fn a_directory_with_snapshots_is_not_for_programs_that_know_none() {
    let directory = TestDirectory::new();
    let folder = folder(&directory);
    let format = directory.0.join("FORMAT");
    let before = fs::read_to_string(&format).unwrap();
    assert!(before.starts_with("mainstay-format 1\n"), "{before}");
    write(&folder, 8, &[]);
    let after = fs::read_to_string(&format).unwrap();
    assert!(after.starts_with("mainstay-format 2\n"), "{after}");
    assert_eq!(before.lines().nth(1), after.lines().nth(1), "the salt stays");
    assert_eq!(self::folder(&directory).newest_first().unwrap(), [8]);
    let other = TestDirectory::new();
    let other = self::folder(&other);
    fs::copy(folder.file(8), other.file(8)).unwrap();
    let error = other.read(8).unwrap_err().to_string();
    assert!(error.contains("of another directory"), "{error}");
}
