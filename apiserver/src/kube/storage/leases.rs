//! Leases that many short-lived objects of one core share, as kube-apiserver's lease manager does:
//! an object with a lease of its own would cost the store as many leases as there are events.

use crate::kube::limits::{LEASE_OBJECTS, LEASE_REUSE_SECONDS};

/// The lease that new objects are attached to.
#[derive(Debug, Default)]
pub(super) struct SharedLease(Option<Current>);

#[derive(Debug)]
struct Current {
    id: i64,
    /// What the objects asked for; the lease itself lives longer.
    ttl_seconds: i64,
    granted_ms: u64,
    objects: usize,
}

/// The time to grant a lease for, so that the last object that is attached still gets its own.
pub(super) fn granted_seconds(ttl_seconds: i64) -> i64 {
    ttl_seconds.saturating_add(LEASE_REUSE_SECONDS)
}

impl SharedLease {
    /// The lease for one more object that shall live so long; `None` when a new one is needed.
    pub(super) fn attach(&mut self, ttl_seconds: i64, now_ms: u64) -> Option<i64> {
        let current = self.0.as_mut()?;
        let age_ms = now_ms.saturating_sub(current.granted_ms);
        let usable = current.ttl_seconds == ttl_seconds
            && age_ms < LEASE_REUSE_SECONDS.unsigned_abs() * 1000
            && current.objects < LEASE_OBJECTS;
        if !usable {
            return None;
        }
        current.objects += 1;
        Some(current.id)
    }

    /// Takes a lease that was granted for an object at `now_ms` as the one to share.
    pub(super) fn granted(&mut self, id: i64, ttl_seconds: i64, now_ms: u64) {
        self.0 = Some(Current { id, ttl_seconds, granted_ms: now_ms, objects: 1 });
    }

    /// Somebody revoked a lease.
    pub(super) fn forget(&mut self, id: i64) {
        if self.0.as_ref().is_some_and(|current| current.id == id) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shared_for_a_while_by_objects_that_live_as_long() {
        let reuse_ms = LEASE_REUSE_SECONDS as u64 * 1000;
        let mut shared = SharedLease::default();
        assert_eq!(shared.attach(3600, 0), None);
        shared.granted(7, 3600, 1000);
        for (ttl_seconds, now_ms, expected) in [
            (3600, 1000, Some(7)),
            (3600, 999 + reuse_ms, Some(7)),
            (3600, 1000 + reuse_ms, None),
            (60, 1000, None),
        ] {
            assert_eq!(shared.attach(ttl_seconds, now_ms), expected, "{ttl_seconds} {now_ms}");
        }
        shared.forget(8);
        assert_eq!(shared.attach(3600, 1000), Some(7));
        shared.forget(7);
        assert_eq!(shared.attach(3600, 1000), None);
    }

    #[test]
    fn a_lease_has_a_bounded_number_of_objects() {
        let mut shared = SharedLease::default();
        shared.granted(7, 3600, 0);
        let attached = (1..2 * LEASE_OBJECTS).filter(|_| shared.attach(3600, 0).is_some());
        assert_eq!(attached.count(), LEASE_OBJECTS - 1);
    }
}
