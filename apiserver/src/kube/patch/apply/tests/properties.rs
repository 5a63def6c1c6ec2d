use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::*;
use crate::kube::patch::merge;

/// Configurations over few names, so that managers meet. Without empty containers: these are not
/// stored, so that saying them again is a change again.
fn configurations() -> impl Strategy<Value = Value> {
    let map = || prop::collection::btree_map("[ab]", "[xy]", 1..3);
    let items = prop::collection::btree_map("[ab]", prop::option::of("[xy]"), 1..3);
    (
        prop::option::of(map()),
        prop::option::of(map()),
        prop::option::of(items),
        prop::option::of(0..3i64),
        prop::collection::btree_set("[ab]", 0..3),
    )
        .prop_map(|(data, selector, items, replicas, finalizers)| {
            let mut body = json!({"metadata": {}, "spec": {}});
            if let Some(data) = data {
                body["data"] = json!(data);
            }
            if let Some(selector) = selector {
                body["spec"]["nodeSelector"] = json!(selector);
            }
            if let Some(items) = items {
                let items = items.into_iter().map(|(name, image)| match image {
                    Some(image) => json!({"name": name, "image": image}),
                    None => json!({"name": name}),
                });
                body["spec"]["items"] = items.collect();
            }
            if let Some(replicas) = replicas {
                body["spec"]["replicas"] = json!(replicas);
            }
            if !finalizers.is_empty() {
                body["metadata"]["finalizers"] = json!(finalizers);
            }
            leave_out_empty(&mut body);
            body
        })
}

/// The object as it is stored: the encoder leaves out what is null or empty.
fn stored(mut object: Map<String, Value>) -> Map<String, Value> {
    let managed_fields = managed::managed_fields_of(&object).cloned();
    managed::set_managed_fields(&mut object, None);
    let mut value = Value::Object(object);
    leave_out_empty(&mut value);
    let mut object = into_map(value);
    managed::set_managed_fields(&mut object, managed_fields);
    object
}

fn leave_out_empty(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.values_mut().for_each(leave_out_empty);
        fields.retain(|_, field| match field {
            Value::Object(fields) => !fields.is_empty(),
            Value::Array(items) => !items.is_empty(),
            field => !field.is_null(),
        });
    }
}

/// Documents of words that mean something, in places where they may not.
fn garbage() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1..3i64).prop_map(Value::from),
        "v1|Thing|a|b|Apply|Update|FieldsV1".prop_map(Value::from),
    ];
    let name = "apiVersion|kind|metadata|data|spec|items|ports|port|name|selector|raw|finalizers\
        |managedFields|manager|operation|fieldsType|fieldsV1|time|f:spec|f:data|k:\\{\"name\":\"a\"\\}|a";
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn survives_garbage(live in garbage(), new in garbage(), force in any::<bool>()) {
        let world = World::new();
        let request = world.request("kubectl");
        let live = into_map(live);
        let applied = if new.is_object() { configuration(new.clone()) } else { new.clone() };
        let _ = apply(&request, Some(&live), &applied, force);
        let _ = apply(&request, None, &applied, force);
        let mut updated = into_map(new.clone());
        update_managed_fields(&request, Some(&live), &mut updated);
        let mut created = into_map(new);
        update_managed_fields(&request, None, &mut created);
        keep_times_when_unchanged(&live, &mut updated);
    }

    #[test]
    fn an_apply_is_in_effect_and_repeats_without_one(
        steps in prop::collection::vec((0..3usize, configurations(), any::<bool>()), 1..8)
    ) {
        let mut world = World::new();
        for (manager, body, update) in steps {
            let manager = ["m1", "m2", "m3"][manager];
            if update {
                world.update(manager, |new| {
                    merge::apply(new, body.clone()).expect("an object");
                });
            } else {
                world.apply_with(manager, body.clone(), true).expect("forced applies succeed");
                world.object = world.object.take().map(stored);
                let once = world.object.clone();
                if world.owners().is_empty() {
                    continue; // an object without entries is not tracked
                }
                world.now = LATER;
                world.apply(manager, body.clone()).expect("no conflict with what is there");
                let mut twice = stored(world.object.clone().expect("an object"));
                keep_times_when_unchanged(once.as_ref().expect("an object"), &mut twice);
                prop_assert_eq!(Some(twice), once);
                world.now = NOW;
                // Everything that was applied is there.
                for (name, value) in body["data"].as_object().into_iter().flatten() {
                    prop_assert_eq!(&world.get("/data")[name], value);
                }
            }
            // Nobody owns what is not there.
            let object = stored(world.object.clone().expect("an object"));
            let kind = FieldKind::Struct(world.request("").type_id);
            let value = Value::Object(object.clone());
            let types = Types::new(&world.schema);
            let there = field_set_of(types, &kind, &value);
            let there = with_named_fields(types, &kind, &there);
            let managed = Managed::decode(managed::managed_fields_of(&object)).expect("readable");
            for (key, entry) in managed.entries {
                let mut absent = entry.set.clone();
                absent.subtract(&there);
                // Emptied containers may be owned without being written.
                let containers = [".spec", ".data", ".spec.nodeSelector", ".spec.items", ".metadata.finalizers"];
                let paths = absent.paths().into_iter();
                let absent: Vec<String> =
                    paths.filter(|path| !containers.contains(&path.as_str())).collect();
                prop_assert!(absent.is_empty(), "{key} owns {absent:?} of {value}");
            }
        }
    }

    #[test]
    fn quick_updates_give_what_slow_ones_do(
        first in configurations(), second in configurations(), third in configurations(),
    ) {
        let mut world = World::new();
        world.apply_with("m1", first, true).expect("create");
        world.update("e", |new| merge::apply(new, second).expect("an object"));
        world.now = LATER;
        let live = world.object.clone().expect("an object");
        prop_assume!(!world.owners().is_empty()); // it is not tracked otherwise
        world.update("e", |new| merge::apply(new, third).expect("an object"));
        let quick = world.object.clone().expect("an object");
        // The slow way: read, record, write.
        let request = world.request("e");
        let mut managed = Managed::decode(managed::managed_fields_of(&live)).expect("readable");
        let changes = compare(&world.schema, request.type_id, &live, &quick).expect("comparable");
        let key = ManagerKey::new("e", Operation::Update, "v1", "");
        update::record_update(&mut managed, key, &request, changes);
        prop_assert_eq!(managed::managed_fields_of(&quick).cloned(), managed.encode());
    }
}
