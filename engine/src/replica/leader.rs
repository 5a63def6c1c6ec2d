//! What core 0 does for all: order, leases, compaction, documents, coordination.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::coordinator::{Coordinator, Finished, Results, Work, refused};
use super::heavy::HeavyDone;
use super::{Mail, Output, Ticket, owner};
use crate::durability::{self, CEILING, Classes, ceiling_of, read_ceiling};
use crate::effect::{Batch, Control, Item};
use crate::error::StoreError;
use crate::lease::{LeaseTable, Time};
use crate::limits;
use crate::message::{Answer, Message, Outcome, Request};
use crate::record::{LeaseId, Revision};
use crate::request::LeaseStatus;
use crate::sequencer::{Committed, NOBODY, Progress, Sequencer};
use crate::shared::Shared;

/// Expired leases that end as one job.
const EXPIRED_AT_ONCE: usize = 256;

/// Leases that one slice looks at for their checkpoint, and all slices of a tick: with two ticks a
/// second a million leases have their turn within every two minutes.
const CHECKPOINT_SLICE: usize = 512;
const CHECKPOINT_SLICES: usize = 8;

/// What follows when a control is committed.
#[derive(Debug)]
enum Pending {
    Compact {
        ticket: Ticket,
        revision: Revision,
        physical: bool,
    },
    /// Of the lease table: to be applied to it.
    Lease {
        ticket: Option<Ticket>,
        control: Control,
    },
    Document {
        ticket: Ticket,
        name: Bytes,
        content: Bytes,
    },
}

/// Core 0's part for all cores.
#[derive(Debug)]
pub struct Leader {
    sequencer: Sequencer,
    coordinator: Coordinator,
    pub(super) leases: LeaseTable,
    pub(super) documents: BTreeMap<Bytes, Bytes>,
    /// What documents will be when everything ordered is committed, and how many changes of each
    /// are under way.
    ordered_documents: HashMap<Bytes, (Bytes, usize)>,
    /// By the sequencer's ticket, with the control's bytes.
    pending: HashMap<u64, (Pending, usize)>,
    next_pending: u64,
    /// Revocations that the current job still has to see committed.
    revoking: usize,
    /// The newest revision that somebody asked to compact to, committed or not.
    compact_asked: Revision,
    /// Cores that have dropped what this revision allows, and who waits for all of them.
    compaction: BTreeMap<Revision, Compaction>,
    cores: usize,
    /// Bytes of the controls in `pending`.
    pending_bytes: usize,
    /// Leases may have run out since this was looked at.
    expiring: bool,
    /// Slices of leases that this tick has left to look at for checkpoints.
    checkpoint_slices: usize,
    /// Relaxed batches at the last tick, and ticks since there was one.
    relaxed_batches_seen: u64,
    relaxed_quiet_ticks: u32,
}

#[derive(Debug, Default)]
struct Compaction {
    cores_done: BTreeSet<usize>,
    waiting: Vec<Ticket>,
}

impl Leader {
    pub fn new(
        cores: usize,
        sequencer: Sequencer,
        leases: LeaseTable,
        documents: BTreeMap<Bytes, Bytes>,
        compacted: Revision,
    ) -> Leader {
        Leader {
            sequencer,
            coordinator: Coordinator::new(cores),
            leases,
            documents,
            ordered_documents: HashMap::new(),
            pending: HashMap::new(),
            next_pending: 1,
            revoking: 0,
            compact_asked: compacted,
            compaction: BTreeMap::new(),
            cores,
            pending_bytes: 0,
            expiring: false,
            checkpoint_slices: 0,
            relaxed_batches_seen: 0,
            relaxed_quiet_ticks: 0,
        }
    }

    /// The member starts: it stands for election, and its leases' time begins anew.
    pub fn start(&mut self, now_ms: u64) {
        self.leases.restart(now_ms, 0);
        self.sequencer.campaign();
    }

    /// Notes the remaining time of leases that are longer than so many seconds at such intervals.
    pub fn set_lease_checkpoint_seconds(&mut self, seconds: i64) {
        self.leases.set_checkpoint_seconds(seconds);
    }

