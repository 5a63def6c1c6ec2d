//! Server-side apply, and who owns which field of an object (`metadata.managedFields`).
//!
//! `path`, `field_set` and `fields_v1` are sets of paths; `shape`, `compare`, `merge` and
//! `validate` walk values by the schema table; `managed`, `update` and `conflict` keep the entries.
//! The caller sees to defaults, admission and the strategy's resets: call [`apply`] first and
//! fill in defaults after it; call [`update_managed_fields`] after defaults, before admission.

mod compare;
mod conflict;
mod field_set;
mod fields_v1;
mod last_applied;
mod managed;
mod merge;
mod path;
mod shape;
mod update;
mod validate;
mod value;

use std::sync::OnceLock;

use serde_json::{Map, Value};
use thiserror::Error;

use self::compare::{compare, field_set_of, with_named_fields};
pub use self::conflict::{Conflict, Conflicts};
pub use self::field_set::{FieldFilter, FieldSet};
pub use self::fields_v1::{decode as decode_fields_v1, encode as encode_fields_v1};
use self::managed::{Entry, Managed, ManagerKey};
pub use self::managed::{Operation, manager_of_user_agent};
pub use self::path::PathElement;
use self::shape::Types;
pub use self::update::{keep_times_when_unchanged, update_managed_fields};
use crate::kube::codec::normalize;
use crate::kube::schema::{FieldKind, Schema, TypeId};

/// Owns, from the first apply on, what was there before without an owner.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What a write is about.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub schema: &'a Schema,
    pub type_id: TypeId,
    /// Group and version as entries have them, such as `apps/v1`.
    pub api_version: &'a str,
    /// The field manager; see [`manager_of_user_agent`] for requests that name none.
    pub manager: &'a str,
    /// `status`, `scale`, …; empty for the resource itself.
    pub subresource: &'a str,
    /// The time for entries that change: RFC 3339, UTC, whole seconds.
    pub now: &'a str,
    /// Which fields the request may own.
    pub filter: &'a FieldFilter,
}

impl Request<'_> {
    /// Writes of `scale` leave their entries without a time: these are translated from the entries
    /// of a `Scale`, which has none.
    fn has_time(&self) -> bool {
        self.subresource != "scale"
    }
}

/// Why an apply was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// Others own fields that would change. Answered with 409, the message, and a cause each.
    #[error("{0}")]
    Conflicts(Conflicts),
    /// Answered with 400.
    #[error("{0}")]
    BadRequest(String),
    /// Answered, as kube-apiserver does, with 500, no reason, and this text.
    #[error("{0}")]
    Internal(String),
}

/// Applies a configuration to the live object (`None`: it is created) and gives the new object
/// with its managedFields.
///
/// The manager owns what the configuration says, and nothing else: what it owned before and no
/// longer says is removed, unless someone else owns it too. Changing what others own is a
/// conflict, or takes it from them with `force`. An apply that changes nothing gives back an
/// identical object.
pub fn apply(
    request: &Request<'_>,
    live: Option<&Map<String, Value>>,
    applied: &Value,
    force: bool,
) -> Result<Map<String, Value>, ApplyError> {
    let mut managed =
        Managed::decode(live.and_then(managed::managed_fields_of)).map_err(|error| {
            ApplyError::Internal(format!("failed to decode managed fields: {error}"))
        })?;
    managed.fit_to_table(request.schema, request.type_id);
    check_configuration(request, applied)?;
    let empty = empty_object(request.schema, request.type_id);
    let mut before = live.unwrap_or(&empty).clone();
    managed::set_managed_fields(&mut before, None);
    if managed.entries.is_empty() && live.is_some() {
        own_what_was_there(request, &mut managed, &empty, &before)?;
    }

    let mut outcome = attempt(request, &before, applied, managed.clone(), force);
    if let Err(Refusal::Conflicts(conflicts)) = &outcome
        && request.manager == last_applied::MANAGER
        && let Some(allowed) = last_applied::allowed_changes(request, &before)
    {
        let left = conflicts.without(&allowed);
        outcome = match left.is_empty() {
            true => attempt(request, &before, applied, managed, true),
            false => Err(Refusal::Conflicts(left)),
        };
    }
    let (changed, managed) = outcome?;
    let mut object = changed.unwrap_or(before);
    if request.manager == last_applied::MANAGER {
        last_applied::refresh(&mut object, applied);
    }
    managed::set_managed_fields(&mut object, managed.encode());
    Ok(object)
}

/// A new object of the type as it is written: what is held by value or required is there and empty
/// (`spec: {}`). Such fields are set by nobody, so objects being created are compared with this one.
pub fn empty_object(schema: &Schema, type_id: TypeId) -> Map<String, Value> {
    let mut object = Value::Object(Map::new());
    normalize(schema, type_id, &mut object);
    into_map(object)
}

fn into_map(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(), // everything has been taken out of it
    }
}

/// Refuses another kind, managedFields, and what does not fit the schema.
fn check_configuration(request: &Request<'_>, applied: &Value) -> Result<(), ApplyError> {
    let text = |name: &str| applied.get(name).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let described = format!("{group}/{version}, Kind={}", text("kind"));
    let gvk = &request.schema.type_def(request.type_id).gvk;
    let expected_kind = gvk.as_ref().is_none_or(|gvk| gvk.kind == text("kind"));
    if api_version != request.api_version || !expected_kind {
        return Err(ApplyError::BadRequest(format!("invalid object type: {described}")));
    }
    let metadata = |name: &str| applied.get("metadata").and_then(|metadata| metadata.get(name));
    if metadata("managedFields").is_some_and(|list| !list.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_string()));
    }
    let kind = FieldKind::Struct(request.type_id);
    validate::validate(Types::new(request.schema), &kind, applied).map_err(|error| {
        let meta = |name: &str| metadata(name).and_then(Value::as_str).unwrap_or_default();
        ApplyError::Internal(format!(
            "failed to create typed patch object ({}/{}; {described}): {error}",
            meta("namespace"),
            meta("name"),
        ))
    })
}

