//! Core 0's keeper of snapshots: takes one when it is due, and gives up what nobody needs any more,
//! of the snapshots and of the log.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};

use super::core::CoreState;
use super::disk::{Base, Draft, SnapshotFile, SnapshotFolder, SnapshotThread, Verification};
use super::journal::Journal;
use super::spawn_local;
use super::start::SnapshotSeat;
use super::timer::{monotonic_ms, sleep};
use crate::limits;
use crate::message::{Answer, Request};
use crate::record::Revision;
use crate::snapshot::policy::{Kept, Pace, Retention, Situation};
use crate::snapshot::{Header, Part, Slice, Step, Taking};

/// How often to look whether a snapshot is due.
const TICK: Duration = Duration::from_millis(200);

/// Pauses shorter than this are left for later.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// What the thread works on.
type Work = Option<Draft>;

pub(super) struct Keeper {
    core: Rc<CoreState>,
    folder: SnapshotFolder,
    thread: SnapshotThread<Work>,
    pace: Pace,
    /// By index.
    kept: Vec<Arc<SnapshotFile>>,
    /// They stay for inspection until another one is complete.
    damaged: Vec<u64>,
    obsolete: Vec<u64>,
    /// The journal's bytes when the newest began.
    bytes_before: u64,
    /// When bytes were last seen to grow, and to how many.
    grown: (u64, u64),
    /// What was given up last: nothing changes until this does.
    retained: Option<(Revision, usize)>,
    /// After a failure.
    not_before_ms: u64,
}

/// Why a snapshot was not completed.
enum Ended {
    /// The store stops.
    Stopped,
    Failed(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Failed(error.to_string())
    }
}

impl Keeper {
    /// Begins to keep snapshots. Runs on core 0's executor.
    pub(super) fn start(core: Rc<CoreState>, seat: SnapshotSeat) -> io::Result<()> {
        let keeper = Keeper {
            core,
            folder: seat.folder,
            thread: SnapshotThread::spawn(None)?,
            pace: seat.pace,
            kept: seat.kept,
            damaged: seat.damaged,
            obsolete: Vec::new(),
            bytes_before: 0,
            grown: (monotonic_ms(), seat.log_bytes),
            retained: None,
            not_before_ms: 0,
        };
        let (_, Retention { base, .. }) = keeper.retention();
        keeper.set_base(base);
        spawn_local(keeper.run());
        Ok(())
    }

    async fn run(mut self) {
        while !self.core.snapshots_have_to_stop() {
            self.retain().await;
            if self.is_due() {
                match self.take().await {
                    Ok(()) => continue,
                    Err(Ended::Stopped) => break,
                    Err(Ended::Failed(reason)) => {
                        self.not_before_ms = monotonic_ms() + limits::SNAPSHOT_RETRY_MS;
                        eprintln!(
                            "warning: a snapshot was not completed, and is tried again in {} \
                             seconds: {reason}. Until then the log grows",
                            limits::SNAPSHOT_RETRY_MS / 1000
                        );
                    }
                }
            }
            sleep(TICK).await;
        }
        let core = Rc::clone(&self.core);
        // Its thread ends before the directory is unlocked.
        drop(self);
        core.snapshots_have_stopped();
    }

    fn journal(&self) -> &Journal {
        self.core.journal().expect("core 0 has the log")
    }

    fn is_due(&mut self) -> bool {
        let now_ms = monotonic_ms();
        let bytes = self.journal().bytes();
        if bytes != self.grown.1 {
            self.grown = (now_ms, bytes);
        }
        let facts = self.core.shared().facts();
        let situation = Situation {
            log_bytes: bytes - self.bytes_before,
            live_bytes: facts.iter().map(|core| core.live_bytes.load(Ordering::Relaxed)).sum(),
            idle_ms: now_ms - self.grown.0,
            compacted: self.core.shared().compacted_revision(),
            newest_end: self.kept.last().map(|newest| newest.kept().end),
        };
        now_ms >= self.not_before_ms && self.pace.is_due(&situation)
    }

    /// Takes a snapshot and checks it.
    async fn take(&mut self) -> Result<(), Ended> {
        let header = self.core.drive(|replica, _| replica.snapshot_header());
        let Some(header) = header else { return Ok(()) };
        let promised = self.journal().hard_state();
        let header = Header {
            raft_term: promised.term,
            raft_vote: promised.vote,
            raft_commit: promised.commit,
            ..header
        };
        let bytes_before = self.journal().bytes();
        let written = self.write(header).await;
        if written.is_err() {
            self.thread.run(|draft| *draft = None).await;
        }
        let file = Arc::new(written?);
        self.verify(&file).await?;
        self.damaged.retain(|&index| index != header.index);
        self.obsolete.append(&mut self.damaged);
        self.kept.push(file);
        self.bytes_before = bytes_before;
        Ok(())
    }

