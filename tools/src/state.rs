//! The newest state of a data directory, read while no server uses it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::Path;

use bytes::Bytes;
use mainstay_engine::effect::{Batch, Control, Item};
use mainstay_engine::lease::LeaseTable;
use mainstay_engine::log::replay::{Commitment, Reached};
use mainstay_engine::runtime::disk::{DataDirectory, offline};
use mainstay_engine::{Record, Revision};

use crate::failure::Failure;
use crate::progress::Progress;

/// What a server would start with.
#[derive(Default)]
pub(crate) struct State {
    records: HashSet<ByKey>,
    pub(crate) leases: LeaseTable,
    pub(crate) documents: BTreeMap<Bytes, Bytes>,
    pub(crate) compacted: Revision,
    pub(crate) reached: Reached,
}

/// A record that is found by its key.
struct ByKey(Record);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &ByKey) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl State {
    /// Reads a data directory that is there. Takes the memory that its live keys and values take.
    pub(crate) fn read(path: &Path) -> Result<State, Failure> {
        // Refuses, in words, what is no data directory, and one that is in use.
        drop(offline::Frames::open(path)?);
        let mut recovery = DataDirectory::open(path)?.recover(Commitment::EveryEntry)?;
        let mut progress = Progress::new("reading the log");
        let mut state = State::default();
        while let Some(batch) = recovery.next_batch()? {
            state.apply(&batch);
            let (done, total) = recovery.progress();
            progress.show(done, total);
        }
        progress.end();
        Ok(state)
    }

    /// The live records, in no particular order.
    pub(crate) fn into_records(self) -> impl Iterator<Item = Record> {
        self.records.into_iter().map(|ByKey(record)| record)
    }

    fn apply(&mut self, batch: &Batch) {
        let (index, term, revision) = (batch.index, batch.term, batch.revision_after);
        self.reached = Reached { index, term, revision };
        for item in &batch.items {
            match item {
                Item::Effect(effect) => {
                    for change in &effect.changes {
                        self.install(change.record.clone());
                    }
                }
                Item::Deletion(_) => unreachable!("the log gives deletions as effects"),
                Item::Control(control) => self.control(control),
            }
        }
    }

    fn install(&mut self, record: Record) {
        if record.is_tombstone() {
            self.records.remove(record.key());
        } else {
            self.records.replace(ByKey(record));
        }
    }

    fn control(&mut self, control: &Control) {
        self.leases.apply(control, 0);
        match control {
            Control::Compact { revision } => self.compacted = self.compacted.max(*revision),
            Control::Document { name, content } => {
                self.documents.insert(name.clone(), content.clone());
            }
            _ => {}
        }
    }
}
