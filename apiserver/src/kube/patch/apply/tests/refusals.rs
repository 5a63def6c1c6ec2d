use std::sync::Arc;

use serde_json::json;

use super::super::*;
use super::*;
use crate::kube::patch::limits::MAX_APPLY_PROBLEMS;
use crate::kube::patch::merge::apply as merge_patch;
use crate::kube::schema::{Field, GroupVersionKind, TypeDef};

#[test]
fn refuses_configurations_with_the_texts_of_kube_apiserver() {
    let internal = "failed to create typed patch object (/x; /v1, Kind=Thing): ";
    for (body, expected) in [
        (
            json!({"kind": "Other", "apiVersion": "v1"}),
            "invalid object type: /v1, Kind=Other".to_string(),
        ),
        (json!({"kind": null, "apiVersion": null}), "invalid object type: /, Kind=".to_string()),
        (json!({"apiVersion": "a/v2"}), "invalid object type: a/v2, Kind=Thing".to_string()),
        (
            json!({"metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil".to_string(),
        ),
        (
            json!({"data": {"a": 5}}),
            format!("{internal}.data.a: expected string, got &value.valueUnstructured{{Value:5}}"),
        ),
        (json!({"datum": {}}), format!("{internal}.datum: field not declared in schema")),
        (
            json!({"spec": {"replicas": "x", "enabled": "x"}}),
            format!(
                "{internal}errors:\n  .spec.enabled: expected boolean, got &{{x}}\n  .spec.replicas: expected numeric (int or float), got string"
            ),
        ),
        (
            json!({"spec": {"items": [{"name": "a"}, {"name": "a"}]}}),
            format!("{internal}.spec.items: duplicate entries for key [name=\"a\"]"),
        ),
        (
            json!({"spec": {"items": [{"image": "a"}]}}),
            format!(
                "{internal}.spec.items: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)"
            ),
        ),
        (
            json!({"spec": {"items": {}}}),
            format!("{internal}.spec.items: expected list, got &{{map[]}}"),
        ),
        (
            json!({"spec": {"strategy": [1]}}),
            format!("{internal}.spec.strategy: expected map, got &{{[1]}}"),
        ),
        (
            json!({"spec": {"tolerations": [{"nope": 1}]}}),
            format!("{internal}.spec.tolerations[0].nope: field not declared in schema"),
        ),
    ] {
        let schema = with_kind(schema());
        let world = World::new();
        let mut applied = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}});
        merge_patch(&mut applied, body.clone()).expect("a merge patch");
        let request = Request { schema: &schema, ..world.request("m1") };
        let error = apply(&request, None, &applied, false).expect_err("must be refused");
        assert_eq!(error.to_string(), expected, "{body}");
    }
}

/// The table with the kind of `Thing` in it.
fn with_kind(schema: Schema) -> Schema {
    let gvk = GroupVersionKind {
        group: String::new(),
        version: "v1".to_string(),
        kind: "Thing".to_string(),
    };
    let types = schema.types().iter().map(|row| {
        if row.name != "test.Thing" {
            return row.clone();
        }
        let fields = row.fields.iter().map(|field| Field {
            by_value: field.by_value,
            ..Field::new(&field.json_name, field.kind.clone())
        });
        Arc::new(TypeDef {
            name: row.name.clone(),
            fields: fields.collect(),
            gvk: Some(gvk.clone()),
            atomic: row.atomic,
            open: row.open,
        })
    });
    Schema::new(types.collect(), Vec::new())
}

#[test]
fn tells_no_more_than_a_hundred_problems() {
    let world = World::new();
    let data: Map<String, Value> = (0..1000).map(|n| (n.to_string(), json!(n))).collect();
    let applied = configuration(json!({"data": data}));
    let error = apply(&world.request("m1"), None, &applied, false).expect_err("must be refused");
    assert_eq!(error.to_string().lines().count(), 1 + MAX_APPLY_PROBLEMS);
}
