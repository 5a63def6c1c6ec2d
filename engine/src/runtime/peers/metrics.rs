//! What goes between this member and others, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::durations::{DurationCounts, Durations};

/// The counters of all peers. Core 0 counts, any core reads.
#[derive(Debug, Default)]
pub struct PeerMetrics(Mutex<BTreeMap<u64, Arc<PeerCounters>>>);

/// The counters of one peer.
#[derive(Debug, Default)]
pub struct PeerCounters {
    is_active: AtomicBool,
    disconnects: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_failures: AtomicU64,
    received_failures: AtomicU64,
    round_trips: Durations,
}

/// What was counted of one peer, since the start or since it became a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerCounts {
    pub id: u64,
    /// There is a connection to it.
    pub is_active: bool,
    /// Connections to it that were lost.
    pub disconnects: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Messages that were not sent, as there was no connection or no room.
    pub sent_failures: u64,
    /// Connections from it that ended in the middle of something, or with nonsense.
    pub received_failures: u64,
    pub round_trips: DurationCounts,
}

impl PeerMetrics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<PeerCounters>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of a peer, from 0 if it is new.
    pub(super) fn of(&self, id: u64) -> Arc<PeerCounters> {
        Arc::clone(self.lock().entry(id).or_default())
    }

    /// A peer is no member any more.
    pub(super) fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// All peers, in order of id.
    pub fn counts(&self) -> Vec<PeerCounts> {
        self.lock().iter().map(|(id, counters)| counters.counts(*id)).collect()
    }
}

impl PeerCounters {
    pub(super) fn connected(&self) {
        self.is_active.store(true, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        if self.is_active.swap(false, Ordering::Relaxed) {
            self.disconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent_failed(&self, messages: usize) {
        self.sent_failures.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(super) fn received_failed(&self) {
        self.received_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn round_trip(&self, us: u64) {
        self.round_trips.record(us);
    }

    fn counts(&self, id: u64) -> PeerCounts {
        PeerCounts {
            id,
            is_active: self.is_active.load(Ordering::Relaxed),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_failures: self.sent_failures.load(Ordering::Relaxed),
            received_failures: self.received_failures.load(Ordering::Relaxed),
            round_trips: self.round_trips.counts(),
        }
    }
}
