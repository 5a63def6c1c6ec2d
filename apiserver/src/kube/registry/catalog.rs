//! Every served resource with what belongs to it: its row in the table, its strategy, its keys.
//! Built-in ones are there from the start, custom ones come and go with their definitions.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::kube::codec::{self, Decoded, Format, ObjectError};
use crate::kube::crd::{self, CustomType, Row};
use crate::kube::encoding;
use crate::kube::object::{self, Object};
use crate::kube::registry::into_object;
use crate::kube::resources::{self, Strategy};
use crate::kube::schema::{GroupVersionKind, Resource, Schema};
use crate::kube::status::{ApiError, Named};
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
    /// What its definition says; none for built-in resources.
    pub custom: Option<CustomType>,
}

impl Entry {
    fn new(resource: Arc<Resource>) -> Entry {
        let api_version = group_version(&resource.group, &resource.version);
        let stored_api_version =
            group_version(&resource.stored_as.group, &resource.stored_as.version);
        let splice =
            (api_version == stored_api_version).then(|| Splice::new(&api_version, &resource.kind));
        let strategy = resources::strategy(&resource.group, &resource.plural);
        Entry { resource, strategy, api_version, stored_api_version, splice, custom: None }
    }

    fn of_custom(row: Row) -> Entry {
        let mut entry = Entry::new(Arc::new(row.resource));
        entry.strategy =
            Strategy { generation: true, unconditional_update: false, ..Strategy::default() };
        if row.custom.has_defaults {
            entry.splice = None;
        }
        entry.custom = Some(row.custom);
        entry
    }

    /// The types of its objects.
    pub fn schema(&self) -> &Schema {
        match &self.custom {
            Some(custom) => &custom.types,
            None => Schema::builtin(),
        }
    }

    /// Reads a body that should be an object of this resource.
    pub fn decode_body(&self, format: Format, body: &[u8]) -> Result<Decoded, ApiError> {
        match &self.custom {
            Some(custom) => crd::decode(custom, &self.gvk(), format, body),
            None => {
                let (schema, type_id) = (Schema::builtin(), self.resource.type_id);
                codec::decode_object(schema, type_id, &self.gvk(), format, body)
                    .map_err(|error| ApiError::bad_request(error.to_string()))
            }
        }
    }

    /// Like [`decode_body`](Self::decode_body) for what a patch leads to; the error is the bare
    /// reason.
    pub fn decode(&self, json: &[u8]) -> Result<Decoded, String> {
        match &self.custom {
            Some(custom) => crd::decode(custom, &self.gvk(), Format::Json, json)
                .map_err(|error| error.status().message.clone()),
            None => {
                let (schema, type_id) = (Schema::builtin(), self.resource.type_id);
                codec::decode_object(schema, type_id, &self.gvk(), Format::Json, json).map_err(
                    |error| match error {
                        ObjectError::CannotBeHandled { problem, .. }
                        | ObjectError::Unrecognized { problem, .. } => problem,
                    },
                )
            }
        }
    }

