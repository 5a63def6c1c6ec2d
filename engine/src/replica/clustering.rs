//! A member among others: what raft wants done goes out, what it has committed is applied, and its
//! changes of mind about who leads are followed.

use std::collections::{BTreeMap, BTreeSet};

use super::applying::{Applied, Applying};
use super::forwarding::Forwarding;
use super::reading_index::ReadingIndex;
use super::reconfiguring::Reconfiguring;
use super::{Mail, Member, Output, Replica};
use crate::cluster::MemberInfo;
use crate::message::{Message, Reign};
use crate::peer::PeerMessage;
use crate::sequencer::{Committed, LogWrite, Next};
use crate::shared::Shared;

use mainstay_raft::{Install, Role};

/// Entries that one turn applies before others have theirs.
const APPLIED_AT_ONCE: usize = 64;

/// What this member is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// All of it: whatever is durable is committed.
    Lone,
    /// It applies what is committed. Raft may lead already, but not everything before its term is
    /// applied.
    Following,
    /// It evaluates requests.
    Leading { term: u64 },
    /// So many cores have yet to undo what is not committed. Nothing is applied meanwhile.
    SteppingDown { missing: usize },
}

/// How a member that is not alone behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Milliseconds that a request waits for whoever has to decide it, as in etcd.
    pub request_timeout_ms: u64,
    /// Milliseconds without a sign of life from a leader, after which there is an election.
    pub election_ms: u64,
    /// Ticks that a member of a new cluster is ahead, so that it need not wait for an election.
    pub initial_ticks: u32,
    /// Refuse changes of members that would leave too few of them at work.
    pub strict_reconfig: bool,
    /// Learners at once.
    pub max_learners: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            request_timeout_ms: 7_000,
            election_ms: 1_000,
            initial_ticks: 9,
            strict_reconfig: true,
            max_learners: 1,
        }
    }
}

/// Core 0's part of being one among others.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) phase: Phase,
    pub(super) reign: Reign,
    /// Raft was told something since it was last asked what to do.
    pub(super) stirred: bool,
    /// Everything up to here is committed.
    commit: u64,
    /// The log was told so up to here.
    noted_commit: u64,
    /// Who is a member, or what is known of them, has changed.
    pub(super) members_changed: bool,
    /// A snapshot is about to take the place of everything.
    pub(super) installing: bool,
    /// It waits for what is being applied, or undone.
    install: Option<Box<Install>>,
    /// One has just done so: its messages go before anything that is applied next.
    pub(super) replaced: bool,
    pub(super) applying: Applying,
    pub(super) reading: ReadingIndex,
    pub(super) forwarding: Forwarding,
    pub(super) reconfiguring: Reconfiguring,
    pub(super) rules: Rules,
    pub(super) heard: Heard,
    pub(super) initial_members: Vec<MemberInfo>,
}

/// When other members were heard of.
#[derive(Debug, Default)]
pub(super) struct Heard {
    at_ms: BTreeMap<u64, u64>,
    now_ms: u64,
}

impl Heard {
    fn note(&mut self, from: u64, now_ms: u64) {
        self.at_ms.insert(from, now_ms);
        self.tick(now_ms);
    }

    fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Those that were within the last `span_ms`.
    pub(super) fn lately(&self, span_ms: u64) -> BTreeSet<u64> {
        let lately = |at_ms: &u64| self.now_ms.saturating_sub(*at_ms) <= span_ms;
        self.at_ms.iter().filter(|(_, at_ms)| lately(at_ms)).map(|(id, _)| *id).collect()
    }
}

impl Cluster {
    pub(super) fn new(phase: Phase, commit: u64) -> Cluster {
        Cluster {
            phase,
            reign: Reign::from(phase == Phase::Lone),
            stirred: true,
            commit,
            noted_commit: commit,
            members_changed: true,
            installing: false,
            install: None,
            replaced: false,
            applying: Applying::default(),
            reading: ReadingIndex::default(),
            forwarding: Forwarding::default(),
            reconfiguring: Reconfiguring::default(),
            rules: Rules::default(),
            heard: Heard::default(),
            initial_members: Vec::new(),
        }
    }
}

