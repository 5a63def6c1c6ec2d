//! What a replica contributes to a snapshot.

use std::ops::Bound;

use bytes::Bytes;

use super::{Member, Replica};
use crate::snapshot::taking::{SLICE_DOCUMENT_BYTES, SLICE_KEYS, SLICE_LEASES};
use crate::snapshot::{Document, End, Header, LeaseRow, Part, Slice};

impl Replica {
    /// Where a snapshot that is taken now begins, but for raft's promises; `None` when there is
    /// nothing yet. Only core 0 can tell, as it alone moves these numbers.
    pub fn snapshot_header(&self) -> Option<Header> {
        assert!(self.member.is_some(), "only core 0 takes snapshots");
        let shared = &self.shared;
        (shared.committed_index() > 0).then(|| Header {
            index: shared.committed_index(),
            term: shared.committed_term(),
            revision: shared.committed_revision(),
            compacted: shared.compacted_revision(),
            runs: self.cores as u32,
            ..Header::default()
        })
    }

    /// Where a snapshot ends whose last slice has just been taken.
    pub fn snapshot_end(&self) -> End {
        assert!(self.member.is_some(), "only core 0 takes snapshots");
        End { index: self.shared.committed_index(), revision: self.shared.committed_revision() }
    }

    pub(super) fn snapshot_slice(&self, part: Part) -> Slice {
        let member = || self.member.as_ref().expect("only core 0 is asked for it");
        match part {
            Part::Entries { after, .. } => {
                let committed = self.shared.committed_revision();
                // The shard's: keys that have ended and are not marked so yet are tombstones.
                Slice::Entries(self.shard.settled_chunk(after.as_deref(), committed, SLICE_KEYS))
            }
            Part::Leases { after } => Slice::Leases(member().leases_behind(after, SLICE_LEASES)),
            Part::Documents { after } => {
                Slice::Documents(member().documents_behind(after, SLICE_DOCUMENT_BYTES))
            }
        }
    }
}

impl Member {
    fn leases_behind(&self, after: Option<i64>, max: usize) -> Vec<LeaseRow> {
        let row = |(id, ttl, remaining)| LeaseRow { id, ttl, remaining };
        self.leases.entries_behind(after).take(max).map(row).collect()
    }

    fn documents_behind(&self, after: Option<Bytes>, max_bytes: usize) -> Vec<Document> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        self.documents
            .range((from, Bound::Unbounded))
            .take_while(|(name, content)| {
                let first = bytes == 0;
                bytes += name.len() + content.len();
                first || bytes <= max_bytes
            })
            .map(|(name, content)| Document { name: name.clone(), content: content.clone() })
            .collect()
    }
}
