//! JSON patch (RFC 6902) as kube-apiserver applies it: negative indexes count from the end,
//! `replace` on an absent field of an object adds it, and an absent value reads as null.

use serde_json::{Map, Value};
use thiserror::Error;

use super::depth::nests_at_most;
use super::go_format::json_kind;
use super::limits::{
    MAX_JSON_PATCH_COPY_BYTES, MAX_JSON_PATCH_DEPTH, MAX_JSON_PATCH_OPERATIONS, MAX_JSON_PATCH_WORK,
};

/// Why a JSON patch was refused. The document is not changed then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonPatchError {
    /// The patch is not a list of objects. kube-apiserver answers 400 with this text.
    #[error("{0}")]
    Decode(String),
    /// Answered with 413.
    #[error(
        "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {0}"
    )]
    TooManyOperations(usize),
    /// An operation does not apply. kube-apiserver answers 422 with [`UNPROCESSABLE_MESSAGE`]
    /// and keeps this text to itself.
    #[error("{0}")]
    DoesNotApply(String),
}

/// The message of a 422 answer whose cause is not told.
pub const UNPROCESSABLE_MESSAGE: &str =
    "the server rejected our request due to an error in our request";

/// Applies the operations in order and gives the new document.
pub fn apply(document: &Value, patch: &Value) -> Result<Value, JsonPatchError> {
    let operations = match patch {
        Value::Array(operations) => operations.as_slice(),
        Value::Null => &[],
        other => return Err(cannot_unmarshal("error decoding patch: ", other, "[]interface {}")),
    };
    for operation in operations {
        if !operation.is_object() && !operation.is_null() {
            return Err(cannot_unmarshal("", operation, "jsonpatch.Operation"));
        }
    }
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    let nothing = Map::new();
    let mut run = Run { document: document.clone(), copied_bytes: 0, work: 0 };
    for operation in operations {
        let fields = operation.as_object().unwrap_or(&nothing);
        run.step(&Operation { fields }).map_err(JsonPatchError::DoesNotApply)?;
    }
    Ok(run.document)
}

fn cannot_unmarshal(prefix: &str, value: &Value, go_type: &str) -> JsonPatchError {
    let kind = json_kind(value);
    JsonPatchError::Decode(format!(
        "{prefix}json: cannot unmarshal {kind} into Go value of type {go_type}"
    ))
}

/// One operation: its fields are looked at only when needed, as wrong ones may go unnoticed.
struct Operation<'a> {
    fields: &'a Map<String, Value>,
}

impl Operation<'_> {
    fn kind(&self) -> &str {
        match self.fields.get("op") {
            Some(Value::String(kind)) => kind,
            _ => "unknown",
        }
    }

    fn pointer(&self, field: &str) -> Result<&str, String> {
        match self.fields.get(field) {
            Some(Value::String(pointer)) => Ok(pointer),
            _ => Err(format!("{} operation failed to decode {field}: missing value", self.kind())),
        }
    }

    fn value(&self) -> Value {
        self.fields.get("value").cloned().unwrap_or(Value::Null)
    }
}

struct Run {
    document: Value,
    copied_bytes: usize,
    /// Values looked at or shifted so far.
    work: usize,
}

impl Run {
    fn step(&mut self, operation: &Operation<'_>) -> Result<(), String> {
        match operation.kind() {
            "add" => {
                let path = operation.pointer("path")?;
                self.add("add", path, operation.value())
            }
            "remove" => {
                let path = operation.pointer("path")?;
                self.remove("remove", path).map(drop)
            }
            "replace" => self.replace(operation),
            "move" => {
                let value = self.remove("move", operation.pointer("from")?)?;
                self.add("move", operation.pointer("path")?, value)
            }
            "copy" => self.copy(operation),
            "test" => self.test(operation),
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    /// Counts work, and refuses too much of it.
    fn spend(&mut self, values: usize) -> Result<(), String> {
        self.work = self.work.saturating_add(values);
        if self.work > MAX_JSON_PATCH_WORK {
            return Err("the operations move too many values".to_string());
        }
        Ok(())
    }

    /// Refuses a value that would nest too deeply at the path.
    fn check_depth(&mut self, path: &str, value: &Value) -> Result<(), String> {
        let levels = path.matches('/').count();
        let mut looked_at = 0;
        let fits = levels <= MAX_JSON_PATCH_DEPTH
            && nests_at_most(value, MAX_JSON_PATCH_DEPTH - levels, &mut looked_at);
        self.spend(looked_at)?;
        match fits {
            true => Ok(()),
            false => Err(format!("the value at path '{path}' nests: exceeded max depth")),
        }
    }

    fn add(&mut self, kind: &str, path: &str, value: Value) -> Result<(), String> {
        self.check_depth(path, &value)?;
        let (parent, key) = self.parent_mut(kind, path)?;
        match parent {
            Value::Object(fields) => {
                fields.insert(key, value);
            }
            Value::Array(items) if key == "-" => items.push(value),
            Value::Array(items) => {
                let index = position(&key, items.len() + 1)
                    .map_err(|error| format!("error in {kind} for path: '{path}': {error}"))?;
                items.insert(index, value);
                let shifted = items.len() - index;
                self.spend(shifted)?;
            }
            _ => return Err(missing(kind, path)),
        }
        Ok(())
    }

    fn remove(&mut self, kind: &str, path: &str) -> Result<Value, String> {
        let (parent, key) = self.parent_mut(kind, path)?;
        let mut shifted = 0;
        let removed = match parent {
            Value::Object(fields) => fields
                .remove(&key)
                .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
            Value::Array(items) => position(&key, items.len()).map(|index| {
                shifted = items.len() - index;
                items.remove(index)
            }),
            _ => return Err(missing(kind, path)),
        };
        self.spend(shifted)?;
        removed.map_err(|error| format!("error in {kind} for path: '{path}': {error}"))
    }

    fn replace(&mut self, operation: &Operation<'_>) -> Result<(), String> {
        let path = operation.pointer("path")?;
        let value = operation.value();
        self.check_depth(path, &value)?;
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err("replace operation value must be object or array".to_string());
            }
            self.document = value;
            return Ok(());
        }
        let (parent, key) = self.parent_mut("replace", path)?;
        match parent {
            Value::Object(fields) => {
                fields.insert(key, value);
            }
            Value::Array(items) => {
                let index = position(&key, items.len()).map_err(|_| {
                    format!("replace operation does not apply: doc is missing key: {path}: missing value")
                })?;
                items[index] = value;
            }
            _ => return Err(missing("replace", path)),
        }
        Ok(())
    }

