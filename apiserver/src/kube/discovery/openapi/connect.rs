//! The paths of connections to a pod, service or node (exec, attach, port forwarding, proxy), and of a
//! pod's log, whose answers are no objects.

use serde_json::{Value, json};

use super::paths::{ANSWER_TYPES, Names, answer, capital, query};
use crate::kube::schema::{Resource, Subresource};

/// Whether a subresource is a connection: its kind holds the options of one.
pub(super) fn is_connection(sub: &Subresource) -> bool {
    sub.kind.kind.ends_with("Options")
}

/// The paths of a connection; a proxy also leads to whatever path is behind it.
pub(super) fn paths(
    row: &Resource,
    sub: &Subresource,
    names: &Names,
    path: &str,
) -> Vec<(String, Value)> {
    let mut paths = vec![(path.to_owned(), operations(row, sub, names, ""))];
    if sub.name == "proxy" {
        paths.push((format!("{path}/{{path}}"), operations(row, sub, names, "WithPath")));
    }
    paths
}

fn operations(row: &Resource, sub: &Subresource, names: &Names, suffix: &str) -> Value {
    let kind = &sub.kind;
    let mut operations = json!({});
    for method in methods(sub) {
        let name = format!(
            "connect{}{}{}{}{}{suffix}",
            names.operation,
            capital(method),
            scope(row),
            row.kind,
            capital(&sub.name)
        );
        operations[method] = json!({
            "operationId": name,
            "tags": [names.tag],
            "responses": {
                "200": answer("OK", Some(&json!({"type": "string"})), &["*/*"]),
                "401": {"description": "Unauthorized"},
            },
            "x-kubernetes-action": "connect",
            "x-kubernetes-group-version-kind":
                {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
    }
    operations["parameters"] = parameters(&kind.kind).iter().map(|name| query(name)).collect();
    operations
}

fn scope(row: &Resource) -> &'static str {
    if row.namespaced { "Namespaced" } else { "" }
}

/// A proxy passes on whatever it is sent.
fn methods(sub: &Subresource) -> &'static [&'static str] {
    match sub.name.as_str() {
        "proxy" => &["delete", "get", "head", "options", "patch", "post", "put"],
        _ => &["get", "post"],
    }
}

/// What a connection can be told in its query.
fn parameters(kind: &str) -> &'static [&'static str] {
    match kind {
        "PodExecOptions" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "PodAttachOptions" => &["container", "stderr", "stdin", "stdout", "tty"],
        "PodPortForwardOptions" => &["ports"],
        _ => &["path"],
    }
}

/// A pod's log: text.
pub(super) fn log(row: &Resource, names: &Names) -> Value {
    const PARAMETERS: [&str; 10] = [
        "container",
        "follow",
        "insecureSkipTLSVerifyBackend",
        "limitBytes",
        "pretty",
        "previous",
        "sinceSeconds",
        "stream",
        "tailLines",
        "timestamps",
    ];
    let media_types = [&["text/plain"], &ANSWER_TYPES[..]].concat();
    json!({
        "get": {
            "operationId": format!("read{}{}{}Log", names.operation, scope(row), row.kind),
            "tags": [names.tag],
            "responses": {
                "200": answer("OK", Some(&json!({"type": "string"})), &media_types),
                "401": {"description": "Unauthorized"},
            },
            "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind":
                {"group": row.group, "version": row.version, "kind": row.kind},
        },
        "parameters": PARAMETERS.map(query).to_vec(),
    })
}
