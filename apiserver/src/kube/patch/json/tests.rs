use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn applies_operations() {
    for (document, patch, expected) in [
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": [1]}]),
            json!({"a": 1, "b": [1]}),
        ),
        (
            json!({"l": [1, 2]}),
            json!([
                {"op": "add", "path": "/l/-", "value": 3},
                {"op": "add", "path": "/l/0", "value": 0}
            ]),
            json!({"l": [0, 1, 2, 3]}),
        ),
        (
            json!({"l": [1, 2]}),
            json!([{"op": "add", "path": "/l/2", "value": 3}, {"op": "add", "path": "/l/-1", "value": 4}]),
            json!({"l": [1, 2, 3, 4]}),
        ),
        (json!({"l": [1, 2]}), json!([{"op": "remove", "path": "/l/-1"}]), json!({"l": [1]})),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "/b", "value": 2}]),
            json!({"a": 1, "b": 2}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": {"z": 1}}]),
            json!({"z": 1}),
        ),
        (json!({"a": 1}), json!([{"op": "add", "path": "/b"}]), json!({"a": 1, "b": null})),
        (
            json!({"a": {"x": 1}}),
            json!([
                {"op": "copy", "from": "/a", "path": "/b"},
                {"op": "move", "from": "/a/x", "path": "/y"},
                {"op": "copy", "from": "/absent", "path": "/n"}
            ]),
            json!({"a": {}, "b": {"x": 1}, "y": 1, "n": null}),
        ),
        (
            json!({"m": {"x/y": 1, "t~k": 2, "~1": 3}}),
            json!([
                {"op": "replace", "path": "/m/x~1y", "value": 10},
                {"op": "replace", "path": "/m/t~0k", "value": 20},
                {"op": "replace", "path": "/m/~01", "value": 30}
            ]),
            json!({"m": {"x/y": 10, "t~k": 20, "~1": 30}}),
        ),
        (
            json!({"a": {"b": [1, {"c": null}]}}),
            json!([
                {"op": "test", "path": "/a", "value": {"b": [1, {"c": null}]}},
                {"op": "test", "path": "/a/b/1/c", "value": null},
                {"op": "test", "path": "/absent"},
                {"op": "test", "path": "", "value": {"a": {"b": [1, {"c": null}]}}}
            ]),
            json!({"a": {"b": [1, {"c": null}]}}),
        ),
        (json!({"a": 1}), json!([]), json!({"a": 1})),
        (json!({"a": 1}), json!(null), json!({"a": 1})),
    ] {
        let result = apply(&document, &patch);
        assert_eq!(result.expect("the patch applies"), expected, "{patch}");
    }
}

#[test]
fn tells_why_an_operation_does_not_apply() {
    let document = json!({"a": {"b": 1}, "l": [1], "n": null});
    for (operation, expected) in [
        (
            json!({"op": "test", "path": "/a/b", "value": 2}),
            "testing value /a/b failed: test failed",
        ),
        (
            json!({"op": "test", "path": "/a/b", "value": 1.0}),
            "testing value /a/b failed: test failed",
        ),
        (
            json!({"op": "remove", "path": "/l/9"}),
            "error in remove for path: '/l/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (
            json!({"op": "remove", "path": "/zz"}),
            "error in remove for path: '/zz': Unable to remove nonexistent key: zz: missing value",
        ),
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "/n/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/n/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "/l/3", "value": 1}),
            "error in add for path: '/l/3': Unable to access invalid index: 3: invalid index referenced",
        ),
        (
            json!({"op": "replace", "path": "/l/1", "value": 1}),
            "replace operation does not apply: doc is missing key: /l/1: missing value",
        ),
        (json!({"op": "add"}), "add operation failed to decode path: missing value"),
        (
            json!({"op": "copy", "path": "/a"}),
            "copy operation failed to decode from: missing value",
        ),
        (json!({"op": "jump", "path": "/a"}), "Unexpected kind: jump"),
        (json!({"path": "/a"}), "Unexpected kind: unknown"),
        (json!(null), "Unexpected kind: unknown"),
    ] {
        let error = apply(&document, &json!([operation])).expect_err("must not apply");
        assert_eq!(error, JsonPatchError::DoesNotApply(expected.to_string()), "{operation}");
    }
}

