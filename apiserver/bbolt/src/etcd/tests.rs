//! What is written is read back the same, and hostile bytes give errors alone.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_proto::auth::{Permission, PermissionType, UserAddOptions};
use mainstay_proto::mvcc::KeyValue;
use proptest::prelude::*;
use prost::Message;

use super::document;
use super::message::{Role, User};
use super::read::{self, Version};
use super::write::{Chunks, Contents, Facts, KeyVersion};
use super::{Auth, Lease, Member, RevisionKey};
use crate::reader::{Database, Source};
use crate::writer::KEY_BYTES_MAX;

#[derive(Debug, Clone, PartialEq)]
struct Stored(KeyValue);

impl KeyVersion for Stored {
    fn key(&self) -> &[u8] {
        &self.0.key
    }
    fn value(&self) -> &[u8] {
        &self.0.value
    }
    fn create_revision(&self) -> i64 {
        self.0.create_revision
    }
    fn mod_revision(&self) -> i64 {
        self.0.mod_revision
    }
    fn version(&self) -> i64 {
        self.0.version
    }
    fn lease(&self) -> i64 {
        self.0.lease
    }
}

fn stored(key: &str, value: &[u8], revision: i64, version: i64) -> Stored {
    Stored(KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        create_revision: if version == 0 { 0 } else { revision - version + 1 },
        mod_revision: revision,
        version,
        lease: if version == 2 { -5 } else { 0 },
    })
}

fn facts() -> Facts {
    let permission = Permission {
        kind: PermissionType::ReadWrite as i32,
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
    };
    Facts {
        revision: 90,
        compacted: 90,
        raft_index: 1234,
        raft_term: 7,
        leases: vec![
            Lease { id: -5, ttl: 60, remaining_ttl: 12 },
            Lease { id: 9, ttl: 3600, remaining_ttl: 0 },
        ],
        auth: Auth {
            enabled: true,
            revision: 5,
            users: vec![User {
                name: Bytes::from_static(b"root"),
                password: Bytes::from_static(b"$2a$10$..."),
                roles: vec!["root".to_owned()],
                options: Some(UserAddOptions { no_password: false }),
            }],
            roles: vec![Role { name: Bytes::from_static(b"r"), permissions: vec![permission] }],
        },
        members: vec![Member { id: 0xabc, name: "one".to_owned(), ..Member::default() }],
    }
}

fn write(facts: &Facts, versions: Vec<Stored>, chunk_bytes: usize) -> Vec<u8> {
    let contents = Arc::new(Contents::new(facts, versions).expect("all of it fits"));
    let plan = contents.plan();
    let mut chunks = Chunks::new(contents, plan);
    let mut file = Vec::new();
    while let Some(chunk) = chunks.next_chunk(chunk_bytes) {
        file.extend_from_slice(&chunk);
    }
    assert_eq!(file.len() as u64, plan.file_bytes());
    file
}

fn read_versions<S: Source + ?Sized>(database: &Database<'_, S>) -> Vec<Version> {
    let mut versions = read::versions(database).expect("a bucket");
    let mut all = Vec::new();
    while let Some(version) = versions.next().expect("intact") {
        all.push(version);
    }
    all
}

#[test]
fn revision_keys_sort_as_revisions() {
    let place = |main, sub, tombstone| RevisionKey { main, sub, tombstone };
    let ascending =
        [place(1, 0, false), place(1, 1, true), place(255, 0, false), place(256, 0, false)];
    for pair in ascending.windows(2) {
        assert!(pair[0].encode() < pair[1].encode(), "{pair:?}");
    }
    for one in ascending {
        assert_eq!(RevisionKey::decode(&one.encode()), Some(one));
    }
    let good = place(3, 0, false).encode();
    let mut marked = good.clone();
    marked.push(b'x');
    for bad in [&b""[..], &good[..16], &marked, &[0; 17], &[0xff; 17]] {
        assert_eq!(RevisionKey::decode(bad), None, "{bad:?}");
    }
}

