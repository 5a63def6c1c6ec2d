//! The keys in order: leaves of handles, and how many live keys each holds.
//!
//! Only creating and deleting a key touches this index. Overwriting, the usual change, does not.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::version::{Entries, Handle};
use crate::record::Revision;
use crate::request::KeyRange;

/// Handles per leaf. Larger leaves make counting faster, smaller ones inserting. (Tests take few,
/// so that a handful of keys splits and joins leaves.)
const LEAF: usize = if cfg!(test) { 8 } else { 128 };
/// A leaf this small is joined with the next one when the two fill at most half a leaf.
const SMALL: usize = LEAF / 8;
/// Handles in a leaf that is built at once: with some room, or every leaf would split soon.
const BUILT: usize = LEAF * 3 / 4;

#[derive(Debug)]
pub(super) struct Order {
    /// By lower bound: a leaf holds the keys from its bound (inclusive) to the next leaf's.
    /// The first bound is always the empty key.
    leaves: BTreeMap<Box<[u8]>, Leaf>,
}

#[derive(Debug, Default)]
pub(super) struct Leaf {
    handles: Vec<Handle>,
    /// Keys whose newest version is no tombstone.
    live: usize,
    /// No key of the leaf began or ceased to live after this revision.
    settled: Revision,
}

impl Leaf {
    fn built(entries: &Entries, handles: Vec<Handle>) -> Leaf {
        let (mut live, mut settled) = (0, 0);
        for &handle in &handles {
            let newest = entries.get(handle).newest();
            let tombstone = newest.is_tombstone();
            live += usize::from(!tombstone);
            let since = if tombstone { newest.mod_revision() } else { newest.create_revision() };
            settled = settled.max(since);
        }
        Leaf { handles, live, settled }
    }

    /// How many keys live at `revision`, if that can be told without looking at each.
    pub(super) fn live_at(&self, revision: Revision) -> Option<usize> {
        (self.settled <= revision).then_some(self.live)
    }
}

/// One leaf's part in a range.
pub(super) struct LeafPart<'a> {
    pub(super) leaf: &'a Leaf,
    /// All the keys that a leaf can hold are in the range.
    pub(super) whole: bool,
}

impl Default for Order {
    fn default() -> Self {
        Order { leaves: BTreeMap::from([(Box::default(), Leaf::default())]) }
    }
}

impl Order {
    /// Adds a new key that lives from `revision` on (or, when not `live`, is a tombstone of it).
    pub(super) fn insert(
        &mut self,
        entries: &Entries,
        handle: Handle,
        live: bool,
        revision: Revision,
    ) {
        let key = entries.get(handle).key();
        let leaf = self.leaf_mut(key);
        let place = leaf.handles.partition_point(|&other| entries.get(other).key() < key);
        leaf.handles.insert(place, handle);
        leaf.live += usize::from(live);
        leaf.settled = leaf.settled.max(revision);
        if leaf.handles.len() > LEAF {
            // Keys often come in ascending order: then leave a full leaf behind.
            let cut = if place == LEAF { LEAF } else { LEAF / 2 };
            let upper = leaf.handles.split_off(cut);
            let lives = |&&handle: &&Handle| !entries.get(handle).newest().is_tombstone();
            let live = upper.iter().filter(lives).count();
            leaf.live -= live;
            let settled = leaf.settled;
            let last = entries.get(leaf.handles[cut - 1]).key();
            let bound = shortest_between(last, entries.get(upper[0]).key());
            self.leaves.insert(bound.into(), Leaf { handles: upper, live, settled });
        }
    }

    /// [`insert`](Order::insert) that looks at the end first, where the next key in order goes.
    pub(super) fn append_or_insert(
        &mut self,
        entries: &Entries,
        handle: Handle,
        live: bool,
        revision: Revision,
    ) {
        let mut last = self.leaves.last_entry().expect("the first bound is empty");
        let leaf = last.get_mut();
        let key = entries.get(handle).key();
        let behind = leaf.handles.last().is_some_and(|&last| entries.get(last).key() < key);
        if !behind || leaf.handles.len() >= LEAF {
            return self.insert(entries, handle, live, revision);
        }
        leaf.handles.push(handle);
        leaf.live += usize::from(live);
        leaf.settled = leaf.settled.max(revision);
    }

    /// The same order with new keys, which come sorted, among the others: all leaves are made anew.
    pub(super) fn rebuilt_with(
        &self,
        entries: &Entries,
        new: impl ExactSizeIterator<Item = Handle>,
    ) -> Order {
        let old = self.leaves.values().flat_map(|leaf| leaf.handles.iter().copied());
        let key = |handle: &Handle| entries.get(*handle).key();
        let (mut old, mut new) = (old.peekable(), new.peekable());
        let mut merged = std::iter::from_fn(|| match (old.peek(), new.peek()) {
            (Some(left), Some(right)) if key(left) < key(right) => old.next(),
            (_, Some(_)) => new.next(),
            (_, None) => old.next(),
        });
        let mut leaves: Vec<(Box<[u8]>, Leaf)> = Vec::new();
        let mut last: Option<Handle> = None;
        loop {
            let handles: Vec<Handle> = merged.by_ref().take(BUILT).collect();
            let Some(first) = handles.first() else { break };
            let bound = last.map_or(&[][..], |last| shortest_between(key(&last), key(first)));
            last = handles.last().copied();
            leaves.push((bound.into(), Leaf::built(entries, handles)));
        }
        if leaves.is_empty() {
            return Order::default();
        }
        Order { leaves: leaves.into_iter().collect() }
    }

