//! Creating an object.

use bytes::Bytes;

use super::context::WriteContext;
use super::{Registry, Target, managed, metadata, storage_error};
use crate::kube::limits::GENERATE_NAME_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::status::ApiError;
use crate::kube::storage::{Write, Written, value};
use crate::kube::{admission, resources};

impl Registry {
    /// Creates `object`, as decoded from a request, in the namespace of `target`.
    pub async fn create(
        &self,
        target: &Target,
        mut object: Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        check_namespace(target, &mut object)?;
        metadata::wipe_new(&mut object);
        warn_of_repeated_owners(&mut object, context);
        let entry = &target.entry;
        let mut object = self.completed(target, object);
        managed::track_update(entry.schema(), target, None, &mut object, context);
        self.create_tracked(target, object, context).await
    }

    /// Like [`create`](Self::create), for an object whose managed fields are up to date.
    pub async fn create_tracked(
        &self,
        target: &Target,
        object: Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let mut tries = GENERATE_NAME_TRIES;
        loop {
            let generated = metadata::generated_name(&object, &self.random);
            let mut attempt = object.clone();
            let retry = generated.is_some();
            if let Some(name) = generated {
                object::metadata_mut(&mut attempt).insert("name".to_owned(), name.into());
            }
            tries -= 1;
            match self.create_named(target, attempt, context).await {
                Err(error) if retry && tries > 0 && error.status().reason == "AlreadyExists" => {}
                result => return result,
            }
        }
    }

    async fn create_named(
        &self,
        target: &Target,
        mut object: Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let entry = &target.entry;
        if !object::meta_text(&object, "resourceVersion").is_empty() {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::internal(why));
        }
        admission::create(self, target, &mut object, context).await?;
        metadata::fill_new(&mut object, context.now, &self.random);
        if entry.has_subresource("status") && !entry.strategy.keeps_status_on_create {
            object.remove("status");
        }
        if entry.strategy.generation {
            object::metadata_mut(&mut object).insert("generation".to_owned(), 1.into());
        }
        (entry.strategy.prepare_create)(&mut object);
        // What is read back after a write has its defaults set once more.
        (entry.strategy.defaults)(&mut object);
        entry.canonicalize_to_store(&mut object);
        let mut errors =
            metadata::validate(&object, entry.resource.namespaced, entry.strategy.name_rule);
        errors.extend((entry.strategy.validate)(&object));
        errors.extend((entry.strategy.validate_new)(&object));
        if let Some(custom) = &entry.custom {
            errors.extend(custom.validate(&object));
        }
        let name = object::name(&object).to_owned();
        if !errors.is_empty() {
            return Err(ApiError::invalid(entry.named_kind_of(&object), &name, &errors));
        }
        check_custom(target, &object)?;
        for warning in resources::warnings::of(entry, &object) {
            context.warnings.add(warning);
        }
        let allocated = resources::allocate::for_create(self, entry, &mut object, context).await?;
        let result = self.insert(target, &name, &object, context).await;
        if result.is_err() || context.options.dry_run {
            resources::allocate::give_back(self, &allocated).await;
        }
        let revision = result?;
        if let Some(revision) = revision {
            value::set_revision(&mut object, revision);
        }
        Ok(object)
    }

    /// Stores a new object; gives its revision, none in a dry run.
    async fn insert(
        &self,
        target: &Target,
        name: &str,
        object: &Object,
        context: &WriteContext,
    ) -> Result<Option<i64>, ApiError> {
        let entry = &target.entry;
        let key = entry.key(object::namespace(object), name);
        let exists = |found: &Object| already_exists(target, name, found);
        if context.options.dry_run {
            let named = Target { name: name.to_owned(), ..target.clone() };
            return match self.find(&named).await? {
                Some((found, _)) => Err(exists(&found)),
                None => Ok(None),
            };
        }
        let write = Write {
            key: Bytes::from(key),
            expected_revision: 0,
            value: Some(value::encode(&entry.to_stored(object.clone()))),
            ttl_seconds: entry.strategy.ttl_seconds,
        };
        match self.storage.write(write).await.map_err(storage_error)? {
            Written::Done(revision) => Ok(Some(revision)),
            Written::Lost(found) => {
                let found = found.map(|found| self.decode(entry, &found)).transpose()?;
                Err(exists(&found.unwrap_or_default()))
            }
        }
    }
}

/// What is asked of a new custom object besides its schema.
fn check_custom(target: &Target, object: &Object) -> Result<(), ApiError> {
    let Some(custom) = &target.entry.custom else { return Ok(()) };
    if custom.is_terminating {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::forbidden(target.resource(), object::name(object), why));
    }
    Ok(())
}

fn already_exists(target: &Target, name: &str, found: &Object) -> ApiError {
    let error = ApiError::already_exists(target.resource(), name);
    if object::is_being_deleted(found) { error.prefixed("object is being deleted") } else { error }
}

/// The object's namespace is that of the path.
pub fn check_namespace(target: &Target, object: &mut Object) -> Result<(), ApiError> {
    let metadata = object::metadata_mut(object);
    let namespaced = target.entry.resource.namespaced;
    match object::text(metadata, "namespace") {
        "" if namespaced => {
            metadata.insert("namespace".to_owned(), target.namespace.as_str().into());
        }
        "" => {
            metadata.remove("namespace");
        }
        own if namespaced && own != target.namespace => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn warn_of_repeated_owners(object: &mut Object, context: &WriteContext) {
    let repeated = metadata::dedup_owner_references(object);
    if !repeated.is_empty() {
        context.warnings.add(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        ));
    }
}
