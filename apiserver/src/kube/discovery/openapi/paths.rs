//! The `paths` of a document: what can be done with each served resource, and with which
//! parameters. kubectl looks here whether a PATCH knows `fieldValidation`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schemas::{collect_references, reference};
use super::{META, connect};
use crate::kube::schema::{GroupVersionKind, Resource, Schema, Subresource};

pub(super) const ANSWER_TYPES: [&str; 3] =
    ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const LIST_PARAMETERS: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE_PARAMETERS: &[&str] =
    &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const WRITE_PARAMETERS: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];

/// The schema names in all references below a value.
pub(super) fn referenced_types(value: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect_references(value, &mut names);
    names
}

/// A GET of this name that answers with an object of this type, or with anything.
pub(super) fn plain_get(operation: &str, tag: &str, type_name: Option<&str>) -> Value {
    json!({
        "operationId": operation, "tags": [tag],
        "responses": {
            "200": answer("OK", type_name.map(reference).as_ref(), &ANSWER_TYPES),
            "401": {"description": "Unauthorized"},
        },
    })
}

/// All paths of a group version's resources.
pub(super) fn of_group_version(
    type_name: TypeNames<'_>,
    group: &str,
    version: &str,
    rows: &[&Resource],
) -> Map<String, Value> {
    let root = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let mut paths = Map::new();
    let list = format!("{META}.APIResourceList");
    let names = Names::of(group, version);
    let resources = format!("get{}APIResources", names.operation);
    paths
        .insert(format!("{root}/"), json!({"get": plain_get(&resources, &names.tag, Some(&list))}));
    for row in rows {
        let writer = Writer { type_name, row, names: &names };
        writer.add_to(&root, &mut paths);
    }
    paths
}

/// What a group version is called in the names of operations, and as a tag.
pub(super) struct Names {
    /// `AppsV1`
    pub(super) operation: String,
    /// `apps_v1`
    pub(super) tag: String,
}

impl Names {
    pub(super) fn of(group: &str, version: &str) -> Names {
        let group = group_name(group);
        let operation = format!("{group}{}", capital(version));
        Names { operation, tag: format!("{}_{version}", group_tag(&group)) }
    }
}

/// `RbacAuthorization`
pub(super) fn group_name(group: &str) -> String {
    let words = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    words.split('.').map(capital).collect()
}

/// `rbacAuthorization`
pub(super) fn group_tag(group_name: &str) -> String {
    let mut characters = group_name.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

pub(super) fn capital(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// The OpenAPI name of a kind's type.
pub(super) type TypeNames<'a> = &'a dyn Fn(&GroupVersionKind) -> Option<String>;

/// The name of a built-in kind's type.
pub(super) fn builtin_type_name(schema: &Schema, kind: &GroupVersionKind) -> Option<String> {
    let id = schema.type_of_kind(kind)?;
    Some(schema.type_def(id).name.clone())
}

struct Writer<'a> {
    type_name: TypeNames<'a>,
    row: &'a Resource,
    names: &'a Names,
}

/// One operation of a path.
struct Operation<'a> {
    /// `create`, the first word of its name
    verb: &'a str,
    /// `post`, told as `x-kubernetes-action`
    action: &'a str,
    suffix: &'a str,
    kind: &'a GroupVersionKind,
    parameters: &'a [&'a str],
    answer: Option<Value>,
    body: Option<Value>,
    statuses: &'a [(&'a str, &'a str)],
}

const READ: &[(&str, &str)] = &[("200", "OK")];
const UPDATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
const CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const DELETED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

