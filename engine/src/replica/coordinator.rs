//! Requests that concern keys of several cores, one at a time.
//!
//! The shards hold back what touches the keys concerned and hand over their newest versions; the
//! request is evaluated here, takes its revision, and is installed everywhere before its effect
//! goes to the sequencer. Only rare requests come this way (Kubernetes makes none), so they wait
//! for each other and nothing can wait in a circle.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::owner;
use super::{Mail, Ticket};
use crate::effect::{Change, Effect};
use crate::error::StoreError;
use crate::lease::LeaseTable;
use crate::limits;
use crate::message::{Answer, Gather, Gathered, Message, Outcome};
use crate::mvcc;
use crate::record::{LeaseId, Record, Revision};
use crate::request::{KeyRange, Transaction};
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

#[derive(Debug)]
struct Job {
    id: u64,
    work: Work,
    /// The shards concerned, in order.
    shards: Vec<usize>,
    missing: usize,
    gathered: Vec<(usize, Gathered)>,
    /// While the shards install: what follows.
    effects: Vec<Effect>,
    finished: Vec<Finished>,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    cores: usize,
    waiting: VecDeque<Work>,
    current: Option<Job>,
    next_id: u64,
}

/// Work that may wait. Each is a request of some door, or one bunch of expired leases.
const WAITING_MAX: usize = 16_384;

impl Coordinator {
    pub(super) fn new(cores: usize) -> Coordinator {
        Coordinator { cores, waiting: VecDeque::new(), current: None, next_id: 1 }
    }

    /// Takes work on. Gives it back when too much is waiting.
    pub(super) fn submit(&mut self, work: Work, mail: &mut Mail<'_>) -> Result<(), Work> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(work);
        }
        self.waiting.push_back(work);
        self.start(mail);
        Ok(())
    }

    fn start(&mut self, mail: &mut Mail<'_>) {
        if self.current.is_some() {
            return;
        }
        let Some(work) = self.waiting.pop_front() else { return };
        let id = self.next_id;
        // Each lease of a job is frozen under a name of its own, counted from behind the job's.
        self.next_id += match &work {
            Work::Revoke { leases } => 1 + leases.len() as u64,
            _ => 1,
        };
        let gathers = self.gathers(id, &work);
        let shards: Vec<usize> = gathers.iter().map(|(shard, _)| *shard).collect();
        let missing = gathers.len();
        for (shard, gather) in gathers {
            mail.send(shard, Message::Gather(gather));
        }
        let (gathered, effects, finished) = (Vec::new(), Vec::new(), Vec::new());
        self.current = Some(Job { id, work, shards, missing, gathered, effects, finished });
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
        let mut ask = |range: &KeyRange, add: &dyn Fn(&mut Gather)| {
            let shards = match range {
                KeyRange::Single(key) => {
                    let shard = owner::of_key(key, self.cores);
                    shard..shard + 1
                }
                _ => 0..self.cores,
            };
            for shard in shards {
                let fresh = || Gather { job, hold: true, ..Gather::default() };
                add(by_shard.entry(shard).or_insert_with(fresh));
            }
        };
        let footprint = Footprint::of(transaction);
        for range in &footprint.ranges {
            ask(range, &|gather| gather.ranges.push(range.clone()));
        }
        by_shard.into_iter().collect()
    }

    /// A shard's share of the current job's state is here.
    pub(super) fn gathered(
        &mut self,
        from: usize,
        job: u64,
        gathered: Gathered,
        leases: &LeaseTable,
        shared: &Shared,
        mail: &mut Mail<'_>,
    ) {
        let current = self.current.as_mut().expect("only a job in progress gathers");
        assert_eq!(current.id, job);
        current.gathered.push((from, gathered));
        current.missing -= 1;
        if current.missing > 0 {
            return;
        }
        let gathered = std::mem::take(&mut current.gathered);
        let changes = match &mut current.work {
            Work::Transact { ticket, transaction } => {
                let view = view(Footprint::of(transaction), gathered, leases, shared);
                let committed = shared.committed_revision();
                let evaluation =
                    mvcc::evaluate(&view, committed, || shared.take_revision(), transaction);
                let outcome = evaluation.result.map(Answer::Transact);
                let (ticket, visible_at) = (*ticket, evaluation.visible_at);
                current.finished.push(Finished::Answer { ticket, outcome, visible_at });
                if !evaluation.changes.is_empty() {
                    let changes = evaluation.changes;
                    current.effects.push(Effect { revision: visible_at, changes });
                }
                true
            }
            Work::Revoke { leases } => {
                for (place, (lease, ticket)) in leases.iter().enumerate() {
                    current.effects.extend(deletions(&gathered, place, shared));
                    // Behind everything that has a revision by now: also behind the deletion of a
                    // key that is not attached any more, so that no key outlives its lease.
                    let after = shared.taken_revision();
                    let revoked = Finished::Revoked { lease: *lease, ticket: *ticket, after };
                    current.finished.push(revoked);
                }
                true
            }
            Work::LeaseKeys { ticket, lease } => {
                let mut keys: Vec<Bytes> = attached(&gathered, 0)
                    .map(|record| Bytes::copy_from_slice(record.key()))
                    .collect();
                keys.sort_unstable();
                let (ticket, lease) = (*ticket, *lease);
                current.finished.push(Finished::LeaseKeys { ticket, lease, keys });
                false
            }
        };
        if changes {
            self.install(mail);
        }
    }

    /// Sends every shard concerned its changes, none for some, which ends the holding.
    fn install(&mut self, mail: &mut Mail<'_>) {
        let current = self.current.as_mut().expect("installs what was gathered");
        let mut by_shard: BTreeMap<usize, Vec<Change>> =
            current.shards.iter().map(|&shard| (shard, Vec::new())).collect();
        for change in current.effects.iter().flat_map(|effect| &effect.changes) {
            let shard = owner::of_key(change.record.key(), self.cores);
            by_shard.get_mut(&shard).expect("its key was gathered").push(change.clone());
        }
        current.missing = by_shard.len();
        for (shard, changes) in by_shard {
            mail.send(shard, Message::Install { job: current.id, changes });
        }
    }

    pub(super) fn installed(&mut self, job: u64) {
        let current = self.current.as_mut().expect("only a job in progress installs");
        assert_eq!(current.id, job);
        current.missing -= 1;
    }

    /// What the current job leaves to the leader, once every shard has done its part.
    pub(super) fn finish(&mut self) -> Option<(Vec<Effect>, Vec<Finished>)> {
        let current = self.current.as_mut()?;
        if current.missing > 0 || current.finished.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut current.effects), std::mem::take(&mut current.finished)))
    }

    /// The current job has no more consequences: the next one may begin.
    pub(super) fn next(&mut self, mail: &mut Mail<'_>) {
        assert!(self.current.take().is_some());
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
        bytes += record.key().len();
        if bytes > limits::DELETE_KEY_BYTES {
            bytes = record.key().len();
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
