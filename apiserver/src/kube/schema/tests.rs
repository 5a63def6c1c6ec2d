//! The embedded table against itself and against Kubernetes' own discovery documents.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use super::*;

#[test]
fn the_embedded_table_is_readable() {
    let start = Instant::now();
    let schema = Schema::parse(&[TYPES, EXTRA_TYPES], RESOURCES).unwrap();
    println!("read {} bytes in {:?}", TYPES.len() + RESOURCES.len(), start.elapsed());
    assert_eq!(schema.types().len(), 762);
    assert_eq!(schema.types().iter().map(|row| row.fields.len()).sum::<usize>(), 3144);
    for (index, row) in schema.types().iter().enumerate() {
        assert_eq!(schema.type_named(&row.name), Some(TypeId(index as u32)));
        assert!(row.fields.is_sorted_by(|a, b| a.json_name < b.json_name), "{}", row.name);
    }
}

#[test]
fn list_keys_and_merge_keys_name_scalar_fields() {
    let schema = Schema::builtin();
    for row in schema.types() {
        for field in &row.fields {
            let place = format!("{}.{}", row.name, field.json_name);
            let mut keys: Vec<&String> = field.patch_merge_key.iter().collect();
            if let FieldKind::List(ListKind::Map(list_keys), _) = &field.kind {
                keys.extend(list_keys);
            }
            for key in keys {
                let FieldKind::List(_, element) = &field.kind else { panic!("{place} is no list") };
                let FieldKind::Struct(id) = **element else { panic!("{place} has no structures") };
                let key =
                    schema.type_def(id).field(key).unwrap_or_else(|| panic!("{place}: {key}"));
                assert!(
                    !matches!(key.kind, FieldKind::Struct(_) | FieldKind::Map { .. }),
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn protobuf_numbers_are_unique_in_a_message() {
    for row in Schema::builtin().types() {
        let mut seen = BTreeSet::new();
        for field in row.fields.iter().filter(|field| field.protobuf != 0) {
            let path = (&field.protobuf_outer, field.protobuf);
            assert!(seen.insert(path), "{}.{}: {path:?}", row.name, field.json_name);
        }
    }
}

#[test]
fn fields_of_common_types() {
    let schema = Schema::builtin();
    for (type_name, field, number, outer, merge_key) in [
        ("io.k8s.api.core.v1.PodSpec", "containers", 2, &[][..], Some("name")),
        ("io.k8s.api.core.v1.Volume", "hostPath", 1, &[2][..], None),
        ("io.k8s.api.core.v1.Probe", "httpGet", 2, &[1][..], None),
        ("io.k8s.api.core.v1.SecretKeySelector", "name", 1, &[1][..], None),
        (
            "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations",
            "scope",
            4,
            &[2, 2][..],
            None,
        ),
        ("io.k8s.api.core.v1.ServiceSpec", "ports", 1, &[][..], Some("port")),
    ] {
        let row = schema.type_def(schema.type_named(type_name).unwrap());
        let field = row.field(field).unwrap();
        assert_eq!(field.protobuf, number, "{type_name}.{}", field.json_name);
        assert_eq!(field.protobuf_outer, outer, "{type_name}.{}", field.json_name);
        assert_eq!(field.patch_merge_key.as_deref(), merge_key, "{type_name}.{}", field.json_name);
    }
}

/// Every resource of a default server's discovery, told as a line.
fn lines_of_discovery(group: &str, version: &str, document: &Value) -> BTreeSet<String> {
    let words = |value: &Value| {
        value
            .as_array()
            .map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
    };
    let mut lines = BTreeSet::new();
    for row in document["resources"].as_array().unwrap() {
        let text = |name: &str, absent: &str| row[name].as_str().unwrap_or(absent).to_owned();
        lines.insert(format!(
            "{group}/{version} {} {}/{}/{} namespaced={} verbs={} short={} categories={} singular={}",
            text("name", ""),
            text("group", group),
            text("version", version),
            text("kind", ""),
            row["namespaced"],
            words(&row["verbs"]).unwrap_or_default(),
            words(&row["shortNames"]).unwrap_or_default(),
            words(&row["categories"]).unwrap_or_default(),
            text("singularName", ""),
        ));
    }
    lines
}

fn lines_of_table(schema: &Schema, group: &str, version: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let rows = schema.resources().iter();
    for row in rows.filter(|row| row.group == group && row.version == version) {
        let line = |name: &str, kind: &GroupVersionKind, verbs: &[String], rest: [&str; 3]| {
            format!(
                "{group}/{version} {name} {}/{}/{} namespaced={} verbs={} short={} categories={} \
                 singular={}",
                kind.group,
                kind.version,
                kind.kind,
                row.namespaced,
                verbs.join(","),
                rest[0],
                rest[1],
                rest[2],
            )
        };
        let rest = [&row.short_names.join(",")[..], &row.categories.join(","), &row.singular];
        lines.insert(line(&row.plural, &row.gvk(), &row.verbs, rest));
        for sub in &row.subresources {
            let name = format!("{}/{}", row.plural, sub.name);
            lines.insert(line(&name, &sub.kind, &sub.verbs, ["", "", ""]));
        }
    }
    lines
}

#[test]
fn resources_are_those_of_kubernetes_discovery() {
    let schema = Schema::builtin();
    let versions: BTreeSet<_> =
        schema.resources().iter().map(|row| (row.group.clone(), row.version.clone())).collect();
    assert_eq!(versions.len(), 22);
    for (group, version) in versions {
        let file = match group.as_str() {
            "" => format!("discovery/api__{version}.json"),
            _ => format!("discovery/apis__{group}__{version}.json"),
        };
        let Some(text) = golden::shared(&format!("kubernetes/{file}")) else { return };
        let document: Value = serde_json::from_str(&text).unwrap();
        let expected = lines_of_discovery(&group, &version, &document);
        assert_eq!(lines_of_table(schema, &group, &version), expected, "{group}/{version}");
    }
}