    /// Brings an object into the form in which it is stored and shown.
    pub fn canonicalize(&self, object: &mut Object) {
        match &self.custom {
            Some(custom) => custom.complete(object),
            None => encoding::canonicalize(Schema::builtin(), self.resource.type_id, object),
        }
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

    /// Like [`canonicalize`](Self::canonicalize), for an object that is about to be stored.
    pub fn canonicalize_to_store(&self, object: &mut Object) {
        match &self.custom {
            Some(custom) => custom.complete(object),
            None => {
                let (schema, type_id) = (Schema::builtin(), self.resource.type_id);
                encoding::canonicalize_to_store(schema, type_id, object);
            }
        }
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

    /// Like [`named_kind`](Self::named_kind) for an object that may say that it is of another kind.
    pub fn named_kind_of<'a>(&'a self, object: &'a Object) -> Named<'a> {
        let named = self.named_kind();
        match self.custom {
            Some(_) => Named { kind: object::text(object, "kind"), ..named },
            None => named,
        }
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
        if let Some(custom) = &self.custom {
            let mut value = Value::Object(object);
            crd::prune::prune(&mut value, &custom.schema, "", true, &mut Vec::new());
            let mut object = into_object(value);
            custom.complete(&mut object);
            object.insert("apiVersion".to_owned(), self.api_version.as_str().into());
            return object;
        }
        if self.api_version != self.stored_api_version {
            resources::convert::convert(&mut object, &self.stored_api_version, &self.api_version);
        }
        object
    }

    /// From the version that is served to the one that is stored.
    pub fn to_stored(&self, mut object: Object) -> Object {
        if self.custom.is_some() {
            object.insert("apiVersion".to_owned(), self.stored_api_version.as_str().into());
            return object;
        }
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
    custom: RefCell<Custom>,
    generation: Cell<u64>,
}

/// The rows of definitions.
#[derive(Default)]
struct Custom {
    /// By the definition's name.
    definitions: BTreeMap<String, Definition>,
    /// By `group/version/plural`.
    entries: HashMap<String, Rc<Entry>>,
}

struct Definition {
    /// The resourceVersion that the entries were made of.
    version: String,
    entries: Vec<Rc<Entry>>,
}

impl Catalog {
    pub fn new(schema: &'static Schema) -> Catalog {
        let served = schema.resources().iter().filter(|resource| resource.served);
        let ordered: Vec<Rc<Entry>> =
            served.map(|resource| Rc::new(Entry::new(resource.clone()))).collect();
        let entries = by_path(&ordered);
        let (custom, generation) = (RefCell::default(), Cell::new(0));
        Catalog { schema, entries, ordered, custom, generation }
    }

    /// A built-in resource.
    pub fn entry(&self, group: &str, version: &str, plural: &str) -> Option<&Rc<Entry>> {
        self.entries.get(&path(group, version, plural))
    }

    /// Any resource, built-in or custom.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Rc<Entry>> {
        let path = path(group, version, plural);
        let builtin = self.entries.get(&path).cloned();
        builtin.or_else(|| self.custom.borrow().entries.get(&path).cloned())
    }

    /// The built-in resources.
    pub fn entries(&self) -> &[Rc<Entry>] {
        &self.ordered
    }

    /// All resources, built-in ones first, custom ones by the names of their definitions.
    pub fn all(&self) -> Vec<Rc<Entry>> {
        let custom = self.custom.borrow();
        let custom = custom.definitions.values().flat_map(|definition| &definition.entries);
        self.ordered.iter().chain(custom).cloned().collect()
    }

    /// Whether built-in resources are in this group.
    pub fn has_builtin_group(&self, group: &str) -> bool {
        self.ordered.iter().any(|entry| entry.resource.group == group)
    }

    pub fn has_group(&self, group: &str) -> bool {
        let is_it = |entry: &Rc<Entry>| entry.resource.group == group;
        self.has_builtin_group(group) || self.custom.borrow().entries.values().any(is_it)
    }

    /// Takes these definitions for all there are. Entries of those that are as before stay.
    pub fn set_custom(&self, definitions: &[Object]) {
        let mut custom = self.custom.borrow_mut();
        let mut before = std::mem::take(&mut custom.definitions);
        let count = before.len();
        let mut changed = false;
        for definition in definitions {
            let name = object::name(definition).to_owned();
            let version = object::meta_text(definition, "resourceVersion");
            let kept = before.remove(&name).filter(|known| known.version == version);
            let known = kept.unwrap_or_else(|| {
                changed = true;
                let rows = crd::definition::rows(definition).into_iter();
                let entries = rows.map(|row| Rc::new(Entry::of_custom(row))).collect();
                Definition { version: version.to_owned(), entries }
            });
            custom.definitions.insert(name, known);
        }
        if !changed && custom.definitions.len() == count {
            return;
        }
        let entries: Vec<Rc<Entry>> =
            custom.definitions.values().flat_map(|one| &one.entries).cloned().collect();
        custom.entries = by_path(&entries);
        self.generation.set(self.generation.get() + 1);
    }

    /// A resource of this definition, if it is served.
    pub fn custom_of(&self, definition: &str) -> Option<Rc<Entry>> {
        self.custom.borrow().definitions.get(definition)?.entries.first().cloned()
    }

    /// Changes with every change of custom resources.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }
}

fn by_path(entries: &[Rc<Entry>]) -> HashMap<String, Rc<Entry>> {
    let key = |row: &Resource| path(&row.group, &row.version, &row.plural);
    entries.iter().map(|entry| (key(&entry.resource), entry.clone())).collect()
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
