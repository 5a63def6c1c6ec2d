//! Requests that concern keys of several cores, or too many keys for one turn of a core.
//!
//! The shards hold back what touches the keys concerned and hand over their newest versions, a
//! slice at a time; the request is evaluated here, or by another thread when it is large, takes
//! its revision, and is installed everywhere before its effect goes to the sequencer. Requests that
//! touch the same keys wait for each other at the shards. All shards hear of them in the same
//! order, so nothing can wait in a circle.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::heavy::{Heavy, HeavyDone};
use super::owner;
use super::{Mail, Ticket};
use crate::effect::{Change, Deletion, Effect};
use crate::error::StoreError;
use crate::lease::LeaseTable;
use crate::limits;
use crate::message::{Answer, Ended, Gather, Gathered, Message, Outcome};
use crate::mvcc::{self, Evaluation};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{KeyRange, Transaction};
use crate::sequencer::Payload;
use crate::shard::Footprint;
use crate::shared::Shared;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Transact {
        ticket: Ticket,
        transaction: Transaction,
    },
    /// End leases and delete their keys. A lease that expired has no ticket.
    Revoke {
        leases: Vec<(LeaseId, Option<Ticket>)>,
    },
    LeaseKeys {
        ticket: Ticket,
        lease: LeaseId,
    },
}

/// What a finished job leaves to the leader.
#[derive(Debug)]
pub(super) enum Finished {
    Answer {
        ticket: Ticket,
        outcome: Outcome,
        visible_at: Revision,
    },
    /// The deletions are on their way to the sequencer; the lease may end behind `after`.
    Revoked {
        lease: LeaseId,
        ticket: Option<Ticket>,
        after: Revision,
    },
    LeaseKeys {
        ticket: Ticket,
        lease: LeaseId,
        keys: Vec<Bytes>,
    },
}

/// What a job gives to the sequencer and to the leader, once it is installed everywhere.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) effects: Vec<Effect>,
    /// With what the log is to hold of it.
    pub(super) deletion: Option<(Deletion, Payload)>,
    pub(super) finished: Vec<Finished>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    /// The shards concerned, in order.
    shards: Vec<usize>,
    /// Shards that have not gathered, or not installed.
    missing: usize,
    gathered: Vec<(usize, Gathered)>,
    /// While the shards install: what follows.
    results: Results,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    cores: usize,
    waiting: VecDeque<Work>,
    /// Revocations have their own order: one job of them at a time, until all are committed.
    waiting_revocations: VecDeque<Work>,
    revoking: bool,
    jobs: BTreeMap<u64, Job>,
    next_id: u64,
    /// Evaluations for another thread, one at a time.
    heavy: VecDeque<Heavy>,
    heavy_runs: bool,
}

/// Jobs under way at once, but for revocations. Each holds up to its footprint of records.
const JOBS_MAX: usize = 64;

/// Records that are evaluated here: about half a millisecond's worth.
const RECORDS_HERE: usize = if cfg!(test) { 3 } else { 1024 };

impl Coordinator {
    pub(super) fn new(cores: usize) -> Coordinator {
        Coordinator {
            cores,
            waiting: VecDeque::new(),
            waiting_revocations: VecDeque::new(),
            revoking: false,
            jobs: BTreeMap::new(),
            next_id: 1,
            heavy: VecDeque::new(),
            heavy_runs: false,
        }
    }

    /// Takes work on. Gives it back when too much is waiting.
    pub(super) fn submit(&mut self, work: Work, mail: &mut Mail<'_>) -> Result<(), Work> {
        let waiting = match &work {
            Work::Revoke { .. } => &mut self.waiting_revocations,
            _ => &mut self.waiting,
        };
        if waiting.len() >= limits::COORDINATED_REQUESTS {
            return Err(work);
        }
        waiting.push_back(work);
        self.start(mail);
        Ok(())
    }

