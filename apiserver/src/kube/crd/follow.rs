//! Definitions as they change: every core adds their rows to its table, and one of them settles
//! names and takes away the objects of definitions that go.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use serde_json::Value;

use super::definition::is_true;
use super::{CLEANUP_FINALIZER, GROUP, PLURAL, names};
use crate::cli::LogLevel;
use crate::kube::object::{self, Object};
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::context::{Now, WriteContext};
use crate::kube::registry::list::ListReader;
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::request::options::{DeleteOptions, ListOptions, WriteOptions};
use crate::kube::status::ApiError;
use crate::kube::storage::{ChangeStream, Changes, StorageError, Stored, value};
use crate::log;

/// Who sets the status of definitions.
const MANAGER: &str = "kube-apiserver";

/// Objects that do not go at once are looked at again after this.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Follows all definitions until shutdown. `settles` on the one core that writes statuses and
/// cleans up.
pub async fn run(registry: &Rc<Registry>, shutdown: &Shutdown, settles: bool) {
    while !shutdown.is_requested() {
        if let Err(error) = follow(registry, shutdown, settles).await {
            log::write(LogLevel::Warn, format_args!("definitions are read anew: {error}"));
        }
        if timer::timeout(RETRY_AFTER, shutdown.requested()).await.is_some() {
            return;
        }
    }
}

async fn follow(
    registry: &Rc<Registry>,
    shutdown: &Shutdown,
    settles: bool,
) -> Result<(), ApiError> {
    let Some(entry) = registry.catalog.entry(GROUP, "v1", PLURAL).cloned() else { return Ok(()) };
    let directory = entry.directory("");
    let storage = registry.storage.clone();
    let revision = storage.revision();
    let mut changes =
        storage.watch(directory.as_bytes(), false, revision + 1).await.map_err(storage_error)?;
    loop {
        let definitions = read_all(registry, &entry).await?;
        registry.catalog.set_custom(&definitions);
        let mut busy = false;
        if settles {
            busy = settle(registry, &entry, &definitions).await?;
        }
        let wait = if busy { RETRY_AFTER } else { Duration::from_secs(60) };
        match timer::timeout(wait, next_or_stop(&mut *changes, shutdown)).await {
            Some(Some(Err(error))) => return Err(storage_error(error)),
            Some(None) => return Ok(()),
            Some(Some(Ok(_))) | None => {}
        }
    }
}

/// The next changes; `None` when the server stops.
async fn next_or_stop(
    changes: &mut dyn ChangeStream,
    shutdown: &Shutdown,
) -> Option<Result<Changes, StorageError>> {
    match select(changes.next(), pin!(shutdown.requested())).await {
        Either::Left((changes, _)) => Some(changes),
        Either::Right(_) => None,
    }
}

async fn read_all(registry: &Registry, entry: &Entry) -> Result<Vec<Object>, ApiError> {
    let directory = entry.directory("");
    let directory = directory.as_bytes();
    let page = registry.storage.range(directory, directory, 0, 0).await.map_err(storage_error)?;
    let mut definitions = Vec::with_capacity(page.items.len());
    for stored in page.items {
        match registry.decode(entry, &stored) {
            Ok(definition) => definitions.push(definition),
            Err(error) => {
                let key = String::from_utf8_lossy(&stored.key);
                log::write(
                    LogLevel::Warn,
                    format_args!("the definition {key} is left out: {error}"),
                );
            }
        }
    }
    Ok(definitions)
}

/// Brings statuses up to date and works on definitions that go; gives whether some are still there.
async fn settle(
    registry: &Rc<Registry>,
    entry: &Rc<Entry>,
    definitions: &[Object],
) -> Result<bool, ApiError> {
    let now = Now::new(timer::wall_clock());
    let mut busy = false;
    let mut settled: Vec<Object> = definitions.to_vec();
    for index in 0..settled.len() {
        let definition = settled[index].clone();
        let done = if object::is_being_deleted(&definition) {
            clean_up(registry, entry, &definition, now).await.map(|done| busy |= !done)
        } else {
            let group = object::text_at(&definition, &["spec", "group"]);
            let others: Vec<Object> = settled
                .iter()
                .enumerate()
                .filter(|(other, one)| {
                    *other != index && object::text_at(one, &["spec", "group"]) == group
                })
                .map(|(_, one)| one.clone())
                .collect();
            let status = names::status(&definition, &others, &now.seconds());
            let mut new = definition.clone();
            new.insert("status".to_owned(), Value::Object(status));
            settled[index] = new.clone();
            match new == definition {
                true => Ok(()),
                false => save_status(registry, entry, new, now).await,
            }
        };
        if let Err(error) = done {
            let name = object::name(&definition);
            log::write(LogLevel::Warn, format_args!("the definition {name}, will retry: {error}"));
            busy = true;
        }
    }
    Ok(busy)
}

