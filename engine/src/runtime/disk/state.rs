//! What the writer, its threads and the waiting tasks share.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use mainstay_raft::Membership;

use super::buffer::AlignedBuffer;
use super::error::LogFailure;
use super::file::SegmentFile;
use super::history_index::HistoryIndex;
use super::keys::{ChangedKey, changed_keys};
use super::prepare::Command;
use super::staged::Staged;
use crate::limits;
use crate::log::HardState;
use crate::log::append::{Appender, EntryMeta, FrameMeta};
use crate::log::frame::{BLOCK_BYTES, FrameKind, HEADER_BYTES, frame_bytes, payload_crc};
use crate::log::replay::{Place, Reached};
use crate::log::scan::{KnownEnd, LogEnd};
use crate::log::segment::{FORMAT_VERSION, Restart, SegmentStart};
use crate::log::terms::Terms;

/// Buffers kept for reuse, and the largest that is kept.
const POOL_BUFFERS: usize = 16;
const POOL_BUFFER_BYTES: usize = limits::ENTRY_BYTES + BLOCK_BYTES;

/// A frame that has no place yet.
pub(super) struct Waiting {
    meta: FrameMeta,
    contents: Contents,
}

enum Contents {
    /// The payload, behind room for the header.
    Frame(AlignedBuffer),
    /// The payload is on the disk already, under this number, or has to be written after all.
    Staged(u64, Bytes),
    /// The beginning of a segment, with who is a member there.
    Restart(HardState, Membership),
}

