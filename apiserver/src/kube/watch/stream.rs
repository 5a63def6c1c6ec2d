//! What a watch sends, in order: the state it starts from, then every change, bookmarks in quiet
//! times, and the reason when it must end. The stream is polled only while the client has room:
//! a slow client costs its cursor and nothing more.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::{self, Stream};
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::{timer, yield_now};

use super::bookmarks::Bookmarks;
use super::events::{EventWriter, write_error};
use crate::kube::limits::{LIST_CHUNK_BYTES, WATCH_TIMEOUT_MIN_SECONDS};
use crate::kube::registry::context::Now;
use crate::kube::registry::list::{ListReader, Selection};
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::request::negotiation::Representation;
use crate::kube::request::options::ListOptions;
use crate::kube::shape::IncludeObject;
use crate::kube::status::ApiError;
use crate::kube::storage::{ChangeStream, Changes, StorageError, Stored};
use crate::net::BoxError;

/// A watch that a client asks for.
pub struct WatchRequest {
    pub target: Target,
    pub options: ListOptions,
    pub representation: Representation,
    pub include: IncludeObject,
}

struct Watch {
    registry: Rc<Registry>,
    request: WatchRequest,
    selection: Selection,
    /// The state that the watch starts from, while it is being sent.
    initial: Option<Initial>,
    changes: Option<Box<dyn ChangeStream>>,
    /// The first revision that changes are wanted of.
    start_revision: i64,
    columns_sent: bool,
    deadline_ms: u64,
    bookmarks: Bookmarks,
    /// Ready when the server stops: the stream ends then, rather than be cut off after a grace.
    stopping: LocalBoxFuture<'static, ()>,
    /// What is left of a chunk of initial objects, the next one last.
    waiting: Vec<Stored>,
    ended: bool,
}

/// What a watch waited for.
enum Happened {
    Changes(Result<Changes, StorageError>),
    TimePassed,
    Stopping,
}

struct Initial {
    reader: ListReader,
    /// A bookmark tells when all of it was sent.
    bookmark: bool,
}

/// Begins a watch. Refusals that can be told with a status code are errors; later ones are events.
pub async fn open(
    registry: Rc<Registry>,
    request: WatchRequest,
    shutdown: Shutdown,
) -> Result<impl Stream<Item = Result<Bytes, BoxError>> + use<>, ApiError> {
    let selection = Selection::new(&request.target, &request.options)?;
    let version = request.options.resource_version.unwrap_or(0);
    let wants_state = version == 0 || request.options.send_initial_events;
    let mut initial = None;
    let mut start_revision = version + 1;
    if wants_state {
        registry.wait_for(version).await?;
        let options = ListOptions {
            labels: request.options.labels.clone(),
            fields: request.options.fields.clone(),
            ..ListOptions::default()
        };
        let reader = ListReader::open(registry.clone(), request.target.clone(), options).await?;
        start_revision = reader.revision() + 1;
        let bookmark = request.options.send_initial_events && request.options.allow_bookmarks;
        initial = Some(Initial { reader, bookmark });
    }
    let now_ms = timer::monotonic_ms();
    let seconds = request.options.timeout_seconds.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or_else(|| {
        WATCH_TIMEOUT_MIN_SECONDS + registry.random.below(WATCH_TIMEOUT_MIN_SECONDS)
    });
    let bookmarks = Bookmarks::new(request.options.allow_bookmarks, now_ms, start_revision - 1);
    let mut watch = Watch {
        registry,
        request,
        selection,
        initial,
        changes: None,
        start_revision,
        columns_sent: false,
        deadline_ms: now_ms.saturating_add(seconds.saturating_mul(1000)),
        bookmarks,
        stopping: Box::pin(async move { shutdown.requested().await }),
        waiting: Vec::new(),
        ended: false,
    };
    // Opened before the initial state is sent: its changes wait in the store's history.
    let first = watch.connect().await;
    Ok(stream::unfold((watch, first), |(mut watch, failed)| async move {
        if watch.ended {
            return None;
        }
        let result = match failed {
            Some(error) => Err(error),
            None => watch.next_bytes().await,
        };
        match result {
            Ok(Some(bytes)) => Some((Ok(bytes), (watch, None))),
            Ok(None) => None,
            Err(error) => {
                watch.ended = true;
                let mut out = BytesMut::new();
                write_error(&error, watch.request.representation.encoding, &mut out);
                Some((Ok(out.freeze()), (watch, None)))
            }
        }
    }))
}

