//! A database file of what a server lists: for servers that speak etcd's API and have no snapshots.
//!
//! The newest version of every key at one revision, and the leases. All of it is in memory once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_bbolt::etcd::Lease;
use mainstay_bbolt::etcd::write::{Contents, Facts, KeyVersion};
use mainstay_proto::KeyValue;
use mainstay_proto::kv::{RangeRequest, RangeResponse};
use mainstay_proto::lease::{
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use super::UNIMPLEMENTED;
use super::client::{CallError, Client};
use crate::failure::Failure;
use crate::files;

/// Keys asked for at once.
const PAGE_KEYS: i64 = 1000;

/// Writes the database to `path`. Gives what a person should know of it.
pub(super) async fn fetch(client: &Client, path: &Path) -> Result<String, Failure> {
    let mut leases = BTreeMap::new();
    let lists_leases = add_leases(client, &mut leases).await?;
    let (revision, versions) = read_keys(client).await?;
    add_leases(client, &mut leases).await?;
    let lost = versions
        .iter()
        .filter(|Version(kv)| kv.lease != 0 && !leases.contains_key(&kv.lease))
        .count();
    let facts = Facts {
        revision,
        compacted: revision,
        leases: leases.into_values().collect(),
        ..Facts::default()
    };
    let contents = Contents::new(&facts, versions).map_err(Failure::other)?;
    files::write_database(path, Arc::new(contents))?;
    let mut note = "the server has no snapshots: the newest versions were listed, without older \
                    ones, users and roles"
        .to_owned();
    if !lists_leases {
        note += "; it does not list its leases either";
    }
    if lost > 0 {
        note += &format!("; {lost} keys hang on leases that it does not have, and will not expire");
    }
    Ok(note)
}

/// False when the server does not list leases.
async fn add_leases(client: &Client, leases: &mut BTreeMap<i64, Lease>) -> Result<bool, CallError> {
    let request = LeaseLeasesRequest {};
    let listed = client.unary("/etcdserverpb.Lease/LeaseLeases", &request).await;
    let listed: LeaseLeasesResponse = match listed {
        Err(CallError::Refused { code: UNIMPLEMENTED, .. }) => return Ok(false),
        listed => listed?,
    };
    for id in listed.leases.into_iter().map(|lease| lease.id) {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let status: LeaseTimeToLiveResponse =
            client.unary("/etcdserverpb.Lease/LeaseTimeToLive", &request).await?;
        if status.ttl > 0 {
            let (ttl, remaining_ttl) = (status.granted_ttl, status.ttl);
            leases.insert(id, Lease { id, ttl, remaining_ttl });
        }
    }
    Ok(true)
}

/// All keys at one revision, page by page.
async fn read_keys(client: &Client) -> Result<(i64, Vec<Version>), CallError> {
    let mut request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        limit: PAGE_KEYS,
        ..RangeRequest::default()
    };
    let mut versions: Vec<Version> = Vec::new();
    loop {
        let page: RangeResponse = client.unary("/etcdserverpb.KV/Range", &request).await?;
        if request.revision == 0 {
            request.revision = page.header.map_or(0, |header| header.revision);
        }
        let last = page.kvs.last().map(|kv| kv.key.clone());
        versions.extend(page.kvs.into_iter().map(Version));
        match last {
            Some(last) if page.more => {
                request.key = [&last[..], b"\0"].concat().into();
            }
            _ => return Ok((request.revision, versions)),
        }
    }
}

#[derive(Debug)]
struct Version(KeyValue);

impl KeyVersion for Version {
    fn key(&self) -> &[u8] {
        &self.0.key
    }
    fn value(&self) -> &[u8] {
        &self.0.value
    }
    fn create_revision(&self) -> i64 {
        self.0.create_revision
    }
    fn mod_revision(&self) -> i64 {
        self.0.mod_revision
    }
    fn version(&self) -> i64 {
        self.0.version
    }
    fn lease(&self) -> i64 {
        self.0.lease
    }
}
