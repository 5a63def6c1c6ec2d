//! Every served resource with what belongs to it: its row in the table, its strategy, its keys.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::kube::object::Object;
use crate::kube::resources::{self, Strategy};
use crate::kube::schema::{GroupVersionKind, Resource, Schema};
use crate::kube::status::Named;
use crate::kube::storage::keys;
use crate::kube::storage::value::Splice;

/// One served resource of one version.
pub struct Entry {
    pub resource: Arc<Resource>,
    pub strategy: Strategy,
    /// `apps/v1`
    pub api_version: String,
    stored_api_version: String,
    /// How its stored bytes begin, when they are those that clients of this version get.
    pub splice: Option<Splice>,
}

impl Entry {
    fn new(resource: Arc<Resource>) -> Entry {
        let api_version = group_version(&resource.group, &resource.version);
        let stored_api_version =
            group_version(&resource.stored_as.group, &resource.stored_as.version);
        let splice =
            (api_version == stored_api_version).then(|| Splice::new(&api_version, &resource.kind));
        let strategy = resources::strategy(&resource.group, &resource.plural);
        Entry { resource, strategy, api_version, stored_api_version, splice }
    }

    pub fn key(&self, namespace: &str, name: &str) -> String {
        keys::object(&self.resource.storage_prefix, self.key_namespace(namespace), name)
    }

    pub fn directory(&self, namespace: &str) -> String {
        keys::directory(&self.resource.storage_prefix, self.key_namespace(namespace))
    }

    fn key_namespace<'a>(&self, namespace: &'a str) -> &'a str {
        if self.resource.namespaced { namespace } else { "" }
    }

    /// The group and plural, as "not found" names them.
    pub fn named_resource(&self) -> Named<'_> {
        Named { group: &self.resource.group, kind: &self.resource.plural }
    }

    /// The group and kind, as "invalid" names them.
    pub fn named_kind(&self) -> Named<'_> {
        // Events of both groups are checked as those of the core group.
        let group = match self.resource.group.as_str() {
            "events.k8s.io" => "",
            group => group,
        };
        Named { group, kind: &self.resource.kind }
    }

    pub fn gvk(&self) -> GroupVersionKind {
        self.resource.gvk()
    }

    /// Whether the resource has this subresource, served or not.
    pub fn has_subresource(&self, name: &str) -> bool {
        self.resource.subresources.iter().any(|subresource| subresource.name == name)
    }

    /// From the version that is stored to the one that is served.
    pub fn from_stored(&self, mut object: Object) -> Object {
        if self.api_version != self.stored_api_version {
            resources::convert::convert(&mut object, &self.stored_api_version, &self.api_version);
        }
        object
    }

    /// From the version that is served to the one that is stored.
    pub fn to_stored(&self, mut object: Object) -> Object {
        if self.api_version != self.stored_api_version {
            resources::convert::convert(&mut object, &self.api_version, &self.stored_api_version);
        }
        object
    }
}

/// `v1`, or `apps/v1`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All served resources.
pub struct Catalog {
    pub schema: &'static Schema,
    /// By `group/version/plural`.
    entries: HashMap<String, Rc<Entry>>,
    /// In discovery's order.
    ordered: Vec<Rc<Entry>>,
}

impl Catalog {
    pub fn new(schema: &'static Schema) -> Catalog {
        let served = schema.resources().iter().filter(|resource| resource.served);
        let ordered: Vec<Rc<Entry>> =
            served.map(|resource| Rc::new(Entry::new(resource.clone()))).collect();
        let entries = ordered
            .iter()
            .map(|entry| {
                let row = &entry.resource;
                (path(&row.group, &row.version, &row.plural), entry.clone())
            })
            .collect();
        Catalog { schema, entries, ordered }
    }

    pub fn entry(&self, group: &str, version: &str, plural: &str) -> Option<&Rc<Entry>> {
        self.entries.get(&path(group, version, plural))
    }

    pub fn entries(&self) -> &[Rc<Entry>] {
        &self.ordered
    }

    pub fn has_group(&self, group: &str) -> bool {
        self.ordered.iter().any(|entry| entry.resource.group == group)
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
