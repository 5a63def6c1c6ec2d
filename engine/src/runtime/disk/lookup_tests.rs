//! Older versions of keys, looked up in real files and compared with a list of all changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;

use super::keys::key_file;
use super::tests::{TestDirectory, block_on};
use super::*;
use crate::effect::{Batch, Change, Effect, Item};
use crate::log::encode::encode;
use crate::mvcc::Lookup;
use crate::mvcc::tests::Random;
use crate::record::{Record, Revision};

/// What was written, key by key.
#[derive(Default)]
struct Written {
    versions: BTreeMap<Vec<u8>, Vec<Record>>,
    revision: Revision,
    index: u64,
}

impl Written {
    fn new() -> Written {
        Written { revision: 1, ..Written::default() }
    }

    /// Some transactions on some of the keys.
    fn batch(&mut self, random: &mut Random, keys: usize, value_bytes: usize) -> Batch {
        let revision_before = self.revision;
        let mut items = Vec::new();
        for _ in 0..1 + random.below(6) {
            self.revision += 1;
            let changes = (0..1 + random.below(3)).map(|_| {
                let key = format!("key-{}", random.below(keys)).into_bytes();
                Change { record: self.record(random, &key, value_bytes), previous: None }
            });
            items.push(Item::Effect(Effect {
                revision: revision_before,
                changes: changes.collect(),
            }));
            if let Some(Item::Effect(effect)) = items.last_mut() {
                effect.revision = self.revision;
            }
        }
        self.index += 1;
        let (index, revision_after) = (self.index, self.revision);
        Batch { index, term: 1, revision_before, revision_after, items }
    }

    fn record(&mut self, random: &mut Random, key: &[u8], value_bytes: usize) -> Record {
        let record = if random.chance(20) {
            Record::tombstone(key, self.revision)
        } else {
            let value = vec![random.next() as u8; random.below(value_bytes)];
            Record::new(key, &value, self.revision, self.revision, 1, 0)
        };
        let versions = self.versions.entry(key.to_vec()).or_default();
        // The last one of a transaction counts.
        versions.pop_if(|last| last.mod_revision() == self.revision);
        versions.push(record.clone());
        record
    }

    fn at(&self, lookup: &Lookup) -> Option<Record> {
        let versions = self.versions.get(&lookup.key[..])?;
        versions.iter().rfind(|record| record.mod_revision() <= lookup.revision).cloned()
    }

    fn append(&mut self, log: &mut Log, random: &mut Random, batches: usize, value_bytes: usize) {
        for _ in 0..batches {
            let batch = self.batch(random, 50, value_bytes);
            let number = log.writer.append(encode(&batch)).unwrap();
            block_on(log.writer.durable(number - 1)).unwrap();
        }
    }

    fn lookups(&self, random: &mut Random, count: usize) -> Vec<Lookup> {
        let mut lookup = || Lookup {
            key: Bytes::from(format!("key-{}", random.below(52))),
            revision: 1 + random.below(self.revision as usize) as i64,
        };
        (0..count).map(|_| lookup()).collect()
    }

    fn check(&self, log: &Log, random: &mut Random) {
        let lookups = self.lookups(random, 200);
        let found = log.history.look_up_blocking(&lookups).unwrap();
        for (lookup, found) in lookups.iter().zip(found) {
            assert_eq!(found, self.at(lookup), "{lookup:?} of {}", self.revision);
        }
    }
}

fn key_files(directory: &TestDirectory) -> Vec<PathBuf> {
    let names = fs::read_dir(directory.0.join("member/wal")).unwrap();
    let paths = names.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == "keys")).collect()
}

