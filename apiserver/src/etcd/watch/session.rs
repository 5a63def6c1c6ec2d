//! The state of one watch stream.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use http::Response;
use mainstay_engine::request::{KeyRange, WatchBatch};
use mainstay_engine::runtime::{timer, yield_now};
use mainstay_engine::{Revision, StoreError, request};
use mainstay_proto::watch::{FilterType, WatchCreateRequest, WatchRequest, WatchRequestUnion};

use super::cursor::{Cursor, Interrupt, Outcome, Serial};
use super::message::{self, NO_WATCHER};
use super::rights::Rights;
use super::room::{self, Room};
use crate::etcd::auth::Permit;
use crate::etcd::{Caller, Door, convert, errors, limits};
use crate::metrics::{CallGuard, Gauge};
use crate::net::grpc::{self, Messages, Status};
use crate::net::held::Held;
use crate::net::{BoxedBody, RequestBody};

/// Watchers held against changed rights before other tasks get their turn: a millisecond's worth.
const RENEWALS_AT_ONCE: usize = 512;

/// Answers a watch call with a stream that lives as long as the client wants it.
pub(in crate::etcd) fn serve(
    door: Rc<Door>,
    caller: Rc<Caller>,
    body: RequestBody,
    call: CallGuard,
) -> Response<BoxedBody> {
    let session = Session::new(door.clone(), caller.clone(), body, call);
    let messages = stream::unfold(Some(session), async |session| {
        let mut session = session?;
        match session.next().await {
            Ok(bytes) => {
                session.call.sent(bytes.len());
                Some((Ok(bytes), Some(session)))
            }
            Err(status) => {
                session.call.end(status.code);
                Some((Err(status), None))
            }
        }
    });
    door.stream(&caller, messages)
}

/// A watcher as the stream knows it.
struct Entry {
    serial: Serial,
    interrupt: Rc<Interrupt>,
    permit: Permit,
    /// Wants to hear from time to time how far it has come ...
    progress_notify: bool,
    /// ... unless it got events since it last did.
    silent: bool,
    fragment: bool,
    /// Before this revision the watcher has no progress to tell of; 0 for any.
    start_revision: Revision,
    /// Everything up to this revision has been sent.
    position: Revision,
    /// What it makes the process hold, bytes.
    cost: usize,
    _counted: Gauge,
}

/// Notices of progress that are due once every watcher has come as far as `target`.
///
/// A notice says that everything up to a revision was sent, so it must not overtake an event.
#[derive(Clone, Copy)]
struct ProgressDue {
    /// The store's revision when it became due.
    target: Revision,
    /// The client asked: one answer for the whole stream.
    requested: bool,
    /// The interval passed: one for each watcher that wants it.
    interval: bool,
}

struct Session {
    door: Rc<Door>,
    rights: Rights,
    call: CallGuard,
    requests: Messages<RequestBody>,
    /// The client has sent its last request; watchers go on.
    requests_ended: bool,
    entries: BTreeMap<i64, Entry>,
    room: Room,
    next_serial: Serial,
    next_id: i64,
    running: FuturesUnordered<LocalBoxFuture<'static, (Cursor, Outcome)>>,
    /// Called back and not sent on, while progress is due.
    parked: Vec<Cursor>,
    progress: Option<ProgressDue>,
    /// Runs while some watcher wants notices of progress.
    interval: Option<LocalBoxFuture<'static, ()>>,
    /// This stream's part of a tenth of the interval, in sixteenths.
    apart: u32,
    stopping: LocalBoxFuture<'static, ()>,
    /// Encoded and not yet taken: the messages of one step.
    outgoing: VecDeque<Bytes>,
    /// Events among them.
    held: Held,
    _counted: Gauge,
}

/// What a stream waits for.
enum Happened {
    Request(WatchRequest),
    RequestsEnded,
    Cursor(Cursor, Outcome),
    IntervalPassed,
    RightsChanged,
}

impl Session {
    fn new(door: Rc<Door>, caller: Rc<Caller>, body: RequestBody, call: CallGuard) -> Session {
        let shutdown = door.shutdown.clone();
        Session {
            rights: Rights::new(&door, caller.clone()),
            room: Room::new(caller),
            call,
            requests: Messages::new(body, limits::MESSAGE_BYTES),
            requests_ended: false,
            entries: BTreeMap::new(),
            next_serial: 0,
            next_id: 0,
            running: FuturesUnordered::new(),
            parked: Vec::new(),
            progress: None,
            interval: None,
            apart: door.count_stream() % 16,
            stopping: Box::pin(async move { shutdown.requested().await }),
            outgoing: VecDeque::new(),
            held: Held::connection(),
            _counted: Gauge::up(&door.metrics.watch_streams),
            door,
        }
    }

