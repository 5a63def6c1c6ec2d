//! What changed between two objects, as sets of paths.

use std::collections::BTreeMap;
use std::mem::discriminant;

use serde_json::{Map, Value};

use super::field_set::{FieldFilter, FieldSet};
use super::path::PathElement;
use super::shape::{ANY, Members, Shape, Types, as_list, as_map, list_element, shape};
use super::value::equal;
use crate::kube::schema::{FieldKind, ListKind, Schema, TypeId};

/// The paths that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    pub(super) fn filter(&mut self, filter: &FieldFilter) {
        filter.apply(&mut self.added);
        filter.apply(&mut self.modified);
        filter.apply(&mut self.removed);
    }

    fn merge(&mut self, other: Comparison) {
        self.added.merge(other.added);
        self.modified.merge(other.modified);
        self.removed.merge(other.removed);
    }

    /// Adds what changed at and below an element.
    fn insert(&mut self, element: impl Fn() -> PathElement, changes: Changes) {
        let Changes { added, modified, removed, below } = changes;
        for (set, member, below) in [
            (&mut self.added, added, below.added),
            (&mut self.modified, modified, below.modified),
            (&mut self.removed, removed, below.removed),
        ] {
            if member || !below.is_empty() {
                set.insert_node(element(), member, below);
            }
        }
    }
}

/// What changed at one place, and below it.
#[derive(Default)]
struct Changes {
    added: bool,
    modified: bool,
    removed: bool,
    below: Comparison,
}

impl Changes {
    fn below(below: Comparison) -> Changes {
        Changes { below, ..Changes::default() }
    }

    /// A value that is there or not.
    fn of_presence(old: Option<&Value>, new: Option<&Value>) -> Changes {
        Changes {
            added: old.is_none() && new.is_some(),
            removed: old.is_some() && new.is_none(),
            ..Changes::default()
        }
    }

    /// A value that is looked at as a whole.
    fn of_leaf(old: Option<&Value>, new: Option<&Value>) -> Changes {
        match (old, new) {
            (Some(old), Some(new)) => Changes { modified: !equal(old, new), ..Changes::default() },
            _ => Changes::of_presence(old, new),
        }
    }

    fn merge(&mut self, other: Changes) {
        self.added |= other.added;
        self.modified |= other.modified;
        self.removed |= other.removed;
        self.below.merge(other.below);
    }
}

/// The fields of an object, or none.
type Fields<'v> = Option<&'v Map<String, Value>>;

