//! All leases and their time: the authority, on core 0.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::expiry::Expiry;
use crate::effect::Control;
use crate::error::StoreError;
use crate::limits::{LEASE_CHECKPOINT_SECONDS, LEASE_TTL_MAX, LEASE_TTL_MIN, LEASES};
use crate::record::LeaseId;

/// The leases. Times are milliseconds of any clock that does not run backwards.
#[derive(Debug)]
pub struct LeaseTable {
    leases: BTreeMap<LeaseId, Lease>,
    expiry: Expiry,
    /// The last lease that was looked at for a checkpoint.
    checkpoint_cursor: LeaseId,
    /// Seconds between two checkpoints of a lease.
    checkpoint_seconds: i64,
}

impl Default for LeaseTable {
    fn default() -> LeaseTable {
        LeaseTable::with_checkpoints_every(LEASE_CHECKPOINT_SECONDS)
    }
}

#[derive(Debug)]
struct Lease {
    /// Seconds granted.
    ttl: i64,
    expires_ms: u64,
    /// The time of this lease's one valid entry in the heap, if it has one.
    queued_ms: Option<u64>,
    /// Seconds that were left at the last checkpoint; the whole time when there was none.
    checkpoint: i64,
    /// The same, of checkpoints that are committed: what others know, and a snapshot may hold.
    committed: i64,
    checkpoint_ms: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The grant is on its way through the log.
    Granting,
    Granted,
    /// Ran out, or is being revoked: the revocation is on its way through the log.
    Ending,
}

/// A lease's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds granted.
    pub granted_ttl: i64,
    /// Whole seconds left.
    pub remaining_ttl: i64,
}

/// What a keep-alive did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Seconds that the lease has again.
    pub ttl: i64,
    /// To be logged before this is answered, so that an older checkpoint does not shorten the lease
    /// after a restart.
    pub checkpoint: Option<Control>,
}

impl LeaseTable {
    fn with_checkpoints_every(checkpoint_seconds: i64) -> LeaseTable {
        LeaseTable {
            leases: BTreeMap::new(),
            expiry: Expiry::default(),
            checkpoint_cursor: LeaseId::MIN,
            checkpoint_seconds,
        }
    }

    /// Gives a lease that is longer than so many seconds a checkpoint after each such interval.
    pub fn set_checkpoint_seconds(&mut self, seconds: i64) {
        self.checkpoint_seconds = seconds.max(1);
    }

    /// Reserves a lease of `ttl` seconds, to be logged as the control that this gives and in force
    /// once that is applied. `id` 0 takes one from `random` instead.
    ///
    /// # Errors
    /// `LeaseTtlTooLarge`, `LeaseExists` and `TooManyLeases`.
    pub fn begin_grant(
        &mut self,
        id: LeaseId,
        ttl: i64,
        mut random: impl FnMut() -> u64,
    ) -> Result<Control, StoreError> {
        if ttl > LEASE_TTL_MAX {
            return Err(StoreError::LeaseTtlTooLarge(ttl));
        }
        let ttl = ttl.max(LEASE_TTL_MIN);
        let id = if id == 0 { self.unused_id(&mut random) } else { id };
        if self.leases.contains_key(&id) {
            return Err(StoreError::LeaseExists(id));
        }
        if self.leases.len() >= LEASES {
            return Err(StoreError::TooManyLeases);
        }
        self.leases.insert(id, Lease::new(ttl, u64::MAX, State::Granting));
        Ok(Control::LeaseGrant { id, ttl })
    }

    /// A positive id that nothing has. With 2^63 of them the second try is already unlikely.
    fn unused_id(&self, random: &mut impl FnMut() -> u64) -> LeaseId {
        loop {
            let id = (random() >> 1) as LeaseId;
            if id != 0 && !self.leases.contains_key(&id) {
                return id;
            }
        }
    }

    /// Takes a reservation back whose control was not logged.
    pub fn abandon_grant(&mut self, id: LeaseId) {
        if self.leases.get(&id).is_some_and(|lease| lease.state == State::Granting) {
            self.leases.remove(&id);
        }
    }

