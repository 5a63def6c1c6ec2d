//! Every answer is held against the log's order: it names a revision, that revision must be no older
//! than what was committed when it was asked and no newer than what is committed now, and what it
//! says must be what the model says of that revision. Since every change has a revision of its own,
//! this is linearizability, without a search.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use mainstay_engine::message::{Answer, Outcome, Request, Token};
use mainstay_engine::request::{
    HashKv, KeyRange, Operation, OperationResponse, RangeRequest, RangeResponse, Transaction,
    TransactionResponse,
};
use mainstay_engine::{LeaseId, Record, Revision, StoreError};

use super::bugs::Bug;
use super::evaluate::{check, check_range};
use super::world::{Asked, World};

/// What is remembered of answers.
#[derive(Default)]
pub(super) struct Ledger {
    /// Revisions of which a client knows that it made them.
    explained: BTreeSet<Revision>,
    /// The revision at the last start.
    started_at: Revision,
    /// Changes that clients asked for and never heard of.
    unknown: usize,
    /// Leases that clients asked to end.
    pub(super) revokes: BTreeSet<LeaseId>,
    /// No lease ends earlier by itself, ms.
    pub(super) deadlines: BTreeMap<LeaseId, u64>,
    /// The store's hash of states, by one of our own.
    hashes: BTreeMap<u64, u64>,
    /// For a planted mistake.
    last_range: Option<(KeyRange, RangeResponse)>,
}

impl World {
    pub(super) fn answered(&mut self, core: usize, token: Token, outcome: Outcome) {
        let asked = self.asked.remove(&(core, token));
        let asked = asked.unwrap_or_else(|| panic!("nobody asked, and {outcome:?} is the answer"));
        if let Ok(Answer::SnapshotSlice(slice)) = outcome {
            return self.slice_taken(slice);
        }
        self.report.answers += 1;
        match (&asked.request, outcome) {
            (Request::Range(request), Ok(Answer::Range(response))) => {
                self.check_read(&asked, request, response);
            }
            (Request::Transact(transaction), Ok(Answer::Transact(response))) => {
                self.check_transaction(&asked, transaction, &response);
            }
            (Request::HashKv { .. }, Ok(Answer::HashKv(answer))) => self.check_hash(&answer),
            (Request::LeaseGrant { id, ttl, .. }, Ok(Answer::LeaseGranted { id: got, ttl: t })) => {
                assert_eq!((id, ttl), (&got, &t));
                assert!(self.model.leases_ever.contains(id), "granted, and not in the log");
            }
            (Request::LeaseKeepAlive { id }, Ok(Answer::TimeToLive(ttl))) => {
                let renewed = asked.at_ms + ttl as u64 * 1000;
                let deadline = self.ledger.deadlines.entry(*id).or_default();
                *deadline = renewed.max(*deadline);
            }
            (Request::LeaseTimeToLive { id, keys }, Ok(Answer::LeaseStatus(status))) => {
                assert_eq!(status.id, *id);
                assert!(status.remaining_ttl <= status.granted_ttl);
                if *keys {
                    self.check_attached(&asked, *id, &status.keys);
                }
            }
            (Request::Leases, Ok(Answer::Leases(ids))) => {
                let known = |id: &LeaseId| self.model.leases_ever.contains(id);
                assert!(ids.iter().all(known), "leases that never were: {ids:?}");
            }
            (
                Request::Compact { .. } | Request::LeaseRevoke { .. },
                Ok(Answer::Revision(revision)),
            ) => {
                self.check_window(&asked, revision);
            }
            (_, Ok(answer)) => panic!("{answer:?} to {:?}", asked.request),
            (_, Err(error)) => self.check_refusal(&asked, &error),
        }
    }

    fn check_window(&self, asked: &Asked, revision: Revision) {
        let committed = self.model.revision;
        let request = &asked.request;
        assert!(revision >= asked.committed, "stale at {revision}: {request:?}");
        assert!(revision <= committed, "not committed at {revision}: {request:?}");
    }