impl Writer<'_> {
    fn add_to(&self, root: &str, paths: &mut Map<String, Value>) {
        let row = self.row;
        let collection = match row.namespaced {
            true => format!("{root}/namespaces/{{namespace}}/{}", row.plural),
            false => format!("{root}/{}", row.plural),
        };
        let item = format!("{collection}/{{name}}");
        let mut add = |path: String, mut value: Value| {
            if value.as_object().is_some_and(|operations| !operations.is_empty()) {
                let own = value["parameters"].take();
                value["parameters"] = path_parameters(&path, own);
                paths.insert(path, value);
            }
        };
        if row.namespaced && self.has("list") {
            let mut list = self.list();
            list["operationId"] =
                format!("list{}{}ForAllNamespaces", self.names.operation, row.kind).into();
            add(format!("{root}/{}", row.plural), json!({"get": list}));
        }
        if self.has("watch") {
            self.add_watches(watch_paths(root, row), &mut add);
        }
        add(item.clone(), self.item());
        for sub in row.subresources.iter().filter(|sub| sub.served) {
            let path = format!("{item}/{}", sub.name);
            if connect::is_connection(sub) {
                for (path, operations) in connect::paths(row, sub, self.names, &path) {
                    add(path, operations);
                }
            } else if sub.name == "log" {
                add(path, connect::log(row, self.names));
            } else {
                add(path, self.subresource(sub));
            }
        }
        add(collection, self.collection());
    }

    /// The deprecated paths that do nothing but watch.
    fn add_watches(&self, paths: [Option<String>; 3], add: &mut impl FnMut(String, Value)) {
        let [everywhere, collection, item] = paths;
        let kind = self.row.gvk();
        let operation = |action: &'static str, suffix: &str| {
            self.operation(Operation {
                verb: "watch",
                action,
                suffix,
                kind: &kind,
                parameters: LIST_PARAMETERS,
                answer: Some(reference(&format!("{META}.WatchEvent"))),
                body: None,
                statuses: READ,
            })
        };
        if let Some(path) = everywhere {
            let mut watch = operation("watchlist", "");
            let name =
                format!("watch{}{}ListForAllNamespaces", self.names.operation, self.row.kind);
            watch["operationId"] = name.into();
            add(path, json!({"get": watch}));
        }
        if let Some(path) = collection {
            add(path, json!({"get": operation("watchlist", "List")}));
        }
        if let Some(path) = item {
            add(path, json!({"get": operation("watch", "")}));
        }
    }

    fn has(&self, verb: &str) -> bool {
        self.row.verbs.iter().any(|known| known == verb)
    }

    fn collection(&self) -> Value {
        let kind = self.row.gvk();
        let mut operations = json!({});
        if self.has("list") {
            operations["get"] = self.list();
        }
        if self.has("create") {
            operations["post"] = self.create(&kind, "");
        }
        if self.has("deletecollection") {
            operations["delete"] = self.operation(Operation {
                verb: "deleteCollection",
                action: "deletecollection",
                suffix: "",
                kind: &kind,
                parameters: &[DELETE_PARAMETERS, LIST_PARAMETERS].concat(),
                answer: Some(reference(&format!("{META}.Status"))),
                body: Some(delete_body()),
                statuses: READ,
            });
        }
        operations
    }

    fn item(&self) -> Value {
        let kind = self.row.gvk();
        let mut operations = self.read_write(&kind, "", &self.row.verbs);
        if self.has("delete") {
            operations["delete"] = self.operation(Operation {
                verb: "delete",
                action: "delete",
                suffix: "",
                kind: &kind,
                parameters: DELETE_PARAMETERS,
                answer: Some(reference(&format!("{META}.Status"))),
                body: Some(delete_body()),
                statuses: DELETED,
            });
        }
        operations
    }

    fn subresource(&self, sub: &Subresource) -> Value {
        let suffix = capital(&sub.name);
        let mut operations = self.read_write(&sub.kind, &suffix, &sub.verbs);
        if sub.verbs.iter().any(|verb| verb == "create") {
            operations["post"] = self.create(&sub.kind, &suffix);
        }
        operations
    }

    /// GET, PUT and PATCH, those that are among the verbs.
    fn read_write(&self, kind: &GroupVersionKind, suffix: &str, verbs: &[String]) -> Value {
        let has = |verb: &str| verbs.iter().any(|known| known == verb);
        let answer = (self.type_name)(kind);
        let mut operations = json!({});
        let operation = |verb, action, parameters, body, statuses| {
            let answer = answer.as_deref().map(reference);
            self.operation(Operation {
                verb,
                action,
                suffix,
                kind,
                parameters,
                answer,
                body,
                statuses,
            })
        };
        if has("get") {
            operations["get"] = operation("read", "get", &[], None, READ);
        }
        if has("update") {
            let body = answer.as_deref().map(any_body);
            operations["put"] = operation("replace", "put", WRITE_PARAMETERS, body, UPDATED);
        }
        if has("patch") {
            let parameters = [WRITE_PARAMETERS, &["force"]].concat();
            let body = Some(patch_body());
            operations["patch"] = operation("patch", "patch", &parameters, body, UPDATED);
        }
        operations
    }

    fn create(&self, kind: &GroupVersionKind, suffix: &str) -> Value {
        let answer = (self.type_name)(kind);
        let body = answer.as_deref().map(any_body);
        self.operation(Operation {
            verb: "create",
            action: "post",
            suffix,
            kind,
            parameters: WRITE_PARAMETERS,
            answer: answer.as_deref().map(reference),
            body,
            statuses: CREATED,
        })
    }

    fn list(&self) -> Value {
        let mut list_kind = self.row.gvk();
        list_kind.kind.push_str("List");
        self.operation(Operation {
            verb: "list",
            action: "list",
            suffix: "",
            kind: &self.row.gvk(),
            parameters: LIST_PARAMETERS,
            answer: (self.type_name)(&list_kind).as_deref().map(reference),
            body: None,
            statuses: READ,
        })
    }

    fn operation(&self, operation: Operation<'_>) -> Value {
        let scope = if self.row.namespaced { "Namespaced" } else { "" };
        let (verb, infix) = match operation.verb {
            "deleteCollection" => ("delete", "Collection"),
            verb => (verb, ""),
        };
        let name = format!(
            "{verb}{}{infix}{scope}{}{}",
            self.names.operation, self.row.kind, operation.suffix
        );
        let mut responses = json!({"401": {"description": "Unauthorized"}});
        for (status, text) in operation.statuses {
            responses[status] = answer(text, operation.answer.as_ref(), &ANSWER_TYPES);
        }
        let GroupVersionKind { group, version, kind } = operation.kind;
        let mut value = json!({
            "operationId": name,
            "tags": [self.names.tag],
            "responses": responses,
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        if !operation.parameters.is_empty() {
            value["parameters"] = operation.parameters.iter().map(|name| query(name)).collect();
        }
        if let Some(body) = operation.body {
            value["requestBody"] = body;
        }
        value
    }
}

/// Watches of all namespaces, of a collection and of one object.
fn watch_paths(root: &str, row: &Resource) -> [Option<String>; 3] {
    let everywhere = format!("{root}/watch/{}", row.plural);
    if !row.namespaced {
        let item = format!("{everywhere}/{{name}}");
        return [None, Some(everywhere), Some(item)];
    }
    let collection = format!("{root}/watch/namespaces/{{namespace}}/{}", row.plural);
    let item = format!("{collection}/{{name}}");
    [Some(everywhere), Some(collection), Some(item)]
}

/// An answer with content of this schema.
pub(super) fn answer(text: &str, schema: Option<&Value>, media_types: &[&str]) -> Value {
    let mut value = json!({"description": text});
    if let Some(schema) = schema {
        let content =
            media_types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema})));
        value["content"] = Value::Object(content.collect());
    }
    value
}

