//! Automatic compaction: `--auto-compaction-mode` and `--auto-compaction-retention`, as etcd has them.
//!
//! [`policy`] decides when and up to which revision, as plain data; here is the task that tells it
//! the time and does what it says.

mod policy;

use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use mainstay_engine::{Store, StoreError};

pub use policy::{Mode, Retention};

use crate::cli::LogLevel;
use crate::{log, metrics};

/// Compacts as `retention` says while this member leads, until shutdown. For one core.
pub async fn run(retention: Retention, store: &Store, shutdown: &Shutdown) {
    let mut policy = retention.begin(timer::monotonic_ms());
    loop {
        policy.observe(store.revision());
        if timer::timeout(policy.interval(), shutdown.requested()).await.is_some() {
            return;
        }
        let Some(revision) = policy.due(store.revision(), timer::monotonic_ms()) else { continue };
        // All members observe, so that whoever leads next knows when to go on.
        if !store.is_leader() {
            policy.compacted(revision, timer::monotonic_ms());
            continue;
        }
        // What an operator has compacted already is as good.
        match store.compact(revision, false).await {
            Ok(_) | Err(StoreError::Compacted { .. }) => {
                policy.compacted(revision, timer::monotonic_ms());
                metrics::server().auto_compactions.add(1);
                log::write(
                    LogLevel::Info,
                    format_args!("compacted history up to revision {revision} ({retention})"),
                );
            }
            Err(error) => log::write(
                LogLevel::Warn,
                format_args!(
                    "history up to revision {revision} is not compacted: {error}; the next try is \
                     in {:?}",
                    policy.interval(),
                ),
            ),
        }
    }
}