    fn copy(&mut self, operation: &Operation<'_>) -> Result<(), String> {
        let value = self.read("copy", operation.pointer("from")?)?.clone();
        let path = operation.pointer("path")?;
        if !value.is_null() {
            self.copied_bytes += json_len(&value);
        }
        if self.copied_bytes > MAX_JSON_PATCH_COPY_BYTES {
            return Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_JSON_PATCH_COPY_BYTES}",
                self.copied_bytes
            ));
        }
        self.add("copy", path, value)
    }

    fn test(&self, operation: &Operation<'_>) -> Result<(), String> {
        let path = operation.pointer("path")?;
        let found = match path {
            "" => &self.document,
            path => self.read("test", path)?,
        };
        if *found == operation.value() {
            return Ok(());
        }
        Err(format!("testing value {path} failed: test failed"))
    }

    /// The value at a pointer; an absent field of an object reads as null.
    fn read(&self, kind: &str, path: &str) -> Result<&Value, String> {
        let (above, key) = split(path).ok_or_else(|| missing(kind, path))?;
        let mut parent = &self.document;
        for part in above {
            parent = child(parent, &part).ok_or_else(|| missing(kind, path))?;
        }
        match parent {
            Value::Object(fields) => Ok(fields.get(&key).unwrap_or(&Value::Null)),
            Value::Array(items) => position(&key, items.len())
                .map(|index| &items[index])
                .map_err(|error| format!("error in {kind} for path: '{path}': {error}")),
            _ => Err(missing(kind, path)),
        }
    }

    /// What holds the last part of the pointer, and that part.
    fn parent_mut(&mut self, kind: &str, path: &str) -> Result<(&mut Value, String), String> {
        let (above, key) = split(path).ok_or_else(|| missing(kind, path))?;
        let mut parent = &mut self.document;
        for part in above {
            parent = child_mut(parent, &part).ok_or_else(|| missing(kind, path))?;
        }
        Ok((parent, key))
    }
}

fn missing(kind: &str, path: &str) -> String {
    format!("{kind} operation does not apply: doc is missing path: \"{path}\": missing value")
}

/// The parts before the last, and the last; `None` for the document itself.
fn split(path: &str) -> Option<(Vec<String>, String)> {
    let mut parts: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let key = parts.pop()?;
    Some((parts, key))
}

fn unescape(part: &str) -> String {
    // In this order, "~01" gives "~1".
    part.replace("~1", "/").replace("~0", "~")
}

fn child<'a>(parent: &'a Value, key: &str) -> Option<&'a Value> {
    match parent {
        Value::Object(fields) => fields.get(key),
        Value::Array(items) => items.get(position(key, items.len()).ok()?),
        _ => None,
    }
}

fn child_mut<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match parent {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => {
            let index = position(key, items.len()).ok()?;
            items.get_mut(index)
        }
        _ => None,
    }
}

/// The index below `limit` that the part names; negative ones count from the end.
fn position(key: &str, limit: usize) -> Result<usize, String> {
    let index: i64 =
        key.parse().map_err(|_| format!("strconv.Atoi: parsing \"{key}\": invalid syntax"))?;
    let invalid = || format!("Unable to access invalid index: {index}: invalid index referenced");
    let from_start = if index < 0 {
        index.checked_add_unsigned(limit as u64).ok_or_else(invalid)?
    } else {
        index
    };
    match usize::try_from(from_start) {
        Ok(place) if place < limit => Ok(place),
        _ => Err(invalid()),
    }
}

/// The length of the value written as JSON.
fn json_len(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("a JSON value can be written as JSON");
    count.0
}

#[cfg(test)]
mod tests;
