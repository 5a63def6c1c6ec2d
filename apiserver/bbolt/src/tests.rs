//! Trees of every shape are written and read back; hand-made damage is named.

use crate::page::{BRANCH, LEAF, PAGE_BYTES};
use crate::reader::{Database, Value};
use crate::writer::Writer;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn pass(mut writer: Writer, buckets: &[(&str, Entries)]) -> (crate::writer::Plan, Vec<u8>) {
    let mut file = Vec::new();
    for (name, entries) in buckets {
        writer.begin_bucket(name.as_bytes());
        for (key, value) in entries {
            writer.put(key, value.len(), |out| out.extend_from_slice(value));
            file.extend_from_slice(&writer.take_bytes());
        }
    }
    let (plan, rest) = writer.finish();
    file.extend_from_slice(&rest);
    (plan, file)
}

fn write(buckets: &[(&str, Entries)]) -> Vec<u8> {
    let (plan, nothing) = pass(Writer::measure(), buckets);
    assert!(nothing.is_empty());
    let (_, file) = pass(Writer::write(plan), buckets);
    assert_eq!(file.len() as u64, plan.file_bytes());
    file
}

fn read(file: &[u8], name: &str) -> Entries {
    let database = Database::open(file).expect("a database");
    let bucket = database.bucket(name.as_bytes()).expect("intact").expect("the bucket");
    let mut cursor = database.cursor(&bucket).expect("intact");
    let mut entries = Vec::new();
    while let Some((key, value)) = cursor.next().expect("intact") {
        let Value::Bytes(value) = value else { panic!("a bucket at {key:?}") };
        entries.push((key.to_vec(), value.to_vec()));
    }
    entries
}

/// Children of every branch page, and the pages of each kind.
fn shape(file: &[u8]) -> (Vec<usize>, usize) {
    let pages = file.chunks_exact(PAGE_BYTES);
    let (mut children, mut leaves) = (Vec::new(), 0);
    for (number, page) in pages.enumerate() {
        let flags = u16::from_le_bytes([page[8], page[9]]);
        let own_number = page[..8] == (number as u64).to_le_bytes();
        if own_number && flags == BRANCH {
            children.push(usize::from(u16::from_le_bytes([page[10], page[11]])));
        }
        leaves += usize::from(own_number && flags == LEAF);
    }
    (children, leaves)
}

#[test]
fn trees_of_every_shape_read_back() {
    let entries = |count: usize, key_bytes: usize, value_bytes: usize| -> Entries {
        let entry = |number| {
            let mut key = format!("{number:08}").into_bytes();
            key.resize(key_bytes.max(8), b'k');
            (key, vec![number as u8; value_bytes])
        };
        (0..count).map(entry).collect()
    };
    for (what, count, key_bytes, value_bytes) in [
        ("nothing", 0, 0, 0),
        ("kept in the value of its name", 3, 8, 20),
        ("one page", 20, 8, 100),
        ("exactly full pages", 9, 8, 4096 - 16 - 16 - 8),
        ("a byte more than a page", 9, 8, 4096 - 16 - 16 - 7),
        ("two levels", 2_000, 17, 100),
        ("three levels", 60_000, 17, 50),
        ("large keys, so that branches overflow", 60, 3_000, 10),
        ("the largest keys", 9, 32_768, 1),
        ("large values", 5, 17, 3 << 20),
    ] {
        let expected = entries(count, key_bytes, value_bytes);
        let empty = || Vec::new();
        let file = write(&[("a", empty()), ("b", expected.clone()), ("c", empty())]);
        assert!(read(&file, "b") == expected, "{what}");
        assert!(read(&file, "a").is_empty() && read(&file, "c").is_empty(), "{what}");
        let keys = Database::open(&file[..]).and_then(|database| database.check());
        assert_eq!(keys.expect("intact"), count as u64, "{what}");
        let (children, _) = shape(&file);
        assert!(children.iter().all(|&count| count >= 2), "{what}: {children:?}");
    }
}

/// A bucket with two levels: the branch is the page before the last, which is the root.
fn two_levels() -> (Vec<u8>, usize) {
    let entries = (0..300).map(|number: u32| (number.to_be_bytes().to_vec(), vec![1; 90]));
    let file = write(&[("b", entries.collect())]);
    let branch = file.len() / PAGE_BYTES - 2;
    assert_eq!(file[branch * PAGE_BYTES + 8], BRANCH as u8);
    (file, branch)
}

#[test]
fn damage_is_named_by_its_page() {
    let (good, branch) = two_levels();
    let at = branch * PAGE_BYTES;
    let leaf = 4 * PAGE_BYTES;
    type Damage = fn(&mut Vec<u8>, usize);
    let cases: [(&str, usize, Damage, &str); 8] = [
        (
            "a branch below itself",
            at + 24,
            |file, at| file[at] = (at / 4096) as u8,
            "more pages hang",
        ),
        ("a child twice", at + 40, |file, at| file[at] = 3, "not in order"),
        ("a child that is not there", at + 25, |file, at| file[at] = 200, "no such page"),
        ("a meta page as a child", at + 24, |file, at| file[at] = 1, "no such page"),
        ("another number", leaf, |file, at| file[at] = 99, "says to be page 99"),
        ("no leaf", leaf + 8, |file, at| file[at] = 8, "neither branch nor leaf"),
        ("a key beyond the page", leaf + 16 + 9, |file, at| file[at] = 99, "lies outside"),
        ("too many elements", leaf + 11, |file, at| file[at] = 9, "do not fit"),
    ];
    for (what, offset, damage, expected) in cases {
        let mut file = good.clone();
        damage(&mut file, offset);
        let database = Database::open(&file[..]).expect("the metas are intact");
        let error = database.check().expect_err(what).to_string();
        assert!(error.contains(expected) && error.contains("page"), "{what}: {error}");
    }
}

#[test]
fn overflow_beyond_the_file_or_what_is_supported_is_refused() {
    let (mut file, _) = two_levels();
    let overflow = 4 * PAGE_BYTES + 12;
    file[overflow..overflow + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let database = Database::open(&file[..]).expect("the metas are intact");
    let error = database.check().expect_err("damaged").to_string();
    assert!(error.contains("page 4") && error.contains("beyond the end"), "{error}");
}

#[test]
fn one_good_meta_is_enough_and_none_is_an_error() {
    let (good, _) = two_levels();
    for (first, second, opens) in
        [(false, false, true), (true, false, true), (false, true, true), (true, true, false)]
    {
        let mut file = good.clone();
        file[20] ^= u8::from(first);
        file[PAGE_BYTES + 70] ^= u8::from(second);
        let opened = Database::open(&file[..]);
        assert_eq!(opened.is_ok(), opens, "{first} {second}");
    }
    let cut = &good[..good.len() - 1];
    let error = Database::open(cut).expect_err("too short").to_string();
    assert!(error.contains("cut short"), "{error}");
    assert!(Database::open(&b"not a database"[..]).is_err());
    assert!(Database::open(&b""[..]).is_err());
}
