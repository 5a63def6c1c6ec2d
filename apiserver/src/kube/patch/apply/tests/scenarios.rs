use serde_json::json;

use super::super::*;
use super::*;

#[test]
fn creates_then_changes_and_does_nothing_the_third_time() {
    let mut world = World::new();
    world.apply("m1", json!({"data": {"a": "1", "b": "2"}})).expect("create");
    assert_eq!(
        world.get("/metadata/managedFields"),
        json!([{
            "manager": "m1", "operation": "Apply", "apiVersion": "v1", "time": NOW,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}
        }])
    );
    assert_eq!(world.get("/spec"), json!({"items": null, "strategy": {}}));
    let created = world.object.clone();
    world.now = LATER;
    world.apply("m1", json!({"data": {"a": "1", "b": "2"}})).expect("again");
    assert_eq!(world.object, created, "an apply without effect gives the identical object");
    world.apply("m1", json!({"data": {"a": "9", "b": "2"}})).expect("change");
    assert_eq!(world.get("/data"), json!({"a": "9", "b": "2"}));
    assert_eq!(world.get("/metadata/managedFields/0/time"), json!(LATER));
}

#[test]
fn removes_what_is_no_longer_applied() {
    let mut world = World::new();
    world
        .apply(
            "m1",
            json!({
                "data": {"a": "1", "b": "2"},
                "metadata": {"labels": {"l": "1"}, "finalizers": ["x/a"]},
                "spec": {"items": [{"name": "i", "image": "1"}, {"name": "j"}], "replicas": 3,
                         "strategy": {"type": "R", "rolling": {"surge": 1}}}
            }),
        )
        .expect("create");
    world
        .apply("m1", json!({"data": {"a": "1"}, "spec": {"items": [{"name": "i"}]}}))
        .expect("less");
    assert_eq!(world.get("/data"), json!({"a": "1"}));
    assert_eq!(world.get("/metadata/labels"), json!(null));
    assert_eq!(world.get("/metadata/finalizers"), json!(null));
    assert_eq!(world.get("/spec/items"), json!([{"name": "i"}]));
    assert_eq!(world.get("/spec/replicas"), json!(null));
    assert_eq!(world.get("/spec/strategy/type"), json!(null));
    world.apply("m1", json!({"data": {}})).expect("an empty map is owned");
    assert_eq!(world.owners(), [json!(["m1", "Apply", {"f:data": {}}])]);
    world.apply("m1", json!({})).expect("nothing");
    assert_eq!(world.owners(), Vec::<Value>::new());
    assert!(world.get("/metadata").get("managedFields").is_none());
}

#[test]
fn conflicts_with_other_appliers_unless_forced() {
    let mut world = World::new();
    world.apply("m1", json!({"data": {"a": "1", "b": "2"}})).expect("create");
    let before = world.object.clone();
    assert_eq!(
        message(world.apply("m2", json!({"data": {"a": "2"}}))),
        "Apply failed with 1 conflict: conflict with \"m1\": .data.a"
    );
    let refused = world.apply("m2", json!({"data": {"a": "2", "b": "3"}}));
    let Err(ApplyError::Conflicts(conflicts)) = refused else {
        panic!("must conflict");
    };
    assert_eq!(
        conflicts.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .data.a\n- .data.b"
    );
    let causes: Vec<_> =
        conflicts.list().iter().map(|c| (c.cause_message(), c.path.clone())).collect();
    assert_eq!(
        causes,
        [
            ("conflict with \"m1\"".to_string(), ".data.a".to_string()),
            ("conflict with \"m1\"".to_string(), ".data.b".to_string())
        ]
    );
    assert_eq!(world.object, before);

    world.apply_with("m2", json!({"data": {"a": "2"}}), true).expect("forced");
    assert_eq!(
        world.owners(),
        [
            json!(["m1", "Apply", {"f:data": {"f:b": {}}}]),
            json!(["m2", "Apply", {"f:data": {"f:a": {}}}])
        ]
    );
    let before = world.object.clone();
    world.apply("m1", json!({"data": {"b": "2"}})).expect("m1 gives up a, which it has lost");
    assert_eq!(world.object, before);
}

