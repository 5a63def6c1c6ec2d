//! The schema table: every served type and resource, as data.
//!
//! Decoding, defaulting, pruning, patches, OpenAPI, discovery and tables are driven by it. Custom
//! resources add rows to a table of their own at run time and take the same road.

use std::sync::Arc;

/// All types and resources of one source (the built-in ones, or one custom resource).
#[derive(Debug, Default)]
pub struct Schema {
    types: Vec<Arc<TypeDef>>,
    resources: Vec<Arc<Resource>>,
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

#[derive(Debug)]
pub struct Field {
    pub json_name: String,
    pub kind: FieldKind,
    pub required: bool,
    /// The number in the type's protobuf message; 0 when the field has none.
    pub protobuf: u32,
    /// `x-kubernetes-patch-merge-key`: how strategic merge patch matches the elements of a list.
    pub patch_merge_key: Option<String>,
    /// `x-kubernetes-patch-strategy` contains `merge`.
    pub patch_merge: bool,
    /// `x-kubernetes-patch-strategy` contains `retainKeys`.
    pub patch_retain_keys: bool,
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

/// `x-kubernetes-list-type`. A list without one is atomic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// Elements are structures, told apart by these keys.
    Map(Vec<String>),
}

/// One served resource of one version.
#[derive(Debug)]
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
    /// Field selectors beyond `metadata.name` and `metadata.namespace`.
    pub field_selectors: Vec<String>,
}

#[derive(Debug)]
pub struct Subresource {
    /// `status`
    pub name: String,
    pub kind: GroupVersionKind,
    pub verbs: Vec<String>,
}

impl Schema {
    /// A table of these rows. Types are named by their place.
    pub fn new(types: Vec<Arc<TypeDef>>, resources: Vec<Arc<Resource>>) -> Schema {
        Schema { types, resources }
    }

    /// The type of this name. Panics on an id of another table.
    pub fn type_def(&self, id: TypeId) -> &Arc<TypeDef> {
        &self.types[id.0 as usize]
    }

    pub fn types(&self) -> &[Arc<TypeDef>] {
        &self.types
    }

    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The resource served at this path.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources
            .iter()
            .find(|r| r.group == group && r.version == version && r.plural == plural)
    }
}
