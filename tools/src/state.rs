//! The newest state of a data directory, read while no server uses it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::Path;

use bytes::Bytes;
use mainstay_engine::Record;
use mainstay_engine::effect::{Batch, Control, Item};
use mainstay_engine::lease::LeaseTable;
use mainstay_engine::log::replay::{Behind, Reached};
use mainstay_engine::runtime::disk::offline::{IdleDirectory, Snapshot};
use mainstay_engine::snapshot::{Document, LeaseRow, SnapshotError};

use crate::failure::Failure;
use crate::progress::Progress;

/// What a server would start with.
#[derive(Default)]
pub(crate) struct State {
    records: HashSet<ByKey>,
    pub(crate) leases: LeaseTable,
    pub(crate) documents: BTreeMap<Bytes, Bytes>,
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
    /// Reads a data directory that no server uses. Takes the memory of its live keys and values.
    pub(crate) fn read(path: &Path) -> Result<State, Failure> {
        let directory = IdleDirectory::open(path)?;
        let mut state = State::default();
        let behind = state.newest_snapshot(&directory)?;
        let mut batches = directory.batches(behind)?;
        let mut progress = Progress::new("reading the log");
        while let Some(batch) = batches.next_batch()? {
            state.apply(&batch);
            let (done, total) = batches.progress();
            progress.show(done, total);
        }
        progress.end();
        Ok(state)
    }

    /// Takes over what the newest snapshot holds, if there is one. Gives what the log goes on with.
    fn newest_snapshot(&mut self, directory: &IdleDirectory) -> Result<Behind, Failure> {
        for index in directory.snapshots()? {
            let mut loaded = State::default();
            match directory.snapshot(index).and_then(|snapshot| loaded.load(&snapshot)) {
                Ok(behind) => {
                    *self = loaded;
                    return Ok(behind);
                }
                // An older one will do, or the log alone, as long as the log reaches back to it.
                Err(error) => eprintln!("warning: {error}; going further back"),
            }
        }
        Ok(Behind::default())
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<Behind, SnapshotError> {
        let header = snapshot.layout().header;
        let total = snapshot.layout().footer.file_bytes;
        let mut progress = Progress::new("reading the snapshot");
        snapshot.entries(|entry| self.install(entry.record), |done| progress.show(done, total))?;
        for LeaseRow { id, ttl, remaining } in snapshot.leases()? {
            self.leases.apply(&Control::LeaseGrant { id, ttl }, 0);
            let remaining = vec![(id, remaining)];
            self.leases.apply(&Control::LeaseCheckpoint { remaining }, 0);
        }
        for Document { name, content } in snapshot.documents()? {
            self.documents.insert(name, content);
        }
        progress.end();
        let (index, term, revision) = (header.index, header.term, header.revision);
        self.reached = Reached { index, term, revision };
        Ok(self.reached)
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
        if let Control::Document { name, content } = control {
            self.documents.insert(name.clone(), content.clone());
        }
    }
}
