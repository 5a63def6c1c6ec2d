//! Objects as trees of JSON, and the few fields that every object has.

use serde_json::{Map, Value};

/// An object's top level.
pub type Object = Map<String, Value>;

/// `metadata`, made when absent.
pub fn metadata_mut(object: &mut Object) -> &mut Object {
    map_mut(object, "metadata")
}

/// A field that is an object, made when it is absent or null.
pub fn map_mut<'a>(object: &'a mut Object, name: &str) -> &'a mut Object {
    let field = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !field.is_object() {
        *field = Value::Object(Map::new());
    }
    match field {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// `metadata`, when there is one.
pub fn metadata(object: &Object) -> Option<&Object> {
    map(object, "metadata")
}

pub fn map<'a>(object: &'a Object, name: &str) -> Option<&'a Object> {
    object.get(name).and_then(Value::as_object)
}

/// A field that is a list; empty when absent.
pub fn list<'a>(object: &'a Object, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text field; empty when absent.
pub fn text<'a>(object: &'a Object, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A text field of `metadata`; empty when absent.
pub fn meta_text<'a>(object: &'a Object, name: &str) -> &'a str {
    metadata(object).map_or("", |metadata| text(metadata, name))
}

pub fn name(object: &Object) -> &str {
    meta_text(object, "name")
}

pub fn namespace(object: &Object) -> &str {
    meta_text(object, "namespace")
}

pub fn uid(object: &Object) -> &str {
    meta_text(object, "uid")
}

pub fn labels(object: &Object) -> Option<&Object> {
    metadata(object).and_then(|metadata| map(metadata, "labels"))
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Object) -> Vec<String> {
    let list = metadata(object).map_or(&[][..], |metadata| list(metadata, "finalizers"));
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub fn is_being_deleted(object: &Object) -> bool {
    metadata(object).is_some_and(|metadata| {
        metadata.get("deletionTimestamp").is_some_and(|value| !value.is_null())
    })
}

/// Sets a field unless it has a value already (null is none).
pub fn default(object: &mut Object, name: &str, value: impl Into<Value>) {
    let absent = object.get(name).is_none_or(Value::is_null);
    if absent {
        object.insert(name.to_owned(), value.into());
    }
}

/// Like [`default`], the empty text being none either.
pub fn default_text(object: &mut Object, name: &str, value: &str) {
    let absent = object.get(name).is_none_or(|v| v.is_null() || v.as_str() == Some(""));
    if absent {
        object.insert(name.to_owned(), value.into());
    }
}

/// The value at a path of object fields.
pub fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(*first)?, |value, name| value.get(name))
}

/// The text at a path of object fields; empty when there is none.
pub fn text_at<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}

/// The number at a path of object fields; 0 when there is none.
pub fn integer_at(object: &Object, path: &[&str]) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// The list at a path of object fields; empty when there is none.
pub fn list_at<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Takes `name` over from another object, absence too.
pub fn copy_field(from: &Object, to: &mut Object, name: &str) {
    match from.get(name) {
        Some(value) => to.insert(name.to_owned(), value.clone()),
        None => to.remove(name),
    };
}

/// Whether two fields hold the same, an absent, a null and an empty one being equal.
pub fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    fn empty(value: Option<&Value>) -> bool {
        match value {
            None | Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(_) => false,
        }
    }
    left == right || (empty(left) && empty(right))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_and_defaults() {
        let Value::Object(mut object) = json!({"a": {"b": {"c": "x"}}, "n": null, "e": ""}) else {
            unreachable!("an object is written above")
        };
        assert_eq!(text_at(&object, &["a", "b", "c"]), "x");
        assert_eq!(text_at(&object, &["a", "z", "c"]), "");
        default(&mut object, "n", 1);
        default_text(&mut object, "e", "y");
        default(&mut object, "a", 2);
        assert_eq!(object["n"], 1);
        assert_eq!(object["e"], "y");
        assert!(object["a"].is_object());
        assert!(same(None, Some(&json!({}))));
        assert!(!same(None, Some(&json!(""))));
    }
}
