//! Method Maintenance.Snapshot: the store as the file of an etcd, for `etcdctl snapshot save`.
//!
//! The file holds the newest version of every key at one revision, and says that history up to
//! there is compacted. Only references to the versions are held while it is made; its pages are
//! made on the executor's blocking threads, a piece at a time, as fast as the client takes them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::Response;
use mainstay_bbolt::etcd::write::{Chunks, Contents, Facts, KeyVersion, STORAGE_VERSION};
use mainstay_bbolt::etcd::{Auth, Lease, Member, document};
use mainstay_engine::request::{KeyRange, RangeRequest};
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::{blocking, spawn_local, timer};
use mainstay_engine::{LeaseId, Record, StoreError};
use mainstay_proto::maintenance::{SnapshotRequest, SnapshotResponse};

use super::auth::Permit;
use super::{Caller, Door, errors, limits};
use crate::metrics::CallGuard;
use crate::net::grpc::{self, Code, Status};
use crate::net::{BoxedBody, RequestBody};

/// Snapshots that are being sent, by all cores.
static SENDING: AtomicUsize = AtomicUsize::new(0);

pub(super) async fn serve(
    door: Rc<Door>,
    caller: &Caller,
    permit: Permit,
    body: RequestBody,
    call: CallGuard,
) -> Response<BoxedBody> {
    let (place, file) = match prepare(&door, body).await {
        Ok(prepared) => prepared,
        Err(status) => {
            call.end(status.code);
            return grpc::refuse(&status);
        }
    };
    let pending =
        Pending { file: Some(file), piece: Bytes::new(), messages: 0, place: Some(place) };
    let pending = Rc::new(RefCell::new(pending));
    let shutdown = door.shutdown.clone();
    spawn_local(give_up_stalled(Rc::downgrade(&pending), shutdown));
    let sender = Sender { door: door.clone(), permit, pending, call };
    let messages = stream::unfold(Some(sender), |sender| async {
        let mut sender = sender?;
        match sender.next().await {
            Ok(Some(message)) => {
                sender.call.sent(message.len());
                Some((Ok(message), Some(sender)))
            }
            Ok(None) => {
                sender.call.end(Code::Ok);
                None
            }
            Err(status) => {
                sender.call.end(status.code);
                Some((Err(status), None))
            }
        }
    });
    door.stream(caller, messages)
}

async fn prepare(door: &Door, body: RequestBody) -> Result<(Place, File), Status> {
    grpc::request::<_, SnapshotRequest>(body, limits::MESSAGE_BYTES).await?;
    let place = Place::take()?;
    let (facts, records) = collect(door).await?;
    let file = blocking(move || File::new(&facts, records)).await?;
    Ok((place, file))
}

/// One of the places for snapshots that are sent at the same time.
struct Place;

impl Place {
    fn take() -> Result<Place, Status> {
        let place = Place;
        if SENDING.fetch_add(1, Ordering::SeqCst) >= limits::SNAPSHOTS {
            return Err(errors::from_store(StoreError::TooManyRequests));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        SENDING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Everything at one revision.
async fn collect(door: &Door) -> Result<(Facts, Vec<Record>), Status> {
    let mut leases = BTreeMap::new();
    add_leases(door, &mut leases).await?;
    let everything = RangeRequest::new(KeyRange::prefix(b""));
    let read = door.store.range(everything).await.map_err(errors::from_store)?;
    // Those that were granted meanwhile, so that none is missing that a key hangs on.
    add_leases(door, &mut leases).await?;
    let auth = match door.store.document(document::NAME).await {
        None => Auth::default(),
        Some(content) => {
            document::decode(&content).map_err(|reason| Status::new(Code::Internal, reason))?
        }
    };
    let status = door.store.status();
    let facts = Facts {
        revision: read.revision,
        compacted: read.revision,
        raft_index: status.raft_index,
        raft_term: status.raft_term,
        leases: leases.into_values().collect(),
        auth,
        members: vec![Member {
            id: status.member_id,
            name: door.options.name.clone(),
            peer_urls: door.options.peer_urls.clone(),
            client_urls: door.options.client_urls.clone(),
        }],
    };
    Ok((facts, read.records))
}

async fn add_leases(door: &Door, leases: &mut BTreeMap<LeaseId, Lease>) -> Result<(), Status> {
    let ids = door.store.leases().await.map_err(errors::from_store)?;
    let unknown: Vec<LeaseId> = ids.into_iter().filter(|id| !leases.contains_key(id)).collect();
    let mut answers = stream::iter(unknown)
        .map(|id| door.store.lease_time_to_live(id, false))
        .buffered(limits::SNAPSHOT_LEASES_ASKED);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(status) => {
                let (id, ttl, remaining_ttl) =
                    (status.id, status.granted_ttl, status.remaining_ttl.max(1));
                leases.insert(id, Lease { id, ttl, remaining_ttl });
            }
            Err(StoreError::LeaseNotFound(_)) => {}
            Err(error) => return Err(errors::from_store(error)),
        }
    }
    Ok(())
}

/// A version as the file's writer wants it.
#[derive(Debug)]
struct Version(Record);

impl KeyVersion for Version {
    fn key(&self) -> &[u8] {
        self.0.key()
    }
    fn value(&self) -> &[u8] {
        self.0.value()
    }
    fn create_revision(&self) -> i64 {
        self.0.create_revision()
    }
    fn mod_revision(&self) -> i64 {
        self.0.mod_revision()
    }
    fn version(&self) -> i64 {
        self.0.version()
    }
    fn lease(&self) -> i64 {
        self.0.lease()
    }
}

/// The file, as far as it is not made yet, and the checksum of what is.
struct File {
    chunks: Chunks<Version>,
    digest: digest::Context,
    /// Bytes of the file that were not made yet.
    left: u64,
    ended: bool,
}

impl File {
    fn new(facts: &Facts, records: Vec<Record>) -> Result<File, Status> {
        let facts = Facts { leases: with_ended(&facts.leases, &records), ..facts.clone() };
        let contents = Contents::new(&facts, records.into_iter().map(Version).collect());
        let contents = contents.map_err(|error| {
            Status::new(Code::FailedPrecondition, format!("etcdserver: no snapshot: {error}"))
        })?;
        let plan = contents.plan();
        Ok(File {
            chunks: Chunks::new(Arc::new(contents), plan),
            digest: digest::Context::new(&digest::SHA256),
            left: plan.file_bytes(),
            ended: false,
        })
    }

