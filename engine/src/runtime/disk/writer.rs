//! The writing end of the log, as the sequencer sees it.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;

use bytes::Bytes;
use mainstay_raft::{EntryKind, Membership};

use super::block_on::block_on;
use super::directory::DataDirectory;
use super::error::{DiskError, LogFailure};
use super::history_index::Cut;
use super::identity::Identity;
use super::prepare::Preparer;
use super::staged::Stager;
use super::state::{Shared, State, Waiting};
use super::stopped;
use crate::limits;
use crate::log::append::EntryMeta;
use crate::log::encode::{EncodedEntry, HardState};
use crate::log::frame::{FrameKind, frame_bytes};
use crate::log::replay::{EMPTY_BATCH, Reached};
use crate::record::Revision;
use crate::sequencer::LogEntry;

/// How a write becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Try both for some milliseconds at the start and take the faster.
    #[default]
    Measured,
    /// O_DSYNC: the write itself is durable (FUA, or a flush by the kernel).
    SyncedWrites,
    /// A plain write, then fdatasync.
    DataSync,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    pub durability: Durability,
    /// Past the page cache, where the file system can.
    pub direct_io: bool,
    /// Writes in flight at most: 1 to [`LOG_FRAMES_IN_FLIGHT`](limits::LOG_FRAMES_IN_FLIGHT).
    pub depth: usize,
    /// Real-time priority for the threads that write, where the system permits it.
    pub prefer_threads: bool,
    /// Bytes of the first segment of a new log.
    pub first_segment_bytes: u64,
    /// Bytes of later segments, unless a frame is larger; the second ones are smaller.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            durability: Durability::Measured,
            direct_io: true,
            depth: 4,
            prefer_threads: true,
            first_segment_bytes: limits::LOG_FIRST_SEGMENT_BYTES,
            segment_bytes: limits::LOG_SEGMENT_BYTES,
        }
    }
}

/// An entry with a payload that is shared.
#[derive(Debug, Clone)]
pub struct StagedEntry {
    pub term: u64,
    pub index: u64,
    pub revision_before: Revision,
    pub revision_after: Revision,
    pub payload: Bytes,
}

/// Appends to the log. Dropping it waits until everything appended has been written.
pub struct LogWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) preparer: Preparer,
    pub(super) stager: Stager,
    /// Stays locked until the threads have ended.
    pub(super) directory: DataDirectory,
    /// Of the newest entry that was appended.
    pub(super) newest_index: u64,
    /// The newest that was appended, or was there.
    pub(super) hard_state: HardState,
    /// There are other members, or were.
    pub(super) has_company: bool,
}

impl LogWriter {
    /// Appends a batch. Never waits. Gives the append's number, counted from 1 at each start:
    /// [`durable`](LogWriter::durable) speaks of these.
    ///
    /// Panics when the caller lets more than [`limits::LOG_APPENDS`] be outstanding, or when the
    /// payload is larger than [`limits::LOG_PAYLOAD_BYTES`].
    pub fn append(&mut self, entry: EncodedEntry) -> Result<u64, LogFailure> {
        let reached =
            Reached { index: entry.index, term: entry.term, revision: entry.revision_after };
        let meta = EntryMeta { revision_before: entry.revision_before, reached };
        self.note(&meta);
        self.submit(FrameKind::Entry, &entry.payload, Some(meta))
    }

    /// Appends an entry of raft. One with an index that was there before takes the place of that
    /// one and of all behind it: from this moment on nobody reads those.
    ///
    /// Panics as [`append`](LogWriter::append) does.
    pub fn append_entry(&mut self, entry: LogEntry) -> Result<u64, LogFailure> {
        let (index, term, revision) = (entry.index, entry.term, entry.revision_after);
        let reached = Reached { index, term, revision };
        let meta = EntryMeta { revision_before: entry.revision_before, reached };
        if entry.kind == EntryKind::Membership {
            self.begin_to_have_members()?;
        }
        self.note(&meta);
        match (entry.kind, entry.staged) {
            (EntryKind::Membership, _) => {
                self.submit(FrameKind::Membership, &entry.payload, Some(meta))
            }
            (EntryKind::Normal, Some(number)) => {
                assert!(entry.payload.len() <= limits::LOG_PAYLOAD_BYTES);
                self.push(Waiting::staged(number, entry.payload, meta))
            }
            (EntryKind::Normal, None) if entry.payload.is_empty() => {
                self.submit(FrameKind::Entry, &EMPTY_BATCH, Some(meta))
            }
            (EntryKind::Normal, None) => self.submit(FrameKind::Entry, &entry.payload, Some(meta)),
        }
    }

    /// Lets the log begin anew behind `reached`, where `membership` is in force, as a snapshot of
    /// another member holds everything up to there. Everything appended has to be durable.
    pub fn restart(&mut self, reached: Reached, membership: Membership) -> Result<u64, LogFailure> {
        assert_eq!(self.in_flight(), 0, "what the log begins anew behind is not known yet");
        self.begin_to_have_members()?;
        self.newest_index = reached.index;
        self.push(Waiting::restart(reached, self.hard_state, membership))
    }

    /// Makes the directory one that older programs don't open. Once in its life it takes the time
    /// of a few syncs.
    fn begin_to_have_members(&mut self) -> Result<(), LogFailure> {
        let path = self.directory.path().join("FORMAT");
        self.directory.begin_to_have_members().map_err(|error| {
            LogFailure::new(&path, 0, "raising the format", &io::Error::other(error))
        })
    }

