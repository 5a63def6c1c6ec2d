//! Roles and bindings as they change: every core keeps what they say in memory.

use std::collections::BTreeSet;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;

use crate::cli::LogLevel;
use crate::kube::object;
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::{Registry, storage_error};
use crate::kube::status::ApiError;
use crate::log;

pub const GROUP: &str = "rbac.authorization.k8s.io";
const PLURALS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Objects that are read at a time.
const CHUNK: usize = 500;

/// Follows all roles and bindings until shutdown.
pub async fn run(registry: &Rc<Registry>, shutdown: &Shutdown) {
    join_all(PLURALS.map(|plural| follow_one(registry, shutdown, plural))).await;
}

async fn follow_one(registry: &Rc<Registry>, shutdown: &Shutdown, plural: &str) {
    let Some(entry) = registry.catalog.entry(GROUP, "v1", plural).cloned() else { return };
    while !shutdown.is_requested() {
        if let Err(error) = follow(registry, shutdown, &entry).await {
            log::write(LogLevel::Warn, format_args!("{plural} are read anew: {error}"));
        }
        if timer::timeout(RETRY_AFTER, shutdown.requested()).await.is_some() {
            return;
        }
    }
}

async fn follow(
    registry: &Rc<Registry>,
    shutdown: &Shutdown,
    entry: &Entry,
) -> Result<(), ApiError> {
    let revision = read_all(registry, entry).await?;
    let directory = entry.directory("");
    let changes = registry.storage.watch(directory.as_bytes(), false, revision + 1).await;
    let mut changes = changes.map_err(storage_error)?;
    loop {
        let batch = match select(changes.next(), pin!(shutdown.requested())).await {
            Either::Left((batch, _)) => batch.map_err(storage_error)?,
            Either::Right(_) => return Ok(()),
        };
        for change in batch.changes {
            let bytes = change.value.as_ref().or(change.previous.as_ref());
            let Some(bytes) = bytes else { continue };
            let object = registry.decode_value(entry, &change.key, bytes, change.revision)?;
            match change.value {
                Some(_) => registry.policy.put(&object),
                None => {
                    let (namespace, name) = (object::namespace(&object), object::name(&object));
                    registry.policy.remove(&entry.resource.kind, namespace, name);
                }
            }
        }
    }
}

/// Reads all objects of one kind; gives the revision that they are of.
async fn read_all(registry: &Registry, entry: &Entry) -> Result<i64, ApiError> {
    let directory = entry.directory("");
    let mut start = directory.clone().into_bytes();
    let mut revision = 0;
    let mut known = BTreeSet::new();
    loop {
        let page = registry.storage.range(directory.as_bytes(), &start, CHUNK, revision).await;
        let page = page.map_err(storage_error)?;
        if revision == 0 {
            revision = page.revision;
        }
        for stored in &page.items {
            let object = registry.decode(entry, stored)?;
            registry.policy.put(&object);
            known.insert((object::namespace(&object).to_owned(), object::name(&object).to_owned()));
        }
        let Some(last) = page.items.last().filter(|_| page.remaining > 0) else { break };
        start = last.key.to_vec();
        start.push(0);
    }
    registry.policy.retain(&entry.resource.kind, &known);
    Ok(revision)
}
