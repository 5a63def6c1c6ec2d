//! Who is a member: changes one after the other, what is known of members, and handing over the lead.
//!
//! A member that is added is written down with its addresses first, so that everybody who hears of
//! it knows where it is; only then it becomes a member.

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_raft::{Change, ChangeError, ProposeError, TransferError, Transition};

use super::clustering::Phase;
use super::committing::Then;
use super::{Mail, Member, Ticket, reply};
use crate::cluster::{self, ClusterStatus, MemberChange, MemberInfo, MemberUpdate};
use crate::error::StoreError;
use crate::limits;
use crate::message::{Answer, Outcome};
use crate::reconfiguration::{self, Reconfiguration, Situation};
use crate::shared::Shared;

/// A change that has begun.
#[derive(Debug)]
enum Stage {
    /// The document about it is on its way.
    Documenting,
    /// Raft is to take it as soon as it can.
    Proposing,
    /// Its entry has this index.
    Committing(u64),
}

/// The lead is to go to another member.
#[derive(Debug)]
struct Moving {
    ticket: Ticket,
    to: u64,
    deadline_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Reconfiguring {
    waiting: VecDeque<(Ticket, MemberChange)>,
    current: Option<(Ticket, MemberChange, Stage)>,
    moving: Option<Moving>,
}

impl Reconfiguring {
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The document about the current change is committed.
    pub(super) fn documented(&mut self) {
        if let Some((_, _, stage @ Stage::Documenting)) = &mut self.current {
            *stage = Stage::Proposing;
        }
    }

    /// This member leads no more. Gives who waits; but whoever wants the lead to move gets to know.
    pub(super) fn abandon(&mut self) -> Vec<Ticket> {
        let current = self.current.take().map(|(ticket, ..)| ticket);
        self.waiting.drain(..).map(|(ticket, _)| ticket).chain(current).collect()
    }
}

impl Member {
    /// Everybody who is a member, as far as this one knows.
    pub fn members(&self) -> Vec<MemberInfo> {
        let membership = self.sequencer.node().membership();
        let mut members = cluster::members(membership, |name| self.documents.get(name));
        for member in members.iter_mut().filter(|member| member.peer_urls.is_empty()) {
            let initial = self.cluster.initial_members.iter().find(|one| one.id == member.id);
            if let Some(initial) = initial {
                member.peer_urls.clone_from(&initial.peer_urls);
            }
        }
        members
    }

    /// Where members are that have not told it yet, as this one was told before it began.
    pub fn set_initial_members(&mut self, members: Vec<MemberInfo>) {
        self.cluster.initial_members = members;
    }

    pub(super) fn status(&self, shared: &Shared) -> ClusterStatus {
        let node = self.sequencer.node();
        ClusterStatus {
            member_id: node.id(),
            leader: node.leader(),
            term: node.term(),
            last_index: node.last_index(),
            committed_index: node.commit(),
            applied_index: shared.committed_index(),
            is_learner: node.membership().is_learner(node.id()),
        }
    }

    /// Takes on a change of members.
    pub(super) fn change_member(
        &mut self,
        ticket: Ticket,
        change: MemberChange,
        mail: &mut Mail<'_>,
    ) {
        if let Err(error) = self.check_change(&change) {
            return self.reply_confirmed(ticket, Err(error), mail);
        }
        if self.cluster.reconfiguring.waiting.len() >= limits::MEMBER_CHANGES {
            return reply(ticket, Err(StoreError::TooManyRequests), mail);
        }
        self.cluster.reconfiguring.waiting.push_back((ticket, change));
        if self.cluster.phase == Phase::Lone {
            self.sequencer.hold();
            mail.out.pump = true;
        }
        self.cluster.stirred = true;
    }

    fn check_change(&self, change: &MemberChange) -> Result<(), StoreError> {
        let members = self.members();
        reconfiguration::check_change(&self.situation(&members), change)
    }

    fn situation<'a>(&'a self, members: &'a [MemberInfo]) -> Situation<'a> {
        let rules = &self.cluster.rules;
        Situation {
            members,
            own_id: self.sequencer.node().id(),
            heard_lately: self.cluster.heard.lately(rules.election_ms),
            rules: Reconfiguration {
                strict: rules.strict_reconfig,
                learners_max: rules.max_learners,
            },
        }
    }

    /// Goes on with the change that has begun, or begins the next.
    pub(super) fn reconfigure(&mut self, now_ms: u64, shared: &Shared, mail: &mut Mail<'_>) {
        self.follow_move(now_ms, mail);
        if !matches!(self.cluster.phase, Phase::Leading { .. }) {
            return;
        }
        if self.cluster.reconfiguring.current.is_none()
            && let Some((ticket, change)) = self.cluster.reconfiguring.waiting.pop_front()
        {
            self.begin_change(ticket, change, mail);
        }
        let Some((ticket, change, stage)) = self.cluster.reconfiguring.current.take() else {
            return;
        };
        let stage = match stage {
            Stage::Documenting => Stage::Documenting,
            Stage::Proposing => match self.propose_change(&change) {
                Ok(stage) => stage,
                Err(error) => return reply(ticket, Err(error), mail),
            },
            Stage::Committing(index) if index <= shared.committed_index() => {
                if let MemberChange::Remove { id } = change {
                    let (name, content) = (MemberInfo::document_name(id), Bytes::new());
                    self.order_document(name, content, Then::Nothing);
                    mail.out.pump = true;
                }
                return reply(ticket, Ok(Answer::Members(self.members())), mail);
            }
            committing @ Stage::Committing(_) => committing,
        };
        self.cluster.reconfiguring.current = Some((ticket, change, stage));
    }

