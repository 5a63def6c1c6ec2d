//! The log as core 0 sees it: writes go in, the numbers of those that are durable come out.
//!
//! What goes beside the log (copies of damaged entries to their places, parts of a snapshot that is
//! received) is done one after the other on a thread, and counts in the order of the writes, too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{Either, select};
use mainstay_raft::SnapshotPart;

use super::disk::{HistoryReader, LogFailure, LogWriter, Partial, Stager};
use super::local::Flag;
use super::timer::{monotonic_us, sleep};
use super::{blocking, spawn_local};
use crate::limits;
use crate::log::frame::frame_bytes;
use crate::log::replay::Reached;
use crate::log::{HardState, Membership};
use crate::sequencer::{LogEntry, LogWrite};
use crate::shared::Shared;

/// Batches that may be on their way to the disk at once: as many as the log writes at once. What
/// comes meanwhile waits for one of them, and travels together.
const DEPTH: usize = 4;

/// A write that is not known to be durable.
struct Open {
    /// The log's number of the last frame of it, or of what was before it.
    number: u64,
    /// Raft's; 0 for what nobody waits for.
    write: u64,
    /// What is done beside the log, up to this number.
    beside: u64,
    /// Of the last entry in it.
    index: Option<u64>,
    /// What is durable with it.
    hard_state: Option<HardState>,
    bytes: u64,
    appended_us: u64,
}

/// What is done beside the log.
enum Work {
    Mend(LogEntry),
    Part(SnapshotPart),
}

/// Work beside the log, and how far it is.
struct Beside {
    history: HistoryReader,
    /// Taken while it is written to.
    partial: RefCell<Option<Partial>>,
    queue: RefCell<VecDeque<Work>>,
    at_work: Cell<bool>,
    asked: Cell<u64>,
    done: Cell<u64>,
    progress: Flag,
}

pub(super) struct Journal {
    /// Until it is closed.
    writer: RefCell<Option<LogWriter>>,
    open: RefCell<VecDeque<Open>>,
    beside: Rc<Beside>,
    /// Raft's promises that are durable.
    hard_state: Cell<HardState>,
    bytes: Cell<u64>,
    shared: Arc<Shared>,
    durable_index: Cell<u64>,
    durable_number: Cell<u64>,
    /// Of raft's writes.
    durable_write: Cell<u64>,
    begun_number: Cell<u64>,
}