    /// The next message to send. Called when the client has room for it, and not before: that is
    /// all the flow control there is.
    async fn next(&mut self) -> Result<Bytes, Status> {
        loop {
            if let Some(bytes) = self.outgoing.pop_front() {
                self.held.set(self.held.bytes().saturating_sub(bytes.len()));
                return Ok(bytes);
            }
            let happened = poll_fn(|context| self.poll_happened(context)).await?;
            if self.rights.have_changed() {
                self.renew_permits().await?;
            }
            match happened {
                Happened::RightsChanged => {}
                Happened::Request(request) => self.request(request).await?,
                Happened::RequestsEnded => self.requests_ended = true,
                Happened::Cursor(cursor, outcome) => self.returned(cursor, outcome),
                Happened::IntervalPassed => {
                    self.interval = None;
                    self.progress_due(false);
                }
            }
            self.tell_progress();
        }
    }

    fn poll_happened(&mut self, context: &mut Context<'_>) -> Poll<Result<Happened, Status>> {
        if self.stopping.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(errors::STOPPED.into()));
        }
        if self.rights.poll_changed(context).is_ready() {
            return Poll::Ready(Ok(Happened::RightsChanged));
        }
        if !self.requests_ended
            && let Poll::Ready(received) = self.requests.poll_next(context)
        {
            let Some(bytes) = received? else {
                return Poll::Ready(Ok(Happened::RequestsEnded));
            };
            self.call.received(bytes.len());
            return Poll::Ready(grpc::decode(bytes).map(Happened::Request));
        }
        if let Poll::Ready(Some((cursor, outcome))) = self.running.poll_next_unpin(context) {
            return Poll::Ready(Ok(Happened::Cursor(cursor, outcome)));
        }
        match &mut self.interval {
            Some(interval) => {
                interval.as_mut().poll(context).map(|()| Ok(Happened::IntervalPassed))
            }
            None => Poll::Pending,
        }
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(WatchRequestUnion::Create(create)) => self.create(create).await?,
            Some(WatchRequestUnion::Cancel(cancel)) => self.cancel(cancel.watch_id),
            Some(WatchRequestUnion::Progress(_)) => {
                self.progress_due(true);
            }
            // etcd ignores what it does not know.
            None => {}
        }
        Ok(())
    }

    /// Ends the watchers whose user may not watch any more.
    async fn renew_permits(&mut self) -> Result<(), Status> {
        self.rights.note_change();
        let mut ended = Vec::new();
        for (number, (watch_id, entry)) in self.entries.iter().enumerate() {
            if number % RENEWALS_AT_ONCE == RENEWALS_AT_ONCE - 1 {
                yield_now().await;
            }
            if let Some(reason) = self.rights.lost(&entry.permit).await? {
                ended.push((*watch_id, reason));
            }
        }
        for (watch_id, reason) in ended {
            self.end(watch_id, reason);
        }
        Ok(())
    }

    async fn create(&mut self, create: WatchCreateRequest) -> Result<(), Status> {
        // Copies: a part of what was received would keep all of it.
        let create = WatchCreateRequest {
            key: Bytes::copy_from_slice(&create.key),
            range_end: Bytes::copy_from_slice(&create.range_end),
            ..create
        };
        let permit = match self.rights.permit(&create).await? {
            Ok(permit) => permit,
            Err(reason) => {
                let header = self.door.header(self.door.store.revision());
                self.outgoing.push_back(message::refused(header, &reason));
                return Ok(());
            }
        };
        let watch_id = match self.check(&create) {
            Ok(watch_id) => watch_id,
            Err(reason) => {
                let header = self.door.header(self.door.store.revision());
                self.outgoing.push_back(message::refused(header, reason));
                return Ok(());
            }
        };
        let (progress_notify, fragment) = (create.progress_notify, create.fragment);
        let (start_revision, cost) = (create.start_revision, room::cost(&create));
        match self.door.store.watch(watch_request(create)).await {
            Ok(watcher) => {
                let header = self.door.header(watcher.created_revision());
                self.outgoing.push_back(message::created(header, watch_id));
                let interrupt = Rc::new(Interrupt::default());
                let serial = self.next_serial;
                self.next_serial += 1;
                let entry = Entry {
                    serial,
                    interrupt: interrupt.clone(),
                    permit,
                    progress_notify,
                    silent: true,
                    fragment,
                    start_revision,
                    position: sent_before(start_revision, watcher.created_revision()),
                    cost,
                    _counted: Gauge::up(&self.door.metrics.watchers),
                };
                self.room.add(cost);
                self.entries.insert(watch_id, entry);
                self.start(Cursor { watch_id, serial, watcher, interrupt });
                if progress_notify && self.interval.is_none() {
                    self.start_interval();
                }
                Ok(())
            }
            // As etcd does: the watcher is made, and ended by its first answer.
            Err(StoreError::Compacted { compacted, .. }) => {
                let header = self.door.header(self.door.store.revision());
                self.outgoing.push_back(message::created(header, watch_id));
                let header = self.door.header(0);
                self.outgoing.push_back(message::compacted(header, watch_id, compacted));
                Ok(())
            }
            Err(error) => Err(errors::from_store(error)),
        }
    }

    /// The id for a new watcher, or why there can't be one.
    fn check(&mut self, create: &WatchCreateRequest) -> Result<i64, &'static str> {
        if create.start_revision < 0 {
            return Err(errors::WATCH_COMPACTED);
        }
        if !matches!(&create.range_end[..], [] | [0]) && create.key >= create.range_end {
            return Err(errors::WATCH_EMPTY_RANGE);
        }
        if !self.room.has_place(room::cost(create)) {
            return Err(errors::TOO_MANY_REQUESTS.1);
        }
        if create.watch_id != 0 {
            return match self.entries.contains_key(&create.watch_id) {
                true => Err(errors::WATCH_DUPLICATE_ID),
                false => Ok(create.watch_id),
            };
        }
        while self.entries.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let watch_id = self.next_id;
        self.next_id += 1;
        Ok(watch_id)
    }

    /// Ends a watcher that the client is done with; an id that is not there is ignored, as in etcd.
    fn cancel(&mut self, watch_id: i64) {
        self.end(watch_id, String::new());
    }

    fn end(&mut self, watch_id: i64, reason: String) {
        let Some(entry) = self.entries.get(&watch_id) else { return };
        // Comes back, finds itself unknown and is dropped.
        entry.interrupt.request();
        self.forget(watch_id);
        let header = self.door.header(self.door.store.revision());
        self.outgoing.push_back(message::canceled(header, watch_id, reason));
    }

    fn forget(&mut self, watch_id: i64) {
        if let Some(entry) = self.entries.remove(&watch_id) {
            self.room.remove(entry.cost);
            self.parked.retain(|cursor| cursor.serial != entry.serial);
        }
    }

    fn start(&mut self, cursor: Cursor) {
        self.running.push(Box::pin(cursor.run()));
    }

    /// A cursor came back.
    fn returned(&mut self, cursor: Cursor, outcome: Outcome) {
        let watch_id = cursor.watch_id;
        // Its id may have been given to another meanwhile.
        let entry = self.entries.get(&watch_id);
        if entry.is_none_or(|entry| entry.serial != cursor.serial) {
            return;
        }
        let due = self.progress.is_some();
        match outcome {
            Outcome::Events(batch) => {
                self.deliver(watch_id, &batch);
                if due {
                    // Perhaps it was the last that was behind: hear the others again.
                    self.call_back();
                }
            }
            Outcome::Interrupted => {
                let synced = cursor.watcher.synced_revision();
                if let (Some(entry), Some(synced)) = (self.entries.get_mut(&watch_id), synced) {
                    entry.position = entry.position.max(synced);
                }
            }
            Outcome::Failed(error) => {
                self.fail(watch_id, &error);
                return;
            }
        }
        if due {
            self.parked.push(cursor);
        } else {
            self.start(cursor);
        }
    }

    fn deliver(&mut self, watch_id: i64, batch: &WatchBatch) {
        let Some(entry) = self.entries.get_mut(&watch_id) else { return };
        entry.position = entry.position.max(batch.revision);
        if batch.events.is_empty() {
            return;
        }
        entry.silent = false;
        self.door.metrics.events_total.add(batch.events.len() as u64);
        let fragment_bytes = entry.fragment.then_some(limits::MESSAGE_BYTES);
        let header = self.door.header(batch.revision);
        for message in message::events(header, watch_id, batch, fragment_bytes) {
            self.held.set(self.held.bytes() + message.len());
            self.outgoing.push_back(message);
        }
    }

    fn fail(&mut self, watch_id: i64, error: &StoreError) {
        self.forget(watch_id);
        let header = self.door.header(0);
        self.outgoing.push_back(match error {
            StoreError::Compacted { compacted, .. } => {
                message::compacted(header, watch_id, *compacted)
            }
            // The store is stopping, and so will this stream by its own signal; or it can't read
            // what it wrote.
            other => message::broken(header, watch_id, &other.to_string()),
        });
    }

    /// Streams that a client opened together tell their progress a little apart.
    fn start_interval(&mut self) {
        let interval = self.door.options.progress_interval;
        self.interval = Some(Box::pin(timer::sleep(interval + interval / 160 * self.apart)));
    }

    fn progress_due(&mut self, requested: bool) {
        // What this core's cursors can have come to by now; the others' commits are on their way.
        let target = self.door.store.published_revision();
        let before = self.progress;
        self.progress = Some(ProgressDue {
            target,
            requested: requested || before.is_some_and(|due| due.requested),
            interval: !requested || before.is_some_and(|due| due.interval),
        });
        self.call_back();
    }

    /// Asks all running cursors to come back and say how far they are.
    fn call_back(&self) {
        for entry in self.entries.values() {
            entry.interrupt.request();
        }
    }

    /// Sends what notices of progress are due, once every cursor is back and has come far enough.
    /// Those that have not have events to deliver, and come back with them.
    fn tell_progress(&mut self) {
        let Some(due) = self.progress else { return };
        if self.parked.len() < self.entries.len() {
            return;
        }
        for cursor in std::mem::take(&mut self.parked) {
            cursor.interrupt.clear();
            self.start(cursor);
        }
        let reached = self.entries.values().map(|entry| entry.position).min();
        if reached.is_some_and(|reached| reached < due.target) {
            return;
        }
        self.progress = None;
        if due.interval {
            self.tell_each();
        }
        // As in etcd, there is no answer for a stream without watchers, nor for one with a watcher
        // that begins later: a client takes progress for the place to go on from.
        let begun = |reached| self.entries.values().all(|entry| entry.start_revision <= reached);
        if let (true, Some(reached)) = (due.requested, reached.filter(|reached| begun(*reached))) {
            let header = self.door.header(reached);
            self.outgoing.push_back(message::progress(header, NO_WATCHER));
        }
    }

    /// The notices of an interval, for watchers that had no events in it; then the next interval.
    fn tell_each(&mut self) {
        for (watch_id, entry) in &mut self.entries {
            let wants = entry.progress_notify && std::mem::replace(&mut entry.silent, true);
            if wants && entry.start_revision <= entry.position {
                let header = self.door.header(entry.position);
                self.outgoing.push_back(message::progress(header, *watch_id));
            }
        }
        if self.entries.values().any(|entry| entry.progress_notify) {
            self.start_interval();
        }
    }
}

/// Up to where a new watcher has nothing to send: one that begins in the past has all since then.
fn sent_before(start_revision: Revision, created_revision: Revision) -> Revision {
    if (1..=created_revision).contains(&start_revision) {
        start_revision - 1
    } else {
        created_revision
    }
}

/// A create request that passed [`Session::check`].
fn watch_request(create: WatchCreateRequest) -> request::WatchRequest {
    let filters: Vec<FilterType> = create.filters().collect();
    // The smallest key that there is.
    let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key };
    let range: KeyRange = convert::key_range(key, create.range_end);
    request::WatchRequest {
        range,
        start_revision: create.start_revision,
        previous: create.prev_kv,
        no_put: filters.contains(&FilterType::NoPut),
        no_delete: filters.contains(&FilterType::NoDelete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_that_begins_in_the_past_is_behind() {
        for (start_revision, created_revision, expected) in
            [(0, 9, 9), (1, 9, 0), (4, 9, 3), (9, 9, 8), (10, 9, 9), (1_000, 9, 9)]
        {
            assert_eq!(sent_before(start_revision, created_revision), expected, "{start_revision}");
        }
    }
}
