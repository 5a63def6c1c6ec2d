//! The thread that makes segments ready ahead of need, writes key indexes of those that are full,
//! and gives released ones back.
//!
//! A released segment becomes a spare (`NAME.spare`) and later, under a new name, the next
//! segment: its blocks are written already, and its old frames do not count under the new number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{Builder, JoinHandle};

use super::directory::sync_directory;
use super::error::LogFailure;
use super::file::{OpenMode, SegmentFile, create_zeroed, free_bytes, install};
use super::history::HistoryReader;
use super::keys::key_file;
use super::state::Shared;
use crate::log::segment::file_name;
use crate::runtime::local::AbortOnPanic;

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
            while let Ok(command) = receiver.recv() {
                match command {
                    Command::Prepare { sequence, capacity } => {
                        let reserve = shared.reserve_bytes.load(Ordering::Relaxed);
                        match files.prepare(sequence, capacity, reserve) {
                            Ok(segment) => shared.change(|state| state.add_prepared(segment)),
                            Err(failure) => shared.change(|state| state.prepare_failed(failure)),
                        }
                    }
                    Command::IndexKeys { sequence } => history.write_keys(sequence),
                    Command::Release(segment) => {
                        if let Err(failure) = files.release(segment) {
                            shared.change(|state| state.fail(failure));
                        }
                    }
                    Command::Stop => return,
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

/// Segment files that are not part of the log.
pub(super) struct Files {
    wal: PathBuf,
    mode: OpenMode,
    /// The size that spares have.
    segment_bytes: u64,
    spares: Vec<PathBuf>,
}

impl Files {
    /// Finds the spares that an earlier run left, and deletes drafts and what released segments left.
    pub(super) fn open(wal: &Path, mode: OpenMode, segment_bytes: u64) -> io::Result<Files> {
        let mut files = Files { wal: wal.to_owned(), mode, segment_bytes, spares: Vec::new() };
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

    fn release(&mut self, segment: Arc<SegmentFile>) -> Result<(), LogFailure> {
        // It may never have been written.
        let _ = fs::remove_file(key_file(&segment.path));
        let result = match Arc::try_unwrap(segment) {
            Ok(segment) => {
                let spare = segment.path.with_extension("spare");
                fs::rename(&segment.path, &spare).and_then(|()| self.keep_or_delete(spare))
            }
            // Somebody is reading it: its blocks must stay what they are.
            Err(segment) => fs::remove_file(&segment.path),
        };
        result
            .and_then(|()| sync_directory(&self.wal))
            .map_err(|error| LogFailure::new(&self.wal, 0, "releasing a segment", &error))
    }

    fn keep_or_delete(&mut self, spare: PathBuf) -> io::Result<()> {
        let standard = fs::metadata(&spare)?.len() == self.segment_bytes;
        if standard && self.spares.len() < SPARES {
            self.spares.push(spare);
            return Ok(());
        }
        fs::remove_file(spare)
    }
}
