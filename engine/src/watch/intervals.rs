//! Finds the intervals that hold a key: a treap by start in which each node knows how far its
//! subtree reaches. A thousand nested prefixes or a million disjoint ones are both fine.

use bytes::Bytes;

use crate::request::KeyRange;
use crate::slab::Slab;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Intervals {
    nodes: Slab<Node>,
    root: u32,
    /// Priorities are any numbers that have nothing to do with the starts.
    next_priority: u64,
}

#[derive(Debug)]
struct Node {
    start: Bytes,
    /// Exclusive; `None` for no end.
    end: Option<Bytes>,
    /// The greatest end in the subtree.
    reach: Option<Bytes>,
    value: u32,
    priority: u64,
    left: u32,
    right: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Intervals { nodes: Slab::default(), root: NONE, next_priority: 0 }
    }
}

impl Intervals {
    /// Adds a range under a value; no two ranges have the same.
    pub(super) fn insert(&mut self, range: &KeyRange, value: u32) {
        let (start, end) = match range {
            KeyRange::Interval { start, end } => (start.clone(), Some(end.clone())),
            KeyRange::From(start) => (start.clone(), None),
            KeyRange::Single(_) => panic!("single keys are found by hash"),
        };
        // Weyl's sequence, scrambled.
        self.next_priority = self.next_priority.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let priority =
            (self.next_priority ^ (self.next_priority >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let reach = end.clone();
        let node = Node { start, end, reach, value, priority, left: NONE, right: NONE };
        let index = self.nodes.insert(node);
        self.root = self.insert_below(self.root, index);
    }

    pub(super) fn remove(&mut self, range: &KeyRange, value: u32) {
        self.root = self.remove_below(self.root, (range.start(), value));
    }

    /// Calls `found` with the values of the intervals that hold `key`.
    pub(super) fn find(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.find_below(self.root, key, found);
    }

    fn find_below(&self, tree: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        if tree == NONE {
            return;
        }
        let node = self.nodes.get(tree);
        if !is_after(&node.reach, key) {
            return;
        }
        self.find_below(node.left, key, found);
        if &node.start[..] <= key {
            if is_after(&node.end, key) {
                found(node.value);
            }
            self.find_below(node.right, key, found);
        }
    }

    fn order(&self, tree: u32) -> (&[u8], u32) {
        let node = self.nodes.get(tree);
        (&node.start, node.value)
    }

    fn insert_below(&mut self, tree: u32, new: u32) -> u32 {
        if tree == NONE {
            return new;
        }
        let comes_before = self.order(new) < self.order(tree);
        if self.nodes.get(new).priority > self.nodes.get(tree).priority {
            let (left, right) = self.split(tree, new);
            self.set_children(new, left, right);
            return new;
        }
        let (mut left, mut right) = self.children(tree);
        if comes_before {
            left = self.insert_below(left, new);
        } else {
            right = self.insert_below(right, new);
        }
        self.set_children(tree, left, right);
        tree
    }

    /// Splits a tree into what comes before and after the node `at`, which is not in it.
    fn split(&mut self, tree: u32, at: u32) -> (u32, u32) {
        if tree == NONE {
            return (NONE, NONE);
        }
        let (left, right) = self.children(tree);
        if self.order(tree) < self.order(at) {
            let (before, after) = self.split(right, at);
            self.set_children(tree, left, before);
            (tree, after)
        } else {
            let (before, after) = self.split(left, at);
            self.set_children(tree, after, right);
            (before, tree)
        }
    }

    fn remove_below(&mut self, tree: u32, order: (&[u8], u32)) -> u32 {
        assert!(tree != NONE, "only what was inserted is removed");
        let (mut left, mut right) = self.children(tree);
        if self.order(tree) == order {
            self.nodes.remove(tree);
            return self.join(left, right);
        }
        if order < self.order(tree) {
            left = self.remove_below(left, order);
        } else {
            right = self.remove_below(right, order);
        }
        self.set_children(tree, left, right);
        tree
    }

    /// Joins two trees of which the first comes before the second.
    fn join(&mut self, before: u32, after: u32) -> u32 {
        if before == NONE || after == NONE {
            return if before == NONE { after } else { before };
        }
        if self.nodes.get(before).priority > self.nodes.get(after).priority {
            let (left, right) = self.children(before);
            let joined = self.join(right, after);
            self.set_children(before, left, joined);
            before
        } else {
            let (left, right) = self.children(after);
            let joined = self.join(before, left);
            self.set_children(after, joined, right);
            after
        }
    }

    fn children(&self, tree: u32) -> (u32, u32) {
        let node = self.nodes.get(tree);
        (node.left, node.right)
    }

    fn set_children(&mut self, tree: u32, left: u32, right: u32) {
        let mut reach = self.nodes.get(tree).end.clone();
        for child in [left, right] {
            if child != NONE {
                reach = later(reach, &self.nodes.get(child).reach);
            }
        }
        let node = self.nodes.get_mut(tree);
        (node.left, node.right, node.reach) = (left, right, reach);
    }
}

fn is_after(end: &Option<Bytes>, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| &end[..] > key)
}

fn later(one: Option<Bytes>, other: &Option<Bytes>) -> Option<Bytes> {
    let (one, other) = (one?, other.as_ref()?);
    Some(if one < *other { other.clone() } else { one })
}