impl Member {
    /// Whether this member has others, or had since the start.
    pub fn is_clustered(&self) -> bool {
        self.sequencer.is_clustered()
    }

    /// Tells all cores who this member is. To be called before they begin.
    pub fn introduce(&self, shared: &Shared) {
        if self.is_clustered() {
            shared.set_clustered();
        }
        self.tell_roles(shared);
    }

    pub(super) fn tell_roles(&self, shared: &Shared) {
        let node = self.sequencer.node();
        let learner = node.membership().is_learner(node.id());
        shared.set_roles(node.id(), node.leader(), learner);
    }

    /// How it behaves among others.
    pub fn set_rules(&mut self, rules: Rules) {
        self.cluster.rules = rules;
    }

    /// Whether requests are decided here.
    pub(super) fn leads(&self) -> bool {
        matches!(self.cluster.phase, Phase::Lone | Phase::Leading { .. })
    }

    pub(super) fn deadline_ms(&self, now_ms: u64) -> u64 {
        now_ms + self.cluster.rules.request_timeout_ms
    }

    /// Goes on with others as soon as everything is durable, if that is wanted.
    pub(super) fn go_on_with_others(&mut self, shared: &Shared) {
        let wanted = self.cluster.phase == Phase::Lone && self.cluster.reconfiguring.has_waiting();
        if !wanted || !self.sequencer.is_settled() {
            return;
        }
        shared.set_clustered();
        self.sequencer.go_on_with_others();
        let node = self.sequencer.node_mut();
        node.applied(node.commit());
        let (term, commit) = (node.term(), node.commit());
        self.cluster.phase = Phase::Leading { term };
        (self.cluster.commit, self.cluster.noted_commit) = (commit, commit);
        self.cluster.stirred = true;
    }

    /// Everything that raft wants done by now goes out. Gives whether there could be something.
    fn take_ready(&mut self, shared: &Shared, out: &mut Output) -> bool {
        if !std::mem::take(&mut self.cluster.stirred) {
            return false;
        }
        let (write, ready) = self.sequencer.take_ready();
        out.writes.extend(write);
        let messages = ready.messages.into_iter();
        out.peer.extend(messages.map(|message| (message.to, PeerMessage::Raft(message))));
        self.cluster.commit = self.cluster.commit.max(ready.commit);
        out.entries_wanted.extend(ready.entries_wanted);
        out.snapshots_wanted.extend(ready.snapshots_wanted);
        if ready.install.is_some() {
            self.cluster.installing = true;
            self.cluster.install = ready.install;
        }
        for read in ready.reads {
            self.cluster.reading.found(read.context, read.index);
        }
        for context in ready.failed_reads {
            self.cluster.reading.failed(context);
        }
        self.cluster.members_changed |= ready.membership.is_some();
        self.tell_roles(shared);
        true
    }

    /// Begins to apply what is committed, as much as may be on its way.
    fn begin_applying(&mut self, mail: &mut Mail<'_>) {
        let may_apply = matches!(self.cluster.phase, Phase::Following | Phase::Leading { .. });
        if !may_apply || self.cluster.installing {
            return;
        }
        while self.cluster.applying.has_room()
            && let Some(next) = self.sequencer.take_committed(self.cluster.commit)
        {
            match next {
                Next::Own(own) => self.cluster.applying.begin_own(own),
                Next::Entry(entry) => self.cluster.applying.begin_foreign(&entry, self.cores, mail),
            }
        }
    }

    /// An entry is applied, and its batch handed out.
    fn entry_applied(&mut self, index: u64) {
        self.sequencer.tail_mut().applied(index);
        self.sequencer.node_mut().applied(index);
    }

