//! From the buckets of a database to the log of a new data directory.
//!
//! etcd keeps versions in the order of their revisions, and so does the log: they are copied in one
//! pass. What etcd compacted away is missing; the store is told that it is compacted.

use std::path::Path;
use std::time::Duration;

use mainstay_bbolt::etcd::read::{self, Facts, Version};
use mainstay_bbolt::etcd::{Lease, document};
use mainstay_bbolt::reader;
use mainstay_engine::Record;
use mainstay_engine::effect::{Change, Control, Effect};
use mainstay_engine::limits;
use mainstay_engine::runtime::disk::offline::Filling;

use super::source::Database;
use crate::failure::Failure;
use crate::progress::Progress;

/// Bytes that the changes of one revision may take: what one frame of the log holds, with room
/// for what surrounds them.
const REVISION_BYTES_MAX: usize = limits::LOG_PAYLOAD_BYTES / 2;

/// What was done.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) versions: u64,
    pub(super) tombstones: u64,
    pub(super) leases: usize,
    pub(super) users: usize,
    pub(super) roles: usize,
    /// Of the database.
    pub(super) bytes: u64,
    pub(super) time: Duration,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// Writes everything in `database` to a new data directory.
pub(super) fn load(
    database: &Database,
    directory: &Path,
    without_auth: bool,
) -> Result<Loaded, Failure> {
    let mut progress = Progress::new("importing");
    let damaged = |source| Failure::Database { path: database.path.display().to_string(), source };
    let pages = reader::Database::open(&database.source).map_err(damaged)?;
    let facts = read::facts(&pages).map_err(damaged)?;
    let mut loaded = Loaded { notes: notes(&facts), bytes: pages.bytes(), ..Loaded::default() };
    loaded.notes.extend(database.note.clone());

    let mut filling = Filling::create(directory)?;
    for lease in &facts.leases {
        add_lease(&mut filling, lease)?;
    }
    loaded.leases = facts.leases.len();
    if without_auth && !facts.auth.is_empty() {
        loaded.notes.push(format!(
            "{} users and {} roles were left behind: everybody can read and write everything",
            facts.auth.users.len(),
            facts.auth.roles.len()
        ));
    } else if !facts.auth.is_empty() {
        let content = document::encode(&facts.auth).map_err(Failure::Other)?;
        filling.control(Control::Document { name: document::NAME.into(), content })?;
        (loaded.users, loaded.roles) = (facts.auth.users.len(), facts.auth.roles.len());
    }

    let mut versions = read::versions(&pages).map_err(damaged)?;
    let total_pages = versions.pages_left();
    let page_bytes = loaded.bytes / total_pages.max(1);
    let mut transaction = Transaction::default();
    while let Some(version) = versions.next().map_err(damaged)? {
        if version.place.tombstone {
            loaded.tombstones += 1;
        } else {
            loaded.versions += 1;
        }
        if version.place.main != transaction.revision {
            transaction.write(&mut filling)?;
            progress.show((total_pages - versions.pages_left()) * page_bytes, loaded.bytes);
        }
        transaction.add(version)?;
    }
    transaction.write(&mut filling)?;
    loaded.compacted = facts.compacted;
    loaded.revision = versions.revision().max(facts.compacted);
    // First: a store is not compacted to a revision that it has not reached.
    filling.advance(loaded.revision)?;
    if facts.compacted > 0 {
        filling.control(Control::Compact { revision: facts.compacted })?;
    }
    filling.finish(loaded.revision)?;
    loaded.time = progress.end();
    Ok(loaded)
}

fn add_lease(filling: &mut Filling, lease: &Lease) -> Result<(), Failure> {
    let Lease { id, ttl, remaining_ttl } = *lease;
    let ttl = ttl.clamp(limits::LEASE_TTL_MIN, limits::LEASE_TTL_MAX);
    filling.control(Control::LeaseGrant { id, ttl })?;
    if remaining_ttl > 0 {
        filling.control(Control::LeaseCheckpoint { remaining: vec![(id, remaining_ttl)] })?;
    }
    Ok(())
}

/// The changes of one revision.
#[derive(Default)]
struct Transaction {
    revision: i64,
    changes: Vec<Change>,
    bytes: usize,
}

impl Transaction {
    fn add(&mut self, version: Version) -> Result<(), Failure> {
        let Version { place, kv } = version;
        self.revision = place.main;
        self.bytes += kv.key.len() + kv.value.len() + 64;
        if self.bytes > REVISION_BYTES_MAX {
            return Err(Failure::other(format!(
                "revision {} changes more than {REVISION_BYTES_MAX} bytes at once, which the log \
                 can't hold",
                place.main
            )));
        }
        let record = if place.tombstone {
            Record::tombstone(&kv.key, place.main)
        } else {
            let (create, version) = (kv.create_revision, kv.version);
            Record::new(&kv.key, &kv.value, create, place.main, version, kv.lease)
        };
        self.changes.push(Change { record, previous: None });
        Ok(())
    }

    fn write(&mut self, filling: &mut Filling) -> Result<(), Failure> {
        let Transaction { revision, changes, .. } = std::mem::take(self);
        if !changes.is_empty() {
            filling.effect(Effect { revision, changes })?;
        }
        Ok(())
    }
}

fn notes(facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    if facts.alarms > 0 {
        let what = "alarms were raised; they are left behind with the etcd that raised them";
        notes.push(format!("{} {what}", facts.alarms));
    }
    for bucket in &facts.unknown_buckets {
        notes.push(format!("the bucket {bucket:?} is none that etcd 3.6 has: it was left out"));
    }
    notes
}