#[test]
fn facts_and_versions_read_back() {
    let versions = vec![
        stored("b", b"two", 90, 2),
        stored("a", b"", 2, 1),
        stored("c", b"", 90, 0),
        stored("large", &vec![7; 1 << 20], 50, 1),
    ];
    let file = write(&facts(), versions, 1);
    let database = Database::open(&file[..]).expect("a database");
    let read = read::facts(&database).expect("intact");
    let expected = facts();
    assert_eq!(read.compacted, 90);
    assert_eq!((read.consistent_index, read.term), (1234, 7));
    assert_eq!(read.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!(read.auth, expected.auth);
    let mut leases = read.leases;
    leases.sort_by_key(|lease| lease.id);
    assert_eq!(leases, expected.leases);
    let places: Vec<_> = read_versions(&database)
        .into_iter()
        .map(|version| (version.place.main, version.place.sub, version.place.tombstone))
        .collect();
    assert_eq!(places, [(2, 0, false), (50, 0, false), (90, 0, false), (90, 1, true)]);
}

#[test]
fn an_entry_without_a_value_is_a_revision_without_a_version() {
    // As a restore with a higher revision leaves it, whose last change was a deletion.
    let bump = Stored(KeyValue { mod_revision: 1_000_000_090, ..KeyValue::default() });
    let file = write(&facts(), vec![stored("a", b"x", 90, 1), bump], 1);
    let database = Database::open(&file[..]).expect("a database");
    let mut versions = read::versions(&database).expect("a bucket");
    assert_eq!(versions.revision(), 1);
    let first = versions.next().expect("intact").expect("a version");
    assert_eq!((first.place.main, versions.revision()), (90, 90));
    assert_eq!(versions.next().expect("intact"), None);
    assert_eq!(versions.revision(), 1_000_000_090);
}

#[test]
fn names_that_no_database_holds_are_refused() {
    let user = |name: &str| User { name: name.to_owned().into(), ..User::default() };
    let role = |name: &str| Role { name: name.to_owned().into(), ..Role::default() };
    let long = "n".repeat(KEY_BYTES_MAX);
    for (users, roles, expected) in [
        (vec![user(&long)], vec![role(&long)], None),
        (
            vec![user("a"), user(&format!("{long}n"))],
            vec![],
            Some("has 32769 bytes, at most 32768"),
        ),
        (vec![], vec![role(&format!("{long}n"))], Some("the role nnnn")),
        (vec![user("")], vec![], Some("it has no name")),
        (vec![user("a"), user("b"), user("a")], vec![], Some("the user a: it is there twice")),
    ] {
        let auth = Auth { users, roles, ..Auth::default() };
        let facts = Facts { auth, ..Facts::default() };
        match (Contents::new(&facts, Vec::<Stored>::new()), expected) {
            (Ok(contents), None) => assert!(contents.plan().file_bytes() > 0),
            (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
            (made, expected) => panic!("{} and not {expected:?}", made.is_ok()),
        }
    }
}

#[test]
fn users_and_roles_survive_the_way_through_the_store() {
    let auth = facts().auth;
    let document = document::encode(&auth).expect("good names");
    assert_eq!(document::decode(&document), Ok(auth.clone()));
    let user = User { name: Bytes::from_static(b"\xff"), ..auth.users[0].clone() };
    let bad = Auth { users: vec![user], ..auth };
    assert!(document::encode(&bad).expect_err("bad name").contains("\\xff"));
    assert!(document::decode(&Bytes::from_static(b"\xff\xff")).is_err());
}

fn any_version() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, i64, i64)> {
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (1000..20_000usize).prop_map(|length| vec![0xaa; length]),
    ];
    (prop::collection::vec(any::<u8>(), 1..40), value, 0..5i64, any::<i64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_contents_read_back(
        all in prop::collection::vec(any_version(), 0..400),
        chunk_bytes in 1..100_000usize,
    ) {
        let mut revision = 6;
        let versions: Vec<Stored> = all.into_iter().map(|(key, value, version, lease)| {
            revision += version % 2; // some share one
            let live = version > 0;
            Stored(KeyValue {
                key: key.into(),
                value: if live { value.into() } else { Bytes::new() },
                create_revision: if live { 2 } else { 0 },
                mod_revision: revision,
                version,
                lease: if live { lease } else { 0 },
            })
        }).collect();
        let file = write(&Facts::default(), versions.clone(), chunk_bytes);
        let database = Database::open(&file[..]).expect("a database");
        database.check().expect("intact");
        let read: Vec<Stored> = read_versions(&database).into_iter().map(|version| {
            let mut kv = version.kv;
            kv.mod_revision = version.place.main;
            prop_assert_eq!(version.place.tombstone, kv.version == 0);
            Ok(Stored(kv))
        }).collect::<Result<_, TestCaseError>>()?;
        prop_assert_eq!(read, versions);
    }

    #[test]
    fn the_writer_of_values_agrees_with_prost(
        key in prop::collection::vec(any::<u8>(), 0..300),
        value in prop::collection::vec(any::<u8>(), 0..300),
        numbers in any::<[i64; 4]>(),
    ) {
        let [create_revision, mod_revision, version, lease] = numbers;
        let version = if version == 0 { 1 } else { version };
        let kv = KeyValue {
            key: key.into(), value: value.into(), create_revision, mod_revision, version, lease,
        };
        let mut bytes = Vec::new();
        super::write::write_key_value(&Stored(kv.clone()), &mut bytes);
        prop_assert_eq!(&bytes, &kv.encode_to_vec());
        prop_assert_eq!(super::write::key_value_bytes(&Stored(kv)), bytes.len());
    }

    /// Bytes flipped anywhere: all answers but a panic, or a walk without end, are good.
    #[test]
    fn damaged_files_end_in_errors(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let versions = (2..900).map(|revision| stored("key", &[3; 30], revision, 1)).collect();
        let mut file = write(&facts(), versions, 1 << 20);
        for (index, byte) in flips {
            // Structure is dense at the beginning of pages: aim there half of the time.
            let mut offset = index.index(file.len());
            if byte % 2 == 0 {
                offset = offset / 4096 * 4096 + offset % 48;
            }
            file[offset] ^= byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let Ok(database) = Database::open(&file[..]) else { return Ok(()) };
        let _checked = database.check();
        let _facts = read::facts(&database);
        let Ok(mut versions) = read::versions(&database) else { return Ok(()) };
        let mut count = 0;
        while let Ok(Some(_)) = versions.next() {
            count += 1;
            prop_assert!(count <= file.len() / 16);
        }
    }
}
