//! The entries of `metadata.managedFields`: who set which fields, how and when.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::compare::fit_to_table;
use super::field_set::FieldSet;
use super::fields_v1;
use super::shape::Types;
use crate::kube::patch::limits::MAX_UPDATE_MANAGERS;
use crate::kube::schema::{FieldKind, Schema, TypeId};

/// Who takes over what the oldest updaters own when there are too many of them.
const ANCIENT_CHANGES: &str = "ancient-changes";

/// How fields were set. In the order of the written list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }

    fn parse(name: &str) -> Option<Operation> {
        match name {
            "Apply" => Some(Operation::Apply),
            "Update" => Some(Operation::Update),
            _ => None,
        }
    }
}

/// What entries are told apart by. Appliers keep their entry from version to version, so their
/// `api_version` here is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ManagerKey {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl ManagerKey {
    pub(super) fn new(
        manager: &str,
        operation: Operation,
        api_version: &str,
        subresource: &str,
    ) -> ManagerKey {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        let api_version = match operation {
            Operation::Apply => "",
            Operation::Update => api_version,
        };
        ManagerKey {
            manager: manager.to_string(),
            operation,
            api_version: api_version.to_string(),
            subresource: subresource.to_string(),
        }
    }
}

/// As conflicts name a manager: `"kubectl" with subresource "scale" using apps/v1`.
impl std::fmt::Display for ManagerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) api_version: String,
    /// RFC 3339; an applier that changed nothing never got one.
    pub(super) time: Option<String>,
    pub(super) set: FieldSet,
}

/// All entries of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Managed {
    pub(super) entries: BTreeMap<ManagerKey, Entry>,
}

/// `metadata.managedFields` of an object.
pub(super) fn managed_fields_of(object: &Map<String, Value>) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// Sets or, with `None`, removes `metadata.managedFields`.
pub(super) fn set_managed_fields(object: &mut Map<String, Value>, managed_fields: Option<Value>) {
    if managed_fields.is_some() {
        object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match managed_fields {
        Some(list) => metadata.insert("managedFields".to_string(), list),
        None => metadata.remove("managedFields"),
    };
}

impl Managed {
    /// Reads the list; an error says what is wrong with it.
    pub(super) fn decode(list: Option<&Value>) -> Result<Managed, String> {
        let mut managed = Managed::default();
        let entries = match list {
            None | Some(Value::Null) => return Ok(managed),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields must be a list".to_string()),
        };
        for (index, entry) in entries.iter().enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let operation = Operation::parse(text("operation"))
                .ok_or_else(|| "operation must be `Apply` or `Update`".to_string())?;
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_string());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => {
                    return Err(format!("missing fieldsType in managed fields entry {index}"));
                }
                other => {
                    return Err(format!(
                        "invalid fieldsType {other:?} in managed fields entry {index}"
                    ));
                }
            }
            let set = fields_v1::decode(entry.get("fieldsV1").unwrap_or(&Value::Null)).ok_or_else(
                || format!("fieldsV1 of managed fields entry {index} is not a field set"),
            )?;
            let mut key =
                ManagerKey::new(text("manager"), operation, api_version, text("subresource"));
            // Unlike a request's, an entry's empty name stays.
            key.manager = text("manager").to_string();
            let time = entry.get("time").and_then(Value::as_str).map(str::to_string);
            let entry = Entry { api_version: api_version.to_string(), time, set };
            managed.entries.insert(key, entry);
        }
        Ok(managed)
    }

    /// The written list, sorted; `None` when there is nothing to write.
    pub(super) fn encode(&self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        let mut entries: Vec<(&ManagerKey, &Entry)> = self.entries.iter().collect();
        entries.sort_by(|(left_key, left), (right_key, right)| {
            let sort_key = |key: &'_ ManagerKey| key.operation;
            sort_key(left_key)
                .cmp(&sort_key(right_key))
                .then_with(|| left.time.cmp(&right.time))
                .then_with(|| left_key.manager.cmp(&right_key.manager))
                .then_with(|| left.api_version.cmp(&right.api_version))
                .then_with(|| left_key.subresource.cmp(&right_key.subresource))
        });
        let list = entries.into_iter().map(|(key, entry)| encode_entry(key, entry));
        Some(Value::Array(list.collect()))
    }

    /// See [`fit_to_table`].
    pub(super) fn fit_to_table(&mut self, schema: &Schema, type_id: TypeId) {
        let kind = FieldKind::Struct(type_id);
        for entry in self.entries.values_mut() {
            fit_to_table(Types::new(schema), &kind, &mut entry.set);
        }
    }

    pub(super) fn drop_empty(&mut self) {
        self.entries.retain(|_, entry| !entry.set.is_empty());
    }

    /// Merges the oldest updaters of each version into one until few enough are left.
    pub(super) fn cap_updaters(&mut self) {
        let mut updaters: Vec<(Option<String>, ManagerKey)> = self
            .entries
            .iter()
            .filter(|(key, _)| key.operation == Operation::Update)
            .map(|(key, entry)| (entry.time.clone(), key.clone()))
            .collect();
        let mut count = updaters.len();
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        updaters.sort();
        let mut first_of_version: BTreeMap<String, ManagerKey> = BTreeMap::new();
        for (time, key) in updaters {
            if count <= MAX_UPDATE_MANAGERS {
                break;
            }
            let Some(first) = first_of_version.get(&key.api_version) else {
                first_of_version.insert(key.api_version.clone(), key);
                continue;
            };
            let bucket = ManagerKey::new(ANCIENT_CHANGES, Operation::Update, &key.api_version, "");
            if !self.entries.contains_key(&bucket)
                && let Some(oldest) = self.entries.remove(first)
            {
                self.entries.insert(bucket.clone(), oldest);
            }
            if bucket != key
                && let Some(merged) = self.entries.remove(&key)
                && let Some(entry) = self.entries.get_mut(&bucket)
            {
                entry.set.merge(merged.set);
                entry.time = time;
                count -= 1;
            }
        }
    }
}

fn encode_entry(key: &ManagerKey, entry: &Entry) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_string(), value);
    put("manager", Value::from(key.manager.as_str()));
    put("operation", Value::from(key.operation.name()));
    put("apiVersion", Value::from(entry.api_version.as_str()));
    if let Some(time) = &entry.time {
        put("time", Value::from(time.as_str()));
    }
    put("fieldsType", Value::from("FieldsV1"));
    put("fieldsV1", fields_v1::encode(&entry.set));
    if !key.subresource.is_empty() {
        put("subresource", Value::from(key.subresource.as_str()));
    }
    Value::Object(fields)
}

/// The name of a manager that did not give one: the user agent up to the first slash.
pub fn manager_of_user_agent(user_agent: &str) -> String {
    let mut manager = String::new();
    let name = user_agent.split('/').next().unwrap_or_default();
    for character in name.chars().filter(|character| !character.is_control()) {
        if manager.len() + character.len_utf8() > crate::kube::patch::limits::MAX_MANAGER_BYTES {
            break;
        }
        manager.push(character);
    }
    manager
}