    /// Follows what was committed. A lease's time begins when its grant is applied.
    pub fn apply(&mut self, control: &Control, now_ms: u64) {
        match control {
            Control::LeaseGrant { id, ttl } => {
                let lease = Lease::new(*ttl, after(now_ms, *ttl), State::Granted);
                self.leases.insert(*id, Lease { checkpoint_ms: now_ms, ..lease });
                self.enqueue(*id);
            }
            Control::LeaseRevoke { id } => {
                self.leases.remove(id);
            }
            Control::LeaseCheckpoint { remaining } => {
                for (id, seconds) in remaining {
                    if let Some(lease) = self.leases.get_mut(id) {
                        lease.checkpoint = (*seconds).clamp(0, lease.ttl);
                        lease.committed = lease.checkpoint;
                    }
                }
            }
            Control::Compact { .. } | Control::Document { .. } => {}
        }
    }

    /// Puts the lease in the heap at its time, unless it has an entry that comes up earlier.
    fn enqueue(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if lease.queued_ms.is_none_or(|queued_ms| queued_ms > lease.expires_ms) {
            lease.queued_ms = Some(lease.expires_ms);
            self.expiry.push(lease.expires_ms, id);
        }
    }

    /// Starts all leases' time anew, with what their checkpoints left plus `extra_ms`: after a
    /// restart or an election, when nobody could keep them alive for a while. Revocations and
    /// grants that were on their way are forgotten with the log's tail that held them.
    pub fn restart(&mut self, now_ms: u64, extra_ms: u64) {
        self.expiry = Expiry::default();
        self.leases.retain(|_, lease| lease.state != State::Granting);
        for (&id, lease) in &mut self.leases {
            lease.state = State::Granted;
            lease.checkpoint = lease.committed;
            lease.expires_ms = after(now_ms, lease.checkpoint).saturating_add(extra_ms);
            lease.checkpoint_ms = now_ms;
            lease.queued_ms = Some(lease.expires_ms);
            self.expiry.push(lease.expires_ms, id);
        }
    }

