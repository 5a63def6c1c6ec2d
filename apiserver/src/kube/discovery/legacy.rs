//! The documents at `/api`, `/apis` and below: one for each group and version.

use serde_json::{Value, json};

use super::document::storage_version_hash;
use super::{Group, Version};
use crate::kube::schema::{Resource, Subresource};

/// `/api`
pub(super) fn api_versions(groups: &[Group<'_>], server_address: &str) -> Value {
    let core = groups.iter().find(|group| group.name.is_empty());
    let versions: Vec<&str> =
        core.iter().flat_map(|group| &group.versions).map(|version| version.name).collect();
    json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
        ],
    })
}

/// `/apis`
pub(super) fn api_group_list(groups: &[Group<'_>]) -> Value {
    let groups = groups.iter().filter(|group| !group.name.is_empty());
    json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": groups.map(api_group).collect::<Vec<_>>(),
    })
}

/// `/apis/apps`
pub(super) fn api_group_document(group: &Group<'_>) -> Value {
    let mut document = api_group(group);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    document
}

fn api_group(group: &Group<'_>) -> Value {
    let version = |version: &Version<'_>| json!({"groupVersion": version.group_version(group.name), "version": version.name});
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(version),
    })
}

/// `/apis/apps/v1`
pub(super) fn api_resource_list(group: &Group<'_>, version: &Version<'_>) -> Value {
    let mut resources = Vec::new();
    for row in &version.resources {
        resources.push(api_resource(row));
        let served = row.subresources.iter().filter(|sub| sub.served);
        resources.extend(served.map(|sub| api_subresource(row, sub)));
    }
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": version.group_version(group.name),
        "resources": resources,
    });
    // The core group's document has never told its own version.
    if !group.name.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    document
}

fn api_resource(row: &Resource) -> Value {
    let mut resource = json!({
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        resource["shortNames"] = row.short_names.clone().into();
    }
    if !row.categories.is_empty() {
        resource["categories"] = row.categories.clone().into();
    }
    if row.stored {
        resource["storageVersionHash"] = storage_version_hash(&row.stored_as).into();
    }
    resource
}

fn api_subresource(row: &Resource, sub: &Subresource) -> Value {
    let mut resource = json!({
        "name": format!("{}/{}", row.plural, sub.name),
        "singularName": "",
        "namespaced": row.namespaced,
        "kind": sub.kind.kind,
        "verbs": sub.verbs,
    });
    if sub.kind.group != row.group || sub.kind.version != row.version {
        resource["group"] = sub.kind.group.clone().into();
        resource["version"] = sub.kind.version.clone().into();
    }
    resource
}
