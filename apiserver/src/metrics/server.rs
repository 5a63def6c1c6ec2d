//! Figures of the process as a whole, not of one core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mainstay_engine::StoreError;
use mainstay_engine::runtime::peers::{PeerCounts, PeerMetrics};
use mainstay_proto::maintenance::{AlarmMember, AlarmType};

use super::registry::Counter;

/// A number that is what it was last set to.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The checks of `/livez` and `/readyz`, as etcd's metrics call them.
pub(super) const CHECKS: [(&str, &str); 5] = [
    ("livez", "serializable_read"),
    ("readyz", "data_corruption"),
    ("readyz", "serializable_read"),
    ("readyz", "linearizable_read"),
    ("readyz", "non_learner"),
];

/// How one check went.
#[derive(Debug)]
pub(super) struct CheckMetrics {
    pub(super) last_succeeded: Value,
    pub(super) successes: Counter,
    pub(super) failures: Counter,
}

impl CheckMetrics {
    /// Whether it was made at all.
    pub(super) fn has_result(&self) -> bool {
        self.successes.get() + self.failures.get() > 0
    }

    const fn new() -> CheckMetrics {
        CheckMetrics {
            last_succeeded: Value(AtomicU64::new(0)),
            successes: Counter::new(),
            failures: Counter::new(),
        }
    }
}

/// Seldom written, by whichever core it happens on.
#[derive(Debug)]
pub struct ServerMetrics {
    /// 0 for none.
    pub quota_bytes: Value,
    pub auto_compactions: Counter,
    /// Compactions that clients asked for.
    pub compactions: Counter,
    /// Calls to Defragment, which has nothing to do.
    pub defragments: Counter,
    /// Writes that the store did not take: too many wait for the disk, or it is full.
    pub failed_writes: Counter,
    /// Writes refused because of an alarm or the quota.
    pub refused_writes: Counter,
    /// Reads for which no leader vouched in time.
    pub failed_read_indexes: Counter,
    pub(super) promotions: Counter,
    pub(super) failed_promotions: Counter,
    pub(super) checks: [CheckMetrics; CHECKS.len()],
    /// Of etcd's users and roles, once somebody has asked for them.
    pub auth_revision: Value,
    pub(super) no_space_alarms: Value,
    pub(super) corrupt_alarms: Value,
    peers: OnceLock<Arc<PeerMetrics>>,
}

static SERVER: ServerMetrics = ServerMetrics {
    quota_bytes: Value(AtomicU64::new(0)),
    auto_compactions: Counter::new(),
    compactions: Counter::new(),
    defragments: Counter::new(),
    failed_writes: Counter::new(),
    refused_writes: Counter::new(),
    failed_read_indexes: Counter::new(),
    promotions: Counter::new(),
    failed_promotions: Counter::new(),
    checks: [const { CheckMetrics::new() }; CHECKS.len()],
    auth_revision: Value(AtomicU64::new(0)),
    no_space_alarms: Value(AtomicU64::new(0)),
    corrupt_alarms: Value(AtomicU64::new(0)),
    peers: OnceLock::new(),
};

/// The figures of this process.
pub fn server() -> &'static ServerMetrics {
    &SERVER
}

impl ServerMetrics {
    /// What goes between members, counted from now on. The same for the whole life of the process.
    pub fn peers(&self) -> Arc<PeerMetrics> {
        Arc::clone(self.peers.get_or_init(Arc::default))
    }

    /// What was counted, by peer; nothing for a member that is alone.
    pub(super) fn peer_counts(&self) -> Vec<PeerCounts> {
        self.peers.get().map(|peers| peers.counts()).unwrap_or_default()
    }

    /// Counts a check of `/readyz`, or else of `/livez`.
    pub fn count_check(&self, ready: bool, name: &str, succeeded: bool) {
        let page = if ready { "readyz" } else { "livez" };
        let Some(position) = CHECKS.iter().position(|check| *check == (page, name)) else { return };
        let check = &self.checks[position];
        check.last_succeeded.set(u64::from(succeeded));
        (if succeeded { &check.successes } else { &check.failures }).add(1);
    }

    /// Counts that a learner was to become a voter.
    pub fn count_promotion<T>(&self, promoted: &Result<T, StoreError>) {
        (if promoted.is_ok() { &self.promotions } else { &self.failed_promotions }).add(1);
    }

    /// Tells which alarms there are.
    pub fn set_alarms(&self, alarms: &[AlarmMember]) {
        let count = |kind: AlarmType| {
            let of_kind = |alarm: &&AlarmMember| alarm.alarm == i32::from(kind);
            alarms.iter().filter(of_kind).count() as u64
        };
        self.no_space_alarms.set(count(AlarmType::NoSpace));
        self.corrupt_alarms.set(count(AlarmType::Corrupt));
    }
}
