//! What every resource does alike: create, get, list, update, patch and delete of objects that the
//! schema table describes. What a table can't say is a [`Strategy`](super::resources::Strategy).

mod bind;
pub mod catalog;
pub mod context;
pub mod create;
pub mod delete;
mod delete_collection;
mod evict;
pub mod list;
pub mod managed;
pub mod metadata;
pub mod names;
pub mod patch;
mod patched;
mod read;
mod scale;
#[cfg(test)]
mod tests;
pub mod update;

use std::rc::Rc;

use serde_json::Value;

use self::catalog::{Catalog, Entry};
use self::context::Random;
use super::authz::rbac::Policy;
use super::encoding;
use super::object::Object;
use super::resources::services::AddressRange;
use super::status::{ApiError, Named};
use super::storage::{Storage, StorageError, Stored, value};

/// Objects of all resources on one core's storage.
pub struct Registry {
    pub storage: Rc<dyn Storage>,
    pub catalog: Catalog,
    pub random: Random,
    /// Where services get their addresses from.
    pub service_addresses: AddressRange,
    /// What roles and bindings allow.
    pub policy: Policy,
}

/// Which object (or, with an empty name, which collection) a request is about.
#[derive(Clone)]
pub struct Target {
    pub entry: Rc<Entry>,
    /// Empty for cluster scope, and for all namespaces.
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

impl Target {
    pub fn key(&self) -> String {
        self.entry.key(&self.namespace, &self.name)
    }

    pub fn resource(&self) -> Named<'_> {
        self.entry.named_resource()
    }

    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource(), &self.name)
    }
}

impl Registry {
    /// The object as stored, in the version of the request, or 404.
    pub async fn load(&self, target: &Target) -> Result<(Object, Stored), ApiError> {
        match self.find(target).await? {
            Some(found) => Ok(found),
            None => Err(target.not_found()),
        }
    }

    /// The object as stored, in the version of the request.
    pub async fn find(&self, target: &Target) -> Result<Option<(Object, Stored)>, ApiError> {
        let (stored, _) = self.storage.get(target.key().as_bytes()).await.map_err(storage_error)?;
        match stored {
            Some(stored) => Ok(Some((self.decode(&target.entry, &stored)?, stored))),
            None => Ok(None),
        }
    }

    /// The object in stored bytes, in the version that `entry` serves.
    pub fn decode(&self, entry: &Entry, stored: &Stored) -> Result<Object, ApiError> {
        self.decode_value(entry, &stored.key, &stored.value, stored.revision)
    }

    pub fn decode_value(
        &self,
        entry: &Entry,
        key: &[u8],
        bytes: &[u8],
        revision: i64,
    ) -> Result<Object, ApiError> {
        let object = if bytes.starts_with(value::PROTOBUF_PREFIX) {
            let mut object = encoding::decode_stored_protobuf(self.catalog.schema, key, bytes)
                .map_err(ApiError::internal)?;
            value::set_revision(&mut object, revision);
            object
        } else {
            value::decode(key, bytes, revision)
                .map_err(|error| ApiError::internal(error.to_string()))?
        };
        Ok(entry.from_stored(object))
    }
}

/// A refusal of the storage in the words of the API.
pub fn storage_error(error: StorageError) -> ApiError {
    match error {
        StorageError::Compacted { .. } => ApiError::expired(error.to_string()),
        StorageError::Future { requested, current } => {
            ApiError::too_large_version(requested, current)
        }
        StorageError::Busy => ApiError::too_many_requests(error.to_string(), 1),
        StorageError::Unavailable(why) => ApiError::internal(why),
    }
}

/// The object of a JSON value that is known to be one.
pub fn into_object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
