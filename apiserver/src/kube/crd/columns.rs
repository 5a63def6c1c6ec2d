//! The columns that a definition gives to people.

use serde_json::{Value, json};

use super::json_path::JsonPath;
use super::word;
use crate::kube::discovery::openapi;
use crate::kube::object::{self, Object};
use crate::kube::table::age_of_time;

/// One of `additionalPrinterColumns`.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<JsonPath>,
}

impl Column {
    pub(super) fn read(column: &Value) -> Column {
        let path = word(column, "jsonPath");
        let description = match word(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            text => text.to_owned(),
        };
        Column {
            name: word(column, "name").to_owned(),
            kind: word(column, "type").to_owned(),
            format: word(column, "format").to_owned(),
            description,
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: JsonPath::parse(path),
        }
    }

    /// The column of a resource that gives none.
    pub(super) fn age() -> Column {
        const PATH: &str = ".metadata.creationTimestamp";
        Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: description_of("creationTimestamp"),
            priority: 0,
            path: JsonPath::parse(PATH),
        }
    }

    fn cell(&self, object: &Value, now_unix_seconds: i64) -> Value {
        let Some(path) = &self.path else { return Value::Null };
        let found = path.find_all(object);
        let Some(first) = found.first().filter(|value| !value.is_null()) else {
            return Value::Null;
        };
        match (self.kind.as_str(), *first) {
            ("integer", Value::Number(number)) => number
                .as_i64()
                .or(number.as_f64().map(|n| n as i64))
                .map_or(Value::Null, Value::from),
            ("number", Value::Number(number)) => Value::Number(number.clone()),
            ("boolean", Value::Bool(value)) => Value::Bool(*value),
            ("date", Value::String(time)) => age_of_time(time, now_unix_seconds).into(),
            ("string", _) => {
                let texts: Vec<String> = found.iter().map(|value| text(value)).collect();
                texts.join(",").into()
            }
            _ => Value::Null,
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn description_of(field: &str) -> String {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    openapi::field_description(META, field).unwrap_or("").to_owned()
}

/// `columnDefinitions` of a table.
pub fn definitions(columns: &[Column]) -> Value {
    let mut list = vec![json!({
        "name": "Name", "type": "string", "format": "name", "description": description_of("name"),
        "priority": 0,
    })];
    list.extend(columns.iter().map(|column| {
        json!({
            "name": column.name, "type": column.kind, "format": column.format,
            "description": column.description, "priority": column.priority,
        })
    }));
    list.into()
}

/// The cells of one object.
pub fn cells(columns: &[Column], object: &Object, now_unix_seconds: i64) -> Vec<Value> {
    let value = Value::Object(object.clone());
    let mut cells = vec![object::name(object).into()];
    cells.extend(columns.iter().map(|column| column.cell(&value, now_unix_seconds)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn cells_follow_their_types() {
        let object = into_object(json!({"metadata": {"name": "x"},
            "spec": {"color": "red", "size": 3, "tags": ["a", "b"], "on": true}}));
        for (kind, path, expected) in [
            ("string", ".spec.color", json!("red")),
            ("integer", ".spec.size", json!(3)),
            ("string", ".spec.tags", json!("[\"a\",\"b\"]")),
            ("string", ".spec.tags[*]", json!("a,b")),
            ("boolean", ".spec.on", json!(true)),
            ("boolean", ".spec.nope", json!(null)),
            ("integer", ".spec.color", json!(null)),
        ] {
            let column = Column::read(&json!({"name": "C", "type": kind, "jsonPath": path}));
            let row = cells(&[column], &object, 0);
            assert_eq!(row, [json!("x"), expected], "{kind} {path}");
        }
    }
}