/// Compares two objects of one type; `metadata.managedFields` is left out. An error tells which
/// list element has no identity.
pub(super) fn compare(
    schema: &Schema,
    type_id: TypeId,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<Comparison, String> {
    let types = Types::new(schema);
    let members = Members::Fields(schema.type_def(type_id));
    let mut result = Comparison::default();
    for_each_name(Some(old), Some(new), |name, old, new| {
        let (kind, _) = members.kind(name);
        let is_metadata = name == "metadata" && old.is_some() && new.is_some();
        let changes = match shape(types, kind, new) {
            Shape::Map { members, .. } if is_metadata => {
                let except = Some("managedFields");
                Changes::below(compare_maps(
                    types.below(),
                    members,
                    as_map(old),
                    as_map(new),
                    except,
                )?)
            }
            _ => compare_values(types.below(), kind, old, new)?,
        };
        result.insert(|| PathElement::Field(name.to_string()), changes);
        Ok(())
    })?;
    Ok(result)
}

fn for_each_name<'v>(
    olds: Fields<'v>,
    news: Fields<'v>,
    mut visit: impl FnMut(&'v str, Option<&'v Value>, Option<&'v Value>) -> Result<(), String>,
) -> Result<(), String> {
    for (name, old) in olds.into_iter().flatten() {
        visit(name, Some(old), news.and_then(|news| news.get(name)))?;
    }
    for (name, new) in news.into_iter().flatten() {
        if olds.is_none_or(|olds| !olds.contains_key(name)) {
            visit(name, None, Some(new))?;
        }
    }
    Ok(())
}

fn compare_values(
    types: Types<'_>,
    kind: &FieldKind,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Changes, String> {
    let decisive = if new.is_some() { new } else { old };
    let decisive_shape = shape(types, kind, decisive);
    let (mut changes, mut is_leaf) = compare_as(types, decisive_shape, old, new)?;
    if old.is_some() {
        let old_shape = shape(types, kind, old);
        if discriminant(&old_shape) != discriminant(&decisive_shape) {
            let (old_changes, was_leaf) = compare_as(types, old_shape, old, new)?;
            changes.merge(old_changes);
            is_leaf |= was_leaf;
        }
    }
    if !is_leaf {
        changes.merge(Changes::of_presence(old, new));
    }
    Ok(changes)
}

/// Compares as values of a shape. True when they were compared as a whole.
fn compare_as(
    types: Types<'_>,
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<(Changes, bool), String> {
    let leaf = || Ok((Changes::of_leaf(old, new), true));
    match shape {
        Shape::Scalar(_) => leaf(),
        Shape::List { list, element } => {
            let (olds, news) = (as_list(old).unwrap_or(&[]), as_list(new).unwrap_or(&[]));
            if *list == ListKind::Atomic || (olds.is_empty() && news.is_empty()) {
                return leaf();
            }
            if olds == news {
                return Ok((Changes::default(), false));
            }
            Ok((Changes::below(compare_lists(types.below(), list, element, olds, news)?), false))
        }
        Shape::Map { atomic, members } => {
            let (olds, news) = (as_map(old), as_map(new));
            let is_empty = |fields: Fields<'_>| fields.is_none_or(Map::is_empty);
            if atomic || (is_empty(olds) && is_empty(news)) {
                return leaf();
            }
            Ok((Changes::below(compare_maps(types.below(), members, olds, news, None)?), false))
        }
    }
}

fn compare_maps(
    types: Types<'_>,
    members: Members<'_>,
    olds: Fields<'_>,
    news: Fields<'_>,
    except: Option<&str>,
) -> Result<Comparison, String> {
    let mut result = Comparison::default();
    for_each_name(olds, news, |name, old, new| {
        if except != Some(name) {
            let changes = compare_values(types, members.kind(name).0, old, new)?;
            result.insert(|| PathElement::Field(name.to_string()), changes);
        }
        Ok(())
    })?;
    Ok(result)
}

fn compare_lists(
    types: Types<'_>,
    list: &ListKind,
    element: &FieldKind,
    olds: &[Value],
    news: &[Value],
) -> Result<Comparison, String> {
    let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for old in olds {
        items.entry(list_element(types, list, element, old)?).or_default().0.push(old);
    }
    for new in news {
        items.entry(list_element(types, list, element, new)?).or_default().1.push(new);
    }
    let mut result = Comparison::default();
    for (key, (olds, news)) in items {
        let changes = compare_items(types, element, &olds, &news)?;
        result.insert(|| key.clone(), changes);
    }
    Ok(result)
}

/// Elements of one key. Several of them (which validation refuses in most places) are looked at as
/// one value.
fn compare_items(
    types: Types<'_>,
    element: &FieldKind,
    olds: &[&Value],
    news: &[&Value],
) -> Result<Changes, String> {
    let (old, new) = (olds.first().copied(), news.first().copied());
    let mut changes = Changes::default();
    match (olds, news) {
        ([] | [_], [] | [_]) => return compare_values(types, element, old, new),
        ([_, _, ..], [_, _, ..]) => {
            let mut pairs = olds.iter().zip(news);
            changes.modified = olds.len() != news.len() || !pairs.all(|(old, new)| equal(old, new));
        }
        ([_, _, ..], _) => {
            if new.is_some() {
                changes = compare_values(types, element, None, new)?;
            }
            changes.removed = true;
        }
        (_, _) => {
            if old.is_some() {
                changes = compare_values(types, element, old, None)?;
            }
            changes.added = true;
        }
    }
    Ok(changes)
}

/// The paths of everything an object says: its leaves, its list elements, and what it explicitly
/// leaves empty. That is what its applier owns.
pub(super) fn field_set_of(types: Types<'_>, kind: &FieldKind, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    if collect(types, kind, value, &mut set) {
        // The object itself is not owned.
        return FieldSet::default();
    }
    set
}

/// Collects the paths below a value. True when the value itself is a leaf.
fn collect(types: Types<'_>, kind: &FieldKind, value: &Value, set: &mut FieldSet) -> bool {
    match shape(types, kind, Some(value)) {
        Shape::Scalar(_) => true,
        Shape::List { list: ListKind::Atomic, .. } | Shape::Map { atomic: true, .. } => true,
        Shape::List { list, element } => {
            collect_items(types, list, element, value.as_array(), set);
            false
        }
        Shape::Map { members, .. } => {
            for (name, field) in value.as_object().into_iter().flatten() {
                let (kind, declared) = members.kind(name);
                let mut below = FieldSet::default();
                let leaf = collect(types.below(), kind, field, &mut below);
                let says_empty = field.is_null() || field.as_object().is_some_and(|f| f.is_empty());
                let member = leaf || says_empty || !declared;
                set.insert_node(PathElement::Field(name.clone()), member, below);
            }
            false
        }
    }
}

fn collect_items(
    types: Types<'_>,
    list: &ListKind,
    element: &FieldKind,
    items: Option<&Vec<Value>>,
    set: &mut FieldSet,
) {
    let mut by_key: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
    for item in items.into_iter().flatten() {
        if let Ok(key) = list_element(types, list, element, item) {
            by_key.entry(key).or_default().push(item);
        }
    }
    for (key, items) in by_key {
        let mut below = FieldSet::default();
        if let [item] = items.as_slice() {
            collect(types.below(), element, item, &mut below);
        }
        set.insert_node(key, true, below);
    }
}

/// The set with every declared field added that has a member below it: such fields are not
/// members when set together with what is in them, but go when they are left empty.
pub(super) fn with_named_fields(types: Types<'_>, kind: &FieldKind, set: &FieldSet) -> FieldSet {
    let mut result = FieldSet::default();
    let shape = shape(types, kind, None);
    for (element, node) in set.nodes() {
        let (below_kind, declared) = match (element, shape) {
            (PathElement::Field(name), Shape::Map { members, .. }) => members.kind(name),
            (PathElement::Key(_), Shape::List { element, .. }) => (element, false),
            _ => (&ANY, false),
        };
        let below = with_named_fields(types.below(), below_kind, &node.below);
        let member = node.member || (declared && !node.below.is_empty());
        result.insert_node(element.clone(), member, below);
    }
    result
}

/// Makes a set fit the table after a custom resource's schema has changed: who owned something in
/// what is one value now owns that value.
pub(super) fn fit_to_table(types: Types<'_>, kind: &FieldKind, set: &mut FieldSet) {
    let shape_here = shape(types, kind, None);
    for (element, node) in set.nodes_mut() {
        if node.below.is_empty() {
            continue;
        }
        let below = kind_below(shape_here, element);
        match shape(types.below(), below, None) {
            Shape::List { list: ListKind::Atomic, .. } | Shape::Map { atomic: true, .. } => {
                node.member = true;
                node.below = FieldSet::default();
            }
            _ => fit_to_table(types.below(), below, &mut node.below),
        }
    }
}

fn kind_below<'a>(shape: Shape<'a>, element: &PathElement) -> &'a FieldKind {
    match (element, shape) {
        (PathElement::Field(name), Shape::Map { members, .. }) => members.kind(name).0,
        (PathElement::Key(_), Shape::List { element, .. }) => element,
        _ => &ANY,
    }
}
