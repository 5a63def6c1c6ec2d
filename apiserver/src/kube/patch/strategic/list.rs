//! Merges two lists: scalars as sets, objects by their merge key.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::order::{arrange, key_text};
use super::{DIRECTIVE, ListRule, Merger, StrategicError, no_merge_key, unknown_patch_type};
use crate::kube::patch::go_format::{go_type, go_value};

impl<'a> Merger<'a> {
    /// A list that does not merge is replaced, unless elements are to be deleted from it.
    pub(super) fn merge_list_field(
        &self,
        original: Vec<Value>,
        patch: Vec<Value>,
        rule: &ListRule<'a>,
        deletes: bool,
    ) -> Result<Vec<Value>, StrategicError> {
        if !rule.merges && !deletes {
            return Ok(patch);
        }
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        if element_type(&[&original, &patch])? != ElementType::Object {
            return Ok(merge_scalars(original, patch, deletes));
        }
        let Some(merge_key) = rule.merge_key else {
            return Err(StrategicError::Internal(format!(
                "cannot merge lists without merge key for {}",
                super::go_kind(rule.element)
            )));
        };
        let (original, patch) = take_directives(original, patch, merge_key)?;
        let server_order = original.clone();
        let patch_order = patch.clone();
        let merged = self.merge_objects(original, patch, merge_key, rule.element)?;
        arrange(merged, &patch_order, &server_order, Some(merge_key))
    }

    fn merge_objects(
        &self,
        mut original: Vec<Value>,
        patch: Vec<Value>,
        merge_key: &str,
        element: &'a crate::kube::schema::FieldKind,
    ) -> Result<Vec<Value>, StrategicError> {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(original.len());
        for (place, item) in original.iter().enumerate() {
            if let Some(key) = item.get(merge_key) {
                places.entry(key_text(key)).or_insert(place);
            }
        }
        for change in patch {
            let key = match change.get(merge_key) {
                Some(key) => key_text(key),
                None => return Err(no_merge_key(&change, merge_key)),
            };
            let Some(&place) = places.get(&key) else {
                places.insert(key, original.len());
                original.push(change);
                continue;
            };
            if let (Value::Object(before), Value::Object(change)) = (original[place].take(), change)
            {
                original[place] = Value::Object(self.merge_map(before, change, element)?);
            }
        }
        Ok(original)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    Object,
    Scalar,
}

/// All elements of all the lists must be of one type, and not lists themselves.
pub(super) fn element_type(lists: &[&Vec<Value>]) -> Result<ElementType, StrategicError> {
    let mut elements = lists.iter().flat_map(|list| list.iter());
    let Some(first) = elements.next() else {
        return Err(StrategicError::Internal("no elements in any of the given slices".to_string()));
    };
    if first.is_array() {
        return Err(StrategicError::Unprocessable("lists of lists are not supported".to_string()));
    }
    if first.is_null() || elements.any(|element| go_type(element) != go_type(first)) {
        let printed: Vec<String> =
            lists.iter().map(|list| go_value(&Value::Array(list.to_vec()))).collect();
        return Err(StrategicError::Internal(format!(
            "list element types are not identical: [{}]",
            printed.join(" ")
        )));
    }
    Ok(if first.is_object() { ElementType::Object } else { ElementType::Scalar })
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>, deletes: bool) -> Vec<Value> {
    if deletes {
        let gone: BTreeSet<String> = patch.iter().map(key_text).collect();
        return original.into_iter().filter(|item| !gone.contains(&key_text(item))).collect();
    }
    let mut seen = BTreeSet::new();
    let mut merged = original.clone();
    merged.extend(patch.iter().cloned());
    merged.retain(|item| seen.insert(key_text(item)));
    // Scalars are their own keys, so arranging them cannot fail.
    arrange(merged, &patch, &original, None).expect("scalars can be arranged")
}

/// Handles the elements that carry `$patch` and returns both lists without them.
fn take_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    let mut deleted = BTreeSet::new();
    for element in patch {
        let Value::Object(fields) = &element else {
            continue; // element_type has found only objects
        };
        let Some(directive) = fields.get(DIRECTIVE) else {
            plain.push(element);
            continue;
        };
        match directive.as_str() {
            Some("delete") => match fields.get(merge_key) {
                Some(key) => {
                    deleted.insert(key_text(key));
                }
                None => return Err(no_merge_key(&element, merge_key)),
            },
            Some("replace") => replaces = true,
            Some("merge") => {
                return Err(StrategicError::Internal(
                    "merging lists cannot yet be specified in the patch".to_string(),
                ));
            }
            _ => return Err(unknown_patch_type(directive, fields)),
        }
    }
    if replaces {
        return Ok((plain, Vec::new()));
    }
    if !deleted.is_empty() {
        original
            .retain(|item| item.get(merge_key).is_none_or(|key| !deleted.contains(&key_text(key))));
    }
    Ok((original, plain))
}
