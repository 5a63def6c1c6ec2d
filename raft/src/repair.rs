//! Disks that lie and disks that are lost.
//!
//! **A damaged entry** is one that the disk still names (index and term) and can't give back. It was
//! possibly acknowledged, so it is never treated as absent (Alagappan et al., "Protocol-Aware
//! Recovery for Consensus-Based Storage", FAST 2018):
//!
//! * It counts in elections: the member votes for nobody whose log ends before its own does.
//! * It is not acknowledged: what a member calls durable ends right before it, until it is mended.
//! * Nothing from it on is applied, and it is sent to nobody.
//! * A follower asks its leader for it. A leader asks everybody, for it may be the only one whose
//!   log is long enough to lead. A copy with the same index and term is the same entry.
//! * A leader that hears from a quorum that they never had it, knows that it is not committed, and
//!   that those can elect one of themselves; one that hears that it is part of a snapshot needs
//!   that. In both cases it gives way: it steps down and lets others go first. The next leader's
//!   entries or its snapshot take the damaged one's place. It never cuts its log by itself.
//! * If nobody has it, the cluster waits: for a member that is down, not for luck.
//!
//! If a disk can't even name what it lost, it is a lost disk.
//!
//! **A lost disk** takes a member's promises along: its votes, and every entry that it had
//! acknowledged. If it came back empty under its old name, it could vote twice in a term, and help to
//! elect a leader without entries that were committed thanks to it. So it comes back in a new life
//! ([`Config::incarnation`], greater than ever before), and that is another voter as far as counting
//! is concerned: every message carries the life of its sender, every membership names the life of
//! those members that have had more than one, and answers and votes count only if the two agree. The
//! leader that hears from a new life replaces the voter by a learner of that life. That is a change
//! of members like any other: committed by a majority of the others, who have everything. When the
//! learner has caught up, the leader makes it a voter. Until then it neither votes, nor campaigns,
//! nor counts. Old messages of its former life stay what they are: the last words of a member that is
//! gone for good.
//!
//! [`Config::incarnation`]: crate::Config::incarnation

use std::collections::{BTreeMap, BTreeSet};

use crate::error::StepError;
use crate::membership::Membership;
use crate::messages::{Body, RepairAnswer};
use crate::node::Node;
use crate::quorum;
use crate::types::{Damage, EntriesWanted, Entry, EntryKind, Role};

/// Entries read for peers at a time.
const LENDING: usize = 64;

/// Election timeouts for which a leader that gave way lets others go first.
const PATIENCE: u64 = 4;

#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// When peers were last asked.
    asked: u64,
    /// Who never had a damaged entry, by index, as this leader was told.
    absent: BTreeMap<u64, Vec<u64>>,
    /// On their way to the disk.
    under_way: BTreeSet<u64>,
    /// Peer and index: entries that are being read for them.
    lending: Vec<(u64, u64)>,
    /// Others go first until then.
    patient_until: u64,
}

impl Repairs {
    pub(crate) fn forget_answers(&mut self) {
        self.absent.clear();
    }

    pub(crate) fn forget_before(&mut self, index: u64) {
        self.under_way = self.under_way.split_off(&(index + 1));
        self.absent.clear();
    }
}

impl Node {
    /// An entry on this member's disk can't be read. No effect if it was compacted or replaced.
    pub fn damaged(&mut self, damage: Damage) {
        let index = damage.index;
        self.forget_reading(index);
        let known = self.log.term_at(index) == Some(damage.term) && index > self.log.base_index;
        if !known || index > self.log.durable {
            return;
        }
        let copy = self.log.cached(index).cloned();
        self.log.damaged.insert(index, damage);
        if let Some(copy) = copy {
            self.offer_repair(&copy);
        }
    }

    /// Damaged entries that are not mended yet.
    pub fn damages(&self) -> impl Iterator<Item = &Damage> {
        self.log.damaged.values()
    }

    /// Whether this member should not lead now: it can't tell who its cluster is, or has just found
    /// out that another one should.
    pub(crate) fn knows_too_little(&self) -> bool {
        let blind = |damage: &Damage| damage.kind == EntryKind::Membership;
        self.now < self.repairs.patient_until || self.log.damaged.values().any(blind)
    }

    /// Asks for what is damaged: the leader, or everybody if this is the leader.
    pub(crate) fn request_repairs(&mut self) {
        if self.log.damaged.is_empty() || self.now < self.repairs.asked + 2 {
            return;
        }
        self.repairs.asked = self.now;
        let open = self.log.damaged.values();
        let open = open.filter(|damage| !self.repairs.under_way.contains(&damage.index));
        let open: Vec<Damage> = open.take(self.options.repairs_at_once).copied().collect();
        let everybody: Vec<u64> = match self.role {
            Role::Leader => self.leading.peers.keys().copied().collect(),
            _ => vec![self.leader],
        };
        for Damage { index, term: entry_term, .. } in open {
            for peer in &everybody {
                self.send(*peer, Body::RepairRequest { index, entry_term });
            }
        }
    }

