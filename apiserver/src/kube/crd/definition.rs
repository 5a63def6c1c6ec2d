//! A definition: what the server sets in it, and the rows that it adds to the table.

use serde_json::{Value, json};

use super::columns::Column;
use super::json_path::JsonPath;
use super::validate::Patterns;
use super::{CLEANUP_FINALIZER, CustomType, Row, ScalePaths, defaults, flag, types, word};
use crate::kube::object::{self, Object};
use crate::kube::registry::context::Now;
use crate::kube::resources::Strategy;
use crate::kube::schema::{GroupVersionKind, Resource, Subresource};

/// In discovery's order.
const VERBS: [&str; 8] =
    ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// What is special about definitions.
pub fn strategy() -> Strategy {
    Strategy {
        defaults: complete,
        prepare_create: |definition| {
            let stored: Vec<&str> = storage_version(definition).into_iter().collect();
            let status = json!({"storedVersions": stored});
            definition.insert("status".to_owned(), status);
        },
        prepare_update: |definition, _| {
            let Some(version) = storage_version(definition).map(str::to_owned) else { return };
            let status = object::map_mut(definition, "status");
            let mut stored = object::list(status, "storedVersions").to_vec();
            if !stored.iter().any(|own| own == version.as_str()) {
                stored.push(version.into());
                status.insert("storedVersions".to_owned(), stored.into());
            }
        },
        generation: true,
        unconditional_update: false,
        validate: super::rules::definition,
        validate_update: super::rules::change,
        ..Strategy::default()
    }
}

/// What a client may leave out.
fn complete(definition: &mut Object) {
    let spec = object::map_mut(definition, "spec");
    let names = object::map_mut(spec, "names");
    let kind = object::text(names, "kind").to_owned();
    if !kind.is_empty() {
        object::default_text(names, "singular", &kind.to_lowercase());
        object::default_text(names, "listKind", &format!("{kind}List"));
    }
    let conversion = object::map_mut(spec, "conversion");
    object::default_text(conversion, "strategy", "None");
    if let Some(Value::Object(webhook)) = conversion.get_mut("webhook")
        && let Some(Value::Object(client)) = webhook.get_mut("clientConfig")
        && let Some(Value::Object(service)) = client.get_mut("service")
    {
        object::default(service, "port", 443);
    }
}

fn storage_version(definition: &Object) -> Option<&str> {
    let versions = object::list_at(definition, &["spec", "versions"]);
    versions.iter().find(|version| flag(version, "storage")).map(|version| word(version, "name"))
}

/// Whether a condition of a definition is true.
pub fn is_true(definition: &Object, condition: &str) -> bool {
    let conditions = object::list_at(definition, &["status", "conditions"]);
    conditions.iter().any(|one| one["type"] == condition && one["status"] == "True")
}

/// A definition on its way: it goes when its objects are gone.
pub fn marked_for_deletion(definition: &Object, now: Now) -> Object {
    let mut marked = definition.clone();
    let mut finalizers = object::finalizers(definition);
    if !finalizers.iter().any(|own| own == CLEANUP_FINALIZER) {
        finalizers.push(CLEANUP_FINALIZER.to_owned());
    }
    let metadata = object::metadata_mut(&mut marked);
    metadata.insert("deletionTimestamp".to_owned(), now.seconds().into());
    metadata.insert("finalizers".to_owned(), json!(finalizers));
    let status = object::map_mut(&mut marked, "status");
    let mut conditions = object::list(status, "conditions").to_vec();
    conditions.retain(|condition| condition["type"] != "Terminating");
    conditions.push(json!({
        "type": "Terminating", "status": "True", "lastTransitionTime": now.seconds(),
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will occur as soon as possible",
    }));
    status.insert("conditions".to_owned(), conditions.into());
    marked
}

