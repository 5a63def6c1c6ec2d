//! One core's replica in the real world: its messages, its tasks, its waiting requests.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use mainstay_raft::{EntriesWanted, Install, SnapshotWanted};

use super::company::Connected;
use super::disk::{HistoryError, HistoryReader};
use super::journal::Journal;
use super::local::{AbortOnPanic, Flag};
use super::mesh::Mesh;
use super::pacing::Pacing;
use super::thread::on_a_thread;
use super::timer::{monotonic_ms, sleep};
use super::{spawn_local, yield_now};
use crate::cluster::MemberInfo;
use crate::error::StoreError;
use crate::limits::{LOOKUP_BUNCHES, LOOKUPS_AT_ONCE};
use crate::message::{Answer, Message, Outcome, Request, Token};
use crate::mvcc::Lookup;
use crate::peer::PeerMessage;
use crate::record::Record;
use crate::replica::{Heavy, Member, Output, Replica};
use crate::shared::Shared;
use crate::watch::WatcherId;

/// How often leases are looked at, as in etcd.
const TICK: Duration = Duration::from_millis(500);

/// Between two of a leader's signs of life, unless somebody decides otherwise: as in etcd.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// The longest that a core sleeps: short for those who wait, and costs next to nothing.
const BEAT: Duration = Duration::from_millis(50);

/// Messages taken from one ring before other tasks get their turn.
const MESSAGES_AT_ONCE: usize = 128;

/// The connections to other members, on core 0.
pub(super) trait PeerLinks {
    /// Sends as soon as it can. A message of raft may be lost; a request is answered once, by whom it
    /// was sent to or because that can't be expected any more.
    fn send(&self, to: u64, message: PeerMessage);
    /// Who is a member now, this one included.
    fn set_members(&self, members: &[MemberInfo]);
}

/// What raft wants of the log and of snapshots, on core 0.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) entries: Vec<EntriesWanted>,
    pub(super) snapshots: Vec<SnapshotWanted>,
    pub(super) install: Option<Box<Install>>,
}

/// A request that has not been answered, or whose answer nobody has fetched.
#[derive(Default)]
struct Slot {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// One core's share of the store, with everything that happens around it.
pub(super) struct CoreState {
    number: usize,
    replica: RefCell<Replica>,
    shared: Arc<Shared>,
    mesh: Mesh<Message>,
    /// The log, on core 0.
    journal: Option<Journal>,
    /// Snapshots are to be ended, and whether that is so.
    snapshots_stop: Cell<bool>,
    snapshots_stopped: Flag,
    pub(super) history: HistoryReader,
    slots: RefCell<HashMap<Token, Slot>>,
    next_token: Cell<Token>,
    watchers: RefCell<HashMap<WatcherId, Waker>>,
    /// What the log is to be asked for, by the replica's numbers.
    lookups: RefCell<VecDeque<(u64, Vec<Lookup>)>>,
    pump: Flag,
    resume: Flag,
    compact: Flag,
    work: Flag,
    look_up: Flag,
    /// Bunches that are being looked up.
    bunches: Cell<usize>,
    peers: RefCell<Option<Rc<dyn PeerLinks>>>,
    connected: RefCell<Option<Connected>>,
    wanted: RefCell<Wanted>,
    is_wanted: Flag,
    /// Between two ticks of raft.
    heartbeat: Cell<Duration>,
}

impl CoreState {
    pub(super) fn new(
        number: usize,
        replica: Replica,
        mesh: Mesh<Message>,
        journal: Option<Journal>,
        history: HistoryReader,
    ) -> Rc<CoreState> {
        Rc::new(CoreState {
            number,
            shared: Arc::clone(replica.shared()),
            replica: RefCell::new(replica),
            mesh,
            snapshots_stop: Cell::new(false),
            snapshots_stopped: Flag::default(),
            journal,
            history,
            slots: RefCell::default(),
            next_token: Cell::new(1),
            watchers: RefCell::default(),
            pump: Flag::default(),
            resume: Flag::default(),
            compact: Flag::default(),
            work: Flag::default(),
            lookups: RefCell::default(),
            look_up: Flag::default(),
            bunches: Cell::new(0),
            peers: RefCell::default(),
            connected: RefCell::default(),
            wanted: RefCell::default(),
            is_wanted: Flag::default(),
            heartbeat: Cell::new(HEARTBEAT),
        })
    }