    pub(crate) fn handle_repair_request(&mut self, from: u64, index: u64, entry_term: u64) {
        if index <= self.log.base_index {
            self.answer_repair(from, index, entry_term, RepairAnswer::Compacted);
            if self.role == Role::Leader {
                self.begin_snapshot(from);
            }
        } else if self.log.term_at(index) != Some(entry_term) {
            self.answer_repair(from, index, entry_term, RepairAnswer::Absent);
        } else if let Some(entry) = self.log.cached(index).cloned() {
            self.answer_repair(from, index, entry_term, RepairAnswer::Intact(entry));
        } else if index > self.log.durable || self.log.damaged.contains_key(&index) {
            self.answer_repair(from, index, entry_term, RepairAnswer::Unknown);
        } else if self.repairs.lending.len() < LENDING {
            self.repairs.lending.push((from, index));
            let max_bytes = self.options.message_bytes;
            self.out.entries_wanted.push(EntriesWanted { from: index, to: index, max_bytes });
        }
    }

    fn answer_repair(&mut self, to: u64, index: u64, entry_term: u64, answer: RepairAnswer) {
        self.send(to, Body::RepairResponse { index, entry_term, answer });
    }

    /// An entry was read that somebody asked for.
    pub(crate) fn lend(&mut self, entry: &Entry) {
        let lending = std::mem::take(&mut self.repairs.lending);
        for (peer, index) in lending {
            if index == entry.index {
                let answer = RepairAnswer::Intact(entry.clone());
                self.answer_repair(peer, index, entry.term, answer);
            } else {
                self.repairs.lending.push((peer, index));
            }
        }
    }

    pub(crate) fn handle_repair_response(
        &mut self,
        from: u64,
        index: u64,
        entry_term: u64,
        answer: RepairAnswer,
    ) -> Result<(), StepError> {
        if self.log.damaged.get(&index).is_none_or(|damage| damage.term != entry_term) {
            return Ok(());
        }
        match answer {
            RepairAnswer::Intact(entry) => {
                let sensible =
                    entry.kind == EntryKind::Normal || Membership::decode(&entry.data).is_some();
                if (entry.index, entry.term) != (index, entry_term) || !sensible {
                    return Err(StepError::Malformed { from });
                }
                self.offer_repair(&entry);
            }
            RepairAnswer::Absent if self.role == Role::Leader => self.note_absent(from, index),
            RepairAnswer::Compacted if self.role == Role::Leader => self.give_way(),
            _ => {}
        }
        Ok(())
    }

    /// Somebody never had a damaged entry. A quorum of them means that it was never committed.
    fn note_absent(&mut self, from: u64, index: u64) {
        let absent = self.repairs.absent.entry(index).or_default();
        if !absent.contains(&from) {
            absent.push(from);
        }
        let lacks = |id| absent.contains(&id);
        let then = self.history.at(index);
        if quorum::holds(self.history.membership(), lacks)
            && then.is_some_and(|then| quorum::holds(then, lacks))
        {
            self.give_way();
        }
    }

    fn give_way(&mut self) {
        let patience = PATIENCE * u64::from(self.options.election_ticks);
        self.repairs.patient_until = self.now + patience;
        self.become_follower(self.hard_state.term, 0);
    }

    /// An intact copy of an entry that may be damaged here.
    pub(crate) fn offer_repair(&mut self, entry: &Entry) {
        let damage = self.log.damaged.get(&entry.index);
        if damage.is_none_or(|damage| damage.term != entry.term)
            || !self.repairs.under_way.insert(entry.index)
        {
            return;
        }
        if entry.kind == EntryKind::Membership
            && let Some(membership) = Membership::decode(&entry.data)
        {
            self.history.restore(entry.index, membership);
            self.note_membership();
        }
        self.out.repairs.push(entry.clone());
    }

    /// The intact copy is on the disk.
    pub(crate) fn repaired(&mut self, index: u64) {
        self.repairs.under_way.remove(&index);
        self.log.damaged.remove(&index);
    }

    /// The log is cut before `index`: what was to be mended behind it is gone.
    pub(crate) fn cut_repairs(&mut self, index: u64) {
        self.repairs.under_way.split_off(&index);
        self.out.repairs.retain(|entry| entry.index < index);
    }
}