/// Nothing of the object is tracked yet: everything in it gets an owner.
fn own_what_was_there(
    request: &Request<'_>,
    managed: &mut Managed,
    empty: &Map<String, Value>,
    live: &Map<String, Value>,
) -> Result<(), ApplyError> {
    let mut changes = compare(request.schema, request.type_id, empty, live).map_err(|error| {
        ApplyError::Internal(format!("failed to create manager for existing fields: {error}"))
    })?;
    changes.filter(request.filter);
    let key = ManagerKey::new(
        BEFORE_FIRST_APPLY,
        Operation::Update,
        request.api_version,
        request.subresource,
    );
    update::record_update(managed, key, request, changes);
    Ok(())
}

enum Refusal {
    Conflicts(Conflicts),
    Internal(String),
}

impl From<Refusal> for ApplyError {
    fn from(refusal: Refusal) -> ApplyError {
        match refusal {
            Refusal::Conflicts(conflicts) => ApplyError::Conflicts(conflicts),
            Refusal::Internal(error) => ApplyError::Internal(error),
        }
    }
}

/// Merges, prunes, and settles the ownership. The object is `None` when it stays as it is.
fn attempt(
    request: &Request<'_>,
    live: &Map<String, Value>,
    applied: &Value,
    mut managed: Managed,
    force: bool,
) -> Result<(Option<Map<String, Value>>, Managed), Refusal> {
    let internal = |what: &str, error: String| Refusal::Internal(format!("{what}: {error}"));
    let types = Types::new(request.schema);
    let kind = &FieldKind::Struct(request.type_id);
    let live_value = Value::Object(live.clone());
    let merged = merge::merge(types, kind, &live_value, applied)
        .map_err(|error| internal("failed to merge config", error))?;
    let mut set = field_set_of(types, kind, applied);
    request.filter.apply(&mut set);

    let key = ManagerKey::new(
        request.manager,
        Operation::Apply,
        request.api_version,
        request.subresource,
    );
    let previous = managed.entries.remove(&key);
    let entry = Entry {
        api_version: request.api_version.to_string(),
        time: previous.as_ref().and_then(|entry| entry.time.clone()),
        set,
    };
    managed.entries.insert(key.clone(), entry);
    let last_set = previous.map(|entry| entry.set).unwrap_or_default();
    let new = prune(types, kind, merged, &managed, &key, &last_set);

    let changed = !value::equal(&live_value, &new);
    let new = into_map(new);
    let mut changes = compare(request.schema, request.type_id, live, &new)
        .map_err(|error| internal("failed to compare objects", error))?;
    changes.filter(request.filter);
    settle(&mut managed, &key, changes, force)?;
    if let Some(entry) = managed.entries.get_mut(&key) {
        entry.set.subtract(never_owned());
        if changed {
            entry.time = Some(request.now.to_string());
        }
    }
    managed.drop_empty();
    Ok((changed.then_some(new), managed))
}

/// Takes what changed away from the other managers, if that is allowed.
fn settle(
    managed: &mut Managed,
    key: &ManagerKey,
    changes: compare::Comparison,
    force: bool,
) -> Result<(), Refusal> {
    let mut set_anew = changes.added;
    set_anew.merge(changes.modified);
    let others = || managed.entries.iter().filter(|(other, _)| *other != key);
    if !force {
        let conflicts = Conflicts::between(others(), &set_anew);
        if !conflicts.is_empty() {
            return Err(Refusal::Conflicts(conflicts));
        }
    }
    for (other, entry) in &mut managed.entries {
        if other != key {
            entry.set.subtract(&set_anew);
            entry.set.subtract(&changes.removed);
        }
    }
    managed.drop_empty();
    Ok(())
}

/// Removes what the manager owned last time, does not say now, and nobody else owns.
fn prune(
    types: Types<'_>,
    kind: &FieldKind,
    merged: Value,
    managed: &Managed,
    key: &ManagerKey,
    last_set: &FieldSet,
) -> Value {
    let mut given_up = last_set.clone();
    if let Some(entry) = managed.entries.get(key) {
        given_up.subtract(&entry.set);
    }
    if given_up.is_empty() {
        return merged;
    }
    let named = |set: &FieldSet| with_named_fields(types, kind, set);
    let set_of = |value: &Value| named(&field_set_of(types, kind, value));
    let last_set = named(last_set);
    let merged_set = set_of(&merged);

    // Everything of last time goes, …
    let pruned = merge::remove(types, kind, &merged, &last_set);
    // … what anybody owns now comes back, …
    let mut gone = merged_set.clone();
    gone.subtract(&set_of(&pruned));
    for entry in managed.entries.values() {
        gone.subtract(&named(&entry.set));
    }
    let pruned = merge::remove(types, kind, &merged, &gone);
    // … and so does what was only below something removed, and not the manager's.
    let mut gone = merged_set;
    gone.subtract(&set_of(&pruned));
    merge::remove(types, kind, &merged, &gone.intersection(&last_set))
}

/// Fields that are never in managedFields: the server sets them, or they name the object.
fn never_owned() -> &'static FieldSet {
    static NEVER_OWNED: OnceLock<FieldSet> = OnceLock::new();
    NEVER_OWNED.get_or_init(|| {
        FieldSet::of_fields(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    })
}

#[cfg(test)]
mod tests;
