//! The documents of custom resources: made from their definitions, which come and go.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Document, META, OpenApi, document, gnostic, hash_of_text, paths, schemas, v2};
use crate::kube::discovery::openapi::field_description;
use crate::kube::schema::{GroupVersionKind, Resource, Schema};

/// The documents of the custom resources of one generation. Each is made at its first use.
#[derive(Debug, Default)]
pub struct CustomOpenApi {
    /// By path, such as `apis/example.com/v1` and `apis/example.com`.
    entries: BTreeMap<String, Entry>,
    swagger: OnceCell<Document>,
    swagger_protobuf: OnceCell<Document>,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    hash: String,
    document: OnceCell<Document>,
}

#[derive(Debug)]
enum Content {
    Group(String),
    Version(Vec<CustomRow>),
}

#[derive(Debug, Clone)]
struct CustomRow {
    resource: Arc<Resource>,
    /// `openAPIV3Schema`
    schema: Value,
}

impl CustomOpenApi {
    /// Of these resources and their schemas.
    pub fn new<'a>(rows: impl Iterator<Item = (&'a Arc<Resource>, &'a Value)>) -> CustomOpenApi {
        let mut versions: BTreeMap<String, Vec<CustomRow>> = BTreeMap::new();
        let mut groups = BTreeSet::new();
        for (resource, schema) in rows {
            groups.insert(resource.group.clone());
            let path = format!("apis/{}/{}", resource.group, resource.version);
            let row = CustomRow { resource: resource.clone(), schema: schema.clone() };
            versions.entry(path).or_default().push(row);
        }
        let mut entries = BTreeMap::new();
        let mut add = |path: String, content: Content| {
            let hash = hash_of_text(&format!("{content:?}"));
            entries.insert(path, Entry { content, hash, document: OnceCell::new() });
        };
        groups.into_iter().for_each(|group| add(format!("apis/{group}"), Content::Group(group)));
        versions.into_iter().for_each(|(path, rows)| add(path, Content::Version(rows)));
        CustomOpenApi { entries, ..CustomOpenApi::default() }
    }

    /// Paths and hashes, for the index.
    pub fn hashes(&self) -> Vec<(String, String)> {
        self.entries.iter().map(|(path, entry)| (path.clone(), entry.hash.clone())).collect()
    }

    /// What changes when the document of this path does.
    pub fn hash(&self, path: &str) -> Option<&str> {
        self.entries.get(path.trim_matches('/')).map(|entry| entry.hash.as_str())
    }

    /// The document of a path such as `apis/example.com/v1`.
    pub fn document(&self, path: &str) -> Option<&Document> {
        let entry = self.entries.get(path.trim_matches('/'))?;
        Some(entry.document.get_or_init(|| Document::json(&make(&entry.content, false))))
    }

    /// The document of OpenAPI v2, with the built-in types.
    pub fn swagger<'a>(&'a self, builtin: &'a OpenApi) -> &'a Document {
        match self.entries.is_empty() {
            true => builtin.swagger(),
            false => self.swagger.get_or_init(|| Document::json(&self.make_swagger(builtin))),
        }
    }

    /// The same in protobuf.
    pub fn swagger_protobuf<'a>(&'a self, builtin: &'a OpenApi) -> &'a Document {
        match self.entries.is_empty() {
            true => builtin.swagger_protobuf(),
            false => self.swagger_protobuf.get_or_init(|| {
                Document::new(Bytes::from(gnostic::encode(&self.make_swagger(builtin))))
            }),
        }
    }

    fn make_swagger(&self, builtin: &OpenApi) -> Value {
        let custom = self.entries.values().map(|entry| make(&entry.content, true));
        v2::convert(builtin.documents().chain(custom))
    }
}

fn make(content: &Content, for_v2: bool) -> Value {
    match content {
        Content::Group(group) => {
            let name = paths::group_name(group);
            let get = paths::plain_get(
                &format!("get{name}APIGroup"),
                &paths::group_tag(&name),
                Some(&format!("{META}.APIGroup")),
            );
            with_schemas(json!({format!("/apis/{group}/"): {"get": get}}), Map::new())
        }
        Content::Version(rows) => version(rows, for_v2),
    }
}

fn version(rows: &[CustomRow], for_v2: bool) -> Value {
    let Some(first) = rows.first() else { return document(json!({}), Map::new()) };
    let (group, version) = (&first.resource.group, &first.resource.version);
    let type_name = |kind: &GroupVersionKind| {
        let own = rows.iter().any(|row| {
            let row = &row.resource;
            let is_list = kind.kind.strip_suffix("List") == Some(row.kind.as_str());
            kind.group == row.group && (kind.kind == row.kind || is_list)
        });
        match own {
            true => Some(type_name(group, version, &kind.kind)),
            false => paths::builtin_type_name(Schema::builtin(), kind),
        }
    };
    let resources: Vec<&Resource> = rows.iter().map(|row| row.resource.as_ref()).collect();
    let paths = paths::of_group_version(&type_name, group, version, &resources);
    let mut own = Map::new();
    for row in rows {
        let kind = row.resource.gvk();
        let name = type_name(&kind).unwrap_or_default();
        own.insert(format!("{name}List"), list_schema(&kind, &row.resource.plural, &name));
        own.insert(name, object_schema(&kind, &row.schema, for_v2));
    }
    with_schemas(Value::Object(paths), own)
}