#[test]
fn shares_equal_values_and_removes_with_the_last_owner() {
    let mut world = World::new();
    world.apply("m1", json!({"data": {"a": "1"}})).expect("create");
    world.apply("m2", json!({"data": {"a": "1"}})).expect("share");
    let entries = world.get("/metadata/managedFields");
    assert_eq!(entries[0]["manager"], "m2", "without a time it sorts first");
    assert!(entries[0].get("time").is_none(), "it has changed nothing");
    world.apply("m1", json!({"data": {}})).expect("m1 lets go");
    assert_eq!(world.get("/data"), json!({"a": "1"}));
    world.apply("m2", json!({"data": {}})).expect("m2 lets go");
    assert_eq!(world.get("/data/a"), json!(null));
}

#[test]
fn lists_merge_by_key_and_sets_by_value() {
    let mut world = World::new();
    world
        .apply(
            "m1",
            json!({
                "metadata": {"finalizers": ["x/a"]},
                "spec": {"items": [{"name": "i"}], "ports": [{"port": 1, "protocol": "TCP"}]}
            }),
        )
        .expect("create");
    world
        .apply(
            "m2",
            json!({
                "metadata": {"finalizers": ["x/b"]},
                "spec": {"items": [{"name": "j", "image": "2"}], "ports": [{"port": 2, "protocol": "UDP"}]}
            }),
        )
        .expect("no conflict");
    assert_eq!(world.get("/metadata/finalizers"), json!(["x/a", "x/b"]));
    assert_eq!(world.get("/spec/items"), json!([{"name": "i"}, {"name": "j", "image": "2"}]));
    assert_eq!(
        world.owners()[1],
        json!(["m2", "Apply", {
            "f:metadata": {"f:finalizers": {"v:\"x/b\"": {}}},
            "f:spec": {
                "f:items": {"k:{\"name\":\"j\"}": {".": {}, "f:image": {}, "f:name": {}}},
                "f:ports": {"k:{\"port\":2,\"protocol\":\"UDP\"}": {".": {}, "f:port": {}, "f:protocol": {}}}
            }
        }])
    );
    world.apply("m1", json!({})).expect("m1 goes");
    assert_eq!(world.get("/metadata/finalizers"), json!(["x/b"]));
    assert_eq!(world.get("/spec/items"), json!([{"name": "j", "image": "2"}]));
    assert_eq!(world.get("/spec/ports"), json!([{"port": 2, "protocol": "UDP"}]));
    assert_eq!(
        message(world.apply("m1", json!({"spec": {"items": [{"name": "j", "image": "3"}]}}))),
        "Apply failed with 1 conflict: conflict with \"m2\": .spec.items[name=\"j\"].image"
    );
}

#[test]
fn atomic_values_belong_to_one() {
    let mut world = World::new();
    let spec = |key: &str| {
        json!({"spec": {"nodeSelector": {key: "1"}, "tolerations": [{"name": key}],
                        "selector": {"match": {key: "1"}}}})
    };
    world.apply("m1", spec("a")).expect("create");
    assert_eq!(
        world.owners(),
        [
            json!(["m1", "Apply", {"f:spec": {"f:nodeSelector": {}, "f:selector": {}, "f:tolerations": {}}}])
        ]
    );
    assert_eq!(
        message(world.apply("m2", spec("b"))),
        "Apply failed with 3 conflicts: conflicts with \"m1\":\n- .spec.nodeSelector\n- .spec.selector\n- .spec.tolerations"
    );
    world.apply_with("m2", spec("b"), true).expect("forced");
    assert_eq!(world.get("/spec/nodeSelector"), json!({"b": "1"}));
    assert_eq!(world.get("/spec/tolerations"), json!([{"name": "b"}]));
    world.apply("m2", json!({})).expect("all gone");
    assert_eq!(world.get("/spec/nodeSelector"), json!(null));
}

