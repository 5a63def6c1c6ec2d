//! One core's share of the store: its shard, its watchers, and what it owes to others.
//!
//! A replica is a state machine. Requests, messages from other cores, the log's progress and the
//! time come in by method calls; everything that has to happen outside goes out in [`Output`].
//! Core 0 also has the [`leader`]: order, leases, coordination of requests with several owners.

mod collect;
mod coordinator;
mod heavy;
#[cfg(test)]
mod history_tests;
mod leader;
mod owner;
mod past;
mod reading;
mod reads;
mod snapshot;
#[cfg(test)]
mod stalled_tests;
mod state_hash;
#[cfg(test)]
mod tests;
mod usage;
mod work;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::effect::{Control, Deleted, Item, SharedBatch};
use crate::error::StoreError;
use crate::limits;
use crate::message::{Answer, Gather, Message, Outcome, Request, Slice, Token};
use crate::mvcc::Lookup;
use crate::record::{LeaseId, Record, Revision};
use crate::request::{Transaction, WatchRequest};
use crate::sequencer::{Append, Committed};
use crate::shard::{self, Done, Shard};
use crate::shared::Shared;
use crate::snapshot::Part;
use crate::watch::{WatchHub, WatcherId};

use collect::Collecting;
pub use heavy::{Heavy, HeavyDone};
pub use leader::Leader;
use owner::Owner;
use past::PastReads;
use reading::Looking;
use reads::{Gathering, SLICE_STEPS, Sum};
use usage::UsageByPrefix;

/// What has to happen outside of a replica, in this order.
#[derive(Debug, Default)]
pub struct Output {
    /// Committed: to every other core, before `messages`, which may tell of it. The cores need not
    /// be woken for it unless they are interested.
    pub commits: Vec<SharedBatch>,
    /// To other cores, in order.
    pub messages: Vec<(usize, Message)>,
    pub answers: Vec<(Token, Outcome)>,
    /// To the log, in order.
    pub appends: Vec<Append>,
    pub watchers: Vec<WatcherId>,
    /// There is something to pack into a batch: call [`Replica::pump`] soon.
    pub pump: bool,
    /// Work was left for later: call [`Replica::resume`] soon.
    pub resume: bool,
    /// To be looked up in the log, for [`Replica::history_found`]; by number.
    pub lookups: Vec<(u64, Vec<Lookup>)>,
    /// To be run on some other thread; the result goes to [`Replica::evaluated`].
    pub heavy: Vec<Heavy>,
    /// There is work that no one waits for in this turn: call [`Replica::work_slice`] until it says
    /// that there is no more.
    pub work: bool,
    /// There is history to forget: call [`Replica::compact_slice`] until it says there is not.
    pub compact: bool,
}

/// Where the leader puts messages: those to its own core wait until it has finished what it is at.
struct Mail<'a> {
    own: &'a mut VecDeque<Message>,
    out: &'a mut Output,
}

impl Mail<'_> {
    fn send(&mut self, to: usize, message: Message) {
        if to == 0 {
            self.own.push_back(message);
        } else {
            self.out.messages.push((to, message));
        }
    }
}

/// Names a request from any core: who asked, and its token there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub core: usize,
    pub token: Token,
}

impl Ticket {
    /// Tokens count from 1 at each start: 2^56 of them last for centuries.
    const TOKEN_BITS: u32 = 56;

    fn pack(self) -> shard::RequestId {
        assert!(self.token < 1 << Self::TOKEN_BITS);
        (self.core as u64) << Self::TOKEN_BITS | self.token
    }

    fn unpack(id: shard::RequestId) -> Ticket {
        let core = (id >> Self::TOKEN_BITS) as usize;
        Ticket { core, token: id & ((1 << Self::TOKEN_BITS) - 1) }
    }
}

const _: () = assert!(crate::limits::CORES <= 1 << (u64::BITS - Ticket::TOKEN_BITS));

/// Keys that each batch looks at for versions to evict, besides two for each of its changes: in the
/// end as many leave memory as come.
const EVICTIONS_MIN: usize = 64;

