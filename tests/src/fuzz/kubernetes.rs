//! Bytes of Kubernetes clients: objects in three formats, patches, selectors.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mainstay_apiserver::kube::codec::{self, Format, json_text, protobuf as pb, yaml_text};
use mainstay_apiserver::kube::patch::{self, strategic};
use mainstay_apiserver::kube::request::field_selector::FieldSelector;
use mainstay_apiserver::kube::request::label_selector::LabelSelector;
use mainstay_apiserver::kube::schema::{FieldKind, GroupVersionKind, Schema, TypeId};
use serde_json::Value;

/// Types with everything that types have: maps, lists, quantities, times, numbers or strings, bytes.
static KINDS: LazyLock<Vec<(GroupVersionKind, TypeId)>> = LazyLock::new(|| {
    [
        ("", "v1", "Pod"),
        ("", "v1", "Service"),
        ("", "v1", "Secret"),
        ("apps", "v1", "Deployment"),
        ("coordination.k8s.io", "v1", "Lease"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ]
    .map(|(group, version, kind)| {
        let kind =
            GroupVersionKind { group: group.into(), version: version.into(), kind: kind.into() };
        let type_id = Schema::builtin().type_of_kind(&kind).expect("a type of the table");
        (kind, type_id)
    })
    .into()
});

/// The kind that the first byte says, and the rest.
fn split(data: &[u8]) -> Option<(&'static (GroupVersionKind, TypeId), &[u8])> {
    let (&which, rest) = data.split_first()?;
    Some((&KINDS[usize::from(which) % KINDS.len()], rest))
}

/// What was decoded is the same after one more round through protobuf and JSON.
fn survives(kind: &GroupVersionKind, type_id: TypeId, value: &Value) {
    let schema = Schema::builtin();
    let bytes = pb::encode_message(schema, type_id, value);
    let mut again = pb::decode_message(schema, type_id, &bytes)
        .unwrap_or_else(|error| panic!("its own protobuf: {error}: {value}"));
    assert_eq!(pb::encode_message(schema, type_id, &again), bytes, "{value}");
    again["kind"] = kind.kind.clone().into();
    again["apiVersion"] = value["apiVersion"].clone();
    let mut text = String::new();
    json_text::write(schema, &FieldKind::Struct(type_id), &again, &mut text);
    let read = codec::decode_object(schema, type_id, kind, Format::Json, text.as_bytes())
        .unwrap_or_else(|error| panic!("its own JSON: {error}: {text}"));
    assert_eq!(pb::encode_message(schema, type_id, &read.value), bytes, "{text}");
}

fn object(format: Format, data: &[u8]) {
    let Some(((kind, type_id), data)) = split(data) else { return };
    let decoded = codec::decode_object(Schema::builtin(), *type_id, kind, format, data);
    if let Ok(decoded) = decoded {
        survives(kind, *type_id, &decoded.value);
    }
}

/// An object as protobuf, with and without its envelope.
pub fn protobuf(data: &[u8]) {
    object(Format::Protobuf, data);
    let Some(((kind, type_id), data)) = split(data) else { return };
    if let Ok(mut value) = pb::decode_message(Schema::builtin(), *type_id, data)
        && value.is_object()
    {
        value["apiVersion"] = match &kind.group[..] {
            "" => kind.version.to_string().into(),
            group => format!("{group}/{}", kind.version).into(),
        };
        survives(kind, *type_id, &value);
    }
}

/// An object as JSON.
pub fn json(data: &[u8]) {
    object(Format::Json, data);
}

/// An object as YAML; and any document is the same after it was written.
pub fn yaml(data: &[u8]) {
    object(Format::Yaml, data);
    let Ok(document) = codec::yaml::parse(data) else { return };
    let value = document.node.into_value();
    let text = yaml_text::write(&value);
    let again = codec::yaml::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("its own YAML: {error}: {text}"));
    assert_eq!(again.node.into_value(), value, "{text}");
}

/// A document and a patch, with a zero byte between them.
pub fn patch(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (Some(document), Some(patch)) = (parts.next(), parts.next()) else { return };
    let (Ok(document), Ok(patch)) = (codec::json::parse(document), codec::json::parse(patch))
    else {
        return;
    };
    let (document, patch) = (document.into_value(), patch.into_value());
    let _refused = patch::json::apply(&document, &patch);
    let mut merged = document.clone();
    if patch::merge::apply(&mut merged, patch.clone()).is_ok() {
        let once = merged.clone();
        if patch::merge::apply(&mut merged, patch.clone()).is_ok() {
            assert_eq!(merged, once, "a merge patch does nothing the second time");
        }
        // And the way from one to the other is a patch, too: null can't be set by one.
        if let Some(way) = patch::merge::diff(&document, &once) {
            let mut walked = document.clone();
            let _refused = patch::merge::apply(&mut walked, way);
        }
    }
    let (_, type_id) = KINDS[0];
    let _refused = strategic::apply(Schema::builtin(), type_id, document, patch);
}

/// Selectors of labels and fields.
pub fn label_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let labels =
            BTreeMap::from([("a".to_owned(), "b".to_owned()), ("n".to_owned(), "5".to_owned())]);
        let matched = selector.matches(&labels);
        let value = serde_json::json!({"a": "b", "n": "5"});
        assert_eq!(selector.matches_value(value.as_object()), matched, "{text}");
        let _unlabelled = selector.matches(&BTreeMap::new());
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _matched = selector.matches(|field| field.to_owned());
    }
}