    /// Sets the interval between a leader's signs of life. To be called before the start.
    pub(super) fn set_heartbeat(&self, heartbeat: Duration) {
        self.heartbeat.set(heartbeat);
    }

    /// Reaches other members over these connections from now on.
    pub(super) fn set_peers(self: &Rc<Self>, peers: Rc<dyn PeerLinks>) {
        peers.set_members(&self.members());
        *self.peers.borrow_mut() = Some(peers);
    }

    /// Keeps the connections until the end.
    pub(super) fn set_connected(&self, connected: Connected) {
        *self.connected.borrow_mut() = Some(connected);
    }

    pub(super) fn take_connected(&self) -> Option<Connected> {
        self.connected.borrow_mut().take()
    }

    /// Who is a member, as core 0 knows it.
    pub(super) fn members(&self) -> Vec<MemberInfo> {
        self.replica.borrow().member().map(Member::members).unwrap_or_default()
    }

    /// Resolves when raft wants something of the log or of snapshots: all that it wants.
    pub(super) async fn wanted(&self) -> Wanted {
        self.is_wanted.lowered().await;
        std::mem::take(&mut *self.wanted.borrow_mut())
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Starts the tasks that keep this core going.
    pub(super) fn start(self: &Rc<Self>) {
        spawn_local(Rc::clone(self).exchange_messages());
        spawn_local(Rc::clone(self).resume_work());
        spawn_local(Rc::clone(self).compact());
        spawn_local(Rc::clone(self).work());
        spawn_local(Rc::clone(self).answer_lookups());
        // The log may have brought back what was compacted before.
        self.compact.raise();
        if self.journal.is_some() {
            spawn_local(Rc::clone(self).pump_batches());
            spawn_local(Rc::clone(self).follow_journal());
            if self.replica.borrow().member().is_some_and(Member::waits_for_begun_writes) {
                spawn_local(Rc::clone(self).follow_begun_writes());
            }
        }
        if self.journal.is_some() {
            spawn_local(Rc::clone(self).tick_raft());
        }
        spawn_local(Rc::clone(self).tick());
        spawn_local(beat());
    }

    /// Lets the replica act, and carries out what comes of it.
    pub(super) fn drive<R>(self: &Rc<Self>, act: impl FnOnce(&mut Replica, &mut Output) -> R) -> R {
        let _guard = AbortOnPanic;
        let mut out = Output::default();
        let mut replica = self.replica.borrow_mut();
        let result = act(&mut replica, &mut out);
        let interest_rose = replica.take_interest_rose();
        drop(replica);
        self.carry_out(out);
        if interest_rose {
            self.mesh.wake_self();
        }
        result
    }

    fn carry_out(self: &Rc<Self>, out: Output) {
        for batch in out.commits {
            for core in (0..self.shared.cores()).filter(|&core| core != self.number) {
                self.mesh.send_quietly(core, Message::Committed(Arc::clone(&batch)));
                let wanted = self.shared.is_interested(core) || batch.compacts();
                if wanted || self.mesh.is_crowded(core) {
                    self.mesh.wake(core);
                }
            }
        }
        for (core, message) in out.messages {
            self.mesh.send_quietly(core, message);
            self.mesh.wake(core);
        }
        for write in out.writes {
            self.journal.as_ref().expect("only core 0 has the log").write(write);
        }
        if !out.peer.is_empty() || out.members.is_some() {
            self.tell_peers(out.peer, out.members.as_deref());
        }
        if !out.entries_wanted.is_empty()
            || !out.snapshots_wanted.is_empty()
            || out.install.is_some()
        {
            let mut wanted = self.wanted.borrow_mut();
            wanted.entries.extend(out.entries_wanted);
            wanted.snapshots.extend(out.snapshots_wanted);
            wanted.install = out.install.or(wanted.install.take());
            self.is_wanted.raise();
        }
        for (token, outcome) in out.answers {
            // A request that was dropped has no slot any more.
            if let Some(slot) = self.slots.borrow_mut().get_mut(&token) {
                slot.outcome = Some(outcome);
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
        for watcher in out.watchers {
            if let Some(waker) = self.watchers.borrow_mut().remove(&watcher) {
                waker.wake();
            }
        }
        for heavy in out.heavy {
            spawn_local(Rc::clone(self).evaluate(heavy));
        }
        if out.work {
            self.work.raise();
        }
        if out.pump {
            self.pump.raise();
        }
        if out.resume {
            self.resume.raise();
        }
        if out.compact {
            self.compact.raise();
        }
        if !out.lookups.is_empty() {
            self.lookups.borrow_mut().extend(out.lookups);
            self.look_up.raise();
        }
    }

    /// What nobody can be told is lost.
    fn tell_peers(&self, messages: Vec<(u64, PeerMessage)>, members: Option<&[MemberInfo]>) {
        let peers = self.peers.borrow();
        let Some(peers) = peers.as_ref() else { return };
        for (to, message) in messages {
            peers.send(to, message);
        }
        if let Some(members) = members {
            peers.set_members(members);
        }
    }

    /// Asks the replica and waits for the answer.
    pub(super) async fn ask(self: &Rc<Self>, request: Request) -> Outcome {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        self.slots.borrow_mut().insert(token, Slot::default());
        let _forget = ForgetSlot { core: self, token };
        self.drive(|replica, out| replica.request(token, request, monotonic_ms(), out));
        poll_fn(|context| {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(&token).expect("forgotten only when this is done");
            match slot.outcome.take() {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Resolves when `watcher` has been woken since the last time it was told to wait.
    pub(super) async fn woken(&self, watcher: WatcherId) {
        let mut first = true;
        poll_fn(|context| {
            let mut watchers = self.watchers.borrow_mut();
            if first || watchers.contains_key(&watcher) {
                first = false;
                watchers.insert(watcher, context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    pub(super) fn forget_watcher(self: &Rc<Self>, watcher: WatcherId) {
        self.watchers.borrow_mut().remove(&watcher);
        self.drive(|replica, _| replica.unsubscribe(watcher));
    }

    async fn exchange_messages(self: Rc<Self>) {
        loop {
            let count = self.mesh.receive(MESSAGES_AT_ONCE, |from, message| {
                self.drive(|replica, out| replica.receive(from, message, monotonic_ms(), out));
            });
            let overflowing = self.mesh.flush();
            if count == 0 && !overflowing {
                self.mesh.sleep().await;
            } else {
                yield_now().await;
            }
        }
    }

    async fn resume_work(self: Rc<Self>) {
        loop {
            self.resume.lowered().await;
            let mut pacing = Pacing::begin();
            loop {
                pacing.pause().await;
                self.drive(|replica, out| replica.resume(monotonic_ms(), out));
                if !self.resume.lower() {
                    break;
                }
            }
        }
    }

    async fn work(self: Rc<Self>) {
        loop {
            self.work.lowered().await;
            let mut pacing = Pacing::begin();
            while self.drive(|replica, out| replica.work_slice(monotonic_ms(), out)) {
                pacing.pause().await;
            }
        }
    }

    async fn evaluate(self: Rc<Self>, heavy: Heavy) {
        let stager = self.journal.as_ref().and_then(Journal::stager);
        let done = on_a_thread(move || {
            let mut done = heavy.run();
            if let (Some(payload), Some(stager)) = (done.payload(), stager) {
                payload.staged = stager.stage(&payload.data);
            }
            done
        });
        let done = done.await;
        self.drive(|replica, out| replica.evaluated(done, monotonic_ms(), out));
    }

    async fn compact(self: Rc<Self>) {
        loop {
            self.compact.lowered().await;
            let mut pacing = Pacing::begin();
            while self.drive(|replica, out| replica.compact_slice(monotonic_ms(), out)) {
                pacing.pause().await;
            }
        }
    }

    /// Asks the log for older versions, for a few bunches of readers at once: one that has to wait
    /// for a key index to be made again does not hold up all others.
    async fn answer_lookups(self: Rc<Self>) {
        loop {
            let bunch = match self.bunches.get() < LOOKUP_BUNCHES {
                true => self.next_lookups(),
                false => Vec::new(),
            };
            if bunch.is_empty() {
                self.look_up.lowered().await;
                continue;
            }
            self.bunches.set(self.bunches.get() + 1);
            spawn_local(Rc::clone(&self).answer_bunch(bunch));
        }
    }

    async fn answer_bunch(self: Rc<Self>, bunch: Vec<(u64, Vec<Lookup>)>) {
        let all = bunch.iter().flat_map(|(_, lookups)| lookups).cloned().collect();
        match self.history.look_up(all).await {
            Ok(found) => {
                let mut found = found.into_iter();
                for (id, lookups) in bunch {
                    self.answer_lookup(id, Ok(found.by_ref().take(lookups.len()).collect()));
                }
            }
            Err(error) if bunch.len() == 1 => self.answer_lookup(bunch[0].0, Err(error)),
            // What one of them needs can't be read: the others are not to suffer for it.
            Err(_) => {
                for (id, lookups) in bunch {
                    let found = self.history.look_up(lookups).await;
                    self.answer_lookup(id, found);
                }
            }
        }
        self.bunches.set(self.bunches.get() - 1);
        self.look_up.raise();
    }

    fn answer_lookup(self: &Rc<Self>, id: u64, found: Result<Vec<Option<Record>>, HistoryError>) {
        let found = found.map_err(|error| StoreError::HistoryUnreadable(error.to_string()));
        self.drive(|replica, out| replica.history_found(id, found, monotonic_ms(), out));
    }

    /// What is waiting, as much of it as is looked up at once, with the replica's numbers.
    fn next_lookups(&self) -> Vec<(u64, Vec<Lookup>)> {
        let mut waiting = self.lookups.borrow_mut();
        let (mut bunch, mut count) = (Vec::new(), 0);
        while count < LOOKUPS_AT_ONCE
            && let Some((id, lookups)) = waiting.pop_front()
        {
            count += lookups.len();
            bunch.push((id, lookups));
        }
        bunch
    }

    /// Packs what has come up into batches. One turn of other tasks goes by first, so that
    /// everything that is about to come goes along.
    async fn pump_batches(self: Rc<Self>) {
        let journal = self.journal.as_ref().expect("started on core 0");
        loop {
            self.pump.lowered().await;
            yield_now().await;
            self.drive(|replica, out| replica.pump(journal.depth(), out));
        }
    }

    async fn follow_journal(self: Rc<Self>) {
        let journal = self.journal.as_ref().expect("started on core 0");
        loop {
            let durable = journal.durable().await;
            self.drive(|replica, out| {
                replica.written(durable, monotonic_ms(), out);
                replica.pump(journal.depth(), out);
            });
        }
    }

    async fn follow_begun_writes(self: Rc<Self>) {
        let journal = self.journal.as_ref().expect("started on core 0");
        loop {
            let begun = journal.begun().await;
            self.drive(|replica, out| replica.submitted(begun, monotonic_ms(), out));
        }
    }

    /// Raft counts all the time that passes, also that in which this process did not run.
    async fn tick_raft(self: Rc<Self>) {
        const TICKS_MAX: u64 = 100;
        let interval_ms = (self.heartbeat.get().as_millis() as u64).max(1);
        let mut ticked_ms = monotonic_ms();
        loop {
            sleep(self.heartbeat.get()).await;
            let now_ms = monotonic_ms();
            let ticks = (now_ms - ticked_ms) / interval_ms;
            ticked_ms += ticks * interval_ms;
            if self.shared.is_clustered() {
                for _ in 0..ticks.min(TICKS_MAX) {
                    self.drive(|replica, out| replica.raft_tick(now_ms, out));
                }
            }
        }
    }

    async fn tick(self: Rc<Self>) {
        loop {
            sleep(TICK).await;
            self.drive(|replica, out| replica.tick(monotonic_ms(), out));
            self.refresh_facts();
            self.check_space();
            // Commits that nobody here waits for arrive without a wake-up, and should not pile up.
            self.mesh.wake_self();
        }
    }

    /// The log, on core 0.
    pub(super) fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Whether no more snapshots are to be taken; the present one is to be given up.
    pub(super) fn snapshots_have_to_stop(&self) -> bool {
        self.snapshots_stop.get()
    }

    /// No snapshot is being taken any more.
    pub(super) fn snapshots_have_stopped(&self) {
        self.snapshots_stopped.raise();
    }

    /// Lets requests be refused that would fill a full disk, and admits them when it is not.
    fn check_space(self: &Rc<Self>) {
        let Some(journal) = &self.journal else { return };
        let full = journal.is_out_of_space();
        match (self.shared.set_disk_is_full(full), full) {
            (false, true) => eprintln!(
                "warning: there is no space for the log to grow: requests that add to the store \
                 are refused until there is. Free space, delete keys, or compact"
            ),
            (true, false) => eprintln!("there is space for the log again"),
            _ => {}
        }
        // Another member may have a disk with room.
        if full && self.shared.is_clustered() && self.shared.is_leader() {
            self.drive(|replica, out| replica.hand_over(monotonic_ms(), out));
        }
    }

    /// What a door keeps under this name.
    pub(super) async fn document(self: &Rc<Self>, name: Bytes) -> Option<Bytes> {
        match self.ask(Request::Document { name }).await {
            Ok(Answer::Document(content)) => content,
            other => unreachable!("the wrong answer: {other:?}"),
        }
    }

    /// Brings this core's share of the status up to date.
    pub(super) fn refresh_facts(&self) {
        let mut replica = self.replica.borrow_mut();
        let facts = &self.shared.facts()[self.number];
        facts.note(replica.shard().mvcc().usage());
        facts.watchers.store(replica.hub().len() as u64, Ordering::Relaxed);
        let leases = replica.member().map_or(0, Member::lease_count);
        facts.leases.store(leases as u64, Ordering::Relaxed);
    }

    /// Lets another member lead before this one stops, so that nobody waits for an election.
    pub(super) async fn hand_over(self: &Rc<Self>) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const PAUSE: Duration = Duration::from_millis(5);
        if self.journal.is_none() || !self.shared.is_clustered() || !self.shared.is_leader() {
            return;
        }
        self.drive(|replica, out| replica.hand_over(monotonic_ms(), out));
        let begun_ms = monotonic_ms();
        while self.shared.is_leader() && monotonic_ms() - begun_ms < PATIENCE.as_millis() as u64 {
            sleep(PAUSE).await;
        }
    }

    /// Lets go of the log when everything is in it.
    pub(super) async fn close(self: &Rc<Self>) {
        if let Some(journal) = &self.journal {
            self.drive(|replica, out| {
                replica.stop(out);
                replica.pump(journal.depth(), out);
            });
            self.stop_snapshots();
            self.snapshots_stopped.lowered().await;
            journal.close().await;
        }
    }

    /// No more snapshots, and no more of the one that is being taken.
    pub(super) fn stop_snapshots(&self) {
        self.snapshots_stop.set(true);
    }

    /// Whether everything that was asked has been answered and everything ordered is durable.
    pub(super) fn is_quiet(&self) -> bool {
        self.slots.borrow().is_empty() && self.replica.borrow().is_quiet()
    }
}

/// Wakes this core now and then. An executor that was kept from its processor just when it was about
/// to go on (on a busy machine) takes the timer that has run out meanwhile for a sign that there is
/// nothing to do, and sleeps until the next event: this is one.
async fn beat() {
    loop {
        sleep(BEAT).await;
    }
}

struct ForgetSlot<'a> {
    core: &'a CoreState,
    token: Token,
}

impl Drop for ForgetSlot<'_> {
    fn drop(&mut self) {
        let slot = self.core.slots.borrow_mut().remove(&self.token);
        if slot.is_some_and(|slot| slot.waker.is_some()) {
            self.core.replica.borrow_mut().forget(self.token);
        }
    }
}