    /// Whether leases wait for the end of others.
    pub(super) fn has_revocations_waiting(&self) -> bool {
        !self.waiting_revocations.is_empty()
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.jobs.is_empty() && !self.revoking
    }

    fn start(&mut self, mail: &mut Mail<'_>) {
        while self.jobs.len() < JOBS_MAX
            && let Some(work) = self.waiting.pop_front()
        {
            self.start_job(work, mail);
        }
        if !self.revoking
            && let Some(work) = self.waiting_revocations.pop_front()
        {
            self.revoking = true;
            self.start_job(work, mail);
        }
    }

    fn start_job(&mut self, work: Work, mail: &mut Mail<'_>) {
        let id = self.next_id;
        self.next_id += 1;
        let gathers = self.gathers(id, &work);
        let shards: Vec<usize> = gathers.iter().map(|(shard, _)| *shard).collect();
        let missing = gathers.len();
        for (shard, gather) in gathers {
            mail.send(shard, Message::Gather(gather));
        }
        let (gathered, results) = (Vec::new(), Results::default());
        self.jobs.insert(id, Job { work, shards, missing, gathered, results });
    }

    /// What to ask of which shard.
    fn gathers(&self, job: u64, work: &Work) -> Vec<(usize, Gather)> {
        match work {
            Work::Transact { transaction, .. } => self.transaction_gathers(job, transaction),
            Work::Revoke { leases } => {
                let leases: Vec<LeaseId> = leases.iter().map(|(lease, _)| *lease).collect();
                self.lease_gathers(job, true, &leases)
            }
            Work::LeaseKeys { lease, .. } => self.lease_gathers(job, false, &[*lease]),
        }
    }

    fn lease_gathers(&self, job: u64, hold: bool, leases: &[LeaseId]) -> Vec<(usize, Gather)> {
        let gather = Gather { job, hold, leases: leases.to_vec(), ..Gather::default() };
        (0..self.cores).map(|core| (core, gather.clone())).collect()
    }

    fn transaction_gathers(&self, job: u64, transaction: &Transaction) -> Vec<(usize, Gather)> {
        let mut by_shard: BTreeMap<usize, Gather> = BTreeMap::new();
        let footprint = Footprint::of(transaction);
        let mut ask = |range: &KeyRange, add: &dyn Fn(&mut Gather)| {
            let shards = match range {
                KeyRange::Single(key) => {
                    let shard = owner::of_key(key, self.cores);
                    shard..shard + 1
                }
                _ => 0..self.cores,
            };
            for shard in shards {
                let attaching = footprint.leases.clone();
                let fresh = || Gather { job, hold: true, attaching, ..Gather::default() };
                add(by_shard.entry(shard).or_insert_with(fresh));
            }
        };
        for range in &footprint.ranges {
            ask(range, &|gather| gather.ranges.push(range.clone()));
        }
        by_shard.into_iter().collect()
    }

