//! What changed between two objects, as sets of paths.

use std::collections::BTreeMap;
use std::mem::discriminant;

use serde_json::{Map, Value};

use super::field_set::{FieldFilter, FieldSet};
use super::path::PathElement;
use super::shape::{ANY, Members, Shape, as_list, as_map, list_element, shape};
use super::value::equal;
use crate::kube::schema::{FieldKind, ListKind, Schema, TypeId};

/// The paths that differ. No path is in more than one of the sets.
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
}

/// Compares two objects of one type; `metadata.managedFields` is left out. An error tells which
/// list element has no identity.
pub(super) fn compare(
    schema: &Schema,
    type_id: TypeId,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<Comparison, String> {
    let mut walker = Walker { schema, path: Vec::new(), result: Comparison::default() };
    let members = Members::Fields(schema.type_def(type_id));
    walker.compare_maps(members, Some(old), Some(new))?;
    Ok(walker.result)
}

struct Walker<'a> {
    schema: &'a Schema,
    path: Vec<PathElement>,
    result: Comparison,
}

impl<'a> Walker<'a> {
    fn compare(
        &mut self,
        kind: &'a FieldKind,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        let decisive = if new.is_some() { new } else { old };
        let decisive_shape = shape(self.schema, kind, decisive);
        let mut was_leaf = false;
        if old.is_some() {
            let old_shape = shape(self.schema, kind, old);
            if discriminant(&old_shape) != discriminant(&decisive_shape) {
                was_leaf |= self.compare_as(old_shape, old, new)?;
            }
        }
        was_leaf |= self.compare_as(decisive_shape, old, new)?;
        if !was_leaf {
            self.note_presence(old, new);
        }
        Ok(())
    }

    /// True when the value was compared as a whole.
    fn compare_as(
        &mut self,
        shape: Shape<'a>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<bool, String> {
        match shape {
            Shape::Scalar(_) => {
                self.compare_leaf(old, new);
                Ok(true)
            }
            Shape::List { list, element } => {
                let (olds, news) = (as_list(old).unwrap_or(&[]), as_list(new).unwrap_or(&[]));
                if *list == ListKind::Atomic || (olds.is_empty() && news.is_empty()) {
                    self.compare_leaf(old, new);
                    return Ok(true);
                }
                if olds != news {
                    self.compare_lists(list, element, olds, news)?;
                }
                Ok(false)
            }
            Shape::Map { atomic, members } => {
                let (olds, news) = (as_map(old), as_map(new));
                let is_empty = |map: Option<&Map<String, Value>>| map.is_none_or(Map::is_empty);
                if atomic || (is_empty(olds) && is_empty(news)) {
                    self.compare_leaf(old, new);
                    return Ok(true);
                }
                self.compare_maps(members, olds, news)?;
                Ok(false)
            }
        }
    }

