//! Forgets history now and then, as kube-apiservers do: everything older than one interval.
//!
//! Several servers on one store agree by the key `compact_rev_key`: whoever writes it first in an
//! interval compacts, at the revision that the store had when the interval began.

use bytes::Bytes;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;

use super::limits::COMPACTION_INTERVAL;
use super::registry::Registry;
use super::storage::keys::COMPACT_REVISION_KEY;
use super::storage::{StorageError, Write, Written};
use crate::cli::LogLevel;
use crate::log;

/// Compacts every interval until shutdown.
pub async fn run(registry: &Registry, shutdown: &Shutdown) {
    let mut seen_version = 0;
    let mut revision = 0;
    loop {
        let stopped = shutdown.requested();
        if timer::timeout(COMPACTION_INTERVAL, stopped).await.is_some() {
            return;
        }
        match round(registry, seen_version, revision).await {
            Ok(next) => (seen_version, revision) = next,
            Err(error) => {
                log::write(LogLevel::Warn, format_args!("history was not compacted: {error}"));
            }
        }
    }
}

/// One interval's end. Gives the key's revision for the next try, and the store's revision now.
async fn round(
    registry: &Registry,
    seen_version: i64,
    revision: i64,
) -> Result<(i64, i64), StorageError> {
    let write = Write {
        key: Bytes::from_static(COMPACT_REVISION_KEY.as_bytes()),
        expected_revision: seen_version,
        value: Some(Bytes::from(revision.to_string())),
        ttl_seconds: 0,
    };
    match registry.storage.write(write).await? {
        Written::Done(version) => {
            if revision > 0 {
                registry.storage.compact(revision).await?;
            }
            Ok((version, version))
        }
        Written::Lost(found) => {
            let version = found.map_or(0, |found| found.revision);
            Ok((version, registry.storage.revision()))
        }
    }
}
