//! Deleting an object: at once, after its grace period, or when its finalizers are gone.

use bytes::Bytes;
use serde_json::{Value, json};

use super::context::{Now, parse_time};
use super::metadata::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER};
use super::{Registry, Target, into_object, storage_error};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::request::options::{DeleteOptions, Propagation};
use crate::kube::status::ApiError;
use crate::kube::storage::{Stored, Write, Written, value};
use crate::kube::{crd, resources};

/// What a deletion led to.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone.
    Gone(Object),
    /// The object is marked, and goes when its grace period or its finalizers are over.
    Marked(Object),
}

/// What has to be done to an object that shall go.
enum Plan {
    Remove(Object),
    Store(Object),
    /// It is on its way already.
    Nothing,
}

impl Registry {
    pub async fn delete(
        &self,
        target: &Target,
        options: &DeleteOptions,
        now: Now,
    ) -> Result<Deleted, ApiError> {
        for _ in 0..UPDATE_TRIES {
            let (old, stored) = self.load(target).await?;
            check_preconditions(target, options, &old)?;
            let done = match plan(target, options, &old, now) {
                Plan::Nothing => Some(Deleted::Marked(old)),
                Plan::Store(new) if options.dry_run => Some(Deleted::Marked(new)),
                Plan::Remove(object) if options.dry_run => Some(Deleted::Gone(object)),
                Plan::Store(new) => self.store_marked(target, new, &stored).await?,
                Plan::Remove(object) => self.remove(target, object, &stored).await?,
            };
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err(ApiError::modified(target.resource(), &target.name))
    }

    async fn store_marked(
        &self,
        target: &Target,
        mut new: Object,
        stored: &Stored,
    ) -> Result<Option<Deleted>, ApiError> {
        let bytes = value::encode(&target.entry.to_stored(new.clone()));
        match self.write_over(target, stored, Some(bytes)).await? {
            Some(revision) => {
                value::set_revision(&mut new, revision);
                Ok(Some(Deleted::Marked(new)))
            }
            None => Ok(None),
        }
    }

    async fn remove(
        &self,
        target: &Target,
        mut object: Object,
        stored: &Stored,
    ) -> Result<Option<Deleted>, ApiError> {
        let Some(revision) = self.write_over(target, stored, None).await? else {
            return Ok(None);
        };
        value::set_revision(&mut object, revision);
        resources::allocate::after_delete(self, &target.entry, &object).await;
        Ok(Some(Deleted::Gone(object)))
    }

    /// Writes over the version that was read; `None` when there is another one by now.
    pub async fn write_over(
        &self,
        target: &Target,
        stored: &Stored,
        bytes: Option<Bytes>,
    ) -> Result<Option<i64>, ApiError> {
        let write = Write {
            key: Bytes::from(target.key()),
            expected_revision: stored.revision,
            value: bytes,
            ttl_seconds: target.entry.strategy.ttl_seconds,
        };
        match self.storage.write(write).await.map_err(storage_error)? {
            Written::Done(revision) => Ok(Some(revision)),
            Written::Lost(_) => Ok(None),
        }
    }
}

fn check_preconditions(
    target: &Target,
    options: &DeleteOptions,
    old: &Object,
) -> Result<(), ApiError> {
    let conflict = |why: String| Err(ApiError::conflict(target.resource(), &target.name, &why));
    if let Some(uid) = &options.uid
        && uid != object::uid(old)
    {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            object::uid(old)
        ));
    }
    let current = object::meta_text(old, "resourceVersion");
    if let Some(version) = &options.resource_version
        && version != current
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({current}). The object might have been modified"
        ));
    }
    Ok(())
}

