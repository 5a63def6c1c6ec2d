//! Field sets as `fieldsV1` of a managedFields entry: `{"f:data":{".":{},"f:key":{}}}`.

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::path::{ElementError, PathElement};
use crate::kube::patch::limits::MAX_OWNED_DEPTH;

/// Writes a set.
pub fn encode(set: &FieldSet) -> Value {
    Value::Object(encode_below(set))
}

fn encode_below(set: &FieldSet) -> Map<String, Value> {
    let mut fields = Map::new();
    for (element, node) in set.nodes() {
        let mut below = encode_below(&node.below);
        if node.member && !below.is_empty() {
            below.insert(".".to_string(), Value::Object(Map::new()));
        }
        let mut name = String::new();
        element.write(&mut name);
        fields.insert(name, Value::Object(below));
    }
    fields
}

/// Reads a set; `None` when it is not one, or deeper than any. Elements of an unknown kind are left out.
pub fn decode(fields: &Value) -> Option<FieldSet> {
    match fields {
        Value::Object(fields) => decode_below(fields, MAX_OWNED_DEPTH + 1),
        Value::Null => Some(FieldSet::default()),
        _ => None,
    }
}

fn decode_below(fields: &Map<String, Value>, levels: usize) -> Option<FieldSet> {
    let levels_below = levels.checked_sub(1)?;
    let mut set = FieldSet::default();
    for (name, value) in fields {
        if name == "." {
            continue;
        }
        let element = match PathElement::parse(name) {
            Ok(element) => element,
            Err(ElementError::UnknownKind) => continue,
            Err(ElementError::Malformed) => return None,
        };
        let nothing = Map::new();
        let below_fields = match value {
            Value::Object(below) => below,
            Value::Null => &nothing,
            _ => return None,
        };
        let below = decode_below(below_fields, levels_below)?;
        let member = below_fields.contains_key(".") || below.is_empty();
        set.insert_node(element, member, below);
    }
    Some(set)
}

/// True when all members of `set` (or, with `wanted` false, none of them) are in the written set.
/// Spares reading the whole of it; it must be written as [`encode`] writes it.
pub(super) fn agrees(set: &FieldSet, fields: Option<&Value>, wanted: bool) -> bool {
    let mut name = String::new();
    set.nodes().all(|(element, node)| {
        name.clear();
        element.write(&mut name);
        let below = fields.and_then(|fields| fields.get(&name));
        (!node.member || is_member(below) == wanted) && agrees(&node.below, below, wanted)
    })
}

/// What stands under an element of a written set says that the element is a member.
fn is_member(below: Option<&Value>) -> bool {
    match below {
        Some(Value::Object(below)) => below.is_empty() || below.contains_key("."),
        below => below.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reads_and_writes_sets() {
        for (fields, paths) in [
            (json!({}), vec![]),
            (json!({"f:a": {}}), vec![".a"]),
            (json!({"f:a": {"f:b": {}}}), vec![".a.b"]),
            (json!({"f:a": {".": {}, "f:b": {}}}), vec![".a", ".a.b"]),
            (
                json!({"f:l": {"k:{\"port\":80}": {".": {}, "f:x": {}}, "v:1": {}}}),
                vec![".l[port=80]", ".l[=1]", ".l[port=80].x"],
            ),
        ] {
            let set = decode(&fields).expect("a set");
            assert_eq!(set.paths(), paths);
            assert_eq!(encode(&set), fields);
        }
    }

    #[test]
    fn reads_as_deep_as_values_are_owned() {
        let name = || PathElement::Field("a".to_string());
        for (depth, readable) in [(MAX_OWNED_DEPTH, true), (MAX_OWNED_DEPTH + 1, false)] {
            let mut set = FieldSet::default();
            set.insert(&vec![name(); depth]);
            assert_eq!(decode(&encode(&set)).is_some(), readable, "{depth} levels");
        }
    }

    #[test]
    fn leaves_out_unknown_kinds_and_refuses_garbage() {
        let set = decode(&json!({"z:1": {"f:a": {}}, "f:b": {}})).expect("a set");
        assert_eq!(set.paths(), [".b"]);
        for garbage in
            [json!([]), json!("x"), json!({"": {}}), json!({"f:a": 1}), json!({"v:{": {}})]
        {
            assert_eq!(decode(&garbage), None, "{garbage}");
        }
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let element = prop_oneof![
            "[a-c]{1,2}".prop_map(PathElement::Field),
            (0..3i64, "[a<&]").prop_map(|(port, name)| PathElement::Key(vec![
                ("name".to_string(), json!(name)),
                ("port".to_string(), json!(port)),
            ])),
            "[a-c\"]{0,2}".prop_map(|text| PathElement::Value(json!(text))),
            (0..3i64).prop_map(PathElement::Index),
        ];
        let path = prop::collection::vec(element, 1..5);
        prop::collection::vec(path, 0..12).prop_map(|paths| {
            let mut set = FieldSet::default();
            paths.iter().for_each(|path| set.insert(path));
            set
        })
    }

    fn garbage() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(json!(null)), Just(json!({})), Just(json!(1)), Just(json!("x"))];
        leaf.prop_recursive(4, 30, 4, |inner| {
            let name = r#"f:[a.]|k:\{"a":1\}|k:[a{]|v:[0-9"]?|i:[0-9x]|\.|z:|[a-z:]{0,3}"#;
            prop::collection::btree_map(name, inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn survives_a_round_trip(set in any_set(), other in any_set()) {
            let written = encode(&set);
            prop_assert_eq!(decode(&written), Some(set.clone()));
            let both = set.intersection(&other);
            prop_assert_eq!(agrees(&other, Some(&written), false), both.is_empty());
            prop_assert_eq!(agrees(&other, Some(&written), true), both == other);
            prop_assert!(agrees(&set, Some(&written), true));
        }

        #[test]
        fn survives_garbage(fields in garbage()) {
            if let Some(set) = decode(&fields) {
                prop_assert_eq!(decode(&encode(&set)), Some(set));
            }
        }
    }
}
