//! The schema table: every served type and resource, as data.
//!
//! Decoding, defaulting, pruning, patches, OpenAPI, discovery and tables are driven by it. Custom
//! resources add rows to a table of their own at run time and take the same road.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

#[cfg(test)]
pub(crate) mod golden;
pub mod quantity;
mod resources;
#[cfg(test)]
mod tests;
mod text;
pub mod timestamp;

pub use text::TableError;

/// All types and resources of one source (the built-in ones, or one custom resource).
#[derive(Debug, Default)]
pub struct Schema {
    types: Vec<Arc<TypeDef>>,
    resources: Vec<Arc<Resource>>,
    by_name: HashMap<String, TypeId>,
    by_kind: HashMap<GroupVersionKind, TypeId>,
}

/// Names one [`TypeDef`] of the same [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// A group, version and kind. The core group is "".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// A structure: fields by JSON name.
#[derive(Debug)]
pub struct TypeDef {
    /// The OpenAPI name, such as `io.k8s.api.core.v1.PodSpec`.
    pub name: String,
    /// Sorted by `json_name`.
    pub fields: Vec<Field>,
    /// Set for top-level kinds.
    pub gvk: Option<GroupVersionKind>,
    /// Server-side apply treats the structure as one value (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Fields that are not among these are kept (`x-kubernetes-preserve-unknown-fields`).
    pub open: bool,
}

impl TypeDef {
    /// The field with this JSON name.
    pub fn field(&self, json_name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|field| field.json_name.as_str().cmp(json_name))
            .ok()
            .map(|index| &self.fields[index])
    }
}

/// A field of a structure.
#[derive(Debug)]
pub struct Field {
    pub json_name: String,
    pub kind: FieldKind,
    /// `required` in OpenAPI: it is written even when it is zero.
    pub required: bool,
    /// The value is held directly, not by a pointer that may be absent. A structure, time, quantity
    /// or int-or-string is then written even when nobody set it (`status: {}`), a zero number,
    /// boolean or string is left out (unless `required`).
    pub by_value: bool,
    /// Written even when it is zero or absent although it is optional.
    pub always_written: bool,
    /// The number in the type's protobuf message; 0 when the field has none.
    pub protobuf: u32,
    /// Numbers of the messages around it, outermost first: JSON has the fields of some messages
    /// directly in their owner (`volumes[].hostPath` is number 1 in message 2 of a volume).
    pub protobuf_outer: Vec<u32>,
    /// `x-kubernetes-patch-merge-key`: how strategic merge patch matches the elements of a list.
    pub patch_merge_key: Option<String>,
    /// `x-kubernetes-patch-strategy` contains `merge`.
    pub patch_merge: bool,
    /// `x-kubernetes-patch-strategy` contains `retainKeys`.
    pub patch_retain_keys: bool,
}

impl Field {
    /// An optional field held by pointer, without a protobuf number or patch rules.
    pub fn new(json_name: impl Into<String>, kind: FieldKind) -> Field {
        Field {
            json_name: json_name.into(),
            kind,
            required: false,
            by_value: false,
            always_written: false,
            protobuf: 0,
            protobuf_outer: Vec::new(),
            patch_merge_key: None,
            patch_merge: false,
            patch_retain_keys: false,
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    Boolean,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// A resource quantity such as `100m` or `1Gi`; a number is accepted.
    Quantity,
    IntOrString,
    /// Any object or value: RawExtension, JSON, FieldsV1.
    Any,
    /// In a custom resource's schema: another schema (of this type), or the alternative.
    SchemaOr(SchemaOr, TypeId),
    /// A structure.
    Struct(TypeId),
    /// A list; how its elements merge, and what they are.
    List(ListKind, Box<FieldKind>),
    /// A map from string; `atomic` when server-side apply treats it as one value.
    Map {
        atomic: bool,
        value: Box<FieldKind>,
    },
}

/// What may stand in the place of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOr {
    /// `items`: a list of schemas.
    Array,
    /// `additionalProperties`, `additionalItems`: true or false.
    Boolean,
    /// `dependencies`: a list of property names.
    Strings,
}

/// `x-kubernetes-list-type`. A list without one is atomic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// Elements are structures, told apart by these keys.
    Map(Vec<String>),
}

/// One resource of one version.
#[derive(Debug, Clone)]
pub struct Resource {
    pub group: String,
    pub version: String,
    /// `pods`
    pub plural: String,
    /// `pod`
    pub singular: String,
    pub kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    /// In discovery's order (alphabetical).
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// The directory of its objects below `/registry/`, such as `minions` for nodes.
    pub storage_prefix: String,
    /// Objects are stored under their namespace, then name, below that.
    pub type_id: TypeId,
    /// The kind and version that storage holds; another one for a resource of several versions.
    pub stored_as: GroupVersionKind,
    /// Objects of it are stored; not so for reviews, bindings and component statuses.
    pub stored: bool,
    /// It has working behaviour: it is in discovery and its paths are served.
    pub served: bool,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`.
    pub field_selectors: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Subresource {
    /// `status`
    pub name: String,
    pub kind: GroupVersionKind,
    pub verbs: Vec<String>,
    /// It has working behaviour, see [`Resource::served`].
    pub served: bool,
}

impl Resource {
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
        }
    }

    /// The served subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|row| row.name == name && row.served)
    }
}

const TYPES: &str = include_str!("table.txt");
const EXTRA_TYPES: &str = include_str!("extra.txt");
const RESOURCES: &str = include_str!("resources.txt");

impl Schema {
    /// The table of the built-in types, read at the first call (a few milliseconds).
    pub fn builtin() -> &'static Schema {
        static BUILTIN: OnceLock<Schema> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Schema::parse(&[TYPES, EXTRA_TYPES], RESOURCES)
                .expect("the embedded table is tested to be readable")
        })
    }

    /// Reads a table's text; `text.rs` and `resources.txt` describe it. The first line of each text
    /// is its title.
    pub fn parse(types: &[&str], resources: &str) -> Result<Schema, TableError> {
        let types = text::parse_types(types)?;
        let resources = resources::parse_resources(resources, &types)?;
        Ok(Schema::new(types, resources))
    }

    /// A table of these rows. Types are named by their place.
    pub fn new(types: Vec<Arc<TypeDef>>, resources: Vec<Arc<Resource>>) -> Schema {
        let ids = || types.iter().enumerate().map(|(index, row)| (row, TypeId(index as u32)));
        let by_name = ids().map(|(row, id)| (row.name.clone(), id)).collect();
        let by_kind = ids().filter_map(|(row, id)| Some((row.gvk.clone()?, id))).collect();
        Schema { types, resources, by_name, by_kind }
    }

    /// The type with this OpenAPI name.
    pub fn type_named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// The type of this kind, served or not.
    pub fn type_of_kind(&self, kind: &GroupVersionKind) -> Option<TypeId> {
        self.by_kind.get(kind).copied()
    }

    /// The type of this name. Panics on an id of another table.
    pub fn type_def(&self, id: TypeId) -> &Arc<TypeDef> {
        &self.types[id.0 as usize]
    }

    /// All types, by their ids.
    pub fn types(&self) -> &[Arc<TypeDef>] {
        &self.types
    }

    /// All resources, in discovery's order, also those that are not served (yet).
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The resource served at this path.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources
            .iter()
            .find(|r| r.served && r.group == group && r.version == version && r.plural == plural)
    }
}
