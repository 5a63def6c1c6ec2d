//! The log as core 0 sees it: batches go in, durable indexes come out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::{LogFailure, LogWriter, StagedEntry, Stager};
use super::timer::monotonic_us;
use crate::log::frame::frame_bytes;
use crate::log::{EncodedEntry, HardState};
use crate::sequencer::LogWrite;
use crate::shared::Shared;

/// Batches that may be on their way to the disk at once: as many as the log writes at once. What
/// comes meanwhile waits for one of them, and travels together.
const DEPTH: usize = 4;

/// An append that is not known to be durable.
struct Open {
    /// The writer's.
    number: u64,
    /// Raft's.
    write: u64,
    index: u64,
    /// What is durable with it.
    hard_state: Option<HardState>,
    bytes: u64,
    appended_us: u64,
}

pub(super) struct Journal {
    /// Until it is closed.
    writer: RefCell<Option<LogWriter>>,
    open: RefCell<VecDeque<Open>>,
    /// Raft's promises that are durable.
    hard_state: Cell<HardState>,
    bytes: Cell<u64>,
    shared: Arc<Shared>,
    durable_index: Cell<u64>,
    durable_number: Cell<u64>,
    begun_number: Cell<u64>,
}

impl Journal {
    /// Goes on behind `index`, the newest in the log, which has `bytes` behind the last snapshot.
    pub(super) fn new(
        writer: LogWriter,
        index: u64,
        hard_state: HardState,
        bytes: u64,
        shared: Arc<Shared>,
    ) -> Journal {
        Journal {
            writer: RefCell::new(Some(writer)),
            open: RefCell::default(),
            hard_state: Cell::new(hard_state),
            bytes: Cell::new(bytes),
            shared,
            durable_index: Cell::new(index),
            durable_number: Cell::new(0),
            begun_number: Cell::new(0),
        }
    }

    /// Whether there is no room for the log to grow. Looks for some, too.
    pub(super) fn is_out_of_space(&self) -> bool {
        let writer = self.writer.borrow();
        let Some(writer) = writer.as_ref() else { return false };
        let full = writer.space_warning().is_some_and(|failure| failure.out_of_space);
        if full {
            writer.look_for_space();
        }
        full
    }

    pub(super) fn depth(&self) -> usize {
        DEPTH
    }

    /// Writes large payloads ahead; none when the log is closed.
    pub(super) fn stager(&self) -> Option<Stager> {
        self.writer.borrow().as_ref().map(LogWriter::stager)
    }

    /// Hands a write to the log. A log that has failed takes nothing; [`durable`](Journal::durable)
    /// then tells why.
    pub(super) fn write(&self, write: LogWrite) {
        let mut writer = self.writer.borrow_mut();
        // Behind the end nothing is logged, and so nothing is acknowledged.
        let Some(writer) = writer.as_mut() else { return };
        let hard_state = write.hard_state.map(|state| {
            let (term, vote, commit) = (state.term, state.vote, state.commit);
            HardState { term, vote, commit }
        });
        if let Some(state) = hard_state
            && writer.append_hard_state(state).is_err()
        {
            return;
        }
        for entry in write.entries {
            let (term, index, payload) = (entry.term, entry.index, entry.payload);
            let (revision_before, revision_after) = (entry.revision_before, entry.revision_after);
            let bytes = frame_bytes(payload.len()) as u64;
            let number = if let Some(staged) = entry.staged {
                let entry = StagedEntry { term, index, revision_before, revision_after, payload };
                writer.append_staged(entry, staged)
            } else {
                let payload = payload.into();
                let entry = EncodedEntry { term, index, revision_before, revision_after, payload };
                writer.append(entry)
            };
            if let Ok(number) = number {
                let (write, appended_us) = (write.number, monotonic_us());
                let open = Open { number, write, index, hard_state, bytes, appended_us };
                self.open.borrow_mut().push_back(open);
            }
        }
    }

    /// Resolves when more has become durable: up to which of raft's writes. A log that fails never answers
    /// again: the process ends, because what the disk holds then is known only by reading it.
    pub(super) async fn durable(&self) -> u64 {
        loop {
            match self.durable_after(self.durable_number.get()).await {
                Ok(number) => {
                    if let Some(write) = self.take_durable(number) {
                        return write;
                    }
                }
                Err(failure) => {
                    eprintln!("{failure}\nnothing more can be made durable: stopping at once");
                    std::process::exit(1);
                }
            }
        }
    }

    /// Resolves when more writes have begun: up to which of raft's.
    pub(super) async fn begun(&self) -> u64 {
        loop {
            let begun = self.writer.borrow().as_ref().map(|log| log.begun(self.begun_number.get()));
            let Some(begun) = begun else { return std::future::pending().await };
            let number = begun.await;
            self.begun_number.set(number);
            let open = self.open.borrow();
            let newest = open.iter().rev().find(|open| open.number <= number);
            if let Some(newest) = newest {
                return newest.write;
            }
        }
    }

    async fn durable_after(&self, number: u64) -> Result<u64, LogFailure> {
        let durable = self.writer.borrow().as_ref().map(|writer| writer.durable(number));
        match durable {
            Some(durable) => durable.await,
            // Closed: there will be no more.
            None => std::future::pending().await,
        }
    }

    fn take_durable(&self, number: u64) -> Option<u64> {
        self.durable_number.set(number);
        let mut open = self.open.borrow_mut();
        let mut newest = None;
        while let Some(first) = open.pop_front_if(|first| first.number <= number) {
            self.shared.count_logged(first.bytes, monotonic_us() - first.appended_us);
            self.durable_index.set(first.index);
            newest = Some(first.write);
            self.bytes.set(self.bytes.get() + first.bytes);
            if let Some(hard_state) = first.hard_state {
                self.hard_state.set(hard_state);
            }
        }
        newest
    }

    /// The newest entry that is durable.
    pub(super) fn durable_index(&self) -> u64 {
        self.durable_index.get()
    }

    /// Raft's promises that are durable.
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state.get()
    }

    /// Bytes of the entries that are durable, from the snapshot on that the start began with.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Gives up the log before `index`: a snapshot holds it.
    pub(super) fn release_before(&self, index: u64) {
        if let Some(writer) = self.writer.borrow_mut().as_mut() {
            writer.release_before(index);
        }
    }

    /// Waits until everything appended is durable, and lets go of the data directory.
    pub(super) async fn close(&self) {
        let writer = self.writer.borrow_mut().take();
        if let Some(writer) = writer
            && let Err(failure) = writer.close().await
        {
            eprintln!("closing the log: {failure}");
        }
    }
}
