//! One core's share of the keys: their versions, their leases, and who may not touch them now.

mod ending;
mod footprint;
mod freeze;
mod restoring;
#[cfg(test)]
mod tests;

use crate::effect::{Control, Effect};
use crate::error::StoreError;
use crate::lease::Attachments;
use crate::mvcc::{Evaluation, Mvcc, Seen, View, evaluate};
use crate::record::{LeaseId, Record, Revision};
use crate::request::{KeyRange, Transaction, TransactionResponse};
use std::collections::VecDeque;

use ending::Ending;
pub use footprint::Footprint;
use footprint::Held;
use freeze::{Gate, Waiting};
pub use restoring::Restoring;

/// The caller's name for a request that may have to wait.
pub type RequestId = u64;

/// The coordinator's name for a freeze.
pub type Token = u64;

/// How the shards learn the revision counter: called once per transaction that changes something.
pub type TakeRevision<'a> = &'a mut dyn FnMut() -> Revision;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Done(Done),
    /// It waits behind a freeze; [`Shard::release`] will give its outcome.
    Deferred,
    /// It names a lease that this shard does not know. Once the shard has applied all that is
    /// committed now, evaluate again; if the lease is still unknown then, it does not exist.
    UnknownLease {
        lease: LeaseId,
        transaction: Transaction,
        /// That answer, too, is to be given when this is committed.
        visible_at: Revision,
    },
    /// Too many wait already.
    Refused(StoreError),
}

/// A request that was evaluated, and whose changes are installed.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// To be given when `visible_at` is committed, an error too.
    pub result: Result<TransactionResponse, StoreError>,
    /// For the sequencer.
    pub effect: Option<Effect>,
    pub visible_at: Revision,
}

/// What goes on after a freeze was released.
#[derive(Debug, PartialEq, Eq)]
pub enum Resumed {
    /// A deferred request; never with the outcome `Deferred`.
    Request { request: RequestId, outcome: Outcome },
    /// A deferred freeze is in force now.
    Frozen(Token),
}

/// One core's share. Requests are evaluated against its newest state, committed or not.
#[derive(Debug, Default)]
pub struct Shard {
    mvcc: Mvcc,
    attachments: Attachments,
    gate: Gate,
    endings: VecDeque<Ending>,
}

impl Shard {
    /// The keys, for reading.
    pub fn mvcc(&self) -> &Mvcc {
        &self.mvcc
    }

    /// The leases and their keys of this shard, for reading.
    pub fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// Evaluates a transaction whose keys are all of this shard, and installs what it changes.
    /// `committed` is the store's newest committed revision.
    pub fn evaluate(
        &mut self,
        request: RequestId,
        transaction: Transaction,
        committed: Revision,
        take: TakeRevision<'_>,
    ) -> Outcome {
        if self.gate.is_open() {
            return self.evaluate_now(transaction, committed, take);
        }
        let footprint = Footprint::of(&transaction);
        if !self.gate.blocks(&footprint, &self.held()) {
            return self.evaluate_now(transaction, committed, take);
        }
        if self.gate.is_full() {
            return Outcome::Refused(StoreError::TooManyRequests);
        }
        self.gate.defer(footprint, Waiting::Request { request, transaction });
        Outcome::Deferred
    }

    fn evaluate_now(
        &mut self,
        transaction: Transaction,
        committed: Revision,
        take: TakeRevision<'_>,
    ) -> Outcome {
        let Evaluation { result, changes, visible_at } =
            evaluate(&*self, committed, take, &transaction);
        if let Err(StoreError::LeaseNotFound(lease)) = result {
            return Outcome::UnknownLease { lease, transaction, visible_at };
        }
        for change in &changes {
            self.install(change.record.clone());
        }
        let effect = (!changes.is_empty()).then_some(Effect { revision: visible_at, changes });
        Outcome::Done(Done { result, effect, visible_at })
    }

    /// Makes `record` the newest version of its key: of a coordinated transaction, from the log or
    /// from another member. Gives the version that lived before the record's revision, as watchers
    /// want it.
    pub fn install(&mut self, record: Record) -> Option<Record> {
        let before = self.mvcc.install(record.clone());
        self.attachments.follow(record.key(), before.as_ref(), Some(&record));
        let before = before?;
        if before.mod_revision() == record.mod_revision() {
            let Seen::Live(before) = self.mvcc.get_at(record.key(), record.mod_revision() - 1)
            else {
                return None;
            };
            return Some(before.clone());
        }
        (!before.is_tombstone()).then_some(before)
    }

    /// Puts a key back as a snapshot holds it; see [`Mvcc::restore`].
    pub fn restore(&mut self, record: Record, previous: Revision) {
        self.attachments.follow(record.key(), None, Some(&record));
        self.mvcc.restore(record, previous);
    }