impl Watch {
    /// Opens the cursor; gives the error to tell the client as an event.
    async fn connect(&mut self) -> Option<ApiError> {
        let target = &self.request.target;
        let single = !target.name.is_empty()
            && (!target.namespace.is_empty() || !target.entry.resource.namespaced);
        let range = if single {
            target.entry.key(&target.namespace, &target.name)
        } else {
            target.entry.directory(&target.namespace)
        };
        let storage = &self.registry.storage;
        match storage.watch(range.as_bytes(), single, self.start_revision).await {
            Ok(changes) => {
                self.changes = Some(changes);
                None
            }
            Err(error) => Some(self.refusal(error)),
        }
    }

    fn refusal(&self, error: StorageError) -> ApiError {
        match error {
            StorageError::Compacted { oldest } => ApiError::expired(format!(
                "too old resource version: {} ({oldest})",
                self.start_revision - 1
            )),
            other => storage_error(other),
        }
    }

    /// The next bytes to send; `None` when the watch's time is over or the server stops.
    async fn next_bytes(&mut self) -> Result<Option<Bytes>, ApiError> {
        let mut out = BytesMut::new();
        while self.initial.is_some() && out.len() < LIST_CHUNK_BYTES {
            self.write_initial(&mut out).await?;
        }
        while out.is_empty() {
            let now_ms = timer::monotonic_ms();
            if now_ms >= self.deadline_ms {
                return Ok(None);
            }
            match self.wait(now_ms).await {
                Happened::Changes(Ok(batch)) => self.write_changes(&batch, &mut out)?,
                Happened::Changes(Err(error)) => return Err(self.refusal(error)),
                Happened::TimePassed => {}
                Happened::Stopping => return Ok(None),
            }
            self.write_bookmark_if_due(&mut out);
            if out.is_empty() {
                // Many changes in a row may be none of this watch: the others on this core go on.
                yield_now().await;
            }
        }
        Ok(Some(out.freeze()))
    }

    /// Waits for changes, but no longer than until something else is due.
    async fn wait(&mut self, now_ms: u64) -> Happened {
        let until_ms = self.bookmarks.wake_ms(self.deadline_ms);
        let wait = Duration::from_millis(until_ms.saturating_sub(now_ms).max(1));
        let Some(changes) = &mut self.changes else { return Happened::Stopping };
        let next = pin!(timer::timeout(wait, changes.next()));
        match select(&mut self.stopping, next).await {
            Either::Left(_) => Happened::Stopping,
            Either::Right((Some(batch), _)) => Happened::Changes(batch),
            Either::Right((None, _)) => Happened::TimePassed,
        }
    }

    fn write_changes(&mut self, batch: &Changes, out: &mut BytesMut) -> Result<(), ApiError> {
        let mut columns_sent = self.columns_sent;
        let mut writer = self.writer(&mut columns_sent);
        for change in &batch.changes {
            writer.change(change, out)?;
        }
        self.columns_sent = columns_sent;
        self.bookmarks.delivered(batch.revision);
        Ok(())
    }

    fn writer<'a>(&'a self, columns_sent: &'a mut bool) -> EventWriter<'a> {
        EventWriter {
            registry: &self.registry,
            entry: &self.request.target.entry,
            selection: &self.selection,
            representation: self.request.representation,
            columns_sent,
            include: self.request.include,
            now_unix_seconds: Now::new(timer::wall_clock()).unix_seconds(),
        }
    }

    /// Writes some of the state that the watch starts from.
    async fn write_initial(&mut self, out: &mut BytesMut) -> Result<(), ApiError> {
        if self.waiting.is_empty() {
            let Some(initial) = &mut self.initial else { return Ok(()) };
            match initial.reader.next_chunk().await? {
                Some(mut chunk) => {
                    chunk.reverse();
                    self.waiting = chunk;
                }
                None => {
                    let bookmark = initial.bookmark;
                    self.initial = None;
                    if bookmark {
                        let revision = self.start_revision - 1;
                        let mut columns_sent = self.columns_sent;
                        self.writer(&mut columns_sent).bookmark(revision, true, out);
                        self.columns_sent = columns_sent;
                    }
                    return Ok(());
                }
            }
        }
        let mut columns_sent = self.columns_sent;
        while out.len() < LIST_CHUNK_BYTES {
            let Some(stored) = self.waiting.pop() else { break };
            let mut writer = self.writer(&mut columns_sent);
            writer.object("ADDED", &stored.key, &stored.value, stored.revision, out)?;
        }
        self.columns_sent = columns_sent;
        Ok(())
    }

    fn write_bookmark_if_due(&mut self, out: &mut BytesMut) {
        let synced = self.changes.as_ref().and_then(|changes| changes.synced_revision());
        if let Some(revision) = self.bookmarks.due(timer::monotonic_ms(), synced) {
            let mut columns_sent = self.columns_sent;
            self.writer(&mut columns_sent).bookmark(revision, false, out);
            self.columns_sent = columns_sent;
        }
    }
}
