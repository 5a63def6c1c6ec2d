//! Every bound of the etcd door, with its reason.

use std::time::Duration;

use crate::net::held::{self, Pressure};

/// The largest write request, bytes, unless `--max-request-bytes` says otherwise: etcd's default.
pub(super) const REQUEST_BYTES: usize = mainstay_engine::limits::REQUEST_BYTES;

/// The largest gRPC message taken from a client where `--max-request-bytes` has no say.
pub(super) const MESSAGE_BYTES: usize = message_bytes(REQUEST_BYTES);

/// The largest gRPC message taken from a client: a write request and etcd's overhead for it.
pub(super) const fn message_bytes(request_bytes: usize) -> usize {
    request_bytes + (512 << 10)
}

/// The largest JSON text of one request in a stream to the gateway, bytes.
pub(super) const GATEWAY_BYTES: usize = gateway_bytes(REQUEST_BYTES);

/// The largest JSON text of a request to the gateway, bytes: base64 makes the largest message a third
/// larger, and there is some room for names and white space.
pub(super) const fn gateway_bytes(request_bytes: usize) -> usize {
    2 * message_bytes(request_bytes)
}

/// Messages within each other in an answer that becomes JSON: as deep as prost decodes requests.
pub(super) const GATEWAY_DEPTH: usize = 100;

/// Bytes of a wrong value that the gateway shows in its answer; etcd shows all of it.
pub(super) const GATEWAY_SHOWN_BYTES: usize = 256;

/// Keys in the first answer of a range stream, so that it comes at once: etcd's figure.
pub(super) const STREAM_FIRST_KEYS: usize = 10;

/// Keys that are read for an answer of a range stream at most: values that come behind small ones may
/// be large, and what does not fit in the answer was read in vain.
pub(super) const STREAM_KEYS_MAX: usize = 4096;

/// Watchers on one stream. kube-apiserver has one, etcd's benchmarks a few hundred.
pub(super) const WATCHERS_PER_STREAM: usize = 100_000;

/// Watchers of all streams of a connection: some 600 MB of them, more than a large cluster's clients
/// have all together.
pub(super) const WATCHERS_PER_CONNECTION: usize = 2 * WATCHERS_PER_STREAM;

/// What a watcher costs beside its range, bytes, about: at the door, at the store, and the allocators'
/// part.
pub(super) const WATCHER_BYTES: usize = 3 << 10;

/// Bytes of watchers that a stream may have however much the process holds: who has few is not the one
/// to refuse.
pub(super) const WATCHER_BYTES_ALWAYS: usize = 16 << 10;

/// Bytes of events taken from a watcher at a time, and so about the most that waits for a client
/// that reads slowly. Events of one revision stay together and may exceed it.
const WATCH_BATCH_BYTES: usize = 256 << 10;

/// The same while clients make the process hold so much that each should have less.
const WATCH_BATCH_BYTES_TIGHT: usize = 16 << 10;

/// The one of the two that is to be used now.
pub(super) fn watch_batch_bytes() -> usize {
    match held::pressure() {
        Pressure::Low => WATCH_BATCH_BYTES,
        Pressure::High | Pressure::Over => WATCH_BATCH_BYTES_TIGHT,
    }
}

/// Seconds: no lease is shorter, whatever was asked for. etcd derives the same figure from its
/// default election timeout (1.5 x 1 s, rounded up).
pub(super) const LEASE_TTL_MIN: i64 = 2;

/// Seconds: the lease of a lock or a candidate that brings none. As in etcd's client library.
pub(super) const CANDIDATE_TTL: i64 = 60;

/// Levels of the prefixes that `/usage` tells of, and how many prefixes: a page that can be read.
pub(super) const USAGE_DEPTH: usize = 8;
pub(super) const USAGE_PREFIXES: usize = 1_000;

/// How long a health check waits for the store.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Snapshots that are sent at the same time, by all cores. Each keeps versions in memory that were
/// overwritten since it began.
pub(super) const SNAPSHOTS: usize = 4;

/// A snapshot whose client has taken nothing for this long is given up, so that nobody can keep the
/// others' places. The slowest client is one of 2 KiB/s then.
pub(super) const SNAPSHOT_STALL: Duration = Duration::from_secs(30);

/// How often that is looked at.
pub(super) const SNAPSHOT_LOOK: Duration = Duration::from_secs(5);

/// Bytes of a snapshot that are made at once, on a thread: a millisecond's work.
pub(super) const SNAPSHOT_PIECE_BYTES: usize = 1 << 20;

/// Bytes of a snapshot in one message. etcd sends 32 KiB, clients take 4 MiB unless told otherwise.
pub(super) const SNAPSHOT_MESSAGE_BYTES: usize = 64 << 10;

/// Leases of a snapshot that are asked for at the same time.
pub(super) const SNAPSHOT_LEASES_ASKED: usize = 64;

const _: () = assert!(SNAPSHOT_MESSAGE_BYTES < 4 << 20);

/// Bytes of all users, roles and permissions together: some ten thousand of them. Each change writes
/// all of them anew, as one entry of the log.
pub(super) const AUTH_DOCUMENT_BYTES: usize = 1 << 20;

/// Bytes of a user's or role's name: what etcd's database has room for. A longer one would be in no
/// snapshot.
pub(super) const AUTH_NAME_BYTES: usize = mainstay_bbolt::writer::KEY_BYTES_MAX;

/// Changes of users and roles that may come between another one's reading and writing before it is
/// given up, and how long it waits each time: some 2 seconds of others' changes.
pub(super) const AUTH_CHANGE_ATTEMPTS: usize = 1_000;
pub(super) const AUTH_CHANGE_WAIT: Duration = Duration::from_millis(2);

/// How soon an open stream without events hears that rights have changed. One with events hears it
/// before the next one.
pub(super) const AUTH_CHANGE_INTERVAL: Duration = Duration::from_millis(250);

/// The longest token that can be a good one, bytes: signed by the longest key with a long name in it.
/// A caller's is kept as long as its streams are.
pub(super) const AUTH_TOKEN_BYTES: usize = 4 << 10;

/// Tokens that are remembered; beyond it the one that was not used for longest goes. About 150 bytes
/// each. A client has one for each connection.
pub(super) const AUTH_TOKENS: usize = 65_536;

/// Passwords that are compared at a time, each on a thread of its own and for about 50 ms: a flood of
/// logins must leave processors to others.
pub(super) const LOGINS_AT_ONCE: usize = 3;

/// Logins that may wait for that, first come first served: so many that the last one has its turn in
/// time.
pub(super) const LOGINS_WAITING: usize = 256;

/// The same for new passwords, beside all logins: an administrator may have to lock somebody out.
pub(super) const NEW_PASSWORDS_AT_ONCE: usize = 1;
pub(super) const NEW_PASSWORDS_WAITING: usize = 64;

/// How long one who waits looks for its turn: 10 s.
pub(super) const PASSWORD_WAIT: Duration = Duration::from_millis(10);
pub(super) const PASSWORD_WAITS: usize = 1_000;
