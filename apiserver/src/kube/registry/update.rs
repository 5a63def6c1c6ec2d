//! Replacing an object, or a part of it, with retries when others write too.

use bytes::Bytes;

use super::context::WriteContext;
use super::create::{check_namespace, warn_of_repeated_owners};
use super::{Registry, Target, managed, metadata, names, storage_error};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::request::options::parse_version;
use crate::kube::status::{ApiError, FieldError, quoted};
use crate::kube::storage::{Stored, Write, Written, value};
use crate::kube::{admission, resources};

/// An object after a write.
#[derive(Debug)]
pub struct Saved {
    pub object: Object,
    pub created: bool,
}

impl Saved {
    fn changed(object: Object) -> Saved {
        Saved { object, created: false }
    }
}

/// What a write makes of the object that is there.
pub(super) enum Change {
    /// This, its managed fields not yet brought up to date.
    Untracked(Object),
    /// This, with managed fields.
    Tracked(Object),
}

impl Registry {
    /// Replaces the object with `object`, as decoded from a request.
    pub async fn update(
        &self,
        target: &Target,
        mut object: Object,
        context: &WriteContext,
    ) -> Result<Saved, ApiError> {
        check_name(target, &mut object)?;
        check_namespace(target, &mut object)?;
        warn_of_repeated_owners(&mut object, context);
        let object = self.completed(target, object);
        for _ in 0..UPDATE_TRIES {
            let Some((old, stored)) = self.find(target).await? else {
                return self.create_by_update(target, object, context).await;
            };
            self.check_versions(target, &object, &old)?;
            let change = Change::Untracked(object.clone());
            if let Some(saved) = self.try_save(target, change, &old, &stored, context).await? {
                return Ok(saved);
            }
        }
        Err(ApiError::modified(target.resource(), &target.name))
    }

    async fn create_by_update(
        &self,
        target: &Target,
        object: Object,
        context: &WriteContext,
    ) -> Result<Saved, ApiError> {
        let version = object::meta_text(&object, "resourceVersion");
        let creates = target.entry.strategy.create_on_update
            && target.subresource.is_empty()
            && matches!(version, "" | "0")
            && object::uid(&object).is_empty();
        if !creates {
            return Err(target.not_found());
        }
        let object = self.create(target, object, context).await?;
        Ok(Saved { object, created: true })
    }