    /// [`restore`](Shard::restore), for a key whose [`hash`](crate::placement::hash) is known.
    pub(crate) fn restore_hashed(&mut self, hash: u64, record: Record, previous: Revision) {
        self.attachments.follow(record.key(), None, Some(&record));
        self.mvcc.restore_hashed(hash, record, previous);
    }

    /// Makes room for so many keys at once, rather than bit by bit.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.mvcc.reserve(keys);
    }

    /// Follows a control that was committed. A lease's freeze may be released after its revocation
    /// was applied here, not before.
    pub fn apply_control(&mut self, control: &Control) {
        self.attachments.apply_control(control);
        if let Control::Compact { revision } = control {
            self.mvcc.compact(*revision);
        }
    }

    /// History before `revision` is not to be had: it was another member's.
    pub fn compact_to(&mut self, revision: Revision) {
        self.mvcc.compact(revision);
    }

    /// Notes what is committed: it is never rolled back.
    pub fn settle(&mut self, committed: Revision) {
        self.mvcc.settle(committed);
    }

    /// Removes everything newer than `revision`, freezes too, and gives the requests that waited:
    /// leadership was lost. Keys that ended at that revision or before are still to be marked by
    /// [`end_slice`](Shard::end_slice).
    pub fn rollback(&mut self, revision: Revision) -> Vec<RequestId> {
        for (removed, now) in self.mvcc.rollback(revision) {
            self.attachments.follow(removed.key(), Some(&removed), now.as_ref());
        }
        self.endings.retain(|ending| ending.is_of(revision));
        self.gate.clear()
    }

    /// Lets go of versions that no read at `floor` or later sees, of up to `max_keys` keys: the log
    /// has them. Gives whether that was all.
    pub fn evict(&mut self, floor: Revision, max_keys: usize) -> bool {
        self.mvcc.evict(floor);
        self.mvcc.evict_slice(max_keys)
    }

    /// Forgets compacted versions of up to `max_keys` keys; whether that was all.
    pub fn compact_slice(&mut self, max_keys: usize) -> bool {
        self.mvcc.compact_slice(max_keys)
    }

    /// Keeps `ranges` as they are, for a transaction over several shards that will only read and
    /// change keys in them and attach keys to `leases`. Gives whether that is so already; otherwise
    /// it waits for other freezes, and [`release`](Self::release) will say when.
    ///
    /// There is no deadlock as long as freezes reach all shards in the same order.
    pub fn freeze(&mut self, token: Token, ranges: Vec<KeyRange>, leases: Vec<LeaseId>) -> bool {
        self.enter(token, Footprint { ranges, leases, ..Footprint::default() })
    }

    /// Keeps everything as it is that is attached to `leases`, and keeps keys from being attached.
    pub fn freeze_leases(&mut self, token: Token, leases: &[LeaseId]) -> bool {
        let mut whole_leases = leases.to_vec();
        whole_leases.sort_unstable();
        self.enter(token, Footprint { whole_leases, ..Footprint::default() })
    }

    /// What is held of leases at this moment.
    fn held(&self) -> Held<'_> {
        Held { mvcc: &self.mvcc, attachments: &self.attachments }
    }

    fn enter(&mut self, token: Token, footprint: Footprint) -> bool {
        if self.gate.blocks(&footprint, &self.held()) {
            self.gate.defer(footprint, Waiting::Freeze(token));
            return false;
        }
        self.gate.freeze(token, footprint);
        true
    }

    /// Ends a freeze, or gives up waiting for it, and goes on with what waited, in order.
    pub fn release(
        &mut self,
        token: Token,
        committed: Revision,
        take: TakeRevision<'_>,
    ) -> Vec<Resumed> {
        self.gate.release(token);
        let (mut resumed, mut index) = (Vec::new(), 0);
        loop {
            let held = Held { mvcc: &self.mvcc, attachments: &self.attachments };
            let Some((footprint, waiting)) = self.gate.next_unblocked(&mut index, &held) else {
                return resumed;
            };
            match waiting {
                Waiting::Request { request, transaction } => {
                    let outcome = self.evaluate_now(transaction, committed, take);
                    resumed.push(Resumed::Request { request, outcome });
                }
                Waiting::Freeze(token) => {
                    self.gate.freeze(token, footprint);
                    resumed.push(Resumed::Frozen(token));
                }
            }
        }
    }
}

impl View for Shard {
    fn newest(&self, key: &[u8]) -> Option<Record> {
        self.mvcc.newest_or_tombstone(key).cloned()
    }

    fn newest_in(&self, range: &KeyRange, visit: &mut dyn FnMut(&Record)) {
        if let KeyRange::Single(key) = range {
            self.mvcc.newest_or_tombstone(key).into_iter().for_each(visit);
        } else {
            self.mvcc.newest_in(range).for_each(visit);
        }
    }

    fn lease_exists(&self, lease: LeaseId) -> bool {
        self.attachments.is_known(lease)
    }

    fn compacted_revision(&self) -> Revision {
        self.mvcc.compacted_revision()
    }
}
