//! Empties namespaces that are being deleted, then lets them go.

use std::rc::Rc;
use std::time::Duration;

use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;

use crate::cli::LogLevel;
use crate::kube::object::{self, Object};
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::context::{Now, WriteContext};
use crate::kube::registry::list::ListReader;
use crate::kube::registry::{Registry, Target};
use crate::kube::request::options::{DeleteOptions, ListOptions, WriteOptions};
use crate::kube::status::ApiError;
use crate::kube::storage::keys;
use crate::log;

const MANAGER: &str = "namespace-controller";

/// Objects with finalizers, or pods with a grace period, are looked at again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

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

/// Looks at all namespaces, then at each that changes.
async fn watch(registry: &Rc<Registry>, shutdown: &Shutdown) -> Result<(), ApiError> {
    let Some(entry) = registry.catalog.entry("", "v1", "namespaces").cloned() else {
        return Ok(());
    };
    let directory = keys::directory("namespaces", "");
    let revision = registry.storage.revision();
    let storage = registry.storage.clone();
    let mut changes = storage
        .watch(directory.as_bytes(), false, revision + 1)
        .await
        .map_err(crate::kube::registry::storage_error)?;
    let mut left = sweep(registry, &entry).await?;
    while !shutdown.is_requested() {
        let wait = if left { RETRY_AFTER } else { Duration::from_secs(60) };
        match timer::timeout(wait, changes.next()).await {
            Some(Ok(batch)) if batch.changes.iter().all(|change| change.value.is_none()) => {}
            Some(Ok(_)) | None => left = sweep(registry, &entry).await?,
            Some(Err(error)) => return Err(crate::kube::registry::storage_error(error)),
        }
    }
    Ok(())
}

/// Works on every namespace that is being deleted; gives whether some are not empty yet.
async fn sweep(registry: &Rc<Registry>, entry: &Rc<Entry>) -> Result<bool, ApiError> {
    let target = Target {
        entry: entry.clone(),
        namespace: String::new(),
        name: String::new(),
        subresource: String::new(),
    };
    let mut reader =
        ListReader::open(registry.clone(), target.clone(), ListOptions::default()).await?;
    let mut left = false;
    while let Some(chunk) = reader.next_chunk().await? {
        for stored in chunk {
            let namespace = registry.decode(entry, &stored)?;
            if object::is_being_deleted(&namespace) {
                left |= !finish(registry, &target, &namespace).await?;
            }
        }
    }
    Ok(left)
}

/// Deletes a namespace's contents, then its finalizer. Gives whether it is gone.
async fn finish(
    registry: &Rc<Registry>,
    namespaces: &Target,
    namespace: &Object,
) -> Result<bool, ApiError> {
    let name = object::name(namespace);
    let mut empty = true;
    for entry in registry.catalog.entries() {
        let row = &entry.resource;
        let is_stored_version = row.gvk() == row.stored_as;
        if !row.namespaced || !row.stored || !is_stored_version {
            continue;
        }
        let target = Target {
            entry: entry.clone(),
            namespace: name.to_owned(),
            name: String::new(),
            subresource: String::new(),
        };
        let now = Now::new(timer::wall_clock());
        let options = DeleteOptions::default();
        registry.delete_collection(&target, ListOptions::default(), &options, now).await?;
        let directory = entry.directory(name);
        let page = registry
            .storage
            .range(directory.as_bytes(), directory.as_bytes(), 1, 0)
            .await
            .map_err(crate::kube::registry::storage_error)?;
        empty &= page.items.is_empty();
    }
    if empty {
        finalize(registry, namespaces, namespace).await?;
    }
    Ok(empty)
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
    };
    match registry.update(&target, object, &context).await {
        Err(error) if error.code() != http::StatusCode::NOT_FOUND => Err(error),
        _ => Ok(()),
    }
}
