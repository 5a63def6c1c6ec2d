//! Takes etcd's data out of a database.

use bytes::Bytes;
use mainstay_proto::mvcc::KeyValue;
use prost::Message;

use super::message::{Role, StoredLease, User};
use super::{Auth, FIRST_REVISION, Lease, RevisionKey, bucket, name};
use crate::error::Error;
use crate::reader::{Cursor, Database, Source, Value};

/// All but the keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// History up to here is gone; 0 when none is.
    pub compacted: i64,
    pub leases: Vec<Lease>,
    pub auth: Auth,
    /// Raft's index and term of the last change, 0 when not noted.
    pub consistent_index: u64,
    pub term: u64,
    /// etcd's version of the database, when it is noted (3.6 and newer).
    pub storage_version: Option<String>,
    pub cluster_version: Option<String>,
    /// Alarms that were raised.
    pub alarms: usize,
    /// Buckets that etcd does not have.
    pub unknown_buckets: Vec<String>,
}

/// One version of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub place: RevisionKey,
    /// Of a deletion: the key alone.
    pub kv: KeyValue,
}

/// Reads all but the keys. Needs memory for leases, users and roles.
pub fn facts<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    let mut found_key_bucket = false;
    let mut buckets = database.cursor(&database.root())?;
    while let Some((name, value)) = buckets.next()? {
        let Value::Bucket(bucket) = value else { continue };
        let name = String::from_utf8_lossy(name).into_owned();
        let mut entries = Entries { cursor: database.cursor(&bucket)? };
        match name.as_str() {
            bucket::KEY => found_key_bucket = true,
            bucket::META => read_meta(&mut entries, &mut facts)?,
            bucket::LEASE => read_leases(&mut entries, &mut facts.leases)?,
            bucket::AUTH => read_auth(&mut entries, &mut facts.auth)?,
            bucket::AUTH_USERS => {
                while let Some((key, value)) = entries.next()? {
                    facts.auth.users.push(message::<User>(bucket::AUTH_USERS, key, value)?);
                }
            }
            bucket::AUTH_ROLES => {
                while let Some((key, value)) = entries.next()? {
                    facts.auth.roles.push(message::<Role>(bucket::AUTH_ROLES, key, value)?);
                }
            }
            bucket::ALARM => {
                while entries.next()?.is_some() {
                    facts.alarms += 1;
                }
            }
            bucket::CLUSTER => {
                while let Some((key, value)) = entries.next()? {
                    if key == name::CLUSTER_VERSION {
                        facts.cluster_version = Some(text(value));
                    }
                }
            }
            bucket::MEMBERS | bucket::MEMBERS_REMOVED => {}
            _ => facts.unknown_buckets.push(name),
        }
    }
    if !found_key_bucket {
        return Err(Error::MissingBucket { name: bucket::KEY });
    }
    Ok(facts)
}

/// Walks over all versions of all keys, in order of their revisions.
pub fn versions<'a, S: Source + ?Sized>(
    database: &Database<'a, S>,
) -> Result<Versions<'a, S>, Error> {
    let bucket = database.bucket(bucket::KEY.as_bytes())?;
    let bucket = bucket.ok_or(Error::MissingBucket { name: bucket::KEY })?;
    Ok(Versions {
        entries: Entries { cursor: database.cursor(&bucket)? },
        revision: FIRST_REVISION,
    })
}

/// The walk of [`versions`].
#[derive(Debug)]
pub struct Versions<'a, S: ?Sized> {
    entries: Entries<'a, S>,
    revision: i64,
}