    /// A shard's share of a job's state is here.
    pub(super) fn gathered(
        &mut self,
        from: usize,
        job: u64,
        gathered: Gathered,
        leases: &LeaseTable,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
        // One of a reign that is over is gone.
        let Some(current) = self.jobs.get_mut(&job) else { return };
        current.gathered.push((from, gathered));
        current.missing -= 1;
        if current.missing > 0 {
            return;
        }
        let gathered = std::mem::take(&mut current.gathered);
        let results = &mut current.results;
        match &mut current.work {
            Work::Transact { ticket, transaction } => {
                let records: usize = gathered.iter().map(|(_, part)| part.records()).sum();
                let view = view(Footprint::of(transaction), gathered, leases, shared);
                let committed = shared.committed_revision();
                if records > RECORDS_HERE {
                    let transaction = std::mem::take(transaction);
                    self.heavy.push_back(Heavy { job, transaction, view, committed });
                    return self.start_heavy(mail);
                }
                let Evaluation { result, changes, visible_at } = mvcc::evaluate(
                    &view.ready(),
                    committed,
                    || shared.take_revision(),
                    transaction,
                );
                let (ticket, outcome) = (*ticket, result.map(Answer::Transact));
                results.finished.push(Finished::Answer { ticket, outcome, visible_at });
                if !changes.is_empty() {
                    results.effects.push(Effect { revision: visible_at, changes });
                }
            }
            Work::Revoke { leases } => {
                for (place, (lease, ticket)) in leases.iter().enumerate() {
                    results.effects.extend(deletions(&gathered, place, shared));
                    // Behind everything that has a revision by now: also behind the deletion of a
                    // key that is not attached any more, so that no key outlives its lease.
                    let after = shared.taken_revision();
                    let revoked = Finished::Revoked { lease: *lease, ticket: *ticket, after };
                    results.finished.push(revoked);
                }
            }
            Work::LeaseKeys { ticket, lease } => {
                let mut keys: Vec<Bytes> = attached(&gathered, 0)
                    .map(|record| Bytes::copy_from_slice(record.key()))
                    .collect();
                keys.sort_unstable();
                let (ticket, lease) = (*ticket, *lease);
                results.finished.push(Finished::LeaseKeys { ticket, lease, keys });
                // Nothing was held and nothing changes.
                return;
            }
        }
        self.install(job, mail);
    }

    fn start_heavy(&mut self, mail: &mut Mail<'_>) {
        if !self.heavy_runs
            && let Some(heavy) = self.heavy.pop_front()
        {
            self.heavy_runs = true;
            mail.out.heavy.push(heavy);
        }
    }

    /// Another thread has evaluated a large transaction: it takes its revision now.
    pub(super) fn evaluated(&mut self, done: HeavyDone, shared: &Shared, mail: &mut Mail<'_>) {
        self.heavy_runs = false;
        let job = done.job;
        let Some(current) = self.jobs.get_mut(&job) else { return self.start_heavy(mail) };
        let Work::Transact { ticket, .. } = &current.work else {
            unreachable!("only transactions are heavy")
        };
        let settled = done.settle(|| shared.take_revision());
        let (outcome, visible_at) = (settled.result.map(Answer::Transact), settled.visible_at);
        let ticket = *ticket;
        current.results.finished.push(Finished::Answer { ticket, outcome, visible_at });
        if !settled.changes.is_empty() {
            let (revision, changes) = (visible_at, settled.changes);
            current.results.effects.push(Effect { revision, changes });
        }
        match settled.deletion {
            None => self.install(job, mail),
            Some(deletion) => {
                let ended = Ended { revision: visible_at, ranges: deletion.ranges };
                current.missing = current.shards.len();
                for &shard in &current.shards {
                    mail.send(shard, Message::End { job, ended: Box::new(ended.clone()) });
                }
                let deleted = Arc::new(deletion.deleted);
                let deletion = (Deletion { revision: visible_at, deleted }, deletion.payload);
                current.results.deletion = Some(deletion);
            }
        }
        self.start_heavy(mail);
    }

    /// Sends every shard concerned its changes, none for some, which ends the holding.
    fn install(&mut self, job: u64, mail: &mut Mail<'_>) {
        let current = self.jobs.get_mut(&job).expect("installs what was gathered");
        let mut by_shard: BTreeMap<usize, Vec<Change>> =
            current.shards.iter().map(|&shard| (shard, Vec::new())).collect();
        for change in current.results.effects.iter().flat_map(|effect| &effect.changes) {
            let shard = owner::of_key(change.record.key(), self.cores);
            by_shard.get_mut(&shard).expect("its key was gathered").push(change.clone());
        }
        current.missing = by_shard.len();
        for (shard, changes) in by_shard {
            mail.send(shard, Message::Install { job, changes });
        }
    }

    pub(super) fn installed(&mut self, job: u64) {
        if let Some(current) = self.jobs.get_mut(&job) {
            current.missing -= 1;
        }
    }