fn plan(target: &Target, options: &DeleteOptions, old: &Object, now: Now) -> Plan {
    if target.entry.resource.kind == "Namespace" && target.entry.resource.group.is_empty() {
        return plan_namespace(old, now);
    }
    if target.entry.resource.group == crd::GROUP && !object::is_being_deleted(old) {
        return Plan::Store(crd::definition::marked_for_deletion(old, now));
    }
    let mut new = old.clone();
    let grace_seconds = (target.entry.strategy.grace_seconds)(old, options.grace_period_seconds);
    let graceful = match grace_seconds {
        Some(seconds) => match mark_graceful(&mut new, seconds, now) {
            Graceful::Pending => return Plan::Nothing,
            Graceful::Marked => seconds > 0,
        },
        None => false,
    };
    let by_default = target.entry.strategy.orphans_by_default.then_some(Propagation::Orphan);
    set_finalizers(&mut new, options.propagation.or(by_default));
    if object::finalizers(&new).is_empty() {
        return if graceful { Plan::Store(new) } else { Plan::Remove(new) };
    }
    if grace_seconds.is_none() {
        mark(&mut new, 0, &now.seconds());
    }
    if new == *old { Plan::Nothing } else { Plan::Store(new) }
}

enum Graceful {
    /// It is marked already, with a grace period no longer than this.
    Pending,
    Marked,
}

fn mark_graceful(new: &mut Object, seconds: i64, now: Now) -> Graceful {
    if !object::is_being_deleted(new) {
        mark(new, seconds, &now.seconds_after(seconds));
        return Graceful::Marked;
    }
    let before = object::integer_at(new, &["metadata", "deletionGracePeriodSeconds"]);
    if before == 0 && object::finalizers(new).is_empty() {
        return Graceful::Marked;
    }
    if seconds >= before {
        return Graceful::Pending;
    }
    let deadline = parse_time(object::meta_text(new, "deletionTimestamp"));
    let from_now = deadline.unwrap_or(now.unix_seconds()) - before + seconds - now.unix_seconds();
    let metadata = object::metadata_mut(new);
    metadata.insert("deletionTimestamp".to_owned(), now.seconds_after(from_now).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
    Graceful::Marked
}

/// Marks an object as being deleted, once.
fn mark(object: &mut Object, grace_seconds: i64, time: &str) {
    if object::is_being_deleted(object) {
        return;
    }
    let metadata = object::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), time.into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_seconds.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
        && generation > 0
    {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// The finalizers by which the garbage collector learns what to do with dependents.
fn set_finalizers(object: &mut Object, propagation: Option<Propagation>) {
    let wanted = match propagation {
        None => return,
        Some(Propagation::Background) => None,
        Some(Propagation::Orphan) => Some(ORPHAN_FINALIZER),
        Some(Propagation::Foreground) => Some(FOREGROUND_FINALIZER),
    };
    let mut finalizers = object::finalizers(object);
    finalizers.retain(|name| name != ORPHAN_FINALIZER && name != FOREGROUND_FINALIZER);
    finalizers.extend(wanted.map(str::to_owned));
    let metadata = object::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
}

/// A namespace goes when its contents are gone: whoever empties it removes `spec.finalizers`.
fn plan_namespace(old: &Object, now: Now) -> Plan {
    let held = !object::list_at(old, &["spec", "finalizers"]).is_empty()
        || !object::finalizers(old).is_empty();
    let mut new = old.clone();
    if !object::is_being_deleted(&new) {
        let metadata = object::metadata_mut(&mut new);
        metadata.insert("deletionTimestamp".to_owned(), now.seconds().into());
        object::map_mut(&mut new, "status").insert("phase".to_owned(), "Terminating".into());
    } else if held {
        return Plan::Nothing;
    }
    if held { Plan::Store(new) } else { Plan::Remove(new) }
}

/// The answer to a deletion of an object that is gone, unless the resource answers with it.
pub fn success_status(target: &Target, object: &Object) -> Object {
    let mut details = json!({
        "name": target.name,
        "kind": target.entry.resource.plural,
        "uid": object::uid(object),
    });
    if !target.entry.resource.group.is_empty() {
        details["group"] = target.entry.resource.group.as_str().into();
    }
    into_object(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    }))
}
