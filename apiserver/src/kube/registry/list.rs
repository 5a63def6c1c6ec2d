//! Reading many objects at one revision, a chunk at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;

use super::catalog::Entry;
use super::{Registry, Target, storage_error};
use crate::kube::limits::LIST_CHUNK_RECORDS;
use crate::kube::object::{self, Object};
use crate::kube::request::field_selector::FieldSelector;
use crate::kube::request::label_selector::LabelSelector;
use crate::kube::request::options::{ListOptions, VersionMatch};
use crate::kube::resources::fields;
use crate::kube::status::{ApiError, quoted};
use crate::kube::storage::continue_token::ContinueToken;
use crate::kube::storage::{StorageError, Stored, value};

/// Which objects of a resource a client wants to see.
#[derive(Clone)]
pub struct Selection {
    entry: Rc<Entry>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// Only this object, when not empty.
    name: String,
}

/// The part of an object that selectors look at most often.
#[derive(Deserialize)]
struct Selected {
    #[serde(default)]
    metadata: SelectedMetadata,
}

#[derive(Deserialize, Default)]
struct SelectedMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Selection {
    /// Refuses fields that the resource does not know.
    pub fn new(target: &Target, options: &ListOptions) -> Result<Selection, ApiError> {
        let known = &target.entry.resource.field_selectors;
        for requirement in options.fields.requirements() {
            let field = &requirement.field;
            let everywhere = matches!(field.as_str(), "metadata.name" | "metadata.namespace");
            if everywhere || known.contains(field) {
                continue;
            }
            let row = &target.entry.resource;
            let text = match (row.group.as_str(), known.is_empty()) {
                (_, true) => format!(
                    "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                    quoted(field)
                ),
                ("batch", _) => {
                    format!("field label {} not supported for {}", quoted(field), row.kind)
                }
                ("resource.k8s.io", _) => format!(
                    "field label not supported for {}, Kind={}: {field}",
                    target.entry.api_version, row.kind
                ),
                _ => format!("field label not supported: {field}"),
            };
            return Err(ApiError::bad_request(text));
        }
        Ok(Selection {
            entry: target.entry.clone(),
            labels: options.labels.clone(),
            fields: options.fields.clone(),
            name: target.name.clone(),
        })
    }

    /// Whether every object is selected.
    pub fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.name.is_empty()
    }

    /// Whether a stored object is selected. Only as much of it is read as is needed.
    pub fn matches(&self, registry: &Registry, key: &[u8], bytes: &[u8]) -> Result<bool, ApiError> {
        if self.selects_all() {
            return Ok(true);
        }
        if self.fields.only_names() && !bytes.starts_with(value::PROTOBUF_PREFIX) {
            let selected: Selected = serde_json::from_slice(bytes).map_err(|error| {
                ApiError::internal(format!("unable to decode an object: {error}"))
            })?;
            let metadata = selected.metadata;
            let value_of = |field: &str| match field {
                "metadata.name" => metadata.name.clone(),
                _ => metadata.namespace.clone(),
            };
            return Ok((self.name.is_empty() || self.name == metadata.name)
                && self.fields.matches(value_of)
                && self.labels.matches(&metadata.labels.unwrap_or_default()));
        }
        let object = registry.decode_value(&self.entry, key, bytes, 0)?;
        Ok(self.matches_object(&object))
    }

    pub fn matches_object(&self, object: &Object) -> bool {
        let group = &self.entry.resource.group;
        let plural = &self.entry.resource.plural;
        (self.name.is_empty() || self.name == object::name(object))
            && self.labels.matches_value(object::labels(object))
            && self.fields.matches(|field| fields::value(group, plural, object, field))
    }
}

/// What a list says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListHead {
    pub revision: i64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

impl ListHead {
    /// Of a list without a limit.
    pub fn whole(reader: &ListReader) -> ListHead {
        ListHead { revision: reader.revision(), continue_token: None, remaining: None }
    }
}

/// A list that is being read.
pub struct ListReader {
    registry: Rc<Registry>,
    selection: Selection,
    directory: String,
    /// All keys begin with it: the directory, or the key of the one object that is wanted.
    prefix: String,
    next_key: Vec<u8>,
    /// The revision that all chunks are read at.
    revision: i64,
    limit: usize,
    /// The first chunk, read when the list was opened.
    first: Option<Chunk>,
    finished: bool,
}

struct Chunk {
    items: Vec<Stored>,
    /// Keys behind the chunk.
    remaining: usize,
}

