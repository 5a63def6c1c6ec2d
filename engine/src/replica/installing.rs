//! What the log and the snapshots of this member have for others, and a snapshot of another one that
//! takes the place of everything here.

use bytes::Bytes;
use mainstay_raft::Damage;

use super::{Mail, Member, Output, Replica};
use crate::error::StoreError;
use crate::log::replay::Reached;
use crate::message::{Message, Replacement};
use crate::restored::{Rest, State};
use crate::sequencer::LogEntry;

/// A snapshot that was received, read, and is durable with the log that goes on behind it.
pub struct Installed {
    pub state: State,
    /// Where it ends.
    pub reached: Reached,
}

impl Replica {
    fn with_raft(
        &mut self,
        now_ms: u64,
        out: &mut Output,
        tell: impl FnOnce(&mut mainstay_raft::Node),
    ) {
        let member = self.member.as_mut().expect("only core 0 has raft");
        if member.is_clustered() {
            tell(member.sequencer.node_mut());
            member.cluster.stirred = true;
        }
        self.resume(now_ms, out);
    }

    /// Entries that were wanted are here, from the first one that was wanted on.
    pub fn entries_read(&mut self, entries: Vec<LogEntry>, now_ms: u64, out: &mut Output) {
        let entries = entries.iter().map(LogEntry::to_entry).collect();
        self.with_raft(now_ms, out, |node| node.entries_read(entries));
    }

    /// Entries that were wanted from `from` on are not in the log any more.
    pub fn entries_compacted(&mut self, from: u64, now_ms: u64, out: &mut Output) {
        self.with_raft(now_ms, out, |node| node.entries_compacted(from));
    }

    /// An entry can't be read: others have it.
    pub fn entry_damaged(&mut self, damage: Damage, now_ms: u64, out: &mut Output) {
        self.with_raft(now_ms, out, |node| node.damaged(damage));
    }

    /// Bytes of a snapshot, known by its index and fingerprint, that `to` wanted; `done`: the last.
    #[expect(clippy::too_many_arguments, reason = "as raft has it")]
    pub fn snapshot_part(
        &mut self,
        to: u64,
        snapshot: (u64, u64),
        offset: u64,
        data: Bytes,
        done: bool,
        now_ms: u64,
        out: &mut Output,
    ) {
        self.with_raft(now_ms, out, |node| node.snapshot_part(to, snapshot, offset, data, done));
    }

    /// There is no snapshot for `to` now.
    pub fn snapshot_unavailable(&mut self, to: u64, now_ms: u64, out: &mut Output) {
        self.with_raft(now_ms, out, |node| node.snapshot_unavailable(to));
    }

    /// Whether the log up to `index`, which a snapshot holds, may be given up.
    pub fn may_compact_log(&mut self, index: u64) -> bool {
        let member = self.member.as_mut().expect("only core 0 has raft");
        !member.is_clustered() || member.sequencer.node_mut().compact(index)
    }

    /// The snapshot that was to be installed is the state now, durably.
    pub fn snapshot_installed(&mut self, installed: Installed, now_ms: u64, out: &mut Output) {
        let Installed { state: State { shards, rest }, reached } = installed;
        assert_eq!(shards.len(), self.cores, "a shard for each core");
        let member = self.member.as_mut().expect("only core 0 has raft");
        member.install(rest, reached, now_ms);
        self.shared.set_compacted(reached.revision);
        self.shared.skip_to(reached.revision);
        self.shared.set_committed(reached.revision, reached.index, reached.term);
        self.shared.document_changed();
        for (core, shard) in shards.into_iter().enumerate() {
            let replacement = Box::new(Replacement { shard, reached });
            Mail { own: &mut self.own, out }.send(core, Message::Replace(replacement));
        }
        self.resume(now_ms, out);
    }

    /// This core goes on with what another member had.
    pub(super) fn replace(&mut self, replacement: Replacement, out: &mut Output) {
        let Replacement { shard, reached } = replacement;
        assert!(!self.leads() && self.hidden.is_empty(), "a leader has everything");
        self.shard = shard;
        self.shard.compact_to(reached.revision);
        self.applied_index = reached.index;
        out.watchers.extend(self.hub.restart(reached.revision));
        self.dropping.extend(self.hub.take_gone());
        let reads: Vec<u64> = self.reads.keys().copied().collect();
        for read in reads {
            let (requested, compacted) = (0, reached.revision);
            self.end_read(read, StoreError::Compacted { requested, compacted }, out);
        }
        self.note_usage();
        self.finish_stepping_down(out);
        out.compact = true;
        out.work = true;
    }
}

impl Member {
    fn install(&mut self, rest: Rest, reached: Reached, now_ms: u64) {
        assert!(self.cluster.applying.is_empty(), "nothing is applied meanwhile");
        self.cluster.installing = false;
        self.cluster.replaced = true;
        self.sequencer.node_mut().snapshot_installed();
        self.sequencer.tail_mut().restart(reached.index, reached.revision);
        self.leases = rest.leases;
        self.leases.restart(now_ms, 0);
        self.documents = rest.documents;
        self.compact_asked = self.compact_asked.max(reached.revision);
        self.cluster.members_changed = true;
        self.cluster.stirred = true;
    }
}
