//! Core 0's keeper of snapshots: takes one when it is due, and gives up what nobody needs any more,
//! of the snapshots and of the log.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use mainstay_raft::{self as raft, Install, Membership};

use super::core::CoreState;
use super::disk::{
    Base, Draft, Incoming, Partial, SnapshotFile, SnapshotFolder, SnapshotThread, Verification,
};
use super::journal::Journal;
use super::restore::load_incoming;
use super::start::SnapshotSeat;
use super::thread::on_a_thread;
use super::timer::{monotonic_ms, sleep};
use super::transfers::{Shelf, serve};
use super::{blocking, spawn_local};
use crate::limits;
use crate::log::replay::Reached;
use crate::message::{Answer, Request};
use crate::record::Revision;
use crate::replica::Installed;
use crate::restored::State;
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
    /// Shared with those who send snapshots to other members.
    shelf: Rc<Shelf>,
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
    /// The state is going to be another one.
    Overtaken,
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
            shelf: Rc::new(Shelf::of(seat.kept)),
            damaged: seat.damaged,
            obsolete: Vec::new(),
            bytes_before: 0,
            grown: (monotonic_ms(), seat.log_bytes),
            retained: None,
            not_before_ms: 0,
        };
        let (_, Retention { base, .. }) = keeper.retention();
        keeper.set_base(base);
        let (core, shelf) = (Rc::clone(&keeper.core), Rc::clone(&keeper.shelf));
        spawn_local(serve(core, shelf, keeper.folder.clone()));
        spawn_local(keeper.run());
        Ok(())
    }

    async fn run(mut self) {
        while !self.core.snapshots_have_to_stop() {
            let install = self.shelf.install.take();
            if let Some(install) = install {
                self.install(&install).await;
            }
            self.retain().await;
            if self.is_due() {
                match self.take().await {
                    Ok(()) => continue,
                    Err(Ended::Stopped) => break,
                    Err(Ended::Overtaken) => continue,
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
            newest_end: self.shelf.kept.borrow().last().map(|newest| newest.kept().end),
        };
        let due = self.shelf.needed.get() || self.pace.is_due(&situation);
        due && now_ms >= self.not_before_ms
    }

    /// Takes a snapshot and checks it.
    async fn take(&mut self) -> Result<(), Ended> {
        let header = self.core.drive(|replica, _| replica.snapshot_header());
        let Some(header) = header else { return Ok(()) };
        let promised = self.journal().hard_state();
        let membership = self.membership(header.index);
        let header = Header {
            cluster_id: membership.as_ref().map_or(0, |_| self.folder.cluster_id()),
            raft_term: promised.term,
            raft_vote: promised.vote,
            raft_commit: promised.commit,
            ..header
        };
        let bytes_before = self.journal().bytes();
        let written = self.write(header, membership).await;
        if written.is_err() {
            self.thread.run(|draft| *draft = None).await;
        }
        let file = Arc::new(written?);
        self.verify(&file).await?;
        self.damaged.retain(|&index| index != header.index);
        self.obsolete.append(&mut self.damaged);
        self.shelf.kept.borrow_mut().push(file);
        self.shelf.needed.set(false);
        self.bytes_before = bytes_before;
        Ok(())
    }

    /// Who was a member at an entry, if anybody else is or was.
    fn membership(&self, index: u64) -> Option<Membership> {
        let in_force = self.core.drive(|replica, _| {
            let member = replica.member()?;
            let node = member.sequencer().node();
            Some((member.is_clustered(), node.membership_at(index)?.clone()))
        });
        let (has_company, membership) = in_force?;
        let of_cluster = has_company || self.folder.has_members();
        (of_cluster && self.folder.cluster_id() != 0).then_some(membership)
    }

    async fn write(
        &mut self,
        header: Header,
        membership: Option<Membership>,
    ) -> Result<SnapshotFile, Ended> {
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
                        let draft = draft.take().expect("it was begun");
                        draft.complete(end, membership.as_ref())
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
            Either::Right((ended, _)) => Err(ended),
            Either::Left((other, _)) => unreachable!("the wrong answer: {other:?}"),
        }
    }

    async fn stop(&self) -> Ended {
        loop {
            if let Err(ended) = self.check_stop() {
                return ended;
            }
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
        if self.core.snapshots_have_to_stop() {
            return Err(Ended::Stopped);
        }
        if self.shelf.install.borrow().is_some() {
            return Err(Ended::Overtaken);
        }
        Ok(())
    }

    fn retention(&self) -> (Revision, Retention) {
        let compacted = self.core.shared().compacted_revision();
        let kept: Vec<Kept> = self.shelf.kept.borrow().iter().map(|file| file.kept()).collect();
        (compacted, Retention::of(&kept, compacted))
    }

    fn set_base(&self, index: Option<u64>) {
        let kept = self.shelf.kept.borrow();
        let base = kept.iter().find(|file| Some(file.kept().index) == index);
        self.core.history.set_base(base.map(|file| Arc::clone(file) as Arc<dyn Base>));
    }

    /// Gives up the snapshots and the log that nobody needs.
    async fn retain(&mut self) {
        self.shelf.forget_sent(limits::SNAPSHOT_SENDING_MS);
        let (compacted, Retention { mut delete, base }) = self.retention();
        let count = self.shelf.kept.borrow().len();
        if self.retained == Some((compacted, count)) {
            return;
        }
        // Others may still need what is before it: then the oldest one stays the base for a while.
        let given_up = base.is_none_or(|base| self.give_up_log(base));
        if given_up {
            self.set_base(base);
        } else {
            let oldest = self.shelf.kept.borrow().first().map(|file| file.kept().index);
            delete.retain(|&index| Some(index) != oldest);
        }
        self.shelf.kept.borrow_mut().retain(|file| !delete.contains(&file.kept().index));
        delete.append(&mut self.obsolete);
        for index in delete {
            let folder = self.folder.clone();
            if let Err(error) = self.thread.run(move |_| folder.delete(index)).await {
                eprintln!("warning: deleting snapshot {index:x}: {error}");
            }
        }
        self.retained = given_up.then(|| (compacted, self.shelf.kept.borrow().len()));
    }

    /// Gives up the log up to where the base begins, unless others need it. Whether that is done.
    fn give_up_log(&self, base: u64) -> bool {
        let within_bounds = self.core.history.log_bytes() < limits::LOG_BYTES_FOR_PEERS;
        let sending = self.shelf.sending(limits::SNAPSHOT_SENDING_MS);
        let lagging = self.core.drive(|replica, _| {
            let node = replica.member().map(|member| member.sequencer().node());
            node.and_then(|node| node.peers().values().map(|peer| peer.matched).min())
        });
        // Of what is sent now the receiver needs all that is behind it; of others, what they lack.
        let needed_from = sending.into_iter().chain(lagging.filter(|&matched| matched > 0)).min();
        if within_bounds && needed_from.is_some_and(|needed| needed < base) {
            return false;
        }
        if !self.core.drive(|replica, _| replica.may_compact_log(base)) {
            return false;
        }
        // First the base, then what it stands for.
        self.set_base(Some(base));
        self.journal().release_before(base + 1);
        true
    }

    /// Lets another member's snapshot take the place of everything here. What goes wrong with it
    /// ends the process: the next start goes on with what was before, or with the snapshot.
    async fn install(&mut self, install: &Install) {
        if let Err(error) = self.try_to_install(install).await {
            eprintln!(
                "a snapshot of another member can't take the place of what is here: {error}\n\
                 stopping: the next start gets it anew"
            );
            std::process::exit(1);
        }
    }

    async fn try_to_install(&mut self, install: &Install) -> io::Result<()> {
        let partial = loop {
            match self.journal().partial() {
                Some(partial) => break partial,
                None => sleep(PAUSE_MIN).await,
            }
        };
        let (folder, cores) = (self.folder.clone(), self.core.shared().cores());
        let wanted = install.snapshot.clone();
        let (mut partial, read) = on_a_thread(move || {
            let read = read_incoming(&partial, &folder, &wanted, cores);
            (partial, read)
        })
        .await;
        let (incoming, file, (state, reached)) = match read {
            Ok(read) => read,
            Err(error) => {
                partial.clear()?;
                return Err(error);
            }
        };
        let begins_with = file.layout().header;
        if install.keeps_tail {
            self.mend(incoming).await?;
        } else {
            self.begin_log_anew(incoming, &file).await?;
            let kept = self.shelf.kept.take();
            self.obsolete.extend(kept.iter().map(|file| file.kept().index));
        }
        {
            let mut kept = self.shelf.kept.borrow_mut();
            kept.push(file);
            kept.sort_by_key(|file| file.kept().index);
            kept.dedup_by_key(|file| file.kept().index);
        }
        self.obsolete.retain(|&index| index != begins_with.index);
        self.set_base(Some(begins_with.index));
        self.journal().release_before(begins_with.index + 1);
        partial.clear()?;
        self.journal().give_partial_back(partial);
        self.bytes_before = self.journal().bytes();
        self.retained = None;
        self.core.drive(|replica, out| {
            replica.snapshot_installed(Installed { state, reached }, monotonic_ms(), out);
        });
        Ok(())
    }

    /// The log goes on behind the snapshot, beginning with the entries that came with it.
    async fn begin_log_anew(&self, incoming: Incoming, file: &SnapshotFile) -> io::Result<()> {
        let header = file.layout().header;
        let begins_with =
            Reached { index: header.index, term: header.term, revision: header.revision };
        let membership = file.layout().membership(file).map_err(io::Error::other)?;
        let membership = membership.ok_or_else(|| io::Error::other("nobody is a member"))?;
        self.journal().restart(begins_with, membership).await.map_err(io::Error::other)?;
        let mut incoming = Some(incoming.entries());
        while let Some(mut entries) = incoming.take() {
            let (rest, bunch) = blocking(move || {
                let bunch = entries.next_bunch(limits::ENTRY_BYTES, limits::LOG_APPENDS / 4);
                (entries, bunch)
            })
            .await;
            let bunch = bunch?;
            if !bunch.is_empty() {
                incoming = Some(rest);
                self.journal().append_committed(bunch).await.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// The log stays; what is damaged in it and came with the snapshot gets whole.
    async fn mend(&self, incoming: Incoming) -> io::Result<()> {
        let history = self.core.history.clone();
        let mended = blocking(move || {
            let mut entries = incoming.entries();
            while let Some(entry) = entries.next_entry()? {
                history.mend_blocking(&entry).map_err(io::Error::other)?;
            }
            Ok::<(), io::Error>(())
        });
        mended.await?;
        // Behind the snapshot, which knows nothing of them: the promises of this member.
        self.journal().repeat_hard_state().await.map_err(io::Error::other)
    }
}

type Read = (Incoming, Arc<SnapshotFile>, (State, Reached));

/// Checks what was received, gives it its name, and loads it.
fn read_incoming(
    partial: &Partial,
    folder: &SnapshotFolder,
    wanted: &raft::Snapshot,
    cores: usize,
) -> io::Result<Read> {
    let incoming = Incoming::open(partial)?;
    let incoming = incoming.ok_or_else(|| io::Error::other("it is not complete"))?;
    let file = incoming.install_file(folder)?;
    let layout = file.layout();
    if (layout.footer.end.index, layout.fingerprint()) != (wanted.index, wanted.fingerprint) {
        return Err(io::Error::other("it is another one than was announced"));
    }
    let loaded = load_incoming(&incoming, &file, cores)?;
    Ok((incoming, file, loaded))
}
