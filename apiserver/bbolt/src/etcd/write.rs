//! Writes a database that etcd can be started from, chunk by chunk.

use std::sync::Arc;

use prost::Message;
use serde_json::json;

use super::message::StoredLease;
use super::{Auth, FIRST_REVISION, Lease, Member, RevisionKey, bucket, name};
use crate::error::Error;
use crate::writer::{KEY_BYTES_MAX, Plan, Writer};

/// The layout of the database, as etcd numbers it. etcd before 3.6 does not look at it.
pub const STORAGE_VERSION: &str = "3.6.0";

/// One version of one key, wherever it is kept.
pub trait KeyVersion {
    fn key(&self) -> &[u8];
    fn value(&self) -> &[u8];
    fn create_revision(&self) -> i64;
    fn mod_revision(&self) -> i64;
    /// 0 for a deletion.
    fn version(&self) -> i64;
    fn lease(&self) -> i64;
}

/// All but the keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The store's revision.
    pub revision: i64,
    /// History up to here is gone. With `revision`, the versions given are the newest ones alone.
    pub compacted: i64,
    pub raft_index: u64,
    pub raft_term: u64,
    /// In order of id.
    pub leases: Vec<Lease>,
    pub auth: Auth,
    pub members: Vec<Member>,
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// What goes into a database.
#[derive(Debug)]
pub struct Contents<V> {
    before: Vec<(&'static str, Entries)>,
    versions: Vec<V>,
    after: Vec<(&'static str, Entries)>,
}

impl<V: KeyVersion> Contents<V> {
    /// Sorts `versions` by revision; the order of those of one revision is kept.
    ///
    /// # Errors
    /// When a database can't hold a name of a user or role, or what is there once is there twice.
    pub fn new(facts: &Facts, mut versions: Vec<V>) -> Result<Contents<V>, Error> {
        versions.sort_by_key(KeyVersion::mod_revision);
        let Facts { auth, .. } = facts;
        let mut users: Entries =
            auth.users.iter().map(|user| (user.name.to_vec(), user.encode_to_vec())).collect();
        let mut roles: Entries =
            auth.roles.iter().map(|role| (role.name.to_vec(), role.encode_to_vec())).collect();
        users.sort();
        roles.sort();
        let leases = lease_entries(&facts.leases);
        let members = member_entries(&facts.members);
        for (what, entries) in
            [("user", &users), ("role", &roles), ("lease", &leases), ("member", &members)]
        {
            check_keys(what, entries)?;
        }
        Ok(Contents {
            before: vec![
                (bucket::ALARM, Vec::new()),
                (bucket::AUTH, auth_entries(auth)),
                (bucket::AUTH_ROLES, roles),
                (bucket::AUTH_USERS, users),
                // Left empty: a version there would keep older etcds from starting.
                (bucket::CLUSTER, Vec::new()),
            ],
            versions,
            after: vec![
                (bucket::LEASE, leases),
                (bucket::MEMBERS, members),
                (bucket::MEMBERS_REMOVED, Vec::new()),
                (bucket::META, meta_entries(facts)),
            ],
        })
    }

    /// How many versions there are.
    pub fn version_count(&self) -> usize {
        self.versions.len()
    }

    /// Goes through everything once, to know how long the file becomes.
    pub fn plan(&self) -> Plan {
        let mut pass = Pass { writer: Writer::measure(), next: None, place: (0, 0) };
        pass.advance(self, usize::MAX);
        pass.end(self).0
    }
}

/// A database as a sequence of chunks.
#[derive(Debug)]
pub struct Chunks<V> {
    contents: Arc<Contents<V>>,
    pass: Option<Pass>,
}

impl<V: KeyVersion> Chunks<V> {
    pub fn new(contents: Arc<Contents<V>>, plan: Plan) -> Chunks<V> {
        let pass = Pass { writer: Writer::write(plan), next: None, place: (0, 0) };
        Chunks { contents, pass: Some(pass) }
    }

    /// The next bytes of the file: `about_bytes` and what belongs to the last page, or what is
    /// left. `None` at the end.
    pub fn next_chunk(&mut self, about_bytes: usize) -> Option<Vec<u8>> {
        let mut pass = self.pass.take()?;
        if pass.advance(&self.contents, about_bytes) {
            return Some(pass.end(&self.contents).1);
        }
        let bytes = pass.writer.take_bytes();
        self.pass = Some(pass);
        Some(bytes)
    }
}

/// One way through the contents.
#[derive(Debug)]
struct Pass {
    writer: Writer,
    /// The version that comes next, once the first buckets are done.
    next: Option<usize>,
    /// Of the last version: its revision, and the number within it.
    place: (i64, i64),
}

impl Pass {
    /// Goes on until so many bytes wait. True when nothing but the last buckets is left.
    fn advance<V: KeyVersion>(&mut self, contents: &Contents<V>, bytes: usize) -> bool {
        let start = match self.next {
            Some(next) => next,
            None => {
                self.put_buckets(&contents.before);
                self.writer.begin_bucket(bucket::KEY.as_bytes());
                0
            }
        };
        let mut next = start;
        while next < contents.versions.len() && self.writer.bytes_waiting() < bytes {
            self.put_version(&contents.versions[next]);
            next += 1;
        }
        self.next = Some(next);
        next == contents.versions.len()
    }

    fn end<V>(mut self, contents: &Contents<V>) -> (Plan, Vec<u8>) {
        self.put_buckets(&contents.after);
        self.writer.finish()
    }

    fn put_version<V: KeyVersion>(&mut self, version: &V) {
        let main = version.mod_revision();
        let sub = if self.place.0 == main { self.place.1 + 1 } else { 0 };
        self.place = (main, sub);
        let tombstone = version.version() == 0;
        let key = RevisionKey { main, sub, tombstone }.encode();
        let length = key_value_bytes(version);
        self.writer.put(&key, length, |out| write_key_value(version, out));
    }

    fn put_buckets(&mut self, buckets: &[(&'static str, Entries)]) {
        for (name, entries) in buckets {
            self.writer.begin_bucket(name.as_bytes());
            for (key, value) in entries {
                self.writer.put(key, value.len(), |out| out.extend_from_slice(value));
            }
        }
    }
}

/// Whether the writer takes these keys, which are sorted.
fn check_keys(what: &str, entries: &Entries) -> Result<(), Error> {
    let wrong = |key: &[u8], reason: String| {
        let shown = key[..key.len().min(64)].escape_ascii();
        Err(Error::Unwritable { what: format!("the {what} {shown}"), reason })
    };
    for (key, _) in entries {
        match key.len() {
            0 => return wrong(key, "it has no name".to_owned()),
            1..=KEY_BYTES_MAX => {}
            bytes => {
                let reason = format!("its name has {bytes} bytes, at most {KEY_BYTES_MAX} fit");
                return wrong(key, reason);
            }
        }
    }
    match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => wrong(&pair[0].0, "it is there twice".to_owned()),
        None => Ok(()),
    }
}

fn auth_entries(auth: &Auth) -> Entries {
    vec![
        (name::AUTH_ENABLED.to_vec(), vec![u8::from(auth.enabled)]),
        (name::AUTH_REVISION.to_vec(), auth.revision.max(1).to_be_bytes().to_vec()),
    ]
}

/// Ids are kept as 8 bytes: those that are negative as numbers come last.
fn lease_entries(leases: &[Lease]) -> Entries {
    let entry = |lease: &Lease| {
        let Lease { id, ttl, remaining_ttl } = *lease;
        (id.to_be_bytes().to_vec(), StoredLease { id, ttl, remaining_ttl }.encode_to_vec())
    };
    let mut entries: Entries = leases.iter().map(entry).collect();
    entries.sort();
    entries
}

fn member_entries(members: &[Member]) -> Entries {
    let entry = |member: &Member| {
        let value = json!({
            "id": member.id,
            "peerURLs": member.peer_urls,
            "name": member.name,
            "clientURLs": member.client_urls,
        });
        (format!("{:x}", member.id).into_bytes(), value.to_string().into_bytes())
    };
    let mut entries: Entries = members.iter().map(entry).collect();
    entries.sort();
    entries
}

fn meta_entries(facts: &Facts) -> Entries {
    let voters: Vec<u64> = facts.members.iter().map(|member| member.id).collect();
    let configuration = json!({ "voters": voters, "auto_leave": false }).to_string();
    let mut entries = vec![
        (name::CONF_STATE, configuration.into_bytes()),
        (name::CONSISTENT_INDEX, facts.raft_index.to_be_bytes().to_vec()),
        (name::STORAGE_VERSION, STORAGE_VERSION.as_bytes().to_vec()),
        (name::TERM, facts.raft_term.to_be_bytes().to_vec()),
    ];
    if facts.compacted > FIRST_REVISION {
        let revision = RevisionKey { main: facts.compacted, sub: 0, tombstone: false }.encode();
        entries.push((name::FINISHED_COMPACTION, revision.clone()));
        entries.push((name::SCHEDULED_COMPACTION, revision));
    }
    let mut entries: Entries =
        entries.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
    entries.sort();
    entries
}

/// The numbers of a `KeyValue` in order of their tags, which are those of the message.
fn numbers(version: &impl KeyVersion) -> [(u8, i64); 4] {
    let modified = if version.version() == 0 { 0 } else { version.mod_revision() };
    [(2, version.create_revision()), (3, modified), (4, version.version()), (6, version.lease())]
}

pub(super) fn key_value_bytes(version: &impl KeyVersion) -> usize {
    let bytes = |length: usize| match length {
        0 => 0,
        length => 1 + varint_bytes(length as u64) + length,
    };
    let number =
        |(_, value): (u8, i64)| if value == 0 { 0 } else { 1 + varint_bytes(value as u64) };
    let numbers: usize = numbers(version).into_iter().map(number).sum();
    bytes(version.key().len()) + bytes(version.value().len()) + numbers
}

/// A `KeyValue` without a copy of the value in between.
pub(super) fn write_key_value(version: &impl KeyVersion, out: &mut Vec<u8>) {
    let [create, modified, count, lease] = numbers(version);
    write_bytes(1, version.key(), out);
    write_number(create, out);
    write_number(modified, out);
    write_number(count, out);
    write_bytes(5, version.value(), out);
    write_number(lease, out);
}

fn write_number((tag, value): (u8, i64), out: &mut Vec<u8>) {
    if value != 0 {
        out.push(tag << 3);
        write_varint(value as u64, out);
    }
}

fn write_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u8 = 2;
    if !bytes.is_empty() {
        out.push(tag << 3 | LENGTH_DELIMITED);
        write_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn varint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