fn any_body(type_name: &str) -> Value {
    json!({"content": {"*/*": {"schema": reference(type_name)}}, "required": true})
}

fn delete_body() -> Value {
    json!({"content": {"*/*": {"schema": reference(&format!("{META}.DeleteOptions"))}}})
}

fn patch_body() -> Value {
    let schema = reference(&format!("{META}.Patch"));
    let content = PATCH_TYPES.map(|media| (media.to_owned(), json!({"schema": schema})));
    json!({"content": Value::Object(content.into_iter().collect()), "required": true})
}

/// The parameters that are parts of the path, and those that all operations of the path have.
fn path_parameters(path: &str, own: Value) -> Value {
    let text = json!({"type": "string", "uniqueItems": true});
    let names = ["name", "namespace", "path"];
    let names = names.into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}))
        .collect();
    match own {
        Value::Array(own) => parameters.extend(own),
        _ => parameters.push(query("pretty")),
    }
    parameters.into()
}

/// An optional parameter of the query.
pub(super) fn query(name: &str) -> Value {
    let kind = match name {
        "allowWatchBookmarks"
        | "watch"
        | "sendInitialEvents"
        | "force"
        | "orphanDependents"
        | "stdin"
        | "stdout"
        | "stderr"
        | "tty"
        | "follow"
        | "previous"
        | "timestamps"
        | "insecureSkipTLSVerifyBackend" => "boolean",
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" | "ports" | "limitBytes"
        | "sinceSeconds" | "tailLines" => "integer",
        _ => "string",
    };
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}
