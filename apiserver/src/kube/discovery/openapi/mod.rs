//! OpenAPI v3: the index at `/openapi/v3` and one document for each group version, made from the
//! table when first asked for: enough for `kubectl explain`, validation and generated clients. The
//! one document of v2 is made from them.

mod connect;
mod custom;
mod descriptions;
mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod v2;

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use custom::CustomOpenApi;
pub use gnostic::CONTENT_TYPES as SWAGGER_PROTOBUF_TYPES;

use super::version::KUBERNETES_VERSION;
use super::{Document, Group, Version, groups};
use crate::kube::schema::{Resource, Schema};

/// The documents of the built-in types. Each is made at its first use.
#[derive(Debug)]
pub struct OpenApi {
    schema: &'static Schema,
    entries: BTreeMap<String, Entry>,
    swagger: OnceLock<Document>,
    swagger_protobuf: OnceLock<Document>,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    hash: String,
    document: OnceLock<Document>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    GroupVersion {
        group: String,
        version: String,
    },
    /// A path that only answers GET with an object of this type.
    Single {
        path: String,
        operation: String,
        tag: String,
        type_name: &'static str,
    },
}

/// What answers a GET and is no resource: its path, the operation's name and tag, the answer's type.
const SINGLE_DOCUMENTS: [(&str, &str, &str, &str); 5] = [
    (
        ".well-known/openid-configuration",
        "getServiceAccountIssuerOpenIDConfiguration",
        "WellKnown",
        "",
    ),
    ("api", "getCoreAPIVersions", "core", "APIVersions"),
    ("apis", "getAPIVersions", "apis", "APIGroupList"),
    ("openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "openid", ""),
    ("version", "getCodeVersion", "version", "Info"),
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

impl OpenApi {
    /// The documents of this program's own table, shared by all cores.
    pub fn builtin() -> &'static OpenApi {
        static BUILTIN: LazyLock<OpenApi> = LazyLock::new(|| OpenApi::new(Schema::builtin()));
        &BUILTIN
    }

    /// What is served of the table.
    pub fn new(schema: &'static Schema) -> OpenApi {
        let served = served(schema);
        let served_text = format!("{served:?}");
        let mut entries = BTreeMap::new();
        let mut add = |name: String, content: Content| {
            let hash = hash_of(&content, &served_text);
            entries.insert(name, Entry { content, hash, document: OnceLock::new() });
        };
        for (name, operation, tag, type_name) in SINGLE_DOCUMENTS {
            let (path, operation, tag) = (format!("/{name}/"), operation.into(), tag.into());
            add(name.to_owned(), Content::Single { path, operation, tag, type_name });
        }
        for group in groups(&served) {
            if !group.name.is_empty() {
                let path = format!("/apis/{}/", group.name);
                let name = paths::group_name(group.name);
                let operation = format!("get{name}APIGroup");
                let tag = paths::group_tag(&name);
                let content = Content::Single { path, operation, tag, type_name: "APIGroup" };
                add(format!("apis/{}", group.name), content);
            }
            for version in &group.versions {
                let name = path_of(&group, version);
                let (group, version) = (group.name.to_owned(), version.name.to_owned());
                add(name, Content::GroupVersion { group, version });
            }
        }
        OpenApi { schema, entries, swagger: OnceLock::new(), swagger_protobuf: OnceLock::new() }
    }

    /// The index: where the document of each path is. `others` are documents that are not of the
    /// built-in types (custom resources), as path (`apis/example.com/v1`) and hash.
    pub fn index(&self, others: &[(String, String)]) -> Value {
        let own = self.entries.iter().map(|(path, entry)| (path, &entry.hash));
        let all = own.chain(others.iter().map(|(path, hash)| (path, hash)));
        let paths: Map<String, Value> = all
            .map(|(path, hash)| {
                let url = format!("/openapi/v3/{path}?hash={hash}");
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }

    /// The document of a path such as `api/v1` or `apis/apps/v1`.
    pub fn document(&self, path: &str) -> Option<&Document> {
        let entry = self.entries.get(path.trim_matches('/'))?;
        Some(entry.document.get_or_init(|| Document::json(&self.make(&entry.content))))
    }

    /// What changes when the document of this path does.
    pub fn hash(&self, path: &str) -> Option<&str> {
        self.entries.get(path.trim_matches('/')).map(|entry| entry.hash.as_str())
    }

    /// The document of OpenAPI v2 at `/openapi/v2`, as JSON.
    pub fn swagger(&self) -> &Document {
        self.swagger.get_or_init(|| Document::json(&self.make_swagger()))
    }

    /// The same in protobuf, see [`gnostic`].
    pub fn swagger_protobuf(&self) -> &Document {
        self.swagger_protobuf
            .get_or_init(|| Document::new(Bytes::from(gnostic::encode(&self.make_swagger()))))
    }

    fn make_swagger(&self) -> Value {
        v2::convert(self.documents())
    }

    /// All documents of v3.
    fn documents(&self) -> impl Iterator<Item = Value> {
        self.entries.values().map(|entry| self.make(&entry.content))
    }

    fn make(&self, content: &Content) -> Value {
        match content {
            Content::Single { path, operation, tag, type_name } => {
                self.single(path, operation, tag, type_name)
            }
            Content::GroupVersion { group, version } => self.group_version(group, version),
        }
    }

    fn single(&self, path: &str, operation: &str, tag: &str, type_name: &str) -> Value {
        let full_name = match type_name {
            "Info" => "io.k8s.apimachinery.pkg.version.Info".to_owned(),
            name => format!("{META}.{name}"),
        };
        let answer = self.schema.type_named(&full_name).map(|_| full_name);
        let paths = json!({path: {"get": paths::plain_get(operation, tag, answer.as_deref())}});
        self.with_schemas(paths)
    }

    fn group_version(&self, group: &str, version: &str) -> Value {
        let served = served(self.schema);
        let rows: Vec<&Resource> =
            served.into_iter().filter(|row| row.group == group && row.version == version).collect();
        let type_name = |kind: &_| paths::builtin_type_name(self.schema, kind);
        let paths = paths::of_group_version(&type_name, group, version, &rows);
        self.with_schemas(Value::Object(paths))
    }

    /// The whole document around its paths.
    fn with_schemas(&self, paths: Value) -> Value {
        let names = paths::referenced_types(&paths);
        document(paths, schemas::components(self.schema, names))
    }
}

/// What a field of a type is for, when descriptions are built in.
pub fn field_description(type_name: &str, field: &str) -> Option<&'static str> {
    descriptions::descriptions().of_field(type_name, field)
}

fn served(schema: &Schema) -> Vec<&Resource> {
    schema.resources().iter().map(AsRef::as_ref).filter(|row| row.served).collect()
}

fn path_of(group: &Group<'_>, version: &Version<'_>) -> String {
    match group.name {
        "" => format!("api/{}", version.name),
        name => format!("apis/{name}/{}", version.name),
    }
}

/// Changes whenever the document may: with the program, the Kubernetes version and what is served.
fn hash_of(content: &Content, served: &str) -> String {
    hash_of_text(&format!("{content:?} {served}"))
}

fn hash_of_text(text: &str) -> String {
    let text = format!("{} {KUBERNETES_VERSION} {text}", env!("CARGO_PKG_VERSION"));
    Document::json(&Value::String(text)).hash().to_owned()
}

fn document(paths: Value, schemas: Map<String, Value>) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}
            },
        },
    })
}