    fn compare_leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (Some(old), Some(new)) if !equal(old, new) => self.result.modified.insert(&self.path),
            _ => self.note_presence(old, new),
        }
    }

    fn note_presence(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, Some(_)) => self.result.added.insert(&self.path),
            (Some(_), None) => self.result.removed.insert(&self.path),
            _ => {}
        }
    }

    fn compare_maps(
        &mut self,
        members: Members<'a>,
        olds: Option<&Map<String, Value>>,
        news: Option<&Map<String, Value>>,
    ) -> Result<(), String> {
        for (name, old) in olds.into_iter().flatten() {
            let new = news.and_then(|news| news.get(name));
            self.compare_field(members, name, Some(old), new)?;
        }
        for (name, new) in news.into_iter().flatten() {
            if olds.is_none_or(|olds| !olds.contains_key(name)) {
                self.compare_field(members, name, None, Some(new))?;
            }
        }
        Ok(())
    }

    fn compare_field(
        &mut self,
        members: Members<'a>,
        name: &str,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        // What is equal is most of an object, and needs no path.
        if old == new {
            return Ok(());
        }
        if name == "managedFields" && self.at_metadata() {
            return Ok(());
        }
        let (kind, _) = members.kind(name);
        self.path.push(PathElement::Field(name.to_string()));
        let result = self.compare(kind, old, new);
        self.path.pop();
        result
    }

    fn at_metadata(&self) -> bool {
        matches!(self.path.as_slice(), [PathElement::Field(name)] if name == "metadata")
    }

    fn compare_lists(
        &mut self,
        list: &ListKind,
        element: &'a FieldKind,
        olds: &[Value],
        news: &[Value],
    ) -> Result<(), String> {
        let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for old in olds {
            let key = list_element(self.schema, list, element, old)?;
            items.entry(key).or_default().0.push(old);
        }
        for new in news {
            let key = list_element(self.schema, list, element, new)?;
            items.entry(key).or_default().1.push(new);
        }
        for (key, (olds, news)) in items {
            self.path.push(key);
            let result = self.compare_items(element, &olds, &news);
            self.path.pop();
            result?;
        }
        Ok(())
    }

    /// Elements of one key. Several of them (which validation refuses in most places) are looked
    /// at as one value.
    fn compare_items(
        &mut self,
        element: &'a FieldKind,
        olds: &[&Value],
        news: &[&Value],
    ) -> Result<(), String> {
        match (olds, news) {
            ([] | [_], [] | [_]) => {
                self.compare(element, olds.first().copied(), news.first().copied())
            }
            ([_, _, ..], [_, _, ..]) => {
                let same = olds.len() == news.len()
                    && olds.iter().zip(news).all(|(old, new)| equal(old, new));
                if !same {
                    self.result.modified.insert(&self.path);
                }
                Ok(())
            }
            ([_, _, ..], _) => {
                if let Some(new) = news.first() {
                    self.compare(element, None, Some(new))?;
                }
                self.result.removed.insert(&self.path);
                Ok(())
            }
            (_, _) => {
                if let Some(old) = olds.first() {
                    self.compare(element, Some(old), None)?;
                }
                self.result.added.insert(&self.path);
                Ok(())
            }
        }
    }
}

/// The paths of everything an object says: its leaves, its list elements, and what it explicitly
/// leaves empty. That is what its applier owns.
pub(super) fn field_set_of(schema: &Schema, kind: &FieldKind, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    if collect(schema, kind, value, &mut set) {
        // The object itself is not owned.
        return FieldSet::default();
    }
    set
}

/// Collects the paths below a value. True when the value itself is a leaf.
fn collect(schema: &Schema, kind: &FieldKind, value: &Value, set: &mut FieldSet) -> bool {
    match shape(schema, kind, Some(value)) {
        Shape::Scalar(_) => true,
        Shape::List { list: ListKind::Atomic, .. } | Shape::Map { atomic: true, .. } => true,
        Shape::List { list, element } => {
            collect_items(schema, list, element, value.as_array(), set);
            false
        }
        Shape::Map { members, .. } => {
            for (name, field) in value.as_object().into_iter().flatten() {
                let (kind, declared) = members.kind(name);
                let mut below = FieldSet::default();
                let leaf = collect(schema, kind, field, &mut below);
                let says_empty = field.is_null() || field.as_object().is_some_and(|f| f.is_empty());
                let member = leaf || says_empty || !declared;
                set.insert_node(PathElement::Field(name.clone()), member, below);
            }
            false
        }
    }
}

fn collect_items(
    schema: &Schema,
    list: &ListKind,
    element: &FieldKind,
    items: Option<&Vec<Value>>,
    set: &mut FieldSet,
) {
    let mut by_key: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
    for item in items.into_iter().flatten() {
        if let Ok(key) = list_element(schema, list, element, item) {
            by_key.entry(key).or_default().push(item);
        }
    }
    for (key, items) in by_key {
        let mut below = FieldSet::default();
        if let [item] = items.as_slice() {
            collect(schema, element, item, &mut below);
        }
        set.insert_node(key, true, below);
    }
}

/// The set with every declared field added that has a member below it: such fields are not
/// members when set together with what is in them, but go when they are left empty.
pub(super) fn with_named_fields(schema: &Schema, kind: &FieldKind, set: &FieldSet) -> FieldSet {
    let mut result = FieldSet::default();
    let shape = shape(schema, kind, None);
    for (element, node) in set.nodes() {
        let (below_kind, declared) = match (element, shape) {
            (PathElement::Field(name), Shape::Map { members, .. }) => members.kind(name),
            (PathElement::Key(_), Shape::List { element, .. }) => (element, false),
            _ => (&ANY, false),
        };
        let below = with_named_fields(schema, below_kind, &node.below);
        let member = node.member || (declared && !node.below.is_empty());
        result.insert_node(element.clone(), member, below);
    }
    result
}
