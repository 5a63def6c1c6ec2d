//! A place in an object: the value there, and the path that messages name it by.

use serde_json::Value;

use crate::kube::object::Object;
use crate::kube::status::FieldError;

/// The rules that a write breaks, in the order in which they are told.
pub type Errors = Vec<FieldError>;

static NOTHING: Value = Value::Null;

/// A value, with its path. Nothing is there as null.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Place<'a> {
    /// A field of an object's top level.
    pub fn of(object: &'a Object, name: &str) -> Place<'a> {
        Place { path: name.to_owned(), value: object.get(name).unwrap_or(&NOTHING) }
    }

    /// A value whose path is told.
    pub fn at(path: impl Into<String>, value: &'a Value) -> Place<'a> {
        Place { path: path.into(), value }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// A field of this structure.
    pub fn child(&self, name: &str) -> Place<'a> {
        let path = format!("{}.{name}", self.path);
        Place { path, value: self.value.get(name).unwrap_or(&NOTHING) }
    }

    /// A field that lies deeper.
    pub fn below(&self, names: &[&str]) -> Place<'a> {
        names.iter().fold(self.clone(), |place, name| place.child(name))
    }

    /// The same value, called otherwise.
    pub fn called(&self, path: impl Into<String>) -> Place<'a> {
        Place { path: path.into(), value: self.value }
    }

    /// The elements of this list.
    pub fn items(&self) -> Vec<Place<'a>> {
        let elements = self.value.as_array().map_or(&[][..], Vec::as_slice);
        let place = |(index, value)| Place { path: format!("{}[{index}]", self.path), value };
        elements.iter().enumerate().map(place).collect()
    }

    /// The entries of this map, by key.
    pub fn entries(&self) -> Vec<(&'a str, Place<'a>)> {
        let Some(map) = self.value.as_object() else { return Vec::new() };
        map.iter()
            .map(|(key, value)| {
                (key.as_str(), Place { path: format!("{}[{key}]", self.path), value })
            })
            .collect()
    }

    /// The texts of this list.
    pub fn texts(&self) -> Vec<&'a str> {
        let elements = self.value.as_array().map_or(&[][..], Vec::as_slice);
        elements.iter().map(|value| value.as_str().unwrap_or("")).collect()
    }

    pub fn map(&self) -> Option<&'a Object> {
        self.value.as_object()
    }

    /// Whether something is there.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether nothing is there, or an empty text, list or map.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// How many elements a list or a map has.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    /// The text there, or the empty one.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    pub fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The number there, or 0.
    pub fn number_or_zero(&self) -> i64 {
        self.value.as_i64().unwrap_or(0)
    }

    /// Whether `true` is there.
    pub fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    /// Whether `false` is there, not nothing.
    pub fn is_false(&self) -> bool {
        self.value == &Value::Bool(false)
    }

    pub fn required(&self, why: &str) -> FieldError {
        FieldError::required(&self.path, why)
    }

    /// The value as it is breaks a rule.
    pub fn invalid(&self, why: impl std::fmt::Display) -> FieldError {
        FieldError::invalid(&self.path, self.value.clone(), why)
    }

    /// The text, empty when there is none, breaks a rule.
    pub fn invalid_text(&self, why: impl std::fmt::Display) -> FieldError {
        FieldError::invalid(&self.path, self.text(), why)
    }

    /// The number, 0 when there is none, breaks a rule.
    pub fn invalid_number(&self, why: impl std::fmt::Display) -> FieldError {
        FieldError::invalid(&self.path, self.number_or_zero(), why)
    }

    /// A rule is broken by something else than the value here, which is shown instead.
    pub fn invalid_as(&self, shown: impl Into<Value>, why: impl std::fmt::Display) -> FieldError {
        FieldError::invalid(&self.path, shown, why)
    }

    /// A rule is broken by something that is not shown.
    pub fn invalid_unshown(&self, why: impl std::fmt::Display) -> FieldError {
        FieldError::invalid_unshown(&self.path, why)
    }

    pub fn forbidden(&self, why: impl std::fmt::Display) -> FieldError {
        FieldError::forbidden(&self.path, why)
    }

    /// The text is none of these.
    pub fn unsupported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&self.path, self.text(), supported)
    }

    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.value.clone())
    }

    /// Something told twice, shown as `shown`.
    pub fn duplicate_of(&self, shown: impl Into<Value>) -> FieldError {
        FieldError::duplicate(&self.path, shown)
    }

    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path, self.text())
    }

    pub fn too_long(&self, limit_bytes: usize) -> FieldError {
        FieldError::too_long(&self.path, limit_bytes)
    }

    pub fn too_many(&self, limit: usize) -> FieldError {
        FieldError::too_many(&self.path, self.len(), limit)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn places_know_their_paths() {
        let object = into_object(json!({"spec": {"a": [{"b": 1}, {"b": null}], "m": {"k": "v"}}}));
        let spec = Place::of(&object, "spec");
        let items = spec.child("a").items();
        assert_eq!(items[1].child("b").path(), "spec.a[1].b");
        assert_eq!(items[0].child("b").number(), Some(1));
        assert!(!items[1].child("b").is_set());
        assert_eq!(spec.child("m").entries()[0].1.path(), "spec.m[k]");
        assert!(spec.below(&["x", "y"]).is_empty());
        assert_eq!(
            spec.below(&["m", "k"]).unsupported(&["a"]).message(),
            "Unsupported value: \"v\": supported values: \"a\""
        );
    }
}
