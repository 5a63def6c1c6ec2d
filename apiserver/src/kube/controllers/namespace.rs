//! Empties namespaces that are being deleted, then lets them go.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;

use crate::cli::LogLevel;
use crate::kube::object::{self, Object};
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::context::{Now, WriteContext};
use crate::kube::registry::list::ListReader;
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::request::options::{DeleteOptions, ListOptions, WriteOptions};
use crate::kube::status::ApiError;
use crate::kube::storage::keys;
use crate::log;

const MANAGER: &str = "namespace-controller";

/// Objects with finalizers, or pods with a grace period, are looked at again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long a namespace must have been empty before it goes: longer than a write is under way that
/// was admitted just before the deletion.
const EMPTY_FOR: Duration = Duration::from_secs(2);

/// Watches namespaces until shutdown.
pub async fn run(registry: &Rc<Registry>, shutdown: &Shutdown) {
    while !shutdown.is_requested() {
        if let Err(error) = watch(registry, shutdown).await {
            log::write(LogLevel::Warn, format_args!("namespaces are looked at anew: {error}"));
        }
        if timer::timeout(RETRY_AFTER, shutdown.requested()).await.is_some() {
            return;
        }
    }
}

/// Which namespaces that are being deleted were found empty, and since when.
///
/// A write that was admitted while its namespace was still there may reach the store after a look
/// that found nothing. So a namespace goes only when it was empty at every look for a while.
#[derive(Default)]
struct Emptiness {
    /// By uid, since when, on the monotonic clock.
    since_ms: BTreeMap<String, u64>,
    /// The uids that this sweep saw.
    seen: BTreeSet<String>,
}

impl Emptiness {
    fn begin_sweep(&mut self) {
        self.seen.clear();
    }

    /// Takes note of a look at a namespace; gives whether it has been empty for long enough.
    fn observe(&mut self, uid: &str, empty: bool, now_ms: u64) -> bool {
        self.seen.insert(uid.to_owned());
        if !empty {
            self.since_ms.remove(uid);
            return false;
        }
        let since_ms = *self.since_ms.entry(uid.to_owned()).or_insert(now_ms);
        now_ms.saturating_sub(since_ms) >= EMPTY_FOR.as_millis() as u64
    }

    /// Forgets the namespaces that are gone.
    fn end_sweep(&mut self) {
        let seen = &self.seen;
        self.since_ms.retain(|uid, _| seen.contains(uid));
    }
}

/// Looks at all namespaces, then at each that changes.
async fn watch(registry: &Rc<Registry>, shutdown: &Shutdown) -> Result<(), ApiError> {
    let Some(entry) = registry.catalog.entry("", "v1", "namespaces").cloned() else {
        return Ok(());
    };
    let directory = keys::directory("namespaces", "");
    let revision = registry.storage.revision();
    let storage = registry.storage.clone();
    let mut changes =
        storage.watch(directory.as_bytes(), false, revision + 1).await.map_err(storage_error)?;
    let mut emptiness = Emptiness::default();
    let mut left = sweep(registry, &entry, &mut emptiness).await?;
    while !shutdown.is_requested() {
        let wait = if left { RETRY_AFTER } else { Duration::from_secs(60) };
        match timer::timeout(wait, changes.next()).await {
            Some(Ok(batch)) if batch.changes.iter().all(|change| change.value.is_none()) => {}
            Some(Ok(_)) | None => left = sweep(registry, &entry, &mut emptiness).await?,
            Some(Err(error)) => return Err(storage_error(error)),
        }
    }
    Ok(())
}

/// Works on every namespace that is being deleted; gives whether some are still there. One that
/// can't be emptied is told of and does not hold up the others.
async fn sweep(
    registry: &Rc<Registry>,
    entry: &Rc<Entry>,
    emptiness: &mut Emptiness,
) -> Result<bool, ApiError> {
    let target = Target {
        entry: entry.clone(),
        namespace: String::new(),
        name: String::new(),
        subresource: String::new(),
    };
    let mut reader =
        ListReader::open(registry.clone(), target.clone(), ListOptions::default()).await?;
    let mut left = false;
    emptiness.begin_sweep();
    while let Some(chunk) = reader.next_chunk().await? {
        for stored in chunk {
            let finished = match registry.decode(entry, &stored) {
                Ok(namespace) if !object::is_being_deleted(&namespace) => continue,
                Ok(namespace) => finish(registry, &target, &namespace, emptiness).await,
                Err(error) => Err(error),
            };
            left |= !finished.unwrap_or_else(|error| {
                let key = String::from_utf8_lossy(&stored.key);
                log::write(LogLevel::Warn, format_args!("emptying {key}, will retry: {error}"));
                false
            });
        }
    }
    emptiness.end_sweep();
    Ok(left)
}