async fn save_status(
    registry: &Registry,
    entry: &Rc<Entry>,
    new: Object,
    now: Now,
) -> Result<(), ApiError> {
    let target = Target {
        entry: entry.clone(),
        namespace: String::new(),
        name: object::name(&new).to_owned(),
        subresource: "status".to_owned(),
    };
    let context = WriteContext {
        options: WriteOptions::default(),
        field_manager: MANAGER.to_owned(),
        now,
        warnings: Default::default(),
        user: crate::kube::authn::User::server(),
    };
    // Somebody else's change is one more event: it is looked at again then.
    match registry.update(&target, new, &context).await {
        Err(error) if error.status().reason == "Conflict" => Ok(()),
        Err(error) if error.code() == http::StatusCode::NOT_FOUND => Ok(()),
        result => result.map(drop),
    }
}

/// Deletes the objects of a definition that goes, then lets it go. Gives whether that is done.
async fn clean_up(
    registry: &Rc<Registry>,
    entry: &Rc<Entry>,
    definition: &Object,
    now: Now,
) -> Result<bool, ApiError> {
    let mut finalizers = object::finalizers(definition);
    if !finalizers.iter().any(|own| own == CLEANUP_FINALIZER) {
        return Ok(true);
    }
    let name = object::name(definition);
    if is_true(definition, "Established")
        && let Some(objects) = registry.catalog.custom_of(name)
        && !delete_objects(registry, objects, now).await?
    {
        return Ok(false);
    }
    finalizers.retain(|own| own != CLEANUP_FINALIZER);
    let target = Target {
        entry: entry.clone(),
        namespace: String::new(),
        name: name.to_owned(),
        subresource: String::new(),
    };
    let Some((mut current, stored)) = registry.find(&target).await? else { return Ok(true) };
    if object::meta_text(&current, "resourceVersion")
        != object::meta_text(definition, "resourceVersion")
    {
        return Ok(false);
    }
    let bytes = match finalizers.is_empty() {
        true => None,
        false => {
            let list = serde_json::json!(finalizers);
            object::metadata_mut(&mut current).insert("finalizers".to_owned(), list);
            Some(value::encode(&entry.to_stored(current)))
        }
    };
    Ok(registry.write_over(&target, &stored, bytes).await?.is_some())
}

/// Deletes all objects of a resource; gives whether none are left.
async fn delete_objects(
    registry: &Rc<Registry>,
    entry: Rc<Entry>,
    now: Now,
) -> Result<bool, ApiError> {
    let all = Target {
        entry: entry.clone(),
        namespace: String::new(),
        name: String::new(),
        subresource: String::new(),
    };
    let mut reader =
        ListReader::open(registry.clone(), all.clone(), ListOptions::default()).await?;
    let mut none = true;
    while let Some(chunk) = reader.next_chunk().await? {
        for stored in chunk {
            none = false;
            delete_object(registry, &all, &stored, now).await?;
        }
    }
    Ok(none)
}

async fn delete_object(
    registry: &Registry,
    all: &Target,
    stored: &Stored,
    now: Now,
) -> Result<(), ApiError> {
    let object = registry.decode(&all.entry, stored)?;
    let one = Target {
        name: object::name(&object).to_owned(),
        namespace: object::namespace(&object).to_owned(),
        ..all.clone()
    };
    match registry.delete(&one, &DeleteOptions::default(), now).await {
        Err(error) if error.code() != http::StatusCode::NOT_FOUND => Err(error),
        _ => Ok(()),
    }
}