/// The preparer's thread writes them when it gets to it.
fn wait_for_key_files(directory: &TestDirectory, count: usize) -> Vec<PathBuf> {
    for _ in 0..1000 {
        let files = key_files(directory);
        if files.len() >= count {
            return files;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("no {count} key indexes were written: {:?}", key_files(directory));
}

#[test]
fn every_version_is_found() {
    let directory = TestDirectory::new();
    let mut random = Random(7);
    let mut written = Written::new();
    let (mut log, _) = directory.open();
    for round in 0..6 {
        written.append(&mut log, &mut random, 60, 3000);
        written.check(&log, &mut random);
        if round % 2 == 1 {
            drop(log);
            log = directory.open().0;
            written.check(&log, &mut random);
        }
    }
    assert!(directory.segments().len() >= 4);
    // All but the newest have their file, which is used.
    wait_for_key_files(&directory, directory.segments().len() - 2);
    written.check(&log, &mut random);
}

#[test]
fn a_damaged_or_missing_index_is_made_again() {
    let directory = TestDirectory::new();
    let mut random = Random(9);
    let mut written = Written::new();
    let (mut log, _) = directory.open();
    written.append(&mut log, &mut random, 400, 3000);
    let count = wait_for_key_files(&directory, 3).len();
    for round in 0..40 {
        for path in key_files(&directory) {
            let mut bytes = fs::read(&path).unwrap();
            match random.below(4) {
                0 => fs::remove_file(&path).unwrap(),
                1 => {
                    bytes.truncate(random.below(bytes.len()));
                    fs::write(&path, bytes).unwrap();
                }
                2 => {
                    let place = random.below(bytes.len());
                    bytes[place] ^= 1 << random.below(8);
                    fs::write(&path, bytes).unwrap();
                }
                _ => {}
            }
        }
        // One of another segment, whole as it is.
        if round % 5 == 0
            && let [first, second, ..] = &key_files(&directory)[..]
        {
            fs::copy(first, second).unwrap();
        }
        written.check(&log, &mut random);
        // Lookups of everything make all of them again.
        let all = written.lookups(&mut random, 2000);
        log.history.look_up_blocking(&all).unwrap();
        assert_eq!(key_files(&directory).len(), count);
    }
}

#[test]
fn lookups_are_right_while_the_log_is_written() {
    let directory = TestDirectory::new();
    let mut random = Random(3);
    let mut written = Written::new();
    let (mut log, _) = directory.open();
    written.append(&mut log, &mut random, 20, 2000);
    let history = log.history.clone();
    // What was there when the readers began does not change.
    let expected: Vec<(Lookup, Option<Record>)> = written
        .lookups(&mut random, 300)
        .into_iter()
        .map(|lookup| (lookup.clone(), written.at(&lookup)))
        .collect();
    let reader = std::thread::spawn(move || {
        for _ in 0..100 {
            let lookups: Vec<Lookup> = expected.iter().map(|(lookup, _)| lookup.clone()).collect();
            let found = history.look_up_blocking(&lookups).unwrap();
            assert!(expected.iter().map(|(_, expected)| expected).eq(found.iter()));
        }
    });
    written.append(&mut log, &mut random, 500, 2000);
    reader.join().unwrap();
    written.check(&log, &mut random);
}

/// A base as a snapshot would be.
#[derive(Debug)]
struct ABase {
    revision: Revision,
    records: BTreeMap<Vec<u8>, Record>,
}

impl Base for ABase {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn find(&self, key: &[u8]) -> Result<Option<Record>, HistoryError> {
        Ok(self.records.get(key).cloned())
    }
}

#[test]
fn what_was_released_is_in_the_base() {
    let directory = TestDirectory::new();
    let mut random = Random(5);
    let mut written = Written::new();
    let (mut log, _) = directory.open();
    written.append(&mut log, &mut random, 200, 3000);
    let (index, revision) = (written.index, written.revision);
    let newest = |written: &Written| {
        let last = |(key, versions): (&Vec<u8>, &Vec<Record>)| {
            (key.clone(), versions.last().unwrap().clone())
        };
        written.versions.iter().map(last).collect()
    };
    let base = ABase { revision, records: newest(&written) };
    written.append(&mut log, &mut random, 200, 3000);
    wait_for_key_files(&directory, directory.segments().len() - 2);
    log.writer.release_before(index + 1);
    let begins_after = log.history.begins_after();
    assert!(begins_after > 1 && begins_after <= revision);

    let unknown = Lookup { key: Bytes::from_static(b"unknown"), revision: written.revision };
    let error = log.history.look_up_blocking(std::slice::from_ref(&unknown)).unwrap_err();
    assert_eq!(error, HistoryError::Released { requested: written.revision, begins_after });
    log.history.set_base(Some(std::sync::Arc::new(base)));
    assert_eq!(log.history.look_up_blocking(&[unknown]), Ok(vec![None]));
    for _ in 0..10 {
        let mut lookups = written.lookups(&mut random, 100);
        lookups.retain(|lookup| lookup.revision >= revision);
        let found = log.history.look_up_blocking(&lookups).unwrap();
        for (lookup, found) in lookups.iter().zip(found) {
            assert_eq!(found, written.at(lookup), "{lookup:?}");
        }
    }
    drop(log);
    // The files went with their segments, at the latest now.
    drop(directory.open());
    for path in key_files(&directory) {
        assert!(path.with_extension("log").exists(), "{}", path.display());
        assert_eq!(key_file(&path.with_extension("log")), path);
    }
    assert!(directory.segments()[0] > 1);
}

#[test]
fn damage_is_told_with_its_place() {
    let directory = TestDirectory::new();
    let mut random = Random(4);
    let mut written = Written::new();
    let (mut log, _) = directory.open();
    written.append(&mut log, &mut random, 300, 3000);
    let key_file = wait_for_key_files(&directory, 1).into_iter().min().unwrap();
    let segment = key_file.with_extension("log");
    for with_index in [true, false] {
        let bytes = fs::read(&segment).unwrap();
        let mut damaged = bytes.clone();
        let frame = 4096 * (1 + random.below(3));
        damaged[frame + 100] ^= 1;
        fs::write(&segment, damaged).unwrap();
        if !with_index {
            fs::remove_file(&key_file).unwrap();
        }
        let mut lookups = written.lookups(&mut random, 2000);
        lookups.iter_mut().for_each(|lookup| lookup.revision = lookup.revision % 9 + 1);
        let error = log.history.look_up_blocking(&lookups).unwrap_err();
        let HistoryError::Damaged { file, offset, .. } = &error else { panic!("{error}") };
        assert_eq!(*file, segment.display().to_string());
        assert!(*offset <= frame as u64 && offset + 8192 > frame as u64, "{error}");
        fs::write(&segment, bytes).unwrap();
        written.check(&log, &mut random);
    }
}

#[test]
fn the_keys_of_a_large_deletion_are_found_in_pieces_of_its_frame() {
    const KEYS: usize = 20_000;
    let directory = TestDirectory::new();
    let (mut log, _) = directory.open();
    let key = |number: usize| format!("/keys/of/some/length/{number:06}").into_bytes();
    let mut put = |index: u64, revision: Revision, changes: Vec<Record>| {
        let change = |record| Change { record, previous: None };
        let changes = changes.into_iter().map(change).collect();
        let items = vec![Item::Effect(Effect { revision, changes })];
        let (revision_before, revision_after) = (revision - 1, revision);
        let batch = Batch { index, term: 1, revision_before, revision_after, items };
        let number = log.writer.append(encode(&batch)).unwrap();
        block_on(log.writer.durable(number - 1)).unwrap();
    };
    let even = (0..KEYS).map(|number| Record::new(&key(2 * number), b"value", 2, 2, 1, 0));
    put(1, 2, even.collect());
    put(2, 3, (0..KEYS).map(|number| Record::tombstone(&key(2 * number), 3)).collect());
    put(3, 4, vec![Record::new(&key(0), b"again", 4, 4, 1, 0)]);
    let look_up = |numbers: &[usize], revision| {
        let lookup = |&number: &usize| Lookup { key: Bytes::from(key(number)), revision };
        log.history.look_up_blocking(&numbers.iter().map(lookup).collect::<Vec<_>>())
    };
    // The first round reads the frame, the others pieces of it.
    let mut random = Random(1);
    for _ in 0..4 {
        let mut numbers: Vec<usize> = (0..500).map(|_| random.below(2 * KEYS)).collect();
        numbers.extend([0, 2 * KEYS - 2, 2 * KEYS - 1, 0]);
        for (number, found) in numbers.iter().zip(look_up(&numbers, 3).unwrap()) {
            let expected = number.is_multiple_of(2).then(|| Record::tombstone(&key(*number), 3));
            assert_eq!(found, expected, "{number}");
        }
        let put_before = look_up(&numbers, 2).unwrap();
        assert!(
            numbers.iter().zip(put_before).all(|(n, found)| n % 2 == usize::from(found.is_none()))
        );
    }
    // Damage to what is read in pieces is noticed as damage to all of the frame is.
    let name = key(2 * KEYS - 2);
    let place_in = |bytes: &[u8]| bytes.windows(name.len()).rposition(|window| window == name);
    let files = directory.segments().into_iter().rev().map(|number| directory.segment(number));
    let mut holding = files.filter(|file| place_in(&fs::read(file).unwrap()).is_some());
    let segment = holding.next().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let place = place_in(&bytes).unwrap();
    bytes[place + 3] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert!(look_up(&[4], 3).unwrap()[0].is_some());
    let error = look_up(&[2 * KEYS - 2], 3).unwrap_err();
    let HistoryError::Damaged { file, offset, .. } = &error else { panic!("{error}") };
    assert_eq!(*file, segment.display().to_string());
    assert!(*offset <= place as u64 && *offset + 32_768 > place as u64, "{error}");
}
