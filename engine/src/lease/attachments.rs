//! What one shard knows of leases: which there are, and which of its keys hang on them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use crate::effect::Control;
use crate::record::{LeaseId, Record};
use crate::request::KeyRange;

/// A key hangs on the lease of its newest version, committed or not.
#[derive(Debug, Default)]
pub struct Attachments {
    known: HashSet<LeaseId>,
    keys: HashMap<LeaseId, BTreeSet<Box<[u8]>>>,
}

impl Attachments {
    /// Notes that a lease was granted, or is gone.
    pub fn set_known(&mut self, lease: LeaseId, known: bool) {
        if known {
            self.known.insert(lease);
        } else {
            self.known.remove(&lease);
        }
    }

    /// Follows a control that was committed.
    pub fn apply_control(&mut self, control: &Control) {
        match control {
            Control::LeaseGrant { id, .. } => self.set_known(*id, true),
            Control::LeaseRevoke { id } => self.set_known(*id, false),
            Control::LeaseCheckpoint { .. }
            | Control::Compact { .. }
            | Control::Document { .. } => {}
        }
    }

    /// Whether keys may be attached to the lease.
    pub fn is_known(&self, lease: LeaseId) -> bool {
        self.known.contains(&lease)
    }

    /// Follows a key whose newest version was `before` and is now `after`.
    pub fn follow(&mut self, key: &[u8], before: Option<&Record>, after: Option<&Record>) {
        let lease_of = |record: Option<&Record>| record.map_or(0, Record::lease);
        let (before, after) = (lease_of(before), lease_of(after));
        if before == after {
            return;
        }
        if before != 0 {
            self.detach(key, before);
        }
        if after != 0 {
            self.keys.entry(after).or_default().insert(key.into());
        }
    }

    fn detach(&mut self, key: &[u8], lease: LeaseId) {
        let Some(keys) = self.keys.get_mut(&lease) else {
            panic!("key {:?} is attached to lease {lease:x}", String::from_utf8_lossy(key))
        };
        assert!(keys.remove(key), "a key is detached once");
        if keys.is_empty() {
            self.keys.remove(&lease);
        }
    }

    /// Up to `max` keys attached to a lease behind `after`, in order.
    pub fn keys_after<'a>(
        &'a self,
        lease: LeaseId,
        after: Option<&[u8]>,
        max: usize,
    ) -> impl Iterator<Item = &'a [u8]> + 'a {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.keys.get(&lease);
        let range = keys.map(|keys| keys.range::<[u8], _>((from, Bound::Unbounded)));
        range.into_iter().flatten().take(max).map(|key| &key[..])
    }

    /// Whether a key of `range` is attached to the lease.
    pub fn any_in(&self, lease: LeaseId, range: &KeyRange) -> bool {
        let from = (Bound::Included(&range.start()[..]), Bound::Unbounded);
        let first = self.keys.get(&lease).and_then(|keys| keys.range::<[u8], _>(from).next());
        first.is_some_and(|key| range.contains(key))
    }
}
