//! What was in the store when it stopped: the newest snapshot that can be used, and the log behind
//! it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mainstay_raft::{Config, Membership, Snapshot};

use super::disk::{DiskError, Identity, Recovery, SnapshotFile, SnapshotFolder, load};
use crate::log::HardState;
use crate::log::raw::RawBatch;
use crate::log::replay::{Behind, Commitment, Replayed, Voter};
use crate::restored::{Portion, Restart, State, follow};
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

    /// What `state` holds: the log is read from the entry behind it.
    pub(super) fn behind(&self) -> Behind {
        self.kept.last().map_or(Behind::default(), |newest| {
            let header = newest.layout().header;
            Behind { index: header.index, term: header.term, revision: header.revision }
        })
    }

    /// Which entries of the log of this member count as committed: what the snapshots tell of it.
    #[expect(dead_code, reason = "the start of a member of a cluster uses it")]
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
    #[expect(dead_code, reason = "the start of a member of a cluster uses it")]
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
        let State { shards, rest } = state;
        let count = shards.len();
        std::thread::scope(|scope| -> Result<(), DiskError> {
            let mut followers = Vec::with_capacity(count);
            for (number, shard) in shards.iter_mut().enumerate() {
                let (sender, portions) = sync_channel::<Portion>(PORTIONS_READY);
                scope.spawn(move || follow(shard, (number, count), portions));
                followers.push(sender);
            }
            let mut portion = Vec::new();
            let mut portion_bytes = 0;
            while let Some(batch) = recovery.next_raw()? {
                check_beginning(recovery, behind, problems)?;
                progress.show(recovery);
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