/// One core's share of the store.
pub struct Replica {
    core: usize,
    cores: usize,
    shared: Arc<Shared>,
    shard: Shard,
    hub: WatchHub,
    leader: Option<Leader>,
    /// Messages of this core to itself.
    own: VecDeque<Message>,
    /// Answers of this core's requests that depend on what is not committed yet.
    hidden: BTreeMap<Revision, Vec<(Token, Outcome)>>,
    hidden_answers: usize,
    /// Transactions whose lease this shard does not know, to be tried again when everything that
    /// was committed when they came (up to this index) is applied.
    unknown_lease: VecDeque<(u64, Ticket, Transaction)>,
    /// Leases that are held back for their revocation, and the freeze that does it.
    ending_leases: HashMap<LeaseId, shard::Token>,
    /// How many such leases each of these freezes still holds back.
    ending_freezes: HashMap<shard::Token, usize>,
    /// The coordinator's wishes that wait behind other freezes.
    waiting_gathers: HashMap<shard::Token, Gather>,
    collecting: VecDeque<Collecting>,
    /// Deletions that nobody looks at any more, to be dropped a few records at a time.
    dropping: Vec<Arc<Deleted>>,
    dropping_records: Vec<Record>,
    /// Index of the newest batch applied here.
    applied_index: u64,
    /// Reads in progress. They have numbers of their own: one that starts again is another.
    reads: HashMap<u64, Gathering>,
    next_read: u64,
    /// Slices of reads that wait for the log, and what they miss.
    looking_up: HashMap<u64, Looking>,
    /// Keys that all of these are about.
    looked_for: usize,
    next_lookup: u64,
    /// Transactions that wait for ranges at older revisions.
    past: HashMap<Token, PastReads>,
    interested: bool,
    /// Since [`take_interest_rose`](Replica::take_interest_rose) was asked.
    interest_rose: bool,
}