    /// What a job leaves to the leader, once every shard has done its part. It is over then, but
    /// for the commit of revocations.
    pub(super) fn finish(&mut self, job: u64, mail: &mut Mail<'_>) -> Option<Results> {
        let current = self.jobs.get(&job)?;
        if current.missing > 0 || current.results.finished.is_empty() {
            return None;
        }
        let results = self.jobs.remove(&job)?.results;
        self.start(mail);
        Some(results)
    }

    /// This member leads no more: forgets everything, and gives who waits for it. What another thread
    /// is at will be in vain.
    pub(super) fn abandon(&mut self) -> Vec<Ticket> {
        let jobs = std::mem::take(&mut self.jobs).into_values().map(|job| job.work);
        let waiting = self.waiting.drain(..).chain(self.waiting_revocations.drain(..));
        let tickets = jobs.chain(waiting).flat_map(|work| match work {
            Work::Transact { ticket, .. } | Work::LeaseKeys { ticket, .. } => vec![ticket],
            Work::Revoke { leases } => leases.into_iter().filter_map(|lease| lease.1).collect(),
        });
        let tickets = tickets.collect();
        self.heavy.clear();
        self.revoking = false;
        tickets
    }

    /// All revocations of the job before are committed: the next may begin.
    pub(super) fn revoked(&mut self, mail: &mut Mail<'_>) {
        assert!(std::mem::replace(&mut self.revoking, false));
        self.start(mail);
    }
}

fn attached(gathered: &[(usize, Gathered)], place: usize) -> impl Iterator<Item = &Record> {
    gathered.iter().flat_map(move |(_, gathered)| &gathered.attached[place])
}

/// The end of all keys attached to a lease, in key order: at one revision of its own, or at
/// several when the keys are too large for one effect.
fn deletions(gathered: &[(usize, Gathered)], place: usize, shared: &Shared) -> Vec<Effect> {
    let mut records: Vec<&Record> = attached(gathered, place).collect();
    records.sort_unstable_by(|left, right| left.key().cmp(right.key()));
    let mut effects: Vec<Effect> = Vec::new();
    let mut bytes = limits::DELETE_KEY_BYTES;
    for record in records {
        bytes += record.key().len() + limits::DELETE_OVERHEAD_BYTES;
        if bytes > limits::DELETE_KEY_BYTES {
            bytes = record.key().len() + limits::DELETE_OVERHEAD_BYTES;
            effects.push(Effect { revision: shared.take_revision(), changes: Vec::new() });
        }
        let effect = effects.last_mut().expect("the first record begins one");
        effect.changes.push(Change {
            record: Record::tombstone(record.key(), effect.revision),
            previous: Some(record.clone()),
        });
    }
    effects
}

/// The state of all that a transaction concerns, put together from all shards.
fn view(
    footprint: Footprint,
    gathered: Vec<(usize, Gathered)>,
    leases: &LeaseTable,
    shared: &Shared,
) -> mvcc::Gathered {
    let existing = footprint.leases.into_iter().filter(|&lease| leases.exists(lease));
    let compacted = shared.compacted_revision();
    let mut view = mvcc::Gathered::new(footprint.ranges, existing, compacted);
    for (_, gathered) in gathered {
        view.add_newest(gathered.newest);
    }
    view
}

/// A refusal for work that could not be taken on.
pub(super) fn refused(work: Work) -> Vec<Finished> {
    let refuse = |ticket| {
        let outcome = Err(StoreError::TooManyRequests);
        Finished::Answer { ticket, outcome, visible_at: 0 }
    };
    match work {
        Work::Transact { ticket, .. } | Work::LeaseKeys { ticket, .. } => vec![refuse(ticket)],
        Work::Revoke { leases } => {
            leases.into_iter().filter_map(|(_, ticket)| ticket).map(refuse).collect()
        }
    }
}