    fn begin_change(&mut self, ticket: Ticket, change: MemberChange, mail: &mut Mail<'_>) {
        // Others came before.
        if let Err(error) = self.check_change(&change) {
            return reply(ticket, Err(error), mail);
        }
        let stage = match &change {
            MemberChange::Add { id, peer_urls, .. } => {
                let peer_urls = peer_urls.clone();
                let info = MemberInfo { peer_urls, ..MemberInfo::default() };
                let (name, content) = (MemberInfo::document_name(*id), info.encode());
                self.order_document(name, content, Then::GoOn);
                mail.out.pump = true;
                Stage::Documenting
            }
            MemberChange::Remove { .. } | MemberChange::Promote { .. } => Stage::Proposing,
        };
        self.cluster.reconfiguring.current = Some((ticket, change, stage));
    }

    fn propose_change(&mut self, change: &MemberChange) -> Result<Stage, StoreError> {
        let change = match *change {
            MemberChange::Add { id, is_learner: true, .. } => Change::AddLearner(id),
            MemberChange::Add { id, .. } => Change::AddVoter(id),
            MemberChange::Remove { id } => Change::Remove(id),
            MemberChange::Promote { id } => Change::Promote(id),
        };
        match self.sequencer.node_mut().propose_change(&[change], Transition::Auto) {
            Ok(index) => {
                self.cluster.stirred = true;
                Ok(Stage::Committing(index))
            }
            Err(error) => match refusal(error) {
                Some(error) => Err(error),
                // Raft's time passes, and it is asked again.
                None => Ok(Stage::Proposing),
            },
        }
    }

    /// Writes down what is new about a member.
    pub(super) fn update_member(
        &mut self,
        ticket: Ticket,
        update: MemberUpdate,
        mail: &mut Mail<'_>,
    ) {
        let members = self.members();
        let name = MemberInfo::document_name(update.id);
        let ordered = self.ordered_document(&name).and_then(|content| MemberInfo::decode(content));
        let known = members.iter().find(|member| member.id == update.id);
        let Some(known) = known.map(|known| ordered.unwrap_or_else(|| known.clone())) else {
            return self.reply_confirmed(ticket, Err(StoreError::MemberNotFound(update.id)), mail);
        };
        if let Err(error) = reconfiguration::check_update(&self.situation(&members), &update) {
            return self.reply_confirmed(ticket, Err(error), mail);
        }
        let info = MemberInfo {
            name: update.name.unwrap_or(known.name),
            peer_urls: update.peer_urls.unwrap_or(known.peer_urls),
            client_urls: update.client_urls.unwrap_or(known.client_urls),
            ..known
        };
        self.order_document(name, info.encode(), Then::AnswerMembers(ticket));
    }

    /// Hands the lead over to another member.
    pub(super) fn move_leader(
        &mut self,
        ticket: Ticket,
        to: u64,
        now_ms: u64,
        mail: &mut Mail<'_>,
    ) {
        let node = self.sequencer.node_mut();
        let outcome: Outcome = if to == node.id() {
            Ok(Answer::Done)
        } else {
            match node.transfer_leader(to) {
                Err(TransferError::NotLeader) => Err(StoreError::NotLeader),
                Err(TransferError::NotVoter { to }) => Err(StoreError::BadTransferee(to)),
                Ok(()) => {
                    let deadline_ms = now_ms + self.cluster.rules.election_ms;
                    let moving = Moving { ticket, to, deadline_ms };
                    self.cluster.stirred = true;
                    let before = self.cluster.reconfiguring.moving.replace(moving);
                    let Some(before) = before else { return };
                    return reply(before.ticket, Err(StoreError::TransferTimedOut), mail);
                }
            }
        };
        reply(ticket, outcome, mail);
    }

    /// Hands the lead over to whoever is the nearest to taking it, if anybody is: this member is about
    /// to stop.
    pub(super) fn hand_over(&mut self) {
        let lately = self.cluster.heard.lately(self.cluster.rules.election_ms);
        let node = self.sequencer.node_mut();
        let peers = node.peers().into_iter().filter(|(id, _)| lately.contains(id));
        let voters = peers.filter(|(id, _)| node.membership().is_voter(*id));
        if let Some((id, _)) = voters.max_by_key(|(_, peer)| peer.matched) {
            self.cluster.stirred |= node.transfer_leader(id).is_ok();
        }
    }

    fn follow_move(&mut self, now_ms: u64, mail: &mut Mail<'_>) {
        let leader = self.sequencer.node().leader();
        let over = |moving: &mut Moving| leader == moving.to || now_ms >= moving.deadline_ms;
        if let Some(moving) = self.cluster.reconfiguring.moving.take_if(over) {
            let arrived = leader == moving.to;
            let outcome =
                if arrived { Ok(Answer::Done) } else { Err(StoreError::TransferTimedOut) };
            reply(moving.ticket, outcome, mail);
        }
    }
}

/// Why raft does not take a change; `None` if it will in a moment.
fn refusal(error: ChangeError) -> Option<StoreError> {
    Some(match error {
        ChangeError::Propose(ProposeError::NotLeader) => StoreError::NotLeader,
        ChangeError::Propose(_)
        | ChangeError::Pending { .. }
        | ChangeError::TermNotStarted
        | ChangeError::Joint
        | ChangeError::NotJoint => return None,
        ChangeError::Exists { id } => StoreError::MemberExists(id),
        ChangeError::Unknown { id } => StoreError::MemberNotFound(id),
        ChangeError::NotLearner { id } => StoreError::MemberNotLearner(id),
        ChangeError::NotCaughtUp { id, .. } => StoreError::LearnerNotReady(id),
        ChangeError::NoVoter => StoreError::NotEnoughStartedMembers,
        ChangeError::TooMany => StoreError::TooManyRequests,
    })
}