impl Replica {
    /// A share with the state that the log held up to `applied_index`, on core `core`.
    pub fn new(
        core: usize,
        cores: usize,
        shared: Arc<Shared>,
        shard: Shard,
        hub: WatchHub,
        leader: Option<Leader>,
        applied_index: u64,
    ) -> Replica {
        assert!(core < cores);
        assert_eq!(leader.is_some(), core == 0);
        Replica {
            core,
            cores,
            shared,
            shard,
            hub,
            leader,
            own: VecDeque::new(),
            hidden: BTreeMap::new(),
            hidden_answers: 0,
            unknown_lease: VecDeque::new(),
            ending_leases: HashMap::new(),
            ending_freezes: HashMap::new(),
            waiting_gathers: HashMap::new(),
            collecting: VecDeque::new(),
            dropping: Vec::new(),
            dropping_records: Vec::new(),
            applied_index,
            reads: HashMap::new(),
            next_read: 1,
            looking_up: HashMap::new(),
            looked_for: 0,
            next_lookup: 1,
            past: HashMap::new(),
            interested: false,
            interest_rose: false,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn hub(&mut self) -> &mut WatchHub {
        &mut self.hub
    }

    /// Begins a watch; `committed` is the store's revision.
    ///
    /// # Errors
    /// `Compacted` if the start revision is.
    pub fn subscribe(
        &mut self,
        request: &WatchRequest,
        committed: Revision,
    ) -> Result<WatcherId, StoreError> {
        let watcher = self.hub.subscribe(request, committed)?;
        self.show_interest();
        Ok(watcher)
    }

    pub fn unsubscribe(&mut self, watcher: WatcherId) {
        self.hub.unsubscribe(watcher);
        self.show_interest();
    }

    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    /// A door of this core asks. The answer comes in some output, under the same token.
    pub fn request(&mut self, token: Token, request: Request, now_ms: u64, out: &mut Output) {
        match request {
            Request::Range(request) => self.range((token, 1), request, false, out),
            Request::HashKv { revision } => {
                self.sum((token, 1), revision, Sum::Hash(Box::default()), out);
            }
            Request::Usage { depth, top } => {
                self.sum((token, 1), 0, Sum::Usage(UsageByPrefix::new(depth, top)), out);
            }
            Request::Transact(transaction) => self.transact(token, transaction, out),
            Request::SnapshotSlice(part) => {
                let shard = if let Part::Entries { shard, .. } = &part { *shard } else { 0 };
                self.send(shard, Message::TakeSlice { token, part }, out);
            }
            request => {
                let message = Message::Forward { token, request };
                self.send(0, message, out);
            }
        }
        self.resume(now_ms, out);
    }

    /// Another core says something.
    pub fn receive(&mut self, from: usize, message: Message, now_ms: u64, out: &mut Output) {
        self.handle(from, message, now_ms, out);
        self.resume(now_ms, out);
    }

    /// Does what this core has told itself to do, a bounded amount of it.
    pub fn resume(&mut self, now_ms: u64, out: &mut Output) {
        const MESSAGES_MAX: usize = 64;
        for _ in 0..MESSAGES_MAX {
            let Some(message) = self.own.pop_front() else { break };
            // Slices of one large read would otherwise follow each other without a pause.
            let pause = matches!(&message, Message::SliceRead { .. } | Message::Counted { .. });
            self.handle(self.core, message, now_ms, out);
            if pause {
                break;
            }
        }
        out.resume |= !self.own.is_empty();
        if let Some(leader) = &self.leader {
            out.pump |= leader.has_work();
        }
        self.show_interest();
    }

    /// Whether this core has begun to wait for commits. What came before lies in its rings without
    /// a wake-up, so it has to look at them.
    pub fn take_interest_rose(&mut self) -> bool {
        std::mem::take(&mut self.interest_rose)
    }

    /// Nobody waits for the answer to this request any more: a read of many slices ends.
    pub fn forget(&mut self, token: Token) {
        self.reads.retain(|_, read| read.token != token);
        self.past.remove(&token);
    }

    /// Whether nothing waits: no request, nothing to order.
    pub fn is_quiet(&self) -> bool {
        let ordered = self
            .leader
            .as_ref()
            .is_none_or(|leader| !leader.has_work() && leader.sequencer().in_flight() == 0);
        let coordinated = self.leader.as_ref().is_none_or(Leader::is_quiet);
        let working = self.shard.is_ending() || !self.collecting.is_empty();
        let asked = !self.hidden.is_empty() || !self.reads.is_empty() || !self.past.is_empty();
        ordered && coordinated && self.own.is_empty() && !asked && !working
    }

    /// Puts what waits into batches, as far as the log may have writes in flight.
    pub fn pump(&mut self, in_flight_max: usize, out: &mut Output) {
        let leader = self.leader.as_mut().expect("only core 0 orders");
        let committed = leader.pump(in_flight_max, out);
        // Relaxed batches hold no controls, to which the time would matter.
        self.commit(committed, 0, out);
    }

    /// The log's writes were handed to the kernel up to `index`.
    pub fn submitted(&mut self, index: u64, now_ms: u64, out: &mut Output) {
        let leader = self.leader.as_mut().expect("only core 0 has the log");
        let progress = leader.submitted(index);
        self.commit(progress.committed, now_ms, out);
        self.resume(now_ms, out);
    }

    /// The store stops: nothing more is going to be written.
    pub fn stop(&mut self, out: &mut Output) {
        if let Some(leader) = &mut self.leader {
            leader.close_ceiling();
        }
        self.resume(0, out);
    }

    /// The log is durable up to `index`.
    pub fn persisted(&mut self, index: u64, now_ms: u64, out: &mut Output) {
        let leader = self.leader.as_mut().expect("only core 0 has the log");
        let progress = leader.persisted(index);
        self.shared.remove_uncommitted(progress.durable_bytes);
        self.commit(progress.committed, now_ms, out);
        self.resume(now_ms, out);
    }

    fn commit(&mut self, committed: Vec<Committed>, now_ms: u64, out: &mut Output) {
        for committed in committed {
            let batch = committed.batch;
            self.shared.set_committed(batch.revision_after, batch.index, batch.term);
            out.commits.push(Arc::clone(&batch));
            self.committed(&batch, out);
            for ticket in committed.tickets {
                let leader = self.leader.as_mut().expect("checked");
                let mut mail = Mail { own: &mut self.own, out };
                leader.control_committed(ticket, &self.shared, now_ms, &mut mail);
            }
            let leader = self.leader.as_mut().expect("checked");
            leader.note_ceiling(&batch);
        }
    }

    /// Time passes: leases expire.
    pub fn tick(&mut self, now_ms: u64, out: &mut Output) {
        if let Some(leader) = &mut self.leader {
            leader.tick();
            out.work = true;
        }
        self.resume(now_ms, out);
    }

    /// Forgets some of what was compacted. Gives whether there is more.
    pub fn compact_slice(&mut self, now_ms: u64, out: &mut Output) -> bool {
        const KEYS: usize = 512;
        let revision = self.shard.mvcc().compacted_revision();
        let done = self.shard.compact_slice(KEYS);
        if done {
            self.send(0, Message::CompactionDone { revision }, out);
            self.resume(now_ms, out);
        }
        !done
    }

    fn send(&mut self, to: usize, message: Message, out: &mut Output) {
        if to == self.core {
            self.own.push_back(message);
        } else {
            out.messages.push((to, message));
        }
    }

    fn handle(&mut self, from: usize, message: Message, now_ms: u64, out: &mut Output) {
        match message {
            Message::Evaluate { token, transaction } => {
                self.evaluate(Ticket { core: from, token }, transaction, out);
            }
            Message::Evaluated { token, outcome, visible_at }
            | Message::Forwarded { token, outcome, visible_at } => {
                self.settle(token, outcome, visible_at, out);
            }
            Message::Committed(batch) => self.committed(&batch, out),
            Message::ReadSlice { token, slice } => {
                let Slice { range, revision, after, max_keys } = slice;
                let mvcc = self.shard.mvcc();
                let result = self.readable(revision).map(|()| {
                    let mut chunk = mvcc.range_chunk(&range, revision, after.as_deref(), max_keys);
                    if self.shard.is_ending() {
                        chunk.retain(|record| self.shard.lives(record, revision));
                    }
                    chunk
                });
                self.send(from, Message::SliceRead { token, result }, out);
            }
            Message::SliceRead { token, result } => {
                self.advance_read(token, out, |read| Ok(read.slice_read(from, result?)));
            }
            Message::Count { token, range, revision, resume_from } => {
                let result = self.readable(revision).map(|()| {
                    let from = resume_from.as_deref();
                    self.shard.count_chunk(&range, revision, from, SLICE_STEPS)
                });
                self.send(from, Message::Counted { token, result }, out);
            }
            Message::Counted { token, result } => {
                self.advance_read(token, out, |read| Ok(read.slice_counted(from, result?)));
            }
            Message::TakeSlice { token, part } => {
                let slice = self.snapshot_slice(part);
                self.send(from, Message::SliceTaken { token, slice }, out);
            }
            Message::SliceTaken { token, slice } => {
                out.answers.push((token, Ok(Answer::SnapshotSlice(slice))));
            }
            Message::Gather(gather) => {
                if self.hold(&gather) {
                    self.collect(Collecting::new(gather), out);
                } else {
                    self.waiting_gathers.insert(gather.job, gather);
                }
            }
            Message::Install { job, changes } => {
                for change in changes {
                    self.shard.install(change.record);
                }
                self.note_usage();
                // Leases are held until their revocation is applied here.
                if !self.ending_freezes.contains_key(&job) {
                    self.release(job, out);
                }
                self.send(from, Message::Installed { job }, out);
            }
            Message::End { job, ended } => {
                self.shard.begin_ending(job, ended.revision, ended.ranges);
                out.work = true;
                self.send(from, Message::Installed { job }, out);
            }
            Message::Forward { .. }
            | Message::Effect(_)
            | Message::Gathered { .. }
            | Message::Installed { .. }
            | Message::CompactionDone { .. } => {
                let leader = self.leader.as_mut().expect("only sent to core 0");
                let mut mail = Mail { own: &mut self.own, out };
                leader.receive(from, message, now_ms, &self.shared, &mut mail);
            }
        }
    }

    /// A transaction that reads no older revision, or has done so.
    fn transact_now(&mut self, token: Token, transaction: Transaction, out: &mut Output) {
        match owner::of_transaction(&transaction, self.cores) {
            Owner::One(core) if core == self.core && !self.is_large(&transaction) => {
                self.evaluate(Ticket { core, token }, transaction, out);
            }
            Owner::One(core) if core != self.core => {
                self.send(core, Message::Evaluate { token, transaction }, out);
            }
            _ => {
                let request = Request::Transact(transaction);
                self.send(0, Message::Forward { token, request }, out);
            }
        }
    }

    fn evaluate(&mut self, ticket: Ticket, transaction: Transaction, out: &mut Output) {
        let overloaded = self.shared.is_overloaded() && owner::writes(&transaction);
        if overloaded || self.hidden_answers >= limits::HIDDEN_ANSWERS {
            let refused = shard::Outcome::Refused(StoreError::TooManyRequests);
            return self.finish(ticket, refused, out);
        }
        if self.shared.is_corrupt() && owner::writes(&transaction) {
            return self.finish(ticket, shard::Outcome::Refused(StoreError::Corrupt), out);
        }
        if self.shared.no_space() && owner::adds(&transaction) {
            return self.finish(ticket, shard::Outcome::Refused(StoreError::NoSpace), out);
        }
        let committed = self.shared.committed_revision();
        let shared = Arc::clone(&self.shared);
        let mut take = || shared.take_revision();
        let outcome = self.shard.evaluate(ticket.pack(), transaction, committed, &mut take);
        self.finish(ticket, outcome, out);
    }

    fn finish(&mut self, ticket: Ticket, outcome: shard::Outcome, out: &mut Output) {
        match outcome {
            shard::Outcome::Done(done) => self.finish_done(ticket, done, out),
            shard::Outcome::Deferred => {}
            shard::Outcome::Refused(error) => {
                let done = Done { result: Err(error), effect: None, visible_at: 0 };
                self.finish_done(ticket, done, out);
            }
            shard::Outcome::UnknownLease { lease, transaction, visible_at } => {
                let committed = self.shared.committed_index();
                if self.applied_index < committed
                    && self.unknown_lease.len() >= limits::UNKNOWN_LEASE_REQUESTS
                {
                    let refused = shard::Outcome::Refused(StoreError::TooManyRequests);
                    self.finish(ticket, refused, out);
                } else if self.applied_index < committed {
                    self.unknown_lease.push_back((committed, ticket, transaction));
                } else {
                    let result = Err(StoreError::LeaseNotFound(lease));
                    let done = Done { result, effect: None, visible_at };
                    self.finish_done(ticket, done, out);
                }
            }
        }
    }

    fn finish_done(&mut self, ticket: Ticket, done: Done, out: &mut Output) {
        let Done { result, effect, visible_at } = done;
        if let Some(effect) = effect {
            self.note_usage();
            self.shared.add_uncommitted(effect.bytes());
            self.send(0, Message::Effect(effect), out);
        }
        let outcome = result.map(Answer::Transact);
        if ticket.core == self.core {
            self.settle(ticket.token, outcome, visible_at, out);
        } else {
            let message = Message::Evaluated { token: ticket.token, outcome, visible_at };
            self.send(ticket.core, message, out);
        }
    }

    /// Whether this shard still has all of `revision`.
    fn readable(&self, revision: Revision) -> Result<(), StoreError> {
        self.shard.mvcc().check_revision(revision, self.shared.committed_revision())
    }

    /// Gives an answer out once everything that it depends on is committed.
    fn settle(&mut self, token: Token, outcome: Outcome, visible_at: Revision, out: &mut Output) {
        if visible_at > self.shared.committed_revision() {
            self.hidden.entry(visible_at).or_default().push((token, outcome));
            self.hidden_answers += 1;
            self.show_interest();
            // Committed meanwhile, before the interest was known? Then nobody would wake us.
            if visible_at > self.shared.committed_revision() {
                return;
            }
            self.reveal(out);
            return;
        }
        out.answers.push((token, outcome));
    }

    fn reveal(&mut self, out: &mut Output) {
        let committed = self.shared.committed_revision();
        while let Some(first) = self.hidden.first_entry() {
            if *first.key() > committed {
                break;
            }
            let answers = first.remove();
            self.hidden_answers -= answers.len();
            out.answers.extend(answers);
        }
    }

    fn show_interest(&mut self) {
        let interested =
            !self.hidden.is_empty() || !self.unknown_lease.is_empty() || !self.hub.is_empty();
        if interested != self.interested {
            self.interested = interested;
            self.interest_rose |= interested;
            self.shared.set_interested(self.core, interested);
        }
    }

    /// The next committed batch.
    fn committed(&mut self, batch: &SharedBatch, out: &mut Output) {
        assert!(batch.index == self.applied_index + 1, "batches come in order, without gaps");
        self.applied_index = batch.index;
        for item in &batch.items {
            if let Item::Control(control) = item {
                self.apply(control, out);
            }
        }
        self.shard.settle(batch.revision_after);
        out.watchers.extend(self.hub.publish(Arc::clone(batch)));
        self.dropping.extend(self.hub.take_gone());
        out.work |= !self.dropping.is_empty();
        // Reads as far back as the ring's oldest batch are answered from memory; it is as good a
        // measure as any of what is recent, and the ring holds the same records.
        let changes: usize = batch.effects().map(|effect| effect.changes.len()).sum();
        let all = self.shard.evict(self.hub.ring_begins_after(), EVICTIONS_MIN + 2 * changes);
        // The deletion of very many keys leaves the ring in one piece.
        out.work |= !all;
        self.reveal(out);
        while let Some((index, ..)) = self.unknown_lease.front()
            && *index <= self.applied_index
        {
            let (_, ticket, transaction) = self.unknown_lease.pop_front().expect("just seen");
            self.evaluate(ticket, transaction, out);
        }
    }

    fn apply(&mut self, control: &Control, out: &mut Output) {
        self.shard.apply_control(control);
        match control {
            Control::Compact { revision } => {
                self.shared.set_compacted(*revision);
                out.compact = true;
            }
            Control::LeaseRevoke { id } => {
                self.lease_ended(*id, out);
            }
            _ => {}
        }
    }
}