    /// The preconditions that an update carries in its object.
    fn check_versions(&self, target: &Target, new: &Object, old: &Object) -> Result<(), ApiError> {
        let uid = object::uid(new);
        if !uid.is_empty() && uid != object::uid(old) {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                target.key(),
                object::uid(old)
            );
            return Err(ApiError::conflict(target.resource(), &target.name, &why));
        }
        let version = requested_version(new)?;
        if version.is_none() && !target.entry.strategy.unconditional_update {
            let errors = [FieldError::invalid(
                "metadata.resourceVersion",
                0,
                "must be specified for an update",
            )];
            return Err(ApiError::invalid(target.resource(), &target.name, &errors));
        }
        check_version(target, version, old)
    }

    /// One try to write. `None`: somebody else was faster, read again.
    pub(super) async fn try_save(
        &self,
        target: &Target,
        change: Change,
        old: &Object,
        stored: &Stored,
        context: &WriteContext,
    ) -> Result<Option<Saved>, ApiError> {
        let entry = &target.entry;
        let mut new = self.prepare(target, change, old, context)?;
        admission::update(self, target, &mut new, old, context).await?;
        self.validate_update(target, &new, old)?;
        if target.subresource.is_empty() {
            for warning in resources::warnings::of(entry, &new) {
                context.warnings.add(warning);
            }
        }
        if managed::same_but_times(&new, old) {
            return Ok(Some(Saved::changed(old.clone())));
        }
        if context.options.dry_run {
            object::copy_field(
                object::metadata(old).unwrap_or(&Object::new()),
                object::metadata_mut(&mut new),
                "resourceVersion",
            );
            return Ok(Some(Saved::changed(new)));
        }
        if is_finished(&new) {
            return self.remove_finished(target, new, stored).await;
        }
        let allocated =
            resources::allocate::for_update(self, entry, &mut new, old, context).await?;
        let write = Write {
            key: Bytes::from(target.key()),
            expected_revision: stored.revision,
            value: Some(value::encode(&entry.to_stored(new.clone()))),
            ttl_seconds: entry.strategy.ttl_seconds,
        };
        let written = self.storage.write(write).await;
        if !matches!(written, Ok(Written::Done(_))) {
            resources::allocate::give_back(self, &allocated).await;
        }
        match written.map_err(storage_error)? {
            Written::Done(revision) => {
                value::set_revision(&mut new, revision);
                resources::allocate::after_update(self, entry, &new, old).await;
                Ok(Some(Saved::changed(new)))
            }
            Written::Lost(Some(_)) => Ok(None),
            Written::Lost(None) => Err(target.not_found()),
        }
    }

    /// What will be stored: the client's object with all that the client can't change.
    fn prepare(
        &self,
        target: &Target,
        change: Change,
        old: &Object,
        context: &WriteContext,
    ) -> Result<Object, ApiError> {
        let entry = &target.entry;
        let (mut new, tracked) = match change {
            Change::Untracked(new) => (new, false),
            Change::Tracked(new) => (new, true),
        };
        separate_status(target, &mut new, old);
        if !tracked && target.subresource != "finalize" {
            managed::track_update(entry.schema(), target, Some(old), &mut new, context);
        }
        metadata::carry_over(&mut new, old);
        match target.subresource.as_str() {
            "status" => {
                (entry.strategy.prepare_status_update)(&mut new, old);
                if entry.resource.group == "certificates.k8s.io" {
                    resources::certificates::set_status(&mut new, old, &context.now.seconds());
                }
            }
            "finalize" => {}
            "approval" => resources::certificates::approve(&mut new, old, &context.now.seconds()),
            name @ ("ephemeralcontainers" | "resize") => {
                (entry.strategy.prepare_subresource)(name, &mut new, old);
            }
            _ => (entry.strategy.prepare_update)(&mut new, old),
        }
        set_generation(target, &mut new, old);
        entry.canonicalize_to_store(&mut new);
        Ok(new)
    }

    fn validate_update(&self, target: &Target, new: &Object, old: &Object) -> Result<(), ApiError> {
        let entry = &target.entry;
        // Once as every object, and once by the rules of its kind, which begin with the same.
        let namespaced = entry.resource.namespaced;
        let mut errors = metadata::validate(new, namespaced, names::path_segment);
        errors.extend(metadata::validate_update(new, old));
        errors.extend(metadata::validate_update(new, old));
        errors.extend(metadata::validate(new, namespaced, entry.strategy.name_rule));
        match target.subresource.as_str() {
            "approval" => errors.extend(resources::certificates::check(new)),
            "status" => {
                errors.extend((entry.strategy.validate_status_update)(new, old));
                if let Some(custom) = &entry.custom {
                    errors.extend(custom.validate_status(new));
                }
            }
            name @ ("ephemeralcontainers" | "finalize" | "resize") => {
                errors.extend((entry.strategy.validate_subresource)(name, new, old));
            }
            _ => {
                let row = &entry.resource;
                let mut change = (entry.strategy.validate_update)(new, old);
                change.extend(resources::immutable::check(&row.group, &row.plural, new, old));
                let state = (entry.strategy.validate)(new);
                let (first, second) = match entry.strategy.checks_change_last {
                    true => (state, change),
                    false => (change, state),
                };
                errors.extend(first);
                errors.extend(second);
                if let Some(custom) = &entry.custom {
                    errors.extend(custom.validate(new));
                }
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(entry.named_kind_of(new), &target.name, &errors))
    }

    /// The last finalizer is gone from an object that was to be deleted: now it is.
    async fn remove_finished(
        &self,
        target: &Target,
        new: Object,
        stored: &Stored,
    ) -> Result<Option<Saved>, ApiError> {
        let write = Write {
            key: Bytes::from(target.key()),
            expected_revision: stored.revision,
            value: None,
            ttl_seconds: 0,
        };
        match self.storage.write(write).await.map_err(storage_error)? {
            Written::Done(_) => {
                resources::allocate::after_delete(self, &target.entry, &new).await;
                Ok(Some(Saved::changed(new)))
            }
            Written::Lost(Some(_)) => Ok(None),
            Written::Lost(None) => Err(target.not_found()),
        }
    }
}

