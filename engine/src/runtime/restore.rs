//! What was in the store when it stopped: the newest snapshot that can be used, and the log behind
//! it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::disk::{DiskError, Recovery, SnapshotFile, SnapshotFolder, load};
use crate::effect::{Batch, Control, Item};
use crate::lease::LeaseTable;
use crate::log::HardState;
use crate::log::replay::Behind;
use crate::placement;
use crate::record::Revision;
use crate::shard::Shard;
use crate::snapshot::{SnapshotBytes, SnapshotError};

/// The state of all shards.
pub(super) struct State {
    pub(super) shards: Vec<Shard>,
    pub(super) leases: LeaseTable,
    pub(super) documents: BTreeMap<Bytes, Bytes>,
    pub(super) compacted: Revision,
}

/// What the snapshots gave.
pub(super) struct Restored {
    pub(super) state: State,
    /// The newest one, which `state` was loaded from, is the last.
    pub(super) kept: Vec<Arc<SnapshotFile>>,
    /// Those that can't be used.
    pub(super) damaged: Vec<u64>,
    pub(super) problems: Vec<SnapshotError>,
}

impl Restored {
    /// Loads the newest snapshot that is whole.
    pub(super) fn from(folder: &SnapshotFolder, cores: usize) -> Result<Restored, DiskError> {
        let mut restored = Restored {
            state: State::new(cores),
            kept: Vec::new(),
            damaged: Vec::new(),
            problems: Vec::new(),
        };
        for index in folder.newest_first()? {
            match restored.try_snapshot(folder, index) {
                Ok(file) => restored.kept.insert(0, Arc::new(file)),
                Err(error @ SnapshotError::NewerFormat { .. }) => return Err(error.into()),
                Err(error) => {
                    restored.damaged.push(index);
                    restored.problems.push(error);
                }
            }
        }
        Ok(restored)
    }

    fn try_snapshot(
        &mut self,
        folder: &SnapshotFolder,
        index: u64,
    ) -> Result<SnapshotFile, SnapshotError> {
        let file = folder.read(index)?;
        if self.kept.is_empty() {
            let mut state = State::new(self.state.shards.len());
            state.load(&file)?;
            self.state = state;
        }
        Ok(file)
    }

    /// What `state` holds: the log is read from the entry behind it.
    pub(super) fn behind(&self) -> Behind {
        self.kept.last().map_or(Behind::default(), |newest| {
            let header = newest.layout().header;
            Behind { index: header.index, term: header.term, revision: header.revision }
        })
    }

    /// Raft's promises as the snapshot has them.
    pub(super) fn hard_state(&self) -> HardState {
        self.kept.last().map_or(HardState::default(), |newest| {
            let header = newest.layout().header;
            let (term, vote) = (header.raft_term, header.raft_vote);
            HardState { term, vote, commit: header.raft_commit }
        })
    }

    /// Applies the log.
    pub(super) fn replay(&mut self, recovery: &mut Recovery) -> Result<(), DiskError> {
        let behind = self.behind();
        let mut progress = Progress::new();
        let mut reached = behind.index;
        while let Some(batch) = recovery.next_batch()? {
            self.check_beginning(recovery)?;
            progress.show(recovery);
            reached = batch.index;
            self.state.apply(&batch);
        }
        progress.end();
        self.check_beginning(recovery)?;
        let Some(newest) = self.kept.last() else { return Ok(()) };
        let snapshot_end = newest.layout().footer.end.index;
        let log_end = recovery.begins_after().map_or(0, |_| reached);
        if log_end < snapshot_end {
            return Err(DiskError::LogTooShort { file: newest.name(), snapshot_end, log_end });
        }
        Ok(())
    }

    /// Whether the log goes on right behind what was loaded.
    fn check_beginning(&self, recovery: &Recovery) -> Result<(), DiskError> {
        let begins_after = recovery.begins_after().map_or(0, |reached| reached.index);
        if begins_after <= self.behind().index {
            return Ok(());
        }
        let problems: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        let reason =
            if problems.is_empty() { "there is none".to_owned() } else { problems.join("; ") };
        Err(DiskError::NoSnapshot { log_begins_after: begins_after, reason })
    }
}

impl State {
    fn new(cores: usize) -> State {
        State {
            shards: (0..cores).map(|_| Shard::default()).collect(),
            leases: LeaseTable::default(),
            documents: BTreeMap::new(),
            compacted: 0,
        }
    }

    fn load(&mut self, file: &SnapshotFile) -> Result<(), SnapshotError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let layout = file.layout();
        load(file, &mut self.shards, threads)?;
        for lease in layout.leases(file)? {
            self.control(&Control::LeaseGrant { id: lease.id, ttl: lease.ttl });
            if lease.remaining != lease.ttl {
                let remaining = vec![(lease.id, lease.remaining)];
                self.control(&Control::LeaseCheckpoint { remaining });
            }
        }
        for document in layout.documents(file)? {
            self.documents.insert(document.name, document.content);
        }
        if layout.header.compacted > 0 {
            self.control(&Control::Compact { revision: layout.header.compacted });
        }
        for shard in &mut self.shards {
            shard.settle(layout.footer.end.revision);
        }
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) {
        for item in &batch.items {
            match item {
                Item::Effect(effect) => {
                    for change in &effect.changes {
                        let hash = placement::hash(change.record.key());
                        let shard = placement::shard_of(hash, self.shards.len());
                        self.shards[shard].install_again(change.record.clone());
                    }
                }
                Item::Deletion(_) => unreachable!("the log gives deletions as effects"),
                Item::Control(control) => self.control(control),
            }
        }
        for shard in &mut self.shards {
            shard.settle(batch.revision_after);
            // Nobody reads yet, and the log has what was.
            shard.evict(batch.revision_after, usize::MAX);
        }
    }

    fn control(&mut self, control: &Control) {
        // Leases get their time when the member starts.
        self.leases.apply(control, 0);
        for shard in &mut self.shards {
            shard.apply_control(control);
        }
        match control {
            Control::Compact { revision } => self.compacted = self.compacted.max(*revision),
            Control::Document { name, content } => {
                self.documents.insert(name.clone(), content.clone());
            }
            _ => {}
        }
    }
}

/// Tells a person who waits how far the replay is.
struct Progress {
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    fn new() -> Progress {
        Progress { started: Instant::now(), shown: None }
    }

    fn show(&mut self, recovery: &Recovery) {
        const AFTER: Duration = Duration::from_secs(1);
        const EVERY: Duration = Duration::from_millis(200);
        let since = self.shown.unwrap_or(self.started);
        let wait = if self.shown.is_some() { EVERY } else { AFTER };
        if since.elapsed() < wait || !io::stderr().is_terminal() {
            return;
        }
        self.shown = Some(Instant::now());
        let (done, total) = recovery.progress();
        let percent = done * 100 / total.max(1);
        let bar = "#".repeat(percent as usize / 2);
        eprint!("\rreading the log [{bar:<50}] {percent}% of {} MiB", total >> 20);
        // A bar that can't be shown is no reason not to start.
        io::stderr().flush().ok();
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}