impl Journal {
    /// Goes on behind `index`, the newest in the log, which has `bytes` behind the last snapshot.
    pub(super) fn new(
        mut writer: LogWriter,
        (index, hard_state, bytes): (u64, HardState, u64),
        history: HistoryReader,
        partial: Partial,
        shared: Arc<Shared>,
    ) -> Journal {
        writer.set_hard_state(hard_state);
        Journal {
            writer: RefCell::new(Some(writer)),
            open: RefCell::default(),
            beside: Rc::new(Beside {
                history,
                partial: RefCell::new(Some(partial)),
                queue: RefCell::default(),
                at_work: Cell::new(false),
                asked: Cell::new(0),
                done: Cell::new(0),
                progress: Flag::default(),
            }),
            hard_state: Cell::new(hard_state),
            bytes: Cell::new(bytes),
            shared,
            durable_index: Cell::new(index),
            durable_number: Cell::new(0),
            durable_write: Cell::new(0),
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
        let appended_us = monotonic_us();
        let hard_state = hard_state_of(&write);
        let index = write.entries.last().map(|entry| entry.index);
        let mut bytes = 0;
        if let Some(state) = hard_state
            && writer.append_hard_state(state).is_err()
        {
            return;
        }
        for entry in write.entries {
            bytes += frame_bytes(entry.payload.len()) as u64;
            if writer.append_entry(entry).is_err() {
                return;
            }
        }
        let mends = write.repairs.into_iter().map(Work::Mend);
        self.beside.ask(mends.chain(write.snapshot_parts.into_iter().map(Work::Part)));
        let (number, beside) = (writer.appended(), self.beside.asked.get());
        let write = write.number;
        let open = Open { number, write, beside, index, hard_state, bytes, appended_us };
        self.open.borrow_mut().push_back(open);
    }

    /// Resolves when more has become durable: up to which of raft's writes. A log that fails never
    /// answers again: the process ends, because what the disk holds then is known only by reading it.
    pub(super) async fn durable(&self) -> u64 {
        loop {
            if let Some(write) = self.take_durable() {
                return write;
            }
            let log = pin!(self.durable_after(self.durable_number.get()));
            let beside = pin!(self.beside.progress.lowered());
            match select(log, beside).await {
                Either::Left((Ok(number), _)) => self.durable_number.set(number),
                Either::Left((Err(failure), _)) => {
                    eprintln!("{failure}\nnothing more can be made durable: stopping at once");
                    std::process::exit(1);
                }
                Either::Right(_) => {}
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
            let begun = open.iter().rev().find(|open| open.number <= number && open.write > 0);
            if let Some(newest) = begun {
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

    /// What has become durable since the last time.
    fn take_durable(&self) -> Option<u64> {
        let (number, beside) = (self.durable_number.get(), self.beside.done.get());
        let mut open = self.open.borrow_mut();
        let is_done = |first: &mut Open| first.number <= number && first.beside <= beside;
        let before = self.durable_write.get();
        while let Some(first) = open.pop_front_if(is_done) {
            if let Some(index) = first.index {
                self.shared.count_logged(first.bytes, monotonic_us() - first.appended_us);
                self.durable_index.set(index);
                self.bytes.set(self.bytes.get() + first.bytes);
            }
            if first.write > 0 {
                self.durable_write.set(first.write);
            }
            if let Some(hard_state) = first.hard_state {
                self.hard_state.set(hard_state);
            }
        }
        let newest = self.durable_write.get();
        (newest > before).then_some(newest)
    }

    /// Lets the log begin anew behind `reached`, where `membership` is in force. Resolves when that
    /// is durable.
    pub(super) async fn restart(
        &self,
        reached: Reached,
        membership: Membership,
    ) -> Result<(), LogFailure> {
        loop {
            let numbers = {
                let mut writer = self.writer.borrow_mut();
                let Some(writer) = writer.as_mut() else { return Ok(()) };
                match writer.in_flight() {
                    0 => Ok(writer.restart(reached, membership.clone())?),
                    _ => Err(writer.durable_now()),
                }
            };
            match numbers {
                Ok(number) => {
                    self.durable_after(number - 1).await?;
                    self.durable_index.set(reached.index);
                    return Ok(());
                }
                Err(durable) => {
                    self.durable_after(durable).await?;
                }
            }
        }
    }

    /// Appends committed entries behind a restart, and notes that they are. Resolves when that is
    /// durable.
    pub(super) async fn append_committed(&self, entries: Vec<LogEntry>) -> Result<(), LogFailure> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        let number = {
            let mut writer = self.writer.borrow_mut();
            let Some(writer) = writer.as_mut() else { return Ok(()) };
            for entry in entries {
                writer.append_entry(entry)?;
            }
            let state = HardState { commit: last, ..writer.hard_state() };
            writer.append_hard_state(state)?
        };
        self.durable_after(number - 1).await?;
        self.durable_index.set(last);
        Ok(())
    }

    /// Writes this member's promises again, behind everything else. Resolves when that is durable.
    pub(super) async fn repeat_hard_state(&self) -> Result<(), LogFailure> {
        let number = {
            let mut writer = self.writer.borrow_mut();
            let Some(writer) = writer.as_mut() else { return Ok(()) };
            writer.append_hard_state(writer.hard_state())?
        };
        self.durable_after(number - 1).await.map(drop)
    }

    /// The snapshot that is being received. `None` while a part is written.
    pub(super) fn partial(&self) -> Option<Partial> {
        self.beside.partial.borrow_mut().take()
    }

    pub(super) fn give_partial_back(&self, partial: Partial) {
        *self.beside.partial.borrow_mut() = Some(partial);
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

/// What the log is to hold of raft's promises. The commit index of a write may speak of entries that
/// come with it: what is on the disk must not call those committed whose places they take.
fn hard_state_of(write: &LogWrite) -> Option<HardState> {
    let before = write.entries.first().map_or(u64::MAX, |first| first.index - 1);
    write.hard_state.map(|state| HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit.min(before),
    })
}

impl Beside {
    fn ask(self: &Rc<Self>, work: impl Iterator<Item = Work>) {
        let is_empty = {
            let mut queue = self.queue.borrow_mut();
            let before = queue.len();
            queue.extend(work);
            self.asked.set(self.asked.get() + (queue.len() - before) as u64);
            queue.is_empty()
        };
        // It begins to run at once.
        if !is_empty && !self.at_work.replace(true) {
            spawn_local(Rc::clone(self).work());
        }
    }

    async fn work(self: Rc<Self>) {
        while let Some(work) = self.next() {
            match work {
                Work::Mend(entry) => {
                    let history = self.history.clone();
                    if let Err(error) = blocking(move || history.mend_blocking(&entry)).await {
                        eprintln!("{error}\na damaged entry can't be mended: stopping at once");
                        std::process::exit(1);
                    }
                }
                Work::Part(part) => self.write_part(part).await,
            }
            self.done.set(self.done.get() + 1);
            self.progress.raise();
        }
    }

    fn next(&self) -> Option<Work> {
        let next = self.queue.borrow_mut().pop_front();
        self.at_work.set(next.is_some());
        next
    }

    /// A full disk is waited for: nothing of what follows is asked for meanwhile.
    async fn write_part(&self, part: SnapshotPart) {
        let part = Arc::new(part);
        let mut told = false;
        loop {
            let taken = self.partial.borrow_mut().take();
            let mut partial = taken.expect("one part is written at a time");
            let theirs = Arc::clone(&part);
            let (partial, written) = blocking(move || {
                let written = partial.write(&theirs);
                (partial, written)
            })
            .await;
            *self.partial.borrow_mut() = Some(partial);
            let Err(error) = written else { return };
            if !std::mem::replace(&mut told, true) {
                eprintln!(
                    "warning: a snapshot of another member can't be kept: {error}. It is tried again"
                );
            }
            sleep(limits::SNAPSHOT_PART_RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_raft::EntryKind;

    use super::*;

    #[test]
    fn what_is_written_never_calls_committed_what_it_replaces() {
        let entry = |index| LogEntry {
            index,
            term: 2,
            kind: EntryKind::Normal,
            revision_before: 1,
            revision_after: 1,
            payload: bytes::Bytes::new(),
            staged: None,
        };
        for (commit, entries, expected) in
            [(12, vec![11, 12], 10), (10, vec![11, 12], 10), (9, vec![11], 9), (12, vec![], 12)]
        {
            let hard_state = Some(mainstay_raft::HardState { term: 2, vote: 1, commit });
            let entries = entries.into_iter().map(entry).collect();
            let write = LogWrite { hard_state, entries, ..LogWrite::default() };
            assert_eq!(hard_state_of(&write).map(|state| state.commit), Some(expected));
        }
    }
}