/// The resourceVersion that the client's object carries; none for "whatever is there".
pub(super) fn requested_version(object: &Object) -> Result<Option<i64>, ApiError> {
    match object::meta_text(object, "resourceVersion") {
        "" | "0" => Ok(None),
        text => match parse_version(text) {
            Some(version) => Ok(Some(version)),
            None => Err(ApiError::internal(format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                quoted(text)
            ))),
        },
    }
}

pub(super) fn check_version(
    target: &Target,
    version: Option<i64>,
    old: &Object,
) -> Result<(), ApiError> {
    let current = parse_version(object::meta_text(old, "resourceVersion"));
    match version {
        Some(version) if Some(version) != current => {
            Err(ApiError::modified(target.resource(), &target.name))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_name(target: &Target, object: &mut Object) -> Result<(), ApiError> {
    let metadata = object::metadata_mut(object);
    match object::text(metadata, "name") {
        "" => {
            metadata.insert("name".to_owned(), target.name.as_str().into());
            Ok(())
        }
        own if own == target.name => Ok(()),
        own => Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({})",
            target.name
        ))),
    }
}

/// A write of the object leaves its status alone, a write of the status everything else.
fn separate_status(target: &Target, new: &mut Object, old: &Object) {
    match target.subresource.as_str() {
        "status" | "approval" => {
            let names: Vec<String> = new.keys().chain(old.keys()).cloned().collect();
            for name in names {
                if !matches!(name.as_str(), "status" | "metadata" | "kind" | "apiVersion") {
                    object::copy_field(old, new, &name);
                }
            }
        }
        "finalize" => {
            let finalizers = object::at(new, &["spec", "finalizers"]).cloned();
            let managed = object::at(new, &["metadata", "managedFields"]).cloned();
            *new = old.clone();
            let spec = object::map_mut(new, "spec");
            spec.insert("finalizers".to_owned(), finalizers.unwrap_or_default());
            if let Some(managed) = managed {
                object::metadata_mut(new).insert("managedFields".to_owned(), managed);
            }
        }
        _ if target.entry.has_subresource("status") && !target.entry.strategy.whole_updates => {
            object::copy_field(old, new, "status");
        }
        _ => {}
    }
}

/// Generation counts the changes of what the object's owner wants.
fn set_generation(target: &Target, new: &mut Object, old: &Object) {
    let empty = Object::new();
    let before = object::metadata(old).unwrap_or(&empty);
    if !target.entry.strategy.generation || target.entry.strategy.generation_is_fixed {
        object::copy_field(before, object::metadata_mut(new), "generation");
        return;
    }
    let counted = target.entry.strategy.generation_counts.iter();
    let metadata_changed = target.subresource.is_empty()
        && counted
            .map(|field| ["metadata", *field])
            .any(|path| !object::same(object::at(new, &path), object::at(old, &path)));
    // A status is of the owner's making where nobody else can write it.
    let custom = target.entry.custom.as_ref();
    let counts_status = custom.is_some_and(|custom| !custom.has_status);
    let is_wanted = |name: &str| is_wanted(name) || (counts_status && name == "status");
    let changed = metadata_changed
        || new
            .iter()
            .any(|(name, value)| is_wanted(name) && !object::same(Some(value), old.get(name)))
        || old
            .iter()
            .any(|(name, value)| is_wanted(name) && !object::same(Some(value), new.get(name)));
    let generation = object::integer_at(before, &["generation"]) + i64::from(changed);
    let metadata = object::metadata_mut(new);
    if generation == 0 {
        metadata.remove("generation");
    } else {
        metadata.insert("generation".to_owned(), generation.into());
    }
}

fn is_wanted(field: &str) -> bool {
    !matches!(field, "kind" | "apiVersion" | "metadata" | "status")
}

/// An object that was to be deleted and that nobody holds back any more.
fn is_finished(object: &Object) -> bool {
    let grace = object::at(object, &["metadata", "deletionGracePeriodSeconds"]);
    let grace_is_over = grace.and_then(serde_json::Value::as_i64).unwrap_or(0) == 0;
    let held_by_spec = !object::list_at(object, &["spec", "finalizers"]).is_empty()
        && object::text(object, "kind") == "Namespace";
    object::is_being_deleted(object)
        && grace_is_over
        && object::finalizers(object).is_empty()
        && !held_by_spec
}
