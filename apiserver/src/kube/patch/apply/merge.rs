//! Puts an applied configuration onto a live object, and takes paths out of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::path::PathElement;
use super::shape::{Members, Shape, Types, as_list, as_map, list_element, shape};
use crate::kube::schema::{FieldKind, ListKind};

/// The live object with everything that the applied configuration says. Nothing is removed.
pub(super) fn merge(
    types: Types<'_>,
    kind: &FieldKind,
    live: &Value,
    applied: &Value,
) -> Result<Value, String> {
    Ok(merge_value(types, kind, Some(live), Some(applied))?.unwrap_or(Value::Null))
}

fn merge_value(
    types: Types<'_>,
    kind: &FieldKind,
    live: Option<&Value>,
    applied: Option<&Value>,
) -> Result<Option<Value>, String> {
    // A value on one side only stays as it is.
    let (Some(old), Some(new)) = (live, applied) else {
        return Ok(applied.or(live).cloned());
    };
    match shape(types, kind, Some(if new.is_null() { old } else { new })) {
        Shape::Scalar(_) => Ok(Some(new.clone())),
        Shape::List { list, element } => {
            let (olds, news) = (as_list(live).unwrap_or(&[]), as_list(applied).unwrap_or(&[]));
            if *list == ListKind::Atomic || (olds.is_empty() && news.is_empty()) {
                return Ok(Some(new.clone()));
            }
            merge_lists(types.below(), list, element, olds, news).map(Value::Array).map(Some)
        }
        Shape::Map { atomic, members } => {
            let nothing = Map::new();
            let olds = as_map(live).unwrap_or(&nothing);
            let news = as_map(applied).unwrap_or(&nothing);
            if atomic || (olds.is_empty() && news.is_empty()) {
                return Ok(Some(new.clone()));
            }
            merge_maps(types.below(), members, olds, news).map(Value::Object).map(Some)
        }
    }
}

fn merge_maps(
    types: Types<'_>,
    members: Members<'_>,
    olds: &Map<String, Value>,
    news: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut merged = olds.clone();
    for (name, new) in news {
        let (kind, _) = members.kind(name);
        if let Some(value) = merge_value(types, kind, olds.get(name), Some(new))? {
            merged.insert(name.clone(), value);
        }
    }
    Ok(merged)
}

/// Elements of keyed lists and sets merge. Their order is that of the applied list as far as it
/// reaches; elements that only the live list has keep their place between the others.
fn merge_lists(
    types: Types<'_>,
    list: &ListKind,
    element: &FieldKind,
    olds: &[Value],
    news: &[Value],
) -> Result<Vec<Value>, String> {
    let keys = |items: &[Value]| -> Result<Vec<PathElement>, String> {
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                list_element(types, list, element, item)
                    .map_err(|error| format!("element {index}: {error}"))
            })
            .collect()
    };
    let (old_keys, new_keys) = (keys(olds)?, keys(news)?);
    // Live elements that share a key with another one are not merged but replaced.
    let mut old_items: BTreeMap<&PathElement, Option<&Value>> = BTreeMap::new();
    for (key, item) in old_keys.iter().zip(olds) {
        old_items.entry(key).and_modify(|item| *item = None).or_insert(Some(item));
    }
    let mut is_new: BTreeSet<&PathElement> = BTreeSet::new();
    for key in &new_keys {
        if !is_new.insert(key) {
            return Err(format!("duplicate entries for key {key}"));
        }
    }

    let mut shared = new_keys.iter().filter(|key| old_items.contains_key(key));
    let mut next_shared = shared.next();
    let mut merged_keys: BTreeSet<&PathElement> = BTreeSet::new();
    let mut merged = Vec::with_capacity(olds.len() + news.len());
    let (mut old_at, mut new_at) = (0, 0);
    while old_at < olds.len() || new_at < news.len() {
        if let Some(key) = old_keys.get(old_at) {
            if !is_new.contains(key) {
                merged.push(olds[old_at].clone());
                old_at += 1;
                continue;
            }
            // Another shared element comes first.
            if new_at < news.len() && next_shared.is_some_and(|next| next != key) {
                old_at += 1;
                continue;
            }
            // Always so when every applied element is in place.
            if merged_keys.contains(key) {
                old_at += 1;
            }
        }
        let Some(key) = new_keys.get(new_at) else {
            continue;
        };
        let live = old_items.get(key).copied().flatten();
        merged.extend(merge_value(types, element, live, news.get(new_at))?);
        merged_keys.insert(key);
        if next_shared == Some(key) {
            next_shared = shared.next();
        }
        if old_keys.get(old_at) == Some(key) {
            old_at += 1;
        }
        new_at += 1;
    }
    Ok(merged)
}

/// Takes the members of a set out of a value. A map or list that is emptied so becomes null.
pub(super) fn remove(types: Types<'_>, kind: &FieldKind, value: &Value, gone: &FieldSet) -> Value {
    match shape(types, kind, Some(value)) {
        Shape::Scalar(_) => value.clone(),
        Shape::List { list: ListKind::Atomic, .. } | Shape::Map { atomic: true, .. } => Value::Null,
        Shape::List { list, element } => {
            let mut kept = Vec::new();
            for item in value.as_array().into_iter().flatten() {
                let Ok(key) = list_element(types, list, element, item) else {
                    kept.push(item.clone());
                    continue;
                };
                if gone.has_member(&key) {
                    continue;
                }
                kept.push(match gone.below(&key) {
                    Some(below) => remove(types.below(), element, item, below),
                    None => item.clone(),
                });
            }
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        Shape::Map { members, .. } => {
            let mut kept = Map::new();
            for (name, field) in value.as_object().into_iter().flatten() {
                let key = PathElement::Field(name.clone());
                if gone.has_member(&key) {
                    continue;
                }
                let field = match gone.below(&key) {
                    Some(below) => remove(types.below(), members.kind(name).0, field, below),
                    None => field.clone(),
                };
                kept.insert(name.clone(), field);
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
    }
}