#[test]
fn what_the_table_does_not_know_is_deduced() {
    let mut world = World::new();
    world.apply("m1", json!({"spec": {"raw": {"a": {"b": 1}, "l": [1]}}})).expect("create");
    assert_eq!(
        world.owners(),
        [json!(["m1", "Apply", {"f:spec": {"f:raw": {"f:a": {".": {}, "f:b": {}}, "f:l": {}}}}])]
    );
    world.apply("m2", json!({"spec": {"raw": {"a": {"c": 1}}}})).expect("granular");
    assert_eq!(world.get("/spec/raw"), json!({"a": {"b": 1, "c": 1}, "l": [1]}));
    assert_eq!(
        message(world.apply("m2", json!({"spec": {"raw": {"l": [2]}}}))),
        "Apply failed with 1 conflict: conflict with \"m1\": .spec.raw.l"
    );
    // A value that changes its shape.
    world.update("e", |new| new["spec"]["raw"] = json!([{"a": 1}]));
    assert_eq!(world.owners(), [json!(["e", "Update", {"f:spec": {"f:raw": {}}}])]);
}

#[test]
fn owners_within_what_has_become_one_value_own_the_whole() {
    let mut world = World::new();
    world.apply("m1", json!({"spec": {"strategy": {"type": "R"}}})).expect("create");
    // As if the node selector had been granular when this was written.
    let fields = &mut world.object.as_mut().expect("an object")["metadata"]["managedFields"];
    fields[0]["fieldsV1"]["f:spec"]["f:nodeSelector"] = json!({"f:a": {}});
    world.update("e", |new| new["data"] = json!({"k": "1"}));
    let owned = json!({"f:spec": {"f:nodeSelector": {}, "f:strategy": {"f:type": {}}}});
    assert_eq!(world.owners()[0], json!(["m1", "Apply", owned]));
}

#[test]
fn deep_values_do_not_exhaust_the_stack() {
    let mut deep = json!({"x": 1});
    for _ in 0..crate::kube::codec::limits::DEPTH - 3 {
        deep = json!({"a": deep});
    }
    let mut world = World::new();
    world.apply("m1", json!({"spec": {"raw": deep}})).expect("create");
    world.update("e", |new| new["spec"]["raw"]["b"] = json!(1));
    world.apply("m2", json!({"spec": {"raw": deep}})).expect("share");
    world.apply("m1", json!({})).expect("m1 goes");
    world.apply("m2", json!({})).expect("m2 goes");
    assert_eq!(world.get("/spec/raw"), json!({"b": 1}));
}

#[test]
fn updates_own_what_they_change() {
    let mut world = World::new();
    world.update("editor", |new| {
        new["data"] = json!({"a": "1"});
        new["spec"]["strategy"] = json!({"type": "R", "rolling": {"surge": "25%"}});
        new["spec"]["items"] = json!([{"name": "i"}]);
        new["metadata"]["name"] = json!("x");
    });
    assert_eq!(
        world.get("/metadata/managedFields"),
        json!([{
            "manager": "editor", "operation": "Update", "apiVersion": "v1", "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {".": {}, "f:a": {}},
                "f:spec": {
                    "f:items": {"k:{\"name\":\"i\"}": {".": {}, "f:name": {}}},
                    "f:strategy": {"f:rolling": {".": {}, "f:surge": {}}, "f:type": {}}
                }
            }
        }])
    );
    assert_eq!(
        message(world.apply("m1", json!({"data": {"a": "2"}}))),
        "Apply failed with 1 conflict: conflict with \"editor\" using v1: .data.a"
    );
    world.apply_with("m1", json!({"data": {"a": "2"}}), true).expect("forced");
    assert_eq!(world.owners()[1][2]["f:data"], json!({}), "the map itself stays the editor's");
    world.update("other", |new| new["data"] = json!({"a": "3"}));
    assert_eq!(world.owners().len(), 2, "an entry without fields goes");
    world.update("other", |new| {
        new.as_object_mut().expect("an object").remove("data");
    });
    let owners = world.owners();
    assert_eq!(owners.len(), 1, "removed fields belong to nobody: {owners:?}");
}

