//! The order of the elements of a merged list: the order the patch gives, then that of the live
//! list, interleaved so that neither is broken.

use std::collections::HashMap;

use serde_json::Value;

use super::{DIRECTIVE, StrategicError, no_merge_key, wrong_type};
use crate::kube::patch::go_format::go_value;

/// A text by which scalars are equal exactly when their types and values are.
pub(super) fn key_text(value: &Value) -> String {
    value.to_string()
}

/// What an element is told apart by: its merge key's value, or itself.
fn element_key(element: &Value, merge_key: Option<&str>) -> Result<String, StrategicError> {
    let Some(merge_key) = merge_key else {
        return Ok(key_text(element));
    };
    if !element.is_object() {
        return Err(wrong_type("map[string]interface {}", element));
    }
    match element.get(merge_key) {
        Some(key) => Ok(key_text(key)),
        None => Err(no_merge_key(element, merge_key)),
    }
}

/// Places of the keys in a list; of equal ones the first counts.
fn places(
    list: &[Value],
    merge_key: Option<&str>,
) -> Result<HashMap<String, usize>, StrategicError> {
    let mut places = HashMap::with_capacity(list.len());
    for (place, element) in list.iter().enumerate() {
        places.entry(element_key(element, merge_key)?).or_insert(place);
    }
    Ok(places)
}

struct Placed {
    element: Value,
    server_place: Option<usize>,
}

/// Arranges the merged elements: those in `patch_order` in that order, the others as in
/// `server_order`, the latter put before the first of the former that follows them there.
pub(super) fn arrange(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, StrategicError> {
    let patch_places = places(patch_order, merge_key)?;
    let server_places = places(server_order, merge_key)?;
    let mut from_patch = Vec::new();
    let mut server_only = Vec::new();
    for element in merged {
        let key = element_key(&element, merge_key)?;
        let server_place = server_places.get(&key).copied();
        let placed = Placed { element, server_place };
        match patch_places.get(&key) {
            Some(&place) => from_patch.push((place, placed)),
            None => server_only.push(placed),
        }
    }
    from_patch.sort_by_key(|(place, _)| *place);
    server_only.sort_by_key(|placed| placed.server_place.unwrap_or(usize::MAX));

    let mut arranged = Vec::with_capacity(from_patch.len() + server_only.len());
    let mut server_only = server_only.into_iter().peekable();
    for (_, next) in from_patch {
        while let Some(waiting) = server_only.next_if(|waiting| goes_before(waiting, &next)) {
            arranged.push(waiting.element);
        }
        arranged.push(next.element);
    }
    arranged.extend(server_only.map(|placed| placed.element));
    Ok(arranged)
}

fn goes_before(left: &Placed, right: &Placed) -> bool {
    matches!((left.server_place, right.server_place), (Some(l), Some(r)) if l < r)
}

/// The elements of the patch must appear in `$setElementOrder`, in the same relative order.
pub(super) fn check_agrees(
    patch: &[Value],
    order: &[Value],
    merge_key: Option<&str>,
) -> Result<(), StrategicError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut order_left = order.iter();
    'elements: for element in patch {
        if merge_key.is_some() && !element.is_object() {
            return Err(wrong_type("map[string]interface {}", element));
        }
        if element.get(DIRECTIVE).is_some() {
            continue;
        }
        for candidate in order_left.by_ref() {
            if element_key(element, merge_key)? == element_key(candidate, merge_key)? {
                continue 'elements;
            }
        }
        return Err(StrategicError::Internal(format!(
            "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
            go_value(&Value::Array(patch.to_vec())),
            go_value(&Value::Array(order.to_vec())),
        )));
    }
    Ok(())
}
