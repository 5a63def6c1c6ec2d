//! What is written reads back; and what is not what was written is refused, whatever it is.

use std::io;

use bytes::Bytes;
use mainstay_raft::Membership;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::format::{FILE_ALIGNMENT, FOOTER_BYTES, HEADER_BYTES};
use super::*;
use crate::mvcc::Settled;
use crate::placement;
use crate::record::Record;

const SALT: u64 = 0x0123_4567_89ab_cdef;
const INDEX: u64 = 77;

struct Memory(Vec<u8>);

impl SnapshotBytes for Memory {
    fn name(&self) -> String {
        "member/snap/x.snap".to_owned()
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.0[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

/// What a snapshot holds: entries by run and key.
#[derive(Debug, Clone, PartialEq, Default)]
struct Contents {
    runs: Vec<Vec<Settled>>,
    leases: Vec<LeaseRow>,
    documents: Vec<Document>,
    /// With these members, if it is not 0.
    cluster_id: u64,
}

impl Contents {
    fn header(&self) -> Header {
        Header {
            index: INDEX,
            term: 3,
            revision: 1000,
            compacted: 900,
            raft_term: 4,
            raft_vote: 1,
            raft_commit: 70,
            runs: self.runs.len() as u32,
            cluster_id: self.cluster_id,
        }
    }

    fn end(&self) -> End {
        End { index: INDEX + 9, revision: 2000 }
    }

    fn encode(&self) -> Memory {
        let mut encoder = Encoder::new(SALT, &self.header());
        let mut file = Vec::new();
        for (run, entries) in self.runs.iter().enumerate() {
            for entry in entries {
                encoder.add_entry(run as u32, entry.clone());
                // As a writer does: what is pending goes out piece by piece.
                let length = encoder.pending().len().min(700);
                file.extend_from_slice(&encoder.pending()[..length]);
                encoder.take(length);
            }
        }
        self.leases.chunks(3).for_each(|leases| encoder.add_leases(leases));
        self.documents.chunks(2).for_each(|documents| encoder.add_documents(documents));
        if self.cluster_id != 0 {
            encoder.add_membership(&members());
        }
        file.extend(encoder.finish(self.end()));
        assert!(file.len().is_multiple_of(FILE_ALIGNMENT));
        Memory(file)
    }

    fn read(
        bytes: &Memory,
        owner: impl Into<Owner>,
        index: u64,
    ) -> Result<Contents, SnapshotError> {
        let layout = Layout::read(bytes, owner, index)?;
        let cluster_id = layout.header.cluster_id;
        let mut contents = Contents { cluster_id, ..Contents::default() };
        for run in 0..layout.header.runs {
            let mut entries = Vec::new();
            for number in layout.blocks_of_runs(run..run + 1) {
                let block = &layout.blocks()[number];
                let mut aligned: rkyv::util::AlignedVec = rkyv::util::AlignedVec::new();
                aligned.extend_from_slice(&bytes.0[block.offset as usize..][..block.bytes()]);
                layout.entries(number, &aligned, |entry| entries.push(entry))?;
            }
            contents.runs.push(entries);
        }
        contents.leases = layout.leases(bytes)?;
        contents.documents = layout.documents(bytes)?;
        let expected = (cluster_id != 0).then(members);
        assert_eq!(layout.membership(bytes)?, expected);
        assert_eq!((layout.header, layout.footer.end), (contents.header(), contents.end()));
        Ok(contents)
    }
}

fn members() -> Membership {
    Membership { learners: vec![5], ..Membership::of_voters(&[3, 9]) }
}

fn entry(key: &[u8], value: &[u8], revision: i64, version: i64) -> Settled {
    let record = match version {
        0 => Record::tombstone(key, revision),
        version => Record::new(key, value, revision.min(5), revision, version, version % 3),
    };
    Settled { record, previous: revision / 2 }
}

/// Each key in the run of its shard.
fn contents_of(
    keys: impl IntoIterator<Item = (Vec<u8>, (Vec<u8>, i64, i64))>,
    runs: usize,
) -> Contents {
    let mut contents = Contents { runs: vec![Vec::new(); runs], ..Contents::default() };
    for (key, (value, revision, version)) in keys {
        let run = placement::shard_of(placement::hash(&key), runs);
        contents.runs[run].push(entry(&key, &value, revision, version));
    }
    contents
}

/// Some of everything, over several blocks of each kind.
fn example() -> Contents {
    let key = |number: i64| {
        let value = vec![number as u8; number as usize * 7 % 300];
        (format!("/registry/{number:03}").into_bytes(), (value, 10 + number, number % 5))
    };
    let mut contents = contents_of((0..40).map(key), 2);
    contents.leases = (1..20).map(|id| LeaseRow { id, ttl: 60, remaining: id }).collect();
    let document = |name: &'static str| Document { name: name.into(), content: Bytes::from(name) };
    contents.documents = ["auth", "identity", "users"].map(document).into();
    contents
}

#[test]
fn an_empty_store_has_a_snapshot() {
    let empty = Contents { runs: vec![Vec::new(); 3], ..Contents::default() };
    let bytes = empty.encode();
    assert_eq!(Contents::read(&bytes, SALT, INDEX), Ok(empty));
    let layout = Layout::read(&bytes, SALT, INDEX).unwrap();
    assert_eq!(layout.find(&bytes, b"a"), Ok(None));
}

proptest! {
    #[test]
    fn snapshots_read_back_and_every_key_is_found(
        keys in btree_map(
            vec(any::<u8>(), 0..12),
            (vec(any::<u8>(), 0..300), 1..2000i64, 0..4i64),
            0..60,
        ),
        others in vec(vec(any::<u8>(), 0..12), 10),
        runs in 1..5usize,
    ) {
        let contents = contents_of(keys, runs);
        let bytes = contents.encode();
        prop_assert_eq!(Contents::read(&bytes, SALT, INDEX), Ok(contents.clone()));
        let layout = Layout::read(&bytes, SALT, INDEX).unwrap();
        let all: Vec<&Settled> = contents.runs.iter().flatten().collect();
        prop_assert_eq!(layout.footer.records, all.len() as u64);
        for entry in &all {
            prop_assert_eq!(layout.find(&bytes, entry.record.key()), Ok(Some((*entry).clone())));
        }
        for key in &others {
            let expected = all.iter().find(|entry| entry.record.key() == &key[..]);
            prop_assert_eq!(layout.find(&bytes, key), Ok(expected.map(|&entry| entry.clone())));
        }
        // With any number of shards, each finds its keys in the runs that it is told.
        for shards in 1..6usize {
            for entry in &all {
                let hash = placement::hash(entry.record.key());
                let read = layout.runs_of_shard(placement::shard_of(hash, shards), shards);
                prop_assert!(read.contains(&(placement::shard_of(hash, runs) as u32)));
            }
        }
        prop_assert_eq!(layout.runs_of_shard(0, runs), 0..1);
    }

    #[test]
    fn any_bytes_are_refused(mut bytes in vec(any::<u8>(), 0..9000), whole in any::<bool>()) {
        if whole {
            bytes.resize(bytes.len().next_multiple_of(FILE_ALIGNMENT), 0);
        }
        prop_assert!(Contents::read(&Memory(bytes), SALT, INDEX).is_err());
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    for cluster_id in [0, 8] {
        let contents = Contents { cluster_id, ..example() };
        let owner = Owner { salt: SALT, cluster_id };
        let good = contents.encode();
        assert_eq!(Contents::read(&good, owner, INDEX), Ok(contents));
        for place in 0..good.0.len() {
            let mut bytes = Memory(good.0.clone());
            // Any change will do; this walks through all single bits and some more.
            bytes.0[place] ^= if place % 9 == 8 { 0xff } else { 1 << (place % 9) };
            match Contents::read(&bytes, owner, INDEX) {
                Err(SnapshotError::Damaged { file, offset, .. }) => {
                    assert_eq!(file, "member/snap/x.snap");
                    assert!(offset <= good.0.len() as u64, "byte {place}: {offset}");
                }
                // The version is covered by the checksum, so a changed one is damage, too.
                other => panic!("byte {place} was changed and the result is {other:?}"),
            }
        }
    }
}

#[test]
fn members_of_a_cluster_use_each_others_snapshots_and_no_others() {
    let contents = Contents { cluster_id: 8, ..example() };
    let good = contents.encode();
    let other_member = Owner { salt: 1, cluster_id: 8 };
    assert_eq!(Contents::read(&good, other_member, INDEX), Ok(contents));
    let layout = |owner: Owner| Layout::read(&good, owner, INDEX).unwrap();
    assert!(layout(other_member).is_foreign() && !layout(SALT.into()).is_foreign());
    assert_eq!(layout(other_member).fingerprint(), layout(SALT.into()).fingerprint());
    for cluster_id in [0, 9] {
        let error = Contents::read(&good, Owner { salt: 1, cluster_id }, INDEX).unwrap_err();
        assert!(error.to_string().contains("of another cluster"), "{error}");
    }
}

#[test]
fn fingerprints_tell_contents_apart() {
    let mut other = example();
    let fingerprint =
        |contents: &Contents| Layout::read(&contents.encode(), SALT, INDEX).unwrap().fingerprint();
    let before = fingerprint(&other);
    assert_eq!(before, fingerprint(&example()));
    other.runs[0][0].previous += 1;
    assert_ne!(before, fingerprint(&other));
}

#[test]
fn every_other_length_is_noticed() {
    let good = example().encode();
    for length in 0..good.0.len() {
        let bytes = Memory(good.0[..length].to_vec());
        assert!(Contents::read(&bytes, SALT, INDEX).is_err(), "{length} bytes");
    }
    for more in [1, FILE_ALIGNMENT] {
        let mut bytes = Memory(good.0.clone());
        bytes.0.resize(good.0.len() + more, 0);
        assert!(Contents::read(&bytes, SALT, INDEX).is_err(), "{more} more");
    }
}

#[test]
fn parts_of_another_snapshot_are_noticed() {
    let good = example().encode();
    let mut changed = example();
    changed.runs[0][0].previous += 1;
    let other = changed.encode();
    assert_eq!(good.0.len(), other.0.len());
    for cut in (HEADER_BYTES..good.0.len() - FOOTER_BYTES).step_by(16) {
        let mut bytes = good.0[..cut].to_vec();
        bytes.extend_from_slice(&other.0[cut..]);
        if bytes != good.0 && bytes != other.0 {
            assert!(Contents::read(&Memory(bytes), SALT, INDEX).is_err(), "joined at {cut}");
        }
    }
}

#[test]
fn a_snapshot_is_of_one_directory_and_has_one_name() {
    let good = example().encode();
    for (salt, index) in [(SALT + 1, INDEX), (SALT, INDEX + 1), (0, 0)] {
        let error = Contents::read(&good, salt, index).unwrap_err();
        assert!(error.to_string().contains("of another directory"), "{error}");
    }
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    // From the second version on the header says with which salt its checksums begin.
    let header = Header { cluster_id: 8, ..example().header() };
    let mut bytes = header.encode(SALT).value;
    bytes[8] = 9;
    let crc = {
        let mut hasher = crc32fast::Hasher::new_with_initial(format::seed(SALT, INDEX));
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..]);
        hasher.finalize()
    };
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let mut file = example().encode();
    file.0[..HEADER_BYTES].copy_from_slice(&bytes);
    let error = Contents::read(&file, SALT, INDEX).unwrap_err();
    assert_eq!(
        error,
        SnapshotError::NewerFormat {
            file: "member/snap/x.snap".to_owned(),
            found: 9,
            supported: format::FORMAT_VERSION,
        }
    );
    assert!(error.to_string().contains("start the version of Mainstay that wrote it"), "{error}");
}

#[test]
fn names() {
    for (name, expected) in [
        ("000000000000001a.snap", Some(26)),
        ("0000000000000000.snap", Some(0)),
        ("000000000000001A.snap", None),
        ("1a.snap", None),
        ("000000000000001a.snap.tmp", None),
        ("0000000000000001-0000000000000002.snap", None),
        ("db", None),
    ] {
        assert_eq!(format::parse_file_name(name), expected, "{name}");
    }
    assert_eq!(format::file_name(26), "000000000000001a.snap");
}