#[test]
fn updates_without_a_change_of_owners_only_touch_the_time() {
    let mut world = World::new();
    world.update("a", |new| new["spec"]["replicas"] = json!(1));
    world.update("b", |new| new["data"] = json!({"k": "1"}));
    world.now = LATER;
    let before = world.get("/metadata/managedFields");
    world.update("a", |_| {});
    assert_eq!(world.get("/metadata/managedFields"), before);
    world.update("a", |new| new["spec"]["replicas"] = json!(2));
    let after = world.get("/metadata/managedFields");
    assert_eq!(after[0], before[1], "the entry with the newer time goes last");
    assert_eq!(after[1]["time"], json!(LATER));
    assert_eq!(after[1]["fieldsV1"], before[0]["fieldsV1"]);
}

#[test]
fn an_own_update_entry_conflicts_with_the_own_apply() {
    let mut world = World::new();
    world.update("m1", |new| new["data"] = json!({"a": "1"}));
    world.apply("m1", json!({"data": {"a": "1"}})).expect("share");
    assert_eq!(world.owners().len(), 2);
    assert_eq!(
        message(world.apply("m1", json!({"data": {"a": "2"}}))),
        "Apply failed with 1 conflict: conflict with \"m1\" using v1: .data.a"
    );
}

#[test]
fn clearing_the_list_stops_the_tracking_until_the_next_apply() {
    for reset in [json!([{}]), json!([])] {
        let mut world = World::new();
        world.update("e", |new| new["data"] = json!({"a": "1"}));
        world.update("e", |new| new["metadata"]["managedFields"] = reset.clone());
        assert!(world.get("/metadata").get("managedFields").is_none());
        world.update("e", |new| new["data"]["a"] = json!("2"));
        assert!(world.get("/metadata").get("managedFields").is_none(), "not tracked any more");
        world.apply("m1", json!({"data": {"b": "2"}})).expect("apply");
        assert_eq!(
            world.owners(),
            [
                json!(["m1", "Apply", {"f:data": {"f:b": {}}}]),
                json!(["before-first-apply", "Update", {"f:data": {".": {}, "f:a": {}}}])
            ]
        );
    }
}

#[test]
fn unreadable_or_missing_lists_fall_back_to_the_stored_one() {
    for list in [
        json!(null),
        json!("x"),
        json!([{"manager": "z"}]),
        json!([{"manager": "z", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"x": {}}}]),
    ] {
        let mut world = World::new();
        world.update("e", |new| new["data"] = json!({"a": "1"}));
        let before = world.get("/metadata/managedFields");
        world.update("e", |new| new["metadata"]["managedFields"] = list.clone());
        assert_eq!(world.get("/metadata/managedFields"), before, "{list}");
    }
}

#[test]
fn keeps_no_more_than_ten_updaters() {
    let mut world = World::new();
    for number in 0..15 {
        let manager = format!("m{number:02}");
        world.update(&manager, |new| new["data"][&manager] = json!("1"));
    }
    let owners = world.owners();
    let managers: Vec<&str> = owners.iter().filter_map(|entry| entry[0].as_str()).collect();
    assert_eq!(managers.len(), 10);
    assert_eq!(managers[0], "ancient-changes");
    assert_eq!(managers[9], "m14");
    let ancient = owners[0][2]["f:data"].as_object().expect("fields");
    assert_eq!(ancient.len(), 7, "six fields and the map itself");
}