impl Waiting {
    /// Copies `payload` into `buffer`, which must have room for it and the header.
    pub(super) fn new(
        kind: FrameKind,
        payload: &[u8],
        entry: Option<EntryMeta>,
        mut buffer: AlignedBuffer,
    ) -> Waiting {
        assert!(payload.len() <= limits::LOG_PAYLOAD_BYTES);
        buffer.bytes_mut()[HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        let meta = FrameMeta {
            kind,
            payload_length: payload.len() as u32,
            payload_crc: payload_crc(payload),
            entry,
        };
        Waiting { meta, contents: Contents::Frame(buffer) }
    }

    /// The log begins anew, in a segment of its own.
    pub(super) fn restart(
        reached: Reached,
        hard_state: HardState,
        membership: Membership,
    ) -> Waiting {
        let meta = FrameMeta {
            kind: FrameKind::Restart,
            // Known when there is a segment.
            payload_length: 0,
            payload_crc: 0,
            entry: Some(EntryMeta { revision_before: reached.revision, reached }),
        };
        Waiting { meta, contents: Contents::Restart(hard_state, membership) }
    }

    /// An entry whose payload was staged under `number`.
    pub(super) fn staged(number: u64, payload: Bytes, entry: EntryMeta) -> Waiting {
        let meta = FrameMeta {
            kind: FrameKind::Entry,
            payload_length: payload.len() as u32,
            // Known to who staged it.
            payload_crc: 0,
            entry: Some(entry),
        };
        Waiting { meta, contents: Contents::Staged(number, payload) }
    }
}

/// A frame with its place, on its way to the disk.
pub(super) struct Write {
    pub(super) position: u64,
    pub(super) file: Arc<SegmentFile>,
    pub(super) place: Place,
    payload_length: usize,
    /// The frame, or its beginning when the rest was staged.
    pub(super) buffer: AlignedBuffer,
    staged: bool,
}

impl Write {
    /// The keys that the frame changes.
    pub(super) fn changed_keys(&self) -> Vec<ChangedKey> {
        // A staged frame's are found out when they are needed, as they are many.
        if self.place.kind != FrameKind::Entry || self.staged {
            return Vec::new();
        }
        let payload = &self.buffer.bytes()[HEADER_BYTES..][..self.payload_length];
        changed_keys(self.place.revision_before, self.place.revision_after, payload)
    }
}

/// What is remembered of a [`Write`] until it and all before it are durable.
struct InFlight {
    position: u64,
    segment: Arc<SegmentFile>,
    /// The number that `append` gave, 0 for frames of the log's own.
    number: u64,
    place: Place,
    /// Once it is written.
    keys: Option<Vec<ChangedKey>>,
    staged: bool,
}

pub(super) struct State {
    pub(super) waiting: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    appender: Appender,
    /// The segment that the appender is in.
    segment: Arc<SegmentFile>,
    prepared: VecDeque<Arc<SegmentFile>>,
    preparing: bool,
    /// What the first prepared segment holds.
    staged: Option<Staged>,
    staged_number: u64,
    /// Making the next segment failed. Only when it is needed this is tried again.
    pub(super) prepare_failure: Option<LogFailure>,
    /// The next frame waits for a segment of so many bytes.
    blocked: Option<u64>,
    /// Nothing more will be appended: no room is waited for.
    pub(super) closing: bool,
    prepare: Sender<Command>,
    /// Of segments that are made.
    segment_bytes: u64,
    /// Numbers: given out by `append`, and all durable up to.
    pub(super) appended: u64,
    /// Of the frames that have a place.
    placed: u64,
    /// Those that wait for `placed` to grow.
    pub(super) placed_wakers: Vec<Waker>,
    pub(super) durable: u64,
    durable_position: u64,
    pub(super) failure: Option<LogFailure>,
    pub(super) wakers: Vec<Waker>,
    pub(super) stopping: bool,
    pool: Vec<AlignedBuffer>,
}

pub(super) struct Shared {
    /// Bytes of the file system that a new segment must leave free.
    pub(super) reserve_bytes: AtomicU64,
    state: Mutex<State>,
    /// Something to write, a segment to write to, or the end.
    pub(super) work: Condvar,
    pub(super) history: Arc<Mutex<HistoryIndex>>,
}

impl Shared {
    pub(super) fn new(state: State, history: Arc<Mutex<HistoryIndex>>) -> Shared {
        Shared {
            reserve_bytes: AtomicU64::new(limits::DISK_RESERVE_BYTES),
            state: Mutex::new(state),
            work: Condvar::new(),
            history,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process (panic = "abort"); in tests the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that a write ended, and wakes who waits for it.
    pub(super) fn complete(&self, write: Write, result: Result<(), LogFailure>) {
        // Here it is no core's time, and the bytes are at hand.
        let keys = write.changed_keys();
        self.update(|state| match result {
            Ok(()) => state.written(write, keys, &self.history),
            Err(failure) => state.fail(failure),
        });
    }

    /// Takes note of something that happened beside the writes, and wakes everybody.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        self.update(change);
        self.work.notify_all();
    }

    /// Changes the state, then (without the lock) wakes the tasks that wait for it to change.
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Where the log is when writing starts.
pub(super) struct Start {
    pub(super) salt: u64,
    pub(super) segment: Arc<SegmentFile>,
    pub(super) end: LogEnd,
    pub(super) reached: Reached,
    pub(super) terms: Terms,
    pub(super) prepared: Option<Arc<SegmentFile>>,
    /// Of segments that are made.
    pub(super) segment_bytes: u64,
}

impl State {
    pub(super) fn new(start: Start, prepare: Sender<Command>) -> State {
        let capacity = start.segment.capacity;
        State {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            appender: Appender::new(start.salt, &start.end, capacity, start.reached)
                .with_terms(start.terms),
            segment: start.segment,
            prepared: start.prepared.into_iter().collect(),
            preparing: false,
            staged: None,
            staged_number: 0,
            prepare_failure: None,
            blocked: None,
            closing: false,
            prepare,
            segment_bytes: start.segment_bytes,
            appended: 0,
            placed: 0,
            placed_wakers: Vec::new(),
            durable: 0,
            durable_position: start.end.position,
            failure: None,
            wakers: Vec::new(),
            stopping: false,
            pool: Vec::new(),
        }
    }

    /// A buffer of at least `length` bytes, its last block zero.
    pub(super) fn take_buffer(&mut self, length: usize) -> AlignedBuffer {
        let mut buffer = self.pool.pop().unwrap_or_default();
        buffer.resize(length);
        let bytes = buffer.bytes_mut();
        let last_block = bytes.len() - BLOCK_BYTES;
        bytes[last_block..].fill(0);
        buffer
    }

    fn give_buffer(&mut self, buffer: AlignedBuffer) {
        if self.pool.len() < POOL_BUFFERS && buffer.capacity() <= POOL_BUFFER_BYTES {
            self.pool.push(buffer);
        }
    }

    /// The next write, when there is one and a segment has room for it.
    pub(super) fn next_write(&mut self) -> Option<Write> {
        if self.failure.is_some() || self.in_flight.len() >= limits::LOG_FRAMES_IN_FLIGHT {
            return None;
        }
        let staged = self.settle_staged();
        let first = self.waiting.front()?;
        let length = frame_bytes(first.meta.payload_length as usize) as u64;
        if self.appender.at_segment_start() {
            return Some(self.start_segment());
        }
        let spans = first.meta.entry.is_none_or(|entry| self.appender.spans(entry.revision_before));
        let begins = first.meta.kind == FrameKind::Restart || self.first_replaces();
        let elsewhere = staged.is_some_and(|sequence| sequence != self.segment.sequence);
        if !self.appender.fits(length) || !spans || elsewhere || begins {
            return self.change_segment(length);
        }
        let waiting = self.waiting.pop_front()?;
        self.placed += 1;
        let number = self.placed;
        let write = self.place(waiting, number);
        if self.appender.offset() >= self.segment.capacity / 4 {
            self.want_prepared(0);
        }
        Some(write)
    }

    fn change_segment(&mut self, frame_bytes: u64) -> Option<Write> {
        let needed = frame_bytes + BLOCK_BYTES as u64;
        let Some(next) = self.prepared.pop_front() else {
            self.blocked = Some(needed);
            self.want_prepared(needed);
            return None;
        };
        self.blocked = None;
        let staged = self.staged.as_ref().map(|staged| staged.sequence);
        if staged == Some(next.sequence) && self.settle_staged() != staged {
            // Another frame is first and needs the segment.
            self.staged = None;
        }
        // When even this one is too small it stays all but empty, and the next will do.
        self.appender.change_segment(next.capacity);
        assert_eq!(self.appender.segment(), next.sequence);
        self.segment = next;
        Some(self.start_segment())
    }

    /// Whether the next frame is an entry in the place of another one.
    fn first_replaces(&self) -> bool {
        let first = self.waiting.front().filter(|first| first.meta.kind.is_entry());
        let entry = first.and_then(|first| first.meta.entry);
        entry.is_some_and(|entry| self.appender.replaces(&entry))
    }

    fn start_segment(&mut self) -> Write {
        let start =
            SegmentStart { format_version: FORMAT_VERSION, capacity: self.segment.capacity };
        let first = self.waiting.front();
        if let Some(Waiting { contents: Contents::Restart(hard_state, membership), .. }) = first {
            let (hard_state, membership) = (*hard_state, membership.clone());
            let payload = Restart { start, hard_state, membership }.encode();
            let waiting = self.waiting.pop_front().expect("just seen");
            self.placed += 1;
            let buffer = self.take_buffer(frame_bytes(payload.len()));
            let waiting = Waiting::new(FrameKind::Restart, &payload, waiting.meta.entry, buffer);
            return self.place(waiting, self.placed);
        }
        if self.first_replaces()
            && let Some(entry) = self.waiting.front().and_then(|first| first.meta.entry)
        {
            self.appender.begin_replacing(&entry);
        }
        let payload = start.encode();
        let buffer = self.take_buffer(frame_bytes(payload.len()));
        self.place(Waiting::new(FrameKind::SegmentStart, &payload, None, buffer), 0)
    }

    /// If the next frame was staged: the segment that it has to be in. A frame that has lost its
    /// segment is written as others are.
    fn settle_staged(&mut self) -> Option<u64> {
        let Contents::Staged(number, payload) = &self.waiting.front()?.contents else {
            return None;
        };
        let staged = self.staged.as_ref().filter(|staged| staged.number == *number);
        if let Some(staged) = staged {
            return Some(staged.sequence);
        }
        let payload = payload.clone();
        let buffer = self.take_buffer(frame_bytes(payload.len()));
        let first = self.waiting.front_mut()?;
        *first = Waiting::new(first.meta.kind, &payload, first.meta.entry, buffer);
        None
    }

    fn place(&mut self, mut waiting: Waiting, number: u64) -> Write {
        let (buffer, staged) = match waiting.contents {
            Contents::Frame(buffer) => (buffer, false),
            Contents::Staged(..) => {
                let staged = self.staged.take().expect("settled just now");
                assert_eq!(staged.payload_length, waiting.meta.payload_length);
                waiting.meta.payload_crc = staged.payload_crc;
                (staged.first_block, true)
            }
            Contents::Restart(..) => unreachable!("it begins a segment"),
        };
        self.place_buffer(&waiting.meta, buffer, staged, number)
    }

    fn place_buffer(
        &mut self,
        meta: &FrameMeta,
        mut buffer: AlignedBuffer,
        staged: bool,
        number: u64,
    ) -> Write {
        let frame = buffer.bytes_mut();
        let place = match staged {
            true => self.appender.place_beginning(meta, self.durable_position, frame),
            false => self.appender.place(meta, self.durable_position, frame),
        };
        let position = self.appender.position();
        let segment = Arc::clone(&self.segment);
        self.in_flight.push_back(InFlight { position, segment, number, place, keys: None, staged });
        let file = Arc::clone(&self.segment);
        let payload_length = meta.payload_length as usize;
        Write { position, file, place, payload_length, buffer, staged }
    }

    fn written(&mut self, write: Write, keys: Vec<ChangedKey>, history: &Mutex<HistoryIndex>) {
        if self.failure.is_some() {
            return;
        }
        let position = write.position;
        self.give_buffer(write.buffer);
        let mut in_flight = self.in_flight.iter_mut();
        let written = in_flight.find(|in_flight| in_flight.position == position);
        written.expect("what was written was in flight").keys = Some(keys);
        if self.in_flight.front().is_none_or(|first| first.keys.is_none()) {
            return;
        }
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = self.in_flight.pop_front_if(|first| first.keys.is_some()) {
            assert!(first.position == self.durable_position + 1);
            self.durable_position = first.position;
            self.durable = self.durable.max(first.number);
            if first.place.kind.begins_segment() {
                history.add_file(first.segment);
                // The thread ends after the writer's threads do.
                let sequence = first.place.segment - 1;
                let _ = self.prepare.send(Command::IndexKeys { sequence });
            }
            history.add(first.place, &first.keys.unwrap_or_default());
            if first.staged {
                history.keys_are_in_file(first.place.segment);
            }
        }
    }

    pub(super) fn fail(&mut self, failure: LogFailure) {
        self.failure.get_or_insert(failure);
    }

    /// The end of the log, while everything appended is durable.
    pub(super) fn known_end(&self) -> Option<KnownEnd> {
        let idle = self.in_flight.is_empty() && self.waiting.is_empty();
        (idle && self.failure.is_none()).then(|| self.appender.known_end())
    }

    /// Nothing up to `index` is going to be replaced.
    pub(super) fn forget_terms_before(&mut self, index: u64) {
        self.appender.forget_terms_before(index);
    }

    /// How many appends have been handed to a thread that writes them.
    pub(super) fn placed(&self) -> u64 {
        self.placed
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.appended - self.durable
    }

    /// Asks for a segment after the newest, of at least `needed` bytes (0: no wish).
    pub(super) fn want_prepared(&mut self, needed: u64) {
        // On a full disk only time and the owner's doings help: see `retry_prepare`.
        let failure = self.prepare_failure.as_ref();
        let hopeless =
            failure.is_some_and(|failure| needed == 0 || (failure.out_of_space && !self.closing));
        if self.preparing || hopeless || !self.prepared.is_empty() {
            return;
        }
        let capacity = (self.segment.capacity * 4).min(self.segment_bytes);
        let capacity = capacity.max(needed);
        let sequence = self.segment.sequence + 1;
        // The thread ends after the writer's threads do.
        self.preparing = self.prepare.send(Command::Prepare { sequence, capacity }).is_ok();
    }

    pub(super) fn next_staged_number(&mut self) -> u64 {
        self.staged_number += 1;
        self.staged_number
    }

    pub(super) fn has_staged(&self) -> bool {
        self.staged.is_some()
    }

    /// Takes the segment that is ready, for a while. No other is made meanwhile.
    pub(super) fn borrow_prepared(&mut self) -> Option<Arc<SegmentFile>> {
        if self.preparing || self.prepared.len() != 1 {
            return None;
        }
        self.preparing = true;
        self.prepared.pop_front()
    }

    /// A staged frame's segment is ready, and the one that was borrowed is ready behind it.
    pub(super) fn add_staged(&mut self, segments: [Arc<SegmentFile>; 2], staged: Staged) {
        self.preparing = false;
        self.staged = Some(staged);
        self.prepared.extend(segments);
    }

    /// A segment is ready.
    pub(super) fn add_prepared(&mut self, segment: Arc<SegmentFile>) {
        self.preparing = false;
        self.prepare_failure = None;
        self.prepared.push_back(segment);
    }

    /// No segment could be made. As long as there is room in the present one nothing is lost; and
    /// while there is no space, what has been appended waits for it.
    pub(super) fn prepare_failed(&mut self, failure: LogFailure) {
        self.preparing = false;
        if self.blocked.is_some() && (self.closing || !failure.out_of_space) {
            self.fail(failure);
        } else {
            self.prepare_failure = Some(failure);
        }
    }

    /// Perhaps there is space again.
    pub(super) fn retry_prepare(&mut self) {
        if self.prepare_failure.as_ref().is_some_and(|failure| failure.out_of_space) {
            let failure = self.prepare_failure.take();
            self.want_prepared(self.blocked.unwrap_or(0));
            // Until it is known better there is none.
            self.prepare_failure = failure;
        }
    }

    /// There will be nothing more to append: what can't be written now never is.
    pub(super) fn close(&mut self) {
        self.closing = true;
        if self.blocked.is_some()
            && let Some(failure) = self.prepare_failure.take()
        {
            self.fail(failure);
        }
    }
}