    fn check_read(&mut self, asked: &Asked, request: &RangeRequest, mut response: RangeResponse) {
        if self.bug == Some(Bug::StaleRead) && request.revision <= 0 && !request.count_only {
            let last = self.ledger.last_range.take();
            let same = last.filter(|(range, _)| *range == request.range);
            self.ledger.last_range = Some((request.range.clone(), response.clone()));
            if let Some((_, old)) = same {
                response = RangeResponse { revision: response.revision, ..old };
            }
        }
        self.check_window(asked, response.revision);
        let old = request.revision > 0;
        let at = if old { request.revision } else { response.revision };
        self.report.old_reads += usize::from(old);
        let expected = self.model.range(&request.range, at);
        check_range(request, &response.records, response.count, response.more, &expected)
            .unwrap_or_else(|wrong| panic!("{request:?} at {at}: {wrong}"));
    }

    fn check_transaction(
        &mut self,
        asked: &Asked,
        transaction: &Transaction,
        response: &TransactionResponse,
    ) {
        self.check_window(asked, response.revision);
        self.report.transactions += 1;
        let revision = response.revision;
        let writes = wrote(response);
        let before = if writes { revision - 1 } else { revision };
        let expected = check(&self.model, transaction, response, before, revision);
        if let Some(wrong) = expected.wrong {
            panic!("at {revision}: {wrong}\n{transaction:?}\n{response:?}");
        }
        assert_eq!(writes, !expected.changes.is_empty(), "{transaction:?}: {response:?}");
        if !writes {
            return;
        }
        assert!(revision > asked.committed, "a revision from before it was asked for");
        assert!(self.ledger.explained.insert(revision), "two clients made revision {revision}");
        let by_key = |records: &[Record]| {
            let mut records = records.to_vec();
            records.sort_by(|left, right| left.key().cmp(right.key()));
            records
        };
        let logged = self.model.effect(revision).unwrap_or_default();
        assert_eq!(by_key(logged), by_key(&expected.changes), "what {transaction:?} did");
    }

    fn check_hash(&mut self, answer: &HashKv) {
        assert!(answer.revision <= self.model.revision, "a hash of what is not committed");
        self.report.hashes += 1;
        let mut hasher = DefaultHasher::new();
        for record in self.model.range(&KeyRange::prefix(b""), answer.revision) {
            let numbers =
                [record.create_revision(), record.mod_revision(), record.version(), record.lease()];
            (record.key(), record.value(), numbers).hash(&mut hasher);
        }
        let before = *self.ledger.hashes.entry(hasher.finish()).or_insert(answer.hash);
        assert_eq!(before, answer.hash, "two hashes of one state, at {}", answer.revision);
        let same = self.ledger.hashes.values().filter(|&&hash| hash == answer.hash).count();
        assert_eq!(same, 1, "one hash of two states, at {}", answer.revision);
    }

    /// Attached keys are those of some revision between question and answer.
    fn check_attached(&self, asked: &Asked, id: LeaseId, keys: &[bytes::Bytes]) {
        for key in keys {
            let mut revisions = asked.committed..=self.model.revision;
            let attached = revisions.any(|revision| {
                self.model.at(key, revision).is_some_and(|record| record.lease() == id)
            });
            assert!(attached, "{key:?} was not attached to lease {id}");
        }
    }

    fn check_refusal(&mut self, asked: &Asked, error: &StoreError) {
        let request = &asked.request;
        let explained = match error {
            StoreError::Compacted { requested, compacted } => {
                let compact = matches!(request, Request::Compact { .. });
                (requested < compacted || compact && requested == compacted)
                    && (compact || *compacted <= self.model.compacted)
            }
            StoreError::FutureRevision { requested, current } => {
                requested > current && *current >= asked.committed
            }
            StoreError::LeaseNotFound(id) => mentions(request, *id),
            StoreError::LeaseExists(id) => {
                matches!(request, Request::LeaseGrant { id: asked, .. } if asked == id)
            }
            StoreError::KeyNotFound => matches!(request, Request::Transact(_)),
            StoreError::NoSpace => {
                self.shared.disk_is_full() || self.full_ms.is_some_and(|full| full >= asked.at_ms)
            }
            StoreError::TooManyRequests => true,
            _ => false,
        };
        assert!(explained, "{request:?} is refused: {error}");
    }

