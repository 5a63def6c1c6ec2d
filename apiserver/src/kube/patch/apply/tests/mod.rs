//! Tests of server-side apply on a small schema: `scenarios` and `refusals` by hand,
//! `properties` at random.

mod properties;
mod refusals;
mod scenarios;

use super::*;
use crate::kube::patch::test_schema;
use serde_json::json;

const NOW: &str = "2030-01-01T00:00:00Z";
const LATER: &str = "2030-01-01T00:00:09Z";

fn schema() -> Schema {
    test_schema::schema(&[
        (
            "Thing",
            &[
                ("apiVersion", "string"),
                ("kind", "string"),
                ("metadata", "@value Meta"),
                ("data", "map string"),
                ("spec", "@value Spec"),
                ("status", "@value Status"),
            ],
        ),
        (
            "Meta",
            &[
                ("name", "string"),
                ("namespace", "string"),
                ("uid", "string"),
                ("resourceVersion", "string"),
                ("labels", "map string"),
                ("annotations", "map string"),
                ("finalizers", "set string"),
                ("managedFields", "list any"),
            ],
        ),
        (
            "Spec",
            &[
                ("replicas", "int32"),
                ("items", "@required list[name] Item"),
                ("ports", "list[port,protocol] Port"),
                ("selector", "Selector"),
                ("nodeSelector", "!map string"),
                ("tolerations", "list Item"),
                ("strategy", "@value Strategy"),
                ("raw", "any"),
                ("quantity", "quantity"),
                ("enabled", "boolean"),
            ],
        ),
        ("Item", &[("name", "@required string"), ("image", "string"), ("args", "list string")]),
        ("Port", &[("port", "int32"), ("protocol", "string"), ("name", "string")]),
        ("!Selector", &[("match", "map string")]),
        ("Strategy", &[("type", "string"), ("rolling", "Rolling")]),
        ("Rolling", &[("surge", "int-or-string")]),
        ("Status", &[("phase", "string")]),
    ])
}

/// A server of one object, enough to run scenarios.
struct World {
    schema: Schema,
    object: Option<Map<String, Value>>,
    now: &'static str,
}

impl World {
    fn new() -> World {
        World { schema: schema(), object: None, now: NOW }
    }

    fn request<'a>(&'a self, manager: &'a str) -> Request<'a> {
        Request {
            schema: &self.schema,
            type_id: test_schema::type_id(&self.schema, "Thing"),
            api_version: "v1",
            manager,
            subresource: "",
            now: self.now,
            filter: &FieldFilter::All,
        }
    }

    fn apply(&mut self, manager: &str, body: Value) -> Result<(), ApplyError> {
        self.apply_with(manager, body, false)
    }

    fn apply_with(&mut self, manager: &str, body: Value, force: bool) -> Result<(), ApplyError> {
        let body = configuration(body);
        self.object = Some(apply(&self.request(manager), self.object.as_ref(), &body, force)?);
        Ok(())
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        let schema = &self.schema;
        let old = self.object.clone();
        let old = old.unwrap_or_else(|| empty_object(schema, self.request("").type_id));
        let mut new = Value::Object(old);
        change(&mut new);
        let mut new = into_map(new);
        update_managed_fields(&self.request(manager), self.object.as_ref(), &mut new);
        let metadata = new.entry("metadata").or_insert(json!({}));
        metadata["uid"] = json!("u");
        self.object = Some(new);
    }

    fn value(&self) -> Value {
        Value::Object(self.object.clone().expect("an object"))
    }

    fn get(&self, pointer: &str) -> Value {
        self.value().pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    /// The entries, shortened to `manager operation time? set`.
    fn owners(&self) -> Vec<Value> {
        let list = self.get("/metadata/managedFields");
        let entries = list.as_array().into_iter().flatten();
        entries
            .map(|entry| json!([entry["manager"], entry["operation"], entry["fieldsV1"]]))
            .collect()
    }
}

fn configuration(mut body: Value) -> Value {
    body["apiVersion"] = json!("v1");
    body["kind"] = json!("Thing");
    body
}

fn message(result: Result<(), ApplyError>) -> String {
    result.expect_err("must be refused").to_string()
}