    pub fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// Controls that wait for their commit.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.coordinator.is_quiet()
    }

    pub(super) fn has_work(&self) -> bool {
        self.sequencer.has_work()
    }

    /// Gives what is committed without waiting for the log.
    pub(super) fn pump(&mut self, in_flight_max: usize, out: &mut Output) -> Vec<Committed> {
        let mut committed = Vec::new();
        while self.sequencer.may_append(in_flight_max) {
            let Some(append) = self.sequencer.pack() else { break };
            out.appends.push(append);
            committed.extend(self.sequencer.commit());
        }
        committed
    }

    pub(super) fn persisted(&mut self, index: u64) -> Progress {
        self.sequencer.persisted(index)
    }

    pub(super) fn submitted(&mut self, index: u64) -> Progress {
        self.sequencer.submitted(index)
    }

    /// Answers writes as early as their keys' classes allow.
    pub fn set_classes(&mut self, classes: Classes) {
        self.sequencer.set_classes(classes);
    }

    /// Whether some answers wait for no more than the beginning of their write.
    pub fn waits_for_begun_writes(&self) -> bool {
        self.sequencer.classes().has_replicated()
    }

    /// Goes on behind revisions that may have been shown and are not in the log; see
    /// docs/durability.md. Gives the revision to go on behind. To be called before the start.
    pub fn skip_what_was_lost(&mut self, reached: Revision) -> Revision {
        let ceiling = self.documents.get(CEILING).and_then(|content| read_ceiling(content));
        let Some(skip) = durability::skip(reached, ceiling.unwrap_or(0)) else { return reached };
        self.sequencer.skip_to(skip);
        self.compact_asked = self.compact_asked.max(skip);
        skip
    }

    /// Says in the log that nothing was shown that is not in it.
    pub(super) fn close_ceiling(&mut self) {
        self.sequencer.close_ceiling();
    }

    /// Notes what the sequencer has logged by itself.
    pub(super) fn note_ceiling(&mut self, batch: &Batch) {
        for item in &batch.items {
            if let Item::Control(control) = item
                && ceiling_of(control).is_some()
                && let Control::Document { name, content } = control
            {
                self.documents.insert(name.clone(), content.clone());
            }
        }
    }

    fn tick_ceiling(&mut self) {
        let batches = self.sequencer.relaxed_batches();
        let quiet = batches == self.relaxed_batches_seen && self.sequencer.in_flight() == 0;
        self.relaxed_batches_seen = batches;
        self.relaxed_quiet_ticks = if quiet { self.relaxed_quiet_ticks + 1 } else { 0 };
        if self.relaxed_quiet_ticks >= 2 && self.sequencer.has_open_ceiling() {
            self.sequencer.close_ceiling();
        }
    }

    /// Time has passed: there may be something for [`work_slice`](Self::work_slice).
    pub(super) fn tick(&mut self) {
        self.expiring = true;
        self.checkpoint_slices = CHECKPOINT_SLICES;
        self.tick_ceiling();
    }

    /// Looks at some leases: for those that ran out, and for those whose time is to be noted. Gives
    /// whether there are more to look at now.
    pub(super) fn work_slice(&mut self, now_ms: u64, shared: &Shared, mail: &mut Mail<'_>) -> bool {
        // While the disk stands still, or one bunch ends, more would only wait: later, then.
        if shared.is_overloaded() || self.controls_are_full() {
            (self.expiring, self.checkpoint_slices) = (false, 0);
        }
        if self.expiring && self.coordinator.has_revocations_waiting() {
            self.expiring = false;
        }
        if self.expiring {
            let expired = self.leases.expired(now_ms, EXPIRED_AT_ONCE);
            if !expired.is_empty() {
                let leases = expired.into_iter().map(|lease| (lease, None)).collect();
                self.submit(Work::Revoke { leases }, mail);
            }
            self.expiring = self.leases.next_expiry_ms().is_some_and(|at_ms| at_ms <= now_ms);
        }
        if self.checkpoint_slices > 0 {
            self.checkpoint_slices -= 1;
            if let Some(control) = self.leases.checkpoint_slice(now_ms, CHECKPOINT_SLICE) {
                let pending = Pending::Lease { ticket: None, control: control.clone() };
                self.order(control, 0, pending);
            }
        }
        self.expiring || self.checkpoint_slices > 0
    }

    fn controls_are_full(&self) -> bool {
        self.pending.len() >= limits::CONTROLS || self.pending_bytes >= limits::CONTROL_BYTES
    }

    /// Why a request can't be taken on now.
    fn refusal(&self, request: &Request, shared: &Shared) -> Option<StoreError> {
        let (writes, adds) = match request {
            Request::Transact(transaction) => {
                (owner::writes(transaction), owner::adds(transaction) && shared.no_space())
            }
            Request::LeaseGrant { .. } => (true, shared.no_space()),
            // What operators need to get out of it, like an alarm's end, is a document.
            Request::PutDocument { .. } => (true, shared.disk_is_full()),
            Request::Compact { .. } | Request::LeaseRevoke { .. } => (true, false),
            // It may be logged.
            Request::LeaseKeepAlive { .. } if self.controls_are_full() => (true, false),
            _ => (false, false),
        };
        let keeps_on =
            matches!(request, Request::PutDocument { .. } | Request::LeaseKeepAlive { .. });
        if writes && !keeps_on && shared.is_corrupt() {
            return Some(StoreError::Corrupt);
        }
        if writes && (shared.is_overloaded() || self.controls_are_full()) {
            return Some(StoreError::TooManyRequests);
        }
        adds.then_some(StoreError::NoSpace)
    }

    pub(super) fn receive(
        &mut self,
        from: usize,
        message: Message,
        now_ms: u64,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
        match message {
            Message::Effect(effect) => self.sequencer.effect(effect),
            Message::Forward { token, request } => {
                self.decide(Ticket { core: from, token }, request, now_ms, shared, mail);
            }
            Message::Gathered { job, gathered } => {
                self.coordinator.gathered(from, job, gathered, &self.leases, shared, mail);
                self.finish_job(job, now_ms, shared, mail);
            }
            Message::Installed { job } => {
                self.coordinator.installed(job);
                self.finish_job(job, now_ms, shared, mail);
            }
            Message::CompactionDone { revision } => {
                self.compaction_done(from, revision, shared, mail);
            }
            other => unreachable!("not for the leader: {other:?}"),
        }
    }

    fn decide(
        &mut self,
        ticket: Ticket,
        request: Request,
        now_ms: u64,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
        if let Some(error) = self.refusal(&request, shared) {
            return reply(ticket, Err(error), mail);
        }
        let outcome = match request {
            Request::Transact(transaction) => {
                return self.submit(Work::Transact { ticket, transaction }, mail);
            }
            Request::Compact { revision, physical } => {
                match self.check_compaction(revision, shared) {
                    Err(error) => Err(error),
                    Ok(()) => {
                        self.compact_asked = revision;
                        let pending = Pending::Compact { ticket, revision, physical };
                        return self.order(Control::Compact { revision }, 0, pending);
                    }
                }
            }
            Request::LeaseGrant { id, ttl, random } => {
                match self.leases.begin_grant(id, ttl, ids_from(random)) {
                    Err(error) => Err(error),
                    Ok(control) => {
                        return self.order(
                            control.clone(),
                            0,
                            Pending::Lease { ticket: Some(ticket), control },
                        );
                    }
                }
            }
            Request::LeaseRevoke { id } => match self.leases.begin_revoke(id) {
                Err(error) => Err(error),
                Ok(_) => {
                    return self.submit(Work::Revoke { leases: vec![(id, Some(ticket))] }, mail);
                }
            },
            Request::LeaseKeepAlive { id } => match self.leases.keep_alive(id, now_ms) {
                Err(error) => Err(error),
                Ok(renewal) => {
                    if let Some(control) = renewal.checkpoint {
                        let ticket = Some(ticket);
                        let pending = Pending::Lease { ticket, control: control.clone() };
                        return self.order(control, 0, pending);
                    }
                    Ok(Answer::TimeToLive(renewal.ttl))
                }
            },
            Request::LeaseTimeToLive { id, keys: true } if self.leases.exists(id) => {
                return self.submit(Work::LeaseKeys { ticket, lease: id }, mail);
            }
            Request::LeaseTimeToLive { id, .. } => {
                self.lease_status(id, now_ms, Vec::new()).map(Answer::LeaseStatus)
            }
            Request::Leases => Ok(Answer::Leases(self.leases.ids().collect())),
            Request::Document { name } => Ok(Answer::Document(self.documents.get(&name).cloned())),
            Request::PutDocument { name, expected: Some(expected), .. }
                if self.ordered_document(&name) != expected.as_ref() =>
            {
                Err(StoreError::DocumentChanged)
            }
            Request::PutDocument { name, content, .. } => {
                let ordered = self.ordered_documents.entry(name.clone()).or_default();
                *ordered = (content.clone(), ordered.1 + 1);
                let control = Control::Document { name: name.clone(), content: content.clone() };
                return self.order(control, 0, Pending::Document { ticket, name, content });
            }
            Request::Range(_)
            | Request::HashKv { .. }
            | Request::Usage { .. }
            | Request::SnapshotSlice(_) => {
                unreachable!("ranges are read where they are asked for")
            }
        };
        reply(ticket, outcome, mail);
    }

    /// What a document is once everything ordered so far is committed.
    fn ordered_document(&self, name: &Bytes) -> Option<&Bytes> {
        let ordered = self.ordered_documents.get(name).map(|(content, _)| content);
        ordered.or_else(|| self.documents.get(name))
    }

    fn check_compaction(&self, revision: Revision, shared: &Shared) -> Result<(), StoreError> {
        let current = shared.committed_revision();
        if revision > current {
            return Err(StoreError::FutureRevision { requested: revision, current });
        }
        if revision <= self.compact_asked {
            let compacted = self.compact_asked;
            return Err(StoreError::Compacted { requested: revision, compacted });
        }
        Ok(())
    }

    fn lease_status(
        &self,
        id: LeaseId,
        now_ms: u64,
        keys: Vec<Bytes>,
    ) -> Result<LeaseStatus, StoreError> {
        let Time { granted_ttl, remaining_ttl } = self.leases.time(id, now_ms)?;
        Ok(LeaseStatus { id, granted_ttl, remaining_ttl, keys })
    }

    fn submit(&mut self, work: Work, mail: &mut Mail<'_>) {
        if let Err(work) = self.coordinator.submit(work, mail) {
            if let Work::Revoke { leases } = &work {
                leases.iter().for_each(|(lease, _)| self.leases.abandon_revoke(*lease));
            }
            for finished in refused(work) {
                if let Finished::Answer { ticket, outcome, .. } = finished {
                    reply(ticket, outcome, mail);
                }
            }
        }
    }

    /// Gives a control to the sequencer; `pending` follows when it is committed.
    fn order(&mut self, control: Control, after: Revision, pending: Pending) {
        let ticket = self.next_pending;
        self.next_pending += 1;
        self.pending_bytes += control.bytes();
        self.pending.insert(ticket, (pending, control.bytes()));
        self.sequencer.control(control, after, ticket);
    }

    /// A large transaction was evaluated by another thread.
    pub(super) fn evaluated(&mut self, done: HeavyDone, shared: &Shared, mail: &mut Mail<'_>) {
        self.coordinator.evaluated(done, shared, mail);
    }

    fn finish_job(&mut self, job: u64, now_ms: u64, shared: &Shared, mail: &mut Mail<'_>) {
        let Some(results) = self.coordinator.finish(job, mail) else { return };
        let Results { effects, deletion, finished } = results;
        if let Some((deletion, payload)) = deletion {
            self.sequencer.deletion(deletion, payload);
        }
        for effect in effects {
            shared.add_uncommitted(effect.bytes());
            self.sequencer.effect(effect);
        }
        for finished in finished {
            match finished {
                Finished::Answer { ticket, outcome, visible_at } => {
                    let token = ticket.token;
                    mail.send(ticket.core, Message::Forwarded { token, outcome, visible_at });
                }
                Finished::LeaseKeys { ticket, lease, keys } => {
                    let outcome = self.lease_status(lease, now_ms, keys).map(Answer::LeaseStatus);
                    // The shards told their newest state, which may not be committed.
                    let (token, visible_at) = (ticket.token, shared.taken_revision());
                    mail.send(ticket.core, Message::Forwarded { token, outcome, visible_at });
                }
                Finished::Revoked { lease, ticket, after } => {
                    self.revoking += 1;
                    let control = Control::LeaseRevoke { id: lease };
                    let pending = Pending::Lease { ticket, control: control.clone() };
                    self.order(control, after, pending);
                }
            }
        }
    }

    /// A control's batch is committed, and on its way to every core.
    pub(super) fn control_committed(
        &mut self,
        ticket: u64,
        shared: &Shared,
        now_ms: u64,
        mail: &mut Mail<'_>,
    ) {
        if ticket == NOBODY {
            return;
        }
        let (pending, bytes) =
            self.pending.remove(&ticket).expect("every control has its consequence");
        self.pending_bytes -= bytes;
        match pending {
            Pending::Lease { ticket, control } => {
                self.leases.apply(&control, now_ms);
                let revoked = matches!(control, Control::LeaseRevoke { .. });
                let answer = match control {
                    Control::LeaseGrant { id, ttl } => Answer::LeaseGranted { id, ttl },
                    // That of a renewal: the whole time.
                    Control::LeaseCheckpoint { remaining } => {
                        Answer::TimeToLive(remaining.first().map_or(0, |(_, seconds)| *seconds))
                    }
                    _ => Answer::Revision(shared.committed_revision()),
                };
                if let Some(ticket) = ticket {
                    reply(ticket, Ok(answer), mail);
                }
                if revoked {
                    self.revoking -= 1;
                    if self.revoking == 0 {
                        self.coordinator.revoked(mail);
                        // More may have run out that had to wait for these.
                        self.expiring = true;
                        mail.out.work = true;
                    }
                }
            }
            Pending::Document { ticket, name, content } => {
                if let Some((_, under_way)) = self.ordered_documents.get_mut(&name) {
                    *under_way -= 1;
                    if *under_way == 0 {
                        self.ordered_documents.remove(&name);
                    }
                }
                self.documents.insert(name, content);
                shared.document_changed();
                reply(ticket, Ok(Answer::Done), mail);
            }
            Pending::Compact { ticket, revision, physical } => {
                let compaction = self.compaction.entry(revision).or_default();
                if physical {
                    compaction.waiting.push(ticket);
                } else {
                    let revision = shared.committed_revision();
                    reply(ticket, Ok(Answer::Revision(revision)), mail);
                }
            }
        }
    }

    /// A core has dropped all that a compaction to `revision` allows: also all that earlier ones do.
    fn compaction_done(
        &mut self,
        core: usize,
        revision: Revision,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
        let Some(compaction) = self.compaction.get_mut(&revision) else { return };
        compaction.cores_done.insert(core);
        if compaction.cores_done.len() < self.cores {
            return;
        }
        let later = self.compaction.split_off(&(revision + 1));
        let done = std::mem::replace(&mut self.compaction, later);
        for ticket in done.into_values().flat_map(|compaction| compaction.waiting) {
            let revision = shared.committed_revision();
            reply(ticket, Ok(Answer::Revision(revision)), mail);
        }
    }
}

/// Candidates for a lease's id, from one random number.
fn ids_from(random: LeaseId) -> impl FnMut() -> u64 {
    let mut next = random as u64;
    move || {
        // An odd multiplier walks through all numbers, so this ends however many leases there are.
        next = next.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        next
    }
}

/// Answers with what no commit has to come before.
fn reply(ticket: Ticket, outcome: Outcome, mail: &mut Mail<'_>) {
    let token = ticket.token;
    mail.send(ticket.core, Message::Forwarded { token, outcome, visible_at: 0 });
}
