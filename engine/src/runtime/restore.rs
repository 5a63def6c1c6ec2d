//! What was in the store when it stopped: the newest snapshot that can be used, and the log behind
//! it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mainstay_raft::{Config, EntryKind, Membership, Snapshot};

use super::disk::{
    DataDirectory, DiskError, Identity, Incoming, Log, LogOptions, Partial, Recovery, SnapshotFile,
    SnapshotFolder, load,
};
use crate::limits;
use crate::log::HardState;
use crate::log::raw::RawBatch;
use crate::log::replay::{Behind, Commitment, Reached, Replayed, Voter};
use crate::log::terms::Terms;
use crate::restored::{Portion, Restart, State, follow};
use crate::sequencer::LogEntry;
use crate::snapshot::{SnapshotBytes, SnapshotError};

/// Bytes of batches that are handed over at once: small batches aren't worth waking anybody.
const PORTION_BYTES: usize = 512 << 10;

/// Portions of the log that wait for a shard.
const PORTIONS_READY: usize = 8;

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
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            load(&file, &mut state.shards, threads)?;
            state.load_rest(file.layout(), &file)?;
            self.state = state;
        }
        Ok(file)
    }

    /// Reads the log behind the snapshot, and opens it for writing. An installation of another
    /// member's snapshot that was interrupted is brought to its end.
    pub(super) fn open_log(
        &mut self,
        directory: DataDirectory,
        commitment: Commitment,
        partial: &mut Partial,
        options: LogOptions,
    ) -> Result<(Log, u64), DiskError> {
        let mut directory = directory;
        if let Some((incoming, sent)) = self.interrupted(partial)? {
            let path = directory.path().to_owned();
            let mut recovery = directory.recover_behind(commitment.clone(), Behind::default())?;
            while recovery.next_raw()?.is_some() {}
            let mut log = recovery.start(options)?;
            if log.replayed.terms.at(sent.index) != Some(sent.term) {
                self.finish(&mut log, &incoming).map_err(received(&path))?;
                partial.clear().map_err(received(&path))?;
                return Ok((log, 0));
            }
            // The log has all of it: the snapshot took the place of what is damaged in it.
            drop(log);
            partial.clear().map_err(received(&path))?;
            directory = DataDirectory::open(&path)?;
        }
        let mut recovery = directory.recover_behind(commitment, self.behind())?;
        self.replay(&mut recovery)?;
        let bytes = recovery.bytes_behind();
        let log = recovery.start(options)?;
        self.forget_what_was_not_sent();
        Ok((log, bytes))
    }

    /// What was received completely and has its name, if that is not over.
    fn interrupted(&self, partial: &Partial) -> Result<Option<(Incoming, Snapshot)>, DiskError> {
        let Some(newest) = self.kept.last().filter(|newest| newest.layout().is_foreign()) else {
            return Ok(None);
        };
        let name = (newest.layout().footer.end.index, newest.layout().fingerprint());
        let sent = partial.state().map(|(sent, _)| sent);
        let sent = sent.filter(|sent| (sent.index, sent.fingerprint) == name);
        let incoming = Incoming::open(partial).map_err(received(Path::new(&newest.name())))?;
        Ok(incoming.zip(sent))
    }

    /// The log begins anew with what came with the snapshot, and the state goes on to its end.
    fn finish(&mut self, log: &mut Log, incoming: &Incoming) -> io::Result<()> {
        let newest = self.kept.last().expect("it was looked at");
        let begins_with = self.behind();
        let membership = newest.layout().membership(&**newest).map_err(io::Error::other)?;
        let membership = membership.ok_or_else(|| io::Error::other("nobody is a member"))?;
        if log.replayed.hard_state.term == 0 {
            log.writer.set_hard_state(self.hard_state());
        }
        let mut number = log.writer.restart(begins_with, membership.clone());
        let replayed = &mut log.replayed;
        replayed.memberships = vec![(begins_with.index, membership)];
        replayed.terms = Terms::new(begins_with.index, begins_with.term);
        let mut entries = incoming.entries();
        loop {
            let durable = number.map_err(io::Error::other)?;
            log.writer.wait_blocking(durable).map_err(io::Error::other)?;
            let bunch = entries.next_bunch(limits::ENTRY_BYTES, limits::LOG_APPENDS / 4)?;
            let Some(last) = bunch.last().map(|entry| entry.index) else { break };
            for entry in bunch {
                if entry.kind == EntryKind::Membership {
                    let membership = Membership::decode(&entry.payload);
                    let membership = membership.ok_or_else(|| io::Error::other("no members"))?;
                    replayed.memberships.push((entry.index, membership));
                }
                replayed.terms.push(entry.term);
                log.writer.append_entry(entry).map_err(io::Error::other)?;
            }
            let state = HardState { commit: last, ..log.writer.hard_state() };
            number = log.writer.append_hard_state(state);
        }
        let reached = follow_incoming(&mut self.state, incoming, begins_with)?;
        self.forget_what_was_not_sent();
        let replayed = &mut log.replayed;
        replayed.hard_state = HardState { commit: reached.index, ..log.writer.hard_state() };
        (replayed.reached, replayed.applied) = (reached, reached);
        replayed.begins_after = begins_with;
        replayed.pending.clear();
        replayed.damaged.clear();
        // What was before is of the log that is void.
        self.kept.drain(..self.kept.len() - 1);
        Ok(())
    }

    /// Another member's snapshot holds no versions from before its end.
    fn forget_what_was_not_sent(&mut self) {
        if let Some(newest) = self.kept.last().filter(|newest| newest.layout().is_foreign()) {
            self.state.forget_history_before(newest.layout().footer.end.revision);
        }
    }

    /// What `state` holds: the log is read from the entry behind it.
    pub(super) fn behind(&self) -> Behind {
        self.kept.last().map_or(Behind::default(), |newest| {
            let header = newest.layout().header;
            Behind { index: header.index, term: header.term, revision: header.revision }
        })
    }

    /// Which entries of the log of this member count as committed: what the snapshots tell of it.
    pub(super) fn commitment(&self, identity: &Identity) -> Result<Commitment, DiskError> {
        let mut memberships = vec![(0, Membership::of_voters(&identity.voters))];
        for file in &self.kept {
            if let Some(membership) = file.layout().membership(&**file)? {
                memberships.push((file.layout().header.index, membership));
            }
        }
        Ok(Commitment::HardState(Voter {
            id: identity.member_id,
            incarnation: identity.incarnation,
            memberships,
            // It was committed before the snapshot was completed.
            commit: self.kept.last().map_or(0, |newest| newest.layout().footer.end.index),
        }))
    }

    /// What raft goes on from; seed and options are up to the caller.
    ///
    /// # Errors
    /// An entry is damaged, and there is nobody who could have another copy of it.
    pub(super) fn restart(
        &self,
        identity: &Identity,
        replayed: &Replayed,
        partial: Option<(Snapshot, u64)>,
    ) -> Result<Restart, DiskError> {
        let Replayed { reached, applied, terms, .. } = replayed;
        let (base_index, base_term) = terms.base();
        let mut memberships = replayed.memberships.clone();
        let before = memberships.iter().filter(|(index, _)| *index <= base_index).count();
        memberships.drain(..before.saturating_sub(1));
        // Those of the log are newer, if there are any behind the snapshot.
        let promised = if replayed.hard_state.term > 0 {
            replayed.hard_state
        } else {
            HardState { commit: replayed.hard_state.commit, ..self.hard_state() }
        };
        // A member that has no company was number 1 once; nobody else was.
        let vote = if promised.vote == 1 { identity.member_id } else { promised.vote };
        let config = Config {
            id: identity.member_id,
            incarnation: identity.incarnation,
            hard_state: mainstay_raft::HardState {
                term: promised.term.max(reached.term),
                vote,
                commit: promised.commit.max(applied.index).min(reached.index),
            },
            last_index: reached.index,
            last_term: reached.term,
            memberships,
            base_index,
            base_term,
            terms: terms.runs().to_vec(),
            applied: applied.index,
            damaged: replayed.damaged.clone(),
            partial_snapshot: partial,
            ..Config::default()
        };
        let alone = config
            .memberships
            .last()
            .is_some_and(|(_, membership)| membership.members() == [identity.member_id]);
        if let Some(damage) = replayed.damaged.first().filter(|_| alone) {
            return Err(DiskError::NobodyElse { index: damage.index });
        }
        let (revision, pending) = (applied.revision, replayed.pending.clone());
        Ok(Restart { config, revision, pending })
    }

    /// Raft's promises as the snapshot has them, if it is of this member.
    pub(super) fn hard_state(&self) -> HardState {
        let own = self.kept.last().filter(|newest| !newest.layout().is_foreign());
        own.map_or(HardState::default(), |newest| {
            let header = newest.layout().header;
            let (term, vote) = (header.raft_term, header.raft_vote);
            HardState { term, vote, commit: header.raft_commit }
        })
    }

    /// Applies the log: this thread reads it, and each shard has one that follows.
    pub(super) fn replay(&mut self, recovery: &mut Recovery) -> Result<(), DiskError> {
        let behind = self.behind();
        let mut progress = Progress::new();
        let Restored { state, problems, .. } = self;
        follow_all(state, || -> Result<Option<RawBatch>, DiskError> {
            let batch = recovery.next_raw()?;
            if batch.is_some() {
                check_beginning(recovery, behind, problems)?;
                progress.show(recovery);
            }
            Ok(batch)
        })?;
        progress.end();
        check_beginning(recovery, behind, problems)?;
        let Some(newest) = self.kept.last() else { return Ok(()) };
        let snapshot_end = newest.layout().footer.end.index.max(behind.index);
        let log_end = recovery.reached().index;
        if log_end < snapshot_end {
            return Err(DiskError::LogTooShort { file: newest.name(), snapshot_end, log_end });
        }
        Ok(())
    }
}

