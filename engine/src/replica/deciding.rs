//! What core 0 decides: which requests are taken on, what becomes of them, and who is answered when.

use bytes::Bytes;

use super::committing::{Pending, Then};
use super::coordinator::{Finished, Results, Work, refused};
use super::heavy::HeavyDone;
use super::{Mail, Member, Ticket, owner};
use crate::effect::Control;
use crate::error::StoreError;
use crate::lease::Time;
use crate::limits;
use crate::message::{Answer, Due, Message, Outcome, Request};
use crate::record::{LeaseId, Revision};
use crate::request::LeaseStatus;
use crate::shared::Shared;

impl Member {
    pub(super) fn controls_are_full(&self) -> bool {
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
            // One of a reign that is over is undone.
            Message::Effect { effect, reign } if reign == self.cluster.reign => {
                self.sequencer.effect(effect);
            }
            Message::Effect { .. } => {}
            Message::Forward { token, request } => {
                self.forwarded(Ticket { core: from, token }, request, now_ms, shared, mail);
            }
            Message::Confirm { number } => self.confirm((from, number), now_ms, mail),
            Message::Replicated { job, previous } => {
                self.cluster.applying.replicated(from, job, previous, mail);
            }
            Message::SteppedDown { reign } => self.stepped_down(reign, shared),
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
            other => unreachable!("not for the member: {other:?}"),
        }
    }

    /// A core asks: whoever leads decides most of it.
    fn forwarded(
        &mut self,
        ticket: Ticket,
        request: Request,
        now_ms: u64,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
        let outcome = match request {
            Request::Document { name } => Ok(Answer::Document(self.documents.get(&name).cloned())),
            Request::Members { .. } => Ok(Answer::Members(self.members())),
            Request::ClusterStatus => Ok(Answer::ClusterStatus(Box::new(self.status(shared)))),
            request if self.leads() => {
                return self.decide(ticket, request, now_ms, shared, mail);
            }
            Request::MoveLeader { .. } => Err(StoreError::NotLeader),
            request => {
                let deadline_ms = self.deadline_ms(now_ms);
                return self.cluster.forwarding.take(ticket, request, deadline_ms, mail);
            }
        };
        reply(ticket, outcome, mail);
    }

    /// A core wants to know up to where everything has to be applied.
    fn confirm(&mut self, asker: (usize, u64), now_ms: u64, mail: &mut Mail<'_>) {
        let (core, number) = asker;
        if !self.is_clustered() {
            return mail.send(core, Message::Confirmed { number, result: Ok(()) });
        }
        let deadline_ms = self.deadline_ms(now_ms);
        let node = self.sequencer.node_mut();
        self.cluster.reading.ask(asker, deadline_ms, node, mail);
        self.cluster.stirred = true;
    }

    pub(super) fn decide(
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
            Request::PutDocument { name, expected: Some(expected), .. }
                if self.ordered_document(&name) != expected.as_ref() =>
            {
                Err(StoreError::DocumentChanged)
            }
            Request::PutDocument { name, content, .. } => {
                return self.order_document(name, content, Then::Answer(ticket));
            }
            Request::ChangeMember(change) => return self.change_member(ticket, change, mail),
            Request::UpdateMember(update) => return self.update_member(ticket, update, mail),
            Request::MoveLeader { to } => return self.move_leader(ticket, to, now_ms, mail),
            Request::Range(_)
            | Request::HashKv { .. }
            | Request::Usage { .. }
            | Request::SnapshotSlice(_)
            | Request::Confirm => {
                unreachable!("these are looked after where they are asked")
            }
            Request::Document { .. } | Request::Members { .. } | Request::ClusterStatus => {
                unreachable!("whoever leads")
            }
        };
        self.reply_confirmed(ticket, outcome, mail);
    }

    /// Orders what a document is from now on.
    pub(super) fn order_document(&mut self, name: Bytes, content: Bytes, then: Then) {
        let ordered = self.ordered_documents.entry(name.clone()).or_default();
        *ordered = (content.clone(), ordered.1 + 1);
        let control = Control::Document { name: name.clone(), content };
        self.order(control, 0, Pending::Document { name, then });
    }

    /// What a document is once everything ordered so far is committed.
    pub(super) fn ordered_document(&self, name: &Bytes) -> Option<&Bytes> {
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

    pub(super) fn submit(&mut self, work: Work, mail: &mut Mail<'_>) {
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
    pub(super) fn order(&mut self, control: Control, after: Revision, pending: Pending) {
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
        let changes = !effects.is_empty() || deletion.is_some();
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
                    self.reply_due(ticket, outcome, visible_at, !changes, mail);
                }
                Finished::LeaseKeys { ticket, lease, keys } => {
                    let outcome = self.lease_status(lease, now_ms, keys).map(Answer::LeaseStatus);
                    // The shards told their newest state, which may not be committed.
                    self.reply_due(ticket, outcome, shared.taken_revision(), true, mail);
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

    fn reply_due(
        &self,
        ticket: Ticket,
        outcome: Outcome,
        visible_at: Revision,
        confirm: bool,
        mail: &mut Mail<'_>,
    ) {
        let confirm = confirm && self.is_clustered();
        let due = Due { visible_at, reign: self.cluster.reign, confirm };
        mail.send(ticket.core, Message::Forwarded { token: ticket.token, outcome, due });
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
pub(super) fn reply(ticket: Ticket, outcome: Outcome, mail: &mut Mail<'_>) {
    let (token, due) = (ticket.token, Due::default());
    mail.send(ticket.core, Message::Forwarded { token, outcome, due });
}
