//! Aggregated discovery: all groups in one document (`apidiscovery.k8s.io/v2`).

use serde_json::{Value, json};

use super::{Group, Version};
use crate::kube::schema::{GroupVersionKind, Resource, Subresource};

/// An `APIGroupDiscoveryList` of these groups.
pub(super) fn group_list(groups: &[&Group<'_>]) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": groups.iter().map(|group| group_discovery(group)).collect::<Vec<_>>(),
    })
}

fn group_discovery(group: &Group<'_>) -> Value {
    let metadata = match group.name {
        "" => json!({}),
        name => json!({"name": name}),
    };
    json!({
        "metadata": metadata,
        "versions": group.versions.iter().map(version_discovery).collect::<Vec<_>>(),
    })
}

fn version_discovery(version: &Version<'_>) -> Value {
    json!({
        "version": version.name,
        "resources": version.resources.iter().map(|row| resource(row)).collect::<Vec<_>>(),
        "freshness": "Current",
    })
}

fn resource(row: &Resource) -> Value {
    let mut value = json!({
        "resource": row.plural,
        "responseKind": response_kind(row, &row.gvk()),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = row.short_names.clone().into();
    }
    if !row.categories.is_empty() {
        value["categories"] = row.categories.clone().into();
    }
    let served = row.subresources.iter().filter(|sub| sub.served);
    let subresources: Vec<Value> = served.map(|sub| subresource(row, sub)).collect();
    if !subresources.is_empty() {
        value["subresources"] = subresources.into();
    }
    value
}

fn subresource(row: &Resource, sub: &Subresource) -> Value {
    json!({
        "subresource": sub.name,
        "responseKind": response_kind(row, &sub.kind),
        "verbs": sub.verbs,
    })
}

/// A kind of the resource's own group and version leaves both empty.
fn response_kind(row: &Resource, kind: &GroupVersionKind) -> Value {
    let own = kind.group == row.group && kind.version == row.version;
    let (group, version) = if own { ("", "") } else { (&kind.group[..], &kind.version[..]) };
    json!({"group": group, "version": version, "kind": kind.kind})
}
