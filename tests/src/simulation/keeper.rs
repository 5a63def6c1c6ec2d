//! Snapshots: taken slice by slice while everything goes on, and what is given up because of them.

use mainstay_engine::Record;
use mainstay_engine::Revision;
use mainstay_engine::message::Request;
use mainstay_engine::mvcc::SettledChunk;
use mainstay_engine::snapshot::policy::{Kept, Retention};
use mainstay_engine::snapshot::{Encoder, Header, Part, Slice, Step, Taking};

use super::bugs::Bug;
use super::log::SALT;
use super::recovery::Snapshot;
use super::world::World;

struct Draft {
    taking: Taking,
    encoder: Encoder,
    /// A slice was asked for.
    waiting: bool,
    run: u32,
    entries: usize,
}

pub(super) struct Keeper {
    draft: Option<Draft>,
    /// By index.
    kept: Vec<Snapshot>,
    damaged: Vec<u64>,
    /// The log's bytes when the newest began.
    bytes_before: u64,
    /// For a planted mistake: the only slice of an earlier snapshot's first run.
    old_slice: Option<SettledChunk>,
}

impl Keeper {
    pub(super) fn new(kept: Vec<Snapshot>, damaged: Vec<u64>) -> Keeper {
        Keeper { draft: None, kept, damaged, bytes_before: 0, old_slice: None }
    }

    fn retention(&self, compacted: Revision) -> Retention {
        let kept: Vec<Kept> = self.kept.iter().map(Snapshot::kept).collect();
        Retention::of(&kept, compacted)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.draft.is_none()
    }
}

impl World {
    /// Does what is next for a snapshot, or begins one.
    pub(super) fn keep(&mut self) {
        self.retain();
        let Some(draft) = &mut self.keeper.draft else { return self.begin_snapshot() };
        if draft.waiting {
            return;
        }
        match draft.taking.step(self.log.durable_index()) {
            Step::Take(part) => {
                draft.waiting = true;
                if let Part::Entries { shard, .. } = &part {
                    draft.run = *shard as u32;
                }
                self.ask_core(0, Request::SnapshotSlice(part));
            }
            Step::End => {
                let end = self.replicas[0].snapshot_end();
                draft.taking.end(end);
            }
            Step::AwaitDurable(_) => {}
            Step::Complete(end) => {
                let draft = self.keeper.draft.take().expect("just seen");
                let index = draft.taking.header().index;
                self.disk.put_snapshot(index, draft.encoder.finish(end));
                let snapshot = Snapshot::open(&self.disk, index).expect("it was just made");
                snapshot.entries().expect("it was just made");
                for damaged in std::mem::take(&mut self.keeper.damaged) {
                    if damaged != index {
                        self.disk.delete_snapshot(damaged);
                    }
                }
                self.keeper.kept.retain(|kept| kept.kept().index != index);
                self.keeper.kept.push(snapshot);
                self.report.snapshots += 1;
            }
        }
    }

    fn begin_snapshot(&mut self) {
        let due = self.log.bytes > self.keeper.bytes_before + 4096;
        if !due || self.random.below(1000) >= self.swarm.snapshots {
            return;
        }
        let Some(header) = self.replicas[0].snapshot_header() else { return };
        let newest = self.keeper.kept.last();
        if newest.is_some_and(|newest| newest.kept().index == header.index) {
            return;
        }
        let promised = self.log.hard_state();
        let header = Header {
            raft_term: promised.term,
            raft_vote: promised.vote,
            raft_commit: promised.commit,
            ..header
        };
        self.keeper.bytes_before = self.log.bytes;
        let encoder = Encoder::new(SALT, &header);
        let taking = Taking::new(header);
        self.keeper.draft = Some(Draft { taking, encoder, waiting: false, run: 0, entries: 0 });
    }

    /// A slice is here.
    pub(super) fn slice_taken(&mut self, slice: Slice) {
        let Some(draft) = &mut self.keeper.draft else { return };
        draft.waiting = false;
        draft.taking.took(&slice);
        match slice {
            Slice::Entries(mut chunk) => {
                if self.bug == Some(Bug::SnapshotSliceOld) && draft.run == 0 {
                    let only = draft.entries == 0 && chunk.resume_after.is_none();
                    let old = self.keeper.old_slice.replace(chunk.clone());
                    chunk = old.filter(|_| only).unwrap_or(chunk);
                }
                draft.entries += chunk.entries.len();
                let skipped = match self.bug {
                    Some(Bug::SnapshotMissesKey) => chunk.entries.len() / 2,
                    _ => usize::MAX,
                };
                for (number, entry) in chunk.entries.into_iter().enumerate() {
                    if number != skipped {
                        draft.encoder.add_entry(draft.run, entry);
                    }
                }
            }
            Slice::Leases(leases) => draft.encoder.add_leases(&leases),
            Slice::Documents(documents) => draft.encoder.add_documents(&documents),
        }
    }

    /// Gives up the snapshots and the log that nobody needs.
    fn retain(&mut self) {
        let Retention { delete, mut base } =
            self.keeper.retention(self.shared.compacted_revision());
        if self.bug == Some(Bug::ReleaseTooMuch) {
            base = self.keeper.kept.last().map(|newest| newest.kept().index);
        }
        if let Some(base) = base {
            let released = self.log.places.release_before(base + 1, &mut self.disk);
            self.report.released += released;
        }
        self.keeper.kept.retain(|snapshot| !delete.contains(&snapshot.kept().index));
        delete.into_iter().for_each(|index| self.disk.delete_snapshot(index));
    }

    /// The version of a key at a revision, as the disk has it.
    pub(super) fn find(&self, key: &[u8], revision: Revision) -> Option<Record> {
        let wrong = i64::from(self.bug == Some(Bug::WrongVersion) && revision > 3);
        if let Ok(found) = self.log.places.find(&self.disk, key, revision - wrong) {
            return found;
        }
        let base = self.keeper.retention(self.shared.compacted_revision()).base;
        let base = self.keeper.kept.iter().find(|kept| Some(kept.kept().index) == base);
        let base = base.unwrap_or_else(|| {
            panic!("{key:?} at {revision} is needed, was released, and no snapshot stands for it")
        });
        let found = base.layout.find(&base.image, key).expect("the snapshot is whole");
        found.map(|entry| entry.record)
    }
}
