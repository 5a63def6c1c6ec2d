//! Which prefixes of the keys take how much, found out in one pass over all keys in their order.

use std::collections::BTreeSet;

use crate::record::Record;
use crate::request::PrefixUsage;

/// Adds up records that come by key. Whatever the keys are, this keeps no more than `top` results
/// and one sum for each level of the present key.
#[derive(Debug)]
pub(super) struct UsageByPrefix {
    /// Levels (parts of a key that end with a slash) that make a prefix.
    depth: usize,
    top: usize,
    /// The prefixes that the present key is in, outermost first: later keys may be in them, too.
    open: Vec<PrefixUsage>,
    /// The largest of those that are complete: by bytes.
    largest: BTreeSet<(u64, Vec<u8>, u64)>,
}

impl UsageByPrefix {
    pub(super) fn new(depth: usize, top: usize) -> UsageByPrefix {
        UsageByPrefix { depth, top, open: Vec::new(), largest: BTreeSet::new() }
    }

    /// The same of nothing.
    pub(super) fn afresh(&self) -> UsageByPrefix {
        UsageByPrefix::new(self.depth, self.top)
    }

    /// Takes the next record, by key.
    pub(super) fn add(&mut self, record: &Record) {
        let key = record.key();
        let prefix = prefix_of(key, self.depth);
        while self.open.last().is_some_and(|last| !prefix.starts_with(&last.prefix)) {
            self.close();
        }
        if self.open.last().is_none_or(|last| last.prefix.len() < prefix.len()) {
            self.open.push(PrefixUsage { prefix: prefix.to_vec(), keys: 0, bytes: 0 });
        }
        if let Some(last) = self.open.last_mut() {
            last.keys += 1;
            last.bytes += (key.len() + record.value().len()) as u64;
        }
    }

    fn close(&mut self) {
        let Some(PrefixUsage { prefix, keys, bytes }) = self.open.pop() else { return };
        self.largest.insert((bytes, prefix, keys));
        if self.largest.len() > self.top {
            self.largest.pop_first();
        }
    }

    /// The prefixes that take most, the largest first.
    pub(super) fn largest(mut self) -> Vec<PrefixUsage> {
        while !self.open.is_empty() {
            self.close();
        }
        let usage = |(bytes, prefix, keys)| PrefixUsage { prefix, keys, bytes };
        self.largest.into_iter().rev().map(usage).collect()
    }
}

/// The first `depth` levels of a key, or as many as it has. A slash at the beginning is no level.
fn prefix_of(key: &[u8], depth: usize) -> &[u8] {
    let slashes = key.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/');
    let last = slashes.take(depth).last();
    match last {
        Some((place, _)) => &key[..=place],
        None if key.first() == Some(&b'/') => &key[..1],
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_prefix_is_so_many_levels() {
        for (key, depth, expected) in [
            ("/registry/pods/default/a", 1, "/registry/"),
            ("/registry/pods/default/a", 2, "/registry/pods/"),
            ("/registry/pods/default/a", 3, "/registry/pods/default/"),
            ("/registry/pods/default/a", 9, "/registry/pods/default/"),
            ("/registry/a", 2, "/registry/"),
            ("/a", 2, "/"),
            ("a", 2, ""),
            ("a/b/c", 1, "a/"),
            ("", 1, ""),
            ("/registry/pods/a", 0, "/"),
        ] {
            assert_eq!(prefix_of(key.as_bytes(), depth), expected.as_bytes(), "{key} {depth}");
        }
    }

    #[test]
    fn sums_are_exact_however_keys_mix() {
        let names = ["", "/", "a", "a/", "/r/a", "/r/p/x", "/r/p/y/z", "/r/q", "/r/q/x", "/s/t/u"];
        let mut keys: Vec<String> = (0..20)
            .flat_map(|number| names.map(|name| format!("{name}{}", "x".repeat(number % 7))))
            .collect();
        keys.sort();
        keys.dedup();
        for depth in 0..4 {
            let mut expected: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
            let mut usage = UsageByPrefix::new(depth, 1000);
            let mut few = UsageByPrefix::new(depth, 2);
            for key in &keys {
                let record = Record::new(key.as_bytes(), b"value", 2, 2, 1, 0);
                usage.add(&record);
                few.add(&record);
                let sum = expected.entry(prefix_of(key.as_bytes(), depth).to_vec()).or_default();
                *sum = (sum.0 + 1, sum.1 + key.len() as u64 + 5);
            }
            let largest = usage.largest();
            assert!(largest.is_sorted_by(|left, right| left.bytes >= right.bytes));
            assert_eq!(few.largest(), largest[..largest.len().min(2)]);
            let found: BTreeMap<Vec<u8>, (u64, u64)> = largest
                .into_iter()
                .map(|usage| (usage.prefix, (usage.keys, usage.bytes)))
                .collect();
            assert_eq!(found, expected, "depth {depth}");
        }
    }
}
