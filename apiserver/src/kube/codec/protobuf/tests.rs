//! Against one filled-in object of every type, and against recorded answers.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::kube::codec::decode_node;
use crate::kube::codec::node::Node;
use crate::kube::schema::{GroupVersionKind, golden};

fn type_of(meta: &TypeMeta) -> Option<TypeId> {
    let (group, version) = meta.api_version.split_once('/').unwrap_or(("", &meta.api_version));
    Schema::builtin().type_of_kind(&GroupVersionKind {
        group: group.into(),
        version: version.into(),
        kind: meta.kind.clone(),
    })
}

/// Decodes an enveloped object as a whole.
fn decode(bytes: &[u8]) -> Option<Value> {
    let envelope = open(bytes).unwrap();
    let type_id = type_of(&envelope.meta)?;
    let mut value = decode_message(Schema::builtin(), type_id, envelope.raw).unwrap();
    value["apiVersion"] = envelope.meta.api_version.clone().into();
    value["kind"] = envelope.meta.kind.clone().into();
    Some(value)
}

#[test]
fn objects_of_every_type_survive() {
    let folder = golden::shared_folder().join("kubernetes/testdata/HEAD");
    let Ok(entries) = fs::read_dir(&folder) else {
        return eprintln!("NOT COMPARED: {} is missing", folder.display());
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut same_bytes, mut objects, mut unknown) = (0, 0, Vec::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "pb")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(file).unwrap();
        let Some(value) = decode(&bytes) else {
            unknown.push(name);
            continue;
        };
        objects += 1;
        let text = fs::read(file.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value, expected, "{name}: {}", golden::first_difference(&expected, &value, ""));
        let type_id = type_of(&open(&bytes).unwrap().meta).unwrap();
        let node = Node::from_value(&expected);
        let decoded = decode_node(Schema::builtin(), type_id, node).unwrap();
        assert_eq!(decoded.value, expected, "{name}");
        let again = encode_object(Schema::builtin(), type_id, &value);
        assert_eq!(decode(&again).unwrap(), value, "{name}");
        same_bytes += usize::from(again == bytes);
    }
    println!("{objects} objects survive, {same_bytes} with the same bytes");
    println!("types that are not in the table: {}", unknown.join(" "));
    assert!(objects >= 100 && same_bytes == objects, "{same_bytes} of {objects}");
}

#[test]
fn recorded_answers_have_the_same_bytes() {
    let (mut compared, mut different) = (0, Vec::new());
    for exchange in golden::exchanges(&["protobuf"]) {
        let Some(text) = exchange.recorded_base64.as_ref() else { continue };
        let bytes = STANDARD.decode(text).unwrap();
        let Some(value) = bytes.starts_with(PREFIX).then(|| decode(&bytes)).flatten() else {
            continue;
        };
        compared += 1;
        let type_id = type_of(&open(&bytes).unwrap().meta).unwrap();
        let again = encode_object(Schema::builtin(), type_id, &value);
        if again != bytes {
            different.push(format!("{} {}", exchange.id, value["kind"]));
        }
    }
    assert_eq!(different, Vec::<String>::new());
    golden::say("recorded protobuf answers", compared, 20);
}

#[test]
fn broken_bytes_are_refused() {
    for (bytes, message) in [
        (
            &b"k8s"[..],
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ),
        (b"k8s\0\x0a", "unexpected EOF"),
        (b"k8s\0\x0a\x05a", "unexpected EOF"),
        (b"k8s\0\x00\x00", "proto: Unknown: illegal tag 0 (wire type 0)"),
        (b"k8s\0\x0b", "proto: illegal wireType 3"),
        (b"k8s\0\x08\x01", "proto: wrong wireType for field"),
        (b"k8s\0\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "proto: integer overflow"),
    ] {
        assert_eq!(open(bytes).unwrap_err().to_string(), message, "{bytes:?}");
    }
}

#[test]
fn watch_events() {
    let event = encode_watch_event("ADDED", b"k8s\0x");
    assert_eq!(event, b"\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x");
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let _ = open(&bytes);
        for name in ["io.k8s.api.core.v1.Pod", "io.k8s.api.core.v1.Volume"] {
            let type_id = Schema::builtin().type_named(name).unwrap();
            let _ = decode_message(Schema::builtin(), type_id, &bytes);
        }
    }
}

#[test]
fn lists_item_by_item_are_lists_as_a_whole() {
    let schema = Schema::builtin();
    let named = |name: &str| schema.type_named(name).unwrap();
    let items = serde_json::json!([
        {"metadata": {"name": "a"}, "data": {"k": "v"}}, {"metadata": {"name": "b", "labels": {"l": "m"}}},
    ]);
    let metadata =
        serde_json::json!({"resourceVersion": "7", "continue": "c", "remainingItemCount": 3});
    let mut encoder = ListEncoder::new(schema, named("io.k8s.api.core.v1.ConfigMap"));
    items.as_array().unwrap().iter().for_each(|item| encoder.push(item));
    let type_meta = TypeMeta { api_version: "v1".to_owned(), kind: "ConfigMapList".to_owned() };
    let list_meta = named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
    let list = serde_json::json!({
        "kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items,
    });
    let whole = encode_object(schema, named("io.k8s.api.core.v1.ConfigMapList"), &list);
    assert_eq!(encoder.finish(&type_meta, list_meta, &metadata), whole);
}

/// What is written item by item has the same numbers in all lists.
#[test]
fn lists_have_their_parts_in_common() {
    let schema = Schema::builtin();
    for row in schema.resources() {
        let mut kind = row.gvk();
        kind.kind.push_str("List");
        let Some(id) = schema.type_of_kind(&kind) else { continue };
        let numbers =
            ["metadata", "items"].map(|name| schema.type_def(id).field(name).unwrap().protobuf);
        assert_eq!(numbers, [list::METADATA, list::ITEMS], "{}", kind.kind);
    }
}
