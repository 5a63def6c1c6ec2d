//! Every bound of the engine, with its reason. Doors have limits of their own.

use std::time::Duration;

/// The largest request a door may pass in, bytes: etcd's `--max-request-bytes` default.
pub const REQUEST_BYTES: usize = 1_572_864;

/// Revisions taken but not yet committed, over all cores, before requests are refused with
/// [`TooManyRequests`](crate::StoreError::TooManyRequests). Far above what a healthy disk leaves
/// open (a batch takes about 0.3 ms), low enough to bound memory and the time a client waits.
pub const UNCOMMITTED_REVISIONS: i64 = 65_536;

/// The same in bytes of keys and values.
pub const UNCOMMITTED_BYTES: usize = 256 << 20;

/// What one log entry may carry, bytes of encoded effects. One effect larger than this (a
/// transaction of 128 large puts) gets an entry of its own.
pub const ENTRY_BYTES: usize = 1 << 20;

/// Messages that may wait in a ring between two cores before the sender keeps them at home. A ring
/// is some 70 KB, and there is one for each ordered pair of cores.
pub const RING_SLOTS: usize = 512;

/// Bytes of recent committed batches that each store keeps in memory for watchers to catch up
/// from without reading the log.
pub const WATCH_RING_BYTES: usize = 64 << 20;

/// Changes that one step of one watcher looks at before others have their turn, about a
/// millisecond's worth. Only a watcher that begins in the past meets changes that it does not want.
pub const WATCH_STEP_CHANGES: usize = 16_384;

/// Bytes of keys, with [`DELETE_OVERHEAD_BYTES`] for each, that one effect may delete, so that a
/// frame of the log has room for it and the rest of an entry. `DeleteRange` beyond it is refused, a
/// lease's end is cut up.
pub const DELETE_KEY_BYTES: usize = LOG_PAYLOAD_BYTES - (256 << 20);

/// Bytes that a deleted key takes in the log besides its own, at most.
pub const DELETE_OVERHEAD_BYTES: usize = 8;

/// Bytes of the log that a watcher which lags behind the ring reads at once.
pub const WATCH_LOG_BYTES: usize = 4 << 20;

/// Seconds: etcd's limit on a lease.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Seconds: the shortest lease, as etcd's with its default election timeout. Shorter requests
/// get this.
pub const LEASE_TTL_MIN: i64 = 2;

/// Seconds between two notes of how much time a lease has left; etcd's interval. Leases not longer
/// than this are not worth one.
pub const LEASE_CHECKPOINT_SECONDS: i64 = 300;

/// Leases at once. Each takes some 150 bytes on core 0 and 20 on each other core.
pub const LEASES: usize = 8 << 20;

/// Controls (grants, revocations, compactions, documents) that wait for the disk, before more are
/// refused with [`TooManyRequests`](crate::StoreError::TooManyRequests).
pub const CONTROLS: usize = 16_384;

/// The same in bytes: documents alone are large.
pub const CONTROL_BYTES: usize = 64 << 20;

/// Revisions that the ceiling of relaxed writes is raised by: so many numbers a crash may skip.
pub const CEILING_RESERVE: i64 = 100_000;

/// Bytes of relaxed writes that may be committed before they are durable: with all that they
/// replace they have to be in memory (in the watchers' ring) until they can be read from the log.
pub const RELAXED_BYTES: usize = WATCH_RING_BYTES / 4;

/// Batches that may be on their way to the disk when nobody waits for it.
pub const RELAXED_IN_FLIGHT: usize = 64;

/// Answers of one core that wait for the commit of what they depend on. Transactions are refused
/// beyond it: those that only read are bounded by nothing else while the disk stands still.
pub const HIDDEN_ANSWERS: usize = 65_536;

/// Transactions of one shard that wait to hear whether their lease exists: for one round through
/// the log.
pub const UNKNOWN_LEASE_REQUESTS: usize = 1024;

/// Reads of one core that wait for word from other members: about what its doors can hold at once.
pub const CONFIRMATIONS: usize = 65_536;

/// Requests that one member keeps for the leader, or for others as the leader. Each may be as large
/// as a request may.
pub const FORWARDED_REQUESTS: usize = 16_384;

/// Changes of members that wait for each other.
pub const MEMBER_CHANGES: usize = 64;

/// Reads of many slices under way on one core.
pub const READS: usize = 16_384;

/// Requests for the coordinator that wait. Each may hold as much as a request may.
pub const COORDINATED_REQUESTS: usize = 1024;

/// Requests that one shard keeps back while keys are frozen for a transaction over several shards.
/// A freeze lasts a few hops between cores, or the second that deleting a million keys takes.
pub const DEFERRED_REQUESTS: usize = 1024;