    async fn write(&mut self, header: Header) -> Result<SnapshotFile, Ended> {
        let folder = self.folder.clone();
        let begin = move |draft: &mut Work| -> io::Result<()> {
            *draft = Some(folder.draft(&header)?);
            Ok(())
        };
        self.thread.run(begin).await?;
        let started = Instant::now();
        let mut taking = Taking::new(header);
        loop {
            self.check_stop()?;
            match taking.step(self.journal().durable_index()) {
                Step::Take(part) => {
                    let run = if let Part::Entries { shard, .. } = &part { *shard } else { 0 };
                    let slice = self.slice(part).await?;
                    taking.took(&slice);
                    let add = move |draft: &mut Work| {
                        draft.as_mut().expect("it was begun").add(run as u32, slice)
                    };
                    let written = self.thread.run(add).await?;
                    self.pause(written, started).await;
                }
                Step::End => taking.end(self.core.drive(|replica, _| replica.snapshot_end())),
                Step::AwaitDurable(_) => sleep(PAUSE_MIN).await,
                Step::Complete(end) => {
                    let complete = move |draft: &mut Work| {
                        draft.take().expect("it was begun").complete(end, None)
                    };
                    return Ok(self.thread.run(complete).await?);
                }
            }
        }
    }

    async fn slice(&self, part: Part) -> Result<Slice, Ended> {
        let slice = pin!(self.core.ask(Request::SnapshotSlice(part)));
        let stop = pin!(self.stop());
        match select(slice, stop).await {
            Either::Left((Ok(Answer::SnapshotSlice(slice)), _)) => Ok(slice),
            // The core that was asked may be gone already.
            Either::Right(_) => Err(Ended::Stopped),
            Either::Left((other, _)) => unreachable!("the wrong answer: {other:?}"),
        }
    }

    async fn stop(&self) {
        while self.check_stop().is_ok() {
            sleep(TICK).await;
        }
    }

    /// Reads it back: what was before is given up because of it.
    async fn verify(&mut self, file: &Arc<SnapshotFile>) -> Result<(), Ended> {
        let started = Instant::now();
        let mut verification = Verification::new(Arc::clone(file));
        let mut bytes = 0;
        loop {
            self.check_stop()?;
            let (next, result) = self
                .thread
                .run(move |_| {
                    let result = verification.next();
                    (verification, result)
                })
                .await;
            verification = next;
            match result {
                Ok(Some(more)) => bytes += more,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.damaged.push(file.kept().index);
                    return Err(Ended::Failed(error.to_string()));
                }
            }
            self.pause(bytes, started).await;
        }
    }

    async fn pause(&self, bytes: u64, started: Instant) {
        let pause = self.pace.pause(bytes, started.elapsed());
        if pause >= PAUSE_MIN {
            sleep(pause).await;
        }
    }

    fn check_stop(&self) -> Result<(), Ended> {
        if self.core.snapshots_have_to_stop() { Err(Ended::Stopped) } else { Ok(()) }
    }

    fn retention(&self) -> (Revision, Retention) {
        let compacted = self.core.shared().compacted_revision();
        let kept: Vec<Kept> = self.kept.iter().map(|file| file.kept()).collect();
        (compacted, Retention::of(&kept, compacted))
    }

    fn set_base(&self, index: Option<u64>) {
        let base = self.kept.iter().find(|file| Some(file.kept().index) == index);
        self.core.history.set_base(base.map(|file| Arc::clone(file) as Arc<dyn Base>));
    }

    /// Gives up the snapshots and the log that nobody needs.
    async fn retain(&mut self) {
        let (compacted, Retention { mut delete, base }) = self.retention();
        if self.retained == Some((compacted, self.kept.len())) {
            return;
        }
        // First the base, then what it stands for.
        self.set_base(base);
        if let Some(base) = base {
            self.journal().release_before(base + 1);
        }
        self.kept.retain(|file| !delete.contains(&file.kept().index));
        delete.append(&mut self.obsolete);
        for index in delete {
            let folder = self.folder.clone();
            if let Err(error) = self.thread.run(move |_| folder.delete(index)).await {
                eprintln!("warning: deleting snapshot {index:x}: {error}");
            }
        }
        self.retained = Some((compacted, self.kept.len()));
    }
}