/// The rows of a definition that is established; the preferred version first.
pub fn rows(definition: &Object) -> Vec<Row> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let mut versions: Vec<&Value> =
        object::list_at(definition, &["spec", "versions"]).iter().collect();
    versions.retain(|version| flag(version, "served"));
    versions.sort_by(|left, right| by_preference(word(left, "name"), word(right, "name")));
    versions.iter().map(|version| row(definition, version)).collect()
}

fn row(definition: &Object, version: &Value) -> Row {
    let group = object::text_at(definition, &["spec", "group"]).to_owned();
    let names = object::at(definition, &["status", "acceptedNames"]).unwrap_or(&Value::Null);
    let name = word(version, "name").to_owned();
    let kind = word(names, "kind").to_owned();
    let plural = word(names, "plural").to_owned();
    let schema = version["schema"]["openAPIV3Schema"].clone();
    let types = types::types_of(&schema, &format!("{group}/{name}.{kind}"));
    let texts = |field: &str| -> Vec<String> {
        let list = names.get(field).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let kind_of = |version: &str| GroupVersionKind {
        group: group.clone(),
        version: version.to_owned(),
        kind: kind.clone(),
    };
    let resource = Resource {
        singular: word(names, "singular").to_owned(),
        namespaced: object::text_at(definition, &["spec", "scope"]) == "Namespaced",
        short_names: texts("shortNames"),
        categories: texts("categories"),
        verbs: VERBS.map(str::to_owned).to_vec(),
        subresources: subresources(version, &kind_of(&name)),
        storage_prefix: format!("{group}/{plural}"),
        type_id: types::root(&types),
        stored_as: kind_of(storage_version(definition).unwrap_or(&name)),
        stored: true,
        served: true,
        field_selectors: selectable(version),
        group,
        version: name,
        plural,
        kind,
    };
    let custom = custom_type(definition, version, &resource, schema, types);
    Row { resource, custom }
}

fn custom_type(
    definition: &Object,
    version: &Value,
    resource: &Resource,
    schema: Value,
    types: crate::kube::schema::Schema,
) -> CustomType {
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array);
    let columns = match columns.map(Vec::as_slice) {
        None | Some([]) => vec![Column::age()],
        Some(columns) => columns.iter().map(Column::read).collect(),
    };
    let mut patterns = Patterns::new();
    compile_patterns(&schema, &mut patterns);
    CustomType {
        kind: resource.kind.clone(),
        columns,
        patterns,
        deprecation: deprecation(definition, version, resource),
        scale: scale_paths(version),
        has_status: version["subresources"].get("status").is_some(),
        is_terminating: object::is_being_deleted(definition),
        has_defaults: defaults::has_any(&schema),
        types,
        schema,
    }
}

fn subresources(version: &Value, kind: &GroupVersionKind) -> Vec<Subresource> {
    let verbs = ["get", "patch", "update"].map(str::to_owned).to_vec();
    let scale = GroupVersionKind {
        group: "autoscaling".to_owned(),
        version: "v1".to_owned(),
        kind: "Scale".to_owned(),
    };
    [("status", kind.clone()), ("scale", scale)]
        .into_iter()
        .filter(|(name, _)| version["subresources"].get(*name).is_some_and(|one| !one.is_null()))
        .map(|(name, kind)| Subresource {
            name: name.to_owned(),
            kind,
            verbs: verbs.clone(),
            served: true,
        })
        .collect()
}

fn selectable(version: &Value) -> Vec<String> {
    let fields = version.get("selectableFields").and_then(Value::as_array);
    let paths = fields.into_iter().flatten().map(|field| word(field, "jsonPath"));
    paths.map(|path| path.trim_start_matches('.').to_owned()).collect()
}

fn scale_paths(version: &Value) -> Option<ScalePaths> {
    let scale = version["subresources"].get("scale")?;
    Some(ScalePaths {
        replicas: JsonPath::parse(word(scale, "specReplicasPath"))?,
        status_replicas: JsonPath::parse(word(scale, "statusReplicasPath"))?,
        selector: JsonPath::parse(word(scale, "labelSelectorPath")),
    })
}

