//! What core 0 does for all: order, leases, compaction, documents, coordination.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::clustering::{Cluster, Phase};
use super::committing::Pending;
use super::coordinator::{Coordinator, Work};
use super::forwarding::Forwarding;
use super::{Mail, Output, Ticket};
use crate::durability::{self, CEILING, Classes, read_ceiling};
use crate::lease::LeaseTable;
use crate::record::Revision;
use crate::sequencer::{Committed, Progress, Sequencer};
use crate::shared::Shared;

/// Expired leases that end as one job.
const EXPIRED_AT_ONCE: usize = 256;

/// Leases that one slice looks at for their checkpoint, and all slices of a tick: with two ticks a
/// second a million leases have their turn within every two minutes.
const CHECKPOINT_SLICE: usize = 512;
const CHECKPOINT_SLICES: usize = 8;

/// Core 0's part for all cores.
#[derive(Debug)]
pub struct Member {
    pub(super) sequencer: Sequencer,
    pub(super) coordinator: Coordinator,
    pub(super) leases: LeaseTable,
    pub(super) documents: BTreeMap<Bytes, Bytes>,
    /// What documents will be when everything ordered is committed, and how many changes of each
    /// are under way.
    pub(super) ordered_documents: HashMap<Bytes, (Bytes, usize)>,
    /// By the sequencer's ticket, with the control's bytes.
    pub(super) pending: HashMap<u64, (Pending, usize)>,
    pub(super) next_pending: u64,
    /// Revocations that the current job still has to see committed.
    pub(super) revoking: usize,
    /// The newest revision that somebody asked to compact to, committed or not.
    pub(super) compact_asked: Revision,
    /// Cores that have dropped what this revision allows, and who waits for all of them.
    pub(super) compaction: BTreeMap<Revision, Compaction>,
    pub(super) cores: usize,
    /// Bytes of the controls in `pending`.
    pub(super) pending_bytes: usize,
    /// Leases may have run out since this was looked at.
    pub(super) expiring: bool,
    /// Slices of leases that this tick has left to look at for checkpoints.
    pub(super) checkpoint_slices: usize,
    /// Relaxed batches at the last tick, and ticks since there was one.
    pub(super) relaxed_batches_seen: u64,
    pub(super) relaxed_quiet_ticks: u32,
    pub(super) cluster: Cluster,
}

#[derive(Debug, Default)]
pub(super) struct Compaction {
    pub(super) cores_done: BTreeSet<usize>,
    pub(super) waiting: Vec<Ticket>,
}

impl Member {
    pub fn new(
        cores: usize,
        sequencer: Sequencer,
        leases: LeaseTable,
        documents: BTreeMap<Bytes, Bytes>,
        compacted: Revision,
    ) -> Member {
        let phase = if sequencer.is_clustered() { Phase::Following } else { Phase::Lone };
        let cluster = Cluster::new(phase, sequencer.node().commit());
        Member {
            cluster,
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

    /// Says apart what this process asks other members from what an earlier one did: `seed` is drawn anew
    /// at each start.
    pub(crate) fn number_requests_from(&mut self, seed: u64) {
        self.cluster.forwarding = Forwarding::numbered_from(seed);
    }

    /// The member starts: its leases' time begins anew, and if it is alone it leads at once.
    pub fn start(&mut self, now_ms: u64) {
        self.leases.restart(now_ms, 0);
        if !self.is_clustered() {
            self.sequencer.campaign();
        } else if self.sequencer.node().last_index() == 0 {
            // Nobody leads a cluster that begins: there is no leader to wait for.
            let node = self.sequencer.node_mut();
            (0..self.cluster.rules.initial_ticks).for_each(|_| node.tick());
        }
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
        let Cluster { applying, reading, forwarding, .. } = &self.cluster;
        let others = applying.is_empty() && reading.is_empty() && forwarding.is_empty();
        self.coordinator.is_quiet() && others
    }

    pub(super) fn has_work(&self) -> bool {
        self.sequencer.has_work()
    }

    /// Gives what is committed without waiting for the log.
    pub(super) fn pump(&mut self, in_flight_max: usize, out: &mut Output) -> Vec<Committed> {
        let mut committed = Vec::new();
        while self.sequencer.may_append(in_flight_max) {
            let Some(append) = self.sequencer.pack() else { break };
            out.writes.push(append.write);
            committed.extend(self.sequencer.commit());
        }
        committed
    }

    /// The log is durable up to `index`, of a member that is alone.
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
    pub(super) fn tick(&mut self, out: &mut Output) {
        self.note_commit(out);
        self.expiring = true;
        self.checkpoint_slices = CHECKPOINT_SLICES;
        self.tick_ceiling();
    }

    /// Looks at some leases: for those that ran out, and for those whose time is to be noted. Gives
    /// whether there are more to look at now.
    pub(super) fn work_slice(&mut self, now_ms: u64, shared: &Shared, mail: &mut Mail<'_>) -> bool {
        if !self.leads() {
            return false;
        }
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
}
