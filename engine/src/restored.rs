//! What was in a store when it stopped, as a snapshot and the log behind it tell.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_raft::{Config, HardState, Node};

use crate::effect::{Batch, Control, Item};
use crate::lease::LeaseTable;
use crate::log;
use crate::log::encode::encode;
use crate::log::replay::Reached;
use crate::placement;
use crate::record::Revision;
use crate::replica::Leader;
use crate::sequencer::Sequencer;
use crate::shard::Shard;
use crate::snapshot::{Layout, SnapshotBytes, SnapshotError};

/// The state of a store.
#[derive(Default)]
pub struct State {
    /// One for each core.
    pub shards: Vec<Shard>,
    pub rest: Rest,
}

/// What belongs to no shard.
#[derive(Default)]
pub struct Rest {
    pub leases: LeaseTable,
    pub documents: BTreeMap<Bytes, Bytes>,
    pub compacted: Revision,
}

impl State {
    /// An empty store for so many cores.
    pub fn new(cores: usize) -> State {
        State { shards: (0..cores).map(|_| Shard::default()).collect(), rest: Rest::default() }
    }

    /// Takes what a snapshot holds besides its records, which are in the shards already.
    ///
    /// # Errors
    /// The snapshot is damaged.
    pub fn load_rest(
        &mut self,
        layout: &Layout,
        bytes: &impl SnapshotBytes,
    ) -> Result<(), SnapshotError> {
        for lease in layout.leases(bytes)? {
            self.control(&Control::LeaseGrant { id: lease.id, ttl: lease.ttl });
            if lease.remaining != lease.ttl {
                let remaining = vec![(lease.id, lease.remaining)];
                self.control(&Control::LeaseCheckpoint { remaining });
            }
        }
        for document in layout.documents(bytes)? {
            self.rest.documents.insert(document.name, document.content);
        }
        if layout.header.compacted > 0 {
            self.control(&Control::Compact { revision: layout.header.compacted });
        }
        for shard in &mut self.shards {
            shard.settle(layout.footer.end.revision);
        }
        Ok(())
    }

    fn control(&mut self, control: &Control) {
        self.shards.iter_mut().for_each(|shard| shard.apply_control(control));
        self.rest.follow(control);
    }
}

impl Rest {
    /// Applies what a batch of the log says of it.
    pub fn follow_batch(&mut self, batch: &Batch) {
        batch.items.iter().filter_map(control_of).for_each(|control| self.follow(control));
    }

    fn follow(&mut self, control: &Control) {
        // Leases get their time when the member starts.
        self.leases.apply(control, 0);
        match control {
            Control::Compact { revision } => self.compacted = self.compacted.max(*revision),
            Control::Document { name, content } => {
                self.documents.insert(name.clone(), content.clone());
            }
            _ => {}
        }
    }

    /// Core 0's part of a store that is its own only voter and goes on behind `reached`, having
    /// `promised` this before.
    pub fn into_leader(self, cores: usize, promised: log::HardState, reached: Reached) -> Leader {
        let hard_state =
            HardState { term: promised.term.max(reached.term), vote: promised.vote, commit: 0 };
        let node = Node::new(Config {
            id: 1,
            voters: vec![1],
            hard_state,
            last_index: reached.index,
            last_term: reached.term,
            ..Config::default()
        });
        let sequencer =
            Sequencer::new(node, reached.revision, |batch: &Batch| encode(batch).payload.into());
        Leader::new(cores, sequencer, self.leases, self.documents, self.compacted)
    }
}

/// Applies what a batch of the log is for shard `number` of `count`.
pub fn follow(shard: &mut Shard, (number, count): (usize, usize), batch: &Batch) {
    for item in &batch.items {
        let Item::Effect(effect) = item else {
            control_of(item).into_iter().for_each(|control| shard.apply_control(control));
            continue;
        };
        for change in &effect.changes {
            let hash = placement::hash(change.record.key());
            if placement::shard_of(hash, count) == number {
                shard.install_again(change.record.clone());
            }
        }
    }
    shard.settle(batch.revision_after);
    // Nobody reads yet, and the log has what was.
    shard.evict(batch.revision_after, usize::MAX);
}

fn control_of(item: &Item) -> Option<&Control> {
    match item {
        Item::Effect(_) => None,
        Item::Deletion(_) => unreachable!("the log gives deletions as effects"),
        Item::Control(control) => Some(control),
    }
}