    /// Whether raft leads and all before its term is applied.
    fn may_take_lead(&self) -> bool {
        let (node, tail) = (self.sequencer.node(), self.sequencer.tail());
        let applied = tail.applied_index();
        node.role() == Role::Leader
            && self.cluster.applying.is_empty()
            && applied == tail.last_index()
            && node.term_at(applied) == Some(node.term())
    }

    /// What follows from what is applied by now, and from who leads. Gives whether raft was told
    /// something.
    fn go_on(&mut self, now_ms: u64, shared: &Shared, mail: &mut Mail<'_>) -> bool {
        let applied = self.sequencer.tail().applied_index();
        self.cluster.reading.applied(applied, mail);
        self.cluster.forwarding.applied(applied, mail);
        let node = self.sequencer.node_mut();
        self.cluster.stirred |= self.cluster.reading.retry(node, mail);
        let leader = node.leader();
        match self.cluster.phase {
            Phase::Leading { .. } => {
                while let Some((ticket, request)) = self.cluster.forwarding.take_waiting() {
                    self.decide(ticket, request, now_ms, shared, mail);
                }
            }
            Phase::Following if leader != 0 && leader != node.id() => {
                self.cluster.forwarding.send(leader, mail.out);
            }
            _ => {}
        }
        if self.cluster.phase == Phase::Following && self.cluster.applying.is_empty() {
            mail.out.install = self.cluster.install.take().or(mail.out.install.take());
        }
        self.reconfigure(now_ms, shared, mail);
        if std::mem::take(&mut self.cluster.members_changed) {
            mail.out.members = Some(self.members().into());
        }
        self.cluster.stirred
    }

    /// Puts what waits into entries.
    pub(super) fn propose(&mut self, in_flight_max: usize) {
        if !matches!(self.cluster.phase, Phase::Leading { .. }) {
            return;
        }
        while self.sequencer.may_append(in_flight_max) && self.sequencer.propose_next() {
            self.cluster.stirred = true;
        }
    }

    /// Notes in the log what is committed, now and then, so that a restart applies it at once.
    pub(super) fn note_commit(&mut self, out: &mut Output) {
        if self.is_clustered() && self.cluster.commit > self.cluster.noted_commit {
            self.cluster.noted_commit = self.cluster.commit;
            let hard_state = Some(self.sequencer.node().hard_state());
            out.writes.push(LogWrite { hard_state, ..LogWrite::default() });
        }
    }
}

impl Replica {
    /// Raft's time passes: one interval between heartbeats.
    pub fn raft_tick(&mut self, now_ms: u64, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 has raft");
        if member.is_clustered() {
            member.cluster.heard.tick(now_ms);
            member.sequencer.node_mut().tick();
            member.cluster.stirred = true;
            let mut mail = Mail { own: &mut self.own, out };
            member.cluster.forwarding.tick(now_ms, &mut mail);
            member.cluster.reading.expire(now_ms, &mut mail);
        }
        self.resume(now_ms, out);
    }

    /// This member is about to stop: another one is to lead, if there is one.
    pub fn hand_over(&mut self, now_ms: u64, out: &mut Output) {
        if let Some(member) = &mut self.member
            && member.is_clustered()
        {
            member.hand_over();
        }
        self.resume(now_ms, out);
    }

    /// The connection to another member broke: if that one leads, it may be gone.
    pub fn peer_lost(&mut self, peer: u64, now_ms: u64, out: &mut Output) {
        if let Some(member) = &mut self.member
            && member.is_clustered()
            && member.sequencer.node().leader() == peer
        {
            member.sequencer.node_mut().suspect_leader();
        }
        self.resume(now_ms, out);
    }