/// Applies batches to a state: this thread reads them, and each shard has one that follows.
fn follow_all<E>(
    state: &mut State,
    mut next: impl FnMut() -> Result<Option<RawBatch>, E>,
) -> Result<(), E> {
    let State { shards, rest } = state;
    let count = shards.len();
    std::thread::scope(|scope| {
        let mut followers = Vec::with_capacity(count);
        for (number, shard) in shards.iter_mut().enumerate() {
            let (sender, portions) = sync_channel::<Portion>(PORTIONS_READY);
            scope.spawn(move || follow(shard, (number, count), portions));
            followers.push(sender);
        }
        let mut portion = Vec::new();
        let mut portion_bytes = 0;
        while let Some(batch) = next()? {
            rest.follow_batch(&batch);
            portion_bytes += batch.bytes();
            portion.push(batch);
            if portion_bytes >= PORTION_BYTES {
                portion_bytes = 0;
                hand_over(&followers, std::mem::take(&mut portion));
            }
        }
        hand_over(&followers, portion);
        Ok(())
    })
}

/// The state that another member sent: its snapshot, and the entries behind the beginning of that.
/// Exactly what was at the entry that it gives. Blocks, on all processors.
pub(super) fn load_incoming(
    incoming: &Incoming,
    file: &SnapshotFile,
    cores: usize,
) -> io::Result<(State, Reached)> {
    let mut state = State::new(cores);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    load(file, &mut state.shards, threads).map_err(io::Error::other)?;
    state.load_rest(file.layout(), file).map_err(io::Error::other)?;
    let header = file.layout().header;
    let begins_with = Reached { index: header.index, term: header.term, revision: header.revision };
    let reached = follow_incoming(&mut state, incoming, begins_with)?;
    let end = file.layout().footer.end;
    if (reached.index, reached.revision) != (end.index, end.revision) {
        return Err(io::Error::other(format!("{reached:?} was sent behind a snapshot of {end:?}")));
    }
    Ok((state, reached))
}

