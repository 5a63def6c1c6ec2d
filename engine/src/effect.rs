//! What a request did: the only thing that is logged, replicated and watched.
//!
//! A request is evaluated once, by the core that owns its keys; what travels from there is its
//! effect, complete with revisions. Followers, watchers and recovery have nothing to evaluate.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{LeaseId, Record, Revision};
use crate::request::KeyRange;

/// One key's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new version, or a tombstone.
    pub record: Record,
    /// The live version before. Known to the evaluating core and to watchers, never logged.
    pub previous: Option<Record>,
}

/// Everything that one transaction changed, at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Taken from the store's counter when it was evaluated. Every `record.mod_revision()` in
    /// `changes` equals it.
    pub revision: Revision,
    /// In the order of the transaction's operations. A key may occur more than once only if it
    /// was deleted and then put.
    pub changes: Vec<Change>,
}

impl Effect {
    /// About what it takes in memory together with what it replaces.
    pub fn bytes_with_previous(&self) -> usize {
        const OVERHEAD: usize = 64;
        let previous = self.changes.iter().filter_map(|change| change.previous.as_ref());
        let bytes = |record: &Record| record.key().len() + record.value().len() + OVERHEAD;
        self.bytes() + previous.map(bytes).sum::<usize>()
    }

    /// About what it takes in memory and in the log.
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        let payload = |change: &Change| change.record.key().len() + change.record.value().len();
        self.changes.iter().map(|change| payload(change) + OVERHEAD).sum()
    }
}

/// The end of very many keys at one revision: an effect of as many tombstones, as far as the log
/// and watchers are concerned. It is shared instead of copied, and its tombstones are made where
/// somebody looks at them, because nobody can do anything a million times in one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Taken from the store's counter when everything else was ready.
    pub revision: Revision,
    pub deleted: Arc<Deleted>,
}

/// What lived until a [`Deletion`].
#[derive(Debug, PartialEq, Eq)]
pub struct Deleted {
    /// By key.
    records: Vec<Record>,
    /// About what they take in memory.
    bytes: usize,
}

impl Deleted {
    /// In any order, no key twice.
    pub fn new(mut records: Vec<Record>) -> Deleted {
        records.sort_by(|left, right| left.key().cmp(right.key()));
        let bytes = records.iter().map(|record| record.key().len() + record.value().len() + 64);
        Deleted { bytes: bytes.sum(), records }
    }

    /// The last versions, by key.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last versions in `range`.
    pub fn records_in(&self, range: &KeyRange) -> &[Record] {
        let start = self.records.partition_point(|record| record.key() < &range.start()[..]);
        let rest = &self.records[start..];
        &rest[..rest.partition_point(|record| range.contains(record.key()))]
    }

    /// The records, to be let go of a few at a time.
    pub fn into_records(self) -> Vec<Record> {
        self.records
    }
}

/// What took one revision.
#[derive(Debug, Clone, Copy)]
pub enum Revised<'a> {
    Effect(&'a Effect),
    Deletion(&'a Deletion),
}

impl Revised<'_> {
    pub fn revision(&self) -> Revision {
        match self {
            Revised::Effect(effect) => effect.revision,
            Revised::Deletion(deletion) => deletion.revision,
        }
    }
}

/// What is ordered and logged with the effects but takes no revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    LeaseGrant {
        id: LeaseId,
        ttl: i64,
    },
    /// The attached keys' deletions are an effect of their own, just before it in the same batch.
    LeaseRevoke {
        id: LeaseId,
    },
    /// The remaining seconds of leases, so that a restart does not give them their whole time again.
    LeaseCheckpoint {
        remaining: Vec<(LeaseId, i64)>,
    },
    /// History up to and including this revision may be forgotten (newest versions stay).
    Compact {
        revision: Revision,
    },
    /// State of a door, opaque to the engine (the cluster's identity, auth, ...), by name.
    Document {
        name: Bytes,
        content: Bytes,
    },
}

impl Control {
    /// About what it takes in memory and in the log.
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        OVERHEAD
            + match self {
                Control::LeaseCheckpoint { remaining } => remaining.len() * 20,
                Control::Document { name, content } => name.len() + content.len(),
                _ => 0,
            }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Effect(Effect),
    /// Alone in its batch.
    Deletion(Deletion),
    Control(Control),
}

/// The unit of the log: what was written, and became durable, together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Raft's index and term of the entry that carried it.
    pub index: u64,
    pub term: u64,
    /// The store's revision before and after; equal when the batch held controls alone.
    pub revision_before: Revision,
    pub revision_after: Revision,
    pub items: Vec<Item>,
}

impl Batch {
    /// The effects, in revision order; not deletions.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.items.iter().filter_map(|item| match item {
            Item::Effect(effect) => Some(effect),
            Item::Deletion(_) | Item::Control(_) => None,
        })
    }

    /// Everything that took a revision, in order and without a gap.
    pub fn revised(&self) -> impl Iterator<Item = Revised<'_>> {
        self.items.iter().filter_map(|item| match item {
            Item::Effect(effect) => Some(Revised::Effect(effect)),
            Item::Deletion(deletion) => Some(Revised::Deletion(deletion)),
            Item::Control(_) => None,
        })
    }

    /// Whether it allows history to be forgotten.
    pub fn compacts(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Control(Control::Compact { .. })))
    }
}

/// A committed batch on its way to every core.
pub type SharedBatch = Arc<Batch>;
