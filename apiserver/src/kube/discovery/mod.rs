//! What the server serves, told to clients: the discovery documents and `/version`.
//!
//! Everything is a pure function of the table's resources; [`Discovery`] holds the finished bytes.
//! The OpenAPI documents are in `openapi`.

mod aggregated;
mod document;
mod legacy;
pub mod openapi;
#[cfg(test)]
mod tests;
mod version;

use std::collections::HashMap;
use std::sync::Arc;

use crate::kube::schema::Resource;

pub use document::Document;
pub use version::KUBERNETES_VERSION;

/// The content type of the aggregated documents, as asked for and as answered.
pub const AGGREGATED_CONTENT_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The discovery documents of a set of resources. Made once, and again when custom resources change.
#[derive(Debug)]
pub struct Discovery {
    documents: HashMap<String, Document>,
    aggregated: HashMap<&'static str, Document>,
}

impl Discovery {
    /// The documents of all served resources, in their order. `server_address` is told to clients
    /// as the address to reach this server at, such as `192.0.2.10:6443`.
    pub fn new(resources: &[Arc<Resource>], server_address: &str) -> Discovery {
        let resources: Vec<&Resource> =
            resources.iter().map(Arc::as_ref).filter(|row| row.served).collect();
        let groups = groups(&resources);
        let mut documents = HashMap::new();
        let mut add = |path: String, value| documents.insert(path, Document::json(&value));
        add("/version".to_owned(), version::version());
        add("/api".to_owned(), legacy::api_versions(&groups, server_address));
        add("/apis".to_owned(), legacy::api_group_list(&groups));
        for group in &groups {
            if !group.name.is_empty() {
                add(format!("/apis/{}", group.name), legacy::api_group_document(group));
            }
            for version in &group.versions {
                let path = match group.name {
                    "" => format!("/api/{}", version.name),
                    name => format!("/apis/{name}/{}", version.name),
                };
                add(path, legacy::api_resource_list(group, version));
            }
        }
        let (core, named): (Vec<&Group<'_>>, Vec<&Group<'_>>) =
            groups.iter().partition(|group| group.name.is_empty());
        let aggregated = HashMap::from([
            ("/api", Document::json(&aggregated::group_list(&core))),
            ("/apis", Document::json(&aggregated::group_list(&named))),
        ]);
        Discovery { documents, aggregated }
    }

    /// The document at this path; a slash at its end makes no difference.
    pub fn document(&self, path: &str) -> Option<&Document> {
        self.documents.get(path.trim_end_matches('/'))
    }

    /// The aggregated document at `/api` or `/apis`, whose type is [`AGGREGATED_CONTENT_TYPE`].
    pub fn aggregated(&self, path: &str) -> Option<&Document> {
        self.aggregated.get(path.trim_end_matches('/'))
    }
}

/// The served resources of one group.
struct Group<'a> {
    name: &'a str,
    /// The preferred one first.
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    name: &'a str,
    resources: Vec<&'a Resource>,
}

impl Version<'_> {
    /// `apps/v1`, or `v1`
    fn group_version(&self, group: &str) -> String {
        match group {
            "" => self.name.to_owned(),
            group => format!("{group}/{}", self.name),
        }
    }
}

/// Groups and versions in the order in which the table names them, resources by name.
fn groups<'a>(resources: &[&'a Resource]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for resource in resources {
        let group = match groups.iter_mut().position(|group| group.name == resource.group) {
            Some(place) => &mut groups[place],
            None => {
                groups.push(Group { name: &resource.group, versions: Vec::new() });
                groups.last_mut().expect("one was just added")
            }
        };
        match group.versions.iter_mut().find(|version| version.name == resource.version) {
            Some(version) => version.resources.push(resource),
            None => {
                group.versions.push(Version { name: &resource.version, resources: vec![resource] })
            }
        }
    }
    for version in groups.iter_mut().flat_map(|group| &mut group.versions) {
        version.resources.sort_by(|a, b| a.plural.cmp(&b.plural));
    }
    groups
}
