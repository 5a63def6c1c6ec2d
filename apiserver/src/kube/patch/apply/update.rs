//! managedFields of ordinary writes: create, update, patch.

use serde_json::{Map, Value};

use super::compare::{Comparison, compare};
use super::field_set::FieldSet;
use super::managed::{
    Entry, Managed, ManagerKey, Operation, managed_fields_of, set_managed_fields,
};
use super::{Request, empty_object, fields_v1};
use crate::kube::patch::limits::MAX_UPDATE_MANAGERS;

/// Sets `metadata.managedFields` of an object that is about to be written.
///
/// `live` is the stored object, `None` when one is created; `new` is what is to be stored, with
/// defaults filled in. Fields that differ belong to the request's manager from now on and to
/// nobody else. The list of `new` counts as the one to start from (so it can be changed), unless
/// it is missing or unreadable, or the request is for a subresource: then it is that of `live`.
/// A list of `[]` or `[{}]` takes an existing object out of the tracking.
///
/// Never fails: when the objects cannot be compared (a list element without its key), the list
/// of `live` is kept.
pub fn update_managed_fields(
    request: &Request<'_>,
    live: Option<&Map<String, Value>>,
    new: &mut Map<String, Value>,
) {
    let empty;
    let before = match live {
        Some(live) => live,
        None => {
            empty = empty_object(request.schema, request.type_id);
            &empty
        }
    };
    let list = updated_list(request, live.is_none(), before, new)
        .unwrap_or_else(|_| live.and_then(managed_fields_of).cloned());
    set_managed_fields(new, list);
}

/// Gives the entries of `new` their old times when nothing but these times has changed, so that a
/// write without effect is one: the objects are identical then, and true is returned.
pub fn keep_times_when_unchanged(live: &Map<String, Value>, new: &mut Map<String, Value>) -> bool {
    let unchanged = same_but_for_times(live, new);
    if unchanged {
        set_managed_fields(new, managed_fields_of(live).cloned());
    }
    unchanged
}

fn updated_list(
    request: &Request<'_>,
    creating: bool,
    live: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<Option<Value>, String> {
    let of_live = managed_fields_of(live);
    let start = match managed_fields_of(new) {
        _ if !request.subresource.is_empty() => of_live,
        Some(list) if is_reset(list) => None,
        Some(list) if Managed::decode_is_useful(list, of_live) => Some(list),
        _ => of_live,
    };
    let nothing_tracked = match start {
        None | Some(Value::Null) => true,
        Some(list) => list.as_array().is_none_or(Vec::is_empty),
    };
    if nothing_tracked && !creating {
        return Ok(None);
    }
    let mut changes = compare(request.schema, request.type_id, live, new)?;
    changes.filter(request.filter);
    if start == of_live
        && let Some(list) = start
        && let Some(quick) = quick_update(request, list, &changes)
    {
        return Ok(Some(quick));
    }
    let mut managed = Managed::decode(start).unwrap_or_default();
    managed.fit_to_table(request.schema, request.type_id);
    if managed.entries.is_empty() && !creating {
        return Ok(None);
    }
    let key = ManagerKey::new(
        request.manager,
        Operation::Update,
        request.api_version,
        request.subresource,
    );
    record_update(&mut managed, key, request, changes);
    managed.cap_updaters();
    Ok(managed.encode())
}

impl Managed {
    /// A list that can be read and has entries. That of the live object has been read before.
    fn decode_is_useful(list: &Value, of_live: Option<&Value>) -> bool {
        let has_entries = list.as_array().is_some_and(|entries| !entries.is_empty());
        has_entries && (Some(list) == of_live || Managed::decode(Some(list)).is_ok())
    }
}

/// The client asks for the list to be cleared.
fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// What changed goes from everybody else to the manager.
pub(super) fn record_update(
    managed: &mut Managed,
    key: ManagerKey,
    request: &Request<'_>,
    changes: Comparison,
) {
    let Comparison { mut added, modified, removed } = changes;
    added.merge(modified);
    for entry in managed.entries.values_mut() {
        entry.set.subtract(&added);
        entry.set.subtract(&removed);
    }
    managed.drop_empty();
    let mut own = added;
    own.subtract(super::never_owned());
    if own.is_empty() {
        return;
    }
    let entry = managed.entries.entry(key).or_insert_with(|| Entry {
        api_version: request.api_version.to_string(),
        time: None,
        set: FieldSet::default(),
    });
    entry.set.merge(own);
    if request.has_time() {
        entry.time = Some(request.now.to_string());
    }
}

/// The list when nobody's ownership changes, which is so for most writes: the manager has changed
/// fields that it owned alone. Spares reading and writing the sets. `None` when it may not be so.
fn quick_update(request: &Request<'_>, list: &Value, changes: &Comparison) -> Option<Value> {
    if !changes.removed.is_empty() || !changes.added.is_empty() {
        return None;
    }
    let mut changed = changes.modified.clone();
    changed.subtract(super::never_owned());
    if changed.is_empty() {
        return Some(list.clone());
    }
    let entries = list.as_array()?;
    let updaters = entries.iter().filter(|entry| text(entry, "operation") == "Update");
    if updaters.count() > MAX_UPDATE_MANAGERS {
        return None;
    }
    let own = entries.iter().position(|entry| is_own(request, entry))?;
    let settled = entries
        .iter()
        .enumerate()
        .all(|(index, entry)| fields_v1::agrees(&changed, entry.get("fieldsV1"), index == own));
    if !settled {
        return None;
    }
    if !request.has_time() {
        return Some(list.clone());
    }
    let mut entries = entries.clone();
    let mut entry = entries.remove(own);
    entry.as_object_mut()?.insert("time".to_string(), Value::from(request.now));
    // Its new time is the latest, as a rule: it goes behind the last entry that sorts before it.
    let place = entries
        .iter()
        .rposition(|other| sort_key(other) < sort_key(&entry))
        .map_or(0, |before| before + 1);
    entries.insert(place, entry);
    Some(Value::Array(entries))
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_own(request: &Request<'_>, entry: &Value) -> bool {
    !request.manager.is_empty()
        && text(entry, "operation") == "Update"
        && text(entry, "manager") == request.manager
        && text(entry, "apiVersion") == request.api_version
        && text(entry, "subresource") == request.subresource
}

fn sort_key(entry: &Value) -> [&str; 5] {
    ["operation", "time", "manager", "apiVersion", "subresource"].map(|name| text(entry, name))
}

fn same_but_for_times(old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
    same_fields(old, new, "metadata")
        && match (old.get("metadata"), new.get("metadata")) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                same_fields(old, new, "managedFields")
                    && same_entries(old.get("managedFields"), new.get("managedFields"))
            }
            (old, new) => old == new,
        }
}

fn same_entries(old: Option<&Value>, new: Option<&Value>) -> bool {
    let (Some(Value::Array(old)), Some(Value::Array(new))) = (old, new) else {
        return old == new;
    };
    old.len() == new.len()
        && old.iter().zip(new).all(|pair| match pair {
            (Value::Object(old), Value::Object(new)) => same_fields(old, new, "time"),
            (old, new) => old == new,
        })
}

/// True when the objects agree, one field aside.
fn same_fields(old: &Map<String, Value>, new: &Map<String, Value>, except: &str) -> bool {
    let counted =
        |fields: &Map<String, Value>| fields.len() - usize::from(fields.contains_key(except));
    counted(old) == counted(new)
        && old
            .iter()
            .filter(|(name, _)| name.as_str() != except)
            .all(|(name, value)| new.get(name) == Some(value))
}
