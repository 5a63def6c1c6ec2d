//! Sorting very many keys: by eight bytes of each at a time, as numbers, behind what the keys have
//! in common. Comparing whole keys instead fetches two of them from memory for every comparison.

use super::version::{Entries, Handle};

/// So few keys are compared whole.
const FEW: usize = 24;

/// Bytes of a word.
const WORD: usize = 8;

#[derive(Clone, Copy)]
struct Item<'a> {
    word: u64,
    key: &'a [u8],
    handle: Handle,
}

/// Keys that have their first bytes in common.
struct Run {
    start: usize,
    end: usize,
    common: usize,
}

/// The handles in order of their keys. All keys differ.
pub(super) fn by_key(
    entries: &Entries,
    handles: impl Iterator<Item = Handle>,
) -> impl ExactSizeIterator<Item = Handle> {
    let item = |handle| Item { word: 0, key: entries.get(handle).key(), handle };
    let mut items: Vec<Item> = handles.map(item).collect();
    // A run is split into runs with more in common, so the loop ends where keys do.
    let mut runs = vec![Run { start: 0, end: items.len(), common: 0 }];
    while let Some(Run { start, end, common }) = runs.pop() {
        let items = &mut items[start..end];
        if items.len() <= FEW || items.iter().any(|item| item.key.len() < common) {
            // A key that ends within a word can't be told from one with zeros there.
            items.sort_unstable_by(|left, right| left.key.cmp(right.key));
            continue;
        }
        let common = common + in_common(items, common);
        for item in &mut *items {
            item.word = word(&item.key[common..]);
        }
        items.sort_unstable_by_key(|item| item.word);
        let mut from = start;
        for same in items.chunk_by(|left, right| left.word == right.word) {
            if same.len() > 1 {
                runs.push(Run { start: from, end: from + same.len(), common: common + WORD });
            }
            from += same.len();
        }
    }
    items.into_iter().map(|item| item.handle)
}

/// How many bytes behind `from` all keys have in common.
fn in_common(items: &[Item<'_>], from: usize) -> usize {
    let first = &items[0].key[from..];
    items.iter().fold(first.len(), |common, item| {
        let both = first[..common].iter().zip(&item.key[from..]);
        both.take_while(|(left, right)| left == right).count()
    })
}

/// The first bytes as a number of the same order, filled up with zeros.
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<WORD>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut word = [0; WORD];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::mvcc::version::Versions;
    use crate::record::Record;

    fn check(keys: impl IntoIterator<Item = Vec<u8>>) {
        let mut entries = Entries::default();
        let mut sorted: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut handles = Vec::new();
        for key in keys {
            if sorted.insert(key.clone()) {
                let record = Record::new(&key, b"", 1, 1, 1, 0);
                handles.push(entries.insert(Versions::new(record, 0)));
            }
        }
        let got = by_key(&entries, handles.into_iter());
        let got: Vec<&[u8]> = got.map(|handle| entries.get(handle).key()).collect();
        assert_eq!(got, sorted.iter().map(|key| &key[..]).collect::<Vec<_>>());
    }

    #[test]
    fn names_of_pods_come_in_order() {
        check((0..5000u64).map(|number| {
            let name = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("/registry/pods/namespace-{:03}/pod-{name:016x}", number % 7).into_bytes()
        }));
    }

    #[test]
    fn zeros_at_the_end_of_keys_count() {
        check((0..200).map(|zeros| vec![0; zeros]));
        check((0..200).flat_map(|zeros| {
            [[&b"common"[..], &vec![0; zeros]].concat(), [&vec![0; zeros], &b"x"[..]].concat()]
        }));
    }

    proptest! {
        #[test]
        fn any_keys_come_in_order(keys in vec(vec(0..3u8, 0..40), 0..300)) {
            check(keys);
        }

        #[test]
        fn any_bytes_come_in_order(keys in vec(vec(any::<u8>(), 0..12), 0..300)) {
            check(keys);
        }
    }
}