#[test]
fn subresources_have_entries_and_fields_of_their_own() {
    let mut world = World::new();
    world.update("e", |new| new["spec"]["replicas"] = json!(1));
    let filter = FieldFilter::except_fields(&[&["spec"], &["metadata", "labels"]]);
    let mut new = world.object.clone().expect("an object");
    new["status"]["phase"] = json!("Up");
    new["spec"]["replicas"] = json!(7);
    new["metadata"]["managedFields"] = json!([]);
    let request = Request { subresource: "status", filter: &filter, ..world.request("e") };
    update_managed_fields(&request, world.object.as_ref(), &mut new);
    assert_eq!(
        new["metadata"]["managedFields"][1],
        json!({
            "manager": "e", "operation": "Update", "apiVersion": "v1", "time": NOW,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:phase": {}}}, "subresource": "status"
        })
    );
    assert_eq!(
        new["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
    world.object = Some(new);
    assert_eq!(
        message(world.apply("m1", json!({"status": {"phase": "Down"}}))),
        "Apply failed with 1 conflict: conflict with \"e\" with subresource \"status\" using v1: .status.phase"
    );
}

#[test]
fn writes_of_scale_have_no_time() {
    let mut world = World::new();
    world.update("e", |new| new["spec"]["replicas"] = json!(1));
    for replicas in [2, 3] {
        let mut new = world.object.clone().expect("an object");
        new["spec"]["replicas"] = json!(replicas);
        let request = Request { subresource: "scale", now: LATER, ..world.request("hpa") };
        update_managed_fields(&request, world.object.as_ref(), &mut new);
        assert_eq!(
            new["metadata"]["managedFields"],
            json!([{
                "manager": "hpa", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"
            }])
        );
        world.object = Some(new);
    }
}

#[test]
fn kubectl_takes_over_from_its_client_side_configuration() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut world = World::new();
    let last = r#"{"apiVersion":"v1","kind":"Thing","data":{"a":"1"}}"#;
    world.update("kubectl-client-side-apply", |new| {
        new["data"] = json!({"a": "1", "b": "1"});
        new["metadata"]["annotations"] = json!({annotation: last});
    });
    assert!(message(world.apply("m1", json!({"data": {"a": "2"}}))).contains(".data.a"));
    assert_eq!(
        message(world.apply("kubectl", json!({"data": {"a": "2", "b": "2"}}))),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.b"
    );
    world.apply("kubectl", json!({"data": {"a": "2"}})).expect("allowed by the annotation");
    assert_eq!(world.get("/data/a"), json!("2"));
    assert_eq!(
        world.get("/metadata/annotations")[annotation],
        json!("{\"apiVersion\":\"v1\",\"data\":{\"a\":\"2\"},\"kind\":\"Thing\"}\n")
    );
}

#[test]
fn a_write_without_effect_keeps_the_times() {
    let mut world = World::new();
    world.update("e", |new| new["data"] = json!({"a": "1"}));
    let live = world.object.clone().expect("an object");
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["time"] = json!(LATER);
    assert!(keep_times_when_unchanged(&live, &mut new));
    assert_eq!(new, live);
    new["metadata"]["managedFields"][0]["time"] = json!(LATER);
    new["data"]["a"] = json!("2");
    assert!(!keep_times_when_unchanged(&live, &mut new));
    assert_eq!(new["metadata"]["managedFields"][0]["time"], json!(LATER));
}

#[test]
fn names_managers_after_user_agents() {
    let long = "x".repeat(200);
    for (agent, manager) in [
        ("kubectl/v1.36 (linux)", "kubectl"),
        ("Mozilla 5.0", "Mozilla 5.0"),
        ("", ""),
        ("a\u{7}b/1", "ab"),
        (long.as_str(), &long[..128]),
    ] {
        assert_eq!(manager_of_user_agent(agent), manager);
    }
}