    /// Whether the lease is in force.
    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.state == State::Granted)
    }

    /// Gives a lease its whole time again.
    ///
    /// # Errors
    /// `LeaseNotFound`, also when it has run out and is only waiting for its revocation.
    pub fn keep_alive(&mut self, id: LeaseId, now_ms: u64) -> Result<Renewal, StoreError> {
        let lease = self
            .leases
            .get_mut(&id)
            .filter(|lease| lease.state == State::Granted && lease.expires_ms > now_ms)
            .ok_or(StoreError::LeaseNotFound(id))?;
        lease.expires_ms = after(now_ms, lease.ttl);
        lease.checkpoint_ms = now_ms;
        let shortened = lease.checkpoint < lease.ttl;
        lease.checkpoint = lease.ttl;
        let checkpoint =
            shortened.then(|| Control::LeaseCheckpoint { remaining: vec![(id, lease.ttl)] });
        Ok(Renewal { ttl: lease.ttl, checkpoint })
    }

    /// Begins to end a lease: it can be attached to, kept alive or revoked no more.
    ///
    /// # Errors
    /// `LeaseNotFound`, also when another revocation is under way.
    pub fn begin_revoke(&mut self, id: LeaseId) -> Result<Control, StoreError> {
        let lease = self
            .leases
            .get_mut(&id)
            .filter(|lease| lease.state == State::Granted)
            .ok_or(StoreError::LeaseNotFound(id))?;
        lease.state = State::Ending;
        Ok(Control::LeaseRevoke { id })
    }

    /// Takes back the beginning of a revocation that was not logged. A lease that has run out
    /// comes up in [`expired`](Self::expired) again.
    pub fn abandon_revoke(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.state == State::Ending) {
            lease.state = State::Granted;
            self.enqueue(id);
        }
    }

    /// Leases that have run out, with their revocation begun: to be revoked (or abandoned). Looks
    /// at `max` at most; if it gives nothing and [`next_expiry_ms`](Self::next_expiry_ms) is past,
    /// there are more to look at.
    pub fn expired(&mut self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let mut ended = Vec::new();
        for _ in 0..max {
            let Some((at_ms, id)) = self.expiry.pop_due(now_ms) else { break };
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            if lease.queued_ms != Some(at_ms) {
                continue;
            }
            lease.queued_ms = None;
            if lease.state != State::Granted {
                continue;
            }
            if lease.expires_ms <= now_ms {
                lease.state = State::Ending;
                ended.push(id);
            } else {
                self.enqueue(id);
            }
        }
        ended
    }

    /// No lease runs out before this time: when to call [`expired`](Self::expired) next.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiry.next_ms()
    }

    /// A lease's time.
    ///
    /// # Errors
    /// `LeaseNotFound`.
    pub fn time(&self, id: LeaseId, now_ms: u64) -> Result<Time, StoreError> {
        let lease = self
            .leases
            .get(&id)
            .filter(|lease| lease.state != State::Granting)
            .ok_or(StoreError::LeaseNotFound(id))?;
        Ok(Time {
            granted_ttl: lease.ttl,
            remaining_ttl: (lease.remaining_ms(now_ms) / 1000) as i64,
        })
    }

    /// The ids of all leases, in order.
    pub fn ids(&self) -> impl Iterator<Item = LeaseId> {
        self.entries().map(|(id, ..)| id)
    }

    /// Id, seconds granted and seconds left at the last committed checkpoint of all leases, in order of id:
    /// what a snapshot keeps. [`apply`](Self::apply) of a grant and a checkpoint brings one back.
    pub fn entries(&self) -> impl Iterator<Item = (LeaseId, i64, i64)> {
        self.entries_behind(None)
    }

    /// The [`entries`](Self::entries) with larger ids.
    pub fn entries_behind(
        &self,
        after: Option<LeaseId>,
    ) -> impl Iterator<Item = (LeaseId, i64, i64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.leases
            .range((from, Bound::Unbounded))
            .filter(|(_, lease)| lease.state != State::Granting)
            .map(|(&id, lease)| (id, lease.ttl, lease.committed))
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Looks at the next `max` leases, round and round, and gives the checkpoint to be logged for
    /// those that had none for long.
    pub fn checkpoint_slice(&mut self, now_ms: u64, max: usize) -> Option<Control> {
        let interval_ms = self.checkpoint_seconds as u64 * 1000;
        let mut remaining = Vec::new();
        let from = (Bound::Excluded(self.checkpoint_cursor), Bound::Unbounded);
        let mut looked_at = 0;
        for (&id, lease) in self.leases.range_mut(from).take(max) {
            self.checkpoint_cursor = id;
            looked_at += 1;
            let long = lease.ttl > self.checkpoint_seconds && lease.state == State::Granted;
            if long && now_ms.saturating_sub(lease.checkpoint_ms) >= interval_ms {
                lease.checkpoint_ms = now_ms;
                // From now on a renewal has to take it back.
                // Rounded up, as in etcd: after a restart it must not run out early.
                lease.checkpoint = lease.remaining_ms(now_ms).div_ceil(1000) as i64;
                remaining.push((id, lease.checkpoint));
            }
        }
        if looked_at < max {
            self.checkpoint_cursor = LeaseId::MIN;
        }
        (!remaining.is_empty()).then_some(Control::LeaseCheckpoint { remaining })
    }
}

impl Lease {
    fn new(ttl: i64, expires_ms: u64, state: State) -> Lease {
        Lease {
            ttl,
            expires_ms,
            queued_ms: None,
            checkpoint: ttl,
            committed: ttl,
            checkpoint_ms: 0,
            state,
        }
    }

    fn remaining_ms(&self, now_ms: u64) -> u64 {
        self.expires_ms.saturating_sub(now_ms)
    }
}

fn after(now_ms: u64, seconds: i64) -> u64 {
    now_ms.saturating_add((seconds.max(0) as u64).saturating_mul(1000))
}