    pub(super) fn leases_ended(&mut self, ended: &[LeaseId]) {
        for id in ended {
            self.report.leases_ended += 1;
            let deadline = self.ledger.deadlines.remove(id).unwrap_or_default();
            let asked = self.ledger.revokes.contains(id);
            let now = self.true_ms;
            assert!(asked || now >= deadline, "lease {id} ends at {now}, before {deadline}");
            let waits = |asked: &Asked| matches!(asked.request, Request::LeaseRevoke { id: other } if other == *id);
            if !self.asked.values().any(waits) {
                self.ledger.revokes.remove(id);
            }
        }
    }

    /// Those who asked before a crash never hear of it.
    pub(super) fn forget_unanswered(&mut self) {
        self.ledger.started_at = self.model.revision;
        self.ledger.unknown = 0;
    }

    /// Everything is at rest.
    pub(super) fn check_end(&mut self) {
        let forgotten: Vec<_> = self.asked.keys().copied().collect();
        let unknown = self.ledger.unknown + forgotten.len();
        for key in forgotten {
            self.asked.remove(&key);
        }
        let revisions = self.ledger.started_at + 1..=self.model.revision;
        let strange = revisions.filter(|revision| {
            !self.ledger.explained.contains(revision)
                && !self
                    .model
                    .effect(*revision)
                    .unwrap_or_default()
                    .iter()
                    .all(Record::is_tombstone)
        });
        let strange: Vec<Revision> = strange.collect();
        assert!(strange.len() <= unknown, "nobody asked for the revisions {strange:?}");
        assert_eq!(self.shared.committed_revision(), self.model.revision);
        self.drain_watches();
        self.check_memory();
    }

    /// What no read at the floor or later sees has left memory.
    fn check_memory(&mut self) {
        let mut versions = 0;
        // Tombstones of a deletion are made while others write: they wait for these neighbours in
        // the journal of what is to be evicted.
        let mut allowed = self.model.keys() + self.model.deleted_keys;
        let mut floor = Revision::MAX;
        let mut told = Vec::new();
        for replica in &mut self.replicas {
            versions += replica.shard().mvcc().usage().versions;
            floor = floor.min(replica.hub().ring_begins_after());
            told.push((replica.shard().mvcc().floor(), replica.hub().ring_begins_after()));
        }
        allowed += self.model.effects(floor + 1..=Revision::MAX).count();
        let revision = self.model.revision;
        assert!(
            versions <= allowed,
            "{versions} versions in memory, for {allowed} changes, at {revision} with floors and \
             rings that begin at {told:?}"
        );
    }
}

fn mentions(request: &Request, lease: LeaseId) -> bool {
    fn puts(transaction: &Transaction, lease: LeaseId) -> bool {
        transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
            Operation::Put(put) => put.lease == lease,
            Operation::Transaction(nested) => puts(nested, lease),
            _ => false,
        })
    }
    match request {
        Request::LeaseRevoke { id }
        | Request::LeaseKeepAlive { id }
        | Request::LeaseTimeToLive { id, .. } => *id == lease,
        Request::Transact(transaction) => puts(transaction, lease),
        _ => false,
    }
}

/// Whether a transaction's answer says that it changed something.
fn wrote(response: &TransactionResponse) -> bool {
    response.responses.iter().any(|response| match response {
        OperationResponse::Put { .. } => true,
        OperationResponse::DeleteRange { deleted, .. } => *deleted > 0,
        OperationResponse::Transaction(nested) => wrote(nested),
        OperationResponse::Range(_) => false,
    })
}