impl ListReader {
    /// Reads the first chunk, so that refusals come before the answer begins.
    pub async fn open(
        registry: Rc<Registry>,
        target: Target,
        options: ListOptions,
    ) -> Result<ListReader, ApiError> {
        let selection = Selection::new(&target, &options)?;
        let directory = target.entry.directory(&target.namespace);
        let start = Start::of(&registry, &options, &directory).await?;
        let one = !target.name.is_empty()
            && (!target.namespace.is_empty() || !target.entry.resource.namespaced);
        let prefix = match one {
            true => target.entry.key(&target.namespace, &target.name),
            false => directory.clone(),
        };
        let mut reader = ListReader {
            registry,
            selection,
            directory,
            prefix,
            next_key: start.key.into_bytes(),
            revision: start.revision,
            limit: options.limit,
            first: None,
            finished: false,
        };
        let inconsistent = !options.continue_token.is_empty();
        match reader.read_chunk().await {
            Ok(chunk) => reader.first = Some(chunk),
            Err(StorageError::Compacted { .. }) if inconsistent => {
                return Err(reader.continue_expired());
            }
            Err(error) => return Err(storage_error(error)),
        }
        Ok(reader)
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Bytes of the objects in the first chunk.
    pub fn first_chunk_bytes(&self) -> usize {
        let items = self.first.iter().flat_map(|chunk| &chunk.items);
        items.map(|stored| stored.value.len()).sum()
    }

    /// The whole of a list with a limit: at most that many items, and where to go on.
    pub async fn read_limited(&mut self) -> Result<(ListHead, Vec<Stored>), ApiError> {
        assert!(self.limit > 0, "a list without limit is read in chunks");
        let mut items: Vec<Stored> = Vec::new();
        let mut behind = 0;
        while let Some(chunk) = self.next().await? {
            let last = chunk.items.len();
            for (index, stored) in chunk.items.into_iter().enumerate() {
                if !self.selection.matches(&self.registry, &stored.key, &stored.value)? {
                    continue;
                }
                items.push(stored);
                if items.len() == self.limit {
                    behind = chunk.remaining + last - index - 1;
                    self.finished = true;
                    break;
                }
            }
        }
        let continue_token = match items.last() {
            Some(last) if behind > 0 => Some(self.token_after(&last.key)),
            _ => None,
        };
        let countable = continue_token.is_some() && self.selection.selects_all();
        let remaining = countable.then_some(behind);
        Ok((ListHead { revision: self.revision, continue_token, remaining }, items))
    }

    /// The next selected objects; `None` at the end. Never an empty chunk in between.
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<Stored>>, ApiError> {
        while let Some(chunk) = self.next().await? {
            let mut selected = Vec::with_capacity(chunk.items.len());
            for stored in chunk.items {
                if self.selection.matches(&self.registry, &stored.key, &stored.value)? {
                    selected.push(stored);
                }
            }
            if !selected.is_empty() {
                return Ok(Some(selected));
            }
        }
        Ok(None)
    }

    async fn next(&mut self) -> Result<Option<Chunk>, ApiError> {
        if self.finished {
            return Ok(None);
        }
        let chunk = match self.first.take() {
            Some(chunk) => chunk,
            None => self.read_chunk().await.map_err(storage_error)?,
        };
        match chunk.items.last() {
            Some(last) if chunk.remaining > 0 => {
                self.next_key = last.key.to_vec();
                self.next_key.push(0);
            }
            _ => self.finished = true,
        }
        Ok(Some(chunk))
    }

    async fn read_chunk(&mut self) -> Result<Chunk, StorageError> {
        let limit = match self.limit {
            0 => LIST_CHUNK_RECORDS,
            limit if self.selection.selects_all() => limit.min(LIST_CHUNK_RECORDS),
            _ => LIST_CHUNK_RECORDS,
        };
        let storage = &self.registry.storage;
        let page =
            storage.range(self.prefix.as_bytes(), &self.next_key, limit, self.revision).await?;
        if self.revision == 0 {
            self.revision = page.revision;
        }
        Ok(Chunk { items: page.items, remaining: page.remaining })
    }

    fn token_after(&self, key: &[u8]) -> String {
        let start_key = format!("{}\0", String::from_utf8_lossy(key));
        ContinueToken { revision: self.revision, start_key }.encode(&self.directory)
    }

    /// The 410 of a token whose revision is compacted, with a token that goes on regardless.
    fn continue_expired(&self) -> ApiError {
        let start_key = String::from_utf8_lossy(&self.next_key).into_owned();
        let token = ContinueToken { revision: -1, start_key }.encode(&self.directory);
        ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        )
        .with_continue(token)
    }
}

/// Where a list starts, and at which revision.
struct Start {
    /// 0 for the newest.
    revision: i64,
    key: String,
}

impl Start {
    async fn of(
        registry: &Registry,
        options: &ListOptions,
        directory: &str,
    ) -> Result<Start, ApiError> {
        let version = options.resource_version.unwrap_or(0);
        if !options.continue_token.is_empty() {
            if version > 0 {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = ContinueToken::decode(&options.continue_token, directory)?;
            return Ok(Start { revision: token.revision.max(0), key: token.start_key });
        }
        let key = directory.to_owned();
        let exact = match options.version_match {
            Some(VersionMatch::Exact) => true,
            Some(VersionMatch::NotOlderThan) => false,
            // Clients of before resourceVersionMatch that page mean the version exactly.
            None => options.limit > 0 && version > 0,
        };
        if exact {
            return Ok(Start { revision: version, key });
        }
        registry.wait_for(version).await?;
        Ok(Start { revision: 0, key })
    }
}
