//! The thread that makes segments ready ahead of need, writes key indexes of those that are full,
//! and gives released ones back.
//!
//! A released segment becomes a spare (`NAME.spare`) and later, under a new name, the next
//! segment: its blocks are written already, and its old frames do not count under the new number.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::directory::sync_directory;
use super::error::LogFailure;
use super::file::{OpenMode, SegmentFile, create_zeroed, free_bytes, install};
use super::history::HistoryReader;
use super::keys::key_file;
use super::state::Shared;
use crate::log::segment::file_name;
use crate::runtime::local::AbortOnPanic;

/// How long to wait until a segment that could not be given back is tried again.
const RELEASE_AGAIN: Duration = Duration::from_secs(30);

/// Spares kept; more are deleted.
const SPARES: usize = 2;

pub(super) enum Command {
    Prepare {
        sequence: u64,
        capacity: u64,
    },
    /// The segment is full: its key index can be written.
    IndexKeys {
        sequence: u64,
    },
    /// No longer part of the log.
    Release(Arc<SegmentFile>),
    Stop,
}

/// The thread's handle; dropping it waits for the thread's end.
pub(super) struct Preparer {
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    pub(super) fn spawn(
        shared: Arc<Shared>,
        commands: (Sender<Command>, Receiver<Command>),
        mut files: Files,
        history: HistoryReader,
    ) -> io::Result<Preparer> {
        let (sender, receiver) = commands;
        let thread = Builder::new().name("log-prepare".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            while let Some(command) = files.next_command(&receiver) {
                match command {
                    Command::Prepare { sequence, capacity } => {
                        let reserve = shared.reserve_bytes.load(Ordering::Relaxed);
                        match files.prepare(sequence, capacity, reserve) {
                            Ok(segment) => shared.change(|state| state.add_prepared(segment)),
                            Err(failure) => shared.change(|state| state.prepare_failed(failure)),
                        }
                    }
                    Command::IndexKeys { sequence } => history.write_keys(sequence),
                    Command::Release(segment) => files.released.push_back(segment),
                    Command::Stop => {
                        while !files.released.is_empty() && files.release_next() {}
                        return;
                    }
                }
            }
        })?;
        Ok(Preparer { commands: sender, thread: Some(thread) })
    }

    pub(super) fn release(&self, segments: Vec<Arc<SegmentFile>>) {
        for segment in segments {
            // When the thread has ended the next start finds the segment.
            let _ = self.commands.send(Command::Release(segment));
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An earlier attempt may have come so far.
fn done_already(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Segment files that are not part of the log.
pub(super) struct Files {
    wal: PathBuf,
    mode: OpenMode,
    /// The size that spares have.
    segment_bytes: u64,
    spares: Vec<PathBuf>,
    /// What is to be given back, oldest first: never one before all older ones, so that the log
    /// has no gap whatever happens.
    released: VecDeque<Arc<SegmentFile>>,
    /// Giving the first one back has failed, and an operator was told.
    release_failed: bool,
}

impl Files {
    /// Gives segments back as long as there is no command. `None` at the end.
    fn next_command(&mut self, commands: &Receiver<Command>) -> Option<Command> {
        loop {
            match commands.try_recv() {
                Ok(command) => return Some(command),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if self.released.is_empty() {
                return commands.recv().ok();
            }
            if !self.release_next() {
                match commands.recv_timeout(RELEASE_AGAIN) {
                    Err(RecvTimeoutError::Timeout) => {}
                    result => return result.ok(),
                }
            }
        }
    }

    /// Gives the oldest segment back. When that fails the log is none the worse, only larger: it is
    /// tried again later, and the next start finds what is left.
    fn release_next(&mut self) -> bool {
        let Some(segment) = self.released.pop_front() else { return true };
        match self.release(&segment) {
            Ok(()) => {
                self.release_failed = false;
                true
            }
            Err(error) => {
                if !self.release_failed {
                    eprintln!(
                        "warning: {} is not needed any more and can't be given back: {error}. It \
                         is tried again every {} seconds; until then the log grows",
                        segment.path.display(),
                        RELEASE_AGAIN.as_secs()
                    );
                }
                self.release_failed = true;
                self.released.push_front(segment);
                false
            }
        }
    }

    /// Finds the spares that an earlier run left, and deletes drafts and what released segments left.
    pub(super) fn open(wal: &Path, mode: OpenMode, segment_bytes: u64) -> io::Result<Files> {
        let mut files = Files {
            wal: wal.to_owned(),
            mode,
            segment_bytes,
            spares: Vec::new(),
            released: VecDeque::new(),
            release_failed: false,
        };
        for entry in fs::read_dir(wal)? {
            let path = entry?.path();
            let is = |extension| path.extension().is_some_and(|found| found == extension);
            if is("spare") {
                files.keep_or_delete(path)?;
            } else if is("tmp") || (is("keys") && !path.with_extension("log").exists()) {
                fs::remove_file(path)?;
            }
        }
        Ok(files)
    }

    pub(super) fn prepare(
        &mut self,
        sequence: u64,
        capacity: u64,
        reserve: u64,
    ) -> Result<Arc<SegmentFile>, LogFailure> {
        let path = self.wal.join(file_name(sequence));
        let prepared = self.make(sequence, capacity, reserve);
        prepared
            .map(Arc::new)
            .map_err(|error| LogFailure::new(&path, 0, "preparing the next segment", &error))
    }

    fn make(&mut self, sequence: u64, capacity: u64, reserve: u64) -> io::Result<SegmentFile> {
        let spare = if capacity <= self.segment_bytes { self.spares.pop() } else { None };
        let draft = match spare {
            Some(spare) => spare,
            None => {
                if free_bytes(&self.wal)? < capacity.saturating_add(reserve) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let draft = self.wal.join(format!("{}.tmp", file_name(sequence)));
                if let Err(error) = create_zeroed(&draft, capacity, self.mode.direct) {
                    // What it took of a full disk is needed elsewhere.
                    let _ = fs::remove_file(&draft);
                    return Err(error);
                }
                draft
            }
        };
        install(&draft, &self.wal, sequence)?;
        SegmentFile::open(&self.wal, sequence, self.mode)
    }

    fn release(&mut self, segment: &Arc<SegmentFile>) -> io::Result<()> {
        // It may never have been written.
        let _ = fs::remove_file(key_file(&segment.path));
        // The index of the history has let go of it, so nobody can come to have it any more.
        if Arc::strong_count(segment) == 1 {
            let spare = segment.path.with_extension("spare");
            done_already(fs::rename(&segment.path, &spare))?;
            if spare.exists() {
                self.keep_or_delete(spare)?;
            }
        } else {
            // Somebody is reading it: its blocks must stay what they are.
            done_already(fs::remove_file(&segment.path))?;
        }
        sync_directory(&self.wal)
    }

    fn keep_or_delete(&mut self, spare: PathBuf) -> io::Result<()> {
        let standard = fs::metadata(&spare)?.len() == self.segment_bytes;
        if standard && self.spares.contains(&spare) {
            return Ok(());
        }
        if standard && self.spares.len() < SPARES {
            self.spares.push(spare);
            return Ok(());
        }
        fs::remove_file(spare)
    }
}
