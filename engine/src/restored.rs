//! What was in a store when it stopped, as a snapshot and the log behind it tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_raft::{Config, HardState, Node};

use crate::effect::{Batch, Control};
use crate::lease::LeaseTable;
use crate::log;
use crate::log::encode::encode;
use crate::log::raw::RawBatch;
use crate::log::replay::Reached;
use crate::placement;
use crate::record::Revision;
use crate::replica::Member;
use crate::sequencer::{LogEntry, Sequencer};
use crate::shard::{Restoring, Shard};
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

    /// Nothing is known of what was before `revision`, but what lived then.
    pub fn forget_history_before(&mut self, revision: Revision) {
        if revision > self.rest.compacted {
            self.control(&Control::Compact { revision });
        }
    }

    fn control(&mut self, control: &Control) {
        self.shards.iter_mut().for_each(|shard| shard.apply_control(control));
        self.rest.follow(control);
    }
}

impl Rest {
    /// A document that doors, or the engine itself, keep beside the keys.
    pub fn document(&self, name: &[u8]) -> Option<&Bytes> {
        self.documents.get(name)
    }

    /// Applies what a batch of the log says of it.
    pub fn follow_batch(&mut self, batch: &RawBatch) {
        batch.controls().for_each(|control| self.follow(control));
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
    pub fn into_lone_member(
        self,
        cores: usize,
        promised: log::HardState,
        reached: Reached,
    ) -> Member {
        let hard_state =
            HardState { term: promised.term.max(reached.term), vote: promised.vote, commit: 0 };
        let config = Config {
            id: 1,
            voters: vec![1],
            hard_state,
            last_index: reached.index,
            last_term: reached.term,
            ..Config::default()
        };
        let revision = reached.revision;
        self.into_member(cores, Restart { config, revision, pending: Vec::new() })
    }

    /// Core 0's part of a member that goes on, with others or alone.
    pub fn into_member(self, cores: usize, restart: Restart) -> Member {
        let Restart { config, revision, pending } = restart;
        let (applied, seed) = (config.applied, config.seed);
        let damaged: Vec<u64> = config.damaged.iter().map(|damage| damage.index).collect();
        let node = Node::new(config);
        let alone = node.is_alone();
        let encode = |batch: &Batch| encode(batch).payload.into();
        let mut sequencer = Sequencer::new(node, revision, encode);
        if !alone {
            sequencer = sequencer.with_others(applied, revision, pending, &damaged);
        } else {
            assert!(pending.is_empty(), "whatever a lone member's log holds is committed");
        }
        let mut member = Member::new(cores, sequencer, self.leases, self.documents, self.compacted);
        member.number_requests_from(seed);
        member
    }
}

/// What raft and the order of entries go on from.
#[derive(Debug, Default)]
pub struct Restart {
    pub config: Config,
    /// The store's revision after the entry `config.applied`.
    pub revision: Revision,
    /// The entries behind it, in order, without a payload where it is damaged. None for a member that is alone: all of them are applied.
    pub pending: Vec<LogEntry>,
}

/// Batches in order, as they are in the log.
pub type Portion = Arc<Vec<RawBatch>>;

/// Installs in shard `number` of `count` what the log has for it.
pub fn follow(
    shard: &mut Shard,
    (number, count): (usize, usize),
    portions: impl IntoIterator<Item = Portion>,
) {
    let mut restoring = Restoring::new(std::mem::take(shard));
    let mine = |hash| placement::shard_of(hash, count) == number;
    for portion in portions {
        portion.iter().for_each(|batch| restoring.follow(batch, mine));
    }
    *shard = restoring.finish();
}
