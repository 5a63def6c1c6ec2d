use super::super::{merge, test_schema};
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn schema() -> Schema {
    test_schema::schema(&[
        (
            "Root",
            &[
                ("metadata", "Meta"),
                ("spec", "Spec"),
                ("plain", "list Item"),
                ("keyless", "@merge list Item"),
            ],
        ),
        (
            "Meta",
            &[("finalizers", "@merge set string"), ("labels", "map string"), ("nested", "map any")],
        ),
        (
            "Spec",
            &[
                ("items", "@merge(name) list[name] Item"),
                ("ports", "@merge(port) list[port] Port"),
                ("strategy", "@retain Strategy"),
                ("replicas", "int32"),
            ],
        ),
        (
            "Item",
            &[("name", "string"), ("image", "string"), ("env", "@merge(name) list[name] Item")],
        ),
        ("Port", &[("port", "int32"), ("name", "string")]),
        ("Strategy", &[("type", "string"), ("rolling", "Item")]),
    ])
}

fn run(document: Value, patch: Value) -> Result<Value, StrategicError> {
    let schema = schema();
    apply(&schema, test_schema::type_id(&schema, "Root"), document, patch)
}

#[test]
fn merges_by_the_table() {
    let ab = || json!({"spec": {"items": [{"name": "a", "image": "1"}, {"name": "b"}]}});
    for (case, document, patch, expected) in [
        (
            "elements with the same key merge, new ones come first",
            ab(),
            json!({"spec": {"items": [{"name": "z"}, {"name": "a", "env": []}]}}),
            json!({"spec": {"items": [{"name": "z"}, {"name": "a", "image": "1", "env": []}, {"name": "b"}]}}),
        ),
        (
            "numbers are keys too",
            json!({"spec": {"ports": [{"port": 80, "name": "x"}]}}),
            json!({"spec": {"ports": [{"port": 81}, {"port": 80, "name": "y"}]}}),
            json!({"spec": {"ports": [{"port": 81}, {"port": 80, "name": "y"}]}}),
        ),
        (
            "delete in a list",
            ab(),
            json!({"spec": {"items": [{"name": "a", "$patch": "delete"}, {"name": "no", "$patch": "delete"}]}}),
            json!({"spec": {"items": [{"name": "b"}]}}),
        ),
        (
            "replace a list",
            ab(),
            json!({"spec": {"items": [{"$patch": "replace"}, {"name": "only"}]}}),
            json!({"spec": {"items": [{"name": "only"}]}}),
        ),
        (
            "replace an object",
            json!({"spec": {"replicas": 1, "ports": []}}),
            json!({"spec": {"$patch": "replace", "replicas": 2}}),
            json!({"spec": {"replicas": 2}}),
        ),
        (
            "delete an object",
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"$patch": "delete"}}),
            json!({"spec": {}}),
        ),
        (
            "an added object that asks for its deletion is not added",
            json!({}),
            json!({"spec": {"$patch": "delete"}, "metadata": {"labels": {"a": null, "b": "1"}}}),
            json!({"metadata": {"labels": {"b": "1"}}}),
        ),
        (
            "set the order",
            json!({"spec": {"items": [{"name": "b"}, {"name": "a"}, {"name": "c"}]}}),
            json!({"spec": {
                "$setElementOrder/items": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
                "items": [{"name": "a", "image": "2"}]
            }}),
            json!({"spec": {"items": [{"name": "a", "image": "2"}, {"name": "b"}, {"name": "c"}]}}),
        ),
        (
            "an order alone, elements only the server has keep their place",
            json!({"spec": {"items": [{"name": "s"}, {"name": "b"}, {"name": "a"}]}}),
            json!({"spec": {"$setElementOrder/items": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"items": [{"name": "s"}, {"name": "a"}, {"name": "b"}]}}),
        ),
        (
            "deleting beside an order",
            json!({"spec": {"items": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {
                "$setElementOrder/items": [{"name": "b"}, {"name": "a"}],
                "items": [{"name": "b", "$patch": "delete"}]
            }}),
            json!({"spec": {"items": [{"name": "a"}]}}),
        ),
        (
            "retain keys",
            json!({"spec": {"strategy": {"type": "R", "rolling": {"name": "x"}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "S"}}}),
            json!({"spec": {"strategy": {"type": "S"}}}),
        ),
        (
            "sets of scalars: the patch's come first",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "a"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        ),
        (
            "delete from a list of scalars",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        (
            "order and delete of scalars",
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {
                "$deleteFromPrimitiveList/finalizers": ["b"],
                "$setElementOrder/finalizers": ["d", "c", "a"],
                "finalizers": ["d"]
            }}),
            json!({"metadata": {"finalizers": ["d", "c", "a"]}}),
        ),
        (
            "null deletes",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x"]}}),
            json!({"metadata": {"labels": {"a": null}, "finalizers": null}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
        (
            "lists without a strategy are replaced",
            json!({"plain": [{"name": "a"}]}),
            json!({"plain": [{"image": "b"}]}),
            json!({"plain": [{"image": "b"}]}),
        ),
        (
            "lists within elements merge as well",
            json!({"spec": {"items": [{"name": "a", "env": [{"name": "e", "image": "1"}]}]}}),
            json!({"spec": {"items": [{"name": "a", "env": [{"name": "e", "image": "2"}, {"name": "f"}]}]}}),
            json!({"spec": {"items": [{"name": "a", "env": [{"name": "e", "image": "2"}, {"name": "f"}]}]}}),
        ),
        (
            "an unknown field is carried along for the decoder to judge",
            json!({"spec": {}}),
            json!({"spec": {"nope": 1}}),
            json!({"spec": {"nope": 1}}),
        ),
        (
            "a value of another type replaces",
            json!({"spec": {"items": [{"name": "a"}]}}),
            json!({"spec": {"items": {"name": "x"}}}),
            json!({"spec": {"items": {"name": "x"}}}),
        ),
    ] {
        assert_eq!(run(document, patch).expect(case), expected, "{case}");
    }
}

#[test]
fn refuses_with_the_texts_of_kube_apiserver() {
    let live = || {
        json!({
            "metadata": {"nested": {"a": {"b": 1}}, "finalizers": ["a"]},
            "spec": {"items": [{"name": "a"}]},
            "keyless": [{"name": "a"}]
        })
    };
    use StrategicError::{BadRequest, Internal};
    for (patch, expected) in [
        (
            json!([]),
            BadRequest("json: cannot unmarshal array into Go value of type map[string]interface {}".into()),
        ),
        (
            json!({"$patch": "sideways"}),
            Internal("unknown patch type: sideways in map: map[$patch:sideways]".into()),
        ),
        (
            json!({"spec": {"items": [{"image": "x"}]}}),
            Internal("map: map[image:x] does not contain declared merge key: name".into()),
        ),
        (
            json!({"spec": {"items": [{"$patch": "delete"}]}}),
            Internal("map: map[$patch:delete] does not contain declared merge key: name".into()),
        ),
        (
            json!({"spec": {"items": [{"$patch": "merge", "name": "a"}]}}),
            Internal("merging lists cannot yet be specified in the patch".into()),
        ),
        (
            json!({"spec": {"$setElementOrder/items": [{"name": "a"}], "items": [{"name": "zz", "image": "z"}]}}),
            Internal(
                "The order in patch list:\n[map[image:z name:zz]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n"
                    .into(),
            ),
        ),
        (
            json!({"spec": {"$setElementOrder/items": {}}}),
            Internal("expected a []interface {}, but received a map[string]interface {}".into()),
        ),
        (
            json!({"spec": {"$setElementOrder": []}}),
            BadRequest("invalid patch format of setElementOrder list".into()),
        ),
        (
            json!({"metadata": {"$deleteFromPrimitiveList": []}}),
            BadRequest("invalid patch format of primitive list".into()),
        ),
        (
            json!({"spec": {"$retainKeys": ["items"], "replicas": 1}}),
            BadRequest("invalid patch format of retainKeys".into()),
        ),
        (
            json!({"spec": {"$retainKeys": "items"}}),
            BadRequest("invalid patch format of retainKeys".into()),
        ),
        (
            json!({"spec": {"items": ["a"]}}),
            Internal("list element types are not identical: [[map[name:a]] [a]]".into()),
        ),
        (
            json!({"keyless": [{"name": "b"}]}),
            Internal("cannot merge lists without merge key for struct".into()),
        ),
        (
            json!({"metadata": {"nested": {"a": {"b": 2}}}}),
            Internal("merging an object in json but data type is not struct, instead is: map".into()),
        ),
        (
            json!({"spec": {"$setElementOrder/nope": []}}),
            Internal("unable to find api field in struct Spec for the json field \"nope\"".into()),
        ),
    ] {
        let shown = patch.to_string();
        assert_eq!(run(live(), patch).expect_err(&shown), expected, "{shown}");
    }
}

#[test]
fn deep_patches_do_not_exhaust_the_stack() {
    let schema = test_schema::schema(&[("Root", &[("next", "Root"), ("end", "int32")])]);
    let root = test_schema::type_id(&schema, "Root");
    let nested = |levels: usize, end: i64| {
        (1..levels).fold(json!({"end": end}), |inner, _| json!({"next": inner}))
    };
    let (deepest, most) = (crate::kube::codec::limits::DEPTH, MAX_PATCH_DEPTH);
    apply(&schema, root, nested(deepest, 1), nested(most, 2)).expect("applies");
    let added = apply(&schema, root, json!({}), nested(most, 3)).expect("applies");
    assert_eq!(conversion_problem(&schema, root, &added), None);
    let error = apply(&schema, root, json!({}), nested(most + 1, 3)).expect_err("too deep");
    assert_eq!(error, StrategicError::BadRequest("exceeded max depth".to_string()));

    let mut document = nested(deepest, 1);
    merge::apply(&mut document, nested(most, 4)).expect("applies");
    let error = merge::apply(&mut document, nested(deepest, 5)).expect_err("too deep");
    assert_eq!(error, merge::MergePatchError::TooDeep);
}

/// Patches made of the words that mean something, in places where they may not.
fn garbage() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        "a|b|delete|replace|merge|name".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("spec"),
        Just("items"),
        Just("metadata"),
        Just("finalizers"),
        Just("labels"),
        Just("strategy"),
        Just("name"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$setElementOrder/items"),
        Just("$setElementOrder/finalizers"),
        Just("$setElementOrder"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("$deleteFromPrimitiveList/items"),
    ]
    .prop_map(str::to_string);
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn survives_any_patch_of_any_document(document in garbage(), patch in garbage()) {
        if let Ok(result) = run(document, patch) {
            prop_assert!(result.is_object());
        }
    }

    #[test]
    fn a_patch_without_directives_applied_twice_is_applied_once(
        names in prop::collection::btree_set("[a-e]", 0..5),
        changes in prop::collection::btree_map("[a-h]", "[x-z]", 0..6),
    ) {
        let live: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        let items: Vec<Value> =
            changes.iter().map(|(n, i)| json!({"name": n, "image": i})).collect();
        let patch = json!({"spec": {"items": items}});
        let once = run(json!({"spec": {"items": live}}), patch.clone()).expect("applies");
        let twice = run(once.clone(), patch).expect("applies again");
        prop_assert_eq!(&once, &twice);
        let count = once["spec"]["items"].as_array().map_or(0, Vec::len);
        let expected = names.iter().chain(changes.keys()).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(count, expected.len());
    }
}