/// Deletes a namespace's contents, then, when there were none for a while, its finalizer. Gives
/// whether that is done.
async fn finish(
    registry: &Rc<Registry>,
    namespaces: &Target,
    namespace: &Object,
    emptiness: &mut Emptiness,
) -> Result<bool, ApiError> {
    let emptied = empty(registry, object::name(namespace)).await;
    let is_empty = matches!(emptied, Ok(true));
    let finished = emptiness.observe(object::uid(namespace), is_empty, timer::monotonic_ms());
    emptied?;
    if finished {
        finalize(registry, namespaces, namespace).await?;
    }
    Ok(finished)
}

/// Deletes what is in a namespace; gives whether nothing is left. A kind that can't be deleted does
/// not hold up the others.
async fn empty(registry: &Rc<Registry>, name: &str) -> Result<bool, ApiError> {
    let mut result = Ok(true);
    for entry in &registry.catalog.all() {
        let row = &entry.resource;
        let is_stored_version = row.gvk() == row.stored_as;
        // Of a custom resource the stored version may be one that is not served.
        let is_known = is_stored_version || entry.custom.is_some();
        if !row.namespaced || !row.stored || !is_known {
            continue;
        }
        match empty_of(registry, entry, name).await {
            Ok(true) => {}
            Ok(false) => result = result.map(|_| false),
            Err(error) => result = Err(error),
        }
    }
    result
}

async fn empty_of(
    registry: &Rc<Registry>,
    entry: &Rc<Entry>,
    namespace: &str,
) -> Result<bool, ApiError> {
    let target = Target {
        entry: entry.clone(),
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: String::new(),
    };
    let now = Now::new(timer::wall_clock());
    let (list, options) = (ListOptions::default(), DeleteOptions::default());
    let user = crate::kube::authn::User::server();
    registry.delete_collection(&target, list, &options, &user, now, &mut drop).await?;
    let directory = entry.directory(namespace);
    let page = registry
        .storage
        .range(directory.as_bytes(), directory.as_bytes(), 1, 0)
        .await
        .map_err(storage_error)?;
    Ok(page.items.is_empty())
}

/// Removes the finalizer `kubernetes`, as a controller would by way of `finalize`.
async fn finalize(
    registry: &Registry,
    namespaces: &Target,
    namespace: &Object,
) -> Result<(), ApiError> {
    let mut object = namespace.clone();
    object::metadata_mut(&mut object).remove("resourceVersion");
    let spec = object::map_mut(&mut object, "spec");
    let mut finalizers = object::list(spec, "finalizers").to_vec();
    finalizers.retain(|finalizer| finalizer != "kubernetes");
    spec.insert("finalizers".to_owned(), finalizers.into());
    let target = Target {
        name: object::name(namespace).to_owned(),
        subresource: "finalize".to_owned(),
        ..namespaces.clone()
    };
    let context = WriteContext {
        options: WriteOptions::default(),
        field_manager: MANAGER.to_owned(),
        now: Now::new(timer::wall_clock()),
        warnings: Default::default(),
        user: crate::kube::authn::User::server(),
    };
    match registry.update(&target, object, &context).await {
        Err(error) if error.code() != http::StatusCode::NOT_FOUND => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_goes_when_it_stays_empty() {
        let mut emptiness = Emptiness::default();
        for (now_ms, empty, expected) in [
            (0, false, false),
            (2000, true, false),
            (3999, true, false),
            (4000, false, false),
            (4001, true, false),
            (6000, true, false),
            (6001, true, true),
        ] {
            emptiness.begin_sweep();
            assert_eq!(emptiness.observe("a", empty, now_ms), expected, "{now_ms}");
            emptiness.end_sweep();
        }
        emptiness.begin_sweep();
        emptiness.end_sweep();
        assert!(emptiness.since_ms.is_empty());
    }
}
