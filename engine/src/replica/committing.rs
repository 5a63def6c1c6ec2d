//! What follows from a commit on core 0: on every member what the controls say, and where they were
//! ordered the answers.

use std::collections::hash_map::Entry;

use bytes::Bytes;

use super::{Mail, Member, Ticket, reply};
use crate::cluster::MemberInfo;
use crate::durability::ceiling_of;
use crate::effect::{Batch, Control, Item};
use crate::message::Answer;
use crate::record::Revision;
use crate::sequencer::NOBODY;
use crate::shared::Shared;

/// Who waits for the commit of a control that was ordered here, and what for.
#[derive(Debug)]
pub(super) enum Pending {
    Compact { ticket: Ticket, revision: Revision, physical: bool },
    Lease { ticket: Option<Ticket>, control: Control },
    Document { name: Bytes, then: Then },
}

/// What follows the commit of a document.
#[derive(Debug)]
pub(super) enum Then {
    Answer(Ticket),
    AnswerMembers(Ticket),
    /// The change of members goes on that it is about.
    GoOn,
    Nothing,
}

impl Pending {
    pub(super) fn into_ticket(self) -> Option<Ticket> {
        match self {
            Pending::Lease { ticket, .. } => ticket,
            Pending::Compact { ticket, .. } => Some(ticket),
            Pending::Document {
                then: Then::Answer(ticket) | Then::AnswerMembers(ticket), ..
            } => Some(ticket),
            Pending::Document { .. } => None,
        }
    }
}

impl Member {
    /// Does what the controls of a committed batch say. Every member does, whoever ordered them.
    pub(super) fn follow(&mut self, batch: &Batch, shared: &Shared, now_ms: u64) {
        for item in &batch.items {
            let Item::Control(control) = item else { continue };
            match control {
                Control::LeaseGrant { .. }
                | Control::LeaseRevoke { .. }
                | Control::LeaseCheckpoint { .. } => self.leases.apply(control, now_ms),
                Control::Compact { revision } => {
                    self.compact_asked = self.compact_asked.max(*revision);
                    self.compaction.entry(*revision).or_default();
                }
                Control::Document { name, content } => {
                    self.documents.insert(name.clone(), content.clone());
                    self.cluster.members_changed |= MemberInfo::id_of_document(name).is_some();
                    if ceiling_of(control).is_none() {
                        shared.document_changed();
                    }
                }
            }
        }
    }

    /// A control that was ordered here is committed, and on its way to every core.
    pub(super) fn ticket_committed(&mut self, ticket: u64, shared: &Shared, mail: &mut Mail<'_>) {
        if ticket == NOBODY {
            return;
        }
        let (pending, bytes) =
            self.pending.remove(&ticket).expect("every control has its consequence");
        self.pending_bytes -= bytes;
        match pending {
            Pending::Lease { ticket, control } => self.lease_changed(ticket, control, shared, mail),
            Pending::Document { name, then } => {
                if let Entry::Occupied(mut ordered) = self.ordered_documents.entry(name) {
                    ordered.get_mut().1 -= 1;
                    if ordered.get().1 == 0 {
                        ordered.remove();
                    }
                }
                match then {
                    Then::Answer(ticket) => reply(ticket, Ok(Answer::Done), mail),
                    Then::AnswerMembers(ticket) => {
                        reply(ticket, Ok(Answer::Members(self.members())), mail);
                    }
                    Then::GoOn => {
                        self.cluster.reconfiguring.documented();
                        self.cluster.stirred = true;
                    }
                    Then::Nothing => {}
                }
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

    fn lease_changed(
        &mut self,
        ticket: Option<Ticket>,
        control: Control,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
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

    /// A core has dropped all that a compaction to `revision` allows: also all that earlier ones do.
    pub(super) fn compaction_done(
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