#[test]
fn refuses_what_is_no_list_of_operations() {
    for (patch, expected) in [
        (
            json!({}),
            "error decoding patch: json: cannot unmarshal object into Go value of type []interface {}",
        ),
        (json!(["x"]), "json: cannot unmarshal string into Go value of type jsonpatch.Operation"),
    ] {
        let error = apply(&json!({}), &patch).expect_err("must be refused");
        assert_eq!(error, JsonPatchError::Decode(expected.to_string()));
    }
}

#[test]
fn bounds_the_number_of_operations() {
    let operation = json!({"op": "add", "path": "/a", "value": 1});
    let most = Value::Array(vec![operation.clone(); MAX_JSON_PATCH_OPERATIONS]);
    apply(&json!({}), &most).expect("as many as are allowed");
    let too_many = Value::Array(vec![operation; MAX_JSON_PATCH_OPERATIONS + 1]);
    assert_eq!(
        apply(&json!({}), &too_many).expect_err("one too many").to_string(),
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

#[test]
fn bounds_the_bytes_that_copies_add() {
    let document = json!({"text": "x".repeat(1024 * 1024 - 2)});
    let copies = |count: usize| {
        let copy = json!({"op": "copy", "from": "/text", "path": "/copy"});
        Value::Array(vec![copy; count])
    };
    apply(&document, &copies(3)).expect("three copies of one MiB");
    let error = apply(&document, &copies(4)).expect_err("four copies");
    assert_eq!(
        error.to_string(),
        "Unable to complete the copy, the accumulated size increase of copy is 4194304, exceeding the limit 3145728"
    );
}

#[test]
fn bounds_how_deep_values_nest() {
    // Every copy into itself doubles the depth.
    let copy = json!({"op": "copy", "from": "/a", "path": "/a/b"});
    let mut document = json!({"a": {}});
    for doublings in 0..20 {
        let from = document.clone();
        let deepest = format!("/a{}", "/b".repeat(1 << doublings));
        let copy = json!({"op": "copy", "from": "/a", "path": deepest});
        match apply(&from, &json!([copy])) {
            Ok(deeper) => document = deeper,
            Err(error) => {
                assert!(error.to_string().ends_with("exceeded max depth"), "{error}");
                assert!(doublings >= 6, "two hundred levels are allowed");
                break;
            }
        }
        assert!(doublings < 10, "must be refused");
    }
    let once = apply(&json!({"a": {}}), &json!([copy])).expect("applies");
    assert_eq!(once, json!({"a": {"b": {}}}));
}

#[test]
fn bounds_the_work() {
    let list = vec![json!(0); 100_000];
    let step = json!({"op": "add", "path": "/list/0", "value": 1});
    let patch = |count: usize| Value::Array(vec![step.clone(); count]);
    apply(&json!({"list": list}), &patch(100)).expect("a hundred are fine");
    let error = apply(&json!({"list": list}), &patch(5_000)).expect_err("too much");
    assert_eq!(error.to_string(), "the operations move too many values");
}

proptest! {
    #[test]
    fn survives_any_operation(
        op in "add|remove|replace|move|copy|test|x",
        path in "(/(a|b|0|1|-|-1|~0|~1|99999999999999999999))*",
        from in "(/(a|b|0|1|-|-9223372036854775808))*",
        value in prop_oneof![Just(json!(null)), Just(json!([1])), Just(json!({"a": 1}))],
    ) {
        let document = json!({"a": [1, {"b": [2]}], "b": {"a": null, "0": [[]]}});
        let patch = json!([{"op": op, "path": path, "from": from, "value": value}]);
        let _ = apply(&document, &patch);
    }
}
