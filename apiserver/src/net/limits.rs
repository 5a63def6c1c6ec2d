//! Every bound of the network layer, with its reason.

use std::time::Duration;

/// Connections that one core serves at a time; more are closed at once. A connection costs some
/// tens of kilobytes, so this is about a gigabyte on a core: far above a large cluster's clients.
pub const CONNECTIONS_PER_CORE: usize = 20_000;

/// HTTP/2 streams that a client may have open on one connection. etcd has no such limit, and a
/// client that holds a watch on each of them waits for ever when it reaches one, so the bound is
/// generous: it keeps a single connection below about 100 MB.
pub const STREAMS_PER_CONNECTION: u32 = 10_000;

/// Bytes of decoded header fields in one HTTP/2 request: grpc-go's 16 MiB default is far more
/// than anyone sends, kube-apiserver allows 1 MiB. Impersonation and tokens need a few KiB.
pub const HEADER_LIST_BYTES: u32 = 256 << 10;

/// Bytes of request line and header fields in HTTP/1.1; Go's default is 1 MiB.
pub const HTTP1_HEADER_BYTES: usize = 256 << 10;

/// How long a client may take for its first bytes, for a TLS handshake, or for the header fields
/// of an HTTP/1.1 request (which is also how long a connection may idle between two of them).
/// kube-apiserver closes idle connections after 90 s.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a TLS handshake may take: a client that connects and says nothing holds a slot.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often handshakes look for new certificate files, milliseconds: a look is a system call for
/// each file.
pub const FILE_LOOK_MS: u64 = 1000;

/// Files that were written so recently are read again, as their time would not tell a second change:
/// some file systems count in whole seconds.
pub const FILE_TIME_GRAIN: Duration = Duration::from_secs(2);

/// A silent HTTP/2 connection is pinged after this long, as kube-apiserver does...
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// ... and closed when the answer takes longer than this (grpc-go's server waits 20 s).
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client may send on one stream before we have read it: one whole large request.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// What a client may send on one connection before we have read it.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What one stream keeps ready for a client that reads slowly. A watch is a cursor, not a queue:
/// nothing more is encoded until the client has read.
pub const STREAM_SEND_BUFFER_BYTES: usize = 128 << 10;

/// Bytes that wait to be written to one HTTP/2 connection before nothing is added to them and
/// nothing more is read: some sixteen full frames. What is written at once takes fewer system calls.
pub const CONNECTION_OUTPUT_BYTES: usize = 256 << 10;

/// CONTINUATION frames of one header block (CVE-2024-27316): a block of the largest size takes 16
/// full ones.
pub const CONTINUATION_FRAMES: u32 = 64;

/// HTTP/2 frames that bring nothing (PING, SETTINGS, PRIORITY, empty DATA, ...) in one
/// [`KEEP_ALIVE_INTERVAL`], beyond some for each request and each frame of data (CVE-2019-9511 to
/// 9518). Go's server allows 10,000 that wait to be answered.
pub const CONTROL_FRAMES_PER_INTERVAL: u32 = 10_000;

/// Streams that end by a reset before they are answered, in one [`KEEP_ALIVE_INTERVAL`]
/// (CVE-2023-44487). A client may cancel everything it has open, and do so again.
pub const RESETS_PER_INTERVAL: u32 = 2 * STREAMS_PER_CONNECTION;

/// Read at once from a socket; one buffer of this size on each core.
pub const READ_BYTES: usize = 64 << 10;

/// At shutdown, requests in flight may finish for so long.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The wait after an `accept` that failed (no more file descriptors, most often).
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Granularity of connection timers: deadlines here are seconds.
pub const TIMER_TICK: Duration = Duration::from_millis(100);

/// A body that is handed back as collected bytes, where the caller knows no better limit.
/// kube-apiserver takes 3 MiB of JSON.
pub const BODY_BYTES: usize = 3 << 20;

/// Bytes of requests that one core is receiving and has no use for yet, because the rest of a body
/// or of a message is missing. Eighty of the largest requests at once; what is beyond is refused
/// and may be tried again.
pub const RECEIVED_BYTES_PER_CORE: usize = 256 << 20;

/// Bytes of answers that wait for one client's windows, above which it may begin no streams until
/// it has read some: a client that opens no window at all would have its every stream's answer kept.
pub const PENDING_BYTES: usize = 64 << 20;

/// ... above which answers of the streams that it had begun before are dropped.
pub const PENDING_BYTES_MAX: usize = 4 * PENDING_BYTES;

/// The same for all connections of a core together: beyond this, those that hold up more than
/// [`STREAM_SEND_BUFFER_BYTES`] may begin no streams.
pub const PENDING_BYTES_PER_CORE: usize = 1 << 30;

const _: () = assert!(STREAM_WINDOW_BYTES < CONNECTION_WINDOW_BYTES);