    /// Another member says something. What makes no sense is dropped.
    pub fn peer_message(&mut self, from: u64, message: PeerMessage, now_ms: u64, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 has peers");
        member.cluster.heard.note(from, now_ms);
        match message {
            PeerMessage::Raft(message) => member.step(from, message),
            PeerMessage::Answer { number, outcome, index } => {
                let applied = self.shared.committed_index();
                let mut mail = Mail { own: &mut self.own, out };
                member.cluster.forwarding.answered(number, outcome, (index, applied), &mut mail);
            }
            PeerMessage::Request { number, request } => {
                if let Some(token) = member.take_remote(from, number, out) {
                    self.begin_request(token, request, out);
                }
            }
        }
        self.resume(now_ms, out);
    }

    /// The log is durable up to the write of this number.
    pub fn written(&mut self, number: u64, now_ms: u64, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 has the log");
        if member.is_clustered() {
            member.written(number);
            return self.resume(now_ms, out);
        }
        if let Some(index) = member.sequencer.index_of_write(number) {
            self.persisted(index, now_ms, out);
        }
    }

    /// The log's writes were handed to the kernel up to that of this number.
    pub fn submitted(&mut self, number: u64, now_ms: u64, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 has the log");
        if !member.is_clustered()
            && let Some(index) = member.sequencer.index_of_write(number)
        {
            let progress = member.submitted(index);
            self.commit(progress.committed, now_ms, out);
            self.resume(now_ms, out);
        }
    }

    /// Does what follows from what raft was told.
    pub(super) fn turn(&mut self, now_ms: u64, out: &mut Output) {
        let Some(member) = &mut self.member else { return };
        if !member.is_clustered() {
            member.go_on_with_others(&self.shared);
            if !member.is_clustered() {
                return;
            }
        }
        if std::mem::take(&mut member.cluster.replaced) {
            // Cores hear of what is applied before they hear of other messages.
            out.resume = true;
            return;
        }
        loop {
            let member = self.member.as_mut().expect("just seen");
            let mut more = member.take_ready(&self.shared, out);
            more |= self.apply_committed(now_ms, out);
            more |= self.change_phase(now_ms, out);
            let member = self.member.as_mut().expect("just seen");
            let mut mail = Mail { own: &mut self.own, out };
            more |= member.go_on(now_ms, &self.shared, &mut mail);
            if !more || out.resume {
                break;
            }
        }
        let member = self.member.as_ref().expect("just seen");
        out.resume |= member.cluster.stirred;
    }

    fn apply_committed(&mut self, now_ms: u64, out: &mut Output) -> bool {
        let mut any = false;
        for _ in 0..APPLIED_AT_ONCE {
            let member = self.member.as_mut().expect("core 0 applies");
            member.begin_applying(&mut Mail { own: &mut self.own, out });
            let Some(applied) = member.cluster.applying.take_applied() else { return any };
            let Applied { batch, tickets, bytes } = applied;
            let index = batch.index;
            self.shared.skip_to(batch.revision_after);
            self.shared.remove_uncommitted(bytes);
            self.commit(vec![Committed { batch, tickets }], now_ms, out);
            self.member.as_mut().expect("core 0 applies").entry_applied(index);
            any = true;
        }
        out.resume = true;
        any
    }

    fn change_phase(&mut self, now_ms: u64, out: &mut Output) -> bool {
        let member = self.member.as_mut().expect("core 0 leads");
        let node = member.sequencer.node();
        let (leads, term) = (node.role() == Role::Leader, node.term());
        match member.cluster.phase {
            Phase::Leading { term: led }
                if (!leads || term != led) && member.cluster.applying.is_empty() =>
            {
                let reign = member.step_down(now_ms, &mut Mail { own: &mut self.own, out });
                (0..self.cores).for_each(|core| self.send(core, Message::StepDown { reign }, out));
                true
            }
            Phase::Following if member.may_take_lead() => {
                let reign = member.take_lead(now_ms, &self.shared);
                (0..self.cores).for_each(|core| self.send(core, Message::TakeLead { reign }, out));
                true
            }
            _ => false,
        }
    }
}
