//! A shard's part of a coordinated request, collected a slice at a time while it is frozen.

use bytes::Bytes;

use crate::message::{Gather, Gathered};
use crate::record::{Record, Revision};
use crate::shard::Shard;

/// What is being collected, and how far it is.
#[derive(Debug)]
pub(super) struct Collecting {
    gather: Gather,
    gathered: Gathered,
    /// The list that is at work: of all `ranges`, then `leases`.
    list: usize,
    /// The last key that was looked at in it.
    after: Option<Bytes>,
}

impl Collecting {
    pub(super) fn new(gather: Gather) -> Collecting {
        let gathered =
            Gathered { newest: Vec::new(), attached: vec![Vec::new(); gather.leases.len()] };
        Collecting { gather, gathered, list: 0, after: None }
    }

    pub(super) fn job(&self) -> u64 {
        self.gather.job
    }

    pub(super) fn gathered(self) -> Gathered {
        self.gathered
    }

    /// Looks at up to `max_keys` keys, or at a list's end. Gives whether that was all.
    pub(super) fn slice(&mut self, shard: &Shard, committed: Revision, max_keys: usize) -> bool {
        let Gather { ranges, leases, .. } = &self.gather;
        let after = self.after.take();
        let after = after.as_deref();
        let at_lease = self.list.wrapping_sub(ranges.len());
        if let Some(range) = ranges.get(self.list) {
            let chunk = shard.mvcc().newest_chunk(range, after, max_keys);
            // An old tombstone tells no more than nothing does.
            let tells =
                |record: &Record| !record.is_tombstone() || record.mod_revision() > committed;
            self.gathered.newest.extend(chunk.records.into_iter().filter(tells));
            self.after = chunk.resume_after;
        } else if let Some(&lease) = leases.get(at_lease) {
            let keys = shard.attachments().keys_after(lease, after, max_keys);
            let (mut last, mut looked_at) = (None, 0);
            for key in keys {
                (last, looked_at) = (Some(key), looked_at + 1);
                let newest = shard.mvcc().newest(key);
                let newest = newest.filter(|record| shard.lives(record, Revision::MAX));
                self.gathered.attached[at_lease].extend(newest.cloned());
            }
            if looked_at == max_keys {
                self.after = last.map(Bytes::copy_from_slice);
            }
        }
        if self.after.is_none() {
            self.list += 1;
        }
        self.list >= ranges.len() + leases.len()
    }
}
