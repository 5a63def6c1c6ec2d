//! A set of paths, kept as a tree: what managers own, and what changed between two objects.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::path::PathElement;

/// A set of paths. A path and one below it are members independently of each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<PathElement, Node>,
}

/// What is known of one path: whether it is a member, and the members below it. Nodes that say
/// nothing are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) below: FieldSet,
}

impl Node {
    fn is_nothing(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// The set of these paths of plain fields.
    pub fn of_fields(paths: &[&[&str]]) -> FieldSet {
        let mut set = FieldSet::default();
        for path in paths {
            let path: Vec<PathElement> =
                path.iter().map(|name| PathElement::Field(name.to_string())).collect();
            set.insert(&path);
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path. The empty path is the object itself, which nobody owns.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut set = self;
        for element in parents {
            set = &mut set.nodes.entry(element.clone()).or_default().below;
        }
        set.nodes.entry(last.clone()).or_default().member = true;
    }

    /// Adds what `below` says under an element; `member` when the element itself is one.
    pub(super) fn insert_node(&mut self, element: PathElement, member: bool, below: FieldSet) {
        if !member && below.is_empty() {
            return;
        }
        let node = self.nodes.entry(element).or_default();
        node.member |= member;
        node.below.merge(below);
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&PathElement, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = (&PathElement, &mut Node)> {
        self.nodes.iter_mut()
    }

    /// True when the element, as a path of its own, is a member.
    pub(super) fn has_member(&self, element: &PathElement) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// The members below an element.
    pub(super) fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        self.nodes.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    /// True when the path is a member.
    pub fn contains(&self, path: &[PathElement]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let mut set = self;
        for element in parents {
            match set.nodes.get(element) {
                Some(node) => set = &node.below,
                None => return false,
            }
        }
        set.has_member(last)
    }

    /// Adds all members of another set.
    pub fn merge(&mut self, other: FieldSet) {
        if self.nodes.is_empty() {
            self.nodes = other.nodes;
            return;
        }
        for (element, theirs) in other.nodes {
            let ours = self.nodes.entry(element).or_default();
            ours.member |= theirs.member;
            ours.below.merge(theirs.below);
        }
    }

    /// The members of both sets.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let (small, large) =
            if self.nodes.len() <= other.nodes.len() { (self, other) } else { (other, self) };
        let mut result = FieldSet::default();
        for (element, ours) in &small.nodes {
            let Some(theirs) = large.nodes.get(element) else {
                continue;
            };
            let node = Node {
                member: ours.member && theirs.member,
                below: ours.below.intersection(&theirs.below),
            };
            if !node.is_nothing() {
                result.nodes.insert(element.clone(), node);
            }
        }
        result
    }

    /// Removes the members of another set. A path below a removed one stays.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.remove_nodes(other, &|ours, theirs| {
            ours.member &= !theirs.member;
            ours.below.subtract(&theirs.below);
        });
    }

    /// Removes the members of another set and everything below them.
    pub fn subtract_recursively(&mut self, other: &FieldSet) {
        self.remove_nodes(other, &|ours, theirs| {
            if theirs.member {
                *ours = Node::default();
            } else {
                ours.below.subtract_recursively(&theirs.below);
            }
        });
    }

    fn remove_nodes(&mut self, other: &FieldSet, remove: &dyn Fn(&mut Node, &Node)) {
        for (element, theirs) in &other.nodes {
            if let Some(ours) = self.nodes.get_mut(element) {
                remove(ours, theirs);
                if ours.is_nothing() {
                    self.nodes.remove(element);
                }
            }
        }
    }

    /// The members as messages name them, those of one level before those below it.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            paths.push(format!("{prefix}{element}"));
        }
        for (element, node) in &self.nodes {
            if node.below.is_empty() {
                continue;
            }
            let length = prefix.len();
            // Writing to a String cannot fail.
            let _ = write!(prefix, "{element}");
            node.below.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }
}

/// Which fields a request may own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FieldFilter {
    /// All of them.
    #[default]
    All,
    /// Not these and nothing below them: the strategy resets them, such as `status` when the
    /// main resource is written.
    Except(FieldSet),
}

impl FieldFilter {
    /// Everything except these fields and what is below them.
    pub fn except_fields(paths: &[&[&str]]) -> FieldFilter {
        FieldFilter::Except(FieldSet::of_fields(paths))
    }

    pub(super) fn apply(&self, set: &mut FieldSet) {
        match self {
            FieldFilter::All => {}
            FieldFilter::Except(fields) => set.subtract_recursively(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A path as a list of names; the model of a set is a set of these.
    type Path = Vec<String>;

    fn elements(path: &Path) -> Vec<PathElement> {
        path.iter().cloned().map(PathElement::Field).collect()
    }

    fn set_of(paths: &BTreeSet<Path>) -> FieldSet {
        let mut set = FieldSet::default();
        for path in paths {
            set.insert(&elements(path));
        }
        set
    }

    fn paths() -> impl Strategy<Value = BTreeSet<Path>> {
        let path = prop::collection::vec("[abc]", 1..4);
        prop::collection::btree_set(path, 0..12)
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_paths(left in paths(), right in paths()) {
            let (l, r) = (set_of(&left), set_of(&right));

            let mut union = l.clone();
            union.merge(r.clone());
            prop_assert_eq!(&union, &set_of(&left.union(&right).cloned().collect()));

            let both: BTreeSet<Path> = left.intersection(&right).cloned().collect();
            prop_assert_eq!(l.intersection(&r), set_of(&both));

            let mut difference = l.clone();
            difference.subtract(&r);
            prop_assert_eq!(&difference, &set_of(&left.difference(&right).cloned().collect()));

            let mut recursive = l.clone();
            recursive.subtract_recursively(&r);
            let kept: BTreeSet<Path> = left
                .iter()
                .filter(|path| !(1..=path.len()).any(|end| right.contains(&path[..end])))
                .cloned()
                .collect();
            prop_assert_eq!(&recursive, &set_of(&kept));

            for path in left.union(&right) {
                prop_assert_eq!(l.contains(&elements(path)), left.contains(path));
            }
            prop_assert_eq!(l.paths().len(), left.len());
            prop_assert_eq!(l.is_empty(), left.is_empty());
        }
    }

    #[test]
    fn lists_the_paths_of_a_level_before_those_below() {
        let set = FieldSet::of_fields(&[&["a", "x"], &["b"], &["a"]]);
        assert_eq!(set.paths(), [".a", ".b", ".a.x"]);
    }
}