impl<S: Source + ?Sized> Versions<'_, S> {
    /// The next version; `None` at the end.
    #[allow(clippy::should_implement_trait)] // it can fail
    pub fn next(&mut self) -> Result<Option<Version>, Error> {
        while let Some((key, value)) = self.entries.next()? {
            let wrong = |reason: &str| content(bucket::KEY, key, reason);
            let place = RevisionKey::decode(key).ok_or_else(|| wrong("the key is no revision"))?;
            if place.main <= FIRST_REVISION {
                return Err(wrong("a store begins at revision 1, its first change is 2"));
            }
            self.revision = self.revision.max(place.main);
            // `etcdutl snapshot restore --bump-revision` notes the revision to go on from so.
            if value.is_empty() {
                continue;
            }
            let kv: KeyValue = message(bucket::KEY, key, value)?;
            if kv.key.is_empty() {
                return Err(wrong("a version of the empty key"));
            }
            let fits = kv.mod_revision == place.main
                && (1..=kv.mod_revision).contains(&kv.create_revision)
                && kv.version > 0;
            if !place.tombstone && !fits {
                return Err(wrong("its value tells another revision, or no version"));
            }
            return Ok(Some(Version { place, kv }));
        }
        Ok(None)
    }

    /// The revision that was reached so far: that of the newest entry, with a version or without.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Pages that were not read yet: for a progress bar.
    pub fn pages_left(&self) -> u64 {
        self.entries.cursor.pages_left()
    }
}

/// A bucket of values alone.
#[derive(Debug)]
struct Entries<'a, S: ?Sized> {
    cursor: Cursor<'a, S>,
}

/// A key and a value.
type Entry<'a> = (&'a [u8], &'a [u8]);

impl<S: Source + ?Sized> Entries<'_, S> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        match self.cursor.next()? {
            None => Ok(None),
            Some((key, Value::Bytes(value))) => Ok(Some((key, value))),
            Some((key, Value::Bucket(_))) => Err(content("", key, "a bucket within a bucket")),
        }
    }
}

fn read_meta<S: Source + ?Sized>(
    entries: &mut Entries<'_, S>,
    facts: &mut Facts,
) -> Result<(), Error> {
    while let Some((key, value)) = entries.next()? {
        let wrong = |reason| content(bucket::META, key, reason);
        let number = || {
            let bytes = value.try_into().map_err(|_| wrong("the value is no number of 8 bytes"))?;
            Ok(u64::from_be_bytes(bytes))
        };
        match key {
            // A compaction that was only begun is carried on by the next start: it counts.
            name::FINISHED_COMPACTION | name::SCHEDULED_COMPACTION => {
                let revision =
                    RevisionKey::decode(value).ok_or_else(|| wrong("the value is no revision"))?;
                facts.compacted = facts.compacted.max(revision.main);
            }
            name::CONSISTENT_INDEX => facts.consistent_index = number()?,
            name::TERM => facts.term = number()?,
            name::STORAGE_VERSION => facts.storage_version = Some(text(value)),
            _ => {}
        }
    }
    Ok(())
}

fn read_leases<S: Source + ?Sized>(
    entries: &mut Entries<'_, S>,
    leases: &mut Vec<Lease>,
) -> Result<(), Error> {
    while let Some((key, value)) = entries.next()? {
        let StoredLease { id, ttl, remaining_ttl } = message(bucket::LEASE, key, value)?;
        if id == 0 || ttl < 0 {
            return Err(content(bucket::LEASE, key, "a lease without an id, or of negative time"));
        }
        leases.push(Lease { id, ttl, remaining_ttl: remaining_ttl.clamp(0, ttl) });
    }
    Ok(())
}

fn read_auth<S: Source + ?Sized>(
    entries: &mut Entries<'_, S>,
    auth: &mut Auth,
) -> Result<(), Error> {
    while let Some((key, value)) = entries.next()? {
        match key {
            name::AUTH_ENABLED => auth.enabled = value == [1],
            name::AUTH_REVISION => {
                let bytes = value.try_into();
                let bytes =
                    bytes.map_err(|_| content(bucket::AUTH, key, "no number of 8 bytes"))?;
                auth.revision = u64::from_be_bytes(bytes);
            }
            _ => {}
        }
    }
    Ok(())
}

fn message<M: Message + Default>(
    bucket: &'static str,
    key: &[u8],
    value: &[u8],
) -> Result<M, Error> {
    M::decode(Bytes::copy_from_slice(value))
        .map_err(|error| content(bucket, key, &format!("the value can't be decoded: {error}")))
}

fn content(bucket: &'static str, key: &[u8], reason: &str) -> Error {
    let shown = &key[..key.len().min(64)];
    Error::Content { bucket, key: shown.escape_ascii().to_string(), reason: reason.to_owned() }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(64)]).into_owned()
}