    /// The next piece, and what comes behind it; the checksum is the last one.
    fn next(mut self) -> Option<(File, Bytes)> {
        if let Some(chunk) = self.chunks.next_chunk(limits::SNAPSHOT_PIECE_BYTES) {
            self.digest.update(&chunk);
            self.left -= chunk.len() as u64;
            return Some((self, chunk.into()));
        }
        if self.ended {
            return None;
        }
        self.ended = true;
        let sum = self.digest.clone().finish();
        let sum = Bytes::copy_from_slice(sum.as_ref());
        Some((self, sum))
    }
}

/// The leases, and those that keys hang on which were granted and ended while we looked: with
/// a second of time, as the keys are gone by now.
fn with_ended(leases: &[Lease], records: &[Record]) -> Vec<Lease> {
    let mut all: BTreeMap<LeaseId, Lease> = leases.iter().map(|lease| (lease.id, *lease)).collect();
    for id in records.iter().map(Record::lease).filter(|&id| id != 0) {
        all.entry(id).or_insert(Lease { id, ttl: 1, remaining_ttl: 1 });
    }
    all.into_values().collect()
}

/// What of a snapshot the client has not got yet.
struct Pending {
    /// Always there, but while a piece is made.
    file: Option<File>,
    /// What is made and not sent yet.
    piece: Bytes,
    /// Messages sent so far.
    messages: u64,
    /// `None` once the client was given up.
    place: Option<Place>,
}

impl Pending {
    /// Nothing more is sent. Gives the file, which is dropped best where that may take long.
    fn give_up(&mut self) -> Option<File> {
        self.place = None;
        self.piece = Bytes::new();
        self.file.take()
    }
}

/// Takes place and file from a client that takes nothing any more: its stream waits for a window,
/// and would hear of it in no other way.
async fn give_up_stalled(pending: Weak<RefCell<Pending>>, shutdown: Shutdown) {
    let (mut seen, mut since) = (0, timer::monotonic_ms());
    while timer::timeout(limits::SNAPSHOT_LOOK, shutdown.requested()).await.is_none() {
        let Some(pending) = pending.upgrade() else { return };
        let (now, messages) = (timer::monotonic_ms(), pending.borrow().messages);
        if messages != seen {
            (seen, since) = (messages, now);
        } else if now.saturating_sub(since) >= limits::SNAPSHOT_STALL.as_millis() as u64 {
            let file = pending.borrow_mut().give_up();
            return blocking(move || drop(file)).await;
        }
    }
}

fn stalled() -> Status {
    let seconds = limits::SNAPSHOT_STALL.as_secs();
    let text = format!("etcdserver: the snapshot was given up: nothing was taken for {seconds} s");
    Status::new(Code::DeadlineExceeded, text)
}

struct Sender {
    door: Rc<Door>,
    /// It may have begun before there were users.
    permit: Permit,
    pending: Rc<RefCell<Pending>>,
    call: CallGuard,
}

impl Drop for Sender {
    /// A million versions are not let go of in one turn of a core that has others to serve.
    fn drop(&mut self) {
        let file = self.pending.borrow_mut().file.take();
        if let Some(file) = file.filter(|_| !self.door.shutdown.is_requested()) {
            spawn_local(blocking(move || drop(file)));
        }
    }
}

impl Sender {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.door.shutdown.is_requested() {
            return Err(errors::STOPPED.into());
        }
        self.door.auth.renew(&self.permit).await?;
        if self.pending.borrow().place.is_none() {
            return Err(stalled());
        }
        if self.pending.borrow().piece.is_empty() {
            let file = self.pending.borrow_mut().file.take();
            let Some(file) = file else { return Ok(None) };
            let Some((file, piece)) = blocking(move || file.next()).await else { return Ok(None) };
            let mut pending = self.pending.borrow_mut();
            (pending.file, pending.piece) = (Some(file), piece);
        }
        let mut pending = self.pending.borrow_mut();
        pending.messages += 1;
        let length = pending.piece.len().min(limits::SNAPSHOT_MESSAGE_BYTES);
        let blob = pending.piece.split_to(length);
        // The checksum is no part of the file, and never more than one message.
        let left = pending.file.as_ref().map_or(0, |file| file.left) + pending.piece.len() as u64;
        Ok(Some(grpc::encode(&SnapshotResponse {
            header: None, // etcd's has none
            remaining_bytes: left,
            blob,
            version: STORAGE_VERSION.to_owned(),
        })))
    }
}