/// `com.example.stable.v1.CronTab`
fn type_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The document of these paths; what they and the custom types refer to is added.
fn with_schemas(paths: Value, own: Map<String, Value>) -> Value {
    let mut names = paths::referenced_types(&paths);
    names.extend(own.values().flat_map(paths::referenced_types));
    names.retain(|name| !own.contains_key(name));
    let mut all = schemas::components(Schema::builtin(), names);
    all.extend(own);
    document(paths, all)
}

/// The type whose `apiVersion`, `kind` and `metadata` are described as those of every object.
const ANY_OBJECT: &str = "io.k8s.api.core.v1.ConfigMap";

fn described(mut schema: Value, field: &str) -> Value {
    if let Some(text) = field_description(ANY_OBJECT, field) {
        schema["description"] = text.into();
    }
    schema
}

/// The schema of an object: what its definition says, and what all objects have.
fn object_schema(kind: &GroupVersionKind, schema: &Value, for_v2: bool) -> Value {
    let mut schema = match for_v2 {
        true => without_what_v2_lacks(schema),
        false => schema.clone(),
    };
    if !schema.is_object() {
        schema = json!({});
    }
    if schema["properties"].is_object() {
        for field in ["apiVersion", "kind"] {
            schema["properties"][field] = described(json!({"type": "string"}), field);
        }
        let metadata = json!({"allOf": [schemas::reference(&format!("{META}.ObjectMeta"))]});
        schema["properties"]["metadata"] = described(metadata, "metadata");
    }
    schema["x-kubernetes-group-version-kind"] = own_kind(kind, "");
    schema
}

fn own_kind(kind: &GroupVersionKind, suffix: &str) -> Value {
    let name = format!("{}{suffix}", kind.kind);
    json!([{"group": kind.group, "version": kind.version, "kind": name}])
}

fn list_schema(kind: &GroupVersionKind, plural: &str, name: &str) -> Value {
    let metadata = json!({"allOf": [schemas::reference(&format!("{META}.ListMeta"))]});
    json!({
        "type": "object",
        "description": format!("{}List is a list of {}", kind.kind, kind.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": described(json!({"type": "string"}), "apiVersion"),
            "kind": described(json!({"type": "string"}), "kind"),
            "metadata": metadata,
            "items": {
                "type": "array", "description": format!("List of {plural}."),
                "items": schemas::reference(name),
            },
        },
        "x-kubernetes-group-version-kind": own_kind(kind, "List"),
    })
}

/// What v2 has no words for is left out; a value that may be null or of several types is any value.
fn without_what_v2_lacks(schema: &Value) -> Value {
    const LACKING: [&str; 7] = ["oneOf", "anyOf", "allOf", "not", "nullable", "default", "example"];
    let Value::Object(members) = schema else { return schema.clone() };
    let is = |name: &str| members.get(name) == Some(&Value::Bool(true));
    let is_any = is("nullable") || is("x-kubernetes-int-or-string");
    let mut kept = Map::new();
    for (key, value) in members {
        let value = match key.as_str() {
            key if LACKING.contains(&key) => continue,
            "type" | "items" | "properties" | "additionalProperties" if is_any => continue,
            "properties" => match value {
                Value::Object(fields) => fields
                    .iter()
                    .map(|(name, field)| (name.clone(), without_what_v2_lacks(field)))
                    .collect::<Map<_, _>>()
                    .into(),
                other => other.clone(),
            },
            "items" | "additionalProperties" => without_what_v2_lacks(value),
            _ => value.clone(),
        };
        kept.insert(key.clone(), value);
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom() -> CustomOpenApi {
        let mut row = Resource::clone(&Schema::builtin().resources()[2]);
        row.group = "stable.example.com".to_owned();
        row.version = "v1".to_owned();
        row.kind = "CronTab".to_owned();
        row.plural = "crontabs".to_owned();
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object", "properties": {"port": {"type": "integer", "nullable": true, "default": 1}},
        }}});
        CustomOpenApi::new([(&Arc::new(row), &schema)].into_iter())
    }

    #[test]
    fn a_definition_becomes_a_document() {
        let custom = custom();
        let paths: Vec<String> = custom.hashes().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["apis/stable.example.com", "apis/stable.example.com/v1"]);
        let document = custom.document("apis/stable.example.com/v1").unwrap();
        let document: Value = serde_json::from_slice(&document.bytes).unwrap();
        let schemas = &document["components"]["schemas"];
        let crontab = &schemas["com.example.stable.v1.CronTab"];
        assert_eq!(crontab["properties"]["spec"]["properties"]["port"]["default"], 1);
        assert_eq!(crontab["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
        assert!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
        let path = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["operationId"], "patchStableExampleComV1NamespacedCronTab");
        for name in paths::referenced_types(&document) {
            assert!(schemas[&name].is_object(), "{name}");
        }
        assert!(custom.document("apis/other.example.com/v1").is_none());
    }

    #[test]
    fn swagger_has_both_kinds_of_types() {
        let (custom, builtin) = (custom(), OpenApi::builtin());
        let document: Value = serde_json::from_slice(&custom.swagger(builtin).bytes).unwrap();
        let definitions = &document["definitions"];
        assert!(definitions["io.k8s.api.core.v1.Pod"].is_object());
        let crontab = &definitions["com.example.stable.v1.CronTab"];
        assert_eq!(crontab["properties"]["spec"]["properties"]["port"], json!({}));
        assert_eq!(
            crontab["properties"]["metadata"]["$ref"],
            "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        assert_ne!(custom.swagger(builtin).etag, builtin.swagger().etag);
    }
}