/// Applies the entries that came with a snapshot.
fn follow_incoming(
    state: &mut State,
    incoming: &Incoming,
    begins_with: Reached,
) -> io::Result<Reached> {
    let mut reached = begins_with;
    let mut entries = incoming.entries();
    follow_all(state, || {
        loop {
            let Some(entry) = entries.next_entry()? else { return Ok(None) };
            if entry.index != reached.index + 1 || entry.revision_before != reached.revision {
                let index = entry.index;
                return Err(io::Error::other(format!("entry {index} was sent behind {reached:?}")));
            }
            let (index, term, revision) = (entry.index, entry.term, entry.revision_after);
            reached = Reached { index, term, revision };
            if entry.kind == EntryKind::Normal && !entry.payload.is_empty() {
                return RawBatch::of(&entry).map(Some).map_err(io::Error::other);
            }
        }
    })?;
    Ok(reached)
}

/// Makes a member the only one of its cluster, with everything that its log holds, whoever was a
/// member before. The others must never speak to it again.
pub(super) fn force_alone(
    mut directory: DataDirectory,
    identity: &Identity,
    options: LogOptions,
) -> Result<DataDirectory, DiskError> {
    let path = directory.path().to_owned();
    let folder = directory.snapshots()?;
    let restored = Restored::from(&folder, 1)?;
    let commitment = restored.commitment(identity)?;
    let mut partial = Partial::open(&folder).map_err(received(&path))?;
    if restored.interrupted(&partial)?.is_some() {
        let mut restored = restored;
        restored.open_log(directory, commitment, &mut partial, options)?;
        directory = DataDirectory::open(&path)?;
        return force_alone(directory, identity, options);
    }
    partial.clear().map_err(received(&path))?;
    let mut recovery = directory.recover_behind(commitment, restored.behind())?;
    while recovery.next_raw()?.is_some() {}
    let mut log = recovery.start(options)?;
    let alone = Membership {
        incarnations: vec![(identity.member_id, identity.incarnation)],
        ..Membership::of_voters(&[identity.member_id])
    };
    let newest = log.replayed.memberships.last().map(|(_, membership)| membership);
    let Reached { index, term, revision } = log.replayed.reached;
    if newest.is_none_or(|newest| newest.members() != alone.members() || newest.is_joint()) {
        let promised = match log.replayed.hard_state {
            HardState { term: 0, .. } => restored.hard_state(),
            promised => promised,
        };
        let term = promised.term.max(term);
        let index = index + 1;
        log.writer.append_entry(LogEntry {
            index,
            term,
            kind: EntryKind::Membership,
            revision_before: revision,
            revision_after: revision,
            payload: alone.encode(),
            staged: None,
        })?;
        let vote = identity.member_id;
        let number = log.writer.append_hard_state(HardState { term, vote, commit: index })?;
        log.writer.wait_blocking(number)?;
    }
    drop(log);
    let directory = DataDirectory::open(&path)?;
    let own = identity.members.iter().filter(|info| info.id == identity.member_id);
    let members = own.cloned().collect();
    directory.write_identity(&Identity { members, ..identity.clone() })?;
    Ok(directory)
}

/// What went wrong with a snapshot that was received.
fn received(path: &Path) -> impl Fn(io::Error) -> DiskError + use<> {
    DiskError::directory(path, "finishing the installation of a snapshot of another member")
}

/// Whether the log goes on right behind what was loaded.
fn check_beginning(
    recovery: &Recovery,
    behind: Behind,
    problems: &[SnapshotError],
) -> Result<(), DiskError> {
    let begins_after = recovery.begins_after().map_or(0, |reached| reached.index);
    if begins_after <= behind.index {
        return Ok(());
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let reason = if problems.is_empty() { "there is none".to_owned() } else { problems.join("; ") };
    Err(DiskError::NoSnapshot { log_begins_after: begins_after, reason })
}

fn hand_over(followers: &[SyncSender<Portion>], batches: Vec<RawBatch>) {
    let portion = Arc::new(batches);
    for follower in followers {
        follower.send(Arc::clone(&portion)).expect("a follower ends after this");
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
