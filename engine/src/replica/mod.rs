//! One core's share of the store: its shard, its watchers, and what it owes to others.
//!
//! A replica is a state machine. Requests, messages from other cores, the log's progress and the
//! time come in by method calls; everything that has to happen outside goes out in [`Output`].
//! Core 0 also has the [`member`]: order, leases, coordination of requests with several owners.

mod answers;
mod applying;
#[cfg(test)]
mod cluster_tests;
mod clustering;
mod collect;
mod committing;
mod confirming;
mod coordinator;
mod deciding;
mod forwarding;
mod handling;
mod heavy;
#[cfg(test)]
mod history_tests;
mod installing;
mod member;
mod output;
mod owner;
mod past;
mod reading;
mod reading_index;
mod reads;
mod reconfiguring;
mod reign;
mod reigning;
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
use crate::message::{Answer, Gather, Message, Reign, Request, Token};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{Transaction, WatchRequest};
use crate::sequencer::Committed;
use crate::shard::{self, Shard};
use crate::shared::Shared;
use crate::snapshot::Part;
use crate::watch::{WatchHub, WatcherId};

use answers::Hidden;
pub use clustering::Rules;
use collect::Collecting;
use confirming::{Awaiting, Confirming};
use deciding::reply;
pub use heavy::{Heavy, HeavyDone};
pub use installing::Installed;
pub use member::Member;
use output::Mail;
pub use output::{Output, Ticket};
use owner::Owner;
use past::PastReads;
use reading::Looking;
use reads::{Gathering, Sum};
use usage::UsageByPrefix;

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
    member: Option<Member>,
    /// Messages of this core to itself.
    own: VecDeque<Message>,
    /// Answers of this core's requests that depend on what is not committed yet.
    hidden: BTreeMap<Revision, Vec<Hidden>>,
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
    /// Reads, and answers, that wait for word that this member has everything.
    confirming: Confirming,
    reign: Reign,
    /// The reign has ended, but for a deletion that is to be completed.
    stepping_down: Option<Reign>,
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
        member: Option<Member>,
        applied_index: u64,
    ) -> Replica {
        assert!(core < cores);
        assert_eq!(member.is_some(), core == 0);
        if let Some(member) = &member {
            member.introduce(&shared);
        }
        let reign = Reign::from(!shared.is_clustered());
        Replica {
            core,
            cores,
            shared,
            shard,
            hub,
            member,
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
            confirming: Confirming::default(),
            // A member that is alone leads all the time.
            reign,
            stepping_down: None,
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

    pub fn member(&self) -> Option<&Member> {
        self.member.as_ref()
    }

    /// A door of this core asks. The answer comes in some output, under the same token.
    pub fn request(&mut self, token: Token, request: Request, now_ms: u64, out: &mut Output) {
        self.begin_request(token, request, out);
        self.resume(now_ms, out);
    }

    fn begin_request(&mut self, token: Token, request: Request, out: &mut Output) {
        match request {
            Request::Range(request) if !request.serializable && self.shared.is_clustered() => {
                let request = Box::new(request);
                self.await_confirmation(Awaiting::Range { token, request }, out);
            }
            Request::Range(request) => self.range((token, 1), request, false, out),
            Request::HashKv { revision } => {
                self.sum((token, 1), revision, Sum::Hash(Box::default()), out);
            }
            Request::Usage { depth, top } => {
                self.sum((token, 1), 0, Sum::Usage(UsageByPrefix::new(depth, top)), out);
            }
            Request::Transact(transaction) if self.leads() => {
                self.transact(token, transaction, out);
            }
            Request::SnapshotSlice(part) => {
                let shard = if let Part::Entries { shard, .. } = &part { *shard } else { 0 };
                self.send(shard, Message::TakeSlice { token, part }, out);
            }
            Request::Confirm if !self.shared.is_clustered() => {
                self.answer(token, Ok(Answer::Done), out);
            }
            Request::Confirm => self.await_confirmation(Awaiting::Nothing { token }, out),
            Request::Members { linearizable: true } if self.shared.is_clustered() => {
                self.await_confirmation(Awaiting::Members { token }, out);
            }
            request => {
                let message = Message::Forward { token, request };
                self.send(0, message, out);
            }
        }
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
        if self.member.is_some() {
            self.turn(now_ms, out);
        }
        out.resume |= !self.own.is_empty();
        if let Some(member) = &self.member {
            out.pump |= member.has_work();
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
            .member
            .as_ref()
            .is_none_or(|member| !member.has_work() && member.sequencer().in_flight() == 0);
        let coordinated = self.member.as_ref().is_none_or(Member::is_quiet);
        let working = self.shard.is_ending() || !self.collecting.is_empty();
        let asked = !self.hidden.is_empty()
            || !self.reads.is_empty()
            || !self.past.is_empty()
            || !self.confirming.is_empty();
        ordered && coordinated && self.own.is_empty() && !asked && !working
    }

    /// Puts what waits into batches, as far as the log may have writes in flight.
    pub fn pump(&mut self, in_flight_max: usize, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 orders");
        if member.is_clustered() {
            member.propose(in_flight_max);
            return self.turn(0, out);
        }
        let committed = member.pump(in_flight_max, out);
        // Relaxed batches hold no controls, to which the time would matter.
        self.commit(committed, 0, out);
    }

    /// The store stops: nothing more is going to be written.
    pub fn stop(&mut self, out: &mut Output) {
        if let Some(member) = &mut self.member {
            member.close_ceiling();
        }
        self.resume(0, out);
    }

    /// The log of a member that is alone is durable up to `index`.
    pub fn persisted(&mut self, index: u64, now_ms: u64, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 has the log");
        let progress = member.persisted(index);
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
            let member = self.member.as_mut().expect("checked");
            member.follow(&batch, &self.shared, now_ms);
            for ticket in committed.tickets {
                let mut mail = Mail { own: &mut self.own, out };
                member.ticket_committed(ticket, &self.shared, &mut mail);
            }
        }
    }

    /// Time passes: leases expire.
    pub fn tick(&mut self, now_ms: u64, out: &mut Output) {
        if let Some(member) = &mut self.member {
            member.tick(out);
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

    /// A transaction that reads no older revision, or has done so.
    fn transact_now(&mut self, token: Token, transaction: Transaction, out: &mut Output) {
        match owner::of_transaction(&transaction, self.cores) {
            Owner::One(core) if core == self.core && !self.is_large(&transaction) => {
                self.evaluate(Ticket { core, token }, transaction, out);
            }
            Owner::One(core) if core != self.core => {
                let reign = self.reign;
                self.send(core, Message::Evaluate { token, transaction, reign }, out);
            }
            _ => {
                let request = Request::Transact(transaction);
                self.send(0, Message::Forward { token, request }, out);
            }
        }
    }

    /// Whether this shard still has all of `revision`.
    fn readable(&self, revision: Revision) -> Result<(), StoreError> {
        self.shard.mvcc().check_revision(revision, self.shared.committed_revision())
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
