//! Every bound of the Kubernetes door, with its reason.

use std::time::Duration;

/// The largest request body, bytes: kube-apiserver's limit.
pub const BODY_BYTES: usize = 3 * 1024 * 1024;

/// Bytes of a body that is too large that are read for the sake of the answer.
pub const DRAINED_BYTES: usize = 4 * BODY_BYTES;

/// How long a request that is no watch may take: kube-apiserver's `--request-timeout` default.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes under way on one core. Each goes on when its client hangs up, so clients that come and go
/// must not start ever more of them; far above what one core can keep busy.
pub const WRITES_IN_FLIGHT: usize = 4096;

/// The shortest life of a watch whose client set no time, seconds; the longest is twice that
/// (`--min-request-timeout`). Random in between, so that clients don't come back all at once.
pub const WATCH_TIMEOUT_MIN_SECONDS: u64 = 1800;

/// How often a quiet watch with bookmarks is sent one.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// Records read from the store at a time for a list: bounds the memory of a list to a chunk.
pub const LIST_CHUNK_RECORDS: usize = 500;

/// Objects of a list that are decoded before others on the core get their turn: some milliseconds.
pub const LIST_DECODED_AT_ONCE: usize = 100;

/// Bytes of a list that are gathered before they are handed to the socket.
pub const LIST_CHUNK_BYTES: usize = 128 * 1024;

/// Bytes of events taken from the store at once by a watch.
pub const WATCH_BATCH_BYTES: usize = 1024 * 1024;

/// How long a lease is given to new objects, seconds, and so how much later than they asked they may
/// go: kube-apiserver's `--lease-reuse-duration-seconds`.
pub const LEASE_REUSE_SECONDS: i64 = 60;

/// Objects that share one lease: bounds the deletions when it ends. kube-apiserver's number.
pub const LEASE_OBJECTS: usize = 1000;

/// Tries of a write that loses against other writers of the same object.
pub const UPDATE_TRIES: usize = 32;

/// Tries to find a free name for `generateName`: kube-apiserver's number.
pub const GENERATE_NAME_TRIES: usize = 8;

/// A response above this many bytes is compressed when the client accepts it: kube-apiserver's.
pub const GZIP_MIN_BYTES: usize = 128 * 1024;

/// How long a read waits for a revision that the store has not reached yet.
pub const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

/// The bytes of all annotations of an object, keys and values.
pub const ANNOTATION_BYTES: usize = 256 * 1024;

/// The bytes of data of a ConfigMap or a Secret.
pub const DATA_BYTES: usize = 1024 * 1024;

/// How often old versions are compacted away: kube-apiserver's default.
pub const COMPACTION_INTERVAL: Duration = Duration::from_secs(300);

/// Requests that the paths of one label or field selector may be long, bytes.
pub const SELECTOR_BYTES: usize = 64 * 1024;

/// Depth of nested JSON that is walked by recursion.
pub const JSON_DEPTH: usize = 256;

/// Evictions of one disruption budget that nobody has confirmed yet: kube-apiserver's number.
pub const DISRUPTED_PODS: usize = 2000;

/// Kinds of requests that are measured apart, on each core: all built-in resources with all their
/// verbs several times over. What comes when so many are known is not counted.
pub const MEASURED_SERIES: usize = 8192;
