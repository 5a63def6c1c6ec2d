//! Sets of keys that a user may read or write, and whether a request stays within one.

use std::borrow::Borrow;

use bytes::Bytes;

/// What is done with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::etcd) enum Access {
    Read,
    Write,
}

/// All keys with `start <= key < end`; without an end, all from `start` on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::etcd) struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    /// As requests and permissions name keys: no range end is one key, a zero byte all from it on.
    pub(in crate::etcd) fn new(key: &Bytes, range_end: &Bytes) -> Span {
        match &range_end[..] {
            [] => Span::key(key),
            [0] => Span { start: key.clone(), end: None },
            _ => Span { start: key.clone(), end: Some(range_end.clone()) },
        }
    }

    pub(in crate::etcd) fn key(key: &[u8]) -> Span {
        // The smallest key that is greater.
        let end = [key, &[0]].concat();
        Span { start: Bytes::copy_from_slice(key), end: Some(end.into()) }
    }

    /// All keys that begin with `prefix`.
    pub(in crate::etcd) fn prefix(prefix: &[u8]) -> Span {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Span { start: Bytes::copy_from_slice(prefix), end: Some(end.into()) };
            }
        }
        Span { start: Bytes::copy_from_slice(prefix), end: None }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` is not behind the last key, or just behind it.
    fn reaches(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| &end[..] >= key)
    }
}

/// Whether a permission can be given for these keys: etcd's rule.
pub(super) fn is_valid(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (matches!(range_end, [] | [0]) || key < range_end)
}

/// A set of keys: spans in order that neither overlap nor touch, so that a range which lies within
/// several permissions together lies within one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeySet(Vec<Span>);

impl KeySet {
    pub(super) fn of<S: Borrow<Span>>(spans: impl IntoIterator<Item = S>) -> KeySet {
        let mut spans: Vec<Span> =
            spans.into_iter().map(|span| span.borrow().clone()).filter(|s| !s.is_empty()).collect();
        spans.sort();
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if last.reaches(&span.start) => {
                    // No end is the farthest.
                    last.end = match (last.end.take(), span.end) {
                        (Some(one), Some(other)) => Some(one.max(other)),
                        _ => None,
                    };
                }
                _ => merged.push(span),
            }
        }
        KeySet(merged)
    }

    /// Whether every key of `span` is in the set (for an empty one: the key where it begins).
    pub(super) fn covers(&self, span: &Span) -> bool {
        let behind = self.0.partition_point(|own| own.start <= span.start);
        let Some(own) = behind.checked_sub(1).and_then(|place| self.0.get(place)) else {
            return false;
        };
        match (&own.end, &span.end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own_end), Some(end)) => *own_end > span.start && own_end >= end,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(key: &'static str, range_end: &'static str) -> Span {
        Span::new(&Bytes::from_static(key.as_bytes()), &Bytes::from_static(range_end.as_bytes()))
    }

    #[test]
    fn permissions_add_up() {
        let set = KeySet::of([span("a", "c"), span("c", "e"), span("e", ""), span("x", "\0")]);
        for (key, range_end, expected) in [
            ("a", "", true),
            ("a", "e", true),
            // The single key `e` ends before the next one, `e` and a zero byte.
            ("a", "e\0", true),
            ("a", "e\0\0", false),
            ("d", "f", false),
            ("e", "", true),
            ("e\0", "", false),
            ("e", "\0", false),
            ("w", "x", false),
            ("x", "\0", true),
            ("y", "z", true),
            ("y", "\0", true),
            ("\0", "\0", false),
            ("A", "b", false),
            // Ranges that hold no key.
            ("b", "a", true),
            ("h", "g", false),
        ] {
            assert_eq!(set.covers(&span(key, range_end)), expected, "{key:?} {range_end:?}");
        }
    }

    #[test]
    fn one_key_is_never_a_range() {
        let set = KeySet::of([span("a", "")]);
        for range_end in ["\0", "b", "a\0\0", "aa"] {
            assert!(!set.covers(&span("a", range_end)), "{range_end:?}");
        }
        assert!(set.covers(&span("a", "a\0")), "the same key, written as a range");
        assert!(KeySet::of([span("\0", "\0")]).covers(&span("\0", "\0")), "all keys");
    }

    #[test]
    fn prefixes() {
        for (prefix, expected) in [
            (&b"ab"[..], span("ab", "ac")),
            (b"", Span { start: Bytes::new(), end: None }),
            (b"\xff", Span { start: Bytes::from_static(b"\xff"), end: None }),
            (b"a\xff", Span { start: Bytes::from_static(b"a\xff"), end: Some("b".into()) }),
        ] {
            assert_eq!(Span::prefix(prefix), expected);
        }
    }

    #[test]
    fn permissions_for_nothing_are_not_valid() {
        for (key, range_end, expected) in [
            ("a", "", true),
            ("a", "b", true),
            ("a", "\0", true),
            ("\0", "\0", true),
            ("", "", false),
            ("", "b", false),
            ("b", "a", false),
            ("a", "a", false),
        ] {
            assert_eq!(is_valid(key.as_bytes(), range_end.as_bytes()), expected);
        }
    }

    /// What `key` and `range_end` say, key by key.
    fn holds(key: &str, range_end: &str, candidate: &str) -> bool {
        match range_end {
            "" => candidate == key,
            "\0" => candidate >= key,
            _ => key <= candidate && candidate < range_end,
        }
    }

    /// All words of at most three letters; where a span of the words below begins or ends, one of
    /// these lies on each side.
    fn universe() -> Vec<String> {
        let mut words = vec![String::new()];
        let mut longest = vec![String::new()];
        for _ in 0..3 {
            longest = longest
                .iter()
                .flat_map(|word| ["\0", "a", "b", "c"].map(|letter| format!("{word}{letter}")))
                .collect();
            words.extend(longest.clone());
        }
        words.retain(|word| !word.is_empty());
        words
    }

    fn word() -> impl Strategy<Value = String> {
        "[abc]{1,2}"
    }

    fn range_end() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), Just("\0".to_owned()), word()]
    }

    fn as_span((key, range_end): &(String, String)) -> Span {
        Span::new(&Bytes::from(key.clone()), &Bytes::from(range_end.clone()))
    }

    proptest! {
        #[test]
        fn a_range_is_covered_if_every_key_of_it_is(
            permissions in prop::collection::vec((word(), range_end()), 0..6),
            asked in (word(), range_end()),
        ) {
            let set = KeySet::of(permissions.iter().map(as_span));
            let universe = universe();
            let mut keys = universe.iter().filter(|key| holds(&asked.0, &asked.1, key)).peekable();
            prop_assume!(keys.peek().is_some());
            let allowed = |key: &String| permissions.iter().any(|(k, end)| holds(k, end, key));
            prop_assert_eq!(set.covers(&as_span(&asked)), keys.all(allowed));
        }
    }
}