    /// Takes note of an entry that is about to be appended.
    fn note(&mut self, entry: &EntryMeta) {
        let index = entry.reached.index;
        if index <= self.newest_index {
            let cut = Cut { index: index - 1, revision: entry.revision_before };
            let history = self.shared.history.lock();
            history.unwrap_or_else(PoisonError::into_inner).replace_behind(cut);
        }
        self.newest_index = index;
    }

    /// Appends an entry whose payload was [staged](Stager::stage) under `number`. When that turns
    /// out to be of no use after all it is written as others are.
    pub fn append_staged(&mut self, entry: StagedEntry, number: u64) -> Result<u64, LogFailure> {
        assert!(entry.payload.len() <= limits::LOG_PAYLOAD_BYTES);
        let reached =
            Reached { index: entry.index, term: entry.term, revision: entry.revision_after };
        let meta = EntryMeta { revision_before: entry.revision_before, reached };
        self.note(&meta);
        self.push(Waiting::staged(number, entry.payload, meta))
    }

    /// Writes large payloads ahead of their frames.
    pub fn stager(&self) -> Stager {
        self.stager.clone()
    }

    /// Notes, durably, who this member is.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), DiskError> {
        self.directory.write_identity(identity)
    }

    /// The newest hard state.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Takes note of raft's hard state that is known from elsewhere than the log.
    pub fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    /// Appends raft's hard state; numbered like a batch.
    pub fn append_hard_state(&mut self, state: HardState) -> Result<u64, LogFailure> {
        self.hard_state = state;
        // A log in which nothing is yet is nobody's.
        if self.has_company && !self.directory.has_members() && self.durable_now() > 0 {
            self.begin_to_have_members()?;
        }
        self.submit(FrameKind::HardState, &state.encode(), None)
    }

    /// Resolves as soon as more than the first `after` appends are durable, and says how many are.
    pub fn durable(&self, after: u64) -> impl Future<Output = Result<u64, LogFailure>> + 'static {
        let shared = Arc::clone(&self.shared);
        poll_fn(move |context| {
            let mut state = shared.lock();
            // What was durable before a failure stays durable, and may be acknowledged.
            if state.durable > after {
                return Poll::Ready(Ok(state.durable));
            }
            if let Some(failure) = &state.failure {
                return Poll::Ready(Err(failure.clone()));
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                state.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Waits until the append of this number is durable, for callers that may block.
    pub fn wait_blocking(&self, number: u64) -> Result<(), LogFailure> {
        while self.durable_now() < number {
            block_on(self.durable(number - 1))?;
        }
        Ok(())
    }

    /// Resolves as soon as the writes of more than the first `after` appends have begun, and says of
    /// how many. Never when the log fails.
    pub fn begun(&self, after: u64) -> impl Future<Output = u64> + 'static {
        let shared = Arc::clone(&self.shared);
        poll_fn(move |context| {
            let mut state = shared.lock();
            if state.placed() > after {
                return Poll::Ready(state.placed());
            }
            if !state.placed_wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                state.placed_wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
    }

    /// How many appends there were.
    pub fn appended(&self) -> u64 {
        self.shared.lock().appended
    }

    /// How many appends are durable.
    pub fn durable_now(&self) -> u64 {
        self.shared.lock().durable
    }

    /// Appends that are not yet durable.
    pub fn in_flight(&self) -> u64 {
        self.shared.lock().in_flight()
    }

    /// Writes that can be in flight. More appends than these wait in memory.
    pub fn depth(&self) -> usize {
        self.threads.len()
    }

    /// Why the next segment could not be made ready: most often the disk is full
    /// ([`look_for_space`](Self::look_for_space)). There may still be room in the present segment;
    /// what does not fit waits until there is another. `None` while all is well.
    pub fn space_warning(&self) -> Option<LogFailure> {
        self.shared.lock().prepare_failure.clone()
    }

    /// Tries again to make the next segment ready, after a [`space_warning`](Self::space_warning).
    /// To be called now and then: what was appended may be waiting for it.
    pub fn look_for_space(&self) {
        self.shared.change(State::retry_prepare);
    }

    /// Frees segments all of whose entries are older than `index`: a snapshot holds them. Returns
    /// at once; files are recycled or removed in the background.
    pub fn release_before(&mut self, index: u64) {
        let released = self
            .shared
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .release_before(index);
        self.shared.lock().forget_terms_before(index.saturating_sub(1));
        self.preparer.release(released);
    }

    /// Waits until everything is durable, notes that for the next start, and ends the threads.
    pub async fn close(self) -> Result<(), DiskError> {
        self.shared.change(State::close);
        let appended = self.shared.lock().appended;
        if appended > 0 {
            self.durable(appended - 1).await?;
        }
        let (end, failure) = {
            let state = self.shared.lock();
            (state.known_end(), state.failure.clone())
        };
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        let end = end.expect("all is durable and this is the only writer");
        let wal = self.directory.wal();
        stopped::write(wal, self.directory.salt(), end)
            .map_err(DiskError::directory(wal, "noting the orderly stop"))
    }

    fn submit(
        &mut self,
        kind: FrameKind,
        payload: &[u8],
        entry: Option<EntryMeta>,
    ) -> Result<u64, LogFailure> {
        let buffer = {
            let mut state = self.shared.lock();
            assert!(state.in_flight() < limits::LOG_APPENDS as u64);
            state.take_buffer(frame_bytes(payload.len()))
        };
        // Copying and the checksum stay outside of the lock.
        self.push(Waiting::new(kind, payload, entry, buffer))
    }

    fn push(&mut self, waiting: Waiting) -> Result<u64, LogFailure> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        state.appended += 1;
        state.waiting.push_back(waiting);
        let number = state.appended;
        drop(state);
        self.shared.work.notify_one();
        Ok(number)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has been reported by itself.
            let _ = thread.join();
        }
    }
}