/// What clients of a deprecated version are told: the definition's words, or which version is
/// newer and not deprecated.
fn deprecation(definition: &Object, version: &Value, resource: &Resource) -> Option<String> {
    if !flag(version, "deprecated") {
        return None;
    }
    if let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let Resource { group, kind, version: own, .. } = resource;
    let versions = object::list_at(definition, &["spec", "versions"]);
    let mut better: Vec<&str> = versions
        .iter()
        .filter(|version| flag(version, "served") && !flag(version, "deprecated"))
        .map(|version| word(version, "name"))
        .filter(|name| by_preference(name, own).is_lt())
        .collect();
    better.sort_by(|left, right| by_preference(left, right));
    let text = format!("{group}/{own} {kind} is deprecated");
    Some(match better.first() {
        Some(name) => format!("{text}; use {group}/{name} {kind}"),
        None => text,
    })
}

/// All patterns of a schema that can be compiled; the rules of definitions refuse others.
fn compile_patterns(schema: &Value, patterns: &mut Patterns) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get("pattern")
                && let Ok(compiled) = regex::Regex::new(text)
            {
                patterns.insert(text.clone(), compiled);
            }
            let data = ["default", "enum", "example"];
            members
                .iter()
                .filter(|(key, _)| !data.contains(&key.as_str()))
                .for_each(|(_, below)| compile_patterns(below, patterns));
        }
        Value::Array(list) => list.iter().for_each(|below| compile_patterns(below, patterns)),
        _ => {}
    }
}

/// The order of versions: `v2` before `v1` before `v1beta2` before `v1alpha1`, others at the end by
/// name.
pub fn by_preference(left: &str, right: &str) -> std::cmp::Ordering {
    match (rank(left), rank(right)) {
        (Some(left), Some(right)) => right.cmp(&left),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => left.cmp(right),
    }
}

/// Stability, major and minor number of a version.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let digits = version.strip_prefix('v')?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let major = digits[..end].parse().ok()?;
    match &digits[end..] {
        "" => Some((2, major, 0)),
        rest => {
            let (stability, minor) = match rest.strip_prefix("beta") {
                Some(minor) => (1, minor),
                None => (0, rest.strip_prefix("alpha")?),
            };
            Some((stability, major, minor.parse().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn versions_are_ordered_by_stability() {
        let mut versions = ["foo", "v1alpha1", "v1", "v10beta3", "v2", "v1beta2", "v11alpha2"];
        versions.sort_by(|left, right| by_preference(left, right));
        assert_eq!(versions, ["v2", "v1", "v10beta3", "v1beta2", "v11alpha2", "v1alpha1", "foo"]);
    }

    #[test]
    fn an_established_definition_has_rows() {
        let mut definition = into_object(json!({
            "spec": {"group": "example.com", "scope": "Namespaced", "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true},
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".spec.color"}]},
                {"name": "v2", "served": false, "storage": false},
            ]},
            "status": {"acceptedNames": {"plural": "things", "kind": "Thing"}},
        }));
        assert!(rows(&definition).is_empty());
        let condition = json!([{"type": "Established", "status": "True"}]);
        object::map_mut(&mut definition, "status").insert("conditions".to_owned(), condition);
        let rows = rows(&definition);
        let versions: Vec<&str> = rows.iter().map(|row| row.resource.version.as_str()).collect();
        assert_eq!(versions, ["v1", "v1beta1"]);
        assert!(rows[0].custom.has_status);
        assert_eq!(rows[0].resource.field_selectors, ["spec.color"]);
        assert_eq!(rows[1].resource.stored_as.version, "v1");
        let warning = "example.com/v1beta1 Thing is deprecated; use example.com/v1 Thing";
        assert_eq!(rows[1].custom.deprecation.as_deref(), Some(warning));
    }
}