    /// Notes that a key began or ceased to live at `revision`.
    pub(super) fn set_live(&mut self, key: &[u8], live: bool, revision: Revision) {
        let leaf = self.leaf_mut(key);
        if live {
            leaf.live += 1;
        } else {
            leaf.live -= 1;
        }
        leaf.settled = leaf.settled.max(revision);
    }

    /// Forgets a key; `live` says whether its newest version was.
    pub(super) fn remove(&mut self, entries: &Entries, handle: Handle, live: bool) {
        let key = entries.get(handle).key();
        let leaf = self.leaf_mut(key);
        let place = leaf.handles.partition_point(|&other| entries.get(other).key() < key);
        assert!(leaf.handles.get(place) == Some(&handle), "the order holds every key");
        leaf.handles.remove(place);
        leaf.live -= usize::from(live);
        if leaf.handles.len() <= SMALL {
            self.join_next(key);
        }
    }

    /// Joins the leaf around `key` with the next one if both are rather empty.
    fn join_next(&mut self, key: &[u8]) {
        let beyond = (Bound::Excluded(key), Bound::Unbounded);
        let Some((bound, next)) = self.leaves.range::<[u8], _>(beyond).next() else { return };
        let (bound, next_length) = (bound.clone(), next.handles.len());
        if self.leaf_mut(key).handles.len() + next_length > LEAF / 2 {
            return;
        }
        let next = self.leaves.remove(&bound).expect("it was just found");
        let leaf = self.leaf_mut(key);
        leaf.handles.extend_from_slice(&next.handles);
        leaf.live += next.live;
        leaf.settled = leaf.settled.max(next.settled);
    }

    fn leaf_mut(&mut self, key: &[u8]) -> &mut Leaf {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, leaf) =
            self.leaves.range_mut::<[u8], _>(upto).next_back().expect("the first bound is empty");
        leaf
    }

    /// The handles from the first key that is at or after `start` (or beyond it, if excluded).
    pub(super) fn from<'a>(
        &'a self,
        entries: &'a Entries,
        start: Bound<&'a [u8]>,
    ) -> impl Iterator<Item = Handle> + 'a {
        let (Bound::Included(key) | Bound::Excluded(key)) = start else {
            unreachable!("ranges have a first key")
        };
        let mut leaves = self.leaves_from(key);
        let (_, first) = leaves.next().expect("the first bound is empty");
        let skip = first.handles.partition_point(|&handle| match start {
            Bound::Excluded(key) => entries.get(handle).key() <= key,
            _ => entries.get(handle).key() < key,
        });
        let rest = leaves.flat_map(|(_, leaf)| &leaf.handles);
        first.handles[skip..].iter().chain(rest).copied()
    }

    /// The leaves that may hold keys of `range` at or after `start`, each with its lower bound.
    pub(super) fn parts<'a>(
        &'a self,
        range: &'a KeyRange,
        start: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], LeafPart<'a>)> + 'a {
        let mut leaves = self.leaves_from(start).peekable();
        std::iter::from_fn(move || {
            let (bound, leaf) = leaves.next()?;
            let next = leaves.peek().map(|(next, _)| &next[..]);
            if bound > start && !range.contains(bound) {
                // An interval has ended; a single key is in its first leaf.
                return None;
            }
            let ends_inside = match range {
                KeyRange::Single(_) => false,
                KeyRange::Interval { end, .. } => next.is_some_and(|next| next <= &end[..]),
                KeyRange::From(_) => true,
            };
            Some((bound, LeafPart { leaf, whole: bound >= start && ends_inside }))
        })
    }

    /// The handles of a leaf, in order.
    pub(super) fn handles(leaf: &Leaf) -> &[Handle] {
        &leaf.handles
    }

    fn leaves_from(&self, key: &[u8]) -> impl Iterator<Item = (&[u8], &Leaf)> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (first, _) =
            self.leaves.range::<[u8], _>(upto).next_back().expect("the first bound is empty");
        self.leaves
            .range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded))
            .map(|(bound, leaf)| (&bound[..], leaf))
    }
}

/// The shortest key that is greater than `low` and not greater than `high`.
fn shortest_between<'a>(low: &[u8], high: &'a [u8]) -> &'a [u8] {
    assert!(low < high);
    let common = low.iter().zip(high).take_while(|(left, right)| left == right).count();
    &high[..common + 1]
}