/// Cores that one store may use. The mesh between them is quadratic.
pub const CORES: usize = 64;

/// Bytes of a log segment. A few seconds of a busy store: small enough to free space soon after a
/// snapshot, large enough that changing segments costs nothing.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;

/// Revisions that may be between the beginning of a segment and the beginning of an entry in it, and
/// between the beginning and the end of an entry: half of what 32 bits count. No store writes so many
/// into one; data that was compacted elsewhere may have such gaps.
pub const LOG_SEGMENT_REVISIONS: i64 = 1 << 31;

/// Bytes of the first segment of a new log, which is filled with zeros while its user waits. The
/// ones that follow grow to [`LOG_SEGMENT_BYTES`] and are made ready in the background.
pub const LOG_FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// Bytes of the file system that a new segment must leave free. Without that much, requests that
/// add to the store are refused with [`NoSpace`](crate::StoreError::NoSpace) while the present
/// segment has room for those that delete and compact, and for what is under way.
pub const DISK_RESERVE_BYTES: u64 = 64 << 20;

/// Frames that may be submitted to the log and not yet durable. More than a disk makes use of at
/// once; recovery relies on it to tell an unfinished end from damage.
pub const LOG_FRAMES_IN_FLIGHT: usize = 64;

/// Changes that the newest segment's key index collects in one piece: small enough to be copied for
/// each reader, large enough that pieces are few.
pub const LOG_KEYS_AT_ONCE: usize = 4096;

/// Older versions that one reader looks up in the log before others have their turn, some tens of
/// milliseconds of a thread that blocks. More than these wait.
pub const LOOKUPS_AT_ONCE: usize = 1024;

/// Older versions that all reads of one core together may be looking up or waiting for; a read that
/// needs more is refused. Some hundred reads' worth, and some tens of megabytes of keys.
pub const LOOKUPS_WAITING: usize = 256 * 1024;

/// Such bunches that one core has looked up at the same time: fewer than it has threads for them, so
/// that watchers that read the log find one, too.
pub const LOOKUP_BUNCHES: usize = 2;

/// Threads of each core for what blocks: lookups and reads of the log, and what doors need.
pub const BLOCKING_THREADS: usize = 4;

/// Appends that the log's user may leave outstanding, in flight or waiting for it.
pub const LOG_APPENDS: usize = 4096;

/// Acknowledged entries whose payload can't be read, at a start: a member of a cluster gets them from
/// the others. Where there are more the disk is taken for lost.
pub const DAMAGED_ENTRIES: usize = 1024;

/// Bytes of entries that a start has in memory because they are durable and not known to be
/// committed. More are there when the commit index was noted long ago; they are read again when
/// they are needed.
pub const PENDING_BYTES: usize = 256 << 20;

/// The largest payload of one frame, bytes: one effect that deletes some fifty million keys. Its
/// length takes 32 bits.
pub const LOG_PAYLOAD_BYTES: usize = 3 << 30;

/// A payload from this size on is written before its frame has a place in the log, bytes: a disk
/// takes some milliseconds for it, which nothing else should wait for.
pub const LOG_STAGED_BYTES: usize = 2 << 20;

/// Bytes of log behind the last snapshot that make another one due, at least: below, a start
/// replays them in less time than it takes to notice.
pub const SNAPSHOT_LOG_BYTES: u64 = 64 << 20;

/// The same after a compaction, and when the store is quiet.
pub const SNAPSHOT_QUIET_LOG_BYTES: u64 = 16 << 20;

/// Milliseconds without a write that make a store quiet.
pub const SNAPSHOT_IDLE_MS: u64 = 10_000;

/// Bytes of a snapshot written in a second, at most: a tenth of what an ordinary NVMe disk takes,
/// so that the log hardly notices.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 128 << 20;

/// Milliseconds for which a snapshot that is being sent, and the log behind it, are kept after a part
/// was last wanted.
pub const SNAPSHOT_SENDING_MS: u64 = 60_000;

/// Bytes of the log up to which it is kept for members that lag behind: beyond, they get a snapshot.
/// (An etcd keeps 5000 entries.)
pub const LOG_BYTES_FOR_PEERS: u64 = 1 << 30;

/// How long to wait until a part of a snapshot that could not be written is written again.
pub const SNAPSHOT_PART_RETRY: Duration = Duration::from_secs(1);

/// Milliseconds until a snapshot that failed is tried again.
pub const SNAPSHOT_RETRY_MS: u64 = 60_000;

const _: () = assert!(ENTRY_BYTES < LOG_SEGMENT_BYTES as usize);
const _: () = assert!(ENTRY_BYTES < UNCOMMITTED_BYTES);
const _: () = assert!(RING_SLOTS.is_power_of_two());
